"""What every reader asks of a path before it opens it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hsi_pipeline.errors import InputError, did_you_mean

# "/vsizip/FILE.zip/NAME" and "/vsizip/{FILE.zip}/NAME", the two ways in which GDAL writes it
_INSIDE = re.compile(r"/vsi(?:zip|tar)/\{?(.+?\.(?:zip|tar\.gz|tar|tgz))\}?(?:/(.*))?", re.I)
_REMOTE = re.compile("vsi[a-z0-9]+/")  # "/vsizip/vsis3/...", without the second slash
_SECRETS = re.compile(r"(?<=://)[^/@?]*@|\?.*")


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
    raise InputError(f"{path}: no such file{did_you_mean(path)}")


def full_path(path: str) -> str:
    """Return a path that means the same in a process with another working directory."""
    return path if is_remote(path) else os.path.abspath(path)


def inside_archive(path: str) -> tuple[str, str] | None:
    """Split a path of GDAL's into an archive.

    Args:
        path: Such as `/vsizip/FILE.zip/NAME`.

    Returns:
        Path of the archive and the name in it, "" if none is given; None for any other path.
    """
    found = _INSIDE.fullmatch(path)
    if not found:
        return None
    root = f"/{found[1]}" if _REMOTE.match(found[1]) else found[1]
    return root, found[2] or ""


def shown(path: str) -> str:
    """Return how messages call a path: an address without passwords and signatures."""
    return _SECRETS.sub("", path) if "://" in path else path


def what_it_is(path: str) -> str:
    """Return what a local file is that is none of ours, in words that go on from "it"; or ""."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError:
        return ""
    start = head.lstrip().lower()
    if not head:
        return "is empty: it was not downloaded, or not written; get it again"
    if start.startswith(b"version https://git-lfs"):
        return "is only a pointer to git-lfs content; fetch it (git lfs pull)"
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page, perhaps that of a login; download the file itself"
    if head.startswith((b"CDF\x01", b"CDF\x02", b"CDF\x05")):
        return "is a classic netCDF file; convert it (nccopy -k nc4)"
    if head.startswith(b"\x89HDF\r\n"):
        return "is an HDF5 or netCDF file that is damaged, or of a kind that no reader knows"
    return ""


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line, with its cause if it says no more than a name."""
    said = " ".join(shown(word) for word in str(error).split()) or type(error).__name__
    if error.__cause__ is not None and " " not in said:
        return f"{said}: {one_line(error.__cause__)}"
    return said


def file_stamp(path: str) -> str:
    """Return a text that changes when a local file is written again.

    It keeps handles and Dask names of an old file from being taken for those of a new one.
    """
    inside = inside_archive(path)
    if inside and not is_remote(inside[0]) and os.path.exists(inside[0]):
        return f"{file_stamp(inside[0])}/{inside[1]}"
    if is_remote(path):
        return path
    status = Path(path).stat()
    newest, size = status.st_mtime_ns, status.st_size
    if os.path.isdir(path):  # a product's folder: its own time says nothing of what is in it
        for entry in os.scandir(path):
            try:
                inside_it = entry.stat()
            except OSError:  # a link to nowhere, as editors leave as locks
                continue
            newest, size = max(newest, inside_it.st_mtime_ns), size + inside_it.st_size
    return f"{os.path.abspath(path)}:{newest}:{size}"
