"""What a layer of polygons is besides its rows: name, classes, style."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely

from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.publish.style import polygon_qml, polygon_sld


@dataclass(frozen=True)
class Layer:
    """A layer of polygons."""

    scheme: ClassScheme
    """Classes, for names and colours."""
    name: str = "landcover"
    """Name of the layer or table."""
    field: str = "code"
    """Column that holds the class code."""
    multi: bool = False
    """Whether polygons may have several parts; then all are written as MultiPolygons."""

    def renamed(self, names: Mapping[str, str]) -> Layer:
        """Return the layer for columns of other names."""
        return replace(self, field=names.get(self.field, self.field))

    @property
    def qml(self) -> str:
        """Style for QGIS."""
        return polygon_qml(self.scheme, self.field)

    @property
    def sld(self) -> str:
        """Style for MapServer, GeoServer and others."""
        return polygon_sld(self.scheme, self.field, self.name)

    def write_styles(self, path: Path) -> None:
        """Write both styles beside a file."""
        path.with_suffix(".qml").write_text(self.qml, encoding="utf-8")
        path.with_suffix(".sld").write_text(self.sld, encoding="utf-8")

    def table(self, frame: gpd.GeoDataFrame) -> pa.Table:
        """Return polygons as an Arrow table, their geometry as WKB of one type, without heights."""
        geometry = shapely.force_2d(frame.geometry.to_numpy())
        single = shapely.get_type_id(geometry) == shapely.GeometryType.POLYGON
        if self.multi and single.any():
            geometry = geometry.copy()
            parts = np.arange(int(single.sum()))
            geometry[single] = shapely.multipolygons(geometry[single], indices=parts)
        frame = frame.set_geometry(gpd.GeoSeries(geometry, frame.index, crs=frame.crs))
        return pa.table(frame.to_arrow(index=False))
