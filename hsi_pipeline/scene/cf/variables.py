"""Variables of netCDF-4 files and Zarr stores, undecoded and with the same face.

netCDF-4 is HDF5 and is read as such, see `hdf5`. Its dimensions are HDF5's
dimension scales, after the NetCDF-4 file format specification (docs.unidata.ucar.edu).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h5py
import numpy as np
import zarr

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.cf.zarr_store import (
    ZarrPixels,
    check_consolidated,
    is_zarr,
    open_group,
    watch_chunks,
    zarr_errors,
)
from hsi_pipeline.scene.files import file_stamp, full_path, is_remote
from hsi_pipeline.scene.hdf5 import HdfPart, HdfPixels, hdf5_file
from hsi_pipeline.scene.source import Pixels
from hsi_pipeline.scene.windows import Key, read_key

_NO_COORDINATE = "_nc4_non_coord_"  # before variables that are no coordinate of their dimension
_HIDDEN = ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid",
           "_Netcdf4Coordinates", "_nc3_strict", "_NCProperties")  # fmt: skip
_MOST_VALUES = 2**24  # of a coordinate, which are read whole
_MOST_BYTES = 2**28


@dataclass(frozen=True)
class Variable:
    """An array of a file and what the file says about it."""

    name: str
    """Its name."""
    dims: tuple[str, ...]
    """Names of its dimensions."""
    shape: tuple[int, ...]
    """Their sizes."""
    dtype: np.dtype
    """Type of the numbers, in this machine's byte order."""
    attrs: Mapping[str, Any]
    """Attributes: texts, numbers and lists; `_FillValue` among them."""
    chunks: tuple[int, ...] | None
    """Shape of what is compressed together, None where nothing is."""
    fetch: Callable[[], np.ndarray] = field(repr=False, compare=False)
    """Reads all of it."""

    def values(self) -> np.ndarray:
        """Read a coordinate whole.

        Raises:
            InputError: It is far larger than any coordinate.
        """
        values = np.prod(self.shape, dtype=float)
        if values > _MOST_VALUES or values * self.dtype.itemsize > _MOST_BYTES:
            raise InputError(f"the coordinate {self.name} has shape {self.shape}, it is none")
        return self.fetch()


@dataclass(frozen=True)
class Variables:
    """All variables of a file or store."""

    attrs: Mapping[str, Any]
    """Its own attributes."""
    by_name: Mapping[str, Variable]
    """The variables."""
    pixels: Callable[[Variable, str], Pixels]
    """Makes lazy pixels of a variable, given the order of its axes, such as "yxb" or "yx"."""


@contextmanager
def open_variables(path: str) -> Iterator[Variables]:
    """Open a netCDF-4 file or a Zarr store.

    Args:
        path: File, folder or address.

    Yields:
        Its variables; their values can be read while the block runs, their pixels after it too.

    Raises:
        InputError: It cannot be read; whatever goes wrong in the block is one, too.
    """
    if is_zarr(path):
        with zarr_errors(path):
            yield _of_zarr(path)
        return
    file, stamp = full_path(path), file_stamp(path)
    with hdf5_file(file, stamp) as opened:
        yield _of_netcdf(opened, file, stamp)


def _of_netcdf(file: h5py.File, path: str, stamp: str) -> Variables:
    found = {}
    for name, dataset in file.items():
        if not isinstance(dataset, h5py.Dataset) or _is_bare_dimension(dataset):
            continue
        plain = name.removeprefix(_NO_COORDINATE)
        attrs = {key: _plain(v) for key, v in dataset.attrs.items() if key not in _HIDDEN}
        found[plain] = Variable(
            plain,
            _dims(name, dataset),
            dataset.shape,
            dataset.dtype.newbyteorder("="),
            attrs,
            dataset.chunks,
            partial(dataset.__getitem__, ()),
        )

    def pixels(variable: Variable, axes: str) -> Pixels:
        name = variable.name
        shape = _band_y_x(variable, axes)
        stored = _NO_COORDINATE + name if _NO_COORDINATE + name in file else name
        part = HdfPart(stored, axes, tuple(range(shape[0])))
        return HdfPixels(path, stamp, (part,), shape, variable.dtype)

    attrs = {key: _plain(value) for key, value in file.attrs.items() if key not in _HIDDEN}
    return Variables(attrs, found, pixels)


def _dims(name: str, dataset: h5py.Dataset) -> tuple[str, ...]:
    """Return the names of a dataset's dimensions, made up where it has none."""
    if h5py.h5ds.is_scale(dataset.id) and dataset.ndim == 1:
        return (name,)
    scales = [dimension.values() for dimension in dataset.dims]
    return tuple(
        found[0].name.rpartition("/")[2] if found else f"{name} {i}"
        for i, found in enumerate(scales)
    )


def _is_bare_dimension(dataset: h5py.Dataset) -> bool:
    """Tell whether a dataset stands for a dimension alone: its numbers mean nothing."""
    said = dataset.attrs.get("NAME", b"")
    return isinstance(said, bytes) and said.startswith(b"This is a netCDF dimension but not")


def _of_zarr(path: str) -> Variables:
    place, stamp = full_path(path), file_stamp(path)
    group = open_group(place)
    arrays = dict(group.arrays())
    if not is_remote(path):
        check_consolidated(path, group, arrays)
    watch_chunks(group, arrays)
    found = {name: _zarr_variable(name, array) for name, array in arrays.items()}

    def pixels(variable: Variable, axes: str) -> Pixels:
        shape = _band_y_x(variable, axes)
        return ZarrPixels(place, stamp, variable.name, axes, shape, variable.dtype)

    return Variables({k: _plain(v) for k, v in group.attrs.asdict().items()}, found, pixels)


def _zarr_variable(name: str, array: zarr.Array) -> Variable:
    attrs = {key: _plain(value) for key, value in array.attrs.asdict().items()}
    names = getattr(array.metadata, "dimension_names", None) or attrs.pop("_ARRAY_DIMENSIONS", None)
    dims = tuple(map(str, names or ())) or tuple(f"{name} {i}" for i in range(array.ndim))
    if len(dims) != array.ndim:
        raise InputError(f"{name} has {array.ndim} dimensions but {len(dims)} names of them")
    # By version 2, what was never written is a fill value and so are pixels that equal it.
    if array.metadata.zarr_format == 2 and array.fill_value is not None:
        attrs.setdefault("_FillValue", _plain(array.fill_value))
    if isinstance(attrs.get("_FillValue"), str) and array.dtype.kind == "f":
        attrs["_FillValue"] = _float_of(attrs["_FillValue"])
    return Variable(
        name, dims, array.shape, _native(array.dtype), attrs, array.chunks,
        lambda: np.asarray(array[...]),
    )  # fmt: skip


@dataclass(frozen=True)
class FlippedPixels:
    """Pixels with the last row first, the last column first, or both; see `Pixels`."""

    pixels: Pixels
    """As stored."""
    flip_y: bool
    """Whether rows are reversed."""
    flip_x: bool
    """Whether columns are reversed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(band, y, x)."""
        return self.pixels.shape

    @property
    def ndim(self) -> int:
        """Return 3."""
        return 3

    @property
    def dtype(self) -> np.dtype:
        """Type of the digital numbers."""
        return self.pixels.dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a window."""
        return read_key(key, self.shape, self.dtype, self._read)

    def _read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        _, height, width = self.shape
        if self.flip_y:
            rows = slice(height - rows.stop, height - rows.start)
        if self.flip_x:
            columns = slice(width - columns.stop, width - columns.start)
        low = min(bands)
        window = self.pixels[low : max(bands) + 1, rows, columns]
        window = window[:, :: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.ascontiguousarray(window[[band - low for band in bands]])


def _float_of(text: str) -> float:
    """Return a float as xarray writes it to JSON: its bytes in base64, or "NaN"."""
    try:
        return float(text)
    except ValueError:
        return float(struct.unpack("<d", base64.b64decode(text, validate=True))[0])


def _band_y_x(variable: Variable, axes: str) -> tuple[int, int, int]:
    sizes = {"b": 1, **dict(zip(axes, variable.shape, strict=True))}
    return sizes["b"], sizes["y"], sizes["x"]


def _native(dtype: Any) -> np.dtype:
    """Return a type in this machine's byte order; texts of any length are objects."""
    return np.dtype(object) if dtype is str else np.dtype(dtype).newbyteorder("=")


def _plain(value: Any) -> Any:
    """Return an attribute as text, number, list or dict."""
    if isinstance(value, bytes | np.bytes_):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _plain(value.reshape(-1)[0]) if value.size == 1 else [_plain(v) for v in value.flat]
    return value
