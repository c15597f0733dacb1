"""A stream of polygons -> GeoPackage, FlatGeobuf, GeoJSON and Shapefile, by GDAL.

GDAL takes the stream batch by batch as Arrow tables and keeps no more than its format asks for.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow as pa
import pyogrio

from hsi_pipeline.errors import InputError
from hsi_pipeline.publish.layer import Layer

_SHORT = 10  # letters of a field's name in a Shapefile
_OPTIONS: dict[str, dict[str, Any]] = {
    # GDAL 3.6 warns of newer versions
    ".gpkg": {"driver": "GPKG", "dataset_options": {"VERSION": "1.2"}},
    ".fgb": {"driver": "FlatGeobuf"},
    ".geojson": {"driver": "GeoJSON"},
    ".shp": {"driver": "ESRI Shapefile", "encoding": "UTF-8"},
}

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


def write_vector(batches: Iterable[gpd.GeoDataFrame], path: Path, layer: Layer) -> None:
    """Write polygons with their style: beside the file, and inside a GeoPackage too.

    Args:
        batches: Frames of polygons with the same columns; at least one, which may be empty.
        path: Target with a suffix of GDAL's formats.
        layer: What else there is to know.

    Raises:
        InputError: The format cannot hold them.
    """
    suffix = path.suffix.lower()
    frames = iter(batches)
    first = next(frames)
    _check_columns(first, suffix)
    frames = chain([first], frames)
    crs = None if first.crs is None else first.crs.to_wkt()
    options = _OPTIONS[suffix] | {"layer_options": _layer_options(first, suffix)}
    if suffix == ".geojson":
        frames, crs = map(_in_wgs84, frames), "EPSG:4326"
    if suffix == ".shp":
        names = shortened(first.columns)
        frames = (frame.rename(columns=names) for frame in frames)
        layer = layer.renamed(names)
    stream = _Stream(map(layer.table, frames))
    with warnings.catch_warnings():
        # pixel coordinates have no CRS, and that is right
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        try:
            pyogrio.write_arrow(
                stream.reader, path, crs=crs,
                layer=path.stem if suffix == ".shp" else layer.name,
                geometry_name=first.geometry.name,
                geometry_type="MultiPolygon" if layer.multi else "Polygon", **options,
            )  # fmt: skip
        except RuntimeError as error:  # all of pyogrio's are
            if stream.failure is not None:
                raise stream.failure from None
            raise InputError(
                f"{path.name} could not be written, nothing was kept: {error}"
            ) from error
    if suffix == ".gpkg":
        add_style(path, layer.name, layer.qml, layer.sld, "land-cover classes")
    layer.write_styles(path)


def _layer_options(first: gpd.GeoDataFrame, suffix: str) -> dict[str, str]:
    """Return what GDAL must be told of a layer, by its first polygons."""
    if suffix == ".geojson":  # a tenth of a millimetre: seven decimals spoil pixels of a drone
        return {"RFC7946": "YES", "COORDINATE_PRECISION": "9"}
    if suffix == ".fgb" and (first.geometry.isna() | first.geometry.is_empty).any():
        return {"SPATIAL_INDEX": "NO"}  # which has no place for them
    fids = [column for column in first.columns if column.lower() == "fid"]
    if suffix == ".gpkg" and fids:
        numbers = first[fids[0]]
        is_key = numbers.dtype.kind in "iu" and numbers.is_unique
        if not is_key:
            taken = {column.lower() for column in first.columns}
            return {"FID": next(name for name in ("gid", "ogc_fid", "key") if name not in taken)}
    return {}


def _check_columns(first: gpd.GeoDataFrame, suffix: str) -> None:
    """Refuse columns that a format takes for one.

    Raises:
        InputError: Names two of them.
    """
    seen: dict[str, str] = {}
    for column in map(str, first.columns):
        other = seen.setdefault(column.lower(), column)
        if other != column and suffix in (".gpkg", ".shp"):
            raise InputError(
                f"the columns {other} and {column} differ in capitals only, which {suffix} cannot "
                "hold; rename one, or write .parquet or .fgb"
            )


class _Stream:
    """Arrow tables as a stream that GDAL draws from."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        """Take the columns from the first table."""
        self.failure: BaseException | None = None
        """What broke the stream: Arrow tells GDAL no more than that it broke."""
        first = next(tables)
        batches = self._batches(chain([first], tables), first.schema)
        self.reader = pa.RecordBatchReader.from_batches(first.schema, batches)

    def _batches(self, tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            for table in tables:
                yield from table.cast(schema).to_batches()
        except GeneratorExit:
            raise
        except BaseException as error:  # Ctrl-C too
            self.failure = error
            raise


def shortened(names: Iterable[str]) -> dict[str, str]:
    """Return the names that a Shapefile cannot hold, and unique ones of ten letters for them."""
    names = list(names)
    taken = {name.lower() for name in names if len(name.encode()) <= _SHORT}
    short: dict[str, str] = {}
    for name in names:
        if len(name.encode()) <= _SHORT or name == "geometry":
            continue
        for number in range(100):
            tail = str(number or "")
            cut = name.encode()[: _SHORT - len(tail)].decode(errors="ignore") + tail
            if cut.lower() not in taken:
                break
        taken.add(cut.lower())
        short[name] = cut
    return short


def _in_wgs84(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    if frame.crs is None:
        raise InputError(
            "GeoJSON holds longitude and latitude, and this map has pixel coordinates; write "
            ".gpkg or .fgb instead"
        )
    return frame.to_crs("EPSG:4326")


def add_style(path: Path, name: str, qml: str, sld: str, description: str) -> None:
    """Add QGIS's style table to a GeoPackage, with one style that opens by default.

    Args:
        path: The GeoPackage.
        name: Name of the layer that the style is for.
        qml: The style for QGIS.
        sld: The same as SLD; may be empty.
        description: What it shows.
    """
    with closing(sqlite3.connect(path)) as database, database:
        (column,) = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (name,)
        ).fetchone()
        database.execute(_LAYER_STYLES)
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name,"
            " f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner)"
            " VALUES ('', '', ?, ?, ?, ?, ?, 1, ?, '')",
            (name, column, name[:30], qml, sld, description),
        )
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description,"
            " last_change, srs_id) VALUES ('layer_styles', 'attributes', 'layer_styles', '',"
            " strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), 0)"
        )
