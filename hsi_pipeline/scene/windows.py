"""Turning what is asked of a lazy array into a rectangle of bands, rows and columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Key = tuple[slice | int, ...]
ReadRectangle = Callable[[list[int], slice, slice], np.ndarray]


def read_key(key: Key, shape: tuple[int, ...], dtype: np.dtype, read: ReadRectangle) -> np.ndarray:
    """Read what a key asks of a (band, y, x) array, by rectangles.

    Args:
        key: Slices of (band, y, x), with any step, or numbers, which drop their dimension: Dask
            fuses both into the read.
        shape: (band, y, x) of the whole array.
        dtype: Its type.
        read: Given zero-based bands in any order, rows and columns (slices with start and stop
            inside the array, never empty), returns that rectangle (band, y, x).

    Returns:
        Digital numbers with the dimensions that the key leaves.
    """
    ranges = [_range(part, size) for part, size in zip(key, shape, strict=True)]
    if all(ranges):
        bands, rows, columns = ranges
        window = read(list(bands), _around(rows), _around(columns))
        pixels = window[:, *(slice(None, None, r.step) for r in (rows, columns))]
    else:
        pixels = np.empty([len(r) for r in ranges], dtype)
    return pixels[tuple(slice(None) if isinstance(part, slice) else 0 for part in key)]


def _range(part: slice | int, size: int) -> range:
    return range(size)[part] if isinstance(part, slice) else range(part, part + 1)


def _around(numbers: range) -> slice:
    return slice(min(numbers), max(numbers) + 1)


def copy_pixels(window: np.ndarray, stored: np.ndarray) -> None:
    """Copy a window (band, y, x) whose bands may lie next to each other in memory.

    Row by row, since a row of all bands fits the processor's cache: NumPy's own order would fetch
    each line of memory anew for every few bands, which takes up to nine times as long.

    Args:
        window: Receives the pixels.
        stored: Of the same shape, with strides of any order.
    """
    if abs(stored.strides[0]) < abs(stored.strides[2]):
        for row in range(stored.shape[1]):
            window[:, row] = stored[:, row]
    else:
        window[...] = stored
