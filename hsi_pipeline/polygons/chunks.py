"""One chunk of a class map -> the pieces of regions that it holds.

Everything here is about one chunk and depends on nothing but its pixels and one pixel around.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from numba import njit

from hsi_pipeline.polygons.outlines import Lines, Outlines, trace
from hsi_pipeline.polygons.regions import count_pixels, joined_at_corners, label, sum_shares
from hsi_pipeline.polygons.simplifying import Simplification, simplify
from hsi_pipeline.polygons.windows import Window

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


class Pieces(NamedTuple):
    """The parts of regions in a chunk that reach into others, by their numbers in the chunk."""

    totals: Totals
    """Row n - 1 is that of piece n."""
    links: np.ndarray
    """int64: how many sides (and corners) each piece shares with pixels of its code outside."""
    groups: np.ndarray
    """int64: first piece that each hangs together with within the chunk, corners included."""
    outlines: Outlines
    edges: dict[str, tuple[np.ndarray, np.ndarray]]
    """Number of the piece of each pixel, 0 where there is none, and the codes, at the "top",
    "bottom", "left" and "right" edge."""


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
        edges[name] = numbers[labels[where]], codes[where].copy()
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
