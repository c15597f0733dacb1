"""Class maps in the making: they survive any crash, and the same job goes on where it stopped.

Beside the target lies a hidden folder with the store that is being filled, a ledger that says
which of its chunks are complete, the job that they belong to, and a lock. The target itself
appears when all is done.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr
from filelock import FileLock, Timeout

from hsi_pipeline.errors import InputError
from hsi_pipeline.publish.filling import fill_store
from hsi_pipeline.publish.zarr import create_store

_JOB = "job.json"
_Noted = TypeVar("_Noted", str, dict)
_KEPT = "what is done is kept: the same command goes on, --restart begins anew"


@dataclass(frozen=True)
class Unfinished:
    """The folder of a class map in the making."""

    folder: Path
    """Beside the target, hidden; holds nothing else."""
    job: Mapping[str, str]
    """What the map depends on, each part under a name that a user understands."""

    @property
    def store(self) -> Path:
        """Store that is being filled."""
        return self.folder / self._read("attempt", "none") / "map.zarr"

    @property
    def ledger(self) -> Path:
        """Zarr array that says which chunks of the store are complete."""
        return self.folder / self._read("attempt", "none") / "done.zarr"

    def fill(self, dataset: xr.Dataset, **options: Any) -> None:
        """Compute the chunks that are not complete yet.

        Args:
            dataset: Class map as described at `publish.write_class_map`, of this job.
            **options: As for `publish.filling.fill_store`.
        """
        if not self._begun():
            self.clear()
            # Under a name of its own: workers of a cluster do not stop with the program that asked
            # them, and what they end later must not get among other pixels.
            attempt = secrets.token_hex(4)
            place = self.folder / attempt
            place.mkdir()
            create_store(dataset, place / self.store.name, place / self.ledger.name)
            draft = self.folder / f"{_JOB}.new"
            begun = {"attempt": attempt, "job": dict(self.job)}
            draft.write_text(json.dumps(begun), encoding="utf-8")
            if hasattr(
                os, "sync"
            ):  # so that a job's name never outlives a power cut without a store
                os.sync()
            os.replace(draft, self.folder / _JOB)
        fill_store(dataset, self.store, self.ledger, **options)

    @property
    def is_of_job(self) -> bool:
        """Whether what has been begun, if anything, is of this job."""
        return not self._begun() or self._read("job", {}) == dict(self.job)

    def check_job(self) -> None:
        """Refuse to go on with what another job has begun.

        Raises:
            InputError: Names the difference.
        """
        if not self._begun():
            return
        begun = self._read("job", {})
        for key in [*self.job, *begun]:
            if begun.get(key) != self.job.get(key):
                raise InputError(
                    f"{self.folder} holds an unfinished map of another job: its {key} was "
                    f"{begun.get(key, 'not given')}, now {self.job.get(key, 'not given')}; "
                    "--restart throws it away and begins anew"
                )

    def clear(self) -> None:
        """Throw away what has been done."""
        (self.folder / _JOB).unlink(missing_ok=True)  # first: without it the rest means nothing
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def _begun(self) -> bool:
        return bool(self._read("job", {})) and self.store.exists() and self.ledger.exists()

    def _read(self, key: str, default: _Noted) -> _Noted:
        """Return what the folder's file notes of its job; the default where that cannot be told."""
        try:
            begun = json.loads((self.folder / _JOB).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return default
        noted = begun.get(key) if isinstance(begun, dict) else None
        return noted if isinstance(noted, type(default)) else default


def unfinished_folder(path: Path) -> Path:
    """Return where a class map lies until it is complete."""
    return path.with_name(f".{path.name}.unfinished")


@contextmanager
def working_on(
    path: Path, job: Mapping[str, str] | None, *, restart: bool | None = False
) -> Iterator[Unfinished]:
    """Work on a class map in the making.

    Args:
        path: Target.
        job: What the map depends on; None where nothing is to be kept after an error.
        restart: Throw away what an earlier run has done; None: only if another job has done it.

    Yields:
        The map in the making. When the block ends without an error it is removed; the target has to
        be there by then. After an error it stays, for the next run of the same job.

    Raises:
        InputError: Another process is at work on the same target, or another job has begun it.
    """
    folder = unfinished_folder(path)
    with _locked(folder, path):
        work = Unfinished(folder, job or {})
        if restart or job is None or (restart is None and not work.is_of_job):
            work.clear()
        work.check_job()
        try:
            yield work
        except BaseException as error:
            if job is None or not work.store.exists():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                error.add_note(_KEPT)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, path: Path) -> Iterator[None]:
    """Hold a folder's lock; the system takes it back from a process that was killed."""
    while True:
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"{path} is being written by another process; wait for it or choose another name"
            ) from error
        except FileNotFoundError:
            continue
        # Whoever held it until now may have removed the folder in between.
        if Path(lock.lock_file).exists():
            break
        lock.release()
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):  # Windows removes no folder with a file that is open: only now
            folder.rmdir()
