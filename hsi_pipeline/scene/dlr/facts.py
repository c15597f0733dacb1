"""What the XML of a product of DLR says about its image, in the words that all sensors share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.dlr.bands import Bands
from hsi_pipeline.scene.dlr.files import Product
from hsi_pipeline.scene.xml import number_of


@dataclass(frozen=True)
class Level:
    """What the pixels of a processing level are."""

    name: str
    """Such as "L2A"."""
    quantity: str
    """"reflectance" or "radiance"."""
    unit: str
    """Of the quantity after gain and offset, "1" if it has none."""
    nodata: float
    """Digital number of invalid pixels by the product's specification."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an XML says about the image of a product."""

    level: Level
    """Processing level."""
    bands: Bands
    """Its bands."""
    good: tuple[bool, ...]
    """False for bands that hold nothing."""
    counts: tuple[float, ...] = ()
    """Numbers of bands, as other places of the XML say."""
    sizes: tuple[tuple[float, float], ...] = ()
    """Sizes (y, x) in pixels."""
    corners: tuple[tuple[float, float], ...] = ()
    """Longitude and latitude of the footprint's corners, in degrees."""
    slack: float = 0.03
    """Share of the image's longer side that corners may lie off."""
    projection: str = ""
    """Such as "UTM_Zone32_North"."""
    pixel_size: float | None = None
    """In the unit of the projection."""
    background: float | None = None
    """Digital number of invalid pixels."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """As `SceneSource.attrs`."""


def optional_number(root: Element, path: str, name: str) -> float | None:
    """Return the number in an element, None where it is missing, empty or "NA".

    Raises:
        InputError: It holds something else.
    """
    text = (root.findtext(path) or "").strip()
    return number_of(root, path, name) if text and text.upper() != "NA" else None


def numbers_at(root: Element, paths: Sequence[str], name: str) -> tuple[float, ...]:
    """Return the numbers that an XML has at some paths; see `optional_number`."""
    found = (optional_number(root, path, name) for path in paths)
    return tuple(value for value in found if value is not None)


def corners_of(root: Element, path: str, name: str) -> tuple[tuple[float, float], ...]:
    """Return longitude and latitude of the points of a polygon."""
    return tuple(
        (number_of(point, "longitude", name), number_of(point, "latitude", name))
        for point in root.findall(f"{path}/boundingPolygon/point")
    )


def level_of(said: str, levels: Sequence[Level], product: Product, sensor: str) -> Level:
    """Return the processing level of a product.

    Raises:
        InputError: It is not supported, or the name of the XML says another.
    """
    level = next((level for level in levels if level.name == said), None)
    if level is None:
        raise InputError(
            f"{product.name} is of {sensor} level {said or 'unknown'}, supported are "
            f"{' and '.join(level.name for level in levels)}; order the product at one of them"
        )
    base = os.path.basename(product.metadata).upper()
    if other := [name for name in ("L1B", "L1C", "L2A") if name != said and f"{name}-" in base]:
        raise InputError(
            f"{product.name} says that it is {said}, its name {other[0]}; it is damaged or "
            "renamed, download it again"
        )
    return level


def level_attrs(level: Level) -> dict[str, Any]:
    """Return the attributes that follow from a processing level."""
    unit = {} if level.unit == "1" else {"unit": level.unit}
    return {"level": level.name, "quantity": level.quantity, **unit}


def common_attrs(
    product: Product, named: str, start: str, cloud_percent: float | None
) -> dict[str, Any]:
    """Return the attributes that follow from a product's name, start time and cloud cover.

    Args:
        product: The product.
        named: Name of its XML as the XML says, for files that were renamed to METADATA.XML.
        start: Time as the XML writes it, in UTC; one that cannot be read is left out.
        cloud_percent: None or negative where the product does not say.
    """
    stem = os.path.basename(product.stem) or named.upper().partition("METADATA.XML")[0]
    attrs: dict[str, Any] = {"scene_id": stem.rstrip("-_.") or "METADATA"}
    try:
        time = datetime.fromisoformat(start.strip())
    except ValueError:
        pass
    else:
        utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        attrs["acquired"] = utc.isoformat().replace("+00:00", "Z")
    if cloud_percent is not None and 0 <= cloud_percent <= 100:
        attrs["cloud_share"] = cloud_percent / 100
    return attrs
