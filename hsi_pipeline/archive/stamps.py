"""When was a scene on disk last written, and how large is it, without reading it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from hsi_pipeline.archive.products import scenes_among
from hsi_pipeline.scene.files import file_stamp


def local_stamp(path: str, members: Iterable[str] = ()) -> tuple[str, int | None]:
    """Return stamp and size of a scene on disk.

    Args:
        path: Its file, or the folder of a product or Zarr store.
        members: Names of the files beside it that belong to it, itself included.

    Returns:
        A text that changes when one of its files is written again; and bytes, None for a Zarr
        store, which may have millions of files.

    Raises:
        OSError: It is not there.
    """
    stamp = file_stamp(path)
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            sizes = [entry.stat().st_size for entry in entries if entry.is_file()]
        if path.lower().endswith(".zarr"):
            return f"{stamp}:{_newest_folder(path)}", None
        return stamp, sum(sizes)
    folder, main = os.path.split(os.path.abspath(path))
    total = os.path.getsize(path)
    for name in sorted(set(members) - {main}):
        try:
            status = os.stat(os.path.join(folder, name))
        except OSError:  # a link to nowhere
            continue
        stamp += f":{name}:{status.st_mtime_ns}:{status.st_size}"
        total += status.st_size
    return stamp, total


def _newest_folder(store: str) -> int:
    """Return when the folders of a store were last changed, in nanoseconds.

    Zarr writes a chunk under another name and renames it, which changes the time of its folder;
    there are many times fewer of these than of chunks.
    """
    return max(os.stat(folder).st_mtime_ns for folder, _, _ in os.walk(store))


def members_beside(path: str) -> tuple[str, ...]:
    """Return the names of the files that belong to a scene on disk, itself included."""
    folder, main = os.path.split(os.path.abspath(path))
    try:
        names = os.listdir(folder)
    except OSError:
        return (main,)
    found = scenes_among(names)
    return next((members for members in found.values() if main in members), (main,))
