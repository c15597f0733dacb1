"""The folder of a land-cover archive, on disk or in an object store.

    catalog.json            static STAC catalog; links to those of the months
    items.parquet           index of all items
    footprints.gpkg         where they are
    2024-06/catalog.json    links to the items of a month
    2024-06/ID/ID.json      STAC item of a scene, beside its products
    models/NAME             the model
    failures/ID.json        what is known of a scene that failed
    logs/                   what happened, a file for each run
    .work/ID/               a scene in the making; on disk only

A scene in the making moves to its place as a whole, on disk by one rename, elsewhere with its item
last: an item that is there has its products.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import fsspec.core

from hsi_pipeline.archive.faults import kind_of
from hsi_pipeline.errors import InputError, TargetError
from hsi_pipeline.scene.addresses import limit_http, share_settings
from hsi_pipeline.scene.files import is_remote, one_line, shown

CATALOG = "catalog.json"
WORK = ".work"
_SCHEMES = ("s3", "gs", "gcs", "az", "abfs")
_PAUSES_S = (1.0, 5.0)
_READERS = 16  # files that are read side by side


@dataclass(frozen=True)
class Target:
    """Where an archive is written; pickles to workers."""

    root: str
    """Full path or address, without "/" at its end."""

    @property
    def is_local(self) -> bool:
        """Whether it is a folder on disk."""
        return not is_remote(self.root)

    def path(self, name: str) -> str:
        """Return the full path or address of a file."""
        return os.path.join(self.root, name) if self.is_local else f"{self.root}/{name}"

    def read(self, name: str) -> bytes | None:
        """Read a small file; None if there is none.

        Raises:
            TargetError: It is there and cannot be read.
        """
        try:
            if self.is_local:
                return Path(self.path(name)).read_bytes()
            found: bytes = _patiently(lambda: self._files().cat_file(self.path(name)))
        except FileNotFoundError:
            return None
        except Exception as error:  # each of fsspec's file systems raises its own
            raise self._failed(f"{name} cannot be read", error) from error
        return found

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, which appears when it is complete.

        Raises:
            TargetError: It cannot be written.
        """
        try:
            if not self.is_local:
                _patiently(lambda: self._files().pipe_file(self.path(name), content))
                return
            path = Path(self.path(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                draft.write_bytes(content)
                os.replace(draft, path)
            finally:
                draft.unlink(missing_ok=True)
        except Exception as error:
            raise self._failed(f"{name} cannot be written", error) from error

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file of an object store unless it is there; tell whether that was done.

        Raises:
            TargetError: It cannot be written.
        """
        try:
            self._files().pipe_file(self.path(name), content, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            raise self._failed(f"{name} cannot be written", error) from error
        return True

    def put(self, file: Path, name: str) -> None:
        """Copy a file into the archive; it appears when it is complete.

        Raises:
            TargetError: It cannot be written.
        """
        try:
            if not self.is_local:
                _patiently(lambda: self._files().put_file(str(file), self.path(name)))
                return
            path = Path(self.path(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                shutil.copyfile(file, draft)
                os.replace(draft, path)
            finally:
                draft.unlink(missing_ok=True)
        except Exception as error:
            raise self._failed(f"{name} cannot be written", error) from error

    def remove(self, name: str) -> None:
        """Remove a file or folder, if it is there.

        Raises:
            TargetError: It cannot be removed.
        """
        try:
            if not self.is_local:
                files, path = self._files(), self.path(name)
                files.invalidate_cache()
                if files.exists(path):
                    files.rm(path, recursive=True)
            elif os.path.isdir(self.path(name)):
                shutil.rmtree(self.path(name))
            else:
                Path(self.path(name)).unlink(missing_ok=True)
        except Exception as error:
            raise self._failed(f"{name} cannot be removed", error) from error

    def folders(self, name: str = "") -> list[str]:
        """Return the names of the folders in a folder that are not hidden, sorted; [] without it.

        Raises:
            TargetError: It cannot be listed.
        """
        return [entry for entry, is_folder in self._entries(name) if is_folder]

    def files(self, name: str) -> list[str]:
        """Return the names of the files in a folder that are not hidden, sorted; [] without it.

        Raises:
            TargetError: It cannot be listed.
        """
        return [entry for entry, is_folder in self._entries(name) if not is_folder]

    def read_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield the content of many small files, read side by side; None where there is none.

        Raises:
            TargetError: As `read`.
        """
        if self.is_local:  # threads would only wait for each other
            yield from ((name, self.read(name)) for name in names)
            return
        with ThreadPoolExecutor(_READERS) as pool:
            for some in batched(names, 8 * _READERS):  # not all of them in memory
                yield from zip(some, pool.map(self.read, some), strict=True)

    def take(self, work: Path, name: str, last: str) -> None:
        """Move a folder of complete files into the archive, in place of what is there.

        Args:
            work: The folder; gone afterwards.
            name: Its name in the archive.
            last: The file in it that tells that all are there.

        Raises:
            TargetError: It cannot be written.
        """
        try:
            if self.is_local:
                self._rename(work, Path(self.path(name)))
                return
            files = self._files()
            self.remove(f"{name}/{last}")  # while its files are replaced, it is not true
            for file in sorted(path for path in work.rglob("*") if path.is_file()):
                inside = file.relative_to(work).as_posix()
                if inside != last:
                    files.put_file(str(file), self.path(f"{name}/{inside}"))
            files.put_file(str(work / last), self.path(f"{name}/{last}"))
            self._keep_only(name, {p.relative_to(work).as_posix() for p in work.rglob("*")})
        except TargetError:
            raise
        except Exception as error:
            raise self._failed(f"{name} cannot be written", error) from error
        shutil.rmtree(work, ignore_errors=True)

    def check(self) -> None:
        """Make the folder if it is missing, and see that it can be written.

        Raises:
            TargetError: It cannot.
        """
        if not self.is_local:
            probe = f".probe-{secrets.token_hex(4)}"
            self.write(probe, b"")
            self.remove(probe)
            return
        try:
            os.makedirs(self.root, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise self._failed("it cannot be written", error) from error

    def _keep_only(self, name: str, names: set[str]) -> None:
        """Remove files of a folder in an object store that are of an earlier time."""
        files, place = self._files(), self.path(name)
        files.invalidate_cache()
        root = files._strip_protocol(place)
        for found in files.find(place):
            if found[len(root) :].lstrip("/") not in names:
                files.rm_file(found)

    def _rename(self, work: Path, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            old = work.with_name(f".old-{secrets.token_hex(4)}")
            os.replace(place, old)
            os.replace(work, place)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(work, place)

    def _entries(self, name: str) -> list[tuple[str, bool]]:
        try:
            if self.is_local:
                with os.scandir(self.path(name)) as entries:
                    found = [(entry.name, entry.is_dir()) for entry in entries]
            else:
                files = self._files()
                files.invalidate_cache()  # other programs write there too
                listed = files.ls(self.path(name), detail=True)
                found = [
                    (entry["name"].rstrip("/").rpartition("/")[2], entry["type"] == "directory")
                    for entry in listed
                ]
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._failed(f"{name or 'it'} cannot be listed", error) from error
        return sorted(entry for entry in found if not entry[0].startswith("."))

    def _files(self) -> Any:
        share_settings()
        if self.root.startswith("http"):
            limit_http()
        return fsspec.core.url_to_fs(self.root)[0]

    def _failed(self, what: str, error: Exception) -> TargetError:
        """Return what a user is to read of an error."""
        if type(error).__name__ == "NoCredentialsError":
            return TargetError(
                f"{shown(self.root)}: there are no credentials; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if isinstance(error, PermissionError):
            return TargetError(
                f"{shown(self.root)}: {what}, it is forbidden ({one_line(error)}); check the "
                "permissions" + ("" if self.is_local else " of AWS_ACCESS_KEY_ID's owner")
            )
        return TargetError(f"{shown(self.root)}: {what} ({one_line(error)})")


def _patiently(work: Callable[[], Any]) -> Any:
    """Do something with a server, again after a while if the network is at fault."""
    for pause in (*_PAUSES_S, None):
        try:
            return work()
        except Exception as error:
            if pause is None or kind_of(error) != "passing":
                raise
            time.sleep(pause)
    raise AssertionError  # the last turn returns or raises


def target_of(address: str | os.PathLike[str]) -> Target:
    """Return the target for a path or address.

    Raises:
        InputError: It is an address of another kind than that of an object store.
    """
    text = os.fspath(address)
    scheme, _, rest = text.partition("://")
    if is_remote(text) and (scheme not in _SCHEMES or not rest.strip("/")):
        raise InputError(
            f"out: {shown(text)} is no place for an archive; give a folder, or an address such as "
            "s3://bucket/archive"
        )
    return Target(text.rstrip("/") if is_remote(text) else os.path.abspath(text))
