"""EMIT scenes as LP DAAC delivers them: L2A reflectance and L1B radiance, netCDF.

netCDF-4 is HDF5 and is read as such: one library for all HDF5 products, whose handles are safe in
threads and forked workers; GDAL gives such files with their axes exchanged. Pixels lie as the
sensor saw them; the product's own lookup table puts them on a grid of geographic coordinates.

Format: "EMIT L2A Data Product User Guide" (JPL D-107863) and the program that writes the files,
emit_utils/daac_converter.py (github.com/emit-sds/emit-utils).
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import PurePosixPath

import h5py
import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.emit_mask import find_mask, read_mask
from hsi_pipeline.scene.files import check_file, file_stamp, full_path, is_remote, shown
from hsi_pipeline.scene.hdf5 import (
    HdfPart,
    HdfPixels,
    attribute,
    dataset_of,
    hdf5_file,
    number,
    small,
    spectrum,
    stored_block,
)
from hsi_pipeline.scene.lookup import LookupPixels, LookupTable
from hsi_pipeline.scene.quality import QualityBits
from hsi_pipeline.scene.source import Pixels, SceneSource
from hsi_pipeline.wavelengths import Wavelengths

_NAME = re.compile(r"EMIT_L\w+\.nc", re.IGNORECASE)
_IMAGES = {"reflectance": ("L2A", "EMIT_L2A_RFL"), "radiance": ("L1B", "EMIT_L1B_RAD")}
_NODATA = -9999.0
_GLT = ("location/glt_y", "location/glt_x")
_SIDE = 128  # of windows that suit: pixels of one need few tiles of the image
_SLOW_CHUNK_BYTES = 32 * 2**20
_FARTHEST = 2.0  # pixels between where the lookup table and where lat and lon put the image
_MOST_EMPTY = 100  # map pixels for each of the image; a diagonal swath has about 2


def recognises(path: str) -> bool:
    """Tell whether a path is an EMIT file by its name or content, or a granule's folder."""
    try:
        if os.path.isdir(path):
            return bool(_in_folder(path))
        name = PurePosixPath(shown(path).replace(os.sep, "/")).name
        if _NAME.fullmatch(name) or is_remote(path):
            return bool(_NAME.fullmatch(name))
        if not name.lower().endswith((".nc", ".nc4")) or not h5py.is_hdf5(path):
            return False
        with hdf5_file(full_path(path), file_stamp(path)) as file:
            return "sensor_band_parameters" in file and any(image in file for image in _IMAGES)
    except (OSError, ValueError):  # of which InputError is one
        return False


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what an EMIT scene holds, without reading pixels.

    Args:
        path: The file of reflectance or radiance, its address, or the granule's folder. The file
            EMIT_L2A_MASK of the same scene beside it gives the quality flags.
        pixel_coordinates: Permits a file without lookup table, as the sensor saw it.

    Returns:
        The scene's source: float32, reflectance or radiance in uW/cm2/sr/nm as stored.

    Raises:
        InputError: The file is missing or damaged, is another of EMIT's products, or has no
            lookup table.
    """
    main = _main_file(path)
    file, stamp = full_path(main), file_stamp(main)
    with hdf5_file(file, stamp) as opened:
        image = _image(path, opened)
        name = image.name.strip("/")
        bands = int(image.shape[2])
        wavelengths, good = _bands(path, opened, bands)
        if "_FillValue" in image.attrs and number(image, "_FillValue") != _NODATA:
            raise InputError(f"{path}: the fill value of its image is not {_NODATA:g}; damaged")
        table = _table(path, opened, file, stamp, image)
        mask = find_mask(main)
        pixels: Pixels
        quality: QualityBits | None
        if table is not None:
            grid = _grid(path, opened, table)
            _check_place(path, opened, grid, table)
            pixels = LookupPixels(file, stamp, name, table, bands, np.dtype(np.float32), _NODATA)
        else:
            grid = _sensor_grid(path, image, pixel_coordinates=pixel_coordinates)
            shape = (bands, *image.shape[:2])
            part = HdfPart(name, "yxb", tuple(range(bands)))
            pixels = HdfPixels(file, stamp, (part,), shape, np.dtype(np.float32))
        quality = None if mask is None else read_mask(mask, table, image.shape[:2])
        return SceneSource(
            path=path,
            pixels=pixels,
            grid=grid,
            block=(_SIDE, _SIDE) if table is not None else stored_block(image, "yxb"),
            wavelengths=wavelengths,
            good=good,
            band_names=tuple(f"band {i}" for i in range(1, bands + 1)),
            nodata=_NODATA,
            attrs=_attrs(main, opened, image),
            quality=quality,
        )


def _main_file(path: str) -> str:
    """Return the file of a path that may be a granule's folder."""
    if not os.path.isdir(path):
        check_file(path)
        return path
    names = _in_folder(path)
    for _, start in _IMAGES.values():
        found = [name for name in names if name.upper().startswith(f"{start}_")]
        if len(found) == 1:
            return os.path.join(path, found[0])
        if found:
            raise InputError(f"{path} holds several scenes ({', '.join(found[:3])}); give one")
    raise InputError(f"{path} holds neither EMIT_L2A_RFL nor EMIT_L1B_RAD, only {names[0]}")


def _in_folder(path: str) -> list[str]:
    """Return the names of EMIT's files in a folder."""
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if _NAME.fullmatch(entry.name))


def _image(path: str, file: h5py.File) -> h5py.Dataset:
    """Return the image of a file."""
    for name in _IMAGES:
        if name in file:
            return dataset_of(file, name, 3, ["<f4", ">f4"])
    held = ", ".join(name for name in file if getattr(file[name], "ndim", 0) > 1) or "nothing"
    raise InputError(
        f"{shown(path)} holds neither reflectance nor radiance but {held}; give the file "
        "EMIT_L2A_RFL (or EMIT_L1B_RAD) of the scene"
    )


def _bands(path: str, file: h5py.File, count: int) -> tuple[Wavelengths, tuple[bool, ...]]:
    """Return band positions and which bands are good."""
    group = "sensor_band_parameters"
    centers = dataset_of(file, f"{group}/wavelengths", 1, ["<f4", "<f8"])
    widths = dataset_of(file, f"{group}/fwhm", 1, ["<f4", "<f8"])
    good = np.ones(count, np.uint8)
    if "good_wavelengths" in file[group]:  # radiance has none
        good = small(dataset_of(file, f"{group}/good_wavelengths", 1, ["u1", "i1", "<i4"]))
    if not len(centers) == len(widths) == len(good) == count:
        raise InputError(
            f"{path}: {count} bands, but {len(centers)} wavelengths, {len(widths)} fwhm and "
            f"{len(good)} good_wavelengths; the file is damaged, download it again"
        )
    if not np.isin(good, (0, 1)).all():
        raise InputError(f"{path}: good_wavelengths are not 0 or 1; the file is damaged")
    unit = str(attribute(centers, "units")) if "units" in centers.attrs else "nm"
    found = spectrum(path, small(centers).tolist(), small(widths).tolist(), unit)
    _check_steps(path, np.array(found.center_nm))
    return found, tuple(bool(value) for value in good)


def _check_steps(path: str, center_nm: np.ndarray) -> None:
    """Refuse a band that is off between two that are where they belong: bands lie 7.4 nm apart."""
    if len(center_nm) < 3:
        return
    step = np.median(np.diff(center_nm))
    apart = np.abs(center_nm[2:] - center_nm[:-2] - 2 * step) < 1
    off = np.abs(center_nm[1:-1] - (center_nm[2:] + center_nm[:-2]) / 2) > 1
    if (apart & off).any():
        where = center_nm[1:-1][apart & off][0]
        raise InputError(f"{path}: the wavelength {where:g} nm lies off its neighbours; damaged")


def _table(
    path: str, file: h5py.File, name: str, stamp: str, image: h5py.Dataset
) -> LookupTable | None:
    """Return the lookup table, None where the file has none at all."""
    if not any(dataset in file for dataset in _GLT):
        return None
    rows, columns = (dataset_of(file, dataset, 2, ["<i4", "<i8", "<i2"]) for dataset in _GLT)
    height, width = image.shape[:2]
    if rows.shape != columns.shape or rows.size > _MOST_EMPTY * height * width:
        raise InputError(
            f"{path}: its lookup tables glt_y {rows.shape} and glt_x {columns.shape} do not fit "
            f"each other or the image ({height}, {width}); the file is damaged"
        )
    return LookupTable(name, stamp, *_GLT, rows.shape, (height, width))


def _sensor_grid(path: str, image: h5py.Dataset, *, pixel_coordinates: bool) -> GeoBox:
    """Return pixel coordinates, if they are permitted."""
    if not pixel_coordinates:
        raise InputError(
            f"{path} lacks the lookup table (location/glt_x, glt_y) that puts its pixels on a map "
            "grid; download it again, or work as the sensor saw it with --pixel-coordinates"
        )
    return pixel_grid(*image.shape[:2])


def _grid(path: str, file: h5py.File, table: LookupTable) -> GeoBox:
    """Return the map grid, north-up in geographic coordinates."""
    transform = np.ravel(attribute(file, "geotransform"))
    wkt = str(attribute(file, "spatial_ref"))
    try:
        west, across, skew_x, north, skew_y, down = (float(value) for value in transform)
        epsg = CRS(wkt).epsg
    except (ValueError, TypeError, RuntimeError) as error:  # pyproj's errors are RuntimeErrors
        raise InputError(f"{path}: geotransform or spatial_ref cannot be read ({error})") from error
    if epsg != 4326:
        raise InputError(f"{path}: spatial_ref is not WGS 84 in degrees: {wkt[:60]}")
    if skew_x or skew_y or not across > 0 or not down < 0:
        raise InputError(f"{path}: geotransform {transform.tolist()} is not north-up; damaged")
    return GeoBox(table.shape, Affine(across, 0, west, 0, down, north), "EPSG:4326")


def _check_place(path: str, file: h5py.File, grid: GeoBox, table: LookupTable) -> None:
    """Hold the grid against the bounds in the attributes, and pixels against lat and lon.

    Raises:
        InputError: They disagree.
    """
    said = f"{path}: its geotransform does not fit %s; the product is damaged, download it again"
    box, size = grid.boundingbox, grid.resolution.x
    for low, high, bounds in (
        ("westernmost_longitude", "easternmost_longitude", (box.left, box.right)),
        ("southernmost_latitude", "northernmost_latitude", (box.bottom, box.top)),
    ):
        if low not in file.attrs or high not in file.attrs:
            continue
        # Files of before 2023 have them exchanged; what is far off is left to lat and lon.
        told = sorted((number(file, low), number(file, high)))
        off = np.abs(np.subtract(told, bounds)) / size
        if ((off > 0.1) & (off < 20)).any():
            raise InputError(said % f"{low} and {high}")
    names = ("location/lon", "location/lat")
    if not all(name in file for name in names):
        return
    lon, lat = (dataset_of(file, name, 2, ["<f8", "<f4"]) for name in names)
    if lon.shape != table.image or lat.shape != table.image:
        raise InputError(f"{path}: lon {lon.shape} and lat {lat.shape} do not fit the image")
    distances = [
        max(abs((x - lon[row, column] + 180) % 360 - 180), abs(y - lat[row, column])) / size
        for x, y, row, column in _samples(grid, table)
    ]
    if distances and not np.median(distances) <= _FARTHEST:
        raise InputError(said % "the latitudes and longitudes of its pixels")


def _samples(grid: GeoBox, table: LookupTable) -> list[tuple[float, float, int, int]]:
    """Return where some map pixels lie, and the row and column of the image that they show."""
    height, width = table.shape
    found = []
    for map_row in sorted({height * i // 8 for i in range(1, 8)}):
        places, row, column = table.read(slice(map_row, map_row + 1), slice(0, width))
        for i in range(0, len(places), max(len(places) // 5, 1)):
            x, y = grid.affine @ (places[i] + 0.5, map_row + 0.5)
            found.append((x, y, int(row[i]), int(column[i])))
    return found


def _attrs(path: str, file: h5py.File, image: h5py.Dataset) -> dict[str, str]:
    """Return what is known about the scene."""
    quantity = image.name.strip("/")
    attrs = {
        "scene_id": PurePosixPath(shown(path).replace(os.sep, "/")).stem,
        "sensor": "EMIT",
        "level": _IMAGES[quantity][0],
        "quantity": quantity,
    }
    if "time_coverage_start" in file.attrs:
        try:
            start = datetime.fromisoformat(str(attribute(file, "time_coverage_start")))
        except ValueError:
            start = None
        if start is not None:
            start = start.replace(tzinfo=start.tzinfo or UTC).astimezone(UTC)
            attrs["acquired"] = start.isoformat().replace("+00:00", "Z")
    if image.chunks and np.prod(image.chunks) * image.dtype.itemsize > _SLOW_CHUNK_BYTES:
        attrs["advice"] = (
            "the file is stored in large compressed blocks, which every window decompresses anew; "
            "'hsi-pipeline ingest' rewrites it once for fast reading"
        )
    return attrs
