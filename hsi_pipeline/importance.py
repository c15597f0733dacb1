"""Which parts of the spectrum a model relies on.

Permutation (Breiman 2001, Random Forests, Mach. Learn. 45:5-32, doi:10.1023/A:1010933404324,
section 10) by regions of neighbouring bands: these say nearly the same thing, so that a model would
hardly miss a single one. Gradients tell within a region how the scores answer to each band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hsi_pipeline.accuracy import Accuracy, compare
from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.wavelengths import Wavelengths

GROUP = 10
"""Bands of a region where there are no wavelengths."""
_BATCH = 20_000  # pixels a model sees at once


@dataclass(frozen=True, eq=False)
class LabelledBatch:
    """Windows of one shape."""

    image: Tensor
    """Reflectance float32 (window, band, y, x), zero where invalid."""
    valid: Tensor
    """bool (window, y, x)."""
    labels: Tensor
    """Class indices int64 (window, y, x), -1 where unlabelled or invalid."""

    def mask(self) -> Tensor | None:
        """Return validity as networks take it, None if all pixels are valid."""
        return None if bool(self.valid.all()) else self.valid[:, None].to(self.image.dtype)


@dataclass(frozen=True, eq=False)
class PermutationResult:
    """How much worse a model is without each region."""

    accuracy: Accuracy
    """Of the model as it is."""
    overall: np.ndarray
    """Drop of overall accuracy (region, repeat)."""
    mean_f1: np.ndarray
    """Drop of mean F1 (region, repeat)."""


def spectral_regions(wavelengths: Wavelengths | None, bands: int, width_nm: float) -> np.ndarray:
    """Return the region of each band.

    Args:
        wavelengths: Positions of the bands, in any order: detectors overlap. None where nobody
            knows; then `GROUP` bands that follow each other make a region.
        bands: Number of bands.
        width_nm: Width of a region, above 0; regions begin at multiples of it.

    Returns:
        Numbers from 0, ascending with wavelength (band,).
    """
    if wavelengths is None:
        return np.arange(bands) // GROUP
    cells = np.floor(np.array(wavelengths.center_nm) / width_nm)
    return np.unique(cells, return_inverse=True)[1]


def some_labels(labels: np.ndarray, *, side: int, most: int, seed: int) -> np.ndarray:
    """Return the labels of some blocks of a raster, at random, and of each class in one at least.

    Args:
        labels: Labels (y, x), 0 where unlabelled.
        side: Side of a block in pixels.
        most: Number of blocks, more only where there are more classes.
        seed: Seed of the choice.
    """
    rows, columns = np.nonzero(labels)
    across = -(-labels.shape[1] // side)
    block = rows // side * across + columns // side
    order = np.random.default_rng(seed).permutation(np.unique(block))
    rank = np.empty(int(block.max()) + 1, np.int64)
    rank[order] = np.arange(len(order))
    chosen = rank[block] < most
    present = labels[rows, columns]
    for label in np.unique(present):
        inside = present == label
        chosen |= rank[block] == rank[block[inside]].min()
    kept = np.zeros_like(labels)
    kept[rows[chosen], columns[chosen]] = present[chosen]
    return kept


def gather_batches(
    samples: Iterable[Mapping[str, Any]], *, context: bool, device: str = "cpu"
) -> list[LabelledBatch]:
    """Read windows into memory.

    Args:
        samples: Windows with `image`, `valid` and `mask`, as `loaders.ValidationTiles` gives them.
        context: Whether the model sees neighbours. If not, the labelled pixels of all windows
            become a single one, and others are left out.
        device: Torch device.
    """
    windows: list[tuple[Tensor, ...]] = []
    for sample in samples:
        image, valid = sample["image"], sample["valid"]
        labels = torch.where(valid, sample["mask"], UNLABELLED) - 1
        if not context:
            known = labels >= 0
            image, labels, valid = image[:, known], labels[known], valid[known]
        windows.append((image, valid, labels))
    if not context:
        windows = [tuple(torch.cat(part, -1)[..., None, :] for part in zip(*windows, strict=True))]
    groups: list[list[tuple[Tensor, ...]]] = []
    for window in windows:
        last = groups[-1] if groups else []
        size = window[2].numel() * (len(last) + 1)
        if last and last[0][2].shape == window[2].shape and size <= _BATCH:
            last.append(window)
        else:
            groups.append([window])
    return [
        LabelledBatch(*(torch.stack(part).to(device) for part in zip(*group, strict=True)))
        for group in groups
    ]


def permute_regions(
    model: nn.Module,
    batches: Sequence[LabelledBatch],
    regions: np.ndarray,
    classes: int,
    *,
    repeats: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PermutationResult:
    """Measure how much worse a model is when a region says nothing about the pixel.

    All bands of a region are exchanged together among pixels, so that the region keeps its own
    correlation and loses that with the rest and with the labels. They are exchanged among all
    valid pixels of the batches: for a model without context these are the labelled ones; one with
    context sees the exchanged spectra of unlabelled neighbours too.

    Args:
        model: The model, in evaluation mode.
        batches: Labelled windows; unchanged when this returns.
        regions: Region of each band, as `spectral_regions` gives it.
        classes: Number of classes.
        repeats: Permutations of each region.
        seed: Seed of the permutations.
        progress: Called with the number of complete permutations and of all.
    """
    accuracy = _accuracy(model, batches, classes)
    count = int(regions.max()) + 1
    drops = np.zeros((2, count, repeats))
    sizes = [int(batch.valid.sum()) for batch in batches]
    rng = np.random.default_rng(seed)
    for region in range(count):
        bands = torch.from_numpy(np.flatnonzero(regions == region))
        before = [batch.image[:, bands] for batch in batches]
        spectra = torch.cat(
            [part.movedim(1, -1)[batch.valid] for part, batch in zip(before, batches, strict=True)]
        )
        for repeat in range(repeats):
            order = torch.from_numpy(rng.permutation(len(spectra))).to(spectra.device)
            for batch, exchanged in zip(batches, spectra[order].split(sizes), strict=True):
                part = torch.zeros_like(batch.image[:, bands]).movedim(1, -1)
                part[batch.valid] = exchanged
                batch.image[:, bands] = part.movedim(-1, 1)
            found = _accuracy(model, batches, classes)
            drops[0, region, repeat] = accuracy.overall - found.overall
            drops[1, region, repeat] = accuracy.mean_f1 - found.mean_f1
            progress(region * repeats + repeat + 1, count * repeats)
        for batch, part in zip(batches, before, strict=True):
            batch.image[:, bands] = part
    return PermutationResult(accuracy, drops[0], drops[1])


def score_gradients(model: nn.Module, batches: Sequence[LabelledBatch]) -> np.ndarray:
    """Return how strongly the scores of the true classes answer to each band.

    Args:
        model: A network in evaluation mode, with the buffer `band_std`.
        batches: Labelled windows.

    Returns:
        Mean over the labelled pixels of the absolute derivative of the sum of their true classes'
        scores by the reflectance of the pixel, times the standard deviation of the band over the
        training pixels (band,): scores before softmax for one standard deviation. For a network
        with context what a pixel says of its labelled neighbours counts too.
    """
    std: Tensor = model.band_std  # type: ignore[assignment]
    total, number = torch.zeros_like(std, dtype=torch.float64), 0
    for batch in batches:
        image = batch.image.clone().requires_grad_()
        scores = model(image, batch.mask())
        known = batch.labels >= 0
        true = scores.gather(1, batch.labels.clamp(min=0)[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(true[known].sum(), image)
        total += gradient.movedim(1, -1)[known].abs().double().sum(0)
        number += int(known.sum())
    return (total / number * std).cpu().numpy()


def mean_spectrum(batches: Sequence[LabelledBatch]) -> np.ndarray:
    """Return the mean reflectance of the labelled pixels (band,)."""
    spectra = [batch.image.movedim(1, -1)[batch.labels >= 0] for batch in batches]
    return torch.cat(spectra).double().mean(0).cpu().numpy()


@torch.inference_mode()
def _accuracy(model: nn.Module, batches: Sequence[LabelledBatch], classes: int) -> Accuracy:
    """Compare predicted with true classes of the labelled pixels."""
    matrix = np.zeros((classes, classes), np.int64)
    for batch in batches:
        known = batch.labels >= 0
        predicted = model(batch.image, batch.mask()).argmax(1)[known]
        matrix += compare(
            batch.labels[known].cpu().numpy(), predicted.cpu().numpy(), classes
        ).matrix
    return Accuracy(matrix)
