"""Codes of a chunk -> its regions: connected pixels of equal code, and what is known of each.

Compiled, and free of Python's lock, so that threads work side by side.
"""

from __future__ import annotations

import numpy as np
from numba import njit

STEPS = 2.0**24
"""Confidences and probabilities are summed in steps of 1 / STEPS, the spacing of float32 below 1:
sums of whole numbers are the same in every order, hence for every chunk size."""


@njit(cache=True, nogil=True)
def _root(parent: np.ndarray, member: int) -> int:
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member


@njit(cache=True, nogil=True)
def label(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the 4-connected regions of equal code.

    Args:
        codes: uint8 (y, x), 0 belongs to no region.

    Returns:
        int32 (y, x): regions from 1 in the order of their first pixels, row by row, 0 where the
        code is 0; and the code of each, with 0 at position 0.
    """
    rows, columns = codes.shape
    labels = np.zeros((rows, columns), np.int32)
    parent = np.empty(rows * columns + 1, np.int32)
    count = 0
    for row in range(rows):
        for column in range(columns):
            code = codes[row, column]
            if code == 0:
                continue
            up = row > 0 and codes[row - 1, column] == code
            left = column > 0 and codes[row, column - 1] == code
            if left:
                number = labels[row, column - 1]
                # where the pixel to the upper left is of the region too, both are known to be one
                if up and codes[row - 1, column - 1] != code:
                    one, other = _root(parent, number), _root(parent, labels[row - 1, column])
                    parent[max(one, other)] = min(one, other)
            elif up:
                number = labels[row - 1, column]
            else:
                count += 1
                parent[count] = count
                number = count
            labels[row, column] = number
    # the smaller number is always the root, so that roots come in the order of first pixels
    found = np.zeros(count + 1, np.uint8)
    total = 0
    for number in range(1, count + 1):
        if parent[number] == number:
            total += 1
            parent[number] = total
        else:
            parent[number] = parent[parent[number]]
    for row in range(rows):
        for column in range(columns):
            if labels[row, column]:
                number = parent[labels[row, column]]
                labels[row, column] = number
                found[number] = codes[row, column]
    return labels, found[: total + 1]


@njit(cache=True, nogil=True)
def joined_at_corners(labels: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return for each region the first one that it hangs together with, corners included.

    Args:
        labels: As `label` returns them.
        codes: uint8 (y, x) of the same pixels.
    """
    rows, columns = labels.shape
    parent = np.arange(labels.max() + 1)
    for row in range(1, rows):
        for column in range(columns):
            code = codes[row, column]
            if code == 0:
                continue
            for side in (column - 1, column + 1):
                if 0 <= side < columns and codes[row - 1, side] == code:
                    one = _root(parent, labels[row, column])
                    other = _root(parent, labels[row - 1, side])
                    parent[max(one, other)] = min(one, other)
    for number in range(len(parent)):
        parent[number] = _root(parent, number)
    return parent


@njit(cache=True, nogil=True)
def count_pixels(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of pixels of each of `count` regions, and the flat index of its first."""
    pixels = np.zeros(count, np.int64)
    first = np.full(count, -1, np.int64)
    rows, columns = labels.shape
    for row in range(rows):
        for column in range(columns):
            number = labels[row, column]
            if pixels[number] == 0:
                first[number] = row * columns + column
            pixels[number] += 1
    return pixels, first


@njit(cache=True, nogil=True)
def sum_shares(
    labels: np.ndarray, shares: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum numbers between 0 and 1 over the pixels of each region, leaving out NaN.

    Args:
        labels: As `label` returns them.
        shares: float32 (y, x).
        count: Number of regions, 0 included.

    Returns:
        Sums in steps of 1 / `STEPS` (int64), numbers of pixels that are not NaN, and minima (NaN
        where there are none).
    """
    sums, known = np.zeros(count, np.int64), np.zeros(count, np.int64)
    minima = np.full(count, np.nan, np.float32)
    rows, columns = labels.shape
    for row in range(rows):
        for column in range(columns):
            value = shares[row, column]
            if np.isnan(value):
                continue
            number = labels[row, column]
            sums[number] += np.int64(np.rint(value * STEPS))
            known[number] += 1
            if not minima[number] <= value:
                minima[number] = value
    return sums, known, minima


@njit(cache=True, nogil=True)
def borders(labels: np.ndarray, corners: bool) -> np.ndarray:
    """Return where the pixels of two regions meet.

    Args:
        labels: As `label` returns them.
        corners: Whether pixels that touch at a corner meet.

    Returns:
        int32 (meeting, 3): the smaller number, the larger one, and 0 for a side along a row (one
        pixel above the other), 1 for a side along a column, 2 for a corner; each pair as often as
        it meets.
    """
    rows, columns = labels.shape
    found = np.empty((1024, 3), np.int32)
    count = 0
    for row in range(rows):
        for column in range(columns):
            own = labels[row, column]
            if own == 0:
                continue
            for way, down, right in ((0, 1, 0), (1, 0, 1), (2, 1, -1), (2, 1, 1)):
                if way == 2 and not corners:
                    break
                if row + down == rows or not 0 <= column + right < columns:
                    continue
                other = labels[row + down, column + right]
                if other == 0 or other == own:
                    continue
                if count == len(found):
                    larger = np.empty((2 * count, 3), np.int32)
                    larger[:count] = found
                    found = larger
                found[count, 0] = min(own, other)
                found[count, 1] = max(own, other)
                found[count, 2] = way
                count += 1
    return found[:count]
