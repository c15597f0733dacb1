"""Polygons -> GeoPackage and other vector files that QGIS opens in the class colours."""

from __future__ import annotations

import os
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import pyogrio

from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.publish import POLYGON_SUFFIXES, check_target, staged
from hsi_pipeline.publish.style import polygon_qml

# QGIS's own table, as its OGR provider creates it
_LAYER_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
    f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""


def write_polygons(
    polygons: gpd.GeoDataFrame,
    path: str | os.PathLike[str],
    scheme: ClassScheme,
    *,
    overwrite: bool = False,
    layer: str = "landcover",
) -> list[Path]:
    """Write polygons with their style: inside a GeoPackage, as `.qml` beside other files.

    Args:
        polygons: Polygons with the field `code`; may be empty, or without CRS (pixel coordinates).
        path: Target with a suffix of `publish.POLYGON_SUFFIXES`.
        scheme: Classes, for the colours.
        overwrite: Replace an existing file, with all layers that it holds.
        layer: Name of the layer.

    Returns:
        The files written, the polygons first.

    Raises:
        InputError: As `publish.check_target`.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite, suffixes=POLYGON_SUFFIXES)
    style = polygon_qml(scheme)
    with staged(path) as target:
        _write_layer(polygons, target, layer)
        if path.suffix.lower() == ".gpkg":
            _add_style(target, layer, style)
            return [path]
        target.with_suffix(".qml").write_text(style, encoding="utf-8")
    return [path, path.with_suffix(".qml")]


def _write_layer(polygons: gpd.GeoDataFrame, path: Path, layer: str) -> None:
    """Write with GDAL; the geometry type is said, as an empty frame does not show it."""
    multi = bool((polygons.geom_type == "MultiPolygon").any())
    options: dict = {}
    if path.suffix.lower() == ".gpkg":
        options["dataset_options"] = {"VERSION": "1.2"}  # GDAL 3.6 warns of newer ones
    with warnings.catch_warnings():
        # pixel coordinates have no CRS, and that is right
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        pyogrio.write_dataframe(
            polygons,
            path,
            layer=layer,
            geometry_type="MultiPolygon" if multi else "Polygon",
            promote_to_multi=multi,
            **options,
        )


def _add_style(path: Path, layer: str, style: str) -> None:
    """Add QGIS's style table to a GeoPackage, with one style that opens by default."""
    with closing(sqlite3.connect(path)) as database, database:
        (column,) = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
        ).fetchone()
        database.execute(_LAYER_STYLES)
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name,"
            " f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner)"
            " VALUES ('', '', ?, ?, ?, ?, '', 1, 'land-cover classes', '')",
            (layer, column, layer[:30], style),
        )
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description,"
            " last_change, srs_id) VALUES ('layer_styles', 'attributes', 'layer_styles', '',"
            " strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 0)"
        )
