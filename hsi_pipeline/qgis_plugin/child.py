"""A program that is started, listened to, and ended with all that it has started."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

from .environment import NO_WINDOW, child_environment

GRACE_S = 2.0
"""How long a program may take to clean up when it is told to end."""

_POLL_S = 0.1
_SILENCE_S = 1.0  # after a program's end, what it started may hold its output open
_NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


class Child:
    """A running program, the first of a process group of its own.

    Its standard input is a pipe that nothing is written to: it ends when this process does.
    """

    def __init__(self, arguments: list[str]) -> None:
        """Start a program.

        Args:
            arguments: The program and its arguments; no shell sees them.

        Raises:
            OSError: It cannot be started.
        """
        self._process = subprocess.Popen(
            arguments,
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            creationflags=NO_WINDOW | _NEW_GROUP,
        )
        self._said: queue.Queue[tuple[str, str | None]] = queue.Queue()
        streams = {"out": self._process.stdout, "err": self._process.stderr}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in streams.items()
        ]
        for reader in self._readers:
            reader.start()
        self.was_killed = False
        """Whether it had to be ended before it had cleaned up."""

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while the program runs."""
        return self._process.poll()

    def lines(self, is_canceled: Callable[[], bool]) -> Iterator[tuple[str, str]]:
        """Yield what the program says until it ends, or is ended.

        Args:
            is_canceled: Asked ten times a second, also while the program says nothing; once it
                returns True the program is ended.

        Yields:
            "out" or "err", and a line.
        """
        reading, last = len(self._readers), time.monotonic()
        try:
            while not is_canceled():
                try:
                    stream, line = self._said.get(timeout=_POLL_S)
                except queue.Empty:
                    silent = time.monotonic() - last > _SILENCE_S
                    if self.exit_code is not None and (silent or not reading):
                        return
                    continue
                last = time.monotonic()
                if line is None:
                    reading -= 1
                else:
                    yield stream, line
            self.stop()
            yield from self._rest()
        finally:
            self.stop()

    def stop(self) -> None:
        """End the program and all that it has started, within `GRACE_S` and a moment."""
        if self.exit_code is None:
            self._ask_to_end()
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self.was_killed = True
        self._kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _ask_to_end(self) -> None:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
        elif self._process.stdin is not None:
            self._process.stdin.close()  # which it watches

    def _kill(self) -> None:
        """End what is left of the group."""
        if os.name == "posix":
            # macOS refuses where only a zombie is left
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        elif self.exit_code is None:
            subprocess.run(
                ["taskkill", "/PID", str(self._process.pid), "/T", "/F"],
                capture_output=True,
                check=False,
                creationflags=NO_WINDOW,
            )

    def _rest(self) -> Iterator[tuple[str, str]]:
        """Yield what was said up to the end."""
        for reader in self._readers:
            reader.join(_POLL_S)
        while not self._said.empty():
            stream, line = self._said.get()
            if line is not None:
                yield stream, line

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._said.put((name, line.rstrip("\n")))
        self._said.put((name, None))
