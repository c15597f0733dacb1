"""ENVI images (BSQ, BIL, BIP): header by GDAL, pixels by memory map."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from rasterio.io import DatasetReader

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.band_table import in_nm, numbers, words
from hsi_pipeline.scene.files import check_file, file_stamp, full_path
from hsi_pipeline.scene.raster import check_pixel_type, open_raster, raster_grid
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.wavelengths import Wavelengths

_IMAGE_SUFFIXES = ("", ".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".bin", ".cube", ".envi")
# Files of these kinds may have a header of the same name beside them and are not read by it.
_OTHER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".nc", ".h5", ".he5", ".hdf", ".zarr")
# How each interleave stores its axes, and how to turn them to (band, y, x).
_STORED_AXES = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}
_TO_BAND_Y_X = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (2, 0, 1)}


def recognises(path: str) -> bool:
    """Tell whether a path is an ENVI header, or an image with an ENVI header beside it."""
    file = Path(path)
    if file.suffix.lower() == ".hdr":
        return True
    return file.suffix.lower() not in _OTHER_SUFFIXES and _has_header(file)


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what an ENVI image holds, without reading pixels.

    Args:
        path: The image, or its `.hdr`.
        pixel_coordinates: Permits a scene without georeference.

    Returns:
        The scene's source.

    Raises:
        InputError: Header or image is missing, they do not fit each other, the image is complex
            or compressed, or has no georeference.
    """
    check_file(path)
    image = _image_of(Path(path))
    with open_raster(full_path(str(image)), driver="ENVI") as raster:
        check_pixel_type(path, raster)
        header = raster.tags(ns="ENVI")
        count = raster.count
        scale, offset = _scale_offset(path, header, count)
        return SceneSource(
            path=path,
            pixels=_pixels(path, image, raster, header),
            grid=raster_grid(path, raster, pixel_coordinates=pixel_coordinates),
            block=(1, raster.width),
            wavelengths=_wavelengths(path, header, count),
            good=tuple(v != 0 for v in _list(path, header, "bbl", count) or (1.0,) * count),
            band_names=_band_names(header, count),
            scale=scale,
            offset=offset,
            nodata=_number(path, header, "data_ignore_value"),
            attrs=_attrs(image, header),
        )


@dataclass(frozen=True)
class EnviPixels:
    """Windows of an uncompressed binary image; see `Pixels`.

    The map is opened on first use in each process and shared by its threads: reading from it
    moves no file position.
    """

    path: str
    """Full path of the image."""
    shape: tuple[int, int, int]
    """(band, y, x)."""
    stored: np.dtype
    """Type in the file, with its byte order."""
    interleave: str
    """bsq, bil or bip."""
    header_bytes: int
    """Bytes before the first pixel."""
    stamp: str
    """Changes when the file is written again."""

    @property
    def dtype(self) -> np.dtype:
        """Return the type of the windows, in this machine's byte order."""
        return self.stored.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Return 3."""
        return len(self.shape)

    def __getitem__(self, key: tuple[slice | int, ...]) -> np.ndarray:
        """Read a window: digital numbers (band, y, x), contiguous.

        Raises:
            InputError: The file has gone, or has become shorter than its header says.
        """
        window = _map(self).transpose(_TO_BAND_Y_X[self.interleave])[key]
        return np.array(window, dtype=self.dtype, order="C")


@lru_cache(maxsize=128)  # a map keeps its file open; an archive must not use up the open files
def _map(pixels: EnviPixels) -> np.ndarray:
    """Return the image as stored."""
    shape = tuple(pixels.shape[axis] for axis in _STORED_AXES[pixels.interleave])
    try:
        return np.memmap(pixels.path, pixels.stored, "r", pixels.header_bytes, shape)
    except (OSError, ValueError) as error:
        raise InputError(f"{pixels.path}: pixels cannot be read ({error})") from error


def _has_header(image: Path) -> bool:
    """Tell whether an ENVI header stands beside an image: `scene.hdr` or `scene.img.hdr`."""
    stems = (str(image.with_suffix("")), str(image)) if image.name else ()
    return any(_is_header(Path(stem + end)) for stem in stems for end in (".hdr", ".HDR"))


def _is_header(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(4) == b"ENVI"


def _image_of(file: Path) -> Path:
    """Return the image that belongs to a header; an image is returned as it is."""
    if file.suffix.lower() != ".hdr":
        return file
    if not _is_header(file):
        raise InputError(f"{file} is not an ENVI header: its first line is not ENVI")
    stem = file.with_suffix("")
    names = {f"{stem}{end}" for suffix in _IMAGE_SUFFIXES for end in (suffix, suffix.upper())}
    images = sorted(name for name in names if os.path.isfile(name))
    if len(images) != 1:
        found = f"several ({', '.join(images)}); give the image itself" if images else "none"
        raise InputError(f"{file} needs one image of the same name beside it, found {found}")
    return Path(images[0])


def _pixels(path: str, image: Path, raster: DatasetReader, header: dict[str, str]) -> EnviPixels:
    interleave = header.get("interleave", "").lower()
    if interleave not in _STORED_AXES:
        raise InputError(f"{path}: interleave is {interleave!r}; expected bsq, bil or bip")
    if header.get("file_compression", "0").strip() == "1":
        raise InputError(f"{path} is compressed (file compression = 1); write it uncompressed")
    byte_order = _number(path, header, "byte_order") or 0
    if byte_order not in (0, 1):
        raise InputError(f"{path}: byte order is {byte_order:g}; expected 0 or 1")
    pixels = EnviPixels(
        path=full_path(str(image)),
        shape=(raster.count, raster.height, raster.width),
        stored=np.dtype(raster.dtypes[0]).newbyteorder(">" if byte_order == 1 else "<"),
        interleave=interleave,
        header_bytes=int(_number(path, header, "header_offset") or 0),
        stamp=file_stamp(str(image)),
    )
    needed = pixels.header_bytes + math.prod(pixels.shape) * pixels.stored.itemsize
    found = image.stat().st_size
    if found < needed:
        raise InputError(
            f"{image} is shorter than its header says: {found} bytes, expected {needed}; "
            "copy it again or correct the header"
        )
    return pixels


def _list(path: str, header: dict[str, str], name: str, count: int) -> tuple[float, ...]:
    """Return a list of numbers, one per band, or nothing where the header has none."""
    if not (text := header.get(name)):
        return ()
    field = name.replace("_", " ")
    try:
        values = numbers(text)
    except ValueError as error:
        raise InputError(f"{path}: {field} is not a list of numbers ({error})") from error
    if len(values) != count:
        raise InputError(f"{path}: {field} has {len(values)} values for {count} bands")
    return values


def _number(path: str, header: dict[str, str], name: str) -> float | None:
    """Return a number, None where the header has none."""
    if not (text := header.get(name, "").strip(" {}")):
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path}: {name.replace('_', ' ')} is not a number: {text}") from None


def _wavelengths(path: str, header: dict[str, str], count: int) -> Wavelengths | None:
    centers = _list(path, header, "wavelength", count)
    if not centers:
        return None
    try:
        return in_nm(centers, _list(path, header, "fwhm", count), header.get("wavelength_units"))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _scale_offset(
    path: str, header: dict[str, str], count: int
) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Return scale and offset to reflectance.

    The reflectance scale factor wins over gains, which may lead to radiance instead.
    """
    factor = _number(path, header, "reflectance_scale_factor")
    if factor is not None:
        if not factor > 0:
            raise InputError(f"{path}: reflectance scale factor is {factor:g}, not positive")
        return 1.0 / factor, 0.0
    for kind in ("data_reflectance", "data"):
        gains = _list(path, header, f"{kind}_gain_values", count)
        offsets = _list(path, header, f"{kind}_offset_values", count)
        if gains or offsets:
            return _one_or_each(gains or (1.0,)), _one_or_each(offsets or (0.0,))
    return 1.0, 0.0


def _one_or_each(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(set(values)) == 1 else values


def _band_names(header: dict[str, str], count: int) -> tuple[str, ...]:
    names = words(header.get("band_names", ""))
    # A name may hold a comma; then the list cannot be split.
    return names if len(names) == count else tuple(f"band {i}" for i in range(1, count + 1))


def _attrs(image: Path, header: dict[str, str]) -> dict[str, str]:
    # Only a known suffix is dropped: in "flight_2.1" the name of the scene has a dot.
    known = image.suffix.lower() in _IMAGE_SUFFIXES
    attrs = {"scene_id": image.stem if known else image.name}
    if acquired := header.get("acquisition_time", "").strip(" {}"):
        attrs["acquired"] = acquired
    return attrs
