"""A scene that was found, with what only its selection needs; and one id for each."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.scene.files import shown

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)  # devices of Windows
_LONGEST_ID = 150  # file names may have 255 bytes, and outputs add their endings
_HEX_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A scene before the selection."""

    scene: ArchiveScene
    until: str | None = None
    """End of its acquisition where `scene.acquired` is the begin; ISO 8601."""
    sensors: tuple[str, ...] = ()
    """Constellation, platform and instruments, or what the reader says."""
    collection: str | None = None
    """Of its item."""


def printable(text: str) -> str:
    """Return what others wrote in one line, without what a terminal would obey."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def safe_id(text: str) -> str:
    """Return an id that can name files: letters, digits, "-" and "_", at most 150 of them."""
    safe = _UNSAFE.sub("_", text) or "scene"
    if _RESERVED.fullmatch(safe):
        safe += "_"
    if len(safe) > _LONGEST_ID:
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        safe = f"{safe[: _LONGEST_ID - 9]}-{digest[:8]}"
    return safe


def unique(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[str]]:
    """Give each scene an id of its own.

    Args:
        candidates: Scenes whose ids are as their catalog or file name has them.

    Returns:
        The scenes sorted by id, which now can name files; and lines about scenes that were listed
        twice or share an id. Ids that differ in case only count as one: they would name one file on
        some disks.
    """
    groups: defaultdict[str, dict[tuple[str, str], Candidate]] = defaultdict(dict)
    repeated = 0
    for candidate in candidates:
        scene = candidate.scene
        group = groups[safe_id(scene.id).lower()]
        key = (scene.path, "" if scene.path else f"{scene.item} {scene.fault}")
        repeated += key in group
        group.setdefault(key, candidate)
    named = []
    for group in groups.values():
        for key in sorted(group):
            scene = group[key].scene
            name = safe_id(scene.id)
            if len(group) > 1:
                name = _with_hash(name, "".join(key), groups)
            named.append(replace(group[key], scene=replace(scene, id=name)))
    notes = [f"scenes listed more than once, each done once: {repeated}"] if repeated else []
    if shared := [sorted(group) for group in groups.values() if len(group) > 1]:
        some = "; ".join(" and ".join(shown(path) for path, _ in keys[:2]) for keys in shared[:2])
        more = "; ..." if len(shared) > 2 else ""
        notes.append(
            f"ids that several scenes share: {len(shared)} ({some}{more}); each gets a suffix"
        )
    return sorted(named, key=lambda candidate: candidate.scene.id), notes


def ids_of(scene: ArchiveScene) -> tuple[str, ...]:
    """Return the ids that a scene may have had while others of its name came and went."""
    digest = hashlib.sha256(scene.path.encode("utf-8", "replace")).hexdigest()
    bare = scene.id.removesuffix(f"-{digest[:_HEX_DIGITS]}")
    return scene.id, bare, f"{bare}-{digest[:_HEX_DIGITS]}"


def _with_hash(
    name: str, path: str, taken: defaultdict[str, dict[tuple[str, str], Candidate]]
) -> str:
    """Return an id with a suffix that follows from the path, and claim it."""
    digest = hashlib.sha256(path.encode("utf-8", "replace")).hexdigest()
    long = _HEX_DIGITS
    while f"{name}-{digest[:long]}".lower() in taken and long < len(digest):
        long += 1
    return f"{name}-{digest[:long]}"
