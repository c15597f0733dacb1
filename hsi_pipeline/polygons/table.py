"""What is known of regions -> the columns that users see."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr

from hsi_pipeline.areas import Measure
from hsi_pipeline.classes import scheme_from_attrs
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons.chunks import Totals
from hsi_pipeline.polygons.regions import STEPS

FIELDS = (
    "code", "name", "area_m2", "perimeter_m", "pixels", "confidence", "min_confidence",
    "second_name", "second_share", "scene_id", "acquired",
)  # fmt: skip
"""Columns of polygons beside their geometry."""


class Table:
    """Makes frames of polygons, all with the same columns and types."""

    def __init__(self, class_map: xr.Dataset, *, pixel_areas: bool = True) -> None:
        """Read what all polygons of a class map have in common.

        Args:
            class_map: The class map.
            pixel_areas: Whether the polygons have the areas of their pixels.
        """
        self._pixel_areas = pixel_areas
        self.grid = grid_of(class_map)
        self._measure = Measure(self.grid)
        self._scheme = scheme_from_attrs(class_map["class"].attrs)
        self._names = np.full(256, None, object)
        self._names[list(self._scheme.codes)] = self._scheme.names
        probability = class_map.get("probability")
        self._categories = [] if probability is None else list(class_map["category"].values)
        self._common = {key: class_map.attrs.get(key) for key in ("scene_id", "acquired")}

    def none(self) -> tuple[np.ndarray, Totals]:
        """Return no polygons."""
        sums = np.zeros((0, 4 + len(self._categories)), np.int64)
        return np.empty(0, object), Totals(
            np.zeros(0, np.uint8), np.zeros(0, np.int64), sums, np.zeros(0, np.float32)
        )

    def frame(self, geometry: np.ndarray, totals: Totals) -> gpd.GeoDataFrame:
        """Return polygons with all that is known of them.

        Raises:
            InputError: A code that the scheme lacks.
        """
        names = self._names[totals.codes]
        if (unknown := totals.codes[names == None]).size:  # noqa: E711  by element
            raise InputError(
                f"the class map holds code {unknown.min()}, its classes are {self._scheme.codes}"
            )
        pixels, confidence, known = totals.sums.T[:3]
        second, share = self._second(totals)
        with np.errstate(invalid="ignore"):
            columns: dict[str, Any] = {
                "code": totals.codes.astype(np.int32),
                "name": _text(names),
                "area_m2": self._areas(geometry, pixels),
                "perimeter_m": self._measure.perimeters(geometry),
                "pixels": pixels,
                "confidence": confidence / known / STEPS,
                "min_confidence": totals.minima.astype(np.float64),
                "second_name": second,
                "second_share": share,
            }
        for key, value in self._common.items():
            columns[key] = _text([None if value is None else str(value)] * len(totals))
        return gpd.GeoDataFrame(
            columns, index=totals.first, geometry=geometry, crs=self._measure.crs
        )

    def _areas(self, geometry: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Return areas, of pixels where they are all equal: exact, and the same for all orders."""
        if not self._pixel_areas or not self._measure.is_planar:
            return self._measure.polygon_areas(geometry)
        return pixels * self._measure.largest_pixel()

    def _second(self, totals: Totals) -> tuple[Any, np.ndarray]:
        """Return the name of the second most likely class and its mean probability."""
        count = len(totals)
        shares = totals.sums[:, 4:].astype(np.float64)
        own = np.asarray(self._categories, object)[None] == self._names[totals.codes][:, None]
        if shares.shape[1] < 2:
            return _text([None] * count), np.full(count, np.nan)
        shares[own] = -1
        best = shares.argmax(axis=1)
        with np.errstate(invalid="ignore"):
            share = shares[np.arange(count), best] / totals.sums[:, 3] / STEPS
        names = np.asarray(self._categories, object)[best]
        names[np.isnan(share)] = None
        return _text(names), share


def _text(values: Any) -> Any:
    """Return a column of text that stays one where all is missing."""
    return pd.array(values, dtype="string")


class Ready:
    """Polygons that are ready and not yet taken."""

    def __init__(self, table: Table) -> None:
        """Begin with none."""
        self._table = table
        self._frames: list[gpd.GeoDataFrame] = []
        self._count = 0
        self.taken = False
        """Whether any frame was taken, even an empty one."""

    def __len__(self) -> int:
        """Return the number of polygons."""
        return self._count

    def add(self, geometry: np.ndarray, totals: Totals) -> None:
        """Add polygons."""
        if len(totals):
            self._frames.append(self._table.frame(geometry, totals))
            self._count += len(totals)

    def take(self) -> gpd.GeoDataFrame:
        """Return all that is ready as one frame."""
        frames = self._frames or [self._table.frame(*self._table.none())]
        self._frames, self._count, self.taken = [], 0, True
        return frames[0] if len(frames) == 1 else pd.concat(frames)
