"""GeoTIFF, COG, VRT and whatever else GDAL opens as one raster.

Dataset masks and alpha bands are not read: invalid pixels are those with the nodata value.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.band_table import good_bands, wavelengths_from_tags
from hsi_pipeline.scene.files import check_file, file_stamp, full_path
from hsi_pipeline.scene.raster import check_pixel_type, open_raster, raster_grid
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.scene.windows import Key, read_key
from hsi_pipeline.wavelengths import Wavelengths

_ACQUIRED_TAGS = ("start_time", "acquisition_time")


def recognises(path: str) -> bool:
    """Return True: this reader comes last and says what is wrong with any other file."""
    return True


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what a raster holds, without reading pixels.

    Args:
        path: File, or an address that GDAL can follow.
        pixel_coordinates: Permits a scene without georeference.

    Returns:
        The scene's source.

    Raises:
        InputError: The file is missing, no raster, complex, without georeference, or its band
            tags make no sense.
    """
    check_file(path)
    with open_raster(full_path(path)) as raster:
        check_pixel_type(path, raster)
        tags = _lower({**raster.tags(ns="ENVI"), **raster.tags()})
        bands = [_lower(raster.tags(i)) for i in raster.indexes]
        acquired = next((tags[name] for name in _ACQUIRED_TAGS if name in tags), None)
        return SceneSource(
            path=path,
            pixels=GdalPixels(
                full_path(path),
                (raster.count, raster.height, raster.width),
                np.dtype(raster.dtypes[0]),
                file_stamp(path),
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
            attrs={"scene_id": Path(path).stem} | ({"acquired": acquired} if acquired else {}),
        )


@dataclass(frozen=True)
class GdalPixels:
    """Windows of a raster, read by GDAL; see `Pixels`.

    Holds no handle: each thread of each process opens its own, so that neither threads nor
    forked workers share a file position.
    """

    path: str
    """Full path or address."""
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
            raster = _handle(self.path, self.stamp, os.getpid(), threading.get_ident())
            return raster.read(indexes=indexes, window=window)
        except RasterioError as error:
            raise InputError(
                f"{self.path}: pixels cannot be read, the file is damaged or incomplete "
                f"({error.__cause__ or error})"
            ) from error


@lru_cache(maxsize=128)  # of few per thread, so that an archive does not use up the open files
def _handle(path: str, stamp: str, process: int, thread: int) -> DatasetReader:
    """Return the handle of one thread of one process.

    A forked worker inherits the cache but asks with another process id. A handle that drops out
    of the cache while its thread reads lives until the read ends.
    """
    return open_raster(path)


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    return {name.lower().replace(" ", "_"): value for name, value in tags.items()}


def _wavelengths(
    path: str, raster: DatasetReader, bands: list[dict[str, str]], tags: dict[str, str]
) -> Wavelengths | None:
    imagery = [_lower(raster.tags(i, ns="IMAGERY")) for i in raster.indexes]
    try:
        return wavelengths_from_tags(bands, imagery, raster.descriptions, tags)
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
