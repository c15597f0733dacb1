"""What is done in an archive, what failed, and what is left.

A scene is done if its item is there, can be read, and has the fingerprint of scene, model and
settings. Nothing here looks at a clock: times are noted and never compared.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.archive.target import Target

ARCHIVE = "hsi_pipeline:archive"
"""Field of an archive's root catalog: what all its maps have in common."""
FINGERPRINT = "hsi_pipeline:fingerprint"
"""Property of an item: what its products depend on."""
SECONDS = "hsi_pipeline:seconds"
"""Property of an item: how long its scene took on one worker."""
PIXELS = "hsi_pipeline:pixels"
"""Property of an item: size of its map."""


@dataclass(frozen=True)
class Failure:
    """What is known of a scene that failed."""

    id: str
    scene: str
    """Path or address."""
    kind: str
    """"data": the scene's own fault, not tried again; "passing": tried again by the next run."""
    error: str
    """Class of the error."""
    message: str
    attempts: int
    """In the run that noted it."""
    fingerprint: str
    time: str
    """ISO 8601, UTC."""

    def write(self, target: Target) -> None:
        """Note it in the archive."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        target.write(failure_name(self.id), text.encode())


@dataclass(frozen=True)
class Done:
    """A finished scene, as its item tells."""

    id: str
    folder: str
    """Of item and products, in the archive."""
    fingerprint: str
    """What its products depend on."""
    title: str = ""
    seconds: float = 0.0
    """How long it took on one worker; 0 if unknown."""
    pixels: int = 0
    """Of its map."""

    @property
    def item(self) -> str:
        """Its item, in the archive."""
        return f"{self.folder}/{self.id}.json"


@dataclass(frozen=True)
class Plan:
    """What a run has to do."""

    todo: tuple[ArchiveScene, ...] = ()
    """In the order of their ids."""
    finished: tuple[str, ...] = ()
    quarantined: tuple[Failure, ...] = ()
    """Failed by their own fault in an earlier run, and unchanged since."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)


def fingerprint_of(scene: ArchiveScene, model_sha256: str, settings: Mapping[str, Any]) -> str:
    """Return a text that changes with what the products of a scene depend on.

    The folder of the scene is not part of it: archives are moved and mounted elsewhere.
    """
    stamp = scene.stamp.removeprefix(os.path.abspath(scene.path))
    parts: dict[str, Any] = {
        "id": scene.id,
        "stamp": stamp,
        "model": model_sha256,
        "settings": settings,
    }
    if scene.item is not None:  # what only a catalog knows
        parts["acquired"] = scene.acquired
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_done(target: Target) -> dict[str, Done]:
    """Read the items of all finished scenes, by id.

    An item that cannot be read, or whose products are gone from the disk, is none.

    Raises:
        InputError: The archive cannot be listed.
    """
    places = {
        f"{month}/{name}/{name}.json": (name, f"{month}/{name}")
        for month in months(target)
        for name in target.folders(month)
    }
    found: dict[str, Done] = {}
    for path, content in target.read_all(places):
        name, folder = places[path]
        item = _item(content)
        if item is not None and item["id"] == name and _has_products(target, folder, item):
            found[name] = done_of(item, folder)
    return found


def finished(target: Target, scene_id: str, fingerprint: str) -> Done | None:
    """Return a scene that is done, None if it is not; asked of a disk only, where it is cheap."""
    if not target.is_local:
        return None
    for month in months(target):
        folder = f"{month}/{scene_id}"
        item = _item(target.read(f"{folder}/{scene_id}.json"))
        if item is None or item["properties"].get(FINGERPRINT) != fingerprint:
            continue
        return done_of(item, folder) if _has_products(target, folder, item) else None
    return None


def done_of(item: Mapping[str, Any], folder: str) -> Done:
    """Return what a run keeps in mind of an item."""
    facts = item["properties"]
    seconds, pixels = (facts.get(key) for key in (SECONDS, PIXELS))
    return Done(
        id=item["id"],
        folder=folder,
        fingerprint=str(facts.get(FINGERPRINT, "")),
        title=str(facts.get("title", item["id"])),
        seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        pixels=pixels if isinstance(pixels, int) else 0,
    )


def months(target: Target) -> list[str]:
    """Return the folders of an archive that hold scenes: "2024-06", "undated"."""
    return [
        name
        for name in target.folders()
        if name == "undated" or (len(name) == 7 and name[:4].isdigit() and name[4] == "-")
    ]


def read_failures(target: Target) -> dict[str, Failure]:
    """Read the failures of earlier runs, by id; one that cannot be read is forgotten."""
    names = [f"failures/{name}" for name in target.files("failures") if name.endswith(".json")]
    found: dict[str, Failure] = {}
    for _, content in target.read_all(names):
        try:
            failure = Failure(**json.loads(content or b""))
        except (ValueError, TypeError, RecursionError):
            continue
        if isinstance(failure.id, str):
            found[failure.id] = failure
    return found


def failure_print(fingerprint: str, settings: Mapping[str, Any]) -> str:
    """Return a text that changes with all that may make a scene fail, device and memory too."""
    parts = [fingerprint, *(settings.get(key) for key in ("device", "classify", "whole_pixels"))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def failure_name(scene_id: str) -> str:
    """Return the file of a scene's failure."""
    return f"failures/{scene_id}.json"


def plan(
    scenes: Iterable[ArchiveScene],
    fingerprints: Mapping[str, str],
    done: Mapping[str, Done],
    failures: Mapping[str, Failure],
    *,
    settings: Mapping[str, Any],
    force: bool = False,
    retry_failed: bool = False,
) -> Plan:
    """Sort scenes into those to do, those done, and those whose own fault is known.

    Args:
        scenes: All that are meant.
        fingerprints: Of each, by id.
        done: As `read_done`.
        failures: As `read_failures`.
        settings: Of the run, as `failure_print` wants them.
        force: Do all of them.
        retry_failed: Do those too that failed by their own fault.
    """
    todo, finished, quarantined = [], [], []
    for scene in scenes:
        wanted = fingerprints[scene.id]
        failure = failures.get(scene.id)
        if not force and scene.id in done and done[scene.id].fingerprint == wanted:
            finished.append(scene.id)
        elif (
            failure is not None
            and failure.kind == "data"
            and failure.fingerprint == failure_print(wanted, settings)
            and not (force or retry_failed)
        ):
            quarantined.append(failure)
        else:
            todo.append(scene)
    return Plan(tuple(todo), tuple(finished), tuple(quarantined), dict(fingerprints))


def _item(content: bytes | None) -> dict[str, Any] | None:
    """Return an item that can be read, or None."""
    try:
        item = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    wanted = {"id": str, "properties": dict, "assets": dict, "links": list}
    if not isinstance(item, dict) or not all(isinstance(item.get(k), t) for k, t in wanted.items()):
        return None
    fits = "geometry" in item and all(isinstance(a, dict) for a in item["assets"].values())
    return item if fits else None


def _has_products(target: Target, folder: str, item: Mapping[str, Any]) -> bool:
    """Tell whether the products of an item are there; asked of a disk only, where it is cheap."""
    if not target.is_local:
        return True
    base = target.path(folder)
    for asset in item["assets"].values():
        name, size = str(asset.get("href", "")), asset.get("file:size")
        if not name.startswith("./"):
            continue
        path = f"{base}/{name}"
        # not of what other programs write to, as QGIS does to a GeoPackage when it only looks
        sized = name.endswith(".tif") and isinstance(size, int)
        if not os.path.exists(path) or (sized and os.path.getsize(path) != size):
            return False
    return True
