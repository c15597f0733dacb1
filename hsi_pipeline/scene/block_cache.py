"""Decoded blocks of a file, kept for the next window that needs them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from hsi_pipeline.scene.source import SceneSource

MAX_BYTES = 512 * 2**20


class BlockCache:
    """Pixels read by whole blocks, the latest ones kept: for many small windows.

    GDAL's own cache keeps blocks band by band, so that a window of 224 bands costs 224 look-ups
    and copies; here it costs one for each block it touches.
    """

    def __init__(self, source: SceneSource, max_bytes: int = MAX_BYTES) -> None:
        """Wrap a source; nothing is read.

        Args:
            source: The scene.
            max_bytes: Memory for blocks, in bytes; one block is always kept.
        """
        self._pixels = source.pixels
        self._block = source.block
        block_bytes = int(np.prod([*source.block, source.pixels.shape[0]])) * self.dtype.itemsize
        self._kept = max(max_bytes // block_bytes, 1)
        self._blocks: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """(band, y, x)."""
        return self._pixels.shape

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    @property
    def dtype(self) -> np.dtype:
        """Type of the digital numbers."""
        return self._pixels.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """Return a window (band, y, x); slices with start and stop inside the scene, step 1."""
        bands, rows, columns = key
        height, width = self._block
        window = np.empty(
            (len(range(*bands.indices(self.shape[0]))), rows.stop - rows.start,
             columns.stop - columns.start), self.dtype,
        )  # fmt: skip
        for i in range(rows.start // height, -(-rows.stop // height)):
            for j in range(columns.start // width, -(-columns.stop // width)):
                top, left = i * height, j * width
                r = slice(max(rows.start, top), min(rows.stop, top + height))
                c = slice(max(columns.start, left), min(columns.stop, left + width))
                window[
                    :, r.start - rows.start : r.stop - rows.start,
                    c.start - columns.start : c.stop - columns.start,
                ] = self._read(i, j)[bands, r.start - top : r.stop - top,
                                     c.start - left : c.stop - left]  # fmt: skip
        return window

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the blocks and the lock."""
        return {"_pixels": self._pixels, "_block": self._block, "_kept": self._kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with an empty cache."""
        self.__dict__.update(state, _blocks=OrderedDict(), _lock=threading.Lock())

    def _read(self, i: int, j: int) -> np.ndarray:
        """Return a block with all bands (band, y, x), from memory if it is there."""
        with self._lock:
            block = self._blocks.get((i, j))
            if block is not None:
                self._blocks.move_to_end((i, j))
                return block
        (height, width), (_, rows, columns) = self._block, self.shape
        r = slice(i * height, min((i + 1) * height, rows))
        c = slice(j * width, min((j + 1) * width, columns))
        block = self._pixels[slice(None), r, c]
        with self._lock:
            self._blocks[i, j] = block
            while len(self._blocks) > self._kept:
                self._blocks.popitem(last=False)
        return block


def cached(source: SceneSource) -> BlockCache | Any:
    """Return a scene's pixels for many small windows.

    Line-interleaved files are mapped into memory and need no cache; nor are blocks kept that
    would fill it alone.
    """
    block_bytes = int(np.prod([*source.block, source.pixels.shape[0]]))
    block_bytes *= source.pixels.dtype.itemsize
    mapped = source.block[0] == 1
    return source.pixels if mapped or block_bytes > MAX_BYTES // 4 else BlockCache(source)
