"""Class map + the user's own polygons -> what the map says of each: areas, shares, majority.

1. Repair the parcels and take them to the pixels of the map (`coverage`); 2. window by window, sum
up the covered areas of each class in each parcel; 3. make columns of the sums and join them.
"""

from __future__ import annotations

from collections.abc import Callable

import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import CRS

from hsi_pipeline.areas import Measure
from hsi_pipeline.classes import UNLABELLED, ClassScheme, scheme_from_attrs
from hsi_pipeline.cube import grid_of, read_window
from hsi_pipeline.errors import InputError
from hsi_pipeline.parcels.coverage import (
    CoveredPixels,
    bounds_in,
    covered_pixels,
    repair,
    to_pixels,
    windows,
)
from hsi_pipeline.parcels.table import DECIMALS, Sums, free_suffix, make_report, make_table
from hsi_pipeline.parcels.table import ParcelReport as ParcelReport

# Small Dask chunks are read several at a time, up to this many rows and columns.
_WINDOW = 1024


def summarise_parcels(
    class_map: xr.Dataset,
    parcels: gpd.GeoDataFrame,
    *,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[gpd.GeoDataFrame, ParcelReport]:
    """Summarise a class map by parcel.

    A pixel at the edge of a parcel counts by the part that is covered, to the precision of
    float32. Memory holds the parcels and a window of the map; chunks of the map that no parcel
    touches are not read.

    Args:
        class_map: `class` (y, x) with the attributes of its scheme, `confidence` (y, x) optional.
            Pass a map that was written and opened again: a lazy result would be computed here.
        parcels: Polygons in any CRS, or without CRS if the map has none. Edges are straight in
            their own CRS; where the map has another they are split every 16 pixels or less, and
            reprojected.
        chunk: Rows and columns that are read at a time, by default the Dask chunks, several of
            them if they are small. Makes no difference to the result.
        progress: Called with the number of windows done and of all.

    Returns:
        The parcels, with all their columns in their order, and the geometry as it was or as it was
        repaired; then, where CLASS is the name of a class in lower case, letters, digits and _:

        - `majority`, `majority_name`, `majority_share`: the class with the largest area, of
          equal ones that with the lowest code; missing where nothing is classified;
        - `confidence`: mean of the map's, weighted by covered area; missing where it has none;
        - `classified_m2`: area of all classes;
        - `unclassified_share`: part of the parcel that has no class, be it nodata or beyond the
          map, from 0 to 1; missing for a parcel without geometry;
        - `area_CLASS_m2`: area of each class, 0 where there is none;
        - `share_CLASS`: part of the classified area, so that they sum to 1; missing where nothing
          is classified.

        Areas are those of `areas.Measure`, and count pixels for a map without CRS: the names end
        in `_px` then. Names that several classes
        would have get their codes too. If the parcels have one of the new columns already, in
        upper or lower case, all new ones get the same suffix `_2`, `_3` ...

        And what became of the parcels.

    Raises:
        InputError: There are no parcels, or others than polygons; only one side has a CRS; no
            parcel covers a pixel of the map; or the map holds a code that its scheme lacks.
    """
    if chunk is not None and chunk < 1:
        raise InputError(f"the chunk size is {chunk} pixels, expected 1 or more")
    grid = grid_of(class_map)
    scheme = scheme_from_attrs(class_map["class"].attrs)
    crs = _checked_crs(parcels, grid)
    geometry, repaired = _repaired(parcels.geometry.to_numpy())
    shapes, kept = to_pixels(geometry, crs, grid)
    sums = _sum_up(class_map, shapes, chunk, progress or (lambda done, of: None))
    if not sums.pixels.any():
        raise _nothing_on_map(parcels, crs, grid)
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is left near the map
        inside = np.nan_to_num(kept * sums.pixels / shapely.area(shapes)).round(DECIMALS)
    inside[np.isnan(kept)] = np.nan
    table = make_table(sums, inside, scheme, "px" if crs is None else "m2")
    suffix = free_suffix(table.columns, parcels.columns)
    frame = parcels.set_geometry(gpd.GeoSeries(geometry, parcels.index, crs=parcels.crs))
    table = table.add_suffix(suffix).set_index(parcels.index)
    report = make_report(sums, inside, repaired, suffix)
    return pd.concat([frame, table], axis=1), report


def _checked_crs(parcels: gpd.GeoDataFrame, grid: GeoBox) -> CRS | None:
    """Check that these are polygons that can lie on a map, and return their CRS."""
    if (parcels.geometry.is_empty | parcels.geometry.isna()).all():
        raise InputError(
            f"the parcel layer has {len(parcels)} features and no geometry; give it polygons"
        )
    kinds = set(parcels.geom_type.dropna()) - {"Polygon", "MultiPolygon"}
    if kinds:
        raise InputError(
            f"parcels are polygons, the layer holds {', '.join(sorted(kinds))}; leave these out, "
            "or buffer points and lines to polygons"
        )
    crs: CRS | None = parcels.crs
    # GeoPackage stores "no CRS" as an engineering CRS named "Undefined Cartesian SRS".
    if crs is not None and crs.is_engineering:
        crs = None
    home = Measure(grid).crs
    if crs is None and home is not None:
        raise InputError(
            f"the parcels have no CRS but the map has {home.name}; assign the parcels their CRS "
            "(for a shapefile, add the .prj)"
        )
    if crs is not None and home is None:
        raise InputError(
            f"the parcels have a CRS, {crs.name}, but the map has none; georeference the map, or "
            "give parcels in its coordinates without a CRS (not GeoJSON, which always has one)"
        )
    return crs


def _repaired(geometry: np.ndarray) -> tuple[np.ndarray, int]:
    """Repair invalid polygons, and count them."""
    geometry = geometry.copy()
    broken = ~shapely.is_valid(geometry) & ~shapely.is_missing(geometry)
    geometry[broken] = repair(geometry[broken])
    return geometry, int(broken.sum())


def _nothing_on_map(parcels: gpd.GeoDataFrame, crs: CRS | None, grid: GeoBox) -> InputError:
    """Return the error that says where parcels and map are."""
    spans = [
        f"{who} x {left:.8g} to {right:.8g}, y {bottom:.8g} to {top:.8g}"
        for who, (left, bottom, right, top) in (
            ("the parcels span", parcels.total_bounds),
            ("the map", bounds_in(grid, crs)),
        )
    ]
    return InputError(
        f"the parcels cover no pixel of the map; {', '.join(spans)} "
        f"({'no CRS' if crs is None else crs.name}); choose the map's parcels, or check their CRS"
    )


def _sum_up(
    class_map: xr.Dataset,
    shapes: np.ndarray,
    chunk: int | None,
    progress: Callable[[int, int], None],
) -> Sums:
    """Sum up areas and confidences by parcel, reading the windows where there are parcels."""
    codes, measure = class_map["class"], Measure(grid_of(class_map))
    scheme = scheme_from_attrs(codes.attrs)
    sums = Sums(np.zeros((len(shapes), len(scheme) + 1)), *np.zeros((3, len(shapes))))
    tree = shapely.STRtree(shapes)
    to_read = _windows(codes, chunk)
    for number, (rows, columns) in enumerate(to_read, start=1):
        window = shapely.box(columns.start, -rows.stop, columns.stop, -rows.start)
        among = np.sort(tree.query(window))
        if len(among):
            classes = _class_positions(_read(codes, rows, columns), scheme)
            confidence = np.full((1, 1), np.nan)
            if "confidence" in class_map:
                confidence = _read(class_map["confidence"], rows, columns)
            areas = measure.pixel_areas(rows, columns)
            pixels = np.broadcast_arrays(classes, areas, confidence)
            for covered in covered_pixels(shapes[among], rows, columns):
                _add(sums, among[covered.polygon], covered, *pixels)
        progress(number, len(to_read))
    return sums


def _add(
    sums: Sums,
    parcel: np.ndarray,
    covered: CoveredPixels,
    classes: np.ndarray,
    areas: np.ndarray,
    confidence: np.ndarray,
) -> None:
    """Add the pixels that parcels cover to their sums."""
    at = (covered.row, covered.column)
    area = covered.part * areas[at]
    np.add.at(sums.pixels, parcel, covered.part)
    np.add.at(sums.areas, (parcel, classes[at]), area)
    known = np.isfinite(confidence[at])
    np.add.at(sums.confident, parcel, area * known)
    np.add.at(sums.confidence, parcel, area * np.where(known, confidence[at], 0))


def _windows(codes: xr.DataArray, chunk: int | None) -> list[tuple[slice, slice]]:
    """Cut a map into windows of whole Dask chunks, or of a given size."""
    rows, columns = codes.shape
    sizes = codes.data.chunksize if codes.chunks else codes.shape
    high, wide = (chunk or max(size, _WINDOW // size * size) for size in sizes)
    return list(windows(slice(0, rows), slice(0, columns), high, wide))


def _read(variable: xr.DataArray, rows: slice, columns: slice) -> np.ndarray:
    return read_window(da.asarray(variable.data)[rows, columns], rows, columns)


def _class_positions(codes: np.ndarray, scheme: ClassScheme) -> np.ndarray:
    """Return for each pixel 0 if unlabelled, else 1 + the position of its class in the scheme."""
    positions = np.full(256, -1, np.int16)
    positions[[UNLABELLED, *scheme.codes]] = np.arange(len(scheme) + 1)
    found = positions[codes]
    if (found < 0).any():
        raise InputError(
            f"the class map holds code {codes[found < 0].min()}, its classes are {scheme.codes}"
        )
    return found
