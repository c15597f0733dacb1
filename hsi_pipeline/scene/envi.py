"""ENVI images (BSQ, BIL, BIP): header by GDAL, pixels by memory map.

Those in archives and behind addresses are read by GDAL.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rasterio.io import DatasetReader

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.band_table import good_bands, wavelengths_from_tags
from hsi_pipeline.scene.envi_header import EnviHeader, kept_back
from hsi_pipeline.scene.files import check_file, file_stamp
from hsi_pipeline.scene.geotiff import GdalPixels, layout_advice
from hsi_pipeline.scene.places import Place
from hsi_pipeline.scene.raster import check_pixel_type, open_raster, raster_grid
from hsi_pipeline.scene.raster_files import envi_header, envi_image, is_envi, raster_at
from hsi_pipeline.scene.source import Pixels, SceneSource

# How each interleave stores its axes, and how to turn them to (band, y, x).
_STORED_AXES = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}
_TO_BAND_Y_X = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (2, 0, 1)}


def recognises(path: str) -> bool:
    """Tell whether a path is an ENVI header, or an image with an ENVI header beside it.

    Raises:
        InputError: A folder or archive holds no raster or several.
    """
    return is_envi(*raster_at(path))


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what an ENVI image holds, without reading pixels.

    Args:
        path: The image, or its `.hdr`, an address of one of them, or a folder or archive that
            holds no other raster.
        pixel_coordinates: Permits a scene without georeference.

    Returns:
        The scene's source.

    Raises:
        InputError: Header or image is missing, they do not fit each other, the image is complex
            or compressed, or has no georeference.
    """
    place, name = raster_at(path)
    if not place.archive and not os.path.isdir(path):
        check_file(path)
    image = envi_image(place, name)
    with open_raster(place.gdal(image), driver="ENVI") as raster:
        check_pixel_type(path, raster)
        header = _header(path, place, image, raster)
        scale, offset = header.scale_offset()
        tags = [{k.lower(): v for k, v in raster.tags(i).items()} for i in raster.indexes]
        return SceneSource(
            path=path,
            pixels=_pixels(path, place, image, raster, header),
            grid=raster_grid(
                path,
                raster,
                pixel_coordinates=pixel_coordinates,
                transform=header.transform(),
            ),
            block=(1, raster.width),
            # GDAL writes those of its own copies into the .aux.xml
            wavelengths=header.wavelengths()
            if header.text("wavelength")
            else wavelengths_from_tags(tags, [{}] * len(tags), [None] * len(tags), {}),
            good=header.good() if header.text("bbl") else good_bands(tags, {}),
            band_names=header.band_names(),
            scale=scale,
            offset=offset,
            nodata=header.number("data_ignore_value"),
            attrs=header.attrs(image) | layout_advice(place, image, raster),
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


def _header(path: str, place: Place, image: str, raster: DatasetReader) -> EnviHeader:
    """Return the header, with the fields that GDAL keeps to itself."""
    name = envi_header(place, image)
    text = place.read(name) if name else b""
    return EnviHeader(path, raster.tags(ns="ENVI") | kept_back(text), raster.count)


def _pixels(
    path: str, place: Place, image: str, raster: DatasetReader, header: EnviHeader
) -> Pixels:
    """Return the pixels of an image; those of a file on disk must all be there."""
    interleave = header.text("interleave").lower()
    if interleave not in _STORED_AXES:
        raise InputError(f"{path}: interleave is {interleave[:80]!r}; expected bsq, bil or bip")
    if header.text("file_compression") == "1":
        raise InputError(f"{path} is compressed (file compression = 1); write it uncompressed")
    byte_order = header.number("byte_order") or 0
    if byte_order not in (0, 1):
        raise InputError(f"{path}: byte order is {byte_order:g}; expected 0 or 1")
    shape = (raster.count, raster.height, raster.width)
    dtype = np.dtype(raster.dtypes[0])
    if not place.is_local:
        stamp = file_stamp(place.gdal(image))
        return GdalPixels(place.gdal(image), shape, dtype, stamp, driver="ENVI")
    file = place.opened(image)
    pixels = EnviPixels(
        path=file,
        shape=shape,
        stored=dtype.newbyteorder(">" if byte_order == 1 else "<"),
        interleave=interleave,
        header_bytes=int(header.number("header_offset") or 0),
        stamp=file_stamp(file),
    )
    needed = pixels.header_bytes + math.prod(shape) * dtype.itemsize
    found = os.stat(file).st_size
    if pixels.header_bytes < 0 or found < needed:
        raise InputError(
            f"{file} is shorter than its header says: {found} bytes, expected {needed}; "
            "copy it again or correct the header"
        )
    # A few bytes may follow the pixels. More mean a header of another image: with a width or
    # number of bands that is not the file's, every pixel would be a mix of others.
    if found - needed >= needed // raster.height:
        raise InputError(
            f"{file} is longer than its header says: {found} bytes, expected {needed}; "
            "correct the header"
        )
    return pixels
