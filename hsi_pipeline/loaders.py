"""Loaders for training on one scene: balanced windows, and exact tiles for validation."""

from __future__ import annotations

import numpy as np
import torch
from lightning import LightningDataModule
from odc.geo.geobox import GeoBox
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchgeo.datasets import GeoDataset, stack_samples

from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.datasets import GroundTruthDataset, HyperspectralDataset, Sample
from hsi_pipeline.samplers import LabelledWindowSampler, label_tiles, window_query

_VALIDATION_TILE = 256
_BATCHES = (15, 200)  # in an epoch, at least and at most
_PIXELS_A_BATCH = 1000  # training pixels for each batch in an epoch


class ValidationTiles(Dataset[Sample]):
    """Tiles with their full context, each labelled pixel in exactly one of them.

    What a network scores here is what it gives on the whole scene.
    """

    def __init__(
        self, dataset: GeoDataset, labels: np.ndarray, grid: GeoBox, *, halo: int, tile: int
    ) -> None:
        """List the tiles that hold labels."""
        self._dataset = dataset
        self._grid = grid
        self._tiles = label_tiles(labels, tile=tile, halo=halo)
        self.shape = labels.shape
        """Rows and columns of the scene."""

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self._tiles)

    def places(self, i: int) -> tuple[slice, slice]:
        """Return the rows and columns of the scene that a tile shows."""
        return self._tiles[i][0]

    def __getitem__(self, i: int) -> Sample:
        """Return a tile; labels outside its own window are taken out."""
        window, core = self._tiles[i]
        sample = self._dataset[window_query(self._grid, *window)]
        mask = torch.full_like(sample["mask"], UNLABELLED)
        mask[core] = sample["mask"][core]
        return {**sample, "mask": mask}


class LandCoverDataModule(LightningDataModule):
    """Loaders for one scene: balanced windows for training, exact tiles for validation."""

    def __init__(
        self,
        images: HyperspectralDataset,
        labels: np.ndarray,
        *,
        train: np.ndarray,
        validation: np.ndarray,
        hidden: np.ndarray,
        halo: int,
        window: int = 8,
        batch_size: int = 32,
        batches: int | None = None,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        """Join a scene and its split labels.

        Args:
            images: The scene.
            labels: Class index plus one (y, x), 0 where unlabelled.
            train: Pixels to learn from, bool (y, x).
            validation: Pixels to choose the epoch by, bool (y, x).
            hidden: Pixels that training windows must not show, bool (y, x): those of the other
                splits.
            halo: The network's reach in pixels.
            window: Side of a training window in pixels.
            batch_size: Windows in a batch.
            batches: Batches in an epoch; None: 15, and more where there are more than 15,000
                training pixels, up to 200.
            workers: Processes that read; 0 reads in this one.
            seed: Seed of the windows.
        """
        super().__init__()
        grid = images.grids[0]
        self._train = GroundTruthDataset(np.where(train, labels, 0), grid, hidden=hidden)
        self._validation = GroundTruthDataset(np.where(validation, labels, 0), grid)
        self._images = images
        self._halo = halo
        self._workers = workers
        self.batch_size = batch_size
        many = int(np.count_nonzero(self._train.labels)) // _PIXELS_A_BATCH
        self.batches = min(max(many, _BATCHES[0]), _BATCHES[1]) if batches is None else batches
        self.window = window
        self._generator = np.random.default_rng(seed)

    def train_dataloader(self) -> DataLoader:
        """Return batches of windows, every class drawn equally often."""
        dataset = self._images & self._train
        sampler = LabelledWindowSampler(
            dataset,
            self._train.labels,
            self._train.grids[0],
            size=self.window,
            length=self.batch_size * self.batches,
            generator=self._generator,
        )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self._workers,
            collate_fn=stack_samples,
        )

    def val_dataloader(self) -> DataLoader:
        """Return the tiles that hold validation labels, one a batch since edges differ."""
        tiles = self.validation_tiles()
        return DataLoader(tiles, batch_size=1, num_workers=self._workers, collate_fn=stack_samples)

    def validation_tiles(self) -> ValidationTiles:
        """Return the tiles that hold validation labels."""
        return ValidationTiles(
            self._images & self._validation,
            self._validation.labels,
            self._validation.grids[0],
            halo=self._halo,
            tile=_VALIDATION_TILE,
        )


@torch.inference_mode()
def score_labelled(model: nn.Module, tiles: ValidationTiles) -> tuple[np.ndarray, np.ndarray]:
    """Score the labelled pixels of tiles, on the CPU in float32.

    Args:
        model: The network, in evaluation mode.
        tiles: Tiles with labels.

    Returns:
        Which pixels have a label and are valid, bool (y, x); and their scores (pixel, class)
        float32, in the order of `nonzero()`.
    """
    pixels = np.zeros(tiles.shape, bool)
    places = np.arange(pixels.size).reshape(pixels.shape)
    order, found = [], []
    for i in range(len(tiles)):
        sample = tiles[i]
        known = ((sample["mask"] > 0) & sample["valid"]).numpy()
        scores = model(sample["image"][None], _validity(sample))[0]
        pixels[tiles.places(i)] |= known
        order.append(places[tiles.places(i)][known])
        found.append(scores[:, torch.from_numpy(known)].T.numpy())
    return pixels, np.concatenate(found)[np.argsort(np.concatenate(order))]


@torch.no_grad()
def balance(model: nn.Module, tiles: ValidationTiles) -> None:
    """Let a network of several parts weigh them by labels that it has not learnt from.

    Args:
        model: A network with `parts` and `balance`, in evaluation mode.
        tiles: Tiles with validation labels.
    """
    parts, labels = [], []
    for i in range(len(tiles)):
        sample = tiles[i]
        known = (sample["mask"] > 0) & sample["valid"]
        found = model.parts(sample["image"][None], _validity(sample))  # type: ignore[operator]
        parts.append(found[:, 0].movedim(1, -1)[:, known])  # part, pixel, class
        labels.append(sample["mask"][known] - 1)
    model.balance(torch.cat(parts, 1), torch.cat(labels))  # type: ignore[operator]


def _validity(sample: Sample) -> Tensor | None:
    valid = sample["valid"]
    return None if bool(valid.all()) else valid[None, None].to(sample["image"].dtype)
