"""Static STAC: catalogs, collections, items and item collections, on disk or behind an address."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hsi_pipeline.archive.candidates import Candidate
from hsi_pipeline.archive.documents import CONNECTIONS, GuardedIO, read_json
from hsi_pipeline.archive.guards import Guard
from hsi_pipeline.archive.items import faulty, name_of_link, scene_of_item
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import shown

_MOST_LEVELS = 64
_FOLLOWED = ("item", "child")
_CATALOGS = ("Catalog", "Collection")


@dataclass(frozen=True)
class _Document:
    """A document of a catalog that is to be read."""

    place: str
    collection: str | None
    """Of the nearest collection above it."""


def static_scenes(
    root: str,
    document: Mapping[str, Any],
    guard: Guard,
    *,
    asset: str | None,
    io: GuardedIO,
    progress: Callable[[int, int], None] | None = None,
) -> list[Candidate]:
    """Follow a catalog to its items, level by level.

    Args:
        root: Path or address of the catalog.
        document: JSON of it.
        guard: Where it may lead.
        asset: Key of the asset that is the scene; None chooses.
        io: Reads the web.
        progress: Called with the number of documents read and of those known.

    Returns:
        The scenes. What cannot be read is one with a fault.

    Raises:
        InputError: It is no STAC, or a link of it leads to where it may not.
    """
    if document.get("type") not in (*_CATALOGS, "Feature", "FeatureCollection"):
        raise InputError(
            f"{shown(root)} is no STAC catalog, collection, item or item collection: its type is "
            f"{document.get('type')!r}"
        )
    _check_whole(root, document)
    seen, found = {root}, list[Candidate]()
    level: list[_Document] = []
    for number in range(_MOST_LEVELS):
        done = len(seen) - len(level)
        read = [(_Document(root, None), document)] if not number else _read(level, io)
        next_level: list[_Document] = []
        for count, (known, content) in enumerate(read, 1):
            if isinstance(content, InputError):
                found.append(_missing(known.place, content))
            elif _type(content) in _CATALOGS:
                next_level += _links(content, known, guard, seen)
            else:
                found += _items(content, known, guard, asset)
            if progress is not None and number:
                progress(done + count, len(seen))
        level = next_level
        if not level:
            return found
    raise InputError(
        f"{shown(root)}: its catalogs go on below level {_MOST_LEVELS}; give one of them"
    )


def _check_whole(root: str, document: Mapping[str, Any]) -> None:
    """Check that a document is not a part of an API, which leads to more by ways of its own."""
    links = document.get("links")
    by_rel = {
        str(link.get("rel")): link
        for link in (links if isinstance(links, list) else ())
        if isinstance(link, Mapping)
    }
    kind = document.get("type")
    is_page = kind == "FeatureCollection" and "next" in by_rel
    is_part = kind == "Collection" and "items" in by_rel and not {"item", "child"} & set(by_rel)
    if is_page or is_part:
        api = by_rel.get("root", {}).get("href") or "its root"
        raise InputError(
            f"{shown(root)} is a part of a STAC API; give the API ({shown(str(api))}) and choose "
            "with `collections`"
        )


def _type(content: object) -> object:
    return content.get("type") if isinstance(content, Mapping) else None


def _read(level: list[_Document], io: GuardedIO) -> Iterable[tuple[_Document, Any]]:
    """Read documents, those behind addresses a few at a time."""

    def content(known: _Document) -> Any:
        try:
            return read_json(known.place, io)
        except InputError as error:
            return error

    if not any("://" in known.place for known in level):
        yield from ((known, content(known)) for known in level)
        return
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        yield from zip(level, pool.map(content, level), strict=True)


def _links(
    content: Mapping[str, Any], known: _Document, guard: Guard, seen: set[str]
) -> Iterator[_Document]:
    """Give what a catalog leads to and was not yet seen."""
    collection = known.collection
    if content.get("type") == "Collection" and isinstance(content.get("id"), str):
        collection = content["id"]
    links = content.get("links")
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, Mapping) or link.get("rel") not in _FOLLOWED:
            continue
        try:
            place = guard.follow(link.get("href"), known.place)
        except InputError as error:
            raise InputError(
                f"{shown(known.place)}: its link {link['rel']!r} leads to {error}"
            ) from None
        if place not in seen:
            seen.add(place)
            yield _Document(place, collection)


def _items(content: Any, known: _Document, guard: Guard, asset: str | None) -> Iterator[Candidate]:
    """Give the scenes of an item or of an item collection."""
    if _type(content) != "FeatureCollection":
        yield scene_of_item(content, known.place, guard, asset=asset, collection=known.collection)
        return
    features = content.get("features")
    for number, item in zip(itertools.count(), features if isinstance(features, list) else ()):
        candidate = scene_of_item(
            item, known.place, guard, asset=asset, collection=known.collection, is_own_file=False
        )
        if not candidate.scene.item and not candidate.scene.path and not isinstance(item, Mapping):
            candidate = faulty(f"{candidate.scene.id}_{number}", candidate.scene.fault, None)
        yield candidate


def _missing(place: str, error: InputError) -> Candidate:
    return faulty(name_of_link(place), str(error), place)
