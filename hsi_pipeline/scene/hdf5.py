"""HDF5 files: safe handles, and windows of the cubes in them.

HDF5 is read with h5py, not GDAL, which takes the axes of such products for one another.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import fsspec
import h5py
import numpy as np

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.band_table import PLAUSIBLE_NM, in_nm
from hsi_pipeline.scene.files import one_line, shown, what_it_is
from hsi_pipeline.scene.hdf5_heap import check_heaps
from hsi_pipeline.scene.windows import Key, copy_pixels, read_key
from hsi_pipeline.wavelengths import Wavelengths

_CHUNK_CACHE = 64 * 2**20  # of each dataset: neighbouring windows share chunks
_MOST_HANDLES = 64
_MOST_BYTES = 16 * 2**20  # of a list or text, which are read whole
_MOST_DATASETS = 8  # kept open, each with its cache
_handles: dict[tuple[str, int], tuple[str, h5py.File, Any]] = {}  # by path and process


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
        known = "" if "://" in path or h5py.is_hdf5(path) else what_it_is(path)
        if "://" in path and not isinstance(error, OSError | KeyError):
            raise InputError(f"{shown(path)} cannot be read ({one_line(error)})") from error
        if isinstance(error, FileNotFoundError | PermissionError | ConnectionError):
            raise InputError(f"{shown(path)} cannot be reached ({one_line(error)})") from error
        why = known or f"is damaged, incomplete or of another kind ({said})"
        raise InputError(f"{path} cannot be read as HDF5, it {why}") from error


def _handle(path: str, stamp: str, process: int) -> h5py.File:
    """Return the handle of this process; h5py lets one thread read at a time.

    Handles of what the file was before are closed first: HDF5 would share them, and then fills
    what a file that has become shorter lacks with zeros, without a word.
    """
    known = _handles.get((path, process))
    if known is not None and known[0] == stamp and known[1]:
        return known[1]
    for key, (made, file, _) in list(_handles.items()):
        if key[0] == path and made != stamp:
            _handles.pop(key, None)
            file.close()
    for key in list(_handles)[: max(len(_handles) - _MOST_HANDLES + 1, 0)]:
        _handles.pop(key, None)  # not closed, another thread may be reading
    if "://" not in path:
        check_heaps(path)
    # What fsspec opened is kept with the handle: an archive closes when nothing refers to it.
    source = None if "://" not in path else fsspec.open(path, "rb")
    stream = path if source is None else source.open()
    file = h5py.File(stream, "r", rdcc_nbytes=_CHUNK_CACHE, rdcc_w0=1.0)
    _check_self_contained(file, path)
    _handles[path, process] = stamp, file, source
    return file


def _check_self_contained(file: h5py.File, path: str) -> None:
    """Refuse a file that takes its contents from others: HDF5 would read any file of the machine.

    Raises:
        InputError: It has an external link, or a dataset that is stored elsewhere.
    """

    def elsewhere(name: str, link: Any) -> str | None:
        if isinstance(link, h5py.ExternalLink):
            return f"{name} is a link to another file"
        found = file[name] if isinstance(link, h5py.HardLink) else None
        if isinstance(found, h5py.Dataset) and (
            found.is_virtual or found.id.get_create_plist().get_external_count()
        ):
            return f"{name} is stored in another file"
        return None

    found = file.visititems_links(elsewhere)  # stops at the first that says something
    if found:
        raise InputError(f"{path}: {found}; products hold all of their contents")


def small(dataset: h5py.Dataset) -> Any:
    """Return all of a dataset that is a list or a text.

    Raises:
        InputError: It is larger than any.
    """
    if dataset.size * max(dataset.dtype.itemsize, 1) > _MOST_BYTES:
        raise InputError(
            f"{file_name(dataset)}: {dataset.name} has {dataset.size} values of "
            f"{dataset.dtype.itemsize} bytes, which no such list has; the file is damaged"
        )
    return dataset[()]


def open_dataset(path: str, stamp: str, name: str) -> h5py.Dataset:
    """Return a dataset that stays open, and with it the chunks that it has decompressed.

    Args:
        path: As for `hdf5_file`, within which this is called.
        stamp: Likewise.
        name: Path of the dataset in the file.
    """
    found = _dataset(path, stamp, name, os.getpid())
    if not found:  # its file was closed meanwhile
        _dataset.cache_clear()
        found = _dataset(path, stamp, name, os.getpid())
    return found


@lru_cache(maxsize=_MOST_DATASETS)
def _dataset(path: str, stamp: str, name: str, process: int) -> h5py.Dataset:
    return _handle(path, stamp, process)[name]


def file_name(owner: Any) -> str:
    """Return how messages call the file of a group or dataset, or an open file itself.

    h5py itself calls one inside an archive by the repr of a Python object.
    """
    known = (path for (path, _), (_, file, _) in list(_handles.items()) if file == owner.file)
    return next(known, owner.file.filename)


def attribute(owner: Any, name: str) -> Any:
    """Return an attribute as text, a number, or an array.

    Args:
        owner: File, group or dataset.
        name: Of the attribute.

    Raises:
        InputError: There is none.
    """
    if name not in owner.attrs:
        raise InputError(f"{file_name(owner)}: {owner.name} lacks the attribute {name!r}")
    value = owner.attrs[name]
    if isinstance(value, bytes | np.bytes_):
        return value.decode("utf-8", "replace").strip("\x00 ")
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return value


def number(owner: Any, name: str) -> float:
    """Return an attribute that is one finite number, or a text of one.

    Args:
        owner: File, group or dataset.
        name: Of the attribute.

    Raises:
        InputError: There is none, or it is something else.
    """
    value = attribute(owner, name)
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"{file_name(owner)}: the attribute {name!r} is {value}, not a number")
    return found


def dataset_of(file: h5py.File, name: str, dimensions: int, types: Sequence[str]) -> h5py.Dataset:
    """Return a dataset after a look at what it holds.

    Args:
        file: The open file.
        name: Path of the dataset.
        dimensions: How many it must have.
        types: Types it may have, such as "<u2".

    Raises:
        InputError: There is none, or it is not of that kind.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{file_name(file)} lacks the dataset {name}; download the product again")
    if found.ndim != dimensions or 0 in found.shape or found.dtype not in map(np.dtype, types):
        raise InputError(
            f"{file_name(file)}: {name} is {found.dtype.str} of shape {found.shape}, expected "
            f"{dimensions} dimensions of {' or '.join(types)}; the file is damaged"
        )
    return found


def stored_block(dataset: h5py.Dataset, axes: str) -> tuple[int, int]:
    """Return the rows and columns that a dataset stores together: a chunk's, or a row.

    Args:
        dataset: With or without chunks.
        axes: As in `HdfPart`.
    """
    rows, columns = axes.index("y"), axes.index("x")
    if dataset.chunks is None:
        return 1, int(dataset.shape[columns])
    return int(dataset.chunks[rows]), int(dataset.chunks[columns])


def spectrum(
    path: str, centers: Sequence[float], widths: Sequence[float], unit: str | None
) -> Wavelengths:
    """Return the band positions of one detector after a look at whether they can be true.

    Args:
        path: The product, for messages.
        centers: One per band.
        widths: Full widths at half maximum in the same unit, one per band or none at all.
        unit: As for `to_nm`.

    Raises:
        InputError: The unit is not known, or a value is not plausible: outside what imaging
            spectrometers measure, out of order, or a width that no band has.
    """
    try:
        found = in_nm([float(c) for c in centers], [float(w) for w in widths], unit)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if found is None:
        raise InputError(f"{path}: its wavelengths (unit {unit!r}) are none; it is damaged")
    center_nm = np.array(found.center_nm)
    steps = np.diff(center_nm)
    low, high = PLAUSIBLE_NM
    if not ((center_nm >= low) & (center_nm <= high)).all():
        raise InputError(f"{path}: wavelengths beyond {low:g} to {high:g} nm; it is damaged")
    if not ((steps > 0).all() or (steps < 0).all()):
        raise InputError(f"{path}: the wavelengths of a detector are out of order; it is damaged")
    if len(widths):
        width_nm = np.array([math.nan if w is None else w for w in found.fwhm_nm])
        usual = float(np.median(width_nm))  # the widths of a detector change slowly
        if not (0.1 < usual < 200 and ((width_nm > usual / 3) & (width_nm < usual * 3)).all()):
            raise InputError(f"{path}: a band width (fwhm) is not plausible; it is damaged")
    return found


@dataclass(frozen=True)
class HdfPart:
    """A dataset that holds some of a scene's bands."""

    dataset: str
    """Its path in the file."""
    axes: str
    """Order of its axes, such as "ybx": rows, bands, columns; "yx" for a plane, a single band."""
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
        return read_key(key, self.shape, self.dtype, self.read)

    def read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        """Read a rectangle of some bands, in the order given (band, y, x)."""
        size = rows.stop - rows.start, columns.stop - columns.start
        window = np.empty((len(bands), *size), self.dtype)
        places = np.array(bands)
        first = 0
        with hdf5_file(self.path, self.stamp):
            for part in self.parts:
                here = np.flatnonzero((places >= first) & (places < first + len(part.bands)))
                if here.size:
                    stored = [part.bands[band - first] for band in places[here]]
                    dataset = open_dataset(self.path, self.stamp, part.dataset)
                    block = _read_part(dataset, part.axes, stored, rows, columns)
                    if here[-1] - here[0] + 1 == here.size:
                        copy_pixels(window[here[0] : here[-1] + 1], block)
                    else:
                        window[here] = block
                first += len(part.bands)
        return window


def _read_part(
    dataset: h5py.Dataset, axes: str, bands: list[int], rows: slice, columns: slice
) -> np.ndarray:
    """Read a rectangle of a dataset as (band, y, x)."""
    low = min(bands)
    wanted = {"b": slice(low, max(bands) + 1), "y": rows, "x": columns}
    block = dataset[tuple(wanted[axis] for axis in axes)]
    if "b" not in axes:
        block, axes = block[None], "b" + axes
    block = block.transpose([axes.index(axis) for axis in "byx"])
    order = [band - low for band in bands]
    return block if order == list(range(len(block))) else block[order]
