"""A product's files where they are: in a folder, in an archive, or behind an address."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import tarfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache

import fsspec

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import file_stamp, full_path, is_remote

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MOST_BYTES = 64 * 2**20  # of a metadata file, which are read whole
_MOST_NAMES = 100_000
_GDAL_SCHEMES = {
    "s3": "/vsis3/",
    "gs": "/vsigs/",
    "gcs": "/vsigs/",
    "az": "/vsiaz/",
    "abfs": "/vsiaz/",
    "https": "/vsicurl/https://",
    "http": "/vsicurl/http://",
    "file": "",
}
_INSIDE = {"/vsizip/": ZIP_SUFFIXES, "/vsitar/": TAR_SUFFIXES}


@dataclass(frozen=True)
class Place:
    """A folder of files, which may be an archive or an address."""

    root: str
    """Full path or address of the folder or archive."""
    archive: str
    """"zip", "tar" (compressed or not), or "" for a folder."""
    names: tuple[str, ...] | None
    """Files in it, with "/" between folders; None where an address does not list them."""

    def find(self, pattern: str) -> tuple[str, ...]:
        """Return the names whose last part fits a pattern such as "*METADATA.XML", any case."""
        wanted = pattern.lower()
        return tuple(
            name
            for name in self.names or ()
            if fnmatch.fnmatchcase(posixpath.basename(name).lower(), wanted)
        )

    def read(self, name: str) -> bytes:
        """Read a small file whole.

        Raises:
            InputError: It is not there, larger than 64 MB, or cannot be read.
        """
        try:
            with fsspec.open(self.opened(name), "rb") as stream:
                content: bytes = stream.read(_MOST_BYTES + 1)
        except Exception as error:  # each of fsspec's file systems raises its own
            raise InputError(f"{self.shown(name)} cannot be read ({_said(error)})") from error
        if len(content) > _MOST_BYTES:
            raise InputError(f"{self.shown(name)} is larger than any metadata (64 MB)")
        return content

    def gdal(self, name: str) -> str:
        """Return the path by which GDAL opens a file."""
        root = gdal_path(self.root)
        if self.archive:
            return f"/vsi{self.archive}/{{{root}}}/{name}" if name else root
        return posixpath.join(root, name) if is_remote(self.root) else os.path.join(root, name)

    def opened(self, name: str) -> str:
        """Return the path or address by which `fsspec.open`, and so `hdf5`, opens a file."""
        if not self.archive:
            join = posixpath.join if is_remote(self.root) else os.path.join
            return join(self.root, name)
        return f"{self.archive}://{name}::{self.root}"

    def shown(self, name: str) -> str:
        """Return how messages call a file."""
        return self.opened(name) if not self.archive else f"{name} in {self.root}"


def place_of(path: str) -> tuple[Place, str]:
    """Find the folder or archive that a path points to or into.

    Args:
        path: A folder, an archive, a file, a file in an archive as GDAL writes it
            (`/vsizip/FILE.zip/NAME`), or an address of any of these.

    Returns:
        The place, and the name of the file in it that was given, "" if none was.

    Raises:
        InputError: There is nothing, or the archive cannot be read or has names that lead out
            of it.
    """
    for prefix, suffixes in _INSIDE.items():
        if path.startswith(prefix):
            inner = path.removeprefix(prefix).replace("{", "").replace("}", "")
            for suffix in suffixes:
                head, found, tail = inner.partition(f"{suffix}/")
                if found:
                    return _archive(_address(head + suffix)), tail
            return _archive(_address(inner)), ""
    if archive_kind(path):
        return _archive(path), ""
    if is_remote(path):
        root, _, name = path.rpartition("/")
        return Place(root, "", None), name
    if os.path.isdir(path):
        return _folder(path), ""
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    root, name = os.path.split(os.path.abspath(path))
    return Place(root, "", tuple(sorted(os.listdir(root)))), name


def archive_kind(path: str) -> str:
    """Return "zip" or "tar" for the name of an archive, "" for any other."""
    lower = path.lower()
    if lower.startswith("/vsi"):
        return ""
    return "zip" if lower.endswith(ZIP_SUFFIXES) else "tar" if lower.endswith(TAR_SUFFIXES) else ""


def gdal_path(path: str) -> str:
    """Return a path or address as GDAL writes it."""
    scheme, found, rest = path.partition("://")
    if not found or scheme not in _GDAL_SCHEMES:
        return path
    return _GDAL_SCHEMES[scheme] + rest


def _address(path: str) -> str:
    """Return a path of GDAL's as an address."""
    for scheme, prefix in _GDAL_SCHEMES.items():
        if prefix and path.startswith(prefix):
            return f"{scheme}://{path.removeprefix(prefix)}"
    return path


def _folder(path: str) -> Place:
    names = []
    root = os.path.abspath(path)
    for folder, folders, files in os.walk(root):
        folders.sort()
        # the insides of other stores, which may be millions of chunks
        folders[:] = [name for name in folders if not name.endswith((".zarr", ".SAFE"))]
        within = os.path.relpath(folder, root)
        names += [name if within == "." else posixpath.join(within, name) for name in files]
        if len(names) > _MOST_NAMES:
            raise InputError(f"{path} holds more than {_MOST_NAMES} files; give the scene inside")
    return Place(root, "", tuple(sorted(names)))


def _archive(path: str) -> Place:
    if not is_remote(path) and not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    kind = archive_kind(path)
    root = full_path(path)
    return Place(root, kind, _listed(root, kind, file_stamp(path)))


@lru_cache(maxsize=32)  # listing a .tar.gz means decompressing all of it
def _listed(root: str, kind: str, stamp: str) -> tuple[str, ...]:
    try:
        if kind == "zip":
            with fsspec.open(root, "rb") as stream, zipfile.ZipFile(stream) as archive:
                names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        else:
            with fsspec.open(root, "rb") as stream:
                names = _names_in_tar(stream)
    except Exception as error:  # whatever a damaged archive or a server makes of it
        raise InputError(f"{root} cannot be read as an archive ({_said(error)})") from error
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0]:
            raise InputError(
                f"{root} holds {name!r}, a path that leaves the archive; it is refused"
            )
    return tuple(names)


def _names_in_tar(stream: object) -> list[str]:
    with tarfile.open(fileobj=stream, mode="r:*") as archive:  # type: ignore[call-overload]
        return [entry.name.removeprefix("./") for entry in archive if entry.isfile()]


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
