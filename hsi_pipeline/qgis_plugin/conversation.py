"""What the command line says, as a user of QGIS sees it: bar, log, and what went wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qgis.core import QgsProcessingFeedback

Stages = Mapping[str, tuple[float, float]]
"""How far the bar goes, in percent, while a label's work is done; labels by how they begin."""

_TEXT_PAUSE_S = 5.0  # QGIS writes each text into its log, too
_LONGEST_ERROR = 2  # lines
_BLANK = "\u00a0"  # which HTML does not swallow


class Conversation:
    """Listens to `hsi-pipeline ... --progress json`."""

    def __init__(self, feedback: QgsProcessingFeedback, stages: Stages) -> None:
        """Nothing has been said.

        Args:
            feedback: QGIS's, told all of it.
            stages: How far the bar goes; other labels do not move it.
        """
        self._feedback, self._stages = feedback, stages
        self._percent = 0.0
        self._label, self._told = "", 0.0
        self._errors: list[str] = []
        self._summary: dict[str, Any] = {}

    @property
    def is_finished(self) -> bool:
        """Whether it has said that it came to its end."""
        return bool(self._summary)

    @property
    def outputs(self) -> list[str]:
        """Whole paths of the files written; empty before the end."""
        return list(self._summary.get("outputs", []))

    @property
    def results(self) -> dict[str, Any]:
        """Figures by command; empty before the end."""
        return dict(self._summary.get("results", {}))

    @property
    def error(self) -> str:
        """What went wrong, in the words of the command line; "" if it said nothing of the kind."""
        said = str(self._summary.get("error", ""))
        if said:
            return said
        for place in range(len(self._errors) - 1, -1, -1):
            if self._errors[place].startswith("error: "):
                lines = self._errors[place : place + _LONGEST_ERROR]
                return "\n".join(lines)[len("error: ") :]
        return ""

    @property
    def last_words(self) -> str:
        """The last line that was meant for people, of a program that failed without an error."""
        # Typer draws a frame around what it says of wrong options
        lines = (line.strip(" │╭╮╰╯─") for line in reversed(self._errors))
        return next((line for line in lines if line), "")

    def hear(self, stream: str, line: str) -> None:
        """Take a line.

        Args:
            stream: "out" for events, "err" for all else.
            line: Without its end.
        """
        if stream == "err":
            self._errors.append(line)
            if not line.startswith("error: "):  # which QGIS will show as such
                self._feedback.pushConsoleInfo(line)
            return
        try:
            event = json.loads(line)
            self._show(event.pop("event"), event)
        except (ValueError, AttributeError, KeyError, TypeError):
            self._feedback.pushConsoleInfo(line)

    def _show(self, kind: str, event: dict[str, Any]) -> None:
        """Show an event; one of a wrong shape raises what such a look-up or call raises."""
        if kind == "progress":
            self._move(**event)
        elif kind in ("message", "result"):
            self._feedback.pushInfo(event["text"])
        elif kind == "warning":
            scene = event.get("scene")
            self._feedback.pushWarning(f"{scene}: {event['text']}" if scene else event["text"])
        elif kind == "table":
            self._show_table(event["title"], [event["columns"], *event["rows"]])
        elif kind == "finished":
            lists = {"outputs": list(event["outputs"]), "results": dict(event["results"])}
            self._summary = {**event, **lists}

    def _move(
        self,
        label: str,
        done: float,
        total: float,
        seconds_left: float | None = None,
        note: str = "",
    ) -> None:
        """Move the bar, which never goes back, and say now and then how long it will take."""
        stage = next(
            (ends for start, ends in self._stages.items() if label.startswith(start)), None
        )
        if stage is not None and total > 0:
            first, last = stage
            percent = first + (last - first) * min(done / total, 1)
            self._percent = max(self._percent, percent)
            self._feedback.setProgress(self._percent)
        now = time.monotonic()
        if label == self._label and now - self._told < _TEXT_PAUSE_S:
            return
        self._label, self._told = label, now
        parts = [f"{label}: {done:g} of {total:g}", note]
        if seconds_left is not None and done < total:
            parts.append(f"about {_duration(seconds_left)} left")
        self._feedback.setProgressText(", ".join(part for part in parts if part))

    def _show_table(self, title: str, lines: Sequence[Sequence[str]]) -> None:
        """Show a table; all columns but the first are aligned to the right."""
        widths = [max(map(len, column)) for column in zip(*lines)]
        self._feedback.pushInfo(title)
        for line in lines:
            cells = [
                cell.rjust(width, _BLANK) if place else cell.ljust(width, _BLANK)
                for place, (cell, width) in enumerate(zip(line, widths))
            ]
            self._feedback.pushConsoleInfo((2 * _BLANK).join(cells))


def _duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
