"""Listing zip and tar archives, and reading small files in them, without unpacking."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import IO

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.addresses import open_bytes
from hsi_pipeline.scene.files import one_line, shown

_MOST_NAMES = 100_000
_PIECE_BYTES = 2**20
_MOST_HEADER_BYTES = 2**20
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
_ENCRYPTED = 0x1  # in the flags of a zip's entry


@lru_cache(maxsize=32)  # listing a .tar.gz means decompressing all of it
def list_archive(root: str, kind: str, stamp: str) -> tuple[str, ...]:
    """Return the names of the files in an archive, as it writes them.

    Args:
        root: Full path or address of the archive.
        kind: "zip" or "tar", compressed or not.
        stamp: As `files.file_stamp`.

    Raises:
        InputError: It cannot be read, is encrypted, or has names that lead out of it.
    """
    try:
        with open_bytes(root) as stream:
            names = _names_in_zip(stream) if kind == "zip" else _names_in_tar(stream)
    except InputError as error:
        raise InputError(f"{shown(root)} {error}") from error
    except Exception as error:  # whatever a damaged archive or a server makes of it
        raise InputError(
            f"{shown(root)} cannot be read as an archive, it is damaged, incomplete or of another "
            f"kind ({one_line(error)})"
        ) from error
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or name.startswith(("/", "\\")) or ":" in parts[0]:
            raise InputError(
                f"{shown(root)} holds {name[:200]!r}, a path that leaves the archive; it is refused"
            )
    return tuple(names)


def _names_in_zip(stream: IO[bytes]) -> list[str]:
    with zipfile.ZipFile(stream) as archive:
        files = [entry for entry in archive.infolist() if not entry.is_dir()]
    if any(entry.flag_bits & _ENCRYPTED for entry in files):
        raise InputError("is encrypted; unpack it and give the folder")
    if len(files) > _MOST_NAMES:
        raise InputError(f"holds more than {_MOST_NAMES} files; unpack it and give the scene")
    return [entry.filename for entry in files]


@lru_cache(maxsize=32)
def deflated_names(root: str, stamp: str) -> frozenset[str]:
    """Return the compressed files of a zip that could be listed."""
    with open_bytes(root) as stream, zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
    return frozenset(entry.filename for entry in entries if entry.compress_type)


class _Entry(tarfile.TarInfo):
    """An entry of a tar whose name, link and pax header are read only if they are of sane size."""

    def _proc_member(self, tarfile_: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tarfile_)  # type: ignore[misc, no-any-return]


def _names_in_tar(stream: IO[bytes]) -> list[str]:
    names = []
    with tarfile.open(fileobj=stream, mode="r:*", tarinfo=_Entry) as archive:
        for number, entry in enumerate(archive):
            if entry.isfile():
                names.append(entry.name)
            if number > _MOST_NAMES:
                raise InputError(f"holds more than {_MOST_NAMES} files; unpack it")
        # What is compressed ends with a checksum of all of it, which is looked at here.
        while archive.fileobj is not None and archive.fileobj.read(_PIECE_BYTES):
            pass
    return names


@contextmanager
def open_member(root: str, kind: str, name: str) -> Iterator[IO[bytes]]:
    """Give a file of an archive, open for reading.

    Args:
        root: Full path or address of the archive.
        kind: "zip" or "tar".
        name: As the archive writes it.
    """
    with ExitStack() as stack:
        whole = stack.enter_context(open_bytes(root))
        if kind == "zip":
            members = stack.enter_context(zipfile.ZipFile(whole))
            yield stack.enter_context(members.open(name))
            return
        tar = stack.enter_context(tarfile.open(fileobj=whole, mode="r:*"))
        stream = tar.extractfile(name)
        if stream is None:
            raise FileNotFoundError(name)
        yield stack.enter_context(stream)
