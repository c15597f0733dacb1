"""Images as the sensor saw them, put on a map grid by a lookup table, window by window.

A geometric lookup table (GLT) holds for each pixel of the map grid the row and column of the
image whose value it gets. Nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import h5py
import numpy as np

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.hdf5 import hdf5_file, open_dataset
from hsi_pipeline.scene.windows import Key, read_key

_TILE_BYTES = 16 * 2**20
_TILE_SIDE = 128  # rows and columns read together where the file has no chunks
_UNWRITTEN = -9999  # the fill value of the tables: a chunk that was never written


@dataclass(frozen=True)
class LookupTable:
    """Which pixel of an image each pixel of a map grid shows, 1-based; 0 where it shows none.

    Some versions of such tables have negative numbers where a gap was filled with its nearest
    neighbour: the number without its sign is the pixel.
    """

    path: str
    """File of the table: full path, or what `Place.opened` returns."""
    stamp: str
    """Changes when the file is written again."""
    rows: str
    """Dataset of image rows (y, x), integers."""
    columns: str
    """Dataset of image columns (y, x), integers."""
    shape: tuple[int, int]
    """(y, x) of the map grid."""
    image: tuple[int, int]
    """Rows and columns of the image."""

    def read(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read a window of the table.

        Args:
            rows: Of the map grid, with start and stop inside it.
            columns: Likewise.

        Returns:
            The pixels of the window that show one of the image, as numbers that count along its
            rows, and the zero-based row and column of the image for each of them.

        Raises:
            InputError: The file cannot be read, or the table points outside the image.
        """
        with hdf5_file(self.path, self.stamp) as file:
            found = [file[name][rows, columns].reshape(-1) for name in (self.rows, self.columns)]
        empty = [(numbers == 0) | (numbers == _UNWRITTEN) for numbers in found]
        places = np.flatnonzero(~empty[0])
        row, column = (np.abs(numbers[places].astype(np.int64)) - 1 for numbers in found)
        height, width = self.image
        if (empty[0] != empty[1]).any() or (row >= height).any() or (column >= width).any():
            raise InputError(
                f"{self.path}: its lookup table ({self.rows}, {self.columns}) points outside the "
                f"image of {height} rows and {width} columns, in rows {rows.start} to "
                f"{rows.stop - 1} of the map; the product is damaged, download it again"
            )
        return places, row, column


@dataclass(frozen=True)
class LookupPixels:
    """Windows of an HDF5 image (row, column, band) on the grid of a lookup table; see `Pixels`.

    Of the image, only tiles with pixels of the window are read, one after the other: a window
    needs memory for itself and 16 MB, wherever its pixels lie in the image.
    """

    path: str
    """File of the image: full path, or what `Place.opened` returns."""
    stamp: str
    """Changes when the file is written again."""
    dataset: str
    """Image in the file, (row, column, band)."""
    table: LookupTable
    """Where its pixels belong."""
    bands: int
    """Of the image."""
    dtype: np.dtype
    """Type of the digital numbers, in this machine's byte order."""
    nodata: float
    """Digital number of pixels that show nothing of the image."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(band, y, x)."""
        return self.bands, *self.table.shape

    @property
    def ndim(self) -> int:
        """Return 3."""
        return 3

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a window: unmasked digital numbers (band, y, x).

        Raises:
            InputError: The file is damaged or cut off, its server failed, or the table points
                outside the image.
        """
        return read_key(key, self.shape, self.dtype, self._read)

    def _read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        window = np.full((len(bands), height * width), self.nodata, self.dtype)
        places, row, column = self.table.read(rows, columns)
        low = min(bands)
        order = [band - low for band in bands]
        with hdf5_file(self.path, self.stamp):
            dataset = open_dataset(self.path, self.stamp, self.dataset)
            for chosen in _by_tile(row, column, *_tile(dataset)):
                top, left = int(row[chosen].min()), int(column[chosen].min())
                bottom, right = int(row[chosen].max()) + 1, int(column[chosen].max()) + 1
                box = dataset[top:bottom, left:right, low : max(bands) + 1]
                spectra = box[row[chosen] - top, column[chosen] - left]
                if order != list(range(spectra.shape[1])):
                    spectra = spectra[:, order]
                for run in _runs(places[chosen]):
                    start = places[chosen[run.start]]
                    window[:, start : start + run.stop - run.start] = spectra[run].T
        return window.reshape(len(bands), height, width)


def _tile(dataset: h5py.Dataset) -> tuple[int, int]:
    """Return rows and columns to read together: whole chunks if memory allows."""
    height, width = dataset.chunks[:2] if dataset.chunks else (_TILE_SIDE, _TILE_SIDE)
    pixel_bytes = dataset.shape[2] * dataset.dtype.itemsize
    while height * width * pixel_bytes > _TILE_BYTES and max(height, width) > 1:
        height, width = (-(-height // 2), width) if height >= width else (height, -(-width // 2))
    return int(height), int(width)


def _by_tile(row: np.ndarray, column: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    """Yield the pixels of each tile of the image, as positions in the two arrays."""
    if not row.size:
        return
    across = int(column.max()) // width + 1
    tile = row // height * across + column // width
    order = np.argsort(tile, kind="stable")
    starts = np.flatnonzero(np.diff(tile[order], prepend=-1))
    yield from np.split(order, starts[1:])


def _runs(places: np.ndarray) -> Iterator[slice]:
    """Yield the slices of ascending numbers that follow each other without a gap.

    Spectra turn into bands a run at a time, which fits the processor's cache.
    """
    ends = [*(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    starts = [0, *ends[:-1]]
    yield from map(slice, starts, ends)
