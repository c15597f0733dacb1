"""Polygons of any file to the few bytes that a page draws and looks them up by."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox

PARTS = 4
"""Coordinates are counted in this part of a pixel of the picture."""

_LARGEST = 2**53
_KINDS = ("Polygon", "MultiPolygon")


@dataclass(frozen=True, kw_only=True)
class Outlines:
    """Polygons as a page has them."""

    columns: list[dict[str, Any]]
    """Attributes: `name` and `values`, or `name`, `levels` and `places` of values that recur."""
    rings: list[list[list[int]]]
    """Of each polygon its rings, x and y in turn, each after the first as what is added."""
    total: int
    """Polygons in the file that lie on the map; the largest of them are here."""


def encode_outlines(frame: gpd.GeoDataFrame, grid: GeoBox, step: int, budget: int) -> Outlines:
    """Take polygons to whole numbers in the pixels of a picture, the largest first.

    Args:
        frame: Polygons in the CRS of the grid, with any columns; others are left out.
        grid: Grid of the map.
        step: Pixels of the map for a pixel of the picture.
        budget: Bytes that they may take.
    """
    shapes = frame.geometry.to_numpy()
    usable = np.isin(frame.geom_type, _KINDS) & ~shapely.is_empty(shapes)
    inverse = ~grid.transform
    scaled = shapely.transform(
        shapes[usable],
        lambda points: np.column_stack(inverse @ (points[:, 0], points[:, 1])) * (PARTS / step),
    )
    height, width = (PARTS * size / step for size in grid.shape)
    near = shapely.intersects(shapely.box(0, 0, width, height), shapely.envelope(scaled))
    places, scaled = np.flatnonzero(usable)[near], scaled[near]
    order = np.argsort(-shapely.area(scaled), kind="stable")
    table = pd.DataFrame(frame.drop(columns=frame.geometry.name)).iloc[places[order]]
    values = {str(name): [_plain(value) for value in table[name]] for name in table}
    kept: list[list[list[int]]] = []
    for i, shape in enumerate(scaled[order]):
        rings = _rings(shape)
        budget -= len(_packed([rings, *(column[i] for column in values.values())]))
        if budget < 0:
            break
        kept.append(rings)
    columns = [_column(name, column[: len(kept)]) for name, column in values.items()]
    return Outlines(columns=columns, rings=kept, total=len(order))


def _rings(shape: shapely.Geometry) -> list[list[int]]:
    """Return the rings of a polygon as whole numbers; those without a width are left out."""
    thin = shapely.simplify(shape, 0.5, preserve_topology=True)
    found = []
    for ring in shapely.get_rings(shapely.get_parts(thin)):
        points = np.rint(shapely.get_coordinates(ring)).astype(np.int64)[:-1]
        points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
        if len(points) > 2:
            found.append(np.diff(points, axis=0, prepend=0).ravel().tolist())
    return found


def _packed(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _column(name: str, values: list[Any]) -> dict[str, Any]:
    """Return a column, of values that recur each once."""
    levels = list(dict.fromkeys(values))
    if len(levels) > len(values) / 2:
        return {"name": name, "values": values}
    place = {level: i for i, level in enumerate(levels)}
    return {"name": name, "levels": levels, "places": [place[value] for value in values]}


def _plain(value: Any) -> str | int | float | bool | None:
    """Return a value as JSON has it, numbers with seven digits at most."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):  # JavaScript would round larger ones
        return int(value) if abs(int(value)) <= _LARGEST else str(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    return str(value)[:500]
