"""PRISMA products of the Italian Space Agency (HDF-EOS5, `PRS_L*.he5`), as files or in their zip.

Sources: ASI's product specification as irea-cnr-mi/prismaread and senbox-org/optical-toolbox quote
it (layout, scaling, codes), and the latter's values of a real L2D product (georeference).
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from datetime import datetime

import h5py
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import file_stamp, is_remote
from hsi_pipeline.scene.hdf5 import (
    HdfPart,
    HdfPixels,
    attribute,
    dataset_of,
    file_name,
    hdf5_file,
    number,
    stored_block,
)
from hsi_pipeline.scene.places import archive_kind, place_of
from hsi_pipeline.scene.prisma_bands import (
    AXES,
    Detector,
    detector_of,
    fields_of,
    joined,
    within_swath,
)
from hsi_pipeline.scene.quality import QualityLayer, QualityLayers, check_quality_size
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.scene.swath import Geolocation, check_not_on_a_grid, geolocation

_NAME = "PRS_L*.he5"
_LEVELS = ("L1", "L2B", "L2C", "L2D")
_DETECTORS = ("Vnir", "Swir")
_PIXEL_M = 30.0  # of the hyperspectral cubes of L2D
# Codes of each band and pixel, 0 where all is well. Those of L1 are: defective, saturated, less
# accurate for coregistration, not a number; of L2: invalid in L1, negative, saturated, and 4, which
# the panchromatic matrix of a real product has and the specification does not explain.
_L1_ERRORS = ((1, "low_quality"), (2, "saturated"), (3, "low_quality"), (4, "invalid"))
_L2_ERRORS = ((1, "invalid"), (2, "low_quality"), (3, "saturated"), (4, "low_quality"))
_L1_MASKS = {
    "Cloud_Mask": ((1, "cloud"),),
    "SunGlint_Mask": ((1, "low_quality"),),
    "LandCover_Mask": ((0, "water"), (1, "snow")),
}


def recognises(path: str) -> bool:
    """Tell whether a path is a PRISMA product, or a zip or folder that holds one."""
    name = posixpath.basename(path.replace("\\", "/")).upper()
    if name.startswith("PRS_L") and name.endswith((".HE5", ".ZIP")):
        return True
    if is_remote(path) or not os.path.exists(path):
        return False
    try:
        if name.endswith(".HE5") and os.path.isfile(path):
            with hdf5_file(os.path.abspath(path), file_stamp(path)) as file:
                return bool(_levels_in(file))
        holds_files = os.path.isdir(path) or archive_kind(path)
        return bool(holds_files and place_of(path)[0].find(_NAME))
    except (InputError, OSError):
        return False


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what a PRISMA product holds.

    Args:
        path: The `.he5` file, or a zip or folder with one in it.
        pixel_coordinates: Permits levels L1, L2B and L2C, which are not on a map grid.

    Returns:
        The scene's source: bands of the detector VNIR, then those of SWIR, as stored (descending
        wavelengths), without those that were not delivered.

    Raises:
        InputError: The file is missing, damaged or contradicts itself, or its level is not on a
            map grid and `pixel_coordinates` is False.
    """
    product = _located(path)
    with hdf5_file(product.opened, product.stamp) as file:
        levels = _levels_in(file)
        if len(levels) != 1:
            raise InputError(
                f"{path} is no PRISMA product of level {', '.join(_LEVELS)}: it lacks the cubes "
                "HDFEOS/SWATHS/PRS_*_HCO, or holds several"
            )
        level = levels[0]
        detectors = [detector_of(file, path, level, name) for name in _DETECTORS]
        size = detectors[0].size
        if detectors[1].size != size:
            raise InputError(f"{path}: the VNIR and SWIR cubes are of unlike size; it is damaged")
        bands = joined(detectors)
        pixels = product.pixels([d.part for d in detectors], size, np.uint16)
        places, attrs = _geolocation(file, level, size), _attrs(file, product, level)
        if level == "L2D":
            grid = _grid(file, path, size)
            places.check_grid(path, grid, _PIXEL_M)
        else:
            extent, advice = places.extent(), "download level L2D of the same scene"
            check_not_on_a_grid(
                path, f"PRISMA {level}", advice, extent, pixel_coordinates=pixel_coordinates
            )
            grid, attrs["geolocation_extent"] = pixel_grid(*size), extent
        return SceneSource(
            path=path,
            grid=grid,
            block=stored_block(file[detectors[0].part.dataset], AXES),
            attrs=attrs,
            quality=_quality(file, product, level, detectors),
            # the other levels are not on a grid, so that the swath fills them
            nodata=0 if level == "L2D" else None,
            pixels=within_swath(pixels, bands["wavelengths"]) if level == "L2D" else pixels,
            **bands,
        )


@dataclass(frozen=True)
class _Product:
    """Where a product's file is."""

    name: str
    opened: str
    stamp: str
    advice: str

    def pixels(
        self, parts: list[HdfPart], size: tuple[int, int], dtype: type[np.integer]
    ) -> HdfPixels:
        bands = sum(len(part.bands) for part in parts)
        return HdfPixels(self.opened, self.stamp, tuple(parts), (bands, *size), np.dtype(dtype))


def _located(path: str) -> _Product:
    place, name = place_of(path)
    names = [name] if name else place.find(_NAME)
    if len(names) != 1:
        found = f"holds several ({', '.join(names)})" if names else "holds no PRS_*.he5"
        raise InputError(f"{path} {found}; give the one to open")
    # A compressed file cannot be read from its middle.
    slow = bool(place.archive) or archive_kind(path) != ""
    advice = f"{path} is read out of its archive, which is slow; unpack it" if slow else ""
    stem = posixpath.splitext(posixpath.basename(names[0]))[0]
    stamp = file_stamp(place.root if place.archive else place.opened(names[0]))
    return _Product(stem, place.opened(names[0]), stamp, advice)


def _levels_in(file: h5py.File) -> list[str]:
    """Return the levels whose hyperspectral cubes a file holds."""
    return [level for level in _LEVELS if f"HDFEOS/SWATHS/PRS_{level}_HCO" in file]


def _grid(file: h5py.File, path: str, size: tuple[int, int]) -> GeoBox:
    """Return the map grid of L2D.

    The product's corners are centres of the corner pixels: latitude and longitude of pixels of a
    real product agree with that to 0.2 m, and its corners lie 30 m times the pixels less one apart.
    """
    corner = {
        f"{at} {axis}": number(file, f"Product_{at}corner_{axis}")
        for at in ("UL", "UR", "LL", "LR")
        for axis in ("easting", "northing")
    }
    west = min(corner["UL easting"], corner["LL easting"])
    east = max(corner["UR easting"], corner["LR easting"])
    south = min(corner["LL northing"], corner["LR northing"])
    north = max(corner["UL northing"], corner["UR northing"])
    for length, pixels in ((north - south, size[0]), (east - west, size[1])):
        if abs(length - _PIXEL_M * (pixels - 1)) > _PIXEL_M / 20:
            raise InputError(
                f"{path}: its corners are {length:g} m apart, {pixels} pixels of {_PIXEL_M:g} m "
                f"are {_PIXEL_M * (pixels - 1):g} m from first to last; the product is damaged"
            )
    epsg = number(file, "Epsg_Code")
    affine = Affine(_PIXEL_M, 0, west - _PIXEL_M / 2, 0, -_PIXEL_M, north + _PIXEL_M / 2)
    if int(epsg) // 100 not in (326, 327) or not 1 <= int(epsg) % 100 <= 60:
        raise InputError(f"{path}: EPSG code {epsg:g} is no UTM zone on WGS 84, as L2D has")
    return GeoBox(size, affine, f"EPSG:{int(epsg)}")


def _geolocation(file: h5py.File, level: str, size: tuple[int, int]) -> Geolocation:
    group = f"HDFEOS/SWATHS/PRS_{level}_HCO/Geolocation Fields"
    end = "_VNIR" if level == "L1" else ""
    return geolocation(file, f"{group}/Latitude{end}", f"{group}/Longitude{end}", size)


def _quality(
    file: h5py.File, product: _Product, level: str, detectors: list[Detector]
) -> QualityLayers | None:
    """Return the flags that a product has: an error code of each band and pixel, masks of L1."""
    size, fields = detectors[0].size, fields_of(level)
    end, codes = ("SAT", _L1_ERRORS) if level == "L1" else ("L2", _L2_ERRORS)
    names = [f"{fields}/{name.upper()}_PIXEL_{end}_ERR_MATRIX" for name in _DETECTORS]
    layers, parts = [], []
    if any(name in file for name in names):
        for detector, name in zip(detectors, names, strict=True):
            found = dataset_of(file, name, 3, ["u1"])
            check_quality_size(file_name(file), name, found.shape[::2], size)
            if max(detector.part.bands) >= found.shape[1]:
                raise InputError(f"{file_name(file)}: {name} has too few bands; it is damaged")
            parts.append(HdfPart(name, AXES, detector.part.bands))
        layers.append(QualityLayer(product.pixels(parts, size, np.uint8), None, codes))
    for mask, values in _L1_MASKS.items() if level == "L1" else ():
        if f"{fields}/{mask}" in file:
            found = dataset_of(file, f"{fields}/{mask}", 2, ["u1"])
            check_quality_size(file_name(file), mask, found.shape, size)
            part = HdfPart(f"{fields}/{mask}", "yx", (0,))
            layers.append(QualityLayer(product.pixels([part], size, np.uint8), 0, values))
    return QualityLayers(tuple(layers)) if layers else None


def _attrs(file: h5py.File, product: _Product, level: str) -> dict[str, str | float]:
    attrs: dict[str, str | float] = {
        "scene_id": product.name,
        "sensor": "PRISMA",
        "level": level,
        "quantity": "radiance" if level in ("L1", "L2B") else "reflectance",
    }
    try:
        start = datetime.fromisoformat(str(attribute(file, "Product_StartTime")))
        attrs["acquired"] = f"{start.isoformat()}Z"
    except (InputError, ValueError):  # a scene is of use without its time
        pass
    if "Cloudy_pixels_percentage" in file.attrs:
        share = number(file, "Cloudy_pixels_percentage") / 100
        attrs |= {"cloud_share": share} if 0 <= share <= 1 else {}
    return attrs | ({"advice": product.advice} if product.advice else {})
