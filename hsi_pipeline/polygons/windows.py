"""A class map cut into windows, and work on them in order, side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from hsi_pipeline.cube import read_window
from hsi_pipeline.errors import InputError

CHUNK = 1024
"""Side of a chunk unless the user says otherwise."""
THREADS = 2
"""Threads that outline chunks unless the caller brings others."""
_WORKERS = 16  # of a cluster that are kept busy


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


class Frontier:
    """What chunks still to come will touch: pixels at the lower and right edges of those done."""

    def __init__(self, width: int, connectivity: int) -> None:
        """Begin at the top of a raster of so many columns."""
        self._shifts = (0, -1, 1) if connectivity == 8 else (0,)
        # the row above and that below the present row of chunks; one pixel more at either end
        self._above, self._below = (np.zeros((2, width + 2), np.int64) for _ in range(2))
        self._left = np.zeros((2, 0), np.int64)

    def meet(
        self, edges: dict[str, np.ndarray], columns: slice
    ) -> list[tuple[np.ndarray, np.ndarray, int | None]]:
        """Return the pixels of the next chunk, row by row of chunks, and those that they face.

        Args:
            edges: Numbers and codes (2, pixel) at the "top", "bottom", "left" and "right" edge.
            columns: Columns of the chunk.

        Returns:
            Numbers and codes (2, pixel) of its own and of the others, and how they face: 0 by
            sides along rows, 1 by sides along columns, None at corners.
        """
        if columns.start == 0:
            self._above, self._below = self._below, np.zeros_like(self._above)
        facing: list[tuple[np.ndarray, np.ndarray, int | None]] = []
        for shift in self._shifts:
            part = slice(columns.start + 1 + shift, columns.stop + 1 + shift)
            facing.append((edges["top"], self._above[:, part], None if shift else 0))
        height = edges["left"].shape[1]
        for shift in self._shifts if columns.start > 0 else ():
            own = slice(max(shift, 0), height + min(shift, 0))
            others = slice(max(-shift, 0), height + min(-shift, 0))
            facing.append((edges["left"][:, own], self._left[:, others], None if shift else 1))
        self._below[:, columns.start + 1 : columns.stop + 1] = edges["bottom"]
        self._left = edges["right"]
        return facing
