"""Scenes in a folder on disk, or those that a pattern names."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hsi_pipeline.archive.candidates import Candidate
from hsi_pipeline.archive.ledger import ARCHIVE
from hsi_pipeline.archive.products import is_no_scene, is_product, scene_name, scenes_among
from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.archive.stamps import local_stamp
from hsi_pipeline.archive.target import CATALOG
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import one_line
from hsi_pipeline.scene.places import archive_kind, place_of

_STORE_MARKS = (".zgroup", ".zarray", "zarr.json")
_HEAD_BYTES = 4096
_NOT_ENTERED = ("__MACOSX",)
# Archives of these names are products, which need not be opened to know it.
_PRODUCTS = re.compile(r"(ENMAP|DESIS|PRS_L|EMIT_L|NEON_)", re.IGNORECASE)
_MOST_SHOWN = 3


@dataclass
class Walk:
    """Looks through folders, and remembers what it could not use."""

    arrays: bool
    """Whether `.mat` and `.npy` files count."""
    no_scenes: list[str] = field(default_factory=list)
    """Archives without a scene."""
    closed: list[str] = field(default_factory=list)
    """Folders that may not be listed."""
    results: dict[str, bool] = field(default_factory=dict)
    """Whether folders are land-cover archives."""
    seen: set[str] = field(default_factory=set)
    """Real paths of folders, since links may lead back."""

    def scenes_in(self, folder: str, *, is_root: bool = True) -> Iterator[Candidate]:
        """Give the scenes of a folder and those below it, in order."""
        real = os.path.realpath(folder)
        if real in self.seen:
            return
        self.seen.add(real)
        try:
            with os.scandir(folder) as entries:
                found = sorted((entry.name, _is_folder(entry)) for entry in entries)
        except OSError:
            self.closed.append(folder)
            return
        if _is_store(folder):
            yield _scene(folder, (os.path.basename(real),))
            return
        if self.is_result(folder):
            return
        inside = [name for name, is_folder in found if is_folder and _is_entered(name)]
        stores = [name for name in inside if name.lower().endswith(".zarr")]
        below = [name for name in inside if name not in stores]
        names = [name for name, is_folder in found if not is_folder]
        scenes = scenes_among([*names, *stores], arrays=self.arrays)
        if not is_root and (product := _product_of(scenes, folder, below)):
            yield _product_scene(folder, product)
            return
        for main, members in scenes.items():
            if self.is_scene(os.path.join(folder, main)):
                yield _scene(os.path.join(folder, main), members)
        for name in below:
            yield from self.scenes_in(os.path.join(folder, name), is_root=False)

    def is_scene(self, path: str) -> bool:
        """Tell whether a file is a scene; archives are looked into if their names say nothing."""
        if not archive_kind(path) or _PRODUCTS.match(os.path.basename(path)):
            return True
        try:
            names = place_of(path)[0].names or ()
        except InputError:
            return True  # damaged, which its user shall hear of
        if any(scenes_among(group) for group in _by_folder(names).values()):
            return True
        self.no_scenes.append(path)
        return False

    def is_result(self, folder: str) -> bool:
        """Tell whether a folder is a land-cover archive, whose maps are no scenes."""
        if folder not in self.results:
            try:
                with open(os.path.join(folder, CATALOG), "rb") as file:
                    self.results[folder] = f'"{ARCHIVE}"'.encode() in file.read(_HEAD_BYTES)
            except OSError:
                self.results[folder] = False
        return self.results[folder]

    def matching(self, pattern: str) -> Iterator[Candidate]:
        """Give the scenes that a pattern names; of folders those in them."""
        folders: dict[str, dict[str, Candidate]] = {}
        done: set[str] = set()
        for path in sorted(glob.iglob(pattern, recursive=True)):
            if not set(_NOT_ENTERED).isdisjoint(path.split(os.sep)):
                continue
            # archive, month, scene
            if any(self.is_result(str(above)) for above in [*Path(path).parents][:3]):
                continue
            path = _store_around(path) or path.rstrip(os.sep)
            found: Iterable[Candidate]
            if os.path.isdir(path) and not _is_store(path):
                found = self.scenes_in(path, is_root=False)
            else:
                folder, name = os.path.split(path)
                if folder not in folders:
                    folders[folder] = self._beside(folder)
                belongs = folders[folder].get(name)
                found = [belongs] if belongs else [] if is_no_scene(name) else [_scene(path, ())]
            for candidate in found:
                key = candidate.scene.path or candidate.scene.fault
                if key not in done:
                    done.add(key)
                    yield candidate

    def _beside(self, folder: str) -> dict[str, Candidate]:
        """Return the scene of each file of a folder that is one or belongs to one."""
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            self.closed.append(folder)
            return {}
        below = [name for name in names if os.path.isdir(os.path.join(folder, name))]
        stores = {name for name in below if name.lower().endswith(".zarr")}
        files = set(names).difference(below) | stores
        scenes = scenes_among(files, arrays=self.arrays)
        product = _product_of(scenes, folder, [name for name in below if name not in stores])
        found: dict[str, Candidate] = {}
        for main, members in scenes.items():
            whole = product and _product_scene(folder, product)
            scene = whole or _scene(os.path.join(folder, main), members)
            found |= dict.fromkeys(members, scene)
        return found

    @property
    def notes(self) -> list[str]:
        """Lines about what could not be used."""
        lines = []
        if self.no_scenes:
            lines.append(f"archives without a scene inside, left out: {_few(self.no_scenes)}")
        if self.closed:
            lines.append(f"folders that may not be read: {_few(self.closed)}; check permissions")
        return lines


def _few(paths: list[str]) -> str:
    more = ", ..." if len(paths) > _MOST_SHOWN else ""
    return f"{len(paths)} ({', '.join(paths[:_MOST_SHOWN])}{more})"


def _is_entered(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_ENTERED and not name.endswith(".SAFE")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that go round in a circle
        return False


def _is_store(folder: str) -> bool:
    marks = (os.path.join(folder, name) for name in _STORE_MARKS)
    return folder.lower().endswith(".zarr") or any(map(os.path.exists, marks))


def _store_around(path: str) -> str | None:
    """Return the outermost Zarr store that a path leads into, or is."""
    parts = path.split(os.sep)
    ends = (i for i, part in enumerate(parts, 1) if part.lower().endswith(".zarr"))
    first = next(ends, None)
    return None if first is None else os.sep.join(parts[:first])


def _product_of(
    scenes: dict[str, tuple[str, ...]], folder: str, below: list[str]
) -> tuple[str, ...] | None:
    """Return the files of the product whose folder this is, None if it is not one's folder."""
    if len(scenes) != 1:
        return None
    main, members = next(iter(scenes.items()))
    own = (
        not below
        or scene_name(main, "").lower() in os.path.basename(os.path.abspath(folder)).lower()
    )
    return members if is_product(main) and own else None


def _by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        folder, _, base = name.rpartition("/")
        if "__MACOSX" not in folder:
            groups.setdefault(folder, []).append(base)
    return groups


def _product_scene(folder: str, members: tuple[str, ...]) -> Candidate:
    name = scene_name(members[0], os.path.basename(os.path.abspath(folder)))
    return _stamped(name, folder, ())


def _scene(path: str, members: tuple[str, ...]) -> Candidate:
    folder, main = os.path.split(os.path.abspath(path))
    return _stamped(scene_name(main, os.path.basename(folder)), path, members)


def _stamped(name: str, path: str, members: tuple[str, ...]) -> Candidate:
    """Return a scene with its stamp; a link to nowhere is one that cannot be used."""
    try:
        stamp, size = local_stamp(path, members)
    except OSError as error:
        fault = f"{path} cannot be read ({one_line(error)})"
        return Candidate(scene=ArchiveScene(id=name, path="", stamp="", fault=fault))
    return Candidate(scene=ArchiveScene(id=name, path=path, stamp=stamp, size_bytes=size))
