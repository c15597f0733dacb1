"""Minimum mapping unit: small regions join a neighbour, and the map stays whole.

Every chunk is read by itself for its regions and their borders; what to join is decided for all
regions at once, from their numbers alone, so the chunks make no difference. That takes memory by
the region (benchmarks/polygons), not by the pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from pyproj import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hsi_pipeline.areas import Measure
from hsi_pipeline.classes import scheme_from_attrs
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons.chunks import (
    CHUNK,
    Window,
    check_cutting,
    chunk_windows,
    in_order,
    source_of,
)
from hsi_pipeline.polygons.regions import (
    borders,
    count_pixels,
    joined_at_corners,
    label,
    sum_shares,
)

Join = Literal["border", "probability"]
"""What decides on the neighbour: the longest common border, or the most probable class."""


@dataclass(frozen=True)
class MinAreaReport:
    """What the minimum area did."""

    before: int
    """Regions of the map."""
    after: int
    """Regions that are left."""
    merged: int
    """Regions whose class changed because they joined a neighbour."""
    kept: int
    """Regions below the minimum that stay, with nothing but nodata around them."""


class _Survey(NamedTuple):
    """The regions of a chunk by their labels; row 0 belongs to none."""

    codes: np.ndarray
    first: np.ndarray
    """Flat index of the first pixel in the whole raster: an order that no chunk changes."""
    areas: np.ndarray
    """int64, in `_AreaSteps`."""
    shares: np.ndarray
    """int64 (label, category): sums of probabilities; no categories where they do not matter."""
    sides: np.ndarray
    """int64 (pair, 4): two labels that touch, and how many sides along rows and along columns; none
    if at corners only, which counts where regions are 8-connected."""
    corners: np.ndarray
    """int64 (pair, 2): labels that are one region by their corners."""
    edges: dict[str, tuple[np.ndarray, np.ndarray]]
    """Labels and codes at the "top", "bottom", "left" and "right" edge."""


class _Regions(NamedTuple):
    """Regions of the whole map, row 0 belongs to none."""

    codes: np.ndarray
    areas: np.ndarray
    shares: np.ndarray


class _Borders(NamedTuple):
    """Pairs of regions that touch, each once, sorted."""

    one: np.ndarray
    other: np.ndarray
    length: np.ndarray


def apply_minimum_area(
    class_map: xr.Dataset,
    min_area_m2: float,
    scratch: Path,
    *,
    join: Join = "border",
    connectivity: Literal[4, 8] = 4,
    chunk: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[xr.Dataset, MinAreaReport]:
    """Give regions below a minimum area to a neighbour, until none is left that has one.

    Works in rounds: every small region points to its neighbour, what hangs together becomes one
    region with the class of its largest member, and so do regions of one class that touch now.
    GDAL's sieve does the first round only, leaves alone small regions among none but small ones,
    and knows no areas but pixel counts.

    Args:
        class_map: As for `polygonize`.
        min_area_m2: Minimum mapping unit: m2, or pixels for a map without CRS.
        scratch: Zarr array to make for the new classes; on a cluster, where all workers see it.
        join: "border": the neighbour with the longest common border; "probability": the one whose
            class is the most probable in the region, of the map's `probability`. Of equal ones the
            largest, then the first.
        connectivity: As for `polygonize`.
        chunk: Rows and columns read at a time; makes no difference to the result.
        executor: As for `polygonize`.
        progress: Called with the number of chunk passes done and of all.

    Returns:
        The map with other classes where regions joined others; confidences and probabilities stay
        those of the pixels. And what was done.

    Raises:
        InputError: A setting that makes no sense.
    """
    check_minimum_area(min_area_m2, join)
    check_cutting(connectivity, chunk)
    if join == "probability" and "probability" not in class_map:
        raise InputError(
            "to join by probability, the map must hold probabilities; make it with "
            "'classify --probabilities', or join by border"
        )
    source = source_of(class_map)
    if join == "border":
        source = replace(source, probability=None)
    source = replace(source, confidence=None)
    grid = grid_of(class_map)
    steps = _AreaSteps.of(grid)
    windows = chunk_windows(source.codes.shape, chunk or CHUNK)
    report = _Count(progress, 2 * len(windows))
    jobs = ((source.window(*window), steps, connectivity) for window in windows)
    gathered = _Gathered(source.codes.shape[1], connectivity)
    for window, survey in zip(windows, in_order(_survey, jobs, executor), strict=True):
        gathered.add(survey, *window)
        report.one_more()
    regions, region_of, borders_of = gathered.regions(_side_lengths(grid))
    categories = scheme_from_attrs(class_map["class"].attrs).index_of_code
    owner, joined = _merge_small(regions, borders_of, steps.of_area(min_area_m2), categories)
    small = joined.areas < steps.of_area(min_area_m2)
    found = MinAreaReport(
        len(regions.codes) - 1,
        len(joined.codes) - 1,
        int((joined.codes[owner] != regions.codes).sum()),
        int(small[1:].sum()),
    )
    if not found.merged:
        return class_map, found
    codes = joined.codes[owner][region_of]
    zarr.create_array(
        scratch, shape=source.codes.shape, chunks=(chunk or CHUNK,) * 2, dtype="uint8"
    )
    recodings = (
        (source.window(*window), of_labels, scratch, window)
        for window, of_labels in zip(windows, gathered.split(codes), strict=True)
    )
    for _ in in_order(_recode, recodings, executor):
        report.one_more()
    new = class_map["class"].copy(data=da.from_zarr(zarr.open_array(scratch, mode="r")))
    return class_map.assign({"class": new}), found


def check_minimum_area(min_area_m2: float, join: str) -> None:
    """Refuse settings that make no sense.

    Raises:
        InputError: Says which.
    """
    if not min_area_m2 >= 0:
        raise InputError(f"the minimum area is {min_area_m2} m2, expected 0 or more")
    if join not in get_args(Join):
        raise InputError(f"small regions join by {' or '.join(get_args(Join))}, not by {join!r}")


@dataclass(frozen=True)
class _AreaSteps:
    """Whole numbers for areas: pixels, or parts of the largest one where they differ."""

    measure: Measure
    step_m2: float

    @classmethod
    def of(cls, grid: GeoBox) -> _AreaSteps:
        measure = Measure(grid)
        parts = 1 if measure.is_planar else _PARTS
        return cls(measure, measure.largest_pixel() / parts)

    def of_area(self, m2: float) -> float:
        """Return an area in steps; a region of exactly that size is not below it."""
        return m2 / self.step_m2 * (1 - 1e-6)

    def of_pixels(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the area of each pixel of a window."""
        areas = np.rint(self.measure.pixel_areas(rows, columns) / self.step_m2).astype(np.int64)
        return np.broadcast_to(areas, (rows.stop - rows.start, columns.stop - columns.start))


_PARTS = 2**20


class _Count:
    """Counts chunks for a progress bar."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def one_more(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _survey(window: Window, steps: _AreaSteps, connectivity: int) -> _Survey:
    """Read a chunk for its regions and their borders."""
    inner = np.ascontiguousarray(window.read_codes()[1:-1, 1:-1])
    labels, codes = label(inner)
    count = len(codes)
    areas = np.zeros(count, np.int64)
    row, column = window.origin
    width = labels.shape[1]
    sizes = steps.of_pixels(window.rows, window.columns)
    pixels, first = count_pixels(labels, count)
    if sizes.min() == sizes.max():
        areas = pixels * int(sizes.flat[0])
    else:
        np.add.at(areas, labels, sizes)
    areas[0] = 0
    shares = np.zeros((count, 0), np.int64)
    if window.probability is not None:
        bands = window.read(window.probability)
        shares = np.column_stack([sum_shares(labels, band, count)[0] for band in bands])
    groups = joined_at_corners(labels, inner) if connectivity == 8 else np.arange(count)
    apart = np.flatnonzero(groups != np.arange(count))
    return _Survey(
        codes,
        (row + first // width) * window.width + column + first % width,
        areas,
        shares,
        _count_sides(borders(labels, connectivity == 8)),
        np.column_stack((apart, groups[apart])),
        {
            "top": (labels[0].copy(), inner[0].copy()),
            "bottom": (labels[-1].copy(), inner[-1].copy()),
            "left": (labels[:, 0].copy(), inner[:, 0].copy()),
            "right": (labels[:, -1].copy(), inner[:, -1].copy()),
        },
    )


def _count_sides(sides: np.ndarray) -> np.ndarray:
    """Return each pair once, with its numbers of sides along rows and along columns."""
    way = sides[:, 2]
    return np.column_stack(_summed(sides[:, :2].astype(np.int64), way == 0, way == 1))


def _summed(pairs: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sum up values by pairs, whichever comes first in them.

    Args:
        pairs: int64 (meeting, 2).
        values: Numbers (meeting,), any of them.

    Returns:
        The smaller and the larger of each pair of different ones, sorted, and the sums.
    """
    base = int(pairs.max(initial=0)) + 1
    keys = pairs.min(axis=1) * base + pairs.max(axis=1)
    apart = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
    order = apart[np.argsort(keys[apart], kind="stable")]
    keys = keys[order]
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    kind = [np.float64 if numbers.dtype.kind == "f" else np.int64 for numbers in values]
    sums = [
        np.add.reduceat(numbers[order].astype(dtype), begins) if len(begins) else np.zeros(0, dtype)
        for numbers, dtype in zip(values, kind, strict=True)
    ]
    return (*np.divmod(keys[begins], base), *sums)


class _Gathered:
    """What chunks say, with regions' labels numbered through."""

    def __init__(self, width: int, connectivity: int) -> None:
        """Begin with none, for a raster of so many columns."""
        self._corners = connectivity == 8
        self._starts = [1]
        self._parts: list[_Survey] = []
        self._links: list[np.ndarray] = []
        self._sides: list[np.ndarray] = []
        self._above, self._below = (np.zeros((2, width + 2), np.int64) for _ in range(2))
        self._left = np.zeros((2, 0), np.int64)

    def add(self, survey: _Survey, rows: slice, columns: slice) -> None:
        """Add the next chunk; chunks come row by row."""
        if columns.start == 0:
            self._above, self._below = self._below, np.zeros_like(self._above)
        offset = self._starts[-1] - 1  # labels count from 1
        edges = {
            name: np.stack((np.where(labels > 0, labels + offset, 0), codes))
            for name, (labels, codes) in survey.edges.items()
        }
        self._links.append(survey.corners + offset)
        self._sides.append(survey.sides + np.array([offset, offset, 0, 0]))
        for shift in (0, -1, 1) if self._corners else (0,):
            part = slice(columns.start + 1 + shift, columns.stop + 1 + shift)
            self._face(self._above[:, part], edges["top"], None if shift else 0)
        if columns.start > 0:
            height = rows.stop - rows.start
            for shift in (0, -1, 1) if self._corners else (0,):
                own = slice(max(shift, 0), height + min(shift, 0))
                others = slice(max(-shift, 0), height + min(-shift, 0))
                self._face(self._left[:, others], edges["left"][:, own], None if shift else 1)
        self._below[:, columns.start + 1 : columns.stop + 1] = edges["bottom"]
        self._left = edges["right"]
        self._starts.append(self._starts[-1] + len(survey.codes) - 1)
        # the edges are done with, and the borders stand elsewhere
        self._parts.append(survey._replace(edges={}, sides=survey.sides[:0]))

    def _face(self, one: np.ndarray, other: np.ndarray, way: int | None) -> None:
        """Note pixels that face each other across an edge, by sides of a way or by corners."""
        both = (one[0] > 0) & (other[0] > 0)
        same = both & (one[1] == other[1])
        self._links.append(np.column_stack((one[0][same], other[0][same])))
        apart = both & ~same
        sides = np.zeros((int(apart.sum()), 4), np.int64)
        sides[:, 0] = np.minimum(one[0][apart], other[0][apart])
        sides[:, 1] = np.maximum(one[0][apart], other[0][apart])
        if way is not None:
            sides[:, 2 + way] = 1
        self._sides.append(sides)

    def regions(self, lengths: tuple[float, float]) -> tuple[_Regions, np.ndarray, _Borders]:
        """Join the labels of all chunks to regions, numbered by their first pixels.

        Args:
            lengths: Of a side along a row and along a column.

        Returns:
            The regions, the region of each label, and their borders.
        """
        _, group = _components(np.concatenate(self._links), self._starts[-1])
        first = np.concatenate([[-1], *(part.first[1:] for part in self._parts)])
        lowest = np.full(group.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, group, first)
        number = np.empty(len(lowest), np.int64)
        number[np.argsort(lowest)] = np.arange(len(lowest))
        region_of = number[group]
        codes = np.zeros(len(lowest), np.uint8)
        areas = np.zeros(len(lowest), np.int64)
        shares = np.zeros((len(lowest), self._parts[0].shares.shape[1]), np.int64)
        own = region_of[1:]
        codes[own] = np.concatenate([part.codes[1:] for part in self._parts])
        np.add.at(areas, own, np.concatenate([part.areas[1:] for part in self._parts]))
        np.add.at(shares, own, np.concatenate([part.shares[1:] for part in self._parts]))
        sides = np.concatenate(self._sides)
        self._sides.clear()
        # whole numbers of sides are added up before they are lengths: exact in every order
        one, other, rows, columns = _summed(region_of[sides[:, :2]], sides[:, 2], sides[:, 3])
        return (
            _Regions(codes, areas, shares),
            region_of,
            _Borders(one, other, rows * lengths[0] + columns * lengths[1]),
        )

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Return for each chunk the values of its labels, 0 for label 0."""
        none = np.zeros(1, values.dtype)
        return [
            np.concatenate((none, values[start:stop]))
            for start, stop in zip(self._starts[:-1], self._starts[1:], strict=True)
        ]


def _side_lengths(grid: GeoBox) -> tuple[float, float]:
    """Return the lengths of a pixel's sides along rows and columns, of one scale."""
    transform = grid.transform
    along_row, along_column = np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e)
    if grid.crs is not None and grid.crs.geographic and not transform.b:
        middle = transform.f + transform.e * grid.shape[0] / 2
        to_radians = CRS(grid.crs.to_wkt()).axis_info[0].unit_conversion_factor
        along_row *= np.cos(middle * to_radians)
    return float(along_row), float(along_column)


def _merge_small(
    regions: _Regions, borders_of: _Borders, minimum: float, categories: dict[int, int]
) -> tuple[np.ndarray, _Regions]:
    """Let small regions join neighbours until none is left that has one.

    Args:
        regions: Regions by their first pixels.
        borders_of: Their borders.
        minimum: Smallest area that may stay.
        categories: Column of `shares` of each code.

    Returns:
        The new region of each old one (0 stays 0), and the new ones.
    """
    owner = np.arange(len(regions.codes))
    column = np.zeros(256, np.int64)
    column[list(categories)] = list(categories.values())
    while True:
        small = [regions.areas[side] < minimum for side in borders_of[:2]]
        if not (small[0].any() or small[1].any()):
            return owner, regions
        one = np.append(borders_of.one[small[0]], borders_of.other[small[1]])
        other = np.append(borders_of.other[small[0]], borders_of.one[small[1]])
        length = np.append(borders_of.length[small[0]], borders_of.length[small[1]])
        keys = [other, -regions.areas[other], -length]
        if regions.shares.shape[1]:
            keys.append(-regions.shares[one, column[regions.codes[other]]])
        best = np.lexsort((*keys, one))
        links = np.column_stack((one, other))[best]
        links = links[np.unique(links[:, 0], return_index=True)[1]]
        for _ in range(2):
            group, regions = _join_regions(links, regions)
            owner = group[owner]
            pairs = np.column_stack((group[borders_of.one], group[borders_of.other]))
            borders_of = _Borders(*_summed(pairs, borders_of.length))
            same = regions.codes[borders_of.one] == regions.codes[borders_of.other]
            links = np.column_stack((borders_of.one[same], borders_of.other[same]))


def _join_regions(links: np.ndarray, regions: _Regions) -> tuple[np.ndarray, _Regions]:
    """Make one region of those that links hold together, with the class of the largest of them.

    Returns:
        The new region of each old one, by their first members, and the new ones.
    """
    size = len(regions.codes)
    count, group = _components(links, size)
    # numbered by first members, so that 0 stays 0
    _, first = np.unique(group, return_index=True)
    number = np.empty(count, np.int64)
    number[np.argsort(first)] = np.arange(count)
    group = number[group]
    by_size = np.lexsort((np.arange(size), -regions.areas, group))
    _, largest = np.unique(group[by_size], return_index=True)
    areas = np.zeros(count, np.int64)
    np.add.at(areas, group, regions.areas)
    shares = np.zeros((count, regions.shares.shape[1]), np.int64)
    np.add.at(shares, group, regions.shares)
    return group, _Regions(regions.codes[by_size[largest]], areas, shares)


def _components(links: np.ndarray, size: int) -> tuple[int, np.ndarray]:
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(size, size))
    return connected_components(graph, directed=False)


def _recode(window: Window, codes: np.ndarray, scratch: Path, place: tuple[slice, slice]) -> None:
    """Write the new codes of a chunk."""
    labels, _ = label(np.ascontiguousarray(window.read_codes()[1:-1, 1:-1]))
    zarr.open_array(scratch, mode="r+")[place] = codes[labels]
