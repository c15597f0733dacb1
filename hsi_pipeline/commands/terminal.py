"""What commands say while they work: messages, progress with time left, tables."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from dask.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from hsi_pipeline import __version__
from hsi_pipeline.errors import InputError

Move = Callable[..., None]
"""Moves the bar of a label: `(label, done, total, note=None)`."""

_PAUSE_S = 0.5
_HEARTBEAT_S = 5.0


class Terminal:
    """Talks to the user: results on standard output, all else on standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        """With `quiet`, only results and errors are shown."""
        self._results = Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()
        self._outputs: list[str] = []
        self._facts: dict[str, dict[str, Any]] = {}
        self._said: list[str] = []
        self._messages = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._warnings = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Tell what is going on."""
        self._messages.print(text, markup=False)

    def warn(self, text: str, scene: str | None = None) -> None:
        """Tell what the user must know, with `quiet` too.

        Args:
            text: What is wrong.
            scene: The one of many that it is about.
        """
        said = text if scene is None else f"{scene}: {text}"
        self._said.append(said)
        self._warnings.print(f"warning: {said}", markup=False)

    def show(self, text: str) -> None:
        """Print a result."""
        self._results.print(text, markup=False)

    def made(
        self, command: str, outputs: Sequence[str | os.PathLike[str]] = (), **facts: Any
    ) -> None:
        """Note what a command has made, for programs: people have read it.

        Args:
            command: That made it; a workflow has several.
            outputs: Files written, or the address of a database without its password.
            **facts: Figures by name, of types that JSON has, or of NumPy; NaN becomes null.
        """
        for output in outputs:
            place = os.fspath(output)
            place = place if "://" in place else str(Path(place).absolute())
            if place not in self._outputs:
                self._outputs.append(place)
        self._facts.setdefault(command, {}).update(facts)

    def __enter__(self) -> Self:
        """Begin to talk."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; the kinds for programs say now what came of it."""

    def _summary(self, error: BaseException | None) -> dict[str, Any]:
        """Return what came of a command, as JSON has it."""
        summary = {
            "version": __version__,
            "outputs": self._outputs,
            "results": _plain(self._facts),
            "warnings": self._said,
            "seconds": round(time.monotonic() - self._started, 3),
        }
        if error is not None:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            summary["error"] = "stopped" if stopped else str(error) or type(error).__name__
        return summary

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table of results; all columns but the first are aligned to the right."""
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for place, column in enumerate(columns):
            table.add_column(column, justify="right" if place else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self._results.print(table)

    @contextmanager
    def bars(self) -> Iterator[Move]:
        """Show bars with time left while the block runs, one for each label.

        Yields:
            A function `(label, done, total, note=None)` that moves the bar of a label, which
            appears with its first move; without a total it goes away.
        """
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        shown: dict[str, TaskID] = {}
        with Progress(*columns, console=self._messages) as progress:

            def move(label: str, done: float, total: float | None, note: str | None = None) -> None:
                if total is None:
                    if label in shown:
                        progress.remove_task(shown.pop(label))
                    return
                if label not in shown:
                    shown[label] = progress.add_task(label, total=None, note="")
                fields = {} if note is None else {"note": note}
                progress.update(shown[label], completed=done, total=total, **fields)  # type: ignore[arg-type]

            yield move

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[..., None]]:
        """Show a bar with time left while the block runs.

        Yields:
            A function `(done, total, note=None)` that moves the bar.
        """
        with self.bars() as move:
            yield partial(move, label)

    @contextmanager
    def chunk_progress(self, label: str, pixels: int) -> Iterator[Callable[[int, int], None]]:
        """Show chunks, speed and time left while the block runs.

        Args:
            label: What is being done.
            pixels: Of all chunks together.

        Yields:
            A function `(done, total)` that moves the bar; what is done at its first call is taken
            for an earlier run's.
        """
        before: int | None = None
        started = time.monotonic()
        with self.progress(label) as update:

            def move(done: int, total: int) -> None:
                nonlocal before
                before = done if before is None else before
                new = (done - before) * pixels / total
                seconds = time.monotonic() - started
                update(done, total, f"{new / 1e6 / seconds:.2f} Mpx/s" if new else "")

            yield move

    @contextmanager
    def dask_progress(self, label: str) -> Iterator[None]:
        """Show the progress of Dask's local schedulers while the block runs."""
        with self.progress(label) as update, _TaskCounter(update):
            yield


class SummaryTerminal(Terminal):
    """Talks to the user on standard error, and at the end to a program on standard output.

    That is one JSON object: `version`, `outputs` (whole paths), `results` (figures by command),
    `warnings`, `seconds`, and `error` if it failed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        """With `quiet`, only warnings and errors are shown besides."""
        super().__init__(quiet=quiet)
        self._results = self._messages

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Print what came of it."""
        print(json.dumps(self._summary(error), allow_nan=False, ensure_ascii=False), flush=True)


class JsonTerminal(Terminal):
    """Talks to a program: one JSON object a line on standard output.

    Each has `event`: "message" (`text`), "warning" (`text`, `scene` or null), "result" (`text`),
    "table" (`title`, `columns`, `rows`), "progress" (`label`, `done`, `total`, `seconds_left` or
    null, `note`), "alive" where nothing else has happened for a while, and "finished" at the end,
    with what `SummaryTerminal` prints.
    """

    def __init__(self) -> None:
        """Nothing is said before the first event."""
        super().__init__(quiet=True)
        self._lock = threading.Lock()
        self._last = time.monotonic()

    def _emit(self, event: str, **content: Any) -> None:
        with self._lock:
            print(json.dumps({"event": event, **content}), flush=True)
            self._last = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Print what came of it."""
        self._emit("finished", **self._summary(error))

    def say(self, text: str) -> None:
        """Tell what is going on."""
        self._emit("message", text=text)

    def warn(self, text: str, scene: str | None = None) -> None:
        """Tell what the user must know."""
        self._said.append(text if scene is None else f"{scene}: {text}")
        self._emit("warning", text=text, scene=scene)

    def show(self, text: str) -> None:
        """Print a result."""
        self._emit("result", text=text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table of results."""
        self._emit("table", title=title, columns=list(columns), rows=[list(row) for row in rows])

    @contextmanager
    def bars(self) -> Iterator[Move]:
        """Print how far labels are, each at most twice a second, and that the program is alive."""
        end = threading.Event()
        started: dict[str, tuple[float, float]] = {}  # when, and what was done by then
        shown: dict[str, float] = {}

        def move(label: str, done: float, total: float | None, note: str | None = None) -> None:
            now = time.monotonic()
            if total is None:
                started.pop(label, None)
                shown.pop(label, None)
                return
            begun, first = started.setdefault(label, (now, done))
            if now - shown.get(label, -math.inf) < _PAUSE_S and done < total:
                return
            shown[label] = now
            left = (total - done) * (now - begun) / (done - first) if done > first else None
            self._emit(
                "progress", label=label, done=done, total=total, note=note or "",
                seconds_left=None if left is None else round(left, 1),
            )  # fmt: skip

        def beat() -> None:
            while not end.wait(_PAUSE_S):
                if time.monotonic() - self._last > _HEARTBEAT_S:
                    self._emit("alive")

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield move
        finally:
            end.set()
            heart.join()


TERMINALS = ("bar", "json")
"""Kinds of progress that a user may ask for."""


def open_terminal(progress: str, *, quiet: bool, as_json: bool = False) -> Terminal:
    """Return the terminal for a kind of progress, and for results as JSON or for reading.

    Raises:
        InputError: The kind is not known.
    """
    if progress not in TERMINALS:
        raise InputError(f"--progress {progress} is not one of {', '.join(TERMINALS)}")
    if progress == "json":
        return JsonTerminal()
    return SummaryTerminal(quiet=quiet) if as_json else Terminal(quiet=quiet)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: NumPy's numbers as Python's, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


class _TaskCounter(Callback):
    """Counts the tasks of a local Dask scheduler."""

    def __init__(self, update: Callable[..., None]) -> None:
        self._update = update
        self._largest = 0
        super().__init__()

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        # Reads nested in a task run on Dask's synchronous scheduler and report here as well; the
        # finished set belongs to one scheduler run, so the largest one is the main run's.
        total = sum(len(state[kind]) for kind in ("ready", "waiting", "running", "finished"))
        self._largest = max(self._largest, total)
        if total == self._largest:
            self._update(len(state["finished"]), total)
