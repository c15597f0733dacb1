"""Pixels of class maps: the area of each class, and what is said at some places, in one reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from hsi_pipeline.areas import Measure
from hsi_pipeline.classes import UNLABELLED, scheme_from_attrs
from hsi_pipeline.cube import grid_of, read_window
from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons.windows import CHUNK, chunk_windows, in_order

_CODES = 256


@dataclass(frozen=True, eq=False)
class MapFacts:
    """What was read of a map; everything by class code."""

    pixels: np.ndarray
    """Pixels of each code int64 (256,)."""
    areas: np.ndarray
    """Their area in m2, in pixels where there is no CRS (256,)."""
    largest_to_smallest: float = 1.0
    """Area of the largest pixel with a class over that of the smallest."""


@dataclass(frozen=True, eq=False)
class LabelledPixels:
    """Labelled pixels and what the map says there, alike ones in one row."""

    mapped: np.ndarray
    """Class code of the map (row,)."""
    reference: np.ndarray
    """Class code of the labels (row,)."""
    feature: np.ndarray
    """Place in the file, from 1, of the polygon (row,); 0 for rasters."""
    pixels: np.ndarray
    """How many pixels are alike (row,)."""


def read_map(
    class_map: xr.Dataset,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[MapFacts, np.ndarray]:
    """Measure the classes of a map and look some pixels up, window by window.

    Args:
        class_map: As `publish.open_class_map` returns it.
        rows: Rows of the pixels (pixel,).
        columns: Their columns.
        progress: Called with the number of complete windows and of all.

    Returns:
        What the map holds, and the codes at the pixels uint8 (pixel,).

    Raises:
        InputError: It cannot be read, or holds codes that its legend lacks.
    """
    width = -(-class_map["class"].shape[1] // CHUNK)
    window = rows // CHUNK * width + columns // CHUNK
    order = np.argsort(window, kind="stable")
    starts = np.searchsorted(window[order], np.arange(_windows_of(class_map) + 1))
    parts = [order[start:end] for start, end in pairwise(starts)]
    codes = np.zeros(len(rows), np.uint8)

    def look_up(number: int, pixels: np.ndarray, place: tuple[slice, slice]) -> None:
        own = parts[number]
        codes[own] = pixels[rows[own] - place[0].start, columns[own] - place[1].start]

    return _read(class_map, look_up, progress), codes


def read_map_at_labels(
    class_map: xr.Dataset,
    labels: np.ndarray,
    features: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[MapFacts, LabelledPixels]:
    """Measure the classes of a map and compare it with labels, window by window.

    Args:
        class_map: As `publish.open_class_map` returns it.
        labels: Class codes (y, x), 0 unlabelled.
        features: Place in the file of the polygon of each pixel (y, x), 0 for rasters.
        progress: Called with the number of complete windows and of all.

    Raises:
        InputError: As `read_map`.
    """

    def compare(number: int, pixels: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
        held = labels[place] != UNLABELLED
        key = features[place][held].astype(np.int64) * _CODES**2
        key += pixels[held] * np.int64(_CODES) + labels[place][held]
        return np.stack(np.unique(key, return_counts=True))

    found: list[np.ndarray] = []
    facts = _read(class_map, compare, progress, found.append)
    table = np.concatenate(found, axis=1)
    key, place = np.unique(table[0], return_inverse=True)
    pixels = np.bincount(place, table[1], len(key)).astype(np.int64)
    feature, code = np.divmod(key, _CODES**2)
    return facts, LabelledPixels(code // _CODES, code % _CODES, feature, pixels)


def _windows_of(class_map: xr.Dataset) -> int:
    return len(chunk_windows(class_map["class"].shape, CHUNK))


def _read(
    class_map: xr.Dataset,
    look: Callable[[int, np.ndarray, tuple[slice, slice]], np.ndarray | None],
    progress: Callable[[int, int], None] | None,
    keep: Callable[[np.ndarray], None] = lambda _: None,
) -> MapFacts:
    """Read a map window by window, measure its classes and show each window to a function."""
    scheme, grid = scheme_from_attrs(class_map["class"].attrs), grid_of(class_map)
    raster = da.asarray(class_map["class"].data)
    windows = chunk_windows(raster.shape, CHUNK)
    pixels, areas = np.zeros(_CODES, np.int64), np.zeros(_CODES)
    smallest, largest = np.inf, 0.0
    task = partial(_read_one, raster, grid, look)
    for done, found in enumerate(
        in_order(task, [(i, *window) for i, window in enumerate(windows)]), start=1
    ):
        pixels += found[0]
        areas += found[1]
        smallest, largest = min(smallest, found[2]), max(largest, found[3])
        if found[4] is not None:
            keep(found[4])
        if progress is not None:
            progress(done, len(windows))
    strange = set(np.flatnonzero(pixels).tolist()) - {UNLABELLED, *scheme.codes}
    if strange:
        raise InputError(
            f"the map holds code {min(strange)}, which its legend lacks; its classes are "
            f"{', '.join(map(str, scheme.codes))}"
        )
    return MapFacts(pixels, areas, max(largest / smallest, 1.0))


def _read_one(
    raster: da.Array,
    grid: GeoBox,
    look: Callable[[int, np.ndarray, tuple[slice, slice]], np.ndarray | None],
    number: int,
    rows: slice,
    columns: slice,
) -> tuple[np.ndarray, np.ndarray, float, float, np.ndarray | None]:
    """Return pixels and area of each code in a window, areas of pixels, what a function makes."""
    codes = read_window(raster[rows, columns], rows, columns)
    pixels = np.bincount(codes.ravel(), minlength=_CODES)
    # one for each window: PROJ's objects are not for several threads
    measured = Measure(grid).pixel_areas(rows, columns)
    if measured.size == 1:
        areas = pixels * float(measured.item())
    else:
        weights = np.broadcast_to(measured, codes.shape).ravel()
        areas = np.bincount(codes.ravel(), weights, _CODES)
    of_class = np.broadcast_to(measured, codes.shape)[codes != UNLABELLED]
    smallest, largest = of_class.min(initial=np.inf), of_class.max(initial=0)
    return pixels, areas, float(smallest), float(largest), look(number, codes, (rows, columns))
