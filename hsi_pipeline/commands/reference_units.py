"""Reference units: what labels and a class map say at the same places."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import UNLABELLED, ClassScheme
from hsi_pipeline.commands.map_pixels import MapFacts, read_map, read_map_at_labels
from hsi_pipeline.commands.messages import report_labels
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import TEST, VALIDATION, read_labels
from hsi_pipeline.ground_truth.checks import nothing_on_scene
from hsi_pipeline.ground_truth.points import ReferencePoints, has_class_codes
from hsi_pipeline.ground_truth.truth import places_sha256


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedUnits:
    """The units of a reference, with what a map says there; alike ones in one row."""

    unit: str
    """`point`, `polygon` or `pixel`."""
    mapped: np.ndarray
    """Class code of the map (row,)."""
    reference: np.ndarray
    """Class code of the reference (row,)."""
    count: np.ndarray
    """Points or pixels in a row (row,)."""
    cluster: np.ndarray | None
    """Polygon of each row (row,); None where there are none."""
    place: np.ndarray | None
    """Place among all points of the file (row,); None where they are no points."""
    scheme: ClassScheme
    """Classes of the reference that occur."""
    has_codes: bool
    """Whether their codes mean something; else the reference gives names alone."""
    map: MapFacts
    """What the map holds."""
    left_out: Mapping[str, int]
    """How many were left out and why, see `assessment.Assessment`."""
    disagreeing: int = 0
    """Points left out since others in their pixel are of other classes."""
    labels: np.ndarray | None = None
    """Codes of the reference on the map's grid (y, x); None for points."""
    is_validation: bool = False
    """Whether these are the labels marked validation, as none is marked test."""

    @property
    def draws(self) -> int:
        """Number of points, polygons or pixels: of what may have been drawn."""
        if self.cluster is None:
            return int(self.count.sum())
        return len(np.unique(self.cluster))

    def keep(self, known: np.ndarray, reason: str) -> ComparedUnits:
        """Leave out single units (row,) for a reason of `left_out`."""
        names = ("mapped", "reference", "count", "place")
        kept = {name: getattr(self, name)[known] for name in names}
        number = self.left_out[reason] + int((~known).sum())
        return replace(self, **kept, left_out={**self.left_out, reason: number})


def compare_points(
    points: ReferencePoints, dataset: xr.Dataset, terminal: Terminal, *, drawn: bool
) -> ComparedUnits:
    """Look up what a map says at points.

    Args:
        points: The points.
        dataset: The class map.
        terminal: Where to report.
        drawn: Whether a design tells that each point was drawn by itself: then two of them are
            duplicates only in the very same place, as this map may have larger pixels than the one
            they were drawn from; else in the same pixel.

    Raises:
        InputError: No point is left.
    """
    grid = grid_of(dataset)
    rows, columns, inside = points.pixels(grid)
    wanted, part = np.ones(len(inside), bool), None
    if points.parts is not None:
        part = _held_out(points.parts[inside])
        wanted = points.parts == part
    labelled = wanted & (points.codes != UNLABELLED)
    left_out = {
        "outside": int((labelled & ~inside).sum()) + points.without_geometry,
        "nodata": 0,
        "without_class": int((wanted & ~labelled).sum()),
        "duplicate": 0,
    }
    found = np.flatnonzero(labelled & inside)
    if not len(found):
        extent = points.positions(grid)
        extent = extent[np.isfinite(extent).all(1)]
        span = [*extent.min(0), *extent.max(0)] if len(extent) else None
        raise nothing_on_scene(points.path, span, grid)
    where = (points.positions(grid) if drawn else np.stack((rows, columns), axis=1))[found]
    place = np.unique(where, axis=0, return_inverse=True)[1].ravel()
    single, disagreeing = _distinct(place, points.codes[found])
    left_out["duplicate"] = len(found) - int(single.sum())
    found = found[single]
    with terminal.chunk_progress("comparing", dataset["class"].size) as progress:
        facts, codes = read_map(dataset, rows[found], columns[found], progress=progress)
    known = codes != UNLABELLED
    left_out["nodata"] = int((~known).sum())
    found, codes = found[known], codes[known]
    if not len(found):
        raise InputError(f"{points.path}: no point is left ({tell_left_out(left_out)})")
    told = tell_left_out(left_out)
    terminal.say(f"{len(found)} points on the map" + (f"; left out: {told}" if told else ""))
    return ComparedUnits(
        unit="point",
        mapped=codes,
        reference=points.codes[found],
        count=np.ones(len(found), np.int64),
        cluster=None,
        place=found,
        scheme=_occurring(points.scheme, points.codes[found]),
        has_codes=points.has_codes,
        map=facts,
        left_out=left_out,
        disagreeing=disagreeing,
        is_validation=part == VALIDATION,
    )


def compare_pixels(
    reference: str | os.PathLike[str],
    columns: Mapping[str, Any],
    dataset: xr.Dataset,
    terminal: Terminal,
) -> ComparedUnits:
    """Compare the pixels of polygons, or of a raster, with a map.

    Args:
        reference: The file.
        columns: Options of `read_labels`.
        dataset: The class map.
        terminal: Where to report.

    Raises:
        InputError: No pixel is left.
    """
    truth = read_labels(reference, grid_of(dataset), **columns)
    report_labels(terminal, truth)
    labels, part = truth.labels, None
    if truth.splits is not None:
        part = _held_out(truth.splits)
        labels = np.where(truth.splits == part, labels, np.uint8(UNLABELLED))
    with terminal.chunk_progress("comparing", dataset["class"].size) as progress:
        facts, found = read_map_at_labels(dataset, labels, truth.units, progress=progress)
    known = found.mapped != UNLABELLED
    left_out = {
        "outside": truth.report.outside,
        "nodata": int(found.pixels[~known].sum()),
        "without_class": truth.report.without_class,
        "duplicate": truth.report.conflicts,
    }
    if not known.any():
        raise InputError(f"{reference}: all labelled pixels are nodata in the map")
    if left_out["nodata"]:
        terminal.say(f"  {left_out['nodata']} labelled pixels are nodata in the map and left out")
    is_polygons = bool(found.feature.any())
    return ComparedUnits(
        unit="polygon" if is_polygons else "pixel",
        mapped=found.mapped[known],
        reference=found.reference[known],
        count=found.pixels[known],
        cluster=found.feature[known] if is_polygons else None,
        place=None,
        scheme=_occurring(truth.scheme, found.reference[known]),
        has_codes=columns["class_table"] is not None
        or has_class_codes(reference, label_column=columns["label_column"], layer=columns["layer"]),
        map=facts,
        left_out=left_out,
        labels=truth.labels,
        is_validation=part == VALIDATION,
    )


def _held_out(parts: np.ndarray) -> int:
    """Return the part to assess by: test, or validation where there is none.

    Raises:
        InputError: The file names parts, but marks nothing as test or validation.
    """
    for part in (TEST, VALIDATION):
        if (parts == part).any():
            return part
    raise InputError(
        "the split column marks nothing on the map as test or validation; leave out "
        "--split-column to compare with all of it"
    )


def _distinct(place: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Keep one of the points of each place, none where they disagree; count those that do.

    Args:
        place: Number of the place of each point (point,).
        codes: Its class.
    """
    _, first = np.unique(place, return_index=True)
    lowest = np.full(len(first), 255)
    highest = np.zeros(len(first), int)
    np.minimum.at(lowest, place, codes)
    np.maximum.at(highest, place, codes)
    keep = np.zeros(len(place), bool)
    keep[first[lowest == highest]] = True
    return keep, int((lowest != highest)[place].sum())


def _occurring(scheme: ClassScheme, codes: np.ndarray) -> ClassScheme:
    """Return the classes of a scheme that occur."""
    present = set(np.unique(codes).tolist())
    return ClassScheme(tuple(c for c in scheme.categories if c.code in present))


def points_sha256(points: ReferencePoints, grid: GeoBox) -> str:
    """Return `labels_sha256` of points as `read_labels` reads them: none where they disagree."""
    rows, columns, inside = points.pixels(grid)
    held = np.flatnonzero(inside & (points.codes != UNLABELLED))
    place = np.ravel_multi_index((rows[held], columns[held]), tuple(grid.shape))
    _, number = np.unique(place, return_inverse=True)
    single, _ = _distinct(number, points.codes[held])
    kept = held[single][np.argsort(place[single])]
    return places_sha256(np.sort(place[single]), points.codes[kept], grid)


def tell_left_out(left_out: Mapping[str, int]) -> str:
    """Say what was left out, "" if nothing."""
    words = {
        "outside": "outside the map",
        "nodata": "on nodata",
        "without_class": "without class",
        "duplicate": "duplicates",
    }
    return ", ".join(f"{number} {words[key]}" for key, number in left_out.items() if number)
