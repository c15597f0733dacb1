"""Ground truth as it flows on: labels, the classes among them, and what became of the file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.errors import InputError

TRAIN, VALIDATION, TEST = 1, 2, 3
"""Codes of the parts in `GroundTruth.splits`; 0 is none."""
MAX_CODE = 255
"""Highest class code."""


@dataclass(frozen=True)
class LabelCount:
    """How much of one class there is."""

    code: int
    """Raster code."""
    name: str
    """Name of the class."""
    features: int
    """Polygons or points of the class in the file; 0 for rasters."""
    pixels: int
    """Labelled pixels on the scene."""
    area_m2: float | None
    """Area of these pixels; None where the grid has no projected CRS."""


@dataclass(frozen=True, kw_only=True)
class LabelReport:
    """What became of a label file on a scene."""

    classes: tuple[LabelCount, ...]
    """All classes of a vector file, those without a pixel on the scene too; of a raster those on
    the scene."""
    features: int = 0
    """Features in the layer; 0 for rasters, as all counts of features below."""
    conflicts: int = 0
    """Pixels left unlabelled since features of different class or split overlap there."""
    without_class: int = 0
    """Features skipped for a label that is empty or 0."""
    without_geometry: int = 0
    """Features skipped for an empty geometry, or one that nothing is left of when repaired."""
    repaired: int = 0
    """Features near the scene whose invalid geometry was repaired."""
    outside: int = 0
    """Features beside the scene."""
    without_pixel: int = 0
    """Features on the scene that no pixel is left for: they hold no pixel centre or lie wholly
    under others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundTruth:
    """Labels on a scene's grid."""

    labels: np.ndarray
    """Class codes (y, x) uint8, 0 unlabelled."""
    scheme: ClassScheme
    """The classes with at least one labelled pixel on the scene."""
    units: np.ndarray
    """(y, x) int32: place in the file, from 1, of the feature that labels the pixel; 0 elsewhere
    and for rasters."""
    splits: np.ndarray | None
    """(y, x) uint8: 0 none, 1 train, 2 validation, 3 test; None if the file does not say."""
    report: LabelReport
    """Counts."""


def labels_sha256(labels: np.ndarray, grid: GeoBox) -> str:
    """Return a name for labels: which pixels of a grid are labelled, and of which class.

    The same polygons in another file format have the same one; so they have by code alone, which
    is why labels of other codes have another.

    Args:
        labels: Class codes (y, x) uint8, 0 unlabelled.
        grid: Their grid.

    Returns:
        SHA-256 as hexadecimal digits.
    """
    places = np.flatnonzero(labels)
    return places_sha256(places, labels.ravel()[places], grid)


def places_sha256(places: np.ndarray, codes: np.ndarray, grid: GeoBox) -> str:
    """Return what `labels_sha256` does, for labels that are few on a large grid.

    Args:
        places: Labelled pixels, counted row by row, ascending (pixel,).
        codes: Their class codes, none 0 (pixel,).
        grid: Their grid.
    """
    shape = tuple(map(int, grid.shape))
    # without the CRS, of which the same one has many texts
    found = hashlib.sha256(f"{shape} {tuple(grid.affine)[:6]}".encode())
    found.update(places.astype("<i8").tobytes())
    found.update(codes.astype(np.uint8).tobytes())
    return found.hexdigest()


def check_trainable(truth: GroundTruth) -> None:
    """Check that there are classes to tell apart.

    Raises:
        InputError: Fewer than two classes are labelled on the scene.
    """
    if len(truth.scheme) < 2:
        absent = [c.name for c in truth.report.classes if c.pixels == 0]
        raise InputError(
            f"only {truth.scheme.names[0]!r} is labelled on the scene, training needs two classes "
            "or more; add labels"
            + (f" (in the file but not on the scene: {', '.join(absent)})" if absent else "")
        )


def align_labels(truth: GroundTruth, scheme: ClassScheme) -> np.ndarray:
    """Recode labels to a model's classes.

    Classes match by name where both sides have names of their own, else (default names such as
    `class 7`) by code.

    Args:
        truth: Ground truth.
        scheme: The model's classes.

    Returns:
        Labels (y, x) uint8 in the codes of `scheme`, 0 unlabelled.

    Raises:
        InputError: The labels hold a class that the model does not know.
    """
    by_name = _has_own_names(truth.scheme) and _has_own_names(scheme)
    known = {c.name if by_name else c.code: c.code for c in scheme.categories}
    recoded = np.zeros(MAX_CODE + 1, dtype=np.uint8)
    for category in truth.scheme.categories:
        key = category.name if by_name else category.code
        if key not in known:
            listed = ", ".join(f"{c.code} {c.name}" for c in scheme.categories)
            raise InputError(
                f"the labels hold class {category.code} {category.name!r}, which the model does "
                f"not know by {'name' if by_name else 'code'}; its classes are {listed}"
            )
        recoded[category.code] = known[key]
    return recoded[truth.labels]


def join_schemes(schemes: Sequence[ClassScheme]) -> ClassScheme:
    """Return the classes of several label files as one scheme.

    Classes match as in `align_labels`: by name if all files have names, by code if none has. One
    that is new keeps its code where that is free, else it gets the lowest free one.

    Args:
        schemes: The classes of each file.

    Raises:
        InputError: There are more classes than codes, or only some files have names.
    """
    by_name = _has_own_names(schemes[0])
    if any(_has_own_names(scheme) != by_name for scheme in schemes):
        raise InputError(
            "some of the label files name their classes and some have codes only, so that nobody "
            "knows which are the same; give names to all, by --name-column or --class-table"
        )
    joined = list(schemes[0].categories)
    for scheme in schemes[1:]:
        for category in scheme.categories:
            known = {c.name if by_name else c.code for c in joined}
            if (category.name if by_name else category.code) in known:
                continue
            codes = {c.code for c in joined}
            free = [code for code in range(1, MAX_CODE + 1) if code not in codes]
            if not free:
                raise InputError(f"the label files hold more than {MAX_CODE} classes together")
            code = category.code if category.code not in codes else free[0]
            joined.append(replace(category, code=code))
    return ClassScheme(tuple(sorted(joined, key=lambda category: category.code)))


def _has_own_names(scheme: ClassScheme) -> bool:
    """Tell whether any class has a name other than the default one."""
    return any(c.name != f"class {c.code}" for c in scheme.categories)


def count_classes(
    scheme: ClassScheme, labels: np.ndarray, grid: GeoBox, features: np.ndarray | None = None
) -> tuple[LabelCount, ...]:
    """Count pixels and area of each class.

    Args:
        scheme: The classes to count.
        labels: Class codes (y, x).
        grid: Their grid.
        features: Number of features per class code; None for rasters.

    Returns:
        One count per class of the scheme.
    """
    pixels = np.bincount(labels.ravel(), minlength=MAX_CODE + 1)
    pixel_m2 = _pixel_area_m2(grid)
    return tuple(
        LabelCount(
            code=c.code,
            name=c.name,
            features=0 if features is None else int(features[c.code]),
            pixels=int(pixels[c.code]),
            area_m2=None if pixel_m2 is None else float(pixels[c.code] * pixel_m2),
        )
        for c in scheme.categories
    )


def _pixel_area_m2(grid: GeoBox) -> float | None:
    """Return the area of a pixel, None where the grid has no projected CRS."""
    if grid.crs is None or not grid.crs.projected:
        return None
    x_axis, y_axis = grid.crs.proj.axis_info[:2]  # the unit may be feet
    return (
        abs(grid.affine.determinant) * x_axis.unit_conversion_factor * y_axis.unit_conversion_factor
    )
