"""Where a grid lies -> footprint and projection of a STAC item."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.exceptions import ProjError
from shapely.affinity import translate

_EDGE_POINTS = 32
_DECIMALS = 7  # of a degree: a centimetre
_TOLERANCE = 1e-5  # degrees, a metre: how far the outline may be off
_NOWHERE: dict[str, Any] = {"geometry": None}


def footprint(grid: GeoBox) -> dict[str, Any]:
    """Return geometry and bbox in WGS 84 (RFC 7946).

    Where the grid has no place on Earth (no CRS, or a local one), the geometry is null and there
    is no bbox.

    A footprint over the antimeridian is cut there, and its bbox has west > east; one around a pole
    reaches to the pole.
    """
    if grid.crs is None:
        return _NOWHERE
    try:
        transformer = Transformer.from_crs(grid.crs.proj, "EPSG:4326", always_xy=True)
    except ProjError:
        return _NOWHERE
    longitude, latitude = transformer.transform(*_outline(grid))
    if not np.isfinite([longitude, latitude]).all():
        return _NOWHERE
    longitude = np.unwrap(longitude, period=360)
    longitude -= 360 * np.floor((longitude.min() + 180) / 360)
    if abs(longitude[-1] - longitude[0]) > 180:  # the outline went once around a pole
        polar = [90, latitude.min()] if latitude.mean() > 0 else [-90, latitude.max()]
        polygon = shapely.box(-180, min(polar), 180, max(polar))
    else:
        polygon = shapely.Polygon(np.column_stack([longitude, latitude]))
    west, south, east, north = polygon.bounds
    polygon = polygon.simplify(_TOLERANCE)
    if east > 180:
        here = polygon & shapely.box(-180, -90, 180, 90)
        beyond = translate(polygon & shapely.box(180, -90, 540, 90), xoff=-360)
        polygon, east = shapely.MultiPolygon([here, beyond]), east - 360
    rounded = shapely.transform(shapely.orient_polygons(polygon), lambda xy: xy.round(_DECIMALS))
    return {
        "geometry": shapely.geometry.mapping(rounded),
        "bbox": [round(float(edge), _DECIMALS) for edge in (west, south, east, north)],
    }


def _outline(grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y along the outer edges of a grid, closed; straight edges bend elsewhere."""
    rows, columns = grid.shape
    there = np.linspace(0, 1, _EDGE_POINTS)
    back, none, all_ = there[::-1], np.zeros(_EDGE_POINTS), np.ones(_EDGE_POINTS)
    row = rows * np.concatenate([there, all_, back, none])
    column = columns * np.concatenate([none, there, all_, back])
    a, b, c, d, e, f = tuple(grid.affine)[:6]
    return a * column + b * row + c, d * column + e * row + f


def projection(grid: GeoBox) -> dict[str, Any]:
    """Return the CRS; `proj:epsg` is null where there is none, or no code for it."""
    if grid.crs is None:
        return {"proj:epsg": None}
    crs = grid.crs.proj
    code = crs.to_epsg()
    return {"proj:epsg": code} | ({} if code else {"proj:wkt2": crs.to_wkt("WKT2_2019")})


def pixels(grid: GeoBox) -> dict[str, Any]:
    """Return the shape and transform of a raster on the grid."""
    return {"proj:shape": list(grid.shape), "proj:transform": list(grid.affine)[:6]}
