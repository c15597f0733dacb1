"""Polygons on a grid: which part of which pixel each of them covers.

Polygons are taken to pixel coordinates. There every grid, north-up, flipped or rotated, is the same
unit squares, the only kind that exactextract knows, and the covered part of a pixel is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from exactextract import exact_extract
from exactextract.feature import Feature, FeatureSource
from exactextract.raster import NumPyRasterSource
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

from hsi_pipeline.areas import Measure
from hsi_pipeline.errors import InputError

AREAS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
"""Types of geometry that cover pixels."""

# Edges are split to this many pixels before they are reprojected: a line bent with the radius of
# the earth then leaves its chord by 0.005 pixels of 1 km, and by less where pixels are smaller.
_EDGE = 16
# What is kept around the grid, in parts of its size, where polygons are cut to its neighbourhood.
_MARGIN = 0.05
# Side of the parts of a window that are worked on at a time, and the number of pixels under the
# polygons that are sent to exactextract at once; each of these takes some 100 bytes.
_TILE = 1024
_BATCH = 2**20


@dataclass(frozen=True)
class CoveredPixels:
    """Pixels of a window that polygons cover: an entry for each polygon and pixel that meet."""

    polygon: np.ndarray
    """Position of the polygon."""
    row: np.ndarray
    """Row in the window."""
    column: np.ndarray
    """Column in the window."""
    part: np.ndarray
    """Part of the pixel that is covered, 0 to 1, to the precision of float32."""


def bounds_in(grid: GeoBox, crs: CRS | None) -> tuple[float, ...]:
    """Return left, bottom, right, top of a grid in a CRS; right > 180 across the date line.

    Raises:
        InputError: The CRS has no coordinates where the grid lies.
    """
    home, bounds = Measure(grid).crs, tuple(grid.boundingbox.bbox)
    if home is None or crs is None or _same(home, crs):
        return bounds
    to_crs = Transformer.from_crs(home, crs, always_xy=True)
    left, bottom, right, top = to_crs.transform_bounds(*bounds)
    if not np.isfinite((left, bottom, right, top)).all():
        raise InputError(
            f"the polygons' CRS, {crs.name}, has no coordinates where the grid lies; "
            f"reproject them to the grid's, {home.name}"
        )
    return left, bottom, right if left < right else right + _circle(crs), top


def to_pixels(polygons: np.ndarray, crs: CRS | None, grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Take polygons to the pixel coordinates of a grid.

    Edges are straight in the polygons' own CRS. Where the grid has another, they are split every
    16 pixels or less before, and what lies far from the grid is cut off, for it may have no place
    in the grid's CRS.

    Args:
        polygons: Valid polygons (polygon,), None or empty where there is none.
        crs: Their CRS; None only if the grid has none either.
        grid: The grid.

    Returns:
        The polygons with x = column and y = -row, from the upper left corner of the grid, and the
        part of the area of each that was not cut off, NaN where there is no polygon.
    """
    home = Measure(grid).crs
    near = placed = polygons
    if home is not None and crs is not None and not _same(home, crs):
        left, bottom, right, top = bounds = bounds_in(grid, crs)
        near = _cut(polygons, crs, bounds)
        rows, columns = grid.shape
        edge = _EDGE * min((right - left) / columns, (top - bottom) / rows)
        placed = _reproject(shapely.segmentize(near, edge), crs, home)
    if home is not None and home.is_geographic:
        placed = _beside(placed, grid, home)
    with np.errstate(invalid="ignore"):  # 0 / 0 for empty ones
        kept = shapely.area(near) / shapely.area(polygons)
    to_pixel = ~grid.transform

    def column_row(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        column, row = to_pixel @ (x, y)
        return column, -row

    shapes = shapely.transform(placed, column_row, interleaved=False)
    broken = ~shapely.is_valid(shapes) & ~shapely.is_missing(shapes)
    shapes[broken] = repair(shapes[broken])  # bent edges may cross their neighbours
    return shapes, kept


def repair(polygons: np.ndarray) -> np.ndarray:
    """Make polygons valid, keeping what has an area; empty where nothing has."""
    return shapely.make_valid(polygons, method="structure", keep_collapsed=False)


def covered_pixels(shapes: np.ndarray, rows: slice, columns: slice) -> Iterator[CoveredPixels]:
    """Find the pixels of a window that polygons cover, part by part of the window.

    Args:
        shapes: Polygons in pixel coordinates, as `to_pixels` gives them, none of them missing.
        rows: Rows of the window.
        columns: Columns of the window.
    """
    bounds = shapely.bounds(shapes)
    for high, wide in windows(rows, columns, _TILE, _TILE):
        left, bottom = np.maximum(bounds[:, :2], (wide.start, -high.stop)).T
        right, top = np.minimum(bounds[:, 2:], (wide.stop, -high.start)).T
        among = np.flatnonzero((left < right) & (bottom < top))
        pixels = ((right - left + 2) * (top - bottom + 2))[among]
        cuts = np.flatnonzero(np.diff(np.cumsum(pixels) // _BATCH)) + 1
        for members in np.split(among, cuts) if len(among) else ():
            found = _covered(shapes[members], high, wide)
            yield CoveredPixels(
                polygon=members[found.polygon],
                row=found.row + high.start - rows.start,
                column=found.column + wide.start - columns.start,
                part=found.part,
            )


def windows(rows: slice, columns: slice, high: int, wide: int) -> Iterator[tuple[slice, slice]]:
    """Cut a window into smaller ones of some rows and columns, row by row."""
    for top in range(rows.start, rows.stop, high):
        for left in range(columns.start, columns.stop, wide):
            bottom, right = min(top + high, rows.stop), min(left + wide, columns.stop)
            yield slice(top, bottom), slice(left, right)


def _covered(shapes: np.ndarray, rows: slice, columns: slice) -> CoveredPixels:
    """Ask exactextract about a window; whatever its values, it needs some."""
    size = (rows.stop - rows.start, columns.stop - columns.start)
    window = NumPyRasterSource(
        np.zeros(size, np.uint8), columns.start, -rows.stop, columns.stop, -rows.start
    )
    found = exact_extract(window, _Polygons(shapes), ["cell_id", "coverage"], output="pandas")
    row, column = np.divmod(np.concatenate(found["cell_id"]), size[1])
    polygon = np.repeat(np.arange(len(shapes)), [len(cells) for cells in found["cell_id"]])
    return CoveredPixels(polygon, row, column, np.concatenate(found["coverage"]))


def _same(one: CRS, other: CRS) -> bool:
    """Tell whether two CRS give the same coordinates, x before y."""
    return one.equals(other, ignore_axis_order=True)


def _circle(crs: CRS) -> float:
    """Return 360 degrees in units of a geographic CRS."""
    return 2 * np.pi / crs.axis_info[0].unit_conversion_factor


def _cut(polygons: np.ndarray, crs: CRS, bounds: tuple[float, ...]) -> np.ndarray:
    """Cut polygons to bounds with a margin."""
    left, bottom, right, top = bounds
    wide, high = _MARGIN * (right - left), _MARGIN * (top - bottom)
    around = shapely.box(left - wide, bottom - high, right + wide, top + high)
    if crs.is_geographic:  # beyond the date line the same place has two longitudes
        west = shapely.transform(around, lambda points: points - (_circle(crs), 0))
        around = around.union(west)
    shapely.prepare(around)
    inside = shapely.covers(around, polygons)
    near = polygons.copy()
    near[~inside] = shapely.intersection(polygons[~inside], around)
    mixed = ~np.isin(shapely.get_type_id(near), AREAS)
    near[mixed] = shapely.buffer(near[mixed], 0)  # drops points and lines, where they just touch
    return near


def _reproject(polygons: np.ndarray, crs: CRS, home: CRS) -> np.ndarray:
    """Take polygons from a CRS to the one of the grid; None where they have no place in it."""
    to_home = Transformer.from_crs(crs, home, always_xy=True).transform
    placed = shapely.transform(polygons, to_home, interleaved=False)
    placed[~np.isfinite(shapely.bounds(placed)).all(axis=1)] = None
    return placed


def _beside(polygons: np.ndarray, grid: GeoBox, home: CRS) -> np.ndarray:
    """Take what lies beyond the date line to the longitudes that the grid has there."""
    left, _, right, _ = grid.boundingbox.bbox
    circle = _circle(home)
    parts, owner = shapely.get_parts(polygons, return_index=True)
    west, _, east, _ = shapely.bounds(parts).T
    turns = np.round(((left + right) - (west + east)) / 2 / circle)
    if not turns.any():
        return polygons
    for turn in np.unique(turns[turns != 0]):
        moved = turns == turn
        parts[moved] = shapely.transform(
            parts[moved], lambda xy, by=turn: np.add(xy, (by * circle, 0))
        )
    whole = polygons.copy()
    for polygon in np.unique(owner[turns != 0]):
        whole[polygon] = shapely.union_all(parts[owner == polygon])  # halves meet at the line
    return whole


class _Polygons(FeatureSource):
    """Polygons as exactextract reads them: many times faster in WKB than in its GeoJSON."""

    def __init__(self, shapes: np.ndarray) -> None:
        super().__init__()
        self._wkb = shapely.to_wkb(shapes)

    def count(self) -> int:
        return len(self._wkb)

    def __iter__(self) -> Iterator[_Polygon]:
        return map(_Polygon, self._wkb)

    def srs_wkt(self) -> None:
        return None


class _Polygon(Feature):
    """A polygon without fields."""

    def __init__(self, wkb: bytes) -> None:
        super().__init__()
        self._wkb = wkb

    def geometry(self) -> bytes:
        return self._wkb

    def fields(self) -> list[Any]:
        return []
