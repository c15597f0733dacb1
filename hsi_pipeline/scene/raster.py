"""Opening rasters with GDAL, and their georeference."""

from __future__ import annotations

import os
import threading
import warnings

import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError

# GDAL's own default is 5 % of the machine's memory in every process, which helps nothing here:
# windows are read once, and small ones come from `block_cache`. It is read at GDAL's first use.
os.environ.setdefault("GDAL_CACHEMAX", "256")

# warnings.catch_warnings swaps a list shared by all threads.
_quiet = threading.Lock()


def open_raster(path: str, driver: str | None = None) -> DatasetReader:
    """Open a raster without the warning that it is not georeferenced.

    Whether a scene may lack a georeference is decided by `raster_grid`.

    Raises:
        InputError: GDAL cannot open the file.
    """
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path, driver=driver)
    except RasterioError as error:
        raise InputError(
            f"{path} cannot be opened as a raster: {error}. "
            "An ENVI image needs its .hdr header beside it"
        ) from error


def raster_grid(path: str, raster: DatasetReader, *, pixel_coordinates: bool) -> GeoBox:
    """Return the grid of a raster; pixel coordinates only where they were asked for.

    Args:
        path: The scene, for messages.
        raster: The open raster.
        pixel_coordinates: Permits a scene without georeference. One that has a georeference
            keeps it.

    Raises:
        InputError: The georeference is missing or incomplete.
    """
    shape = (raster.height, raster.width)
    located = not raster.transform.is_identity
    if located and raster.crs is not None:
        return GeoBox(shape, raster.transform, raster.crs)
    if pixel_coordinates:
        return pixel_grid(*shape)
    if raster.gcps[0]:
        lack = "is located by ground control points only; warp it to a grid (gdalwarp)"
    elif located:
        lack = "has a geotransform but its CRS is missing; assign one (gdal_edit.py -a_srs)"
    elif raster.crs is not None:
        lack = "has a CRS but no geotransform; georeference it"
    else:
        lack = "has no CRS and no geotransform; georeference it"
    raise InputError(f"{path} {lack} or work in pixel coordinates with --pixel-coordinates")


def check_pixel_type(path: str, raster: DatasetReader) -> None:
    """Check that a raster has bands, all of one real number type.

    Raises:
        InputError: Says what the raster holds instead.
    """
    if raster.count == 0:
        inside = f"; it holds {len(raster.subdatasets)} others" if raster.subdatasets else ""
        raise InputError(f"{path} has no bands of its own{inside}; give one of its rasters")
    types = sorted(set(raster.dtypes))
    if len(types) > 1:
        raise InputError(f"{path} mixes bands of types {', '.join(types)}; convert it to one type")
    if types[0].startswith("complex"):
        raise InputError(f"{path} holds complex numbers ({types[0]}); a scene holds real ones")
