"""Planet's Tanager scenes (HDF-EOS5): ortho and basic, surface reflectance and radiance.

Source: Planet, Tanager Product Specification, November 2025, sections 3.4 to 3.6. The attribute
`epsg_code` of ortho scenes is not in it; that is how programs read real ones find their CRS, and
it is held against the zone that the specification does have.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from hsi_pipeline.cube import pixel_grid
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
from hsi_pipeline.scene.swath import check_not_on_a_grid, geolocation

_SUFFIXES = (".h5", ".hdf5")
_NAME = re.compile(r"^20\d{6}_\d{6}_\d+_\w+_(basic|ortho)_(sr|radiance)\w*\.h5$", re.IGNORECASE)
_GROUPS = {"ortho": "HDFEOS/GRIDS/HYP", "basic": "HDFEOS/SWATHS/HYP"}
_CUBES = {"sr": "surface_reflectance", "radiance": "toa_radiance"}
_QUANTITIES = {"sr": "reflectance", "radiance": "radiance"}
_AXES = "byx"
_NODATA = -9999.0  # where the attribute _FillValue does not say
_MASKS = {
    "beta_cloud_mask": "cloud",
    "beta_cirrus_mask": "cirrus",
    "nodata_pixels": "invalid",
}
_LARGEST_PIXEL_M = 1000.0
_GRID = {
    "GridName": '"HYP"',
    "Projection": "HE5_GCTP_UTM",
    "SphereCode": "12",  # WGS 84
    "PixelRegistration": "HE5_HDFE_CORNER",
    "GridOrigin": "HE5_HDFE_GD_UL",
}
_GRID_NEEDS = ("GridName", "Projection")  # the rest may be left out, and then means the same


def recognises(path: str) -> bool:
    """Tell whether a path is a Tanager scene."""
    name = PurePosixPath(path.replace("\\", "/")).name
    if _NAME.match(name):
        return True
    if is_remote(path) or not name.lower().endswith(_SUFFIXES) or not os.path.isfile(path):
        return False
    try:
        with hdf5_file(os.path.abspath(path), file_stamp(path)) as file:
            return any(group in file for group in _GROUPS.values())
    except (InputError, OSError):
        return False


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what a Tanager scene holds.

    Args:
        path: The `.h5` file.
        pixel_coordinates: Permits basic scenes, which are not on a map grid.

    Returns:
        The scene's source; radiance is in W m-2 sr-1 um-1.

    Raises:
        InputError: The file is missing, damaged or contradicts itself, or it is a basic scene and
            `pixel_coordinates` is False.
    """
    check_file(path)
    place, name = place_of(path)
    opened, stamp = place.opened(name), file_stamp(path)
    with hdf5_file(opened, stamp) as file:
        kind, content = _kind(file, path)
        group = f"{_GROUPS[kind]}/Data Fields"
        cube = dataset_of(file, f"{group}/{_CUBES[content]}", 3, ["<f4"])
        bands, *size = cube.shape
        part = HdfPart(cube.name, _AXES, tuple(range(bands)))
        attrs = _attrs(file, name, kind, content)
        if kind == "ortho":
            grid = _grid(file, path, cube.shape)
        else:
            grid, attrs["geolocation_extent"] = _swath(file, path, size, pixel_coordinates)
        return SceneSource(
            path=path,
            pixels=HdfPixels(opened, stamp, (part,), cube.shape, np.dtype(np.float32)),
            grid=grid,
            block=stored_block(cube, _AXES),
            band_names=tuple(f"band {i}" for i in range(1, bands + 1)),
            nodata=number(cube, "_FillValue") if "_FillValue" in cube.attrs else _NODATA,
            attrs=attrs,
            quality=_quality(file, group, opened, stamp, size),
            **_bands(cube, path, bands),
        )


def _kind(file: h5py.File, path: str) -> tuple[str, str]:
    """Return whether a scene is "ortho" or "basic", and holds "sr" or "radiance"."""
    found = [
        (kind, content)
        for kind, group in _GROUPS.items()
        for content, cube in _CUBES.items()
        if f"{group}/Data Fields/{cube}" in file
    ]
    if not found:
        raise InputError(
            f"{path} is no scene of Tanager's: it lacks {' and '.join(_CUBES.values())} in "
            f"{' and '.join(_GROUPS.values())}"
        )
    return found[0]


def _bands(cube: h5py.Dataset, path: str, bands: int) -> dict[str, Any]:
    """Return wavelengths and good bands; only surface reflectance says which are good."""
    lists = {}
    for name in ("wavelengths", "fwhm", "good_wavelengths"):
        if name == "good_wavelengths" and name not in cube.attrs:
            lists[name] = np.ones(bands)
            continue
        lists[name] = np.atleast_1d(attribute(cube, name)).astype(float)
        if lists[name].shape != (bands,):
            raise InputError(
                f"{path}: {name} has {lists[name].size} values, the image {bands} bands; the "
                "product is damaged"
            )
    good = lists["good_wavelengths"]
    if not np.isin(good, (0, 1)).all():
        raise InputError(f"{path}: good_wavelengths are not 0 or 1; the product is damaged")
    unit = "nm"  # as specified
    if "wavelengths_units" in cube.attrs:
        unit = str(attribute(cube, "wavelengths_units"))
    return {
        "wavelengths": spectrum(path, lists["wavelengths"].tolist(), lists["fwhm"].tolist(), unit),
        "good": tuple((good == 1).tolist()),
    }


def _grid(file: h5py.File, path: str, shape: tuple[int, ...]) -> GeoBox:
    """Return the grid of an ortho scene, whose corners are outer ones (HE5_HDFE_CORNER)."""
    text = _structure(file, path)
    west, north = _pair(text, path, "UpperLeftPointMtrs")
    east, south = _pair(text, path, "LowerRightMtrs")
    for name, size in zip(("Band", "YDim", "XDim"), shape, strict=True):
        found = re.search(rf"^\s*{name}=(\d+)\s*$", text, re.MULTILINE)
        if found is None and name == "Band":  # the product's other dimensions are a must
            continue
        if found is None or int(found[1]) != size:
            raise InputError(
                f"{path}: StructMetadata.0 has {found[0].strip() if found else f'no {name}'}, the "
                f"image has {size}; the product is damaged"
            )
    width, height = (east - west) / shape[2], (north - south) / shape[1]
    if not 0 < width < _LARGEST_PIXEL_M or abs(width - height) > width / 1000 / max(shape[1:]):
        raise InputError(
            f"{path}: corners and size make pixels of {width:g} x {height:g} m, which are not "
            "square; the product is damaged"
        )
    affine = Affine(width, 0, west, 0, -height, north)
    return GeoBox(shape[1:], affine, f"EPSG:{_epsg(file, path, text)}")


def _epsg(file: h5py.File, path: str, text: str) -> int:
    """Return the EPSG code of a UTM zone, of which GCTP numbers those in the south below 0."""
    epsg = number(file[_GROUPS["ortho"]], "epsg_code")
    zone = re.search(r"^\s*ZoneCode=(-?\d+)\s*$", text, re.MULTILINE)
    north_or_south, number_in_it = divmod(int(epsg), 100)
    if (
        north_or_south not in (326, 327)
        or zone is None
        or abs(int(zone[1])) != number_in_it
        or not 1 <= number_in_it <= 60
        or (int(zone[1]) < 0 and north_or_south == 326)
    ):
        raise InputError(
            f"{path}: EPSG code {epsg:g} contradicts the UTM zone "
            f"{zone[1] if zone else 'that is missing'} in StructMetadata.0; the product is damaged"
        )
    return int(epsg)


def _structure(file: h5py.File, path: str) -> str:
    """Return the part of the structural metadata that describes the grid."""
    found = file.get("HDFEOS INFORMATION/StructMetadata.0")
    if not isinstance(found, h5py.Dataset) or found.size != 1:
        raise InputError(f"{path} lacks HDFEOS INFORMATION/StructMetadata.0; it is damaged")
    content = np.asarray(small(found)).reshape(-1)[0]
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    grids = text.split("GROUP=GridStructure")
    part = grids[1] if len(grids) > 1 else ""  # until "END_GROUP=GridStructure"
    for name, value in _GRID.items():
        said = re.search(rf"^\s*{name}=(.*?)\s*$", part, re.MULTILINE)
        if said[1] != value if said else name in _GRID_NEEDS:
            raise InputError(
                f"{path}: StructMetadata.0 lacks {name}={value}; it is damaged or of another kind"
            )
    return part


def _pair(text: str, path: str, name: str) -> tuple[float, float]:
    found = re.search(rf"^\s*{name}=\(([-+.\d]+),([-+.\d]+)\)\s*$", text, re.MULTILINE)
    try:
        if found:
            return float(found[1]), float(found[2])
    except ValueError:
        pass
    raise InputError(f"{path}: StructMetadata.0 lacks {name}, or it is damaged")


def _swath(
    file: h5py.File, path: str, size: list[int], pixel_coordinates: bool
) -> tuple[GeoBox, str]:
    fields = f"{_GROUPS['basic']}/Geolocation Fields"
    places = geolocation(file, f"{fields}/Latitude", f"{fields}/Longitude", tuple(size))
    extent, advice = places.extent(), "download the ortho scene"
    check_not_on_a_grid(
        path, "a basic scene of Tanager's", advice, extent, pixel_coordinates=pixel_coordinates
    )
    return pixel_grid(*size), extent


def _quality(
    file: h5py.File, group: str, opened: str, stamp: str, size: list[int]
) -> QualityLayers | None:
    layers = []
    for name, flag in _MASKS.items():
        if f"{group}/{name}" not in file:
            continue
        plane = dataset_of(file, f"{group}/{name}", 2, ["u1", "i1", "<u4", "<i4"])
        check_quality_size(file_name(file), name, plane.shape, size)
        part = HdfPart(f"{group}/{name}", "yx", (0,))
        dtype = plane.dtype.newbyteorder("=")
        pixels = HdfPixels(opened, stamp, (part,), (1, size[0], size[1]), dtype)
        layers.append(QualityLayer(pixels, 0, ((1, flag),)))
    return QualityLayers(tuple(layers)) if layers else None


def _attrs(file: h5py.File, name: str, kind: str, content: str) -> dict[str, str]:
    stem = PurePosixPath(name).stem
    attrs = {
        "scene_id": stem,
        "sensor": "Tanager",
        "level": f"{kind}_{content}",
        "quantity": _QUANTITIES[content],
    }
    strip = file[_GROUPS[kind]].attrs.get("strip_id")
    if strip is not None:
        attrs["strip_id"] = str(attribute(file[_GROUPS[kind]], "strip_id"))
    taken = re.match(r"(20\d{6}_\d{6})(?:_(\d\d))?_", stem)
    try:
        if taken:
            time = datetime.strptime(taken[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
            attrs["acquired"] = f"{time:%Y-%m-%dT%H:%M:%S}{f'.{taken[2]}' if taken[2] else ''}Z"
    except ValueError:  # the name was made up
        pass
    return attrs
