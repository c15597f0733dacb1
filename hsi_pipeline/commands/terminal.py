"""What commands say while they work: messages, progress with time left, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dask.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table


class Terminal:
    """Talks to the user: results on standard output, all else on standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        """With `quiet`, only results and errors are shown."""
        self._results = Console(highlight=False, soft_wrap=True)
        self._messages = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Tell what is going on."""
        self._messages.print(text, markup=False)

    def show(self, text: str) -> None:
        """Print a result."""
        self._results.print(text, markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table of results; all columns but the first are aligned to the right."""
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for place, column in enumerate(columns):
            table.add_column(column, justify="right" if place else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self._results.print(table)

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[..., None]]:
        """Show a bar with time left while the block runs.

        Yields:
            A function `(done, total, note="")` that moves the bar.
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
        with Progress(*columns, console=self._messages) as bars:
            bar = bars.add_task(label, total=None, note="")

            def update(done: float, total: float, note: str | None = None) -> None:
                fields = {} if note is None else {"note": note}
                bars.update(bar, completed=done, total=total, **fields)  # type: ignore[arg-type]

            yield update

    @contextmanager
    def dask_progress(self, label: str) -> Iterator[None]:
        """Show the progress of Dask's local schedulers while the block runs."""
        with self.progress(label) as update, _TaskCounter(update):
            yield


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
