"""Training and test polygons, drawn as a person would: a few corners inside one patch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
from affine import Affine
from landscape import FINE, Canvas
from rasterio.features import rasterize
from scipy.ndimage import distance_transform_edt, find_objects, maximum_position
from shapely import Polygon
from shapely.affinity import affine_transform, translate

APART = 6.0
"""Least distance of training and test polygons, in pixels of the scene."""
REACH = 5.0
"""Longest distance from a polygon's middle to a corner, in pixels of the scene."""
BETWEEN = 0.2
"""Least distance of two polygons of one side, in pixels of the scene."""
TRIES = 6
"""Polygons drawn in each patch; the largest is kept."""


@dataclass(frozen=True)
class Drawn:
    """A polygon of one class."""

    code: int
    """Class code."""
    parcel: int
    """Parcel it lies in."""
    polygon: Polygon
    """Coordinates are (column, row) in pixels of the scene."""


def digitize(
    canvas: Canvas,
    footprint: np.ndarray,
    wanted: Mapping[int, tuple[int, int]],
    rng: np.random.Generator,
) -> tuple[list[Drawn], list[Drawn]]:
    """Draw polygons for training and for test, in different parcels and apart.

    Args:
        canvas: The landscape.
        footprint: bool (y, x) on the fine grid, where the scene has pixels.
        wanted: Number of training and test polygons by class code; fewer where there is no room.
        rng: Source of randomness.

    Returns:
        Training and test polygons.
    """
    candidates = _candidates(canvas, footprint, rng)
    sides: tuple[list[Drawn], list[Drawn]] = ([], [])
    # Rare classes choose first, so that the common ones keep away from them.
    for code in sorted(wanted, key=lambda code: len(candidates[code])):
        missing = list(wanted[code])
        for i in rng.permutation(len(candidates[code])):
            one = candidates[code][i]
            # The side that is further from what it wants is asked first.
            order = sorted((0, 1), key=lambda side: -missing[side] / wanted[code][side])
            for side in order:
                if missing[side] and _may_join(one, sides[side], sides[1 - side]):
                    sides[side].append(one)
                    missing[side] -= 1
                    break
    for chosen in sides:
        chosen.sort(key=lambda one: (one.code, one.polygon.centroid.y, one.polygon.centroid.x))
    return sides


def _may_join(one: Drawn, own: list[Drawn], others: list[Drawn]) -> bool:
    """Tell whether a polygon overlaps none of its side and is apart from the other side."""
    return all(one.polygon.distance(other.polygon) > BETWEEN for other in own) and all(
        one.parcel != other.parcel and one.polygon.distance(other.polygon) > APART
        for other in others
    )


def to_frame(
    drawn: list[Drawn], names: Mapping[int, str], transform: Affine, crs: str
) -> gpd.GeoDataFrame:
    """Put polygons on the map, with fields class_id and class_name."""
    t, polygons = transform, [one.polygon for one in drawn]
    placed = [affine_transform(p, (t.a, t.b, t.d, t.e, t.c, t.f)) for p in polygons]
    codes = [one.code for one in drawn]
    table = {"class_id": codes, "class_name": [names[code] for code in codes]}
    return gpd.GeoDataFrame(table, geometry=placed, crs=crs)


def _candidates(
    canvas: Canvas, footprint: np.ndarray, rng: np.random.Generator
) -> dict[int, list[Drawn]]:
    """Draw one polygon in the widest place of every patch that is wide enough."""
    codes = canvas.code_map()
    # Nobody digitises the outermost pixels of a scene.
    inside = distance_transform_edt(footprint) > 1.5 * FINE
    candidates: dict[int, list[Drawn]] = {code: [] for code in np.unique(codes)}
    windows = find_objects(np.where(inside, canvas.patch_map, -1) + 1)
    for number, (patch, window) in enumerate(zip(canvas.patches, windows, strict=False)):
        if window is None:
            continue
        mask = np.pad((canvas.patch_map[window] == number) & inside[window], 1)
        depth = distance_transform_edt(mask)
        if mask.sum() < 6 * FINE**2 or depth.max() < 0.9 * FINE:
            continue
        drawn = [_draw_polygon(mask, maximum_position(depth), rng) for _ in range(TRIES)]
        polygon = max((p for p in drawn if p.is_valid), key=lambda p: p.area, default=Polygon())
        corner = (window[1].start - 1) / FINE, (window[0].start - 1) / FINE
        polygon = translate(polygon, *corner)
        # Corners may stand a little over the border; the polygon must still be of its class.
        if _part_of_class(polygon, codes, patch.code) > 0.93:
            candidates[patch.code].append(Drawn(patch.code, patch.parcel, polygon))
    return candidates


def _draw_polygon(mask: np.ndarray, middle: tuple[int, int], rng: np.random.Generator) -> Polygon:
    """Walk from the middle in 4 to 8 directions, to about the border of the patch."""
    corners = int(rng.integers(4, 9))
    angles = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) / corners
    angles += rng.uniform(0, 2 * np.pi)
    reach = rng.uniform(0.7, 1.0) * REACH * FINE
    points = []
    for angle in angles:
        step = np.array([np.sin(angle), np.cos(angle)])
        length = 0.0
        while length < reach:
            r, c = np.round(middle + (length + 1) * step).astype(int)
            if not (0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c]):
                break
            length += 1
        r, c = (np.array(middle) + 0.5 + rng.uniform(0.85, 1.06) * length * step) / FINE
        points.append((c, r))
    return Polygon(np.round(points, 2))


def _part_of_class(polygon: Polygon, codes: np.ndarray, code: int) -> float:
    """Return the part of a polygon's fine cells that are of a class; 0 for an empty polygon."""
    if polygon.is_empty:
        return 0.0
    cells = rasterize([polygon], out_shape=codes.shape, transform=Affine.scale(1 / FINE))
    return float((codes[cells == 1] == code).mean())
