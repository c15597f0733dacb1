"""A stream of polygons -> GeoParquet 1.1.

One row group for each batch: polygons of a few neighbouring chunks of the map, along a Hilbert
curve. Each has the bounding box of its polygon in a column, so that readers skip what lies
elsewhere. geopandas would need all polygons at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from hsi_pipeline.publish.layer import Layer

_GROUP = 20_000  # rows
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def write_parquet(batches: Iterable[gpd.GeoDataFrame], path: Path, layer: Layer) -> None:
    """Write polygons, and their style beside them.

    Args:
        batches: Frames of polygons with the same columns; at least one, which may be empty.
        path: Target.
        layer: What else there is to know.
    """
    writer: pq.ParquetWriter | None = None
    crs, box = None, ""
    extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
    try:
        for frame in batches:
            frame = _along_curve(frame)
            if writer is None:
                crs, box = frame.crs, _free_name(frame.columns)
            table = _with_boxes(frame, layer, box)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table.cast(writer.schema), row_group_size=_GROUP)
            bounds = frame.total_bounds
            if np.isfinite(bounds).all():
                extent[:2] = np.fmin(extent[:2], bounds[:2])
                extent[2:] = np.fmax(extent[2:], bounds[2:])
        assert writer is not None
        writer.add_key_value_metadata({"geo": json.dumps(_metadata(crs, extent, layer, box))})
    finally:
        if writer is not None:
            writer.close()
    layer.write_styles(path)


def _along_curve(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Order polygons along a Hilbert curve; those without geometry come last."""
    nowhere = (frame.geometry.isna() | frame.geometry.is_empty).to_numpy()
    placed = frame[~nowhere]
    if len(placed) < 2:
        return frame
    return pd.concat([placed.iloc[placed.hilbert_distance().argsort()], frame[nowhere]])


def _free_name(columns: pd.Index) -> str:
    """Return a name for the column of boxes."""
    names = chain(["bbox"], (f"bbox_{number}" for number in count(2)))
    return next(name for name in names if name not in columns)


def _with_boxes(frame: gpd.GeoDataFrame, layer: Layer, box: str) -> pa.Table:
    """Return polygons as an Arrow table with a column of bounding boxes."""
    geometry = frame.geometry.name
    table = layer.table(frame).replace_schema_metadata(None)
    place = table.column_names.index(geometry)
    table = table.set_column(place, geometry, table[geometry].cast(pa.binary()))
    bounds = shapely.bounds(frame.geometry.to_numpy()).reshape(-1, 4)
    sides = [pa.array(side, from_pandas=True) for side in bounds.T]
    return table.append_column(box, pa.StructArray.from_arrays(sides, _SIDES))


def _metadata(crs: Any, extent: np.ndarray, layer: Layer, box: str) -> dict[str, Any]:
    """Return what GeoParquet 1.1 says in the file's footer."""
    geometry: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon" if layer.multi else "Polygon"],
        "crs": None if crs is None else crs.to_json_dict(),
        "covering": {"bbox": {side: [box, side] for side in _SIDES}},
    }
    if np.isfinite(extent).all():
        geometry["bbox"] = extent.tolist()
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
