"""Areas and lengths on the ground: planar if the CRS is projected, else on the ellipsoid."""

from __future__ import annotations

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod


def pixel_areas(grid: GeoBox) -> np.ndarray:
    """Return the areas of the pixels of a grid, or of a part of one.

    Returns:
        m2, (1, 1) for a projected CRS, (y, 1) for a geographic one, (y, x) if that is rotated; 1
        where there is no CRS. On a rotated geographic grid a pixel is taken as the part of its
        latitude belt that has its share of longitude, right to the third order of its size.
    """
    if grid.crs is None:
        return np.ones((1, 1))
    crs = CRS(grid.crs.to_wkt())
    to_unit = _units(crs)
    transform = grid.transform
    if not crs.is_geographic:
        return np.full((1, 1), abs(transform.determinant) * to_unit**2)
    rows, columns = np.ogrid[: grid.shape[0], : grid.shape[1] if transform.d else 1]
    across = transform.d * (columns + 0.5)
    latitude = (across + transform.e * (rows + 0.5) + transform.f) * to_unit
    half = (abs(transform.d) + abs(transform.e)) / 2 * to_unit
    belt = _area_from_equator(latitude + half, crs) - _area_from_equator(latitude - half, crs)
    return belt / (2 * half) * abs(transform.determinant) * to_unit**2


def polygon_areas(geometry: np.ndarray, crs: CRS | None) -> np.ndarray:
    """Return the areas of polygons in m2, or in square units where there is no CRS.

    In a geographic CRS sides along meridians and parallels, as those of pixels, are taken for what
    they are, others for straight lines of the equal-area projection.
    """
    if crs is None:
        return shapely.area(geometry)
    to_unit = _units(crs)
    if not crs.is_geographic:
        return shapely.area(geometry) * to_unit**2

    def equal_area(degrees: np.ndarray) -> np.ndarray:
        radians = degrees * to_unit
        return np.column_stack((radians[:, 0], _area_from_equator(radians[:, 1], crs)))

    return shapely.area(shapely.transform(geometry, equal_area))


def perimeters(geometry: np.ndarray, crs: CRS | None) -> np.ndarray:
    """Return the lengths of all rings of polygons in m, or in units where there is no CRS.

    In a geographic CRS every side is the geodesic between its ends.
    """
    if crs is None:
        return shapely.length(geometry)
    if not crs.is_geographic:
        return shapely.length(geometry) * _units(crs)
    parts, owner = shapely.get_parts(geometry, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    owner = owner[part]
    points, ring = shapely.get_coordinates(rings, return_index=True)
    sides = np.flatnonzero(ring[1:] == ring[:-1])  # not those from one ring to the next
    degrees = np.degrees(points * _units(crs))
    one, other = degrees[sides], degrees[sides + 1]
    ellipsoid = crs.ellipsoid
    geod = Geod(a=ellipsoid.semi_major_metre, b=ellipsoid.semi_minor_metre)
    _, _, lengths = geod.inv(one[:, 0], one[:, 1], other[:, 0], other[:, 1])
    return np.bincount(owner[ring[sides]], weights=lengths, minlength=len(geometry))


def _units(crs: CRS) -> float:
    """Return metres, or radians, in a unit of the CRS."""
    return crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0


def _area_from_equator(latitude: np.ndarray, crs: CRS) -> np.ndarray:
    """Return the area between equator and a latitude, per radian of longitude, in m2.

    Snyder (1987), Map Projections: A Working Manual, equation 3-12, times a**2 / 2.
    """
    ellipsoid = crs.ellipsoid
    a, b = ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre
    e = np.sqrt(1 - (b / a) ** 2)
    sine = np.sin(latitude)
    if e < 1e-6:  # a sphere
        return a**2 * sine
    return b**2 / 2 * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)
