"""One chunk of a class map -> the pieces of regions that it holds.

Everything here is about one chunk and depends on nothing but its pixels and one pixel around.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import shapely
import xarray as xr
from affine import Affine
from numba import njit

from hsi_pipeline.cube import read_window
from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons.outlines import Lines, Outlines, trace
from hsi_pipeline.polygons.regions import count_pixels, joined_at_corners, label, sum_shares
from hsi_pipeline.polygons.simplifying import Simplification, simplify

CHUNK = 1024
"""Side of a chunk unless the user says otherwise."""
THREADS = 2
"""Threads that outline chunks unless the caller brings others."""
_WORKERS = 16  # of a cluster that are kept busy

SIDES_4 = ((-1, 0), (0, -1), (0, 1), (1, 0))
SIDES_8 = (*SIDES_4, (-1, -1), (-1, 1), (1, -1), (1, 1))


@dataclass(frozen=True)
class Totals:
    """What is known of regions, one row each."""

    codes: np.ndarray
    """uint8: class code."""
    first: np.ndarray
    """int64: flat index of the first pixel, row by row, in the whole raster."""
    sums: np.ndarray
    """int64 (region, 4 + category): pixels; confidence and its pixels; pixels with
    probabilities, and the probability of each category; shares in steps of 1 / `STEPS`."""
    minima: np.ndarray
    """float32: lowest confidence, NaN if there is none."""

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.codes)

    def of(self, which: np.ndarray) -> Totals:
        """Return the rows of some regions."""
        return Totals(self.codes[which], self.first[which], self.sums[which], self.minima[which])


@dataclass(frozen=True)
class Source:
    """The lazy rasters of a class map."""

    codes: da.Array
    """uint8 (y, x)."""
    confidence: da.Array | None
    """float32 (y, x)."""
    probability: da.Array | None
    """float32 (category, y, x)."""

    def window(self, rows: slice, columns: slice) -> Window:
        """Return what a chunk needs, lazily."""
        height, width = self.codes.shape
        around = tuple(
            slice(max(part.start - 1, 0), min(part.stop + 1, size))
            for part, size in ((rows, height), (columns, width))
        )
        pads = tuple(
            (int(part.start == 0), int(part.stop == size))
            for part, size in ((rows, height), (columns, width))
        )
        return Window(
            rows=rows,
            columns=columns,
            width=width,
            codes=self.codes[around],
            pads=pads,
            confidence=None if self.confidence is None else self.confidence[rows, columns],
            probability=None if self.probability is None else self.probability[:, rows, columns],
        )


@dataclass(frozen=True)
class Window:
    """A chunk of a class map, still to be read."""

    rows: slice
    """Rows of the whole raster."""
    columns: slice
    """Columns of the whole raster."""
    width: int
    """Columns of the whole raster."""
    codes: da.Array
    """The chunk with one pixel around, as far as the raster goes."""
    pads: tuple[tuple[int, int], ...]
    """Pixels that the halo lacks before and after, by rows and columns."""
    confidence: da.Array | None
    probability: da.Array | None

    @property
    def origin(self) -> tuple[int, int]:
        """Row and column of its first pixel."""
        return self.rows.start, self.columns.start

    def read_codes(self) -> np.ndarray:
        """Return uint8 (y + 2, x + 2), with 0 outside the raster."""
        return np.pad(self.read(self.codes), self.pads)

    def read(self, raster: da.Array) -> np.ndarray:
        """Read a raster of the chunk.

        Raises:
            InputError: It cannot be read.
        """
        return read_window(raster, self.rows, self.columns)


def check_cutting(connectivity: int, chunk: int | None) -> None:
    """Refuse settings that make no sense.

    Raises:
        InputError: Says which.
    """
    if connectivity not in (4, 8):
        raise InputError(f"connectivity is 4 or 8, not {connectivity}")
    if chunk is not None and chunk < 1:
        raise InputError(f"the chunk size is {chunk} pixels, expected 1 or more")


def source_of(class_map: xr.Dataset) -> Source:
    """Return the rasters of a class map."""
    rasters = {name: da.asarray(class_map[name].data) for name in class_map.data_vars}
    return Source(rasters["class"], rasters.get("confidence"), rasters.get("probability"))


def chunk_windows(shape: tuple[int, ...], side: int) -> list[tuple[slice, slice]]:
    """Cut a raster into rows and columns of chunks, row by row."""
    rows, columns = (
        [slice(start, min(start + side, size)) for start in range(0, size, side)] for size in shape
    )
    return [(row, column) for row in rows for column in columns]


def in_order(
    task: Callable[..., Any], jobs: Iterable[tuple], executor: Executor | None = None
) -> Iterator[Any]:
    """Do tasks side by side and yield their results in order, a few of them at a time.

    Args:
        task: What to do.
        jobs: Its arguments, one tuple after another.
        executor: Where to do it; None: `THREADS` threads of this process.
    """
    own = ThreadPoolExecutor(THREADS) if executor is None else None
    pool = executor or own
    assert pool is not None
    # results that wait are memory; one more than there are workers keeps these busy
    ahead = getattr(pool, "_max_workers", _WORKERS) + 1  # Dask's pool does not say
    waiting: deque[Any] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(task, *job))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        if own is not None:
            own.shutdown()


class Pieces(NamedTuple):
    """The parts of regions in a chunk that reach into others, by their numbers in the chunk."""

    totals: Totals
    """Row n - 1 is that of piece n."""
    links: np.ndarray
    """int64: how many sides (and corners) each piece shares with pixels of its code outside."""
    groups: np.ndarray
    """int64: first piece that each hangs together with within the chunk, corners included."""
    outlines: Outlines
    edges: dict[str, np.ndarray]
    """Number of the piece of each pixel at the "top", "bottom", "left" and "right" edge, 0 where
    there is none, and the codes there as "top_codes" and so on."""


class ChunkResult(NamedTuple):
    """What a chunk gives: polygons that are complete, and pieces that are not."""

    geometry: np.ndarray
    totals: Totals
    pieces: Pieces


def outline_chunk(
    window: Window, transform: Affine, connectivity: int, how: Simplification | None
) -> ChunkResult:
    """Read a chunk and outline what is in it.

    Args:
        window: The chunk.
        transform: From columns and rows of vertices to coordinates.
        connectivity: 4 or 8.
        how: How to simplify the outlines; their vertices are in parts of pixels then.
    """
    codes = window.read_codes()
    inner = np.ascontiguousarray(codes[1:-1, 1:-1])
    labels, of_label = label(inner)
    totals = _totals(window, labels, of_label)
    outlines = trace(codes, labels, window.origin, window.width, nodes=how is not None)
    if how is not None:
        outlines = simplify(outlines, codes, window.origin, window.width, how)
    links = _count_links(codes, labels, len(of_label), np.array(_sides(connectivity)))
    groups = np.arange(len(of_label)) if connectivity == 4 else joined_at_corners(labels, inner)
    group_links = np.bincount(groups, weights=links, minlength=len(groups))
    is_open = group_links[groups] > 0
    complete = np.flatnonzero(~is_open)[1:]  # not the part without a class
    geometry, order = assemble(outlines.rings, complete, groups, transform)
    return ChunkResult(
        geometry, _summed(totals, groups, order), _pieces(is_open, labels, inner, totals,
                                                          links, groups, outlines)
    )  # fmt: skip


def _sides(connectivity: int) -> tuple[tuple[int, int], ...]:
    return SIDES_4 if connectivity == 4 else SIDES_8


def _totals(window: Window, labels: np.ndarray, codes: np.ndarray) -> Totals:
    """Sum up the pixels of each region of a chunk."""
    count = len(codes)
    bands = 0 if window.probability is None else window.probability.shape[0]
    sums = np.zeros((count, 4 + bands), np.int64)
    minima = np.full(count, np.nan, np.float32)
    sums[:, 0], first = count_pixels(labels, count)
    row, column = np.divmod(first, labels.shape[1])
    first = (window.origin[0] + row) * window.width + window.origin[1] + column
    if window.confidence is not None:
        sums[:, 1], sums[:, 2], minima = sum_shares(labels, window.read(window.confidence), count)
    if window.probability is not None:
        for band, shares in enumerate(window.read(window.probability)):
            sums[:, 4 + band], sums[:, 3], _ = sum_shares(labels, shares, count)
    return Totals(codes, first, sums, minima)


def _summed(totals: Totals, groups: np.ndarray, order: np.ndarray) -> Totals:
    """Return the totals of groups of regions, in the order of their first members."""
    result = totals.of(order)
    others = np.flatnonzero(groups != np.arange(len(groups)))
    if len(others):
        sums, minima = totals.sums.copy(), totals.minima.copy()
        np.add.at(sums, groups[others], totals.sums[others])
        np.fmin.at(minima, groups[others], totals.minima[others])
        result = replace(result, sums=sums[order], minima=minima[order])
    return result


def _pieces(
    is_open: np.ndarray,
    labels: np.ndarray,
    codes: np.ndarray,
    totals: Totals,
    links: np.ndarray,
    groups: np.ndarray,
    outlines: Outlines,
) -> Pieces:
    """Keep of a chunk what is not complete, numbered anew."""
    numbers = np.where(is_open, np.cumsum(is_open), 0)
    kept = np.flatnonzero(is_open)
    rings = _select(outlines.rings, numbers)
    chains = outlines.chains._replace(labels=numbers[outlines.chains.labels])
    edges = {}
    for name, where in (
        ("top", np.s_[0]), ("bottom", np.s_[-1]), ("left", np.s_[:, 0]), ("right", np.s_[:, -1])
    ):  # fmt: skip
        edges[name] = numbers[labels[where]]
        edges[f"{name}_codes"] = codes[where].copy()
    return Pieces(
        totals.of(kept), links[kept], numbers[groups[kept]],
        outlines._replace(rings=rings, chains=chains), edges,
    )  # fmt: skip


def _select(lines: Lines, numbers: np.ndarray) -> Lines:
    """Return the lines of regions that have a new number, with it."""
    new = numbers[lines.labels]
    order = np.flatnonzero(new)
    vertices, starts = _arrange(lines.vertices, lines.starts, order, 0)
    return Lines(vertices, starts, new[order])


def assemble(
    rings: Lines, wanted: np.ndarray, groups: np.ndarray, transform: Affine
) -> tuple[np.ndarray, np.ndarray]:
    """Make polygons of rings.

    Args:
        rings: Simple rings; each label has one outer ring.
        wanted: Labels to make polygons of, ascending.
        groups: For each label the first one of its group, whose polygons are parts of one.
        transform: From columns and rows to coordinates.

    Returns:
        Polygons, or MultiPolygons where a group has several members; and the label of each, the
        first of its group.
    """
    if not len(wanted):
        return np.empty(0, object), wanted
    is_wanted = np.zeros(len(groups), bool)
    is_wanted[wanted] = True
    chosen = np.flatnonzero(is_wanted[rings.labels])
    is_hole = _signed_areas(rings.vertices, rings.starts)[chosen] < 0
    labels = rings.labels[chosen]
    order = np.lexsort((is_hole, labels))
    vertices, starts = _arrange(rings.vertices, rings.starts, chosen[order], 1)
    column, row = vertices[:, 1].astype(np.float64), vertices[:, 0].astype(np.float64)
    # added up in the order in which GDAL does, to the last bit
    points = np.empty((len(vertices), 2))
    points[:, 0] = transform.c + column * transform.a + row * transform.b
    points[:, 1] = transform.f + column * transform.d + row * transform.e
    of_polygon = np.searchsorted(labels[order], wanted)
    offsets = (starts, np.append(of_polygon, len(order)))
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, offsets)
    members = groups[wanted]
    if (members == wanted).all():
        return polygons, wanted
    first, part_of, sizes = np.unique(members, return_inverse=True, return_counts=True)
    parts = np.argsort(part_of, kind="stable")
    whole = shapely.multipolygons(polygons[parts], indices=part_of[parts])
    single = sizes == 1
    whole[single] = shapely.get_geometry(whole[single], 0)
    return whole, first


@njit(cache=True, nogil=True)
def _signed_areas(vertices: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return twice the areas of rings in pixels, negative for holes."""
    areas = np.zeros(len(starts) - 1, np.int64)
    for ring in range(len(starts) - 1):
        before = starts[ring + 1] - 1
        for here in range(starts[ring], starts[ring + 1]):
            areas[ring] += np.int64(vertices[before, 1]) * vertices[here, 0]
            areas[ring] -= np.int64(vertices[here, 1]) * vertices[before, 0]
            before = here
    return areas


@njit(cache=True, nogil=True)
def _arrange(
    vertices: np.ndarray, starts: np.ndarray, order: np.ndarray, closing: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return some lines in some order, each with its first vertices again if `closing` is 1."""
    ends = np.zeros(len(order) + 1, np.int64)
    for place, line in enumerate(order):
        ends[place + 1] = ends[place] + starts[line + 1] - starts[line] + closing
    arranged = np.empty((ends[-1], 2), vertices.dtype)
    for place, line in enumerate(order):
        length = starts[line + 1] - starts[line]
        for k in range(length):
            arranged[ends[place] + k, 0] = vertices[starts[line] + k, 0]
            arranged[ends[place] + k, 1] = vertices[starts[line] + k, 1]
        if closing:
            arranged[ends[place] + length, 0] = vertices[starts[line], 0]
            arranged[ends[place] + length, 1] = vertices[starts[line], 1]
    return arranged, ends


@njit(cache=True, nogil=True)
def _count_links(
    codes: np.ndarray, labels: np.ndarray, count: int, sides: np.ndarray
) -> np.ndarray:
    """Count for each region the pixels of its code that touch it from outside the chunk."""
    links = np.zeros(count, np.int64)
    rows, columns = labels.shape
    for row in range(rows):
        step = 1 if row in (0, rows - 1) else max(columns - 1, 1)
        for column in range(0, columns, step):
            code = codes[row + 1, column + 1]
            if code == 0:
                continue
            for way in range(len(sides)):
                r, c = row + sides[way, 0], column + sides[way, 1]
                outside = r < 0 or c < 0 or r >= rows or c >= columns
                if outside and codes[r + 1, c + 1] == code:
                    links[labels[row, column]] += 1
    return links
