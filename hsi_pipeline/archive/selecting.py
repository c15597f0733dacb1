"""Which scenes of an archive are meant: area, dates, clouds, sensors, collections, number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from pyproj.exceptions import ProjError
from shapely.geometry.base import BaseGeometry

from hsi_pipeline.archive.candidates import Candidate
from hsi_pipeline.archive.dates import interval, span
from hsi_pipeline.archive.footprints import box, from_geojson, to_degrees
from hsi_pipeline.archive.scenes import Selection
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth.vectors import vector_layers

OUTSIDE, OTHER_DATES, TOO_CLOUDY = "outside the area", "of other dates", "too cloudy"
OTHER_SENSORS, OTHER_COLLECTIONS = "of other sensors", "of other collections"
BEYOND = "beyond the limit"
_GEOMETRIES = ("Point", "LineString", "Polygon")


@dataclass(frozen=True)
class Wanted:
    """A selection, checked and with its area read."""

    selection: Selection
    area: tuple[BaseGeometry, ...]
    """In WGS 84; nothing if there is no area."""
    box: BaseGeometry | None
    """In WGS 84, in one piece or two."""

    @property
    def asks_facts(self) -> bool:
        """Whether scenes must be known better than by their names."""
        chosen = self.selection
        return bool(
            self.area or self.box is not None or chosen.dates or chosen.sensors
            or chosen.max_cloud is not None
        )  # fmt: skip


def read_selection(selection: Selection) -> Wanted:
    """Check a selection and read its area.

    Raises:
        InputError: Something in it makes no sense, or the area cannot be read.
    """
    if selection.dates is not None:
        interval(selection.dates)
    if selection.max_cloud is not None and not 0 <= selection.max_cloud <= 100:
        raise InputError(f"max_cloud is {selection.max_cloud:g}; give a percentage from 0 to 100")
    if selection.limit is not None and selection.limit < 1:
        raise InputError(f"limit is {selection.limit}; give a number of scenes from 1 on")
    if selection.area is None and selection.area_layer is not None:
        raise InputError(f"area_layer is {selection.area_layer!r}, but there is no area; give one")
    area = () if selection.area is None else _read_area(selection.area, selection.area_layer)
    return Wanted(selection, area, None if selection.bbox is None else _read_box(selection.bbox))


def select(
    candidates: Sequence[Candidate], wanted: Wanted
) -> tuple[list[Candidate], dict[str, int], list[str]]:
    """Leave out what is not meant.

    Args:
        candidates: Scenes, sorted by id.
        wanted: The selection.

    Returns:
        The scenes that are left; how many were left out and why, each counted for its first
        reason; and a line about what was kept because it is unknown.
    """
    chosen = wanted.selection
    left_out: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    kept = list(candidates)

    def keep(reason: str, fact: str, tell: Callable[[Candidate], bool | None]) -> None:
        """Keep scenes of which a fact is right, or unknown."""
        verdicts = [tell(candidate) for candidate in kept]
        left_out[reason] += verdicts.count(False)
        if fact:
            unknown[fact] += verdicts.count(None)
        kept[:] = [c for c, right in zip(kept, verdicts, strict=True) if right is not False]

    if chosen.collections:
        keep(OTHER_COLLECTIONS, "collection", lambda c: _is_among(c.collection, chosen.collections))
    if wanted.area or wanted.box is not None:
        verdicts = iter(_places(kept, wanted))
        keep(OUTSIDE, "footprint", lambda _: next(verdicts))
    if chosen.dates is not None:
        begin, end = interval(chosen.dates)
        keep(OTHER_DATES, "date", lambda c: _is_between(c, begin, end))
    if chosen.max_cloud is not None:
        most = chosen.max_cloud / 100
        keep(TOO_CLOUDY, "cloud cover", lambda c: _is_at_most(c.scene.cloud_share, most))
    if chosen.sensors:
        asked = {_plain(name) for name in chosen.sensors}
        keep(OTHER_SENSORS, "sensor", lambda c: _meet(c.sensors, asked))
    if chosen.limit is not None:
        left_out[BEYOND] = max(0, len(kept) - chosen.limit)
        kept = kept[: chosen.limit]
    facts = ", ".join(f"{fact} of {count}" for fact, count in unknown.items() if count)
    notes = [f"scenes of which something is unknown are kept: {facts}"] if facts else []
    return kept, {reason: count for reason, count in left_out.items() if count}, notes


def sensors_of(candidates: Sequence[Candidate]) -> list[str]:
    """Return the names of sensors that scenes have, for messages."""
    return sorted({name for candidate in candidates for name in candidate.sensors})


def _is_among(name: str | None, names: Sequence[str]) -> bool | None:
    return None if name is None else name in names


def _is_at_most(share: float | None, most: float) -> bool | None:
    return None if share is None else share <= most + 1e-9


def _meet(names: Sequence[str], asked: set[str]) -> bool | None:
    return not asked.isdisjoint(map(_plain, names)) if names else None


def _plain(name: str) -> str:
    """Return a sensor's name without case, "-", "_" and spaces."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def _is_between(candidate: Candidate, first: datetime | None, last: datetime | None) -> bool | None:
    """Tell whether a scene was acquired in an interval, at least in part."""
    if candidate.scene.acquired is None:
        return None
    begin, end = span(candidate.scene.acquired)
    if candidate.until is not None:
        end = max(end, span(candidate.until)[1])
    return (last is None or begin <= last) and (first is None or end >= first)


def _places(candidates: Sequence[Candidate], wanted: Wanted) -> list[bool | None]:
    """Tell for each scene whether its footprint meets area and box; None if it is unknown."""
    found = [c.scene.geometry and from_geojson(c.scene.geometry) for c in candidates]
    known = np.array([geometry is not None for geometry in found], bool)
    footprints = np.array([geometry for geometry in found if geometry is not None], object)
    meets = np.ones(len(footprints), bool)
    if wanted.area and len(footprints):
        tree = shapely.STRtree(wanted.area)
        meets[:] = False
        meets[tree.query(footprints, predicate="intersects")[0]] = True
    if wanted.box is not None and len(footprints):
        shapely.prepare(wanted.box)
        meets &= shapely.intersects(wanted.box, footprints)
    verdicts: list[bool | None] = [None] * len(found)
    for place, right in zip(np.flatnonzero(known), meets, strict=True):
        verdicts[place] = bool(right)
    return verdicts


def _read_box(bbox: Sequence[float]) -> BaseGeometry:
    if (
        len(bbox) != 4
        or not np.isfinite(bbox).all()
        or not -90 <= bbox[1] <= bbox[3] <= 90
        or not all(-180 <= edge <= 180 for edge in (bbox[0], bbox[2]))
    ):
        raise InputError(
            f"bbox is {', '.join(map(str, bbox))}; give west, south, east, north in degrees, south "
            "not above north"
        )
    return box(*bbox)


def _read_area(path: Path, layer: str | None) -> tuple[BaseGeometry, ...]:
    """Read the features of a vector file in WGS 84."""
    name = str(path)
    if not path.exists():
        raise InputError(f"{name}: there is no such area file")
    layers = {key: kind for key, kind in vector_layers(name).items() if kind is not None}
    listed = ", ".join(layers)
    if not layers:
        raise InputError(f"{name} cannot be used as an area; give a vector file with polygons")
    if layer is not None and layer not in layers:
        raise InputError(f"{name}: there is no layer {layer!r}; its layers are {listed}")
    if layer is None and len(layers) > 1:
        raise InputError(f"{name} has several layers ({listed}); name one with area_layer")
    try:
        frame = pyogrio.read_dataframe(name, layer=layer or next(iter(layers)), columns=[])
    except (ValueError, pyogrio.errors.DataSourceError, pyogrio.errors.FeatureError) as error:
        raise InputError(f"{name} cannot be read as an area ({error})") from error
    if frame.crs is None:
        raise InputError(f"{name}: the area has no CRS; assign one (for a shapefile, add the .prj)")
    features = [shape for shape in frame.geometry if shape is not None and not shape.is_empty]
    if not features:
        raise InputError(f"{name}: the area is empty, no feature has a geometry")
    parts = shapely.get_parts(features)
    if other := {part.geom_type for part in parts} - set(_GEOMETRIES):
        raise InputError(f"{name}: the area has {', '.join(sorted(other))}; give polygons")
    try:
        found = [to_degrees(part, frame.crs) for part in parts]
    except (ProjError, shapely.errors.ShapelyError) as error:
        raise InputError(f"{name}: the area cannot be brought to degrees ({error})") from error
    if any(part is None for part in found):
        raise InputError(f"{name}: the area reaches to where {frame.crs.name} has no degrees")
    return tuple(shapely.make_valid(part) for part in found if part is not None)
