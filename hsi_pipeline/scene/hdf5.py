"""HDF5 files: safe handles, and windows of the cubes in them.

HDF5 is read with h5py, not GDAL, which takes the axes of such products for one another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import fsspec
import h5py
import numpy as np

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.windows import Key, read_key

_CHUNK_CACHE = 64 * 2**20  # of each dataset: neighbouring windows share chunks


@contextmanager
def hdf5_file(path: str, stamp: str) -> Iterator[h5py.File]:
    """Give an open file; whatever goes wrong with it inside is an `InputError`.

    Args:
        path: Full path, or what `Place.opened` returns.
        stamp: As `files.file_stamp`.

    Raises:
        InputError: The file cannot be opened, or what was tried with it failed.
    """
    try:
        yield _handle(path, stamp, os.getpid())
    except InputError:
        raise
    # h5py raises nearly anything over a damaged file.
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} cannot be read as HDF5, it is damaged, incomplete or of another kind ({said})"
        ) from error


@lru_cache(maxsize=64)
def _handle(path: str, stamp: str, process: int) -> h5py.File:
    """Return the handle of this process; h5py lets one thread read at a time."""
    if "://" not in path:
        return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE, rdcc_w0=1.0)
    return h5py.File(fsspec.open(path, "rb").open(), "r", rdcc_nbytes=_CHUNK_CACHE, rdcc_w0=1.0)


def attribute(owner: Any, name: str) -> Any:
    """Return an attribute as text, a number, or an array.

    Args:
        owner: File, group or dataset.
        name: Of the attribute.

    Raises:
        InputError: There is none.
    """
    if name not in owner.attrs:
        raise InputError(f"{owner.file.filename}: {owner.name} lacks the attribute {name!r}")
    value = owner.attrs[name]
    if isinstance(value, bytes | np.bytes_):
        return value.decode("utf-8", "replace").strip("\x00 ")
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return value


@dataclass(frozen=True)
class HdfPart:
    """A dataset that holds some of a scene's bands."""

    dataset: str
    """Its path in the file."""
    axes: str
    """Order of its axes, such as "ybx": rows, bands, columns."""
    bands: tuple[int, ...]
    """Which of its bands make the cube's, in the cube's order."""


@dataclass(frozen=True)
class HdfPixels:
    """Windows of one or several HDF5 datasets, joined along the bands; see `Pixels`."""

    path: str
    """Full path, or what `Place.opened` returns."""
    stamp: str
    """Changes when the file is written again."""
    parts: tuple[HdfPart, ...]
    """Datasets in the order of the cube's bands."""
    shape: tuple[int, int, int]
    """(band, y, x)."""
    dtype: np.dtype
    """Type of the digital numbers, in this machine's byte order."""

    @property
    def ndim(self) -> int:
        """Return 3."""
        return 3

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a window: unmasked digital numbers (band, y, x).

        Raises:
            InputError: The file is damaged or cut off, or its server failed.
        """
        return read_key(key, self.shape, self.dtype, self._read)

    def _read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        size = rows.stop - rows.start, columns.stop - columns.start
        window = np.empty((len(bands), *size), self.dtype)
        places = np.array(bands)
        first = 0
        with hdf5_file(self.path, self.stamp) as file:
            for part in self.parts:
                here = (places >= first) & (places < first + len(part.bands))
                if here.any():
                    stored = [part.bands[band - first] for band in places[here]]
                    window[here] = _read_part(file[part.dataset], part.axes, stored, rows, columns)
                first += len(part.bands)
        return window


def _read_part(
    dataset: h5py.Dataset, axes: str, bands: list[int], rows: slice, columns: slice
) -> np.ndarray:
    """Read a rectangle of a dataset as (band, y, x)."""
    low = min(bands)
    wanted = {"b": slice(low, max(bands) + 1), "y": rows, "x": columns}
    block = dataset[tuple(wanted[axis] for axis in axes)]
    block = block.transpose([axes.index(axis) for axis in "byx"])
    order = [band - low for band in bands]
    return block if order == list(range(len(block))) else block[order]
