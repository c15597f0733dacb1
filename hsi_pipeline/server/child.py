"""A run of the command line in a child process: its progress, its end, and ending it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

_MOST_LINE = 2**20  # bytes of a line that a child prints
_LAST_LINES = 40  # of its error stream, that are kept
_GRACE_S = 8.0  # to clean up
_MISTAKE = 2  # exit code of the command line for what the user can mend


@dataclass(frozen=True)
class End:
    """How a child ended."""

    code: int
    """Exit code, negative for a signal."""
    said: str
    """What it said of the error, "" if nothing."""
    log: str
    """The end of its error stream."""

    @property
    def is_mistake(self) -> bool:
        """Whether the request was at fault."""
        return self.code == _MISTAKE


class Child:
    """A child process with a group of its own, which ends with this program."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        """Start it.

        Args:
            arguments: Of this Python.
            environment: All of its variables.
            folder: That it works in.
            on_event: Told each JSON object that it prints, from a thread.
        """
        self._on_event = on_event
        self._log: deque[str] = deque(maxlen=_LAST_LINES)
        self._process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdin=subprocess.PIPE,  # never written to: its end tells the child to end
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C reaches it by this program alone
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, take), daemon=True)
            for stream, take in (
                (self._process.stdout, self._take_event),
                (self._process.stderr, self._take_line),
            )
        ]
        for reader in self._readers:
            reader.start()

    def wait(self, seconds: float) -> End:
        """Wait for its end.

        Raises:
            TimeoutError: It runs still.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        for reader in self._readers:
            reader.join(_GRACE_S)
        self._close()
        errors = [line for line in self._log if line.startswith("error: ")]
        said = errors[-1].removeprefix("error: ") if errors else ""
        return End(code, said, "\n".join(self._log))

    def end(self) -> None:
        """End it and all that it started: politely first, then at once."""
        family = self._family()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if os.name == "posix":  # elsewhere this would end it without cleaning up
            self._process.terminate()
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.terminate()
        # psutil must not wait for the child itself: its exit code would be lost to this program
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        _, left = psutil.wait_procs(family, timeout=_GRACE_S)
        for member in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        if hasattr(os, "killpg"):  # those whose parent ended before them
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def _family(self) -> list[psutil.Process]:
        """Return what the child has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self._process.pid).children(recursive=True))
        return []

    def _read(self, stream: IO[bytes], take: Callable[[str], object]) -> None:
        while line := stream.readline(_MOST_LINE):
            take(line.decode("utf-8", "replace").rstrip())

    def _take_event(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # a library that prints
        if isinstance(event, dict):
            self._on_event(event)

    def _take_line(self, line: str) -> None:
        # of two GDALs that a child may load, the second knows fewer drivers and says so of each
        if "GDAL_SKIP environment variable" not in line:
            self._log.append(line)

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
