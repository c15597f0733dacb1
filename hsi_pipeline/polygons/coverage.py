"""Simpler and smoother polygons that still share their sides: no gaps, no overlaps.

Polygons must come with `nodes=True` from `polygonize`, and all at once: a side can move only where
both of its neighbours are at hand.
"""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely

from hsi_pipeline.areas import perimeters, polygon_areas
from hsi_pipeline.errors import InputError

_ROUNDS = 2  # of corner cutting; each doubles the vertices


def simplify(
    polygons: gpd.GeoDataFrame, tolerance: float = 0.0, *, smooth: bool = False
) -> gpd.GeoDataFrame:
    """Simplify and smooth the polygons of a whole map.

    Args:
        polygons: As `polygonize` gives them with `nodes=True`, all of a map.
        tolerance: In units of the CRS (pixels without one): a vertex goes if the triangle with its
            neighbours is smaller than the square of this. Method of Visvalingam and Whyatt (1993),
            doi:10.1179/000870493786962263, by GEOS.
        smooth: Cut the corners that are left. Method of Chaikin (1974),
            doi:10.1016/0146-664X(74)90028-8. Where lines would cross, corners stay.

    Returns:
        The same rows with other geometry and its `area_m2` and `perimeter_m`.

    Raises:
        InputError: The tolerance is negative or no number.
    """
    check_tolerance(tolerance)
    geometry = polygons.geometry.to_numpy()
    if tolerance > 0:
        geometry = shapely.coverage_simplify(geometry, tolerance)
    if smooth and len(geometry):
        geometry = _smooth(geometry)
    return polygons.set_geometry(gpd.GeoSeries(geometry, polygons.index, crs=polygons.crs)).assign(
        area_m2=polygon_areas(geometry, polygons.crs),
        perimeter_m=perimeters(geometry, polygons.crs),
    )


def check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance that makes no sense.

    Raises:
        InputError: It is negative or no number.
    """
    if not 0 <= tolerance < np.inf:
        raise InputError(f"the tolerance of simplification is {tolerance}, expected 0 or more")


def _smooth(geometry: np.ndarray) -> np.ndarray:
    """Cut corners, but not where three sides meet, nor where lines would cross."""
    kind, points, offsets = shapely.to_ragged_array(geometry, include_z=False)
    fixed = np.zeros(0, np.complex128)
    while True:
        new, starts = points, offsets[0]
        for _ in range(_ROUNDS):
            new, starts = _cut_corners(new, starts, fixed)
        smoothed = shapely.from_ragged_array(kind, new, (starts, *offsets[1:]))
        # what crosses something is not valid, or has sides that no neighbour shares
        wrong = ~shapely.is_empty(shapely.coverage_invalid_edges(smoothed))
        wrong |= ~shapely.is_valid(smoothed)
        if not wrong.any():
            return smoothed
        corners = _as_numbers(shapely.get_coordinates(geometry[wrong]))
        if np.isin(corners, fixed).all():
            raise AssertionError("polygons that were not smoothed are no valid coverage")
        fixed = np.union1d(fixed, corners)


def _cut_corners(
    points: np.ndarray, starts: np.ndarray, fixed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put two points on each side in place of its ends, a quarter from them.

    Args:
        points: (point, 2) of rings, each with its first point again at its end.
        starts: Where rings begin, and the end of the last.
        fixed: Corners to leave, as complex numbers.

    Returns:
        New points and starts.
    """
    numbers = _as_numbers(points)
    unique, place = np.unique(numbers, return_inverse=True)
    sides = np.delete(np.arange(len(points)), starts[1:] - 1)
    one, other = place[sides], place[sides + 1]
    pairs = np.unique(np.minimum(one, other) * len(unique) + np.maximum(one, other))
    ways = np.bincount(np.concatenate(np.divmod(pairs, len(unique))), minlength=len(unique))
    stays = (ways != 2) | np.isin(unique, fixed)
    from_one, from_other = points[sides], points[sides + 1]
    # both neighbours of a side compute the same numbers, to the last bit, from either end
    near = np.where(stays[one][:, None], from_one, 0.75 * from_one + 0.25 * from_other)
    far = 0.25 * from_one + 0.75 * from_other
    new = np.stack((near, far), axis=1).reshape(-1, 2)
    kept = np.stack((np.ones(len(sides), bool), ~stays[other]), axis=1).ravel()
    ring = np.repeat(np.arange(len(starts) - 1), np.diff(starts) - 1)
    counts = np.bincount(ring, weights=1 + ~stays[other], minlength=len(starts) - 1).astype(int)
    ends = np.concatenate(([0], np.cumsum(counts)))
    new = new[kept]
    closed = np.insert(new, ends[1:], new[ends[:-1]], axis=0)
    return closed, ends + np.arange(len(starts))


def _as_numbers(points: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(points).view(np.complex128).ravel()
