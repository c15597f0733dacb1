"""A model and loaders give a trained model: dense labels, sparse and unbalanced.

The epoch that is kept is the one of the second half with the best score on the validation loader,
never on test labels. In the first half the learning rate is high and the weights are on their way:
a good score there is luck, or owed to parts of a network that were solved before training began.
"""

from __future__ import annotations

import copy
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own name for it
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn

from hsi_pipeline.accuracy import Accuracy, compare

_IGNORED = -1
_SCORE = "validation_score"


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How to train."""

    epochs: int = 10
    """Passes; the learning rate falls to zero over all of them."""
    learning_rate: float = 3e-3
    """Highest learning rate."""
    weight_decay: float = 1e-2
    """Decoupled weight decay."""
    label_smoothing: float = 0.05
    """Share of the target spread over all classes: labels near edges are often wrong."""
    norm_momentum: float = 0.1
    """Weight of a batch in the running statistics. The published 0.01 is meant for hundreds of
    epochs: after a few hundred batches the statistics would still lag behind the weights."""
    averaging: float = 0.1
    """Share of the training that the moving average of the weights looks back on. The average is
    what is validated and kept: with few labels the weights of single batches swing."""
    band_dropout: float = 0.0
    """Largest share of neighbouring bands that is hidden from half of the windows."""
    patience: int = 15
    """Epochs of the second half without a better score after which training stops."""
    precision: str = "32-true"
    """Lightning's precision, such as "32-true" or "bf16-mixed"."""
    device: str = "cpu"
    """Torch device: "cpu", "cuda", "cuda:1", "mps"."""
    seed: int = 0
    """Seed of weights, windows and flips."""


@dataclass(frozen=True)
class EpochResult:
    """What an epoch gave."""

    epoch: int
    """From 1."""
    loss: float
    """Mean training loss."""
    accuracy: Accuracy
    """On the validation loader."""
    best: bool
    """Whether it is the best so far of those that may be kept."""

    @property
    def score(self) -> float:
        """What epochs are compared by: see `epoch_score`."""
        return epoch_score(self.accuracy)


def epoch_score(accuracy: Accuracy) -> float:
    """Return the mean of overall accuracy and mean F1.

    Overall accuracy alone forgets rare classes; mean F1 alone swings with a handful of pixels.
    """
    return float(np.nan_to_num((accuracy.overall + accuracy.mean_f1) / 2))


class LandCoverTask(LightningModule):
    """Trains a dense network on windows with sparse labels, for any Lightning Trainer.

    Batches hold `image` (B, band, y, x) reflectance, `valid` and, optionally, `hidden` bool
    (B, y, x), and `mask` int64 (B, y, x): class index plus one, 0 where unlabelled.
    """

    def __init__(self, model: nn.Module, classes: int, settings: TrainingSettings) -> None:
        """Keep the network and the settings."""
        super().__init__()
        self.model = model
        self.classes = classes
        self.settings = settings
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = settings.norm_momentum
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self.accuracy: Accuracy | None = None

    def forward(self, image: Tensor, valid: Tensor) -> Tensor:
        """Score (B, class, y, x) an image batch."""
        image = image.contiguous(memory_format=torch.channels_last)
        mask = None if bool(valid.all()) else valid[:, None].to(image.dtype)
        return self.model(image, mask).float()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch, turned and flipped at random."""
        image, mask = batch["image"], batch["mask"]
        valid = batch["valid"] & ~batch["hidden"] if "hidden" in batch else batch["valid"]
        mask = torch.where(valid, mask, 0)
        turns, flip = int(torch.randint(4, ()).item()), bool(torch.randint(2, ()).item())
        image, valid, mask = (_turned(t, turns, flip) for t in (image, valid, mask))
        if self.settings.band_dropout:
            image = hide_bands(image, self.model.band_mean, self.settings.band_dropout)  # type: ignore[arg-type]
        separate = getattr(self.model, "separate_scores", None)
        if separate is None:
            return self._loss(self.forward(image, valid), mask)
        image = image.contiguous(memory_format=torch.channels_last)
        scores = separate(image, None if bool(valid.all()) else valid[:, None].to(image.dtype))
        return torch.stack([self._loss(part.float(), mask) for part in scores]).sum()

    def _loss(self, scores: Tensor, mask: Tensor) -> Tensor:
        loss = F.cross_entropy(
            scores,
            mask - 1,
            ignore_index=_IGNORED,
            label_smoothing=self.settings.label_smoothing,
            reduction="sum",
        )
        return loss / (mask > 0).sum().clamp(min=1)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect reference and prediction of the labelled pixels."""
        known = (batch["mask"] > 0) & batch["valid"]
        predicted = self.forward(batch["image"], batch["valid"]).argmax(1)
        pair = batch["mask"][known] - 1, predicted[known]
        self._pairs.append((pair[0].cpu().numpy(), pair[1].cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        """Score the epoch over all validation pixels at once."""
        reference, predicted = (np.concatenate(side) for side in zip(*self._pairs, strict=True))
        self._pairs.clear()
        self.accuracy = compare(reference, predicted, self.classes)
        self.log(_SCORE, epoch_score(self.accuracy))

    def configure_optimizers(self) -> dict:
        """Return AdamW with a one-cycle learning rate."""
        optimizer = torch.optim.AdamW(
            [weight for weight in self.model.parameters() if weight.requires_grad],
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.settings.learning_rate,
            # of all epochs, even when training stops after some of them
            total_steps=int(self.trainer.estimated_stepping_batches)
            // int(self.trainer.max_epochs or 1)
            * self.settings.epochs,
            pct_start=0.2,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class _KeepBest(Callback):
    """Keeps the weights of the best epoch, stops when none is better, reports all that happens."""

    def __init__(
        self,
        on_epoch: Callable[[EpochResult], None],
        on_batch: Callable[[int, int], None],
        settings: TrainingSettings,
    ) -> None:
        self.history: list[EpochResult] = []
        self.state: dict[str, Tensor] = {}
        self._candidate: dict[str, Tensor] = {}
        self._on_epoch, self._on_batch = on_epoch, on_batch
        self._first, self._patience = settings.epochs // 2 + 1, settings.patience
        self._losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: dict, *_: object
    ) -> None:
        self._losses.append(float(outputs["loss"]))
        self._on_batch(trainer.global_step, int(trainer.estimated_stepping_batches))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LandCoverTask) -> None:
        # Here, before the callback that averages puts the last batch's weights back.
        self._candidate = copy.deepcopy(pl_module.model.state_dict())

    def on_validation_end(self, trainer: Trainer, pl_module: LandCoverTask) -> None:
        assert pl_module.accuracy is not None  # Lightning calls on_validation_epoch_end first
        score, before = epoch_score(pl_module.accuracy), self.history[self._first - 1 :]
        best = trainer.current_epoch + 1 >= self._first and all(score > r.score for r in before)
        if best:
            self.state = self._candidate
        result = EpochResult(
            trainer.current_epoch + 1,
            float(np.mean(self._losses or [np.nan])),
            pl_module.accuracy,
            best,
        )
        self._losses.clear()
        self.history.append(result)
        kept = max([r.epoch for r in self.history if r.best], default=self._first)
        trainer.should_stop |= result.epoch - kept >= self._patience
        self._on_epoch(result)


def train(
    model: nn.Module,
    classes: int,
    loaders: LightningDataModule,
    settings: TrainingSettings,
    *,
    stop_after: int | None = None,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> list[EpochResult]:
    """Train a network in place; it ends with the weights of its best epoch.

    Args:
        model: The network.
        classes: Number of classes.
        loaders: Training and validation loaders, batches as `LandCoverTask` says.
        settings: How to train.
        stop_after: Train for so many epochs and keep the last one, without validation: for
            training again on all labels, when a first training has shown which epoch is best.
        on_epoch: Called after every epoch.
        on_batch: Called after every batch with batches done and in all.

    Returns:
        The results of the epochs, in order, none without validation; deterministic for a seed on
        one machine's CPU.

    Raises:
        KeyboardInterrupt: The user stopped it.
    """
    seed_everything(settings.seed, verbose=False)
    keep = _KeepBest(on_epoch, on_batch, settings)
    validated = stop_after is None
    steps = settings.epochs * len(loaders.train_dataloader())
    decay = max(1 - 1 / max(settings.averaging * steps, 1), 0.0)
    with _quiet_lightning():
        trainer = Trainer(
            max_epochs=settings.epochs if stop_after is None else stop_after,
            limit_val_batches=None if validated else 0,
            **_lightning_device(settings.device),
            precision=settings.precision,  # type: ignore[arg-type]
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            # one process, in a SLURM job too, of whose tasks Lightning would take over all
            plugins=[LightningEnvironment()],
            callbacks=[keep, EMAWeightAveraging(decay=decay)],
        )
        with _interruptible(trainer):
            trainer.fit(LandCoverTask(model, classes, settings), datamodule=loaders)
    if validated:
        model.load_state_dict(keep.state)
    model.cpu().eval()
    return keep.history


def hide_bands(spectra: Tensor, mean: Tensor, share: float) -> Tensor:
    """Hide a run of neighbouring bands from half of some spectra, as a gap in a scene would.

    Args:
        spectra: Reflectance (B, band, ...).
        mean: What stands for a hidden band (band,).
        share: Largest share of the bands that is hidden.

    Returns:
        A copy in which each of about half of the entries has the mean in up to `share` of its
        bands, one run at a random place, as long as chance wants.
    """
    count, bands = spectra.shape[:2]
    longest = share * bands * torch.rand(count, device=spectra.device)
    longest *= torch.rand(count, device=spectra.device) < 0.5
    first = torch.rand(count, device=spectra.device) * (bands - longest)
    place = torch.arange(bands, device=spectra.device)
    hidden = (place >= first[:, None]) & (place + 1 <= (first + longest)[:, None])
    shape = (count, bands, *[1] * (spectra.ndim - 2))
    return torch.where(hidden.view(shape), mean.view(shape[1:]).to(spectra.dtype), spectra)


def _lightning_device(device: str) -> dict[str, Any]:
    """Return Lightning's words for a Torch device."""
    kind, _, index = device.partition(":")
    if kind == "cuda":
        return {"accelerator": "gpu", "devices": [int(index or 0)]}
    return {"accelerator": kind, "devices": 1}


def _turned(x: Tensor, turns: int, flip: bool) -> Tensor:
    """Turn by quarters and mirror the last two axes."""
    x = torch.rot90(x, turns, dims=(-2, -1))
    return x.flip(-1) if flip else x


@contextmanager
def _interruptible(trainer: Trainer) -> Iterator[None]:
    """Pass Ctrl-C on; Lightning would exit with code 1 and ignore all further ones."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertising and its advice on worker counts off the user's screen."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            warnings.filterwarnings("ignore", message="The `srun` command")
            yield
    finally:
        logger.setLevel(level)
