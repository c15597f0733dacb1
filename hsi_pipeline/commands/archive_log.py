"""What happens in a run, one JSON object a line."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hsi_pipeline.archive.target import Target
from hsi_pipeline.errors import TargetError


class RunLog:
    """A log file of a run, in the folder `logs` of its archive.

    Each line has `time` (UTC, as this machine's clock has it), `since_start` in seconds, which no
    change of clocks disturbs, and `event`.
    """

    def __init__(self, target: Target) -> None:
        """Begin a log; where the archive is at an address, on this machine until it is closed."""
        now = datetime.now(UTC)
        self._name = f"logs/{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.jsonl"
        self._target = target
        self._lock = threading.Lock()
        self._started = time.monotonic()
        if target.is_local:
            self.path = target.path(self._name)
            try:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
            except OSError as error:
                raise TargetError(f"{self.path} cannot be written ({error})") from error
        else:
            self.path = os.path.join(tempfile.gettempdir(), os.path.basename(self._name))
        self._file = open(self.path, "w", encoding="utf-8")  # noqa: SIM115

    def write(self, event: str, **fields: Any) -> None:
        """Write a line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        since = round(time.monotonic() - self._started, 3)
        line = json.dumps({"time": now, "since_start": since, "event": event} | fields, default=str)
        with self._lock:
            if not self._file.closed:
                self._file.write(line + "\n")
                self._file.flush()

    def close(self) -> None:
        """End the log, and bring it to the archive."""
        with self._lock:
            self._file.close()
        if not self._target.is_local:
            self._target.put(Path(self.path), self._name)
            os.unlink(self.path)
