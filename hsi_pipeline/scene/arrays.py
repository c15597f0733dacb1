"""Arrays without georeference: MATLAB `.mat` and NumPy `.npy` files of benchmark scenes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.io

from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import check_file, file_stamp, full_path, one_line
from hsi_pipeline.scene.source import SceneSource

_SUFFIXES = (".mat", ".npy")
_REAL_KINDS = "iufb"


def recognises(path: str) -> bool:
    """Tell whether a path names a `.mat` or `.npy` file."""
    return Path(path).suffix.lower() in _SUFFIXES


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what an array file holds.

    Pixels of a `.npy` file are read on demand; a `.mat` file is compressed and read whole, once
    in each process.

    Args:
        path: File with a single array of axes row, column, band.
        pixel_coordinates: Must be True, since such files have no georeference.

    Returns:
        The scene's source, without wavelengths.

    Raises:
        InputError: The file is missing or no such file, holds no array or several, or
            `pixel_coordinates` is False.
    """
    check_file(path)
    if not pixel_coordinates:
        raise InputError(
            f"{path}: arrays have no CRS; convert the scene to a georeferenced file "
            "or work in pixel coordinates with --pixel-coordinates"
        )
    array = _array(full_path(path), 3, file_stamp(path))
    rows, columns, bands = array.shape
    return SceneSource(
        path=path,
        pixels=ArrayPixels(
            full_path(path),
            (bands, rows, columns),
            array.dtype.newbyteorder("="),
            file_stamp(path),
        ),
        grid=pixel_grid(rows, columns),
        block=(1, columns),
        wavelengths=None,
        good=(True,) * bands,
        band_names=tuple(f"band {i}" for i in range(1, bands + 1)),
        attrs={"scene_id": Path(path).stem},
    )


def read_array(path: str | Path, ndim: int) -> np.ndarray:
    """Read the only array of a `.mat` or `.npy` file that has so many axes.

    Args:
        path: The file.
        ndim: 2 for labels (row, column), 3 for scenes (row, column, band).

    Returns:
        The array, as stored; read-only.

    Raises:
        InputError: Says which arrays the file holds instead.
    """
    check_file(str(path))
    return _array(full_path(str(path)), ndim, file_stamp(str(path)))


@dataclass(frozen=True)
class ArrayPixels:
    """Windows of an array with axes row, column, band; see `Pixels`."""

    path: str
    """Full path of the file."""
    shape: tuple[int, int, int]
    """(band, y, x)."""
    dtype: np.dtype
    """Type of the digital numbers."""
    stamp: str
    """Changes when the file is written again."""

    @property
    def ndim(self) -> int:
        """Return 3."""
        return len(self.shape)

    def __getitem__(self, key: tuple[slice | int, ...]) -> np.ndarray:
        """Read a window: digital numbers (band, y, x), contiguous."""
        window = _array(self.path, 3, self.stamp).transpose(2, 0, 1)[key]
        return np.array(window, dtype=self.dtype, order="C")


@lru_cache(maxsize=4)  # few, since those of .mat files are held in memory
def _array(path: str, ndim: int, stamp: str) -> np.ndarray:
    load = _load_npy if Path(path).suffix.lower() == ".npy" else _load_mat
    arrays = load(path)
    fitting = [name for name, array in arrays.items() if array.ndim == ndim]
    if len(fitting) != 1:
        held = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(
            f"{path}: expected one array with {ndim} axes, found {len(fitting)}; "
            f"the file holds {held or 'no arrays of real numbers'}"
        )
    array = arrays[fitting[0]]
    array.flags.writeable = False
    return array


def _load_npy(path: str) -> dict[str, np.ndarray]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy has Python's own parser read the header
        raise InputError(f"{path} cannot be read as a .npy array: {one_line(error)}") from error
    if array.dtype.kind not in _REAL_KINDS:
        raise InputError(f"{path} holds {array.dtype}; expected integers or floats")
    return {"the array": array}


def _load_mat(path: str) -> dict[str, np.ndarray]:
    try:
        contents = scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise InputError(
            f"{path} is a MATLAB v7.3 (HDF5) file; save it with '-v7' or as .npy"
        ) from error
    except Exception as error:  # scipy raises whatever its parser stumbles over
        raise InputError(f"{path} cannot be read as a .mat file: {one_line(error)}") from error
    return {
        name: array
        for name, array in contents.items()
        if not name.startswith("__")
        and isinstance(array, np.ndarray)
        and array.dtype.kind in "iufb"
    }
