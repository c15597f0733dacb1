"""The published form: a network that labels the centre of an 11 x 11 patch, trained on patches."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own name for it
from torch import Tensor

from hsi_pipeline.accuracy import compare
from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.commands.labelled import LabelledScene
from hsi_pipeline.datasets import HyperspectralDataset
from hsi_pipeline.models.hyperloopnet import HyperLoopNet
from hsi_pipeline.models.reference import keras_initialisation
from hsi_pipeline.training import epoch_score

SIDE = 11


def fit_and_predict(
    data: LabelledScene,
    scheme: ClassScheme,
    *,
    train: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
    seed: int,
    epochs: int,
) -> np.ndarray:
    """Train on the patches around training pixels and predict test pixels.

    The epoch is chosen by the validation pixels. As published: batches of 64, rotations, Keras's
    initialisation, but a higher learning rate over fewer epochs.

    Returns:
        Class indices (pixel,) of the test pixels.
    """
    torch.manual_seed(seed)
    scene = HyperspectralDataset(data.source, bands=data.bands)[:, :, :]
    spectra = scene["image"][:, torch.from_numpy(train)]
    labels = torch.from_numpy(data.indices(scheme).astype(np.int64)) - 1
    model = HyperLoopNet(len(data.bands), len(scheme), window=None)
    keras_initialisation(model)
    model.load_state_dict(
        model.state_dict() | {"band_mean": spectra.mean(1), "band_std": spectra.std(1) + 1e-6}
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
    patches = _Patches(scene["image"], scene["valid"])
    places = {
        name: torch.from_numpy(np.argwhere(side))
        for name, side in (("train", train), ("validation", validation), ("test", test))
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    steps = epochs * -(-len(places["train"]) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    best, state = -1.0, model.state_dict()
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(places["train"])).split(64):
            where = places["train"][rows]
            image, valid = patches.at(where)
            turns = int(torch.randint(4, ()).item())
            image, valid = (torch.rot90(t, turns, (2, 3)) for t in (image, valid))
            with torch.autocast("cpu", torch.bfloat16):
                scores = model(image, valid)
            loss = F.cross_entropy(scores.float(), labels[where[:, 0], where[:, 1]])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        where = places["validation"]
        found = _predict(model, patches, where)
        reference = labels[where[:, 0], where[:, 1]].numpy()
        score = epoch_score(compare(reference, found, len(scheme)))
        if score > best:
            best = score
            state = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    return _predict(model, patches, places["test"])


class _Patches:
    """Cuts patches; beyond the scene there is nothing."""

    def __init__(self, image: Tensor, valid: Tensor) -> None:
        half = SIDE // 2
        self._image = F.pad(image, (half,) * 4)
        self._valid = F.pad(valid.float()[None], (half,) * 4)

    def at(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return patches (B, bands, 11, 11) and validity (B, 1, 11, 11) around pixels."""
        cut = [(slice(None), slice(r, r + SIDE), slice(c, c + SIDE)) for r, c in places.tolist()]
        image = torch.stack([self._image[window] for window in cut])
        valid = torch.stack([self._valid[window] for window in cut])
        return image.contiguous(memory_format=torch.channels_last), valid


@torch.inference_mode()
def _predict(model: HyperLoopNet, patches: _Patches, places: Tensor) -> np.ndarray:
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        scores = [model(*patches.at(some)) for some in places.split(512)]
    return torch.cat(scores).float().argmax(1).numpy()
