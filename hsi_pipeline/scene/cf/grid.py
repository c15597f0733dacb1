"""The map grid of CF variables: coordinates of pixel centres and a grid mapping. No I/O.

Convention: CF-1.11, sections 4 and 5.6 (cfconventions.org); the attributes `GeoTransform` and
`spatial_ref` are GDAL's additions to it, `_CRS` its way in Zarr stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError

from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.raster import check_extent

_AGREED = 0.1  # pixels, between coordinates and a geotransform
_EXACT = 1e-5  # pixels; single precision and rounding make far larger steps
_DEGREES = ("degree", "degrees", "degrees_north", "degrees_east", "degree_north", "degree_east")
_METRES = ("m", "metre", "meter", "metres", "meters")


@dataclass(frozen=True)
class Axis:
    """A coordinate of pixel centres along one dimension."""

    values: np.ndarray
    """Float64, one for each row or column."""
    unit: str
    """As the file says it, "" where it does not."""


def find_crs(mapping: Mapping[str, Any], pixels: Mapping[str, Any]) -> CRS | None:
    """Return the CRS of a grid mapping.

    Args:
        mapping: Attributes of the grid mapping variable, empty where there is none.
        pixels: Attributes of the pixels, for GDAL's `_CRS`.

    Returns:
        The CRS, None where nothing tells it.

    Raises:
        InputError: It cannot be understood, or two places say different things.
    """
    gdal = pixels.get("_CRS")
    texts = [mapping.get("crs_wkt"), mapping.get("spatial_ref")]
    if not any(texts) and isinstance(gdal, dict):
        texts = [gdal.get("wkt")]
    try:
        found = [CRS(text) for text in texts if isinstance(text, str) and text]
        if not found and "grid_mapping_name" in mapping:
            found = [CRS(pyproj.CRS.from_cf(dict(mapping)))]
    except (ProjError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:120]  # PROJ repeats the whole text of the CRS
        raise InputError(f"the CRS of its grid mapping cannot be understood ({said})") from error
    codes = {crs.epsg for crs in found if crs.epsg is not None}
    if len(codes) > 1:
        raise InputError(f"its grid mapping names several CRS, EPSG {sorted(codes)}; correct it")
    return found[0] if found else None


def find_grid(
    shape: tuple[int, int],
    axes: tuple[Axis | None, Axis | None],
    crs: CRS | None,
    geotransform: Any,
    *,
    pixel_coordinates: bool,
    keep: bool,
) -> tuple[GeoBox, bool, bool]:
    """Return the grid of pixels, north-up.

    Args:
        shape: (y, x).
        axes: Coordinates of y and x, None where there are none.
        crs: CRS of the coordinates.
        geotransform: Text or list of GDAL's six numbers, None where there is none.
        pixel_coordinates: Permits pixels without CRS.
        keep: Leave rows and columns in the order in which they are stored.

    Returns:
        The grid, and whether rows and whether columns must be reversed for it.

    Raises:
        InputError: There is no CRS, or the coordinates are missing, irregular, or contradict the
            geotransform or the CRS.
    """
    if crs is None:
        if pixel_coordinates:
            return pixel_grid(*shape), False, False
        raise InputError(
            "it has no CRS; add a grid mapping (crs_wkt), or work in pixel coordinates with "
            "--pixel-coordinates"
        )
    stated = _transform(geotransform)
    fitted = _fitted(axes, shape, crs, stated)
    transform = stated or fitted
    if transform is None:
        raise InputError("it has a CRS but no coordinates of its rows and columns; add them")
    if stated and fitted and not _agree(stated, fitted, shape):
        raise InputError(
            f"its coordinates and its geotransform {tuple(stated)[:6]} disagree; correct one"
        )
    check_extent("its grid", GeoBox(shape, transform, crs))
    flip_y = not keep and transform.is_rectilinear and transform.e > 0
    flip_x = not keep and transform.is_rectilinear and transform.a < 0
    if flip_y:
        transform = transform @ Affine(1, 0, 0, 0, -1, shape[0])
    if flip_x:
        transform = transform @ Affine(-1, 0, shape[1], 0, 1, 0)
    return GeoBox(shape, transform, crs), flip_y, flip_x


def _transform(geotransform: Any) -> Affine | None:
    if geotransform is None or geotransform == "":
        return None
    parts = geotransform.split() if isinstance(geotransform, str) else geotransform
    try:
        numbers = [float(part) for part in parts]
        transform = Affine.from_gdal(*numbers)
    except (TypeError, ValueError) as error:
        raise InputError(f"its GeoTransform {geotransform!r} is not six numbers") from error
    if not np.isfinite(numbers).all() or transform.is_degenerate:
        raise InputError(f"its GeoTransform {geotransform!r} maps no pixel")
    return transform


def _fitted(
    axes: tuple[Axis | None, Axis | None],
    shape: tuple[int, int],
    crs: CRS,
    stated: Affine | None,
) -> Affine | None:
    """Return the transform that coordinates mean, None where they do not tell one."""
    y, x = axes
    if y is None or x is None:
        return None
    if stated is not None and not stated.is_rectilinear:
        # Rotated grids have no coordinates; odc-geo counts pixels along such dimensions.
        for axis, count in ((y, shape[0]), (x, shape[1])):
            if not np.allclose(axis.values, np.arange(count) + 0.5):
                raise InputError("its geotransform is rotated, but it has coordinates of a map")
        return None
    for name, axis in (("y", y), ("x", x)):
        _check_unit(name, axis.unit, crs)
    down = _spacing("y", y.values, stated.e if stated else None)
    across = _spacing("x", x.values, stated.a if stated else None)
    return Affine(across, 0, x.values[0] - across / 2, 0, down, y.values[0] - down / 2)


def _spacing(name: str, values: np.ndarray, single: float | None) -> float:
    """Return the distance of equally spaced coordinates; of a single one it is told."""
    if not np.isfinite(values).all():
        raise InputError(f"its coordinate {name} holds values that are no numbers")
    if len(values) == 1:
        if single is None:
            raise InputError(f"its coordinate {name} has one value, which tells no pixel size")
        return single
    even, step = np.linspace(values[0], values[-1], len(values), retstep=True)
    off = np.abs(values - even)
    if step == 0 or not (off <= abs(step) * _AGREED).all() or _has_outliers(values):
        raise InputError(
            f"its coordinate {name} is not regular; warp the scene to a grid (gdalwarp)"
        )
    return float(step)


def _has_outliers(values: np.ndarray) -> bool:
    """Tell whether most coordinates are equally spaced to the last digit, and a few are not."""
    step = np.median(np.diff(values))
    even = values - step * np.arange(len(values))
    exact = np.abs(even - np.median(even)) <= abs(step) * _EXACT
    return bool(0.7 < exact.mean() < 1)


def _check_unit(name: str, unit: str, crs: CRS) -> None:
    """Refuse coordinates that are in another unit than the CRS."""
    unit = unit.lower().strip()
    wrong = _METRES if crs.geographic else _DEGREES
    known = (*_METRES, *_DEGREES)
    metric = crs.projected and all(axis.unit_name == "metre" for axis in crs.proj.axis_info)
    factors = [axis.unit_conversion_factor for axis in crs.proj.axis_info]
    feet = crs.projected and unit in _METRES and any(factor != 1 for factor in factors)
    if unit in wrong or feet or (unit not in ("", "1", *known) and (metric or crs.geographic)):
        raise InputError(f"its coordinate {name} is in {unit!r}, which its CRS is not; convert it")


def _agree(one: Affine, other: Affine, shape: tuple[int, int]) -> bool:
    """Tell whether two transforms put the corners at the same place."""
    height, width = shape
    back = ~one
    return all(
        np.abs(np.subtract(back @ (other @ corner), corner)).max() <= _AGREED
        for corner in ((0, 0), (width, 0), (0, height), (width, height))
    )
