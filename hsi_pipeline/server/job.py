"""One job: its record, its child, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pygeoapi.util import get_current_datetime

from hsi_pipeline.errors import InputError
from hsi_pipeline.server.child import Child, End
from hsi_pipeline.server.folder import STATE, SharedFolder
from hsi_pipeline.server.limits import Limits
from hsi_pipeline.server.processes import Work
from hsi_pipeline.server.refused import RefusedError, shortened

DISMISSED = "the job was dismissed"
_WORDS = {
    "or pass --overwrite": "or set overwrite to true",
    "run the same command again": "send the request again",
}
# how the command line begins when the disk is full: of itself, and as Python says it
_FULL = ("no room left to write ", f"[Errno {errno.ENOSPC}]", f"[Errno {errno.EDQUOT}]")
_PROGRAM = ("-m", "hsi_pipeline.server.confined")


@dataclass
class Job:
    """A job that has not ended."""

    record: dict[str, Any]
    """What is known of it; see `records.new_record`."""
    work: Work
    folder: SharedFolder
    write: Callable[[dict[str, Any]], None]
    """Keeps a record for the next server."""
    lock: threading.RLock
    """Held while a record changes."""
    child: Child | None = None
    stopped: str = ""
    """Why it is to end, if it is."""
    ended: threading.Event = field(default_factory=threading.Event)
    future: Future[None] | None = None
    said: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its identifier."""
        return str(self.record["identifier"])

    def change(self, *, keep: bool = True, **news: Any) -> None:
        """Change the record; `keep` writes it down."""
        with self.lock:
            self.record.update(news, updated=get_current_datetime())
            if keep:
                self.write(self.record)

    def fail(self, fault: HTTPStatus, said: str) -> None:
        """Note that it has failed."""
        self.change(status="failed", message=shortened(said), fault=int(fault))

    def start(self, limits: Limits, environment: Mapping[str, str]) -> None:
        """Start its child."""
        command, *rest = self.work.arguments
        # a job is whole or nothing: what another one has begun is of no use to it
        options = ["--progress=json", *(["--restart"] if command == "classify" else [])]
        now = get_current_datetime()
        self.change(status="running", message="starts", started=now)
        arguments = [*_PROGRAM, str(limits.megapixels), command, *options, *rest]
        self.child = Child(arguments, environment, self.folder.root / STATE, self._note)

    def wait(self, seconds: float) -> End | None:
        """Wait for the end of its child, which is ended if it takes too long; None without one."""
        if self.child is None:
            return None
        try:
            return self.child.wait(seconds)
        except TimeoutError:
            late = f"ended after {seconds:g} s, the longest that a job may take"
            self.stopped = self.stopped or late
            self.child.end()
            return self.child.wait(seconds)

    def finish(self, end: End | None) -> None:
        """Note how it ended."""
        if end is not None and end.code == 0:
            outputs = {"out": self.folder.shown(self.work.out), "messages": self.said}
            self.change(status="successful", progress=100, message="done", outputs=outputs)
        elif self.stopped:
            _clear(self.work.out)
            gone = self.stopped == DISMISSED
            self.fail(HTTPStatus.GONE if gone else HTTPStatus.INTERNAL_SERVER_ERROR, self.stopped)
        elif end is not None and end.said.startswith(_FULL):
            self.fail(HTTPStatus.INSUFFICIENT_STORAGE, self._told(end.said))
        elif end is not None and end.is_mistake and end.said:
            self.fail(HTTPStatus.BAD_REQUEST, self._told(end.said))
        elif end is not None:
            said = f"the job failed with exit code {end.code}; the server's terminal shows why"
            self.fail(HTTPStatus.INTERNAL_SERVER_ERROR, said)

    def _told(self, said: str) -> str:
        """Return what the command line says as a client has it, which knows no options."""
        for ours, theirs in _WORDS.items():
            said = said.replace(ours, theirs)
        return self.folder.scrubbed(said)

    def _note(self, event: dict[str, Any]) -> None:
        """Take what the child says."""
        kind, text = event.get("event"), event.get("text")
        if kind in ("message", "warning", "result") and isinstance(text, str):
            said = shortened(self.folder.scrubbed(text))
            self.said.append(f"warning: {said}" if kind == "warning" else said)
            self.change(message=self.said[-1], keep=False)
        elif kind == "progress" and event.get("label") in self.work.stages and event.get("total"):
            stages = self.work.stages
            done = (stages.index(event["label"]) + event["done"] / event["total"]) / len(stages)
            # all is computed then, and not yet under its name
            percent = min(int(100 * done), 99)
            message = f"{event['label']}, {event['done']:g} of {event['total']:g} chunks"
            self.change(progress=percent, message=message, keep=False)


def outputs_of(
    record: Mapping[str, Any],
    requested: Mapping[str, Any] | None = None,
    response: str | None = None,
) -> Any:
    """Return the outputs of a job that has ended.

    Args:
        record: Of the job.
        requested: Outputs that are wanted; all if there are none.
        response: "raw" gives the value alone where one output is requested.

    Raises:
        RefusedError: The job failed.
    """
    outputs = record["outputs"]
    if outputs is None:
        raise RefusedError(record["message"], HTTPStatus(record["fault"] or 500), "JobFailed")
    if not requested:
        return outputs
    chosen = {key: value for key, value in outputs.items() if key in requested}
    return next(iter(chosen.values())) if response == "raw" and len(chosen) == 1 else chosen


def _clear(out: Path) -> None:
    """Remove what a job that was stopped has left beside its target."""
    from hsi_pipeline.publish.unfinished import unfinished_folder, working_on

    # not while another program works on the same target
    if unfinished_folder(out).is_dir():
        with contextlib.suppress(InputError, OSError), working_on(out, None):
            pass
