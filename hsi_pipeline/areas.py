"""Areas and lengths on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from scipy.interpolate import RegularGridInterpolator

_PLANAR = 0.01  # a projection that keeps areas as well as this is taken at its word
_STEP = 32  # pixels between which areas are interpolated, where they change slowly
_BEND = 8  # pixels
_LONG = np.radians(1)  # a side along a parallel is no geodesic; longer ones are cut


@dataclass(frozen=True)
class Measure:
    """Measures what lies on a grid.

    Planar in a projected CRS that keeps areas within 1 % all over the grid, as UTM does. Else, as
    in degrees or Web Mercator, on the ellipsoid. In pixels where there is no CRS.
    """

    grid: GeoBox

    @cached_property
    def crs(self) -> CRS | None:
        """The CRS of the grid."""
        return None if self.grid.crs is None else CRS(self.grid.crs.to_wkt())

    @cached_property
    def is_planar(self) -> bool:
        """Whether areas are planar."""
        if self.crs is None:
            return True
        if self.crs.is_geographic:
            return False
        true = self._pixels_at(*(np.linspace(0, size - 1, 3) for size in self.grid.shape))
        return not (np.abs(true / self._planar_pixel - 1) > _PLANAR).any()

    def pixel_areas(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the areas of the pixels of a window.

        Returns:
            m2, broadcastable to (y, x); 1 where there is no CRS. In a geographic CRS a pixel is
            taken as the part of its latitude belt that has its share of longitude, right to the
            third order of its size.
        """
        if self.is_planar:
            return np.full((1, 1), self._planar_pixel)
        transform = self.grid.transform
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if self.crs is not None and self.crs.is_geographic:
            row, column = np.ogrid[:height, : width if transform.d else 1]
            across = transform.d * (column + columns.start + 0.5)
            latitude = across + transform.e * (row + rows.start + 0.5) + transform.f
            latitude *= self._to_unit
            half = (abs(transform.d) + abs(transform.e)) / 2 * self._to_unit
            belt = self._from_equator(latitude + half) - self._from_equator(latitude - half)
            return belt / (2 * half) * abs(transform.determinant) * self._to_unit**2
        axes = [
            np.linspace(part.start, part.stop - 1, (part.stop - part.start) // _STEP + 2)
            for part in (rows, columns)
        ]
        between = RegularGridInterpolator(axes, self._pixels_at(*axes))
        row, column = np.mgrid[rows, columns]
        return between((row, column))

    def largest_pixel(self) -> float:
        """Return the area of the largest pixel, as far as a look at some tells."""
        if self.is_planar:
            return self._planar_pixel
        axes = [np.linspace(0, size - 1, min(size, 257)).astype(int) for size in self.grid.shape]
        return float(self._pixels_at(*axes).max())

    def polygon_areas(self, geometry: np.ndarray) -> np.ndarray:
        """Return the areas of polygons in m2.

        On the ellipsoid, sides along meridians and parallels, as those of pixels, are taken for
        what they are, others for straight lines of an equal-area projection; those of a projected
        CRS in parts of a few pixels.
        """
        if self.is_planar:
            return shapely.area(geometry) * self._to_unit**2
        if self.crs is not None and not self.crs.is_geographic:
            geometry = shapely.segmentize(geometry, self._part)
        return shapely.area(shapely.transform(geometry, self._equal_area))

    def perimeters(self, geometry: np.ndarray) -> np.ndarray:
        """Return the lengths of all rings of polygons in m; on the ellipsoid, of geodesics."""
        if self.is_planar:
            return shapely.length(geometry) * self._to_unit
        if len(geometry):
            west, _, east, _ = shapely.total_bounds(shapely.transform(geometry, self._radians))
            if east - west > _LONG:
                geometry = shapely.segmentize(geometry, _LONG / self._to_unit * self._degree)
        parts, owner = shapely.get_parts(geometry, return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        sides = np.flatnonzero(ring[1:] == ring[:-1])  # not those from one ring to the next
        degrees = np.degrees(self._radians(points))
        one, other = degrees[sides], degrees[sides + 1]
        ellipsoid = self._ellipsoid
        _, _, lengths = Geod(a=ellipsoid[0], b=ellipsoid[1]).inv(
            one[:, 0], one[:, 1], other[:, 0], other[:, 1]
        )
        return np.bincount(owner[part[ring[sides]]], weights=lengths, minlength=len(geometry))

    @cached_property
    def _to_unit(self) -> float:
        """Metres, or radians, in a unit of the CRS."""
        if self.crs is None or not self.crs.axis_info:
            return 1.0
        return self.crs.axis_info[0].unit_conversion_factor

    @cached_property
    def _part(self) -> float:
        """Length of sides, in units of the CRS, below which bends do not matter."""
        transform = self.grid.transform
        return _BEND * min(np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e))

    @cached_property
    def _degree(self) -> float:
        """Metres in a radian of the equator for a projected CRS, 1 for a geographic one."""
        return 1.0 if self.crs is None or self.crs.is_geographic else self._ellipsoid[0]

    @cached_property
    def _planar_pixel(self) -> float:
        if self.crs is None:
            return 1.0
        return abs(self.grid.transform.determinant) * self._to_unit**2

    @cached_property
    def _ellipsoid(self) -> tuple[float, float]:
        """Its axes in metres."""
        assert self.crs is not None
        return self.crs.ellipsoid.semi_major_metre, self.crs.ellipsoid.semi_minor_metre

    def _pixels_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the areas of pixels on the ellipsoid: of some rows (y,) and columns (x,)."""
        row, column = np.meshgrid(rows, columns, indexing="ij")
        corners = []
        for down, right in ((0, 0), (0, 1), (1, 1), (1, 0)):
            x, y = self.grid.transform @ (column + right, row + down)
            corners.append(self._equal_area(np.column_stack((x.ravel(), y.ravel()))))
        one, other = corners[2] - corners[0], corners[3] - corners[1]
        areas = np.abs(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]) / 2
        return areas.reshape(row.shape)

    @cached_property
    def _to_degrees(self) -> tuple[Transformer, float]:
        """What takes a projected CRS to longitude and latitude, and the grid's middle longitude."""
        assert self.crs is not None
        to_degrees = Transformer.from_crs(self.crs, self.crs.geodetic_crs, always_xy=True)
        rows, columns = self.grid.shape
        middle, _ = to_degrees.transform(*(self.grid.transform @ (columns / 2, rows / 2)))
        return to_degrees, middle

    def _radians(self, points: np.ndarray) -> np.ndarray:
        """Take points (point, 2) to longitude and latitude."""
        assert self.crs is not None
        if self.crs.is_geographic:
            return points * self._to_unit
        to_degrees, middle = self._to_degrees
        longitude, latitude = to_degrees.transform(points[:, 0], points[:, 1])
        # without a jump at the date line
        longitude = (longitude - middle + 180) % 360 - 180 + middle
        return np.radians(np.column_stack((longitude, latitude)))

    def _equal_area(self, points: np.ndarray) -> np.ndarray:
        """Take points to a plane where areas are those on the ellipsoid."""
        radians = self._radians(points)
        return np.column_stack((radians[:, 0], self._from_equator(radians[:, 1])))

    def _from_equator(self, latitude: np.ndarray) -> np.ndarray:
        """Return the area between equator and a latitude, per radian of longitude, in m2.

        Snyder (1987), Map Projections: A Working Manual, equation 3-12, times a**2 / 2.
        """
        a, b = self._ellipsoid
        e = np.sqrt(1 - (b / a) ** 2)
        sine = np.sin(latitude)
        if e < 1e-6:  # a sphere
            return a**2 * sine
        return b**2 / 2 * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)
