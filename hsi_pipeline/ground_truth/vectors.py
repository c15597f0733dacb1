"""Polygons and points -> ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import rasterio.features
import shapely
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth.checks import check_both_have_crs, nothing_on_scene, scheme_of_file
from hsi_pipeline.ground_truth.class_table import ClassTable
from hsi_pipeline.ground_truth.columns import (
    OBVIOUS_COLUMNS,
    check_column,
    codes_of_column,
    names_of_codes,
    obvious_column,
    parts_of_column,
)
from hsi_pipeline.ground_truth.truth import MAX_CODE, GroundTruth, LabelReport, count_classes

_GEOMETRIES = ("Point", "MultiPoint", "Polygon", "MultiPolygon")
_AREAS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


def vector_layers(path: str) -> dict[str, str | None]:
    """Return the layers of a vector file with their geometry type, {} if it is none."""
    try:
        return {str(name): kind for name, kind in pyogrio.list_layers(path)}
    except pyogrio.errors.DataSourceError:
        return {}


def read_vector(
    path: str,
    layers: Mapping[str, str | None],
    grid: GeoBox,
    table: ClassTable,
    *,
    label_column: str | None,
    name_column: str | None,
    split_column: str | None,
    layer: str | None,
    where: str | None,
) -> GroundTruth:
    """Read polygons or points.

    Args:
        path: Vector file.
        layers: As `vector_layers` gives them.
        grid: The scene's grid.
        table: Class table.
        label_column: As for `read_labels`, like those below.
        name_column: Column that names the codes.
        split_column: Column that says train, validation or test.
        layer: Layer to read.
        where: SQL condition.

    Raises:
        InputError: As `read_labels`.
    """
    layer = choose_layer(path, layers, layer, label_column)
    if pyogrio.read_info(path, layer=layer, force_feature_count=True)["features"] == 0:
        raise InputError(f"{path}: layer {layer!r} is empty, it has no features")
    columns = columns_of(path, layer)
    label_column = label_column or obvious_column(path, columns)
    wanted = [c for c in (label_column, name_column, split_column) if c is not None]
    for column in wanted:
        check_column(path, column, columns)
    features = read_features(path, layer, list(dict.fromkeys(wanted)), where)

    codes, names = codes_of_column(path, features[label_column], table)
    if not codes.any():
        raise InputError(f"{path}: column {label_column!r} gives no feature a class")
    if name_column is not None:
        names = names_of_codes(path, codes, features[name_column])
    parts = None if split_column is None else parts_of_column(path, features[split_column])
    scheme = scheme_of_file(path, codes, {**names, **table.names}, table.colors)
    geometry, fates = _geometry_on_scene(path, features.geometry, codes > 0, grid)
    return _burn(path, geometry, codes, parts, scheme, grid, fates)


def read_features(path: str, layer: str, columns: list[str], where: str | None) -> gpd.GeoDataFrame:
    """Read some columns of the features for which a condition holds.

    Raises:
        InputError: The condition cannot be read, or holds for no feature.
    """
    try:
        features = pyogrio.read_dataframe(path, layer=layer, columns=columns, where=where)
    except (ValueError, pyogrio.errors.FeatureError) as error:
        if where is None:
            raise
        raise InputError(f"{path}: --where {where!r} cannot be used: {error}") from error
    if features.empty and where is None:
        raise InputError(f"{path}: layer {layer!r} is empty, it has no features")
    if features.empty:
        raise InputError(f"{path}: no feature of layer {layer!r} satisfies --where {where!r}")
    return features


def choose_layer(
    path: str, layers: Mapping[str, str | None], layer: str | None, label_column: str | None
) -> str:
    """Return the layer to read: the one named, the only one, or the only one with labels."""
    listed = ", ".join(layers)
    if layer is not None and layer not in layers:
        raise InputError(f"{path}: there is no layer {layer!r}; its layers are {listed}")
    if layer is not None:
        found = [layer]
    else:
        found = [name for name, kind in layers.items() if kind is not None] or list(layers)
    if len(found) > 1:
        accepted = OBVIOUS_COLUMNS if label_column is None else (label_column.lower(),)
        found = [
            name for name in found if any(c.lower() in accepted for c in columns_of(path, name))
        ]
    if len(found) != 1:
        raise InputError(f"{path}: there are several layers ({listed}); choose one with --layer")
    if layers[found[0]] is None:
        raise InputError(
            f"{path}: layer {found[0]!r} is a table without geometry; give polygons or points"
        )
    return found[0]


def columns_of(path: str, layer: str) -> list[str]:
    """Return the columns of a layer."""
    return [str(name) for name in pyogrio.read_info(path, layer=layer)["fields"]]


def _geometry_on_scene(
    path: str, geometry: gpd.GeoSeries, labelled: np.ndarray, grid: GeoBox
) -> tuple[dict[int, Any], dict[str, int]]:
    """Find the labelled features on the scene, and repair them where needed.

    Returns:
        Geometries in the grid's CRS by place in the file, from 0; and the report's counts of the
        other features.
    """
    kinds = set(geometry.geom_type.dropna()) - set(_GEOMETRIES)
    if kinds:
        raise InputError(
            f"{path}: holds {', '.join(sorted(kinds))}; labels are polygons or points, "
            "buffer lines to polygons first"
        )
    empty = (geometry.isna() | geometry.is_empty).to_numpy()
    places = np.flatnonzero(labelled & ~empty)
    shapes = to_grid_crs(path, geometry, grid).to_numpy()[places]

    scene = grid.extent.geom  # a polygon, as grids may be rotated
    left, bottom, right, top = scene.bounds
    bounds = shapely.bounds(shapes)
    # Far away features may have no finite coordinates in the scene's CRS.
    finite = np.isfinite(bounds).all(axis=1)
    near = finite & ((bounds[:, :2] <= (right, top)) & (bounds[:, 2:] >= (left, bottom))).all(1)
    places, shapes = places[near], shapes[near]

    broken = ~shapely.is_valid(shapes)
    shapes[broken] = shapely.make_valid(shapes[broken], method="structure", keep_collapsed=False)
    lost = shapely.is_empty(shapes)
    area = np.isin(shapely.get_type_id(shapes), _AREAS)
    on_scene = shapely.intersects(shapes, scene) & ~(area & shapely.touches(shapes, scene))
    if not on_scene.any():
        known = bounds[finite]
        extent = [*known[:, :2].min(axis=0), *known[:, 2:].max(axis=0)] if len(known) else None
        raise nothing_on_scene(path, extent, grid)
    fates = {
        "without_geometry": int(empty.sum() + lost.sum()),
        "repaired": int((broken & ~lost).sum()),
        "outside": int((~near).sum() + (~on_scene & ~lost).sum()),
    }
    return dict(zip(places[on_scene].tolist(), shapes[on_scene], strict=True)), fates


def to_grid_crs(path: str, geometry: gpd.GeoSeries, grid: GeoBox) -> gpd.GeoSeries:
    """Reproject geometries to the grid's CRS; both may be without."""
    # GeoPackage stores "no CRS" as an engineering CRS named "Undefined Cartesian SRS".
    crs: pyproj.CRS | None = geometry.crs
    if crs is not None and crs.is_engineering:
        crs = None
    check_both_have_crs(path, crs, grid)
    return geometry if crs is None or grid.crs is None else geometry.to_crs(grid.crs.proj)


def _burn(
    path: str,
    geometry: Mapping[int, Any],
    codes: np.ndarray,
    parts: np.ndarray | None,
    scheme: ClassScheme,
    grid: GeoBox,
    fates: Mapping[str, int],
) -> GroundTruth:
    """Make ground truth of the geometries on the scene, and the codes and parts per feature."""
    keys = codes.astype(np.int16) * 4 + (0 if parts is None else parts)
    units, conflicts, without_pixel = _rasterize_units(geometry, keys, grid)
    labels = _on_pixels(codes, units)
    if not labels.any():
        raise InputError(
            f"{path}: none of the {len(geometry)} features on the scene labels a pixel "
            f"({without_pixel} hold no pixel centre, {conflicts} pixels are in conflict)"
        )
    counts = count_classes(scheme, labels, grid, np.bincount(codes, minlength=MAX_CODE + 1))
    present = {count.code for count in counts if count.pixels}
    return GroundTruth(
        labels=labels,
        scheme=ClassScheme(tuple(c for c in scheme.categories if c.code in present)),
        units=units,
        splits=None if parts is None else _on_pixels(parts, units),
        report=LabelReport(
            classes=counts,
            features=len(codes),
            conflicts=conflicts,
            without_pixel=without_pixel,
            without_class=int((codes == 0).sum()),
            **fates,
        ),
    )


def _rasterize_units(
    geometry: Mapping[int, Any], keys: np.ndarray, grid: GeoBox
) -> tuple[np.ndarray, int, int]:
    """Burn features into the grid.

    Two passes, by ascending and by descending key, leave the highest and the lowest key on each
    pixel; where these differ, features that disagree overlap.

    Args:
        geometry: Geometry by place in the file, from 0.
        keys: (feature,) int16; features with the same number agree.
        grid: Where to burn.

    Returns:
        Places in the file from 1 (y, x) int32, 0 for none or conflict; the number of pixels in
        conflict; and the number of features without a pixel.
    """
    order = sorted(geometry, key=lambda place: (keys[place], place))
    highest, lowest = (
        rasterio.features.rasterize(
            [(geometry[place], place + 1) for place in places],
            out_shape=tuple(grid.shape),
            transform=grid.affine,
            dtype=np.int32,
        )
        for places in (order, order[::-1])
    )
    seen = np.zeros(len(keys) + 1, dtype=bool)
    seen[highest] = True
    seen[lowest] = True
    without_pixel = len(geometry) - int(seen[1:].sum())
    conflict = _on_pixels(keys, highest) != _on_pixels(keys, lowest)
    highest[conflict] = 0
    return highest, int(conflict.sum()), without_pixel


def _on_pixels(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return on each pixel the value of its feature, of the values' type, 0 where there is none."""
    return np.pad(values, (1, 0))[units]
