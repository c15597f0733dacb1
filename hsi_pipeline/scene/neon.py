"""Reflectance of NEON's Airborne Observation Platform (HDF5): flight lines and mosaic tiles.

Source: NEON, "Introduction to Bidirectional Hyperspectral Reflectance Data in Python" (2024), which
describes DP1/DP3.30006.001 and .002; classes of the quality layers as in Earth Engine's
`projects/neon-prod-earthengine/assets/HSI_REFL/002`.
"""

from __future__ import annotations

import math
import os
import re
from datetime import datetime
from pathlib import PurePosixPath

import h5py
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import check_file, file_stamp, is_remote
from hsi_pipeline.scene.hdf5 import (
    HdfPart,
    HdfPixels,
    attribute,
    dataset_of,
    file_name,
    hdf5_file,
    number,
    small,
    spectrum,
    stored_block,
)
from hsi_pipeline.scene.places import place_of
from hsi_pipeline.scene.quality import QualityLayer, QualityLayers, check_quality_size
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.wavelengths import Wavelengths

_SUFFIXES = (".h5", ".hdf5")
_NAME = re.compile(r"^NEON_D\d\d_[A-Z]{4}_(DP\d)_.*(reflectance|radiance)\.h5$", re.IGNORECASE)
_FLOWN = re.compile(r"_(20\d{6})(?:_(\d{6}))?_")
_AXES = "yxb"
_LARGEST_PIXEL_M = 1000.0
# ATCOR's classes. Its shadows are mostly those of trees and terrain; only 22 names clouds.
_CLASSES = (
    (0, "invalid"), (1, "low_quality"), (2, "cirrus"), (3, "cirrus"), (4, "cirrus"),
    (6, "saturated"), (7, "snow"), (8, "cirrus"), (9, "cirrus"), (10, "cirrus"), (11, "haze"),
    (12, "haze"), (13, "haze"), (14, "haze"), (15, "cloud"), (16, "cloud"), (17, "water"),
    (18, "cirrus"), (19, "cirrus"), (21, "low_quality"), (22, "cloud_shadow"),
)  # fmt: skip
# Clouds over the aircraft: 1 less than 10 %, 2 up to 50 %, 3 more. Releases before 2024 keep it as
# a colour picture, whose colours are not documented as numbers. `Cast_Shadow` is left aside: real
# files hold 1 (shadow) everywhere.
_WEATHER = ((2, "low_quality"), (3, "low_quality"))


def recognises(path: str) -> bool:
    """Tell whether a path is a reflectance or radiance file of NEON's."""
    name = PurePosixPath(path.replace("\\", "/")).name
    if _NAME.match(name):
        return True
    if is_remote(path) or not name.lower().endswith(_SUFFIXES) or not os.path.isfile(path):
        return False
    try:
        with hdf5_file(os.path.abspath(path), file_stamp(path)) as file:
            return bool(_sites(file, "Reflectance") or _sites(file, "Radiance"))
    except (InputError, OSError):
        return False


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what a NEON file holds.

    Args:
        path: The `.h5` file.
        pixel_coordinates: Without effect, since these files are georeferenced.

    Returns:
        The scene's source; bands in the windows of water vapour are marked bad.

    Raises:
        InputError: The file is missing, damaged or contradicts itself, or holds radiance.
    """
    check_file(path)
    place, name = place_of(path)
    opened, stamp = place.opened(name), file_stamp(path)
    with hdf5_file(opened, stamp) as file:
        site = _site(file, path)
        group = file[f"{site}/Reflectance"]
        cube = dataset_of(file, f"{site}/Reflectance/Reflectance_Data", 3, ["<i2", "<i4"])
        rows, columns, bands = cube.shape
        wavelengths = _wavelengths(group, path, bands)
        factor, nodata = number(cube, "Scale_Factor"), number(cube, "Data_Ignore_Value")
        if not factor > 0 or not nodata.is_integer():
            raise InputError(
                f"{path}: Scale_Factor is {factor:g} and Data_Ignore_Value {nodata:g}; expected a "
                "positive and a whole number"
            )
        part = HdfPart(cube.name, _AXES, tuple(range(bands)))
        shape, dtype = (bands, rows, columns), cube.dtype.newbyteorder("=")
        return SceneSource(
            path=path,
            pixels=HdfPixels(opened, stamp, (part,), shape, dtype),
            grid=_grid(group, cube, path),
            block=stored_block(cube, _AXES),
            wavelengths=wavelengths,
            good=_good(group, path, wavelengths),
            band_names=tuple(f"band {i}" for i in range(1, bands + 1)),
            scale=1.0 / factor,
            nodata=nodata,
            attrs=_attrs(name, site),
            quality=_quality(group, opened, stamp, (rows, columns)),
        )


def _sites(file: h5py.File, quantity: str) -> list[str]:
    """Return the groups of sites that hold a quantity; a file has one site."""
    return [name for name in file if len(name) == 4 and f"{name}/{quantity}" in file]


def _site(file: h5py.File, path: str) -> str:
    sites = _sites(file, "Reflectance")
    if len(sites) == 1:
        return sites[0]
    if not sites and _sites(file, "Radiance"):
        raise InputError(
            f"{path} holds radiance at the sensor (DP1.30008), whose values are kept in two parts "
            "that are not read; download reflectance (DP1.30006 or DP3.30006)"
        )
    raise InputError(
        f"{path} is no reflectance file of NEON's: its root needs one group SITE/Reflectance, it "
        f"holds {', '.join(file) or 'nothing'}"
    )


def _wavelengths(group: h5py.Group, path: str, bands: int) -> Wavelengths:
    """Return the band positions; subsets of files may lack the widths and the unit."""
    name = f"{group.name}/Metadata/Spectral_Data"
    centers = dataset_of(group.file, f"{name}/Wavelength", 1, ["<f4", "<f8"])
    widths: list[float] = []
    if f"{name}/FWHM" in group.file:
        found = dataset_of(group.file, f"{name}/FWHM", 1, ["<f4", "<f8"])
        _check_count(path, "FWHM", found.size, bands)
        widths = small(found).tolist()
    _check_count(path, "Wavelength", centers.size, bands)
    unit = str(attribute(centers, "Units")) if "Units" in centers.attrs else None
    return spectrum(path, small(centers).tolist(), widths, unit)


def _check_count(path: str, name: str, found: int, bands: int) -> None:
    if found != bands:
        raise InputError(
            f"{path}: {name} has {found} values, Reflectance_Data {bands} bands; it is damaged"
        )


def _good(group: h5py.Group, path: str, wavelengths: Wavelengths) -> tuple[bool, ...]:
    """Return False for bands in the windows of water vapour, in which values mean nothing."""
    center_nm = np.array(wavelengths.center_nm)
    good = np.ones(len(center_nm), bool)
    for name in (name for name in group.attrs if re.fullmatch(r"Band_Window_\d_Nanometers", name)):
        window = np.atleast_1d(attribute(group, name)).astype(float)
        if window.shape != (2,) or not window[0] < window[1]:
            raise InputError(f"{path}: {name} is {window.tolist()}, not two wavelengths")
        good &= (center_nm < window[0]) | (center_nm > window[1])
    return tuple(good.tolist())


def _text(file: h5py.File, name: str) -> str:
    """Return a dataset that holds one text or number, as text."""
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.size != 1:
        raise InputError(f"{file_name(file)} lacks the text {name}; download the file again")
    value = np.asarray(small(found)).reshape(-1)[0]
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


def _grid(group: h5py.Group, cube: h5py.Dataset, path: str) -> GeoBox:
    """Return the grid by the map info, held against the other metadata that say the same."""
    name = f"{group.name}/Metadata/Coordinate_System"
    text, code = _text(group.file, f"{name}/Map_Info"), _text(group.file, f"{name}/EPSG Code")
    epsg = int(code) if code.isdigit() else 0
    fields = [field.strip() for field in text.strip("{}").split(",")]
    try:
        affine = _affine(fields)
        zone = int(fields[7]) + {"north": 32600, "south": 32700}[fields[8].lower()]
    except (ValueError, KeyError, IndexError):
        raise InputError(f"{path}: Map_Info is no UTM grid: {text!r}") from None
    if epsg != zone or not 1 <= zone % 100 <= 60:
        raise InputError(f"{path}: EPSG code {code} contradicts Map_Info, which is EPSG:{zone}")
    grid = GeoBox(cube.shape[:2], affine, f"EPSG:{epsg}")
    _check_extent(cube, path, grid)
    return grid


def _affine(fields: list[str]) -> Affine:
    """Turn map info into an affine map of pixels, as ENVI and GDAL understand it.

    Fields: "UTM", the reference pixel's column and row (1, 1 is the upper left corner of the first
    pixel), its easting and northing, pixel width and height, zone, hemisphere, datum, unit, and
    the rotation in degrees, counterclockwise.

    Raises:
        ValueError: A field is not what it must be.
        IndexError: A field is missing.
    """
    column, row, easting, northing, width, height = (float(field) for field in fields[1:7])
    unit = next((f for f in fields[9:] if f.lower().startswith("units=")), "units=Meters")
    turned = fields[-1].lower().removeprefix("rotation=") if len(fields) > 11 else "0"
    angle = math.radians(float(turned))
    if (
        (fields[0].upper(), fields[9].upper(), unit.lower()) != ("UTM", "WGS-84", "units=meters")
        or not 0 < width < _LARGEST_PIXEL_M
        or width != height
        or not all(map(math.isfinite, (column, row, easting, northing, angle)))
    ):
        raise ValueError
    sine, cosine = math.sin(angle) * width, math.cos(angle) * width
    turn = Affine(cosine, sine, easting, sine, -cosine, northing)
    return turn @ Affine.translation(1 - column, 1 - row)


def _check_extent(cube: h5py.Dataset, path: str, grid: GeoBox) -> None:
    """Hold a grid against the extent that most files have as well: west, east, south, north."""
    if "Spatial_Extent_meters" not in cube.attrs or grid.affine.b:
        return
    extent = np.atleast_1d(attribute(cube, "Spatial_Extent_meters")).astype(float)
    box = grid.extent.boundingbox
    wanted = [box.left, box.right, box.bottom, box.top]
    if extent.shape != (4,) or not np.allclose(extent, wanted, 0, grid.affine.a / 2):
        raise InputError(
            f"{path}: Spatial_Extent_meters is {extent.tolist()}, Map_Info and size make it "
            f"{wanted}; the file is damaged"
        )


def _quality(
    group: h5py.Group, opened: str, stamp: str, size: tuple[int, int]
) -> QualityLayers | None:
    layers = []
    for name, values in (
        ("Haze_Cloud_Water_Map", _CLASSES),
        ("Weather_Quality_Indicator", _WEATHER),
    ):
        path = f"{group.name}/Metadata/Ancillary_Imagery/{name}"
        plane = group.file.get(path)
        if not isinstance(plane, h5py.Dataset) or plane.ndim != 2 or plane.dtype.kind not in "iu":
            continue
        check_quality_size(file_name(group), name, plane.shape, size)
        part = HdfPart(path, "yx", (0,))
        pixels = HdfPixels(opened, stamp, (part,), (1, *size), plane.dtype.newbyteorder("="))
        layers.append(QualityLayer(pixels, 0, values))
    return QualityLayers(tuple(layers)) if layers else None


def _attrs(name: str, site: str) -> dict[str, str]:
    stem = PurePosixPath(name).stem
    attrs = {"scene_id": stem, "sensor": "NEON AOP", "quantity": "reflectance", "site": site}
    if found := _NAME.match(PurePosixPath(name).name):
        attrs["level"] = found[1].upper()
    # Only flight lines are of one time, tiles mix them.
    flown = _FLOWN.search(stem) if attrs.get("level") == "DP1" else None
    try:
        if flown and flown[2]:
            attrs["acquired"] = (
                f"{datetime.strptime(''.join(flown.groups()), '%Y%m%d%H%M%S').isoformat()}Z"
            )
        elif flown:
            attrs["acquired"] = datetime.strptime(flown[1], "%Y%m%d").date().isoformat()
    except ValueError:  # the name was made up
        pass
    return attrs
