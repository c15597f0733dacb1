"""The scenes of an archive, as far as they are known unopened, and which of them are meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ArchiveScene:
    """A scene that is to be worked on, or that cannot be."""

    id: str
    """Unique in its archive; letters, digits, "-" and "_" alone, so that it can name files."""
    path: str
    """Path or address that `scene.open_source` takes; "" where there is a fault."""
    stamp: str
    """Changes when the scene is written again, as far as can be told without reading it."""
    acquired: str | None = None
    """ISO 8601, UTC; None if unknown."""
    cloud_share: float | None = None
    """0 to 1; None if unknown."""
    sensor: str | None = None
    """As the catalog or the reader calls it; None if unknown."""
    geometry: Mapping[str, Any] | None = None
    """Footprint, GeoJSON in WGS 84; None if unknown."""
    shape: tuple[int, int] | None = None
    """Rows and columns; None if unknown."""
    size_bytes: int | None = None
    """Of its files; None if unknown."""
    item: str | None = None
    """Path or address of its STAC item; None if it has none."""
    fault: str = ""
    """Why it cannot be used, such as a missing asset; "" if nothing is known against it."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which scenes of an archive are meant; what is None or empty selects all."""

    area: Path | None = None
    """Vector file; scenes whose footprint meets one of its features are meant."""
    area_layer: str | None = None
    """Layer of it."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; west > east goes over the antimeridian."""
    dates: str | None = None
    """A day, month or year, or an interval such as "2024-05-01/2024-09-30" or "2024-05/.."."""
    max_cloud: float | None = None
    """Percent, as `eo:cloud_cover`; scenes whose cloud share is unknown are kept."""
    sensors: tuple[str, ...] = ()
    """Such as "EnMAP", in any case; compared with sensor, platform, constellation, instruments."""
    collections: tuple[str, ...] = ()
    """Collections of a catalog."""
    query: Mapping[str, Any] = field(default_factory=dict)
    """Of a STAC API: extension `query`."""
    asset: str | None = None
    """Asset of an item that is the scene; None chooses where there is only one that can be."""
    schemes: tuple[str, ...] = ("https", "http", "s3", "gs", "az")
    """Of addresses that a catalog may lead to."""
    roots: tuple[Path, ...] = ()
    """Folders beside that of a local catalog that it may lead to."""
    limit: int | None = None
    """At most so many scenes, the first by id."""
