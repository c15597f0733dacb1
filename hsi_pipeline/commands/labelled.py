"""A scene with labels, and which of its pixels to learn from: for train and crossval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from hsi_pipeline.accuracy import Accuracy, compare
from hsi_pipeline.classes import UNLABELLED, ClassScheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import cube_of
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.spectra import band_statistics, bands_to_learn_from, valid_among


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScene:
    """A scene and the labels that hold a value in it."""

    source: SceneSource
    """The scene, or several as one."""
    cube: xr.DataArray
    """The same as a cube."""
    bands: tuple[int, ...]
    """Zero-based bands to learn from."""
    labels: np.ndarray
    """Class codes (y, x), 0 where unlabelled or nodata."""
    units: np.ndarray
    """Polygon of each pixel (y, x), 0 where there is none."""
    nodata: int
    """Labelled pixels that are nodata, and so left out."""

    def indices(self, scheme: ClassScheme) -> np.ndarray:
        """Return a scheme's class index plus one (y, x) uint8, 0 where unlabelled."""
        table = np.zeros(256, np.uint8)
        for index, code in enumerate(scheme.codes):
            table[code] = index + 1
        return table[self.labels]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What to learn from and what to score, as pixels of a scene."""

    scheme: ClassScheme
    """Classes of the model."""
    train: np.ndarray
    """Pixels to learn from, bool (y, x)."""
    validation: np.ndarray
    """Pixels to choose the epoch by, and that are scored, bool (y, x)."""
    hidden: np.ndarray
    """Pixels that training windows must not show, bool (y, x)."""


def labelled_scene(source: SceneSource, labels: np.ndarray, units: np.ndarray) -> LabelledScene:
    """Find the bands and the pixels to learn from.

    Args:
        source: The scene.
        labels: Class codes (y, x), 0 unlabelled.
        units: Id of the polygon of each pixel (y, x), 0 where there is none.

    Raises:
        InputError: No band or no labelled pixel can be used.
    """
    cube = cube_of(source)
    labelled = labels != UNLABELLED
    bands = bands_to_learn_from(cube, band_statistics(cube, labelled))
    known = valid_among(cube, labelled, bands)
    if not known.any():
        raise InputError(
            f"no labelled pixel holds a value in all {len(bands)} bands; "
            "are these the labels of this scene?"
        )
    return LabelledScene(
        source=source,
        cube=cube,
        bands=bands,
        labels=np.where(known, labels, UNLABELLED),
        units=units,
        nodata=int((labelled & ~known).sum()),
    )


def learnable(scheme: ClassScheme, labels: np.ndarray, train: np.ndarray) -> ClassScheme:
    """Return the classes that have training pixels.

    Raises:
        InputError: Fewer than two are left.
    """
    trained = set(np.unique(labels[train]).tolist())
    left = tuple(c for c in scheme.categories if c.code in trained)
    if len(left) < 2:
        raise InputError(
            f"only {len(left)} class has training pixels after the split; training needs two or "
            "more: add labels, or mark the split in a column and pass --split-column"
        )
    return ClassScheme(left)


def accuracy_at(
    data: LabelledScene, scheme: ClassScheme, predicted: np.ndarray, pixels: np.ndarray
) -> Accuracy:
    """Compare predictions of `predict` with the labels of some pixels."""
    reference = data.indices(scheme)[pixels].astype(int) - 1
    return compare(reference, predicted[pixels].astype(int) - 1, len(scheme))
