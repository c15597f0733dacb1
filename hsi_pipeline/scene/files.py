"""What every reader asks of a path before it opens it."""

from __future__ import annotations

import os
from pathlib import Path

from hsi_pipeline.errors import InputError


def is_remote(path: str) -> bool:
    """Tell whether a path is an address that only GDAL can follow (`s3://`, `/vsizip/`)."""
    return "://" in path or path.startswith("/vsi")


def check_file(path: str) -> None:
    """Check that a local path is a file; addresses are left to whoever opens them.

    Raises:
        InputError: There is nothing at the path, or a folder.
    """
    if is_remote(path) or os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; give the scene file inside it")
    raise InputError(f"{path}: no such file")


def full_path(path: str) -> str:
    """Return a path that means the same in a process with another working directory."""
    return path if is_remote(path) else os.path.abspath(path)


def file_stamp(path: str) -> str:
    """Return a text that changes when a local file is written again.

    It keeps handles and Dask names of an old file from being taken for those of a new one.
    """
    if is_remote(path):
        return path
    status = Path(path).stat()
    newest, size = status.st_mtime_ns, status.st_size
    if os.path.isdir(path):  # a product's folder: its own time says nothing of what is in it
        for entry in os.scandir(path):
            inside = entry.stat()
            newest, size = max(newest, inside.st_mtime_ns), size + inside.st_size
    return f"{os.path.abspath(path)}:{newest}:{size}"
