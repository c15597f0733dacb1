"""Scenes in an object store, below an address or by a pattern such as `s3://scenes/**/*.zip`."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import fsspec.core
from fsspec.utils import glob_translate

from hsi_pipeline.archive.candidates import Candidate
from hsi_pipeline.archive.documents import unreadable
from hsi_pipeline.archive.products import scene_name, scenes_among
from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.addresses import share_settings
from hsi_pipeline.scene.files import shown

_MAGIC = re.compile(r"[*?[]")
_STORE = re.compile(r"(.*?\.zarr)/", re.IGNORECASE)
_STAMPS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")


def stored_scenes(address: str, *, arrays: bool = False) -> list[Candidate]:
    """List the scenes below an address.

    Args:
        address: Of a folder, or a pattern; of any file system of fsspec's that lists folders.
        arrays: Whether `.mat` and `.npy` files count.

    Returns:
        The scenes; none if there is nothing.

    Raises:
        InputError: It cannot be listed.
    """
    scheme, _, pattern = address.partition("://")
    fixed = pattern
    if magic := _MAGIC.search(pattern):
        fixed = pattern[: pattern.rfind("/", 0, magic.start()) + 1]
    try:
        share_settings()
        files, root = fsspec.core.url_to_fs(f"{scheme}://{fixed}")
        files.invalidate_cache()
        found: dict[str, dict[str, Any]] = files.find(root, detail=True)
    except Exception as error:  # each file system of fsspec raises its own
        if isinstance(error, FileNotFoundError):
            return []
        if isinstance(error, ImportError):
            raise InputError(f"{shown(address)} needs another package ({error})") from error
        raise unreadable(address, error) from error
    named = {name.lstrip("/"): details for name, details in found.items()}
    scenes = _scenes(named, root.strip("/"), arrays=arrays)
    if magic:
        wanted = re.compile(glob_translate(pattern.lstrip("/")))
        scenes = {
            main: members
            for main, members in scenes.items()
            if wanted.match(main) or any(wanted.match(member) for member in members)
        }
    lead = "/" if any(name.startswith("/") for name in found) else ""
    return [
        _candidate(f"{scheme}://{lead}{main}", [named[member] for member in members])
        for main, members in scenes.items()
    ]


def _scenes(
    names: Mapping[str, Mapping[str, Any]], root: str, *, arrays: bool
) -> dict[str, list[str]]:
    """Return for each scene below a folder its files."""
    folders: defaultdict[str, set[str]] = defaultdict(set)
    stores: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        below = name[len(root) :].lstrip("/") if name.startswith(root) else name
        if any(part.startswith(".") or part == "__MACOSX" for part in below.split("/")[:-1]):
            continue
        if store := _STORE.match(name):
            stores[store[1]].append(name)
        elif not name.endswith("/"):
            folder, base = posixpath.split(name)
            folders[folder].add(base)
    scenes = dict(stores)
    for folder, bases in folders.items():
        for main, members in scenes_among(bases, arrays=arrays).items():
            scenes[posixpath.join(folder, main)] = [posixpath.join(folder, m) for m in members]
    return dict(sorted(scenes.items()))


def _candidate(address: str, files: list[dict[str, Any]]) -> Candidate:
    folder, main = posixpath.split(address)
    stamps = [_stamp(details) for details in files]
    sizes = [details.get("size") for details in files]
    known = [int(size) for size in sizes if size is not None]
    scene = ArchiveScene(
        id=scene_name(main, posixpath.basename(folder)),
        path=address,
        stamp=f"{address}:{hashlib.sha256(':'.join(stamps).encode()).hexdigest()}",
        size_bytes=sum(known) if len(known) == len(sizes) else None,
    )
    return Candidate(scene=scene)


def _stamp(details: Mapping[str, Any]) -> str:
    """Return what changes when an object is written again."""
    said = next((details[key] for key in _STAMPS if details.get(key)), "")
    return f"{str(said).strip('"')}:{details.get('size')}"
