"""Class map -> polygons, whole ones: no chunk of the map leaves a trace in them.

1. Label the regions of equal class; 2. let regions below the minimum area join a neighbour;
3. outline the regions with GDAL; 4. take area and mean confidence from their pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.features import shapes
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hsi_pipeline.classes import UNLABELLED, scheme_from_attrs
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError

FIELDS = ("code", "name", "area_m2", "pixels", "confidence")
_CHUNK = 2048
# Confidences are summed in steps of 2**-24, the spacing of float32 below 1. Such sums are exact
# in float64 up to 2**29 pixels, hence the same in every order, that is for every chunk size.
_STEPS = 2.0**24


@dataclass(frozen=True)
class MinAreaReport:
    """What the minimum area did."""

    merged: int
    """Regions whose class changed because they joined a neighbour."""
    dropped: int
    """Regions left out: below the minimum, with nothing but nodata around them."""
    dropped_pixels: int
    """Pixels of the regions left out."""


def polygonize(
    class_map: xr.Dataset,
    *,
    min_area_m2: float = 0.0,
    chunk: int | None = None,
    connectivity: Literal[4, 8] = 4,
) -> tuple[gpd.GeoDataFrame, MinAreaReport]:
    """Outline the regions of equal class.

    The class codes are held in memory whole, with three to four times their number in bytes of
    region numbers; the confidence never is. Pass a map that was written and opened again: of a
    lazy result, class and confidence would each be computed.

    Args:
        class_map: `class` (y, x) with the attributes of its scheme, `confidence` (y, x) optional.
        min_area_m2: Minimum mapping unit. The regions below it join the largest region they touch
            and take its class, until none is left that touches any; those amid nodata are dropped.
        chunk: Rows and columns of confidence that are read at a time, by default its Dask chunks.
            Makes no difference to the result.
        connectivity: 4, or 8 to join pixels that touch at a corner.

    Returns:
        One row per region in the order of their first pixels, row by row: `code`, `name`,
        `area_m2`, `pixels`, `confidence` (mean of the pixels', NaN if the map has none) and
        `geometry`, in the CRS of the map; and what the minimum area did. A region that joined
        keeps the confidences of the class it had.

        `area_m2` is the area on the ellipsoid for a geographic CRS, the planar area in m2 for a
        projected one, and the number of pixels for a map without CRS, as is then `min_area_m2`.

    Raises:
        InputError: A setting that makes no sense, or a code that the scheme lacks.
    """
    if connectivity not in (4, 8):
        raise InputError(f"connectivity is 4 or 8, not {connectivity}")
    if not min_area_m2 >= 0:
        raise InputError(f"the minimum area is {min_area_m2} m2, expected 0 or more")
    if chunk is not None and chunk < 1:
        raise InputError(f"the chunk size is {chunk} pixels, expected 1 or more")
    grid = grid_of(class_map)
    scheme = scheme_from_attrs(class_map["class"].attrs)
    names = dict(zip(scheme.codes, scheme.names, strict=True))
    pixel_codes = np.asarray(class_map["class"].data)
    regions, codes = _label(pixel_codes, connectivity)
    unknown = set(np.unique(codes[1:]).tolist()) - set(names)
    if unknown:
        raise InputError(f"the class map holds code {min(unknown)}, its classes are {scheme.codes}")
    areas = _areas(regions, len(codes), grid)
    regions, codes, report = _apply_min_area(regions, codes, areas, min_area_m2, connectivity)
    count = len(codes)
    pixels = _pixel_counts(regions, count)
    order = np.argsort(_first_pixels(regions, count)[1:], kind="stable") + 1
    geometry = _outlines(regions, count, grid, connectivity)
    frame = gpd.GeoDataFrame(
        {
            "code": codes.astype(np.int32),
            "name": np.array(["", *(names[code] for code in codes[1:].tolist())], dtype=object),
            "area_m2": _areas(regions, count, grid),
            "pixels": pixels,
            "confidence": _mean_confidence(class_map, regions, count, chunk),
        },
        geometry=geometry,
        crs=None if grid.crs is None else CRS(grid.crs.to_wkt()),
    )
    return frame.iloc[order].reset_index(drop=True), report


def _label(pixel_codes: np.ndarray, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Number the regions of equal class.

    Returns:
        int32 region numbers (y, x), 0 where unlabelled, and the code of each region; region 0 is
        the unlabelled part.
    """
    structure = _structure(connectivity)
    regions = np.zeros(pixel_codes.shape, np.int32)
    codes = [np.zeros(1, pixel_codes.dtype)]
    total = 0
    for code in np.unique(pixel_codes[pixel_codes != UNLABELLED]):
        mask = pixel_codes == code
        labels, found = ndimage.label(mask, structure)
        regions[mask] = labels[mask] + total
        codes.append(np.full(found, code))
        total += found
    return regions, np.concatenate(codes)


def _structure(connectivity: int) -> np.ndarray:
    return ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)


def _apply_min_area(
    regions: np.ndarray, codes: np.ndarray, areas: np.ndarray, minimum: float, connectivity: int
) -> tuple[np.ndarray, np.ndarray, MinAreaReport]:
    """Let small regions join neighbours, drop those that have none, and number anew."""
    # areas are sums of rounded numbers: a region of exactly the minimum is not below it
    minimum *= 1 - 1e-9
    if not (areas[1:] < minimum).any():
        return regions, codes, MinAreaReport(0, 0, 0)
    owner, new_codes, new_areas = _merge_small(
        _touching(regions, connectivity), codes, areas, minimum
    )
    small = new_areas < minimum
    small[0] = False
    merged = int((new_codes[owner] != codes).sum())
    keep = ~small
    numbers = np.where(keep, np.cumsum(keep) - 1, 0)
    dropped_pixels = int(_pixel_counts(regions, len(codes))[small[owner]].sum())
    report = MinAreaReport(merged, int(small.sum()), dropped_pixels)
    return numbers[owner].astype(np.int32)[regions], new_codes[keep], report


def _merge_small(
    pairs: np.ndarray, codes: np.ndarray, areas: np.ndarray, minimum: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join regions below the minimum area to the largest region they touch, until none is left.

    Works in rounds: every small region points to its largest neighbour, what hangs together
    becomes one region with the class of its largest member, and so do regions of one class that
    touch now. GDAL's sieve does the first round only, leaves alone small regions among none but
    small ones, and knows no areas but pixel counts; this one leaves nothing.

    Args:
        pairs: Touching regions (pair, 2), both ways, without region 0.
        codes: Class of each region.
        areas: Area of each region.
        minimum: Smallest area that may stay.

    Returns:
        The new region of each old one (0 stays 0), and code and area of each new one.
    """
    owner = np.arange(len(codes))
    while True:
        pointing = pairs[areas[pairs[:, 0]] < minimum]
        if not len(pointing):
            return owner, codes, areas
        a, b = pointing.T
        largest_first = pointing[np.lexsort((b, -areas[b], a))]
        links = largest_first[np.unique(largest_first[:, 0], return_index=True)[1]]
        group, codes, areas = _join(links, codes, areas)
        owner, pairs = group[owner], _distinct(group[pairs])
        same = pairs[codes[pairs[:, 0]] == codes[pairs[:, 1]]]
        group, codes, areas = _join(same, codes, areas)
        owner, pairs = group[owner], _distinct(group[pairs])


def _join(
    links: np.ndarray, codes: np.ndarray, areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make one region of those that links hold together, with the class of the largest of them.

    Returns:
        The new region of each old one, and code and area of each new one. Region 0 stays 0, for
        components are numbered by their first member.
    """
    size = len(codes)
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(size, size))
    _, group = connected_components(graph, directed=False)
    _, group = np.unique(_first_members(group)[group], return_inverse=True)
    by_size = np.lexsort((np.arange(size), -areas, group))
    _, first = np.unique(group[by_size], return_index=True)
    return group, codes[by_size[first]], np.bincount(group, weights=areas)


def _first_members(group: np.ndarray) -> np.ndarray:
    return np.unique(group, return_index=True)[1]


def _touching(regions: np.ndarray, connectivity: int) -> np.ndarray:
    """Return the pairs of regions that touch, both ways, without region 0."""
    sides = [(regions[:, :-1], regions[:, 1:]), (regions[:-1], regions[1:])]
    if connectivity == 8:
        sides += [(regions[:-1, :-1], regions[1:, 1:]), (regions[:-1, 1:], regions[1:, :-1])]
    found = []
    for one, other in sides:
        border = (one != other) & (one != 0) & (other != 0)
        found.append(np.column_stack((one[border], other[border])))
    pairs = np.concatenate(found)
    return _distinct(np.concatenate((pairs, pairs[:, ::-1])))


def _distinct(pairs: np.ndarray) -> np.ndarray:
    """Return each pair of different regions once, sorted."""
    pairs = pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int64)
    base = pairs.max(initial=0) + 1
    # as one number each, and by sorting: many times faster than np.unique on rows, or at all
    keys = np.sort(pairs[:, 0] * base + pairs[:, 1])
    keys = keys[np.diff(keys, prepend=-1) > 0]
    return np.column_stack(np.divmod(keys, base))


def _outlines(regions: np.ndarray, count: int, grid: GeoBox, connectivity: int) -> np.ndarray:
    """Return the polygon of each region; that of region 0 is None."""
    outlines = np.full(count, None, dtype=object)
    # in this thread alone: first calls of several threads at once can lock up (rasterio 3611)
    for outline, number in shapes(
        regions, mask=regions > 0, connectivity=connectivity, transform=grid.transform
    ):
        outlines[int(number)] = shapely.geometry.shape(outline)
    # corners that touch (8-connected, or around nodata) can make a ring cross itself
    invalid = ~shapely.is_valid(outlines)
    invalid[0] = False
    outlines[invalid] = shapely.make_valid(outlines[invalid])
    return outlines


def _pixel_counts(regions: np.ndarray, count: int) -> np.ndarray:
    pixels = np.zeros(count, np.int64)
    for row in regions:  # by row, as numpy would widen the whole raster to int64
        np.add.at(pixels, row, 1)
    return pixels


def _first_pixels(regions: np.ndarray, count: int) -> np.ndarray:
    """Return the flat index of each region's first pixel."""
    first = np.zeros(count, np.int64)
    rows, columns = regions.shape
    backwards = np.arange(columns)[::-1]
    for row in range(rows - 1, -1, -1):
        first[regions[row, ::-1]] = row * columns + backwards  # the last written is the first
    return first


def _mean_confidence(
    class_map: xr.Dataset, regions: np.ndarray, count: int, chunk: int | None
) -> np.ndarray:
    """Return the mean confidence of each region's pixels, leaving out NaN."""
    sums, known = np.zeros(count), np.zeros(count, np.int64)
    if "confidence" in class_map:
        confidence = class_map["confidence"]
        chunks = confidence.chunks or ((_CHUNK,), (_CHUNK,))
        high, wide = (chunk, chunk) if chunk else (max(chunks[0]), max(chunks[1]))
        rows, columns = regions.shape
        for top in range(0, rows, high):
            for left in range(0, columns, wide):
                window = (slice(top, top + high), slice(left, left + wide))
                values = confidence[window].values.astype(np.float64)
                finite = np.isfinite(values)
                numbers = regions[window][finite]
                np.add.at(sums, numbers, np.round(values[finite] * _STEPS))
                np.add.at(known, numbers, 1)
    with np.errstate(invalid="ignore"):
        return sums / known / _STEPS


def _areas(regions: np.ndarray, count: int, grid: GeoBox) -> np.ndarray:
    """Return the area of each region in m2, or in pixels where there is no CRS."""
    if grid.crs is None:
        return _pixel_counts(regions, count).astype(np.float64)
    crs = CRS(grid.crs.to_wkt())
    units = [axis.unit_conversion_factor for axis in crs.axis_info[:2]] or [1.0]
    if not crs.is_geographic:
        pixel_m2 = abs(grid.transform.determinant) * units[0] ** 2
        return _pixel_counts(regions, count) * pixel_m2
    areas = np.zeros(count)
    for row, numbers in enumerate(regions):
        np.add.at(areas, numbers, _pixel_areas(grid, row, crs, units[0]))
    return areas


def _pixel_areas(grid: GeoBox, row: int, crs: CRS, radians: float) -> np.ndarray:
    """Return the areas of a row of pixels on the ellipsoid, in m2.

    Exact where rows are parallels. On a rotated grid, a pixel is taken as the part of its
    latitude belt that has its share of longitude, right to the third order of the pixel size.
    """
    transform = grid.transform
    columns = np.arange(grid.shape[1]) + 0.5
    latitude = (transform.d * columns + transform.e * (row + 0.5) + transform.f) * radians
    half = (abs(transform.d) + abs(transform.e)) / 2 * radians
    belt = _area_from_equator(latitude + half, crs) - _area_from_equator(latitude - half, crs)
    return belt / (2 * half) * abs(transform.determinant) * radians**2


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
