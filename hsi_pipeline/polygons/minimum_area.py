"""Minimum mapping unit: small regions join a neighbour, and the map stays whole.

Every chunk is read by itself for its regions and their borders; what to join is decided for all
regions at once, from their numbers alone, so the chunks make no difference. That takes memory by
the region (benchmarks/polygons), not by the pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from hsi_pipeline.classes import scheme_from_attrs
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons.adjacency import (
    AreaSteps,
    Borders,
    Gathered,
    Regions,
    components,
    side_lengths,
    summed,
    survey_chunk,
)
from hsi_pipeline.polygons.regions import label
from hsi_pipeline.polygons.windows import (
    CHUNK,
    Window,
    check_cutting,
    chunk_windows,
    in_order,
    source_of,
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
    steps = AreaSteps.of(grid)
    windows = chunk_windows(source.codes.shape, chunk or CHUNK)
    report = _Count(progress, 2 * len(windows))
    jobs = ((source.window(*window), steps, connectivity) for window in windows)
    gathered = Gathered(source.codes.shape[1], connectivity)
    for window, survey in zip(windows, in_order(survey_chunk, jobs, executor), strict=True):
        gathered.add(survey, window[1])
        report.one_more()
    regions, region_of, borders_of = gathered.regions(side_lengths(grid))
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
    if not 0 <= min_area_m2 < math.inf:
        raise InputError(f"the minimum area is {min_area_m2} m2, expected 0 or more")
    if join not in get_args(Join):
        raise InputError(f"small regions join by {' or '.join(get_args(Join))}, not by {join!r}")


class _Count:
    """Counts chunks for a progress bar."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def one_more(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _merge_small(
    regions: Regions, borders_of: Borders, minimum: float, categories: dict[int, int]
) -> tuple[np.ndarray, Regions]:
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
            borders_of = Borders(*summed(pairs, borders_of.length))
            same = regions.codes[borders_of.one] == regions.codes[borders_of.other]
            links = np.column_stack((borders_of.one[same], borders_of.other[same]))


def _join_regions(links: np.ndarray, regions: Regions) -> tuple[np.ndarray, Regions]:
    """Make one region of those that links hold together, with the class of the largest of them.

    Returns:
        The new region of each old one, by their first members, and the new ones.
    """
    size = len(regions.codes)
    count, group = components(links, size)
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
    return group, Regions(regions.codes[by_size[largest]], areas, shares)


def _recode(window: Window, codes: np.ndarray, scratch: Path, place: tuple[slice, slice]) -> None:
    """Write the new codes of a chunk."""
    labels, _ = label(np.ascontiguousarray(window.read_codes()[1:-1, 1:-1]))
    zarr.open_array(scratch, mode="r+")[place] = codes[labels]
