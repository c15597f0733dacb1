"""The regions of a whole map and their borders, from its chunks.

Every chunk is read by itself; its labels are then numbered through and joined to regions, numbered
by their first pixels, so that the chunks make no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hsi_pipeline.areas import Measure
from hsi_pipeline.polygons.regions import (
    borders,
    count_pixels,
    joined_at_corners,
    label,
    sum_shares,
)
from hsi_pipeline.polygons.windows import Frontier, Window

_PARTS = 2**20


class Survey(NamedTuple):
    """The regions of a chunk by their labels; row 0 belongs to none."""

    codes: np.ndarray
    first: np.ndarray
    """Flat index of the first pixel in the whole raster: an order that no chunk changes."""
    areas: np.ndarray
    """int64, in `AreaSteps`."""
    shares: np.ndarray
    """int64 (label, category): sums of probabilities; no categories where they do not matter."""
    sides: np.ndarray
    """int64 (pair, 4): two labels that touch, and how many sides along rows and along columns; none
    if at corners only, which counts where regions are 8-connected."""
    corners: np.ndarray
    """int64 (pair, 2): labels that are one region by their corners."""
    edges: dict[str, tuple[np.ndarray, np.ndarray]]
    """Labels and codes at the "top", "bottom", "left" and "right" edge."""


class Regions(NamedTuple):
    """Regions of the whole map, row 0 belongs to none."""

    codes: np.ndarray
    areas: np.ndarray
    shares: np.ndarray


class Borders(NamedTuple):
    """Pairs of regions that touch, each once, sorted."""

    one: np.ndarray
    other: np.ndarray
    length: np.ndarray


@dataclass(frozen=True)
class AreaSteps:
    """Whole numbers for areas: pixels, or parts of the largest one where they differ."""

    measure: Measure
    step_m2: float

    @classmethod
    def of(cls, grid: GeoBox) -> AreaSteps:
        """Choose the steps for a grid."""
        measure = Measure(grid)
        parts = 1 if measure.is_planar else _PARTS
        return cls(measure, measure.largest_pixel() / parts)

    def of_area(self, m2: float) -> float:
        """Return an area in steps; a region of exactly that size is not below it."""
        return m2 / self.step_m2 * (1 - 1e-6)

    def of_pixels(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the area of each pixel of a window."""
        areas = np.rint(self.measure.pixel_areas(rows, columns) / self.step_m2).astype(np.int64)
        return np.broadcast_to(areas, (rows.stop - rows.start, columns.stop - columns.start))


def survey_chunk(window: Window, steps: AreaSteps, connectivity: int) -> Survey:
    """Read a chunk for its regions and their borders."""
    inner = np.ascontiguousarray(window.read_codes()[1:-1, 1:-1])
    labels, codes = label(inner)
    count = len(codes)
    areas = np.zeros(count, np.int64)
    row, column = window.origin
    width = labels.shape[1]
    sizes = steps.of_pixels(window.rows, window.columns)
    pixels, first = count_pixels(labels, count)
    if sizes.min() == sizes.max():
        areas = pixels * int(sizes.flat[0])
    else:
        np.add.at(areas, labels, sizes)
    areas[0] = 0
    shares = np.zeros((count, 0), np.int64)
    if window.probability is not None:
        bands = window.read(window.probability)
        shares = np.column_stack([sum_shares(labels, band, count)[0] for band in bands])
    groups = joined_at_corners(labels, inner) if connectivity == 8 else np.arange(count)
    apart = np.flatnonzero(groups != np.arange(count))
    return Survey(
        codes,
        (row + first // width) * window.width + column + first % width,
        areas,
        shares,
        _count_sides(borders(labels, connectivity == 8)),
        np.column_stack((apart, groups[apart])),
        {
            "top": (labels[0].copy(), inner[0].copy()),
            "bottom": (labels[-1].copy(), inner[-1].copy()),
            "left": (labels[:, 0].copy(), inner[:, 0].copy()),
            "right": (labels[:, -1].copy(), inner[:, -1].copy()),
        },
    )


def _count_sides(sides: np.ndarray) -> np.ndarray:
    """Return each pair once, with its numbers of sides along rows and along columns."""
    way = sides[:, 2]
    return np.column_stack(summed(sides[:, :2].astype(np.int64), way == 0, way == 1))


def summed(pairs: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sum up values by pairs, whichever comes first in them.

    Args:
        pairs: int64 (meeting, 2).
        values: Numbers (meeting,), any of them.

    Returns:
        The smaller and the larger of each pair of different ones, sorted, and the sums.
    """
    base = int(pairs.max(initial=0)) + 1
    keys = pairs.min(axis=1) * base + pairs.max(axis=1)
    apart = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
    order = apart[np.argsort(keys[apart], kind="stable")]
    keys = keys[order]
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    kind = [np.float64 if numbers.dtype.kind == "f" else np.int64 for numbers in values]
    sums = [
        np.add.reduceat(numbers[order].astype(dtype), begins) if len(begins) else np.zeros(0, dtype)
        for numbers, dtype in zip(values, kind, strict=True)
    ]
    return (*np.divmod(keys[begins], base), *sums)


class Gathered:
    """What chunks say, with regions' labels numbered through."""

    def __init__(self, width: int, connectivity: int) -> None:
        """Begin with none, for a raster of so many columns."""
        self._frontier = Frontier(width, connectivity)
        self._starts = [1]
        self._parts: list[Survey] = []
        self._links: list[np.ndarray] = []
        self._sides: list[np.ndarray] = []

    def add(self, survey: Survey, columns: slice) -> None:
        """Add the next chunk; chunks come row by row."""
        offset = self._starts[-1] - 1  # labels count from 1
        edges = {
            name: np.stack((np.where(labels > 0, labels + offset, 0), codes))
            for name, (labels, codes) in survey.edges.items()
        }
        self._links.append(survey.corners + offset)
        self._sides.append(survey.sides + np.array([offset, offset, 0, 0]))
        for own, others, way in self._frontier.meet(edges, columns):
            self._face(own, others, way)
        self._starts.append(self._starts[-1] + len(survey.codes) - 1)
        # the edges are done with, and the borders stand elsewhere
        self._parts.append(survey._replace(edges={}, sides=survey.sides[:0]))

    def _face(self, one: np.ndarray, other: np.ndarray, way: int | None) -> None:
        """Note pixels that face each other across an edge, by sides of a way or by corners."""
        both = (one[0] > 0) & (other[0] > 0)
        same = both & (one[1] == other[1])
        self._links.append(np.column_stack((one[0][same], other[0][same])))
        apart = both & ~same
        sides = np.zeros((int(apart.sum()), 4), np.int64)
        sides[:, 0] = np.minimum(one[0][apart], other[0][apart])
        sides[:, 1] = np.maximum(one[0][apart], other[0][apart])
        if way is not None:
            sides[:, 2 + way] = 1
        self._sides.append(sides)

    def regions(self, lengths: tuple[float, float]) -> tuple[Regions, np.ndarray, Borders]:
        """Join the labels of all chunks to regions, numbered by their first pixels.

        Args:
            lengths: Of a side along a row and along a column.

        Returns:
            The regions, the region of each label, and their borders.
        """
        _, group = components(np.concatenate(self._links), self._starts[-1])
        first = np.concatenate([[-1], *(part.first[1:] for part in self._parts)])
        lowest = np.full(group.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, group, first)
        number = np.empty(len(lowest), np.int64)
        number[np.argsort(lowest)] = np.arange(len(lowest))
        region_of = number[group]
        codes = np.zeros(len(lowest), np.uint8)
        areas = np.zeros(len(lowest), np.int64)
        shares = np.zeros((len(lowest), self._parts[0].shares.shape[1]), np.int64)
        own = region_of[1:]
        codes[own] = np.concatenate([part.codes[1:] for part in self._parts])
        np.add.at(areas, own, np.concatenate([part.areas[1:] for part in self._parts]))
        np.add.at(shares, own, np.concatenate([part.shares[1:] for part in self._parts]))
        sides = np.concatenate(self._sides)
        self._sides.clear()
        # whole numbers of sides are added up before they are lengths: exact in every order
        one, other, rows, columns = summed(region_of[sides[:, :2]], sides[:, 2], sides[:, 3])
        return (
            Regions(codes, areas, shares),
            region_of,
            Borders(one, other, rows * lengths[0] + columns * lengths[1]),
        )

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Return for each chunk the values of its labels, 0 for label 0."""
        none = np.zeros(1, values.dtype)
        return [
            np.concatenate((none, values[start:stop]))
            for start, stop in zip(self._starts[:-1], self._starts[1:], strict=True)
        ]


def side_lengths(grid: GeoBox) -> tuple[float, float]:
    """Return the lengths of a pixel's sides along rows and columns, of one scale."""
    transform = grid.transform
    along_row, along_column = np.hypot(transform.a, transform.d), np.hypot(transform.b, transform.e)
    if grid.crs is not None and grid.crs.geographic and not transform.b:
        middle = transform.f + transform.e * grid.shape[0] / 2
        to_radians = CRS(grid.crs.to_wkt()).axis_info[0].unit_conversion_factor
        along_row *= np.cos(middle * to_radians)
    return float(along_row), float(along_column)


def components(links: np.ndarray, size: int) -> tuple[int, np.ndarray]:
    """Return how many groups links (link, 2) make of some members, and the group of each."""
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(size, size))
    return connected_components(graph, directed=False)
