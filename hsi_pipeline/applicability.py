"""Training spectra to the area that a model is applicable in: see `models.applicability`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from hsi_pipeline.models.applicability import Applicability, nearest_distance
from hsi_pipeline.models.components import half_whitening

_COMPONENTS = 20
_CENTERS = 20  # of each class, so that rare ones have theirs
_MOST_CENTERS = 1000  # of all classes
_WITHIN = 0.95  # share of the training spectra that the threshold lets pass


def fit_applicability(
    spectra: np.ndarray,
    labels: np.ndarray,
    *,
    folds: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    seed: int = 0,
) -> Applicability:
    """Describe training spectra, so that those unlike them can be told.

    The threshold is the distance that one in twenty of the training spectra themselves exceeds when
    it is held out. (Meyer & Pebesma take the largest but for outliers, which lets more new
    materials pass: benchmarks/README.md.)

    Args:
        spectra: Reflectance (pixel, band) of the training pixels.
        labels: Class indices (pixel,).
        folds: Rows to describe and rows to hold out, spatially apart, since neighbours are alike.
            Without any, thirds of the rows at random. Rows whose class is not among those that are
            described tell nothing: they are a new material.
        seed: Seed of the clustering.
    """
    x = torch.from_numpy(np.asarray(spectra, np.float64))
    mean, std = x.mean(0), x.std(0, correction=0)
    std = torch.where(std > 0, std, 1.0)
    basis = half_whitening((x - mean) / std, min(_COMPONENTS, x.shape[1]))
    points = (x - mean) / std @ basis.T
    centers = _centers(points, labels, seed)
    held = []
    for of, out in folds or _thirds(len(points), seed):
        out = out[np.isin(labels[out], labels[of])]
        held.append(nearest_distance(points[out], _centers(points[of], labels[of], seed)))
    distances = torch.cat(held)
    if not len(distances):
        distances = nearest_distance(points, centers)
    area = Applicability(x.shape[1], len(basis), len(centers))
    area.band_mean.copy_(mean)
    area.band_std.copy_(std)
    area.basis.copy_(basis)
    area.centers.copy_(centers)
    # spectra that are all the same have no distances: then whatever differs is outside
    area.threshold.fill_(max(float(np.quantile(distances, _WITHIN)), 1e-6))
    return area.eval()


def _thirds(rows: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows to describe and rows to hold out, at random."""
    third = np.random.default_rng(seed).permutation(rows) % 3
    return [(np.flatnonzero(third != k), np.flatnonzero(third == k)) for k in range(min(3, rows))]


def _centers(points: Tensor, labels: np.ndarray, seed: int) -> Tensor:
    """Return centres of clusters of each class (centre, component)."""
    classes = np.unique(labels)
    count = max(min(_CENTERS, _MOST_CENTERS // len(classes)), 1)
    found = []
    for label in classes:
        members = points[torch.from_numpy(labels == label)].numpy()
        clusters = KMeans(min(count, len(members)), n_init=1, random_state=seed)
        with warnings.catch_warnings():  # of equal spectra there are fewer clusters than asked for
            warnings.simplefilter("ignore", ConvergenceWarning)
            found.append(clusters.fit(members).cluster_centers_)
    return torch.from_numpy(np.concatenate(found))
