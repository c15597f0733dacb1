"""Opening rasters with GDAL, and their georeference."""

from __future__ import annotations

import math
import os
import re
import threading
import warnings
from functools import cache

import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.addresses import share_settings
from hsi_pipeline.scene.files import inside_archive, is_remote, one_line, shown, what_it_is
from hsi_pipeline.scene.places import address_of, gdal_path

# GDAL's own default is 5 % of the machine's memory in every process, which helps nothing here:
# windows are read once, and small ones come from `block_cache`. It is read at GDAL's first use.
os.environ.setdefault("GDAL_CACHEMAX", "256")

# A server is not asked to list the folder of a scene: S3 bills and often forbids it, and folders
# of archives are long. Files beside the scene (.hdr, .aux.xml) are asked for by name all the same,
# which EMPTY_DIR would not do.
_REMOTE = {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"}

_ENVI = ("", ".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".bin", ".cube", ".envi", ".hdr")
_S3_ERROR = re.compile(r"<Code>(\w+)</Code>")

# warnings.catch_warnings swaps a list shared by all threads.
_quiet = threading.Lock()


# Drivers of files that hold their pixels. Others (VRT, WMS, GDALG ...) are recipes, which may read
# any file of this machine or ask any server: only a .vrt that the user named is one. HDF5 and
# netCDF have readers of their own, as GDAL takes their axes for one another.
_DRIVERS = (
    "GTiff", "COG", "ENVI", "JP2OpenJPEG", "HFA", "PNG", "JPEG", "EHdr", "ERS", "PCIDSK", "RST",
    "SAGA", "AAIGrid", "NITF", "FITS", "ISIS3", "PDS", "PDS4", "KEA", "BMP", "RMF", "MFF",
)  # fmt: skip


@cache
def _allowed(recipes: bool) -> tuple[str, ...]:
    """Return the drivers that this GDAL has."""
    with rasterio.Env() as env:
        there = env.drivers()
    return tuple(name for name in (*_DRIVERS, *(("VRT",) if recipes else ())) if name in there)


def open_raster(path: str, driver: str | None = None) -> DatasetReader:
    """Open a raster without the warning that it is not georeferenced.

    Whether a scene may lack a georeference is decided by `raster_grid`.

    Args:
        path: A file, an address, or a path of GDAL's.
        driver: Name of the only driver that may open it; None: any whose files hold their pixels,
            and for a `.vrt` outside archives GDAL's virtual rasters.

    Raises:
        InputError: GDAL cannot open the file.
    """
    options = {}
    if is_remote(path):
        share_settings()
        options = {name: os.environ.get(name, value) for name, value in _REMOTE.items()}
    try:
        with _quiet, warnings.catch_warnings(), rasterio.Env(**options):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            recipes = path.lower().endswith(".vrt") and inside_archive(path) is None
            drivers = list(_allowed(recipes)) if driver is None else [driver]
            # rasterio.open takes one driver or all of them
            return DatasetReader(gdal_path(path), driver=drivers)
    except RasterioError as error:
        raise InputError(_refusal(path, error)) from error


def _refusal(path: str, error: Exception) -> str:
    """Say why a raster cannot be opened, and what to do."""
    name = shown(address_of(path))
    said = one_line(error).replace(shown(gdal_path(path)), name).rstrip(".")
    if answer := _S3_ERROR.search(said):
        said = f"the server says {answer[1]}"
    if inside_archive(path):
        return f"{name} cannot be opened as a raster inside its archive ({said}); unpack it"
    if is_remote(path):
        return f"{name} cannot be opened as a raster: {said}"
    if known := what_it_is(path):
        return f"{path} cannot be opened as a raster: it {known}"
    hint = ". An ENVI image needs its .hdr header beside it"
    suffix = os.path.splitext(path)[1].lower()
    return f"{path} cannot be opened as a raster: {said}{hint if suffix in _ENVI else ''}"


def raster_grid(
    path: str,
    raster: DatasetReader,
    *,
    pixel_coordinates: bool,
    transform: Affine | None = None,
) -> GeoBox:
    """Return the grid of a raster; pixel coordinates only where they were asked for.

    Args:
        path: The scene, for messages.
        raster: The open raster.
        pixel_coordinates: Permits a scene without georeference. One that has a georeference
            keeps it.
        transform: From columns and rows to map coordinates, if not what GDAL says.

    Raises:
        InputError: The georeference is missing or incomplete.
    """
    shape = (raster.height, raster.width)
    transform = raster.transform if transform is None else transform
    located = not transform.is_identity
    if located and not _is_usable(transform):
        raise InputError(
            f"{path}: its geotransform {tuple(transform)[:6]} gives pixels no place or no size; "
            "correct the georeference"
        )
    on_earth = raster.crs is not None and (raster.crs.is_projected or raster.crs.is_geographic)
    if located and on_earth:
        grid = GeoBox(shape, transform, raster.crs)
        check_extent(path, grid)
        return grid
    if pixel_coordinates:
        return pixel_grid(*shape)
    if raster.gcps[0]:
        lack = "is located by ground control points only; warp it to a grid (gdalwarp)"
    elif located and raster.crs is None:
        lack = "has a geotransform but its CRS is missing; assign one (gdal_edit.py -a_srs)"
    elif raster.crs is not None and not on_earth:
        lack = "has a CRS of its own that is no place on Earth; georeference it"
    elif raster.crs is not None:
        lack = "has a CRS but no geotransform; georeference it"
    else:
        lack = "has no CRS and no geotransform; georeference it"
    raise InputError(f"{path} {lack} or work in pixel coordinates with --pixel-coordinates")


def check_extent(path: str, grid: GeoBox) -> None:
    """Check that a grid in degrees lies on Earth.

    Raises:
        InputError: It does not: its coordinates are in another unit, or damaged.
    """
    if grid.crs is None or not grid.crs.geographic:
        return
    box = grid.boundingbox
    if not (max(abs(box.bottom), abs(box.top)) <= 91 and max(abs(box.left), abs(box.right)) <= 541):
        raise InputError(
            f"{path}: its CRS {grid.crs.epsg or ''} is in degrees, but it goes from {box.left:g}, "
            f"{box.bottom:g} to {box.right:g}, {box.top:g}; correct the CRS or the georeference"
        )


def _is_usable(transform: Affine) -> bool:
    """Tell whether pixels have a size and a place."""
    return all(map(math.isfinite, transform)) and not transform.is_degenerate


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
