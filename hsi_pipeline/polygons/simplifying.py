"""Outlines of a chunk -> simpler and smoother ones that still fit together.

An arc is a part of an outline between two fixed vertices: where three regions meet, and on the
edge of the chunk. Both neighbours of an arc follow it, from either end, and find the same line:
what goes depends on triangles, their areas and corners, never on the direction. So no neighbour
need be at hand, nor another chunk.

A vertex goes only if the triangle with its neighbours holds no vertex of any outline as it was
before (of the arc itself: as it is now). Then no two lines can come to cross: two that did would
bound an area with a vertex of one of them, which its own arc, or the other, has not swept. The
same holds for the corners that are cut.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numba import njit

from hsi_pipeline.polygons.outlines import Lines, Outlines, room

PARTS = 16
"""Smoothed outlines have vertices in parts of a pixel: two rounds of cutting at quarters."""

_NONE, _TURN, _FIXED = 0, 1, 2


@dataclass(frozen=True)
class Simplification:
    """How to simplify outlines."""

    pixels: float
    """A vertex goes if the triangle with its neighbours has no more than this area, in pixels.
    Method of Visvalingam and Whyatt (1993), doi:10.1179/000870493786962263."""
    smooth: bool
    """Cut the corners that are left. Method of Chaikin (1974), doi:10.1016/0146-664X(74)90028-8."""


def simplify(
    outlines: Outlines, codes: np.ndarray, origin: tuple[int, int], width: int, how: Simplification
) -> Outlines:
    """Simplify the outlines of a chunk.

    Args:
        outlines: As `outlines.trace` gives them with `nodes`.
        codes: uint8 (y + 2, x + 2), the chunk with its halo.
        origin: Row and column of the chunk's first pixel.
        width: Columns of the whole raster.
        how: How.

    Returns:
        The outlines, their vertices in `PARTS` of a pixel.
    """
    kinds = _kinds(codes)
    rings, chains = outlines.rings, outlines.chains
    corner = np.array(origin, np.int32)
    side, heading = np.divmod(outlines.first, 4)
    # where each chain begins; the vertex is listed by the one that arrives there
    begins = (
        np.column_stack(np.divmod(side, width))
        + np.array([[0, 0], [0, 1], [1, 1], [1, 0]])[heading]
    )
    lines = (
        (chains.vertices - corner, chains.starts, (begins - corner).astype(np.int32)),
        (rings.vertices - corner, rings.starts, np.zeros((0, 2), np.int32)),
    )
    pairs = np.concatenate([_arc_ends(*line, kinds) for line in lines])
    # arcs that two neighbours follow are one; several with the same ends must stay apart
    pairs = np.unique(pairs)
    ends, counts = np.unique(pairs // 4, return_counts=True)
    shared = ends[counts > 1]
    none = np.zeros(len(rings.vertices), bool)
    done = [
        _simplify_lines(*line, touches, kinds, shared, 2 * how.pixels, how.smooth)
        for line, touches in zip(lines, (outlines.touches, none), strict=True)
    ]
    new = [
        Lines(vertices + corner * PARTS, starts, old.labels)
        for (vertices, starts, _), old in zip(done, (chains, rings), strict=True)
    ]
    return outlines._replace(chains=new[0], rings=new[1], touches=done[0][2])


@njit(cache=True, nogil=True)
def _kinds(codes: np.ndarray) -> np.ndarray:
    """Return what outlines do at each pixel corner (y + 1, x + 1) of a chunk."""
    rows, columns = codes.shape[0] - 1, codes.shape[1] - 1
    kinds = np.zeros((rows, columns), np.uint8)
    for row in range(rows):
        for column in range(columns):
            a, b = codes[row, column], codes[row, column + 1]
            c, d = codes[row + 1, column], codes[row + 1, column + 1]
            sides = int(a != b) + int(c != d) + int(a != c) + int(b != d)
            if sides == 0:
                continue
            at_edge = row in (0, rows - 1) or column in (0, columns - 1)
            if sides > 2 or at_edge:
                kinds[row, column] = _FIXED
            elif not ((a == b and c == d) or (a == c and b == d)):
                kinds[row, column] = _TURN
    return kinds


@njit(cache=True, nogil=True)
def _as_path(
    vertices: np.ndarray, start: int, stop: int, begins: np.ndarray, line: int, kinds: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return a line from a fixed vertex to a fixed one, and how far a ring was turned for that.

    A ring without fixed vertices comes back as it is, closed with its first vertex.
    """
    count = stop - start
    path = np.empty((count + 1, 2), np.int32)
    if len(begins):
        path[0] = begins[line]
        path[1:] = vertices[start:stop]
        return path, 0
    turn = 0
    for k in range(count):
        if kinds[vertices[start + k, 0], vertices[start + k, 1]] == _FIXED:
            turn = k
            break
    for k in range(count + 1):
        path[k] = vertices[start + (turn + k) % count]
    return path, turn


@njit(cache=True, nogil=True)
def _arc_ends(
    vertices: np.ndarray, starts: np.ndarray, begins: np.ndarray, kinds: np.ndarray
) -> np.ndarray:
    """Return a number for each arc: of its two ends, and the way it leaves the first of them."""
    width = np.int64(kinds.shape[1])
    size = width * kinds.shape[0]
    found = np.empty(1024, np.int64)
    count = 0
    for line in range(len(starts) - 1):
        path, _ = _as_path(vertices, starts[line], starts[line + 1], begins, line, kinds)
        if kinds[path[0, 0], path[0, 1]] != _FIXED:
            continue
        first = 0
        for k in range(1, len(path)):
            if kinds[path[k, 0], path[k, 1]] != _FIXED:
                continue
            one, other = path[first, 0] * width + path[first, 1], path[k, 0] * width + path[k, 1]
            if one <= other:
                step_row = path[first + 1, 0] - path[first, 0]
                step_column = path[first + 1, 1] - path[first, 1]
            else:
                one, other = other, one
                step_row = path[k - 1, 0] - path[k, 0]
                step_column = path[k - 1, 1] - path[k, 1]
            way = 0 if step_row < 0 else 1 if step_row > 0 else 2 if step_column < 0 else 3
            found = room(found, count + 1)
            found[count] = (one * size + other) * 4 + way
            count += 1
            first = k
    return found[:count]


@njit(cache=True, nogil=True)
def _simplify_lines(
    vertices: np.ndarray,
    starts: np.ndarray,
    begins: np.ndarray,
    touches: np.ndarray,
    kinds: np.ndarray,
    shared: np.ndarray,
    limit: float,
    smooth: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simplify lines, arc by arc.

    Args:
        vertices: int32 (vertex, 2) from the chunk's first corner.
        starts: Where lines begin, and the end of the last.
        begins: int32 (line, 2): the vertex before the first of each; none if the lines are rings.
        touches: bool (vertex): where a region may touch itself; such vertices are fixed.
        kinds: As `_kinds`.
        shared: Ends of arcs that several have, sorted, as `_arc_ends` numbers them.
        limit: Twice the largest area of a triangle.
        smooth: Whether to cut corners.

    Returns:
        Vertices in `PARTS`, starts, and where the region may touch itself.
    """
    size = np.int64(kinds.shape[0]) * kinds.shape[1]
    # which arc each vertex belongs to: its number while there, minus that when gone
    owner = np.zeros(kinds.shape, np.int32)
    arc = 0
    out, marks = np.empty((1024, 2), np.int32), np.zeros(1024, np.bool_)
    out_starts = np.zeros(len(starts), np.int64)
    end = 0
    for line in range(len(starts) - 1):
        start, stop = starts[line], starts[line + 1]
        path, turn = _as_path(vertices, start, stop, begins, line, kinds)
        is_ring = len(begins) == 0
        loose = is_ring and kinds[path[0, 0], path[0, 1]] != _FIXED
        first = 0
        for k in range(1, len(path)):
            if kinds[path[k, 0], path[k, 1]] != _FIXED and k < len(path) - 1:
                continue
            arc += 1
            points = path[first : k + 1]
            one = np.int64(points[0, 0]) * kinds.shape[1] + points[0, 1]
            other = np.int64(points[-1, 0]) * kinds.shape[1] + points[-1, 1]
            pair = min(one, other) * size + max(one, other)
            place = np.searchsorted(shared, pair)
            if loose:
                keep = 3  # and the first, which may go as well as any: four corners
            elif one == other:
                keep = 2
            elif _on_one_edge(points[0], points[-1], kinds) or (
                place < len(shared) and shared[place] == pair
            ):
                keep = 1
            else:
                keep = 0
            new = _simplify_arc(points, loose, keep, limit, smooth, kinds, owner, arc)
            out, marks = room(out, end + len(new)), room(marks, end + len(new))
            for j in range(len(new)):
                out[end + j] = new[j]
                marks[end + j] = False
            end += len(new)
            if not loose:  # the last vertex is fixed, and as it was
                at = start + (turn + k) % (stop - start) if is_ring else start + k - 1
                marks[end - 1] = touches[at]
            first = k
        out_starts[line + 1] = end
    return out[:end], out_starts, marks[:end]


@njit(cache=True, nogil=True)
def _on_one_edge(one: np.ndarray, other: np.ndarray, kinds: np.ndarray) -> bool:
    """Tell whether both ends of an arc lie on one edge of the chunk, which others may follow."""
    for axis in range(2):
        if one[axis] == other[axis] and one[axis] in (0, kinds.shape[axis] - 1):
            return True
    return False


@njit(cache=True, nogil=True)
def _simplify_arc(
    points: np.ndarray,
    loose: bool,
    keep: int,
    limit: float,
    smooth: bool,
    kinds: np.ndarray,
    owner: np.ndarray,
    arc: int,
) -> np.ndarray:
    """Simplify an arc.

    Args:
        points: int32 (vertex, 2), both ends included; the same twice for a ring.
        loose: Whether no vertex is fixed: the arc is a whole ring.
        keep: Least number of vertices between the ends.
        limit: Twice the largest area of a triangle.
        smooth: Whether to cut corners.
        kinds: As `_kinds`.
        owner: int32 (y + 1, x + 1), numbers of arcs.
        arc: Number of this one.

    Returns:
        int32 (vertex, 2) in `PARTS`, without the first end.
    """
    count = len(points)
    last = count - 1
    before, after = np.arange(-1, last), np.arange(1, count + 1)
    if loose:  # the last is the first again
        before[0], after[last - 1] = last - 1, 0
    inner = range(last) if loose else range(1, last)
    for k in inner:
        owner[points[k, 0], points[k, 1]] = arc
    heap = [_entry(0, points, 0, 0, 0)]
    heap.pop()
    left = len(inner) - (1 if loose else 0)
    for k in inner:
        area = _doubled_area(points[before[k]], points[k], points[after[k]])
        if area <= limit and left > keep:
            heapq.heappush(heap, _entry(area, points, k, before[k], after[k]))
    while len(heap) and left > keep:
        _, _, _, k, was_before, was_after = heapq.heappop(heap)
        at = (points[k, 0], points[k, 1])
        a, c = before[k], after[k]
        if owner[at] != arc or a != was_before or c != was_after:
            continue
        if _blocked(points[a], points[k], points[c], kinds, owner, arc):
            continue
        owner[at] = -arc
        after[a], before[c] = c, a
        left -= 1
        for n in (a, c):
            if not loose and (n == 0 or n == last):
                continue
            area = _doubled_area(points[before[n]], points[n], points[after[n]])
            if area <= limit:
                heapq.heappush(heap, _entry(area, points, n, before[n], after[n]))
    kept = np.empty((left + 2 + (1 if loose else 0), 2), np.int32)
    total = 0
    k = 0
    if loose:
        while owner[points[k, 0], points[k, 1]] != arc:
            k += 1
    first = k
    while True:
        kept[total] = points[k]
        total += 1
        k = after[k]
        if (loose and k == first) or (not loose and k == count):
            break
    if loose:
        kept[total] = kept[0]
        total += 1
    kept = kept[:total]
    if not smooth:
        return (kept[1:] * PARTS).astype(np.int32)
    return _cut_corners(kept, loose, kinds, owner, arc)


@njit(cache=True, nogil=True)
def _cut_corners(
    points: np.ndarray, loose: bool, kinds: np.ndarray, owner: np.ndarray, arc: int
) -> np.ndarray:
    """Put two points in place of each corner, a quarter along its sides, twice."""
    count = len(points)
    cut = np.zeros(count, np.bool_)
    for k in range(1, count if loose else count - 1):
        a, b, c = points[k - 1], points[k], points[(k + 1) if k < count - 1 else 1]
        cut[k] = not _blocked(b * 1.0, (a + b) / 2, (b + c) / 2, kinds, owner, arc)
    cut[0] = cut[count - 1]
    line, corners = points, cut
    for _ in range(2):
        new = np.empty((2 * len(line), 2), np.int32)
        new_corners = np.zeros(2 * len(line), np.bool_)
        total = 0
        for k in range(len(line)):
            if not corners[k]:
                new[total] = 4 * line[k]
                total += 1
                continue
            # in a ring whose first vertex is cut, the first point is the last one again
            if k > 0:
                new[total] = 3 * line[k] + line[k - 1]
                new_corners[total] = True
                total += 1
            if k < len(line) - 1:
                new[total] = 3 * line[k] + line[k + 1]
                new_corners[total] = True
                total += 1
        if loose and corners[0]:
            new[total] = new[0]
            new_corners[total] = True
            total += 1
        line, corners = new[:total], new_corners[:total]
    return line[1:]


@njit(cache=True, nogil=True)
def _entry(area: int, points: np.ndarray, k: int, before: int, after: int) -> tuple[np.int64, ...]:
    """Return what the order of vertices goes by: area and place, not where the arc begins."""
    return (
        np.int64(area), np.int64(points[k, 0]), np.int64(points[k, 1]),
        np.int64(k), np.int64(before), np.int64(after),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _doubled_area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> int:
    rows, columns = np.int64(b[0]) - a[0], np.int64(b[1]) - a[1]
    return abs(rows * (np.int64(c[1]) - a[1]) - columns * (np.int64(c[0]) - a[0]))


@njit(cache=True, nogil=True)
def _blocked(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, kinds: np.ndarray, owner: np.ndarray, arc: int
) -> bool:
    """Tell whether a triangle, its sides included, holds a vertex other than its corners."""
    low, high = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
    for row in range(int(np.ceil(low)), int(np.floor(high)) + 1):
        left, right = np.inf, -np.inf
        for one, other in ((a, b), (b, c), (c, a)):
            if (one[0] - row) * (other[0] - row) > 0:
                continue
            if one[0] == other[0]:
                left, right = min(left, one[1], other[1]), max(right, one[1], other[1])
                continue
            column = one[1] + (row - one[0]) * (other[1] - one[1]) / (other[0] - one[0])
            left, right = min(left, column), max(right, column)
        for column in range(int(np.ceil(left - 1e-6)), int(np.floor(right + 1e-6)) + 1):
            if kinds[row, column] == _NONE or owner[row, column] == -arc:
                continue
            if not (
                (row == a[0] and column == a[1])
                or (row == b[0] and column == b[1])
                or (row == c[0] and column == c[1])
            ):
                return True
    return False
