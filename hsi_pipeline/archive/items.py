"""STAC items -> scenes. Items are read as plain dictionaries, since archives have thousands."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Mapping
from typing import Any

from hsi_pipeline.archive.assets import choose_asset
from hsi_pipeline.archive.candidates import Candidate, printable
from hsi_pipeline.archive.dates import in_utc
from hsi_pipeline.archive.guards import Guard
from hsi_pipeline.archive.products import is_product
from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.archive.stamps import local_stamp, members_beside
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import shown


def scene_of_item(
    item: object,
    place: str,
    guard: Guard,
    *,
    asset: str | None,
    collection: str | None = None,
    is_own_file: bool = True,
) -> Candidate:
    """Return the scene of an item, with a fault where it cannot be used.

    Args:
        item: JSON of the item.
        place: Path or address of the document that it was read from.
        guard: Where its assets may lead.
        asset: Key of the asset that is the scene; None chooses.
        collection: That of the catalog around it, where the item names none.
        is_own_file: Whether the document is the item, and not a list of many.
    """
    try:
        return _scene_of_item(
            item, place, guard, asset=asset, collection=collection, is_own_file=is_own_file
        )
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # hostile numbers, text
        return faulty(name_of_link(place), f"{shown(place)} is no STAC item ({error})", place)


def _scene_of_item(
    item: object,
    place: str,
    guard: Guard,
    *,
    asset: str | None,
    collection: str | None = None,
    is_own_file: bool = True,
) -> Candidate:
    if not isinstance(item, Mapping) or item.get("type") != "Feature":
        return faulty(name_of_link(place), f"{shown(place)} is no STAC item", place)
    if not isinstance(item.get("id"), str | int) or not isinstance(item.get("assets"), Mapping):
        name = str(item.get("id") or name_of_link(place))
        return faulty(name, f"{shown(place)} is no STAC item: it has no id or no assets", place)
    own = place if is_own_file else _own_place(item, guard, place)
    place = own or place
    name = str(item["id"])
    properties = item.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    path, stamp, size, fault = "", "", None, ""
    chosen: Mapping[str, Any] = {}
    try:
        key, chosen = choose_asset(item, asset)
        path = _followed(name, key, chosen, guard, place)
        stamp, size = _stamp(path, chosen, properties)
    except InputError as error:
        path, fault = "", printable(str(error))
    begin = in_utc(properties.get("datetime")) or in_utc(properties.get("start_datetime"))
    sensors = _sensors(properties)
    named = item.get("collection")
    scene = ArchiveScene(
        id=name,
        path=path,
        stamp=stamp,
        acquired=begin,
        cloud_share=_share(properties.get("eo:cloud_cover")),
        sensor=sensors[0] if sensors else None,
        geometry=_geometry(item),
        shape=_shape(chosen.get("proj:shape", properties.get("proj:shape"))),
        size_bytes=size,
        item=own,
        fault=fault,
    )
    return Candidate(
        scene=scene,
        until=None
        if in_utc(properties.get("datetime"))
        else in_utc(properties.get("end_datetime")),
        sensors=sensors,
        collection=named if isinstance(named, str) else collection,
    )


def faulty(name: str, fault: str, item: str | None) -> Candidate:
    """Return a scene of which nothing is known but why it cannot be used."""
    scene = ArchiveScene(id=name, path="", stamp="", item=item, fault=printable(fault))
    return Candidate(scene=scene)


def name_of_link(place: str) -> str:
    """Return the name of the item or catalog behind a link, which may not be there."""
    end = place.partition("?")[0] if "://" in place else place
    folder, base = posixpath.split(end.replace(os.sep, "/"))
    stem = posixpath.splitext(base)[0]
    return posixpath.basename(folder) if stem in ("catalog", "collection", "item") else stem


def _own_place(item: Mapping[str, Any], guard: Guard, place: str) -> str | None:
    """Return where an item of a list lies by its link `self`, None if it has none."""
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, Mapping) and link.get("rel") == "self":
            try:
                return guard.follow(link.get("href"), place)
            except InputError:
                break
    return None


def _followed(name: str, key: str, asset: Mapping[str, Any], guard: Guard, place: str) -> str:
    try:
        path = guard.follow(asset.get("href"), place)
    except InputError as error:
        raise InputError(f"asset {key} of item {name} leads to {error}") from None
    if shown(path).lower().endswith(".vrt"):
        raise InputError(
            f"asset {key} of item {name} is a VRT, which may lead to any file of this machine; it "
            "is refused"
        )
    return path


def _stamp(
    path: str, asset: Mapping[str, Any], properties: Mapping[str, Any]
) -> tuple[str, int | None]:
    """Return stamp and size; behind an address they are what the item says."""
    if "://" not in path:
        name = os.path.basename(path)
        is_group = is_product(name) or "spectral_image" in name.lower()
        try:
            return local_stamp(path, members_beside(path) if is_group else ())
        except OSError:
            raise InputError(f"{path}: no such file") from None
    size = asset.get("file:size", properties.get("file:size"))
    size = size if isinstance(size, int) and 0 <= size < 2**63 else None
    said = asset.get("file:checksum") or (
        asset.get("updated") or properties.get("updated")
        or asset.get("created") or properties.get("created") or ""
    )  # fmt: skip
    return f"{shown(path)}:{said}:{'' if size is None else size}", size


def _share(percent: object) -> float | None:
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        return None
    return percent / 100 if 0 <= percent <= 100 else None


def _sensors(properties: Mapping[str, Any]) -> tuple[str, ...]:
    instruments = properties.get("instruments")
    named = [
        properties.get("constellation"),
        properties.get("platform"),
        *(instruments if isinstance(instruments, list) else [instruments]),
    ]
    texts = (printable(name) for name in named if isinstance(name, str) and name)
    return tuple(dict.fromkeys(texts))


def _geometry(item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the footprint, or the box where there is none."""
    geometry, bbox = item.get("geometry"), item.get("bbox")
    if isinstance(geometry, Mapping) and isinstance(geometry.get("type"), str):
        return geometry if "coordinates" in geometry or "geometries" in geometry else None
    if not isinstance(bbox, list) or len(bbox) not in (4, 6) or not all(map(_is_number, bbox)):
        return None
    west, south, east, north = (bbox[i] for i in (0, 1, len(bbox) // 2, len(bbox) // 2 + 1))
    east += 360 * (west > east)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _shape(shape: object) -> tuple[int, int] | None:
    if not isinstance(shape, list) or len(shape) != 2:
        return None
    if not all(isinstance(side, int) and 0 < side < 2**31 for side in shape):
        return None
    return shape[0], shape[1]
