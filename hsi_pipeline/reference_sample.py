"""Reference samples: how many pixels of a map to interpret, and which ones.

Sizes and allocation follow Olofsson et al. (2014), Good practices for estimating area and assessing
accuracy of land change, Remote Sens. Environ. 148:42-57, doi:10.1016/j.rse.2014.02.015, section
5.1; its equation numbers are given. Pixels are numbered row by row within a stratum, so that a
sample depends on the map and the seed alone, not on how the map is stored or read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from hsi_pipeline.areas import Measure
from hsi_pipeline.classes import UNLABELLED, scheme_from_attrs
from hsi_pipeline.cube import grid_of, read_window
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimation import LEAST
from hsi_pipeline.polygons.windows import CHUNK, chunk_windows, in_order

ALLOCATIONS = ("balanced", "proportional", "equal", "optimal")
"""How points may be shared among classes, see `allocate`."""
DESIGNS = ("stratified", "simple")
"""Stratified by the classes of the map, or simple random."""


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """The classified pixels of a map."""

    codes: tuple[int, ...]
    """Class codes."""
    names: tuple[str, ...]
    """Their names."""
    by_row: np.ndarray
    """Pixels of each class in each row, int64 (y, class)."""
    area_m2: np.ndarray
    """Area of each class (class,); NaN where the map has no CRS."""


@dataclass(frozen=True)
class Stratum:
    """Pixels from which points are drawn alike."""

    code: int
    """Its code: that of the class, if it is not renumbered; 0 where it is all classes."""
    name: str
    """The class name; "all" where it is all classes."""
    columns: tuple[int, ...]
    """Its classes, as positions in `ClassCounts.codes`."""
    pixels: int
    """Number of its pixels."""
    area_m2: float
    """Their area; NaN where the map has no CRS."""


@dataclass(frozen=True, eq=False)
class DrawnPixels:
    """Pixels in random order."""

    stratum: np.ndarray
    """Code of the stratum of each (pixel,)."""
    row: np.ndarray
    """Row (pixel,)."""
    column: np.ndarray
    """Column (pixel,)."""


def sample_size(pixels: np.ndarray, expected: np.ndarray, standard_error: float) -> int:
    """Return how many points make the standard error of overall accuracy small enough.

    Equation 13 (Cochran 1977, equation 5.25), with its correction for finite populations. It holds
    for the optimal allocation; with others the error is a little larger.

    Args:
        pixels: Pixels of each stratum (stratum,).
        expected: Expected share of them that the map has right (stratum,), between 0 and 1.
        standard_error: Standard error of overall accuracy to reach, above 0.
    """
    weights, variance = pixels / pixels.sum(), expected * (1 - expected)
    finite = float((weights * variance).sum() / pixels.sum())
    return math.ceil((weights * np.sqrt(variance)).sum() ** 2 / (standard_error**2 + finite))


def allocate(
    size: int,
    pixels: np.ndarray,
    *,
    allocation: str = "balanced",
    expected: np.ndarray | None = None,
    least: int = LEAST,
) -> np.ndarray:
    """Share points among strata.

    None gets more points than it has pixels, nor fewer than the least as far as it has them; the
    others share the rest in proportion to their area ("proportional", and "balanced", which is the
    recommendation of section 5.1.2 with a least of 50 to 100), to their area times the expected
    standard deviation ("optimal", after Neyman), or equally ("equal"). Fractions are rounded by the
    largest remainder.

    Args:
        size: Points, at most as many as there are pixels, at least what the least adds up to.
        pixels: Pixels of each stratum (stratum,).
        allocation: One of `ALLOCATIONS`.
        expected: Expected share of them that the map has right (stratum,), for "optimal".
        least: Fewest points of a stratum.

    Returns:
        Points of each stratum int64 (stratum,); their sum is the size.
    """
    share = pixels.astype(float)
    if allocation == "equal":
        share = np.ones(len(pixels))
    elif allocation == "optimal":
        assert expected is not None
        share = pixels * np.sqrt(expected * (1 - expected))
    low, high = np.minimum(least, pixels), pixels
    # points are a factor times the share, between the bounds; their sum bends where one is met
    bends = np.unique(np.concatenate([low / share, high / share]))
    sums = np.clip(bends[:, None] * share, low, high).sum(1)
    points = np.clip(np.interp(size, sums, bends) * share, low, high)
    whole = np.floor(points + 1e-9).astype(np.int64)
    missing = size - int(whole.sum())
    whole[np.argsort(whole - points, kind="stable")[:missing]] += 1
    return whole


def expected_error(pixels: np.ndarray, expected: np.ndarray, points: np.ndarray) -> float:
    """Return the standard error of overall accuracy that a sample will have if all is as expected.

    Equation 5 with the variances of equation 13, and the correction for finite populations.

    Args:
        pixels: Pixels of each stratum (stratum,).
        expected: Expected share of them that the map has right (stratum,).
        points: Points of each stratum (stratum,).
    """
    weights = pixels / pixels.sum()
    variance = expected * (1 - expected) / points * (1 - points / pixels)
    return float(np.sqrt((weights**2 * variance).sum()))


def count_classes(
    class_map: xr.Dataset,
    *,
    chunk: int = CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> ClassCounts:
    """Count the pixels of each class, window by window.

    Args:
        class_map: As `publish.open_class_map` returns it.
        chunk: Side of a window; makes no difference, but of some millionths to areas that are
            measured on the ellipsoid.
        progress: Called with the number of complete windows and of all.

    Returns:
        The counts of the classes that occur.

    Raises:
        InputError: No pixel is classified, a code has no class, or the map cannot be read.
    """
    scheme, grid = scheme_from_attrs(class_map["class"].attrs), grid_of(class_map)
    raster = da.asarray(class_map["class"].data)
    codes = list(scheme.codes)
    by_row = np.zeros((grid.shape[0], len(codes)), np.int64)
    area = np.zeros(len(codes))
    windows = chunk_windows(grid.shape, chunk)
    task = partial(_count_window, raster, grid, codes)
    for done, (window, found) in enumerate(
        zip(windows, in_order(task, windows), strict=True), start=1
    ):
        by_row[window[0]] += found[0]
        area += found[1]
        if progress is not None:
            progress(done, len(windows))
    pixels = by_row.sum(0)
    if not pixels.any():
        raise InputError("the map holds no classified pixel, so there is nothing to sample")
    kept = np.flatnonzero(pixels)
    return ClassCounts(
        tuple(codes[i] for i in kept),
        tuple(scheme.names[i] for i in kept),
        by_row[:, kept],
        area[kept] if grid.crs is not None else np.full(len(kept), np.nan),
    )


def strata_of(counts: ClassCounts, design: str) -> tuple[Stratum, ...]:
    """Return the strata of a design: each class, or all classes as one."""
    pixels = counts.by_row.sum(0)
    if design == "simple":
        columns = tuple(range(len(counts.codes)))
        area = float(counts.area_m2.sum())
        return (Stratum(UNLABELLED, "all", columns, int(pixels.sum()), area),)
    return tuple(
        Stratum(code, name, (i,), int(pixels[i]), float(counts.area_m2[i]))
        for i, (code, name) in enumerate(zip(counts.codes, counts.names, strict=True))
    )


def draw_pixels(
    class_map: xr.Dataset,
    counts: ClassCounts,
    strata: Sequence[Stratum],
    points: Sequence[int],
    *,
    seed: int = 0,
    chunk: int = CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> DrawnPixels:
    """Draw pixels at random without replacement, each of a stratum with the same probability.

    Args:
        class_map: The map that was counted.
        counts: Its counts.
        strata: Where to draw.
        points: How many pixels in each stratum.
        seed: Seed of the draw.
        chunk: Side of the windows that are read; makes no difference.
        progress: Called with the number of complete windows and of all.

    Raises:
        InputError: The map cannot be read, or has changed since it was counted.
    """
    rng = np.random.default_rng(seed)
    stratum, row, rank = [], [], []
    for position, (one, number) in enumerate(zip(strata, points, strict=True)):
        # NumPy needs memory for the numbers drawn here, not for those drawn from
        ranks = np.sort(rng.choice(one.pixels, number, replace=False, shuffle=False))
        in_row = counts.by_row[:, one.columns].sum(1)
        end = np.cumsum(in_row)
        rows = np.searchsorted(end, ranks, side="right")
        stratum.append(np.full(number, position))
        row.append(rows)
        rank.append(ranks - (end - in_row)[rows])
    wanted = np.concatenate(stratum), np.concatenate(row), np.concatenate(rank)
    column = _find_columns(class_map, counts, strata, wanted, chunk, progress)
    order = rng.permutation(len(column))
    numbers = np.array([one.code for one in strata])
    return DrawnPixels(numbers[wanted[0]][order], wanted[1][order], column[order])


def _count_window(
    raster: da.Array, grid: GeoBox, codes: list[int], rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (y, class) and area (class,) of the classes in a window."""
    pixels = read_window(raster[rows, columns], rows, columns)
    height = len(pixels)
    index = pixels + 256 * np.arange(height)[:, None]
    found = np.bincount(index.ravel(), minlength=256 * height).reshape(height, 256)
    strange = found.any(0)
    strange[[UNLABELLED, *codes]] = False
    if strange.any():
        raise InputError(
            f"the class map holds code {strange.argmax()}, its classes are "
            f"{', '.join(map(str, codes))}"
        )
    # one for each window: PROJ's objects are not for several threads
    areas = np.broadcast_to(Measure(grid).pixel_areas(rows, columns), pixels.shape)
    area = np.bincount(pixels.ravel(), weights=areas.ravel(), minlength=256)
    return found[:, codes], area[codes]


def _find_columns(
    class_map: xr.Dataset,
    counts: ClassCounts,
    strata: Sequence[Stratum],
    wanted: tuple[np.ndarray, np.ndarray, np.ndarray],
    chunk: int,
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    """Return the columns of pixels by stratum, row, and rank among those of both."""
    stratum, row, rank = wanted
    belongs = np.zeros((len(strata), 256), bool)
    for position, one in enumerate(strata):
        belongs[position, [counts.codes[i] for i in one.columns]] = True
    column = np.empty(len(row), np.int64)
    order = np.argsort(row, kind="stable")
    start = 0
    for number, pixels in _read_rows(class_map, np.unique(row), chunk, progress):
        end = int(np.searchsorted(row, number, side="right", sorter=order))
        for place in order[start:end]:
            found = np.flatnonzero(belongs[stratum[place]][pixels])
            if len(found) != counts.by_row[number, strata[stratum[place]].columns].sum():
                raise InputError("the map has changed while it was read; draw the sample again")
            column[place] = found[rank[place]]
        start = end
    return column


def _read_rows(
    class_map: xr.Dataset,
    rows: np.ndarray,
    chunk: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield some rows of a map, whole, in ascending order; its windows are read once at most."""
    raster = da.asarray(class_map["class"].data)
    held = set((rows // chunk).tolist())
    windows = [w for w in chunk_windows(raster.shape, chunk) if w[0].start // chunk in held]

    def read(part: slice, columns: slice) -> np.ndarray:
        inside = rows[(rows >= part.start) & (rows < part.stop)] - part.start
        return read_window(raster[part, columns], part, columns)[inside]

    parts: list[np.ndarray] = []
    for done, ((part, columns), pixels) in enumerate(
        zip(windows, in_order(read, windows), strict=True), start=1
    ):
        parts.append(pixels)
        if columns.stop == raster.shape[1]:
            inside = rows[(rows >= part.start) & (rows < part.stop)]
            yield from zip(inside.tolist(), np.concatenate(parts, axis=1), strict=True)
            parts = []
        if progress is not None:
            progress(done, len(windows))
