"""GeoTIFF, COG, VRT and whatever else GDAL opens as one raster: on disk, in an archive, remote.

Dataset masks and alpha bands are not read: invalid pixels are those with the nodata value.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.band_table import check_plausible, good_bands, wavelengths_from_tags
from hsi_pipeline.scene.files import check_file, file_stamp, one_line, shown
from hsi_pipeline.scene.places import Place, address_of
from hsi_pipeline.scene.raster import check_pixel_type, open_raster, raster_grid
from hsi_pipeline.scene.raster_files import raster_at
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.scene.windows import Key, read_key
from hsi_pipeline.wavelengths import Wavelengths

_WINDOW = 512
_MOST_TOUCHED = 2.0  # pixels that are read for each that a window wants
_SLOW = "windows are slow; `hsi-pipeline ingest SCENE --out scene.zarr` rewrites it"
_ACQUIRED_TAGS = ("start_time", "acquisition_time")


def recognises(path: str) -> bool:
    """Return True: this reader comes last and says what is wrong with any other file."""
    return True


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what a raster holds, without reading pixels.

    Args:
        path: File, an address, or a folder or archive that holds no other raster.
        pixel_coordinates: Permits a scene without georeference.

    Returns:
        The scene's source.

    Raises:
        InputError: The file is missing, no raster, complex, without georeference, or its band
            tags make no sense.
    """
    place, name = raster_at(path)
    if not place.archive and not os.path.isdir(path):
        check_file(path)
    file = place.gdal(name)
    with open_raster(file) as raster:
        if raster.driver == "ENVI":
            raise InputError(
                f"{shown(path)} is an ENVI image whose header is not found beside it by its name; "
                "call the image NAME.img and the header NAME.hdr"
            )
        check_pixel_type(path, raster)
        tags = _lower({**raster.tags(ns="ENVI"), **raster.tags()})
        bands = [_lower(raster.tags(i)) for i in raster.indexes]
        return SceneSource(
            path=path,
            pixels=GdalPixels(
                file,
                (raster.count, raster.height, raster.width),
                np.dtype(raster.dtypes[0]),
                file_stamp(file),
            ),
            grid=raster_grid(path, raster, pixel_coordinates=pixel_coordinates),
            block=raster.block_shapes[0],
            wavelengths=_wavelengths(path, raster, bands, tags),
            good=good_bands(bands, tags),
            band_names=tuple(
                text or f"band {i}"
                for i, text in zip(raster.indexes, raster.descriptions, strict=True)
            ),
            scale=_one_or_each(raster.scales),
            offset=_one_or_each(raster.offsets),
            nodata=_nodata(path, raster),
            attrs=_attrs(name, tags) | layout_advice(place, name, raster),
        )


@dataclass(frozen=True)
class GdalPixels:
    """Windows of a raster, read by GDAL; see `Pixels`.

    Holds no handle: each thread of each process opens its own, so that neither threads nor
    forked workers share a file position.
    """

    path: str
    """Full path, or how GDAL writes the address."""
    shape: tuple[int, int, int]
    """(band, y, x)."""
    dtype: np.dtype
    """Type of the digital numbers."""
    stamp: str
    """Changes when the file is written again."""
    driver: str | None = None
    """Name of the only driver that may open it."""

    @property
    def ndim(self) -> int:
        """Return 3."""
        return len(self.shape)

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a window.

        Args:
            key: Slices of (band, y, x), with any step, or numbers, which drop their dimension:
                Dask fuses both into the read.

        Returns:
            Digital numbers (band, y, x), unmasked.

        Raises:
            InputError: GDAL cannot read the window: the file is damaged or cut off, or its
                server failed.
        """
        return read_key(key, self.shape, self.dtype, self._read)

    def _read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        """Read a rectangle."""
        window = Window.from_slices(rows, columns)
        indexes = [band + 1 for band in bands]
        try:
            thread = threading.get_ident()
            raster = _handle(self.path, self.driver, self.stamp, os.getpid(), thread)
            return raster.read(indexes=indexes, window=window)
        except RasterioError as error:
            name = shown(address_of(self.path))
            raise InputError(
                f"{name}: pixels cannot be read, the file is damaged or incomplete, or its server "
                f"failed ({one_line(error.__cause__ or error)})"
            ) from error


@lru_cache(maxsize=128)  # of few per thread, so that an archive does not use up the open files
def _handle(path: str, driver: str | None, stamp: str, process: int, thread: int) -> DatasetReader:
    """Return the handle of one thread of one process.

    A forked worker inherits the cache but asks with another process id. A handle that drops out
    of the cache while its thread reads lives until the read ends.
    """
    return open_raster(path, driver)


def layout_advice(place: Place, name: str, raster: DatasetReader) -> dict[str, str]:
    """Return a line of advice where windows of a raster are slow by nature.

    Of a scene of 100 bands and 1536 x 1536 pixels, a window of 512 x 512 took from a disk, the
    first time: tiles 0.1 to 0.2 s; lines or strips with the bands together (BIL, BIP) 0.1 to
    0.2 s; strips of one band each 0.4 to 0.5 s and 2.5 times the bytes; each band in one
    compressed block 1.4 s.
    """
    if place.is_compressed(name):
        return {"advice": f"compressed as a whole: {_SLOW}"}
    height, width = raster.block_shapes[0]
    is_by_band = raster.count > 1 and raster.profile.get("interleave") == "band"
    touched = [
        min(-(-_WINDOW // block) * block, size) / min(_WINDOW, size)
        for block, size in ((height, raster.height), (width, raster.width))
    ]
    if is_by_band and math.prod(touched) > _MOST_TOUCHED:
        return {"advice": f"stored band by band, not in tiles: {_SLOW}"}
    return {}


def _attrs(name: str, tags: Mapping[str, str]) -> dict[str, str]:
    attrs = {"scene_id": PurePosixPath(name.partition("?")[0].replace("\\", "/")).stem}
    acquired = next((tags[tag] for tag in _ACQUIRED_TAGS if tag in tags), None)
    return attrs | ({"acquired": acquired} if acquired else {})


# Not left to the end of the interpreter, when GDAL can no longer close a VRT in silence.
atexit.register(_handle.cache_clear)


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    return {name.lower().replace(" ", "_"): value for name, value in tags.items()}


def _wavelengths(
    path: str, raster: DatasetReader, bands: list[dict[str, str]], tags: dict[str, str]
) -> Wavelengths | None:
    imagery = [_lower(raster.tags(i, ns="IMAGERY")) for i in raster.indexes]
    try:
        found = wavelengths_from_tags(bands, imagery, raster.descriptions, tags)
        check_plausible(found)
        return found
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _one_or_each(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return float(values[0]) if len(set(values)) == 1 else tuple(float(value) for value in values)


def _nodata(path: str, raster: DatasetReader) -> float | None:
    """Return the one nodata value of all bands."""
    # NaN differs from itself, so values are told apart by their text.
    values = {str(value): value for value in raster.nodatavals if value is not None}
    if len(values) > 1:
        raise InputError(
            f"{path}: its bands have different nodata values ({', '.join(sorted(values))}); "
            "write it with one"
        )
    return float(next(iter(values.values()))) if values else None
