"""Geometries to WGS 84, cut at the antimeridian; and the footprint of a grid.

As in RFC 7946, no geometry reaches over longitude 180: one that does is two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from shapely.affinity import translate
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

_PIECES = 32  # of an edge, which bends on its way to degrees
_TOLERANCE, _DECIMALS = 1e-5, 7  # degrees: a metre, and a centimetre
_BROKEN = (OverflowError, ValueError, TypeError, KeyError, IndexError, AttributeError, ShapelyError)


def box(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """Return a box in degrees; west > east goes over the antimeridian."""
    if west <= east:
        return cut(shapely.box(west, south, east, north))
    return cut(shapely.box(west, south, east + 360, north))


def footprint(grid: GeoBox) -> dict[str, Any] | None:
    """Return the footprint of a grid as GeoJSON in WGS 84, None where it has no place on Earth."""
    if grid.crs is None:
        return None
    try:
        found = to_degrees(grid.extent.geom, grid.crs.proj)
    except ProjError:
        return None
    if found is None:
        return None
    simple = shapely.transform(found.simplify(_TOLERANCE), lambda xy: xy.round(_DECIMALS))
    return shapely.geometry.mapping(simple)


def to_degrees(geometry: BaseGeometry, crs: CRS) -> BaseGeometry | None:
    """Return a geometry in WGS 84, cut at the antimeridian.

    Args:
        geometry: In the CRS, polygons, lines or points.
        crs: Its CRS.

    Returns:
        None where it has no place in WGS 84.
    """
    # before its edges are divided: GEOS 3.14 takes a divided bow tie for valid, without one half
    geometry = shapely.make_valid(geometry)
    west, south, east, north = geometry.bounds
    if longest := max(east - west, north - south):
        geometry = shapely.segmentize(geometry, longest / _PIECES)
    transformer = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    moved = shapely.transform(
        shapely.force_2d(geometry), lambda xy: np.column_stack(transformer.transform(*xy.T))
    )
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        return None
    parts = [cut(_unwrapped(part)) for part in shapely.get_parts(moved)]
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)


def from_geojson(geometry: Mapping[str, Any]) -> BaseGeometry | None:
    """Return the footprint of an item, cut at the antimeridian; None if it is no geometry.

    A scene is never wider than half of the Earth: one that seems to be goes over the antimeridian,
    and its catalog did not cut it.
    """
    try:
        parts = shapely.get_parts(shapely.force_2d(shapely.geometry.shape(geometry)))
        if shapely.is_empty(parts).all() or not np.isfinite(shapely.get_coordinates(parts)).all():
            return None
        parts = [cut(_narrow(part)) for part in parts]
        whole = parts[0] if len(parts) == 1 else shapely.union_all(shapely.make_valid(parts))
        return whole if shapely.is_valid(whole) else shapely.make_valid(whole)
    except _BROKEN:
        return None


def cut(geometry: BaseGeometry) -> BaseGeometry:
    """Bring a geometry between longitudes -180 and 180; what reaches beyond is cut in two."""
    west, south, east, north = geometry.bounds
    if west >= -180 and east <= 180:
        return geometry
    if east - west >= 360:
        return shapely.box(-180, south, 180, north)
    turns = 360 * np.floor((west + 180) / 360)
    here = translate(geometry, xoff=-turns)
    if east - turns <= 180:
        return here
    here = shapely.make_valid(here)
    first = here & shapely.box(-180, -90, 180, 90)
    return first | translate(here & shapely.box(180, -90, 540, 90), xoff=-360)


def _narrow(part: BaseGeometry) -> BaseGeometry:
    """Shift the western part of a footprint beyond 180 where it seems to be around the Earth."""
    west, _, east, _ = part.bounds
    if east - west <= 180 or (west <= -180 and east >= 180):  # as a footprint around a pole is
        return part
    return shapely.transform(part, lambda xy: xy + np.where(xy[:, :1] < 0, [[360, 0]], [[0, 0]]))


def _unwrapped(part: BaseGeometry) -> BaseGeometry:
    """Make longitudes go on where they jump at the antimeridian; a ring around a pole is a cap."""
    if part.geom_type != "Polygon":
        return shapely.transform(part, lambda xy: _on(xy, xy[0, 0]))
    shell = _on(shapely.get_coordinates(part.exterior), part.exterior.coords[0][0])
    if abs(shell[-1, 0] - shell[0, 0]) > 180:
        _, south, _, north = part.bounds
        return shapely.box(-180, *((south, 180, 90) if north + south > 0 else (-90, 180, north)))
    holes = [_on(shapely.get_coordinates(hole), shell[0, 0]) for hole in part.interiors]
    return shapely.Polygon(shell, holes)


def _on(xy: np.ndarray, start: float) -> np.ndarray:
    """Return points whose longitudes do not jump, of which the first is near another longitude."""
    longitude = np.unwrap(xy[:, 0], period=360)
    longitude = longitude - 360 * np.round((longitude[0] - start) / 360)
    return np.column_stack([longitude, xy[:, 1]])
