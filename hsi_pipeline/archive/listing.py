"""From a folder, a pattern, a catalog or an API to the scenes that are meant.

Kinds of sources are told apart by what they are: a folder or pattern on disk or in an object
store; the JSON of a static STAC catalog, collection, item or item collection; a GeoParquet file
of items; or a STAC API.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.request import url2pathname

from hsi_pipeline.archive.candidates import Candidate, printable, unique
from hsi_pipeline.archive.folders import Walk
from hsi_pipeline.archive.guards import Guard, local_guard, remote_guard
from hsi_pipeline.archive.opening import open_all
from hsi_pipeline.archive.products import SUFFIXES
from hsi_pipeline.archive.scenes import ArchiveScene, Selection
from hsi_pipeline.archive.selecting import (
    OTHER_SENSORS,
    Wanted,
    read_selection,
    select,
    sensors_of,
)
from hsi_pipeline.archive.stores import stored_scenes
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import is_remote, shown
from hsi_pipeline.scene.places import address_of, archive_kind

_JSON = (".json", ".geojson")
_PARQUET = (".parquet", ".geoparquet")
_MOST_SHOWN = 8

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The scenes of an archive that are meant."""

    scenes: tuple[ArchiveScene, ...]
    """Sorted by id, each id once."""
    left_out: Mapping[str, int]
    """How many scenes were left out, by reason, such as "too cloudy"."""
    notes: tuple[str, ...]
    """Lines to tell the user."""


@dataclass(frozen=True)
class _Found:
    """What a source has, before the selection."""

    candidates: list[Candidate]
    notes: list[str]
    is_catalog: bool
    """Whether facts come from a catalog, so that scenes need not be opened."""


def list_scenes(
    source: str,
    selection: Selection,
    *,
    pixel_coordinates: bool = False,
    progress: Progress | None = None,
) -> Listing:
    """List the scenes of an archive that are meant.

    Args:
        source: Folder, pattern, file or address; see the module.
        selection: Which of them are meant.
        pixel_coordinates: As for `scene.open_source`; `.mat` and `.npy` files count only with it.
        progress: Called with how much is read and how much there is, as far as known.

    Returns:
        The scenes. Those that cannot be used, such as an item without a usable asset, are among
        them, with their fault.

    Raises:
        InputError: The source is missing or none of these, a link of a catalog leads to where it
            may not, the selection makes no sense, or no scene is left.
    """
    wanted = read_selection(selection)
    source = address_of(os.fspath(source))
    if source.startswith("file://"):
        source = url2pathname(source.removeprefix("file://"))
    found = _find(source, wanted, arrays=pixel_coordinates, progress=progress)
    if not found.is_catalog:
        _refuse_catalog_options(source, selection)
    if not found.candidates:
        is_part = wanted.asks_facts or selection.collections or selection.query
        asked = " for what was asked" if found.is_catalog and is_part else ""
        said = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise InputError(f"{shown(source)} holds no scenes{asked}{said}")
    candidates, notes = unique(found.candidates)
    if not found.is_catalog and wanted.asks_facts:
        candidates, failed = open_all(
            candidates, pixel_coordinates=pixel_coordinates, progress=progress
        )
        if failed:
            notes.append(f"scenes that cannot be opened, of which nothing is known: {failed}")
    kept, left_out, unknown = select(candidates, wanted)
    if not kept:
        raise _nothing_left(source, candidates, left_out)
    if faults := sum(bool(candidate.scene.fault) for candidate in kept):
        first = next(candidate.scene for candidate in kept if candidate.scene.fault)
        notes.append(f"scenes that cannot be used: {faults}, such as {first.id}: {first.fault}")
    return Listing(
        scenes=tuple(candidate.scene for candidate in kept),
        left_out=left_out,
        notes=(*found.notes, *notes, *unknown),
    )


def _find(source: str, wanted: Wanted, *, arrays: bool, progress: Progress | None) -> _Found:
    """Tell what a source is and list what it has."""
    plain = shown(source).lower()
    if plain.endswith(_PARQUET) and not os.path.isdir(source):
        from hsi_pipeline.archive.stac_parquet import parquet_scenes  # takes 0.5 s

        guard = _guard(source, wanted.selection)
        scenes = parquet_scenes(_on_disk(source), guard, asset=wanted.selection.asset)
        return _Found(scenes, [], is_catalog=True)
    is_web = plain.startswith(("http://", "https://"))
    if is_web and (plain.endswith(SUFFIXES) or archive_kind(plain)):
        raise InputError(
            f"{shown(source)} is a scene, not a catalog; give a STAC catalog or API that lists it"
        )
    if is_web or plain.endswith(_JSON):
        return _stac(source, wanted, progress)
    if is_remote(source):
        return _Found(stored_scenes(source, arrays=arrays), [], is_catalog=False)
    return _on_this_disk(source, arrays=arrays)


def _on_this_disk(source: str, *, arrays: bool) -> _Found:
    walk = Walk(arrays)
    notes: list[str] = []
    if os.path.isdir(source):
        candidates = list(walk.scenes_in(source))
        notes = [
            f"{source} was looked through; to follow its {name}, give that file"
            for name in ("catalog.json", "collection.json")
            if os.path.isfile(os.path.join(source, name))
        ]
    elif os.path.exists(source) or not glob.has_magic(source):
        missing = "there is nothing" if not os.path.exists(source) else "it is a file"
        raise InputError(
            f"{source}: {missing}; give a folder, a pattern such as 'scenes/**/*.zip', a STAC "
            "catalog (.json, .parquet) or the address of a STAC API"
        )
    else:
        candidates = list(walk.matching(source))
    return _Found(candidates, [*notes, *walk.notes], is_catalog=False)


def _stac(source: str, wanted: Wanted, progress: Progress | None) -> _Found:
    """Read a static catalog, or ask an API."""
    from hsi_pipeline.archive.documents import GuardedIO, read_json  # take 0.7 s together
    from hsi_pipeline.archive.stac_api import is_api, search_api
    from hsi_pipeline.archive.stac_files import static_scenes

    guard = _guard(source, wanted.selection)
    is_web = source.startswith(("http://", "https://"))
    with GuardedIO() as io:
        document: Any = {} if is_web and is_api(source, {}) else read_json(_on_disk(source), io)
        if not isinstance(document, dict):
            raise InputError(f"{shown(source)} is no STAC: its JSON is no object")
        if is_web and is_api(source, document):
            answer = search_api(source, wanted, guard, io, progress)
            return _Found(answer.candidates, answer.notes, is_catalog=True)
        if wanted.selection.query:
            raise InputError(
                f"{shown(source)} is no STAC API, and only one understands `query`; leave it out"
            )
        place, asset = _on_disk(source), wanted.selection.asset
        scenes = static_scenes(place, document, guard, asset=asset, io=io, progress=progress)
    return _Found(scenes, [], is_catalog=True)


def _guard(source: str, selection: Selection) -> Guard:
    if is_remote(source):
        return remote_guard(selection.schemes)
    return local_guard(source, selection.roots, selection.schemes)


def _on_disk(source: str) -> str:
    """Return the real path of a file, as links lead to it; an address as it is."""
    return source if is_remote(source) else os.path.realpath(source)


def _refuse_catalog_options(source: str, selection: Selection) -> None:
    for name in ("collections", "query", "asset"):
        if getattr(selection, name):
            raise InputError(f"{shown(source)} is no catalog; leave out `{name}`")


def _nothing_left(
    source: str, candidates: list[Candidate], left_out: Mapping[str, int]
) -> InputError:
    reasons = []
    for reason, count in left_out.items():
        names = sensors_of(candidates) if reason == OTHER_SENSORS else []
        more = ", ..." if len(names) > _MOST_SHOWN else ""
        listed = f" ({printable(', '.join(names[:_MOST_SHOWN]))}{more})" if names else ""
        reasons.append(f"{count} {reason}{listed}")
    return InputError(
        f"{shown(source)}: none of its {len(candidates)} scenes is selected: {', '.join(reasons)}; "
        "ask for more"
    )
