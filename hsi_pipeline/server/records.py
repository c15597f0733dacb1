"""What is known of jobs, and the files that it outlives a server in."""

from __future__ import annotations

import contextlib
import json
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID

from pygeoapi.util import get_current_datetime

from hsi_pipeline.errors import InputError

ACTIVE = ("accepted", "running")
"""States of jobs that have not ended."""

_TEXTS = ("process_id", "status", "message", "created", "updated")
_STATES = (*ACTIVE, "successful", "failed")
_FAULTS = {int(status) for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST}
_CUT_OFF = "the server ended while the job was at work; send the request again"


def new_record(job_id: str, process: str) -> dict[str, Any]:
    """Return the record of a job that begins to wait, by pygeoapi's names."""
    now = get_current_datetime()
    return {
        "type": "process",
        "identifier": job_id,
        "process_id": process,
        "status": "accepted",
        "message": "waits to run",
        "progress": 0,
        "created": now,
        "started": None,
        "finished": None,
        "updated": now,
        "mimetype": "application/json",
        "outputs": None,
        "fault": None,
    }


class RecordFolder:
    """A file for each job."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if it is not there.

        Raises:
            InputError: It cannot be made.
        """
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be made ({error.strerror})") from error

    def read(self) -> list[dict[str, Any]]:
        """Return all records, oldest first; those of jobs that a server left behind have failed."""
        found = []
        for path in self._folder.glob("*.json"):
            record = _record(path)
            if record is None:  # of another version, or cut off by a power cut
                path.unlink(missing_ok=True)
                continue
            if record["status"] in ACTIVE:
                now = get_current_datetime()
                record |= {"status": "failed", "message": _CUT_OFF, "fault": 500}
                record |= {"updated": now, "finished": now}
                self.write(record)
            found.append(record)
        return sorted(found, key=lambda record: record["created"])

    def write(self, record: dict[str, Any]) -> None:
        """Keep a record; a full disk keeps no job from running."""
        path = self._path(record["identifier"])
        draft = path.with_suffix(".new")
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps(record), encoding="utf-8")
            os.replace(draft, path)

    def remove(self, job_id: str) -> None:
        """Forget a job."""
        self._path(job_id).unlink(missing_ok=True)

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.json"


def _record(path: Path) -> dict[str, Any] | None:
    """Return what a file holds, None if it is no record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if str(UUID(record["identifier"])) != path.stem:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return record if _is_whole(record) else None


def _is_whole(record: dict[str, Any]) -> bool:
    """Tell whether a record has all that answers are made of."""
    progress, outputs, fault = (record.get(name) for name in ("progress", "outputs", "fault"))
    times = (record.get(name) for name in ("started", "finished"))
    return (
        record.keys() >= new_record("", "").keys()
        and all(isinstance(record[name], str) for name in _TEXTS)
        and all(time is None or isinstance(time, str) for time in times)
        and record["status"] in _STATES
        and isinstance(progress, int)
        and (isinstance(outputs, dict) or (outputs is None and record["status"] != "successful"))
        and (fault is None or (isinstance(fault, int) and fault in _FAULTS))
    )
