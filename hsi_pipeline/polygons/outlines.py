"""Codes of a chunk -> the outlines of its regions, in whole rings or in chains to be linked.

An outline is followed side by side with the region on its right; each side of a pixel belongs to
the chunk of that pixel. Where the region goes on in another chunk, so does its outline: the chain
ends, and names the side that comes next. Chains of all chunks link to the rings that the whole
raster would have given.

A region may touch itself at a corner. A ring that passes there keeps to its pixel, so it comes by
twice, and is parted in two at that corner: this gives simple rings, outer ones and holes, that
touch at points only, as valid polygons have them. It needs no knowledge of other chunks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

# headings: 0 east along the upper side of a pixel, 1 south, 2 west, 3 north
_ROW_STEP = (0, 1, 0, -1)
_COLUMN_STEP = (1, 0, -1, 0)
# the corner where a side ends, from the upper left corner of its pixel
_END_ROW = (0, 1, 1, 0)
_END_COLUMN = (1, 1, 0, 0)


class Lines(NamedTuple):
    """Polylines one after another."""

    vertices: np.ndarray
    """int32 (vertex, 2): row and column of pixel corners in the whole raster."""
    starts: np.ndarray
    """int64 (line + 1): where each line begins in `vertices`, and the end of the last."""
    labels: np.ndarray
    """int32 (line): the region on its right."""


class Outlines(NamedTuple):
    """The outlines of the regions of a chunk."""

    rings: Lines
    """Closed (without repeating the first vertex), simple; outer ones run clockwise on screen,
    holes the other way."""
    chains: Lines
    """Parts of rings that leave the chunk. A vertex is listed by the chain that arrives there."""
    touches: np.ndarray
    """bool (vertex of chains): whether the region may touch itself there."""
    first: np.ndarray
    """int64 (chain): number of its first side."""
    following: np.ndarray
    """int64 (chain): number of the side that comes after its last."""


@njit(cache=True, nogil=True)
def _next(codes: np.ndarray, row: int, column: int, heading: int) -> tuple[int, int, int]:
    """Return the side after a side; rows and columns count the halo."""
    code = codes[row, column]
    ahead_row, ahead_column = row + _ROW_STEP[heading], column + _COLUMN_STEP[heading]
    if codes[ahead_row, ahead_column] != code:
        return row, column, (heading + 1) % 4
    left = (heading + 3) % 4
    side_row, side_column = ahead_row + _ROW_STEP[left], ahead_column + _COLUMN_STEP[left]
    if codes[side_row, side_column] != code:
        return ahead_row, ahead_column, heading
    return side_row, side_column, left


@njit(cache=True, nogil=True)
def _comes_from_outside(codes: np.ndarray, row: int, column: int, heading: int) -> bool:
    """Tell whether the side before a side belongs to a pixel of the halo."""
    code = codes[row, column]
    behind_row, behind_column = row - _ROW_STEP[heading], column - _COLUMN_STEP[heading]
    if codes[behind_row, behind_column] != code:
        return False
    left = (heading + 3) % 4
    side_row, side_column = behind_row + _ROW_STEP[left], behind_column + _COLUMN_STEP[left]
    if codes[side_row, side_column] == code:
        return _in_halo(codes, side_row, side_column)
    return _in_halo(codes, behind_row, behind_column)


@njit(cache=True, nogil=True)
def _in_halo(codes: np.ndarray, row: int, column: int) -> bool:
    rows, columns = codes.shape
    return row == 0 or column == 0 or row == rows - 1 or column == columns - 1


@njit(cache=True, nogil=True)
def _is_vertex(
    codes: np.ndarray, row: int, column: int, heading: int, turns: bool, nodes: bool
) -> tuple[bool, bool]:
    """Tell whether the end of a side is listed, and whether the region may touch itself there."""
    left = (heading + 3) % 4
    side_row = row + _ROW_STEP[heading] + _ROW_STEP[left]
    side_column = column + _COLUMN_STEP[heading] + _COLUMN_STEP[left]
    side = codes[side_row, side_column]
    if turns:
        code = codes[row, column]
        ahead = codes[row + _ROW_STEP[heading], column + _COLUMN_STEP[heading]]
        return True, ahead != code and side == code
    # straight on: a vertex only of the others, if two meet on the left
    return nodes and side != codes[row + _ROW_STEP[left], column + _COLUMN_STEP[left]], False


@njit(cache=True, nogil=True)
def room(array: np.ndarray, need: int) -> np.ndarray:
    """Return the array, or one with more rows that begins with the same."""
    if need <= len(array):
        return array
    larger = np.empty((max(2 * len(array), need), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True)
def _trace_chains(
    codes: np.ndarray,
    labels: np.ndarray,
    origin: tuple[int, int],
    width: int,
    nodes: bool,
    done: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Follow the outlines that enter the chunk until they leave it.

    Takes what `trace` does, and `done`: bool (y, x), to be set where an upper side was passed.

    Returns:
        Vertices, where the region may touch itself, starts, and for each chain its label and the
        numbers of its first side and of the side that follows.
    """
    rows, columns = labels.shape
    base = np.int64(origin[0] - 1) * width + origin[1] - 1  # of the halo's first pixel
    vertices, touches = np.empty((256, 2), np.int32), np.empty(256, np.bool_)
    starts, about = np.zeros(64, np.int64), np.empty((64, 3), np.int64)
    count = end = 0
    for row in range(1, rows + 1):
        step = 1 if row in (1, rows) else max(columns - 1, 1)
        for column in range(1, columns + 1, step):
            code = codes[row, column]
            if code == 0:
                continue
            for heading in range(4):
                beside = (heading + 3) % 4
                if codes[row + _ROW_STEP[beside], column + _COLUMN_STEP[beside]] == code:
                    continue
                if not _comes_from_outside(codes, row, column, heading):
                    continue
                starts, about = room(starts, count + 2), room(about, count + 1)
                about[count, 0] = labels[row - 1, column - 1]
                about[count, 1] = (base + row * width + column) * 4 + heading
                r, c, d = row, column, heading
                while not _in_halo(codes, r, c):
                    if d == 0:
                        done[r - 1, c - 1] = True
                    r2, c2, d2 = _next(codes, r, c, d)
                    listed, may_touch = _is_vertex(codes, r, c, d, d2 != d, nodes)
                    if listed or (nodes and _in_halo(codes, r2, c2)):
                        vertices, touches = room(vertices, end + 1), room(touches, end + 1)
                        vertices[end, 0] = origin[0] + r - 1 + _END_ROW[d]
                        vertices[end, 1] = origin[1] + c - 1 + _END_COLUMN[d]
                        touches[end] = may_touch
                        end += 1
                    r, c, d = r2, c2, d2
                about[count, 2] = (base + r * width + c) * 4 + d
                count += 1
                starts[count] = end
    return vertices[:end], touches[:end], starts[: count + 1], about[:count]


@njit(cache=True, nogil=True)
def _trace_rings(
    codes: np.ndarray,
    labels: np.ndarray,
    origin: tuple[int, int],
    nodes: bool,
    done: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow the outlines that stay in the chunk: each has an upper side that is not done."""
    rows, columns = labels.shape
    vertices, starts = np.empty((1024, 2), np.int32), np.zeros(256, np.int64)
    of_label = np.empty(256, np.int32)
    count = end = 0
    # the ring at hand, and where in it a corner stands that it may touch twice
    ring, marked = np.empty((256, 2), np.int32), np.empty(256, np.bool_)
    place = np.full((rows + 1, columns + 1), -1, np.int32)
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            code = codes[row, column]
            if done[row - 1, column - 1] or code == 0 or codes[row - 1, column] == code:
                continue
            length = 0
            r, c, d = row, column, 0
            at_end = False
            while not at_end:
                if d == 0:
                    done[r - 1, c - 1] = True
                r2, c2, d2 = _next(codes, r, c, d)
                listed, may_touch = _is_vertex(codes, r, c, d, d2 != d, nodes)
                at_row, at_column = r - 1 + _END_ROW[d], c - 1 + _END_COLUMN[d]
                r, c, d = r2, c2, d2
                at_end = r == row and c == column and d == 0
                before = place[at_row, at_column] if may_touch else -1
                if listed and before < 0:
                    ring, marked = room(ring, length + 1), room(marked, length + 1)
                    ring[length, 0], ring[length, 1] = at_row, at_column
                    marked[length] = may_touch
                    if may_touch:
                        place[at_row, at_column] = length
                    length += 1
                # a ring is complete at its end, and where it came by before: then it is what lies
                # between, and the one at hand goes on from there
                for part in range(2):
                    if part == 0 and before >= 0:
                        first, kept = before, before + 1
                    elif part == 1 and at_end:
                        first, kept = 0, 0
                    else:
                        continue
                    vertices = room(vertices, end + length - first)
                    starts, of_label = room(starts, count + 2), room(of_label, count + 1)
                    for k in range(first, length):
                        vertices[end, 0] = origin[0] + ring[k, 0]
                        vertices[end, 1] = origin[1] + ring[k, 1]
                        end += 1
                        if k >= kept and marked[k]:
                            place[ring[k, 0], ring[k, 1]] = -1
                    of_label[count] = labels[row - 1, column - 1]
                    count += 1
                    starts[count] = end
                    length = kept
    return vertices[:end], starts[: count + 1], of_label[:count]


def trace(
    codes: np.ndarray, labels: np.ndarray, origin: tuple[int, int], width: int, *, nodes: bool
) -> Outlines:
    """Follow the outlines of the regions of a chunk.

    Args:
        codes: uint8 (y + 2, x + 2): the chunk with a halo of one pixel, 0 outside the raster.
        labels: int32 (y, x): regions of the chunk, as `regions.label` numbers them.
        origin: Row and column of the chunk's first pixel in the whole raster.
        width: Columns of the whole raster.
        nodes: List vertices too where an outline goes straight on: where two other regions meet
            beside it, and where it leaves the chunk. Neighbours share whole sides then.
    """
    done = np.zeros(labels.shape, bool)
    vertices, touches, starts, about = _trace_chains(codes, labels, origin, width, nodes, done)
    chains = Lines(vertices, starts, about[:, 0])
    rings = Lines(*_trace_rings(codes, labels, origin, nodes, done))
    return Outlines(rings, chains, touches, about[:, 1], about[:, 2])


def part_ring(vertices: np.ndarray, touches: np.ndarray) -> list[np.ndarray]:
    """Part a ring that touches itself, as `trace` does.

    Args:
        vertices: (vertex, 2), closed without repeating the first.
        touches: Where it may touch itself.

    Returns:
        Simple rings.
    """
    spots = np.flatnonzero(touches)
    keys = [tuple(vertex) for vertex in vertices[spots].tolist()]
    if len(set(keys)) == len(keys):
        return [vertices]
    parts: list[np.ndarray] = []
    stack: list[int] = []  # indices of vertices that belong to the ring at hand
    place: dict[tuple[int, int], int] = {}
    key_at = dict(zip(spots.tolist(), keys, strict=True))
    for index in range(len(vertices)):
        key = key_at.get(index)
        if key is not None and key in place:
            inner = stack[place[key] :]
            for gone in inner[1:]:
                if gone in key_at:
                    place.pop(key_at[gone], None)
            parts.append(vertices[inner])
            del stack[place[key] + 1 :]
        else:
            if key is not None:
                place[key] = len(stack)
            stack.append(index)
    parts.append(vertices[stack])
    return parts
