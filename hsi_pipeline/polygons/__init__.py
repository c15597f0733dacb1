"""Class map -> polygons, whole ones: no chunk of the map leaves a trace in them.

1. Each chunk, by itself and in any thread or process (`chunks`): number its regions, sum up what
   their pixels say, follow their outlines. Regions that end within the chunk are polygons at once.
2. In the order of chunks (`joining`): join pieces that touch across an edge, and link their chains
   of outline. A region is complete when no link of its pixels leads to a chunk still to come.

So memory holds a few chunks, the regions that reach into chunks to come, and two rows of labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Literal

import geopandas as gpd
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS

from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons.chunks import outline_chunk
from hsi_pipeline.polygons.joining import OpenRegions
from hsi_pipeline.polygons.simplifying import PARTS, Simplification
from hsi_pipeline.polygons.table import FIELDS as FIELDS
from hsi_pipeline.polygons.table import Ready, Table
from hsi_pipeline.polygons.windows import CHUNK, Source, chunk_windows, in_order, source_of
from hsi_pipeline.polygons.windows import check_cutting as check_cutting

_BATCH = 20_000  # polygons


def polygonize(
    class_map: xr.Dataset,
    *,
    connectivity: Literal[4, 8] = 4,
    chunk: int | None = None,
    simplify: float = 0.0,
    smooth: bool = False,
    nodes: bool = False,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[gpd.GeoDataFrame]:
    """Outline the regions of equal class, as a stream.

    Args:
        class_map: `class` (y, x) with the attributes of its scheme; `confidence` (y, x) and
            `probability` (category, y, x) optional. Pass a map that was written and opened again:
            of a lazy result, each would be computed by itself.
        connectivity: 4, or 8 to join pixels that touch at a corner.
        chunk: Rows and columns read at a time; the polygons do not depend on it, only the order in
            which they come. With `simplify` or `smooth` they do: leave it out then.
        simplify: Tolerance in units of the CRS (pixels without one): a vertex goes if the triangle
            with its neighbours is no larger than the square of this. Neighbours still fit together,
            without gaps and overlaps. Vertices on the edges of chunks stay.
        smooth: Cut corners, where no lines would cross. Those on the edges of chunks stay.
        nodes: Add vertices where others meet a side, so that neighbours share whole sides, as they
            do when simplified: they fit together in any other CRS too.
        executor: Where chunks are read and outlined, such as that of a Dask client; None: threads
            of this process.
        progress: Called with the number of chunks done and of all.

    Yields:
        Frames of some ten thousand regions at most, in the order in which they are complete; the
        first one comes even if there are no regions. The index is the flat index of a region's
        first pixel. Columns:
        `code`, `name` of the class; `area_m2` and `perimeter_m` as `areas.Measure` takes them;
        `pixels`; `confidence` and
        `min_confidence`, mean and minimum of the pixels' (NaN if the map has none); `second_name`
        and `second_share`, of the other classes the one with the highest mean probability, and
        that (missing if the map has no probabilities); `scene_id` and `acquired` of the map;
        `geometry` (Polygon; MultiPolygon where parts touch at corners only) in the map's CRS.

    Raises:
        InputError: A setting that makes no sense, or a code that the scheme lacks.
    """
    check_cutting(connectivity, chunk)
    check_tolerance(simplify)
    table = Table(class_map, pixel_areas=not (simplify or smooth))
    _check_size(simplify, table.grid)
    how = None
    if simplify or smooth or nodes:
        how = Simplification(simplify**2 / abs(table.grid.transform.determinant), smooth)
    return _stream(
        source_of(class_map), table, connectivity, chunk or CHUNK, how, executor, progress
    )


def check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance of simplification that makes no sense.

    Raises:
        InputError: It is negative or no number.
    """
    if not 0 <= tolerance < math.inf:
        raise InputError(f"the tolerance of simplification is {tolerance}, expected 0 or more")


def _check_size(tolerance: float, grid: GeoBox) -> None:
    """Refuse a tolerance that is larger than the map, most likely of another unit.

    Raises:
        InputError: Says how large the map is.
    """
    left, bottom, right, top = grid.boundingbox.bbox
    largest = max(right - left, top - bottom)
    if tolerance > largest:
        unit = "pixels" if grid.crs is None else CRS(grid.crs.to_wkt()).axis_info[0].unit_name
        raise InputError(
            f"simplification by {tolerance:g} {unit} is more than the map, which is {largest:g} "
            f"{unit} wide or high; one to two pixels are a good start"
        )


def no_polygons(class_map: xr.Dataset) -> gpd.GeoDataFrame:
    """Return the columns that `polygonize` gives for a class map, without rows."""
    table = Table(class_map)
    return table.frame(*table.none())


def _stream(
    source: Source,
    table: Table,
    connectivity: int,
    side: int,
    how: Simplification | None,
    executor: Executor | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[gpd.GeoDataFrame]:
    transform = table.grid.transform
    if how is not None:
        transform @= Affine.scale(1 / PARTS)
    regions = OpenRegions(source.codes.shape[1], connectivity, transform)
    windows = chunk_windows(source.codes.shape, side)
    jobs = ((source.window(*window), transform, connectivity, how) for window in windows)
    ready = Ready(table)
    for done, result in enumerate(in_order(outline_chunk, jobs, executor), start=1):
        _, columns = windows[done - 1]
        ready.add(result.geometry, result.totals)
        joined = regions.add(result.pieces, columns)
        if joined is not None:
            ready.add(*joined)
        if progress is not None:
            progress(done, len(windows))
        if len(ready) >= _BATCH:
            yield ready.take()
    if len(ready) or not ready.taken:
        yield ready.take()
