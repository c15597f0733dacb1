"""A product's files where they are: in a folder, in an archive, or behind an address."""

from __future__ import annotations

import fnmatch
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hsi_pipeline.errors import InputError, did_you_mean
from hsi_pipeline.scene.addresses import is_absent, open_bytes, share_settings
from hsi_pipeline.scene.archives import deflated_names, list_archive, open_member
from hsi_pipeline.scene.files import (
    file_stamp,
    full_path,
    inside_archive,
    is_remote,
    one_line,
    shown,
)

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_PIECE_BYTES = 2**20
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


@dataclass(frozen=True)
class Place:
    """A folder of files, which may be an archive or an address."""

    root: str
    """Full path or address of the folder or archive."""
    archive: str
    """"zip", "tar" (compressed or not), or "" for a folder."""
    names: tuple[str, ...] | None
    """Files in it, with "/" between folders; None where an address does not list them."""
    prefix: str = ""
    """What the archive itself writes before each of the names, such as "./"."""

    @property
    def is_local(self) -> bool:
        """Whether its files are files on disk."""
        return not self.archive and not is_remote(self.root)

    def is_compressed(self, name: str) -> bool:
        """Tell whether a file is compressed by its archive, so that its middle is not at hand."""
        if self.archive == "zip":
            return name in deflated_names(self.root, file_stamp(self.root))
        return self.archive == "tar" and not shown(self.root).lower().endswith(".tar")

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
        if self.is_local and not os.path.isfile(self.opened(name)):
            raise InputError(f"{self.shown(name)} is not there, or no file")
        try:
            with self._bytes_of(name) as stream:
                content = b"".join(_pieces(stream))
        except Exception as error:  # each of fsspec's file systems raises its own
            raise InputError(f"{self.shown(name)} cannot be read ({one_line(error)})") from error
        if len(content) > _MOST_BYTES:
            raise InputError(f"{self.shown(name)} is larger than any metadata (64 MB)")
        return content

    def begins(self, name: str, wanted: bytes) -> bool:
        """Tell whether there is a file of this name that begins with some bytes.

        Raises:
            InputError: The server cannot be asked.
        """
        return self.head(name, len(wanted)) == wanted

    def head(self, name: str, size: int) -> bytes | None:
        """Return the first bytes of a file, None if there is no such file.

        Raises:
            InputError: The file cannot be read, or its server not be asked.
        """
        if self.names is not None and name not in self.names:
            return None
        path = self.opened(name)
        if path.startswith("/vsi") or (not is_remote(path) and not os.path.isfile(path)):
            return None
        try:
            with self._bytes_of(name) as stream:
                return stream.read(size)
        except Exception as error:
            if is_absent(error):
                return None
            raise InputError(f"{self.shown(name)} cannot be read ({one_line(error)})") from error

    @contextmanager
    def _bytes_of(self, name: str) -> Iterator[IO[bytes]]:
        """Give a file, open."""
        if not self.archive:
            with open_bytes(self.opened(name)) as stream:
                yield stream
        else:
            with open_member(self.root, self.archive, self.prefix + name) as stream:
                yield stream

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
        return f"{self.archive}://{self.prefix}{name}::{self.root}"

    def shown(self, name: str) -> str:
        """Return how messages call a file."""
        return shown(self.opened(name) if not self.archive else f"{name} in {self.root}")


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
    if inside := inside_archive(path):
        return _archive(address_of(inside[0])), inside[1]
    if archive_kind(path) and not os.path.isdir(path):
        return _archive(path), ""
    if is_remote(path):
        return folder_of(path)
    if os.path.isdir(path):
        return _folder(path), ""
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file{did_you_mean(path)}")
    root, name = os.path.split(os.path.abspath(path))
    return Place(root, "", tuple(sorted(os.listdir(root)))), name


def folder_of(path: str) -> tuple[Place, str]:
    """Return the folder of a file, not listed, and the file's name in it.

    Args:
        path: A file on disk, an address, or a path of GDAL's.
    """
    if not is_remote(path):
        root, name = os.path.split(os.path.abspath(path))
        return Place(root, "", None), name
    share_settings()
    address = address_of(path)
    # a key of S3 may have a question mark, an address of the web ends at it
    end = address.find("?") if address.startswith("http") else -1
    cut = address.rfind("/", 0, end if end >= 0 else None)
    return Place(address[:cut], "", None), address[cut + 1 :]


def archive_kind(path: str) -> str:
    """Return "zip" or "tar" for the name of an archive, "" for any other."""
    lower = shown(path).lower()
    if lower.startswith("/vsi"):
        return ""
    return "zip" if lower.endswith(ZIP_SUFFIXES) else "tar" if lower.endswith(TAR_SUFFIXES) else ""


def gdal_path(path: str) -> str:
    """Return a path or address as GDAL writes it."""
    scheme, found, rest = path.partition("://")
    if not found or scheme not in _GDAL_SCHEMES:
        return path
    return _GDAL_SCHEMES[scheme] + rest


def address_of(path: str) -> str:
    """Return a path of GDAL's as an address; any other path as it is."""
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
        within = Path(os.path.relpath(folder, root)).as_posix()
        names += [name if within == "." else posixpath.join(within, name) for name in files]
        if len(names) > _MOST_NAMES:
            raise InputError(f"{path} holds more than {_MOST_NAMES} files; give the scene inside")
    return Place(root, "", tuple(sorted(names)))


def _archive(path: str) -> Place:
    if not is_remote(path) and not os.path.isfile(path):
        raise InputError(f"{path}: no such file{did_you_mean(path)}")
    kind = archive_kind(path)
    root = full_path(path)
    names = list_archive(root, kind, file_stamp(path))
    prefix = "./" if names and all(name.startswith("./") for name in names) else ""
    return Place(root, kind, tuple(name.removeprefix(prefix) for name in names), prefix)


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """Read a file, and one piece more than metadata may have."""
    for _ in range(_MOST_BYTES // _PIECE_BYTES + 1):
        yield stream.read(_PIECE_BYTES)
