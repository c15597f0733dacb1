"""One run at a time on an archive.

On disk the system's own lock, which it takes back from a process that was killed. In an object
store a small object that its owner writes anew every few seconds: an owner is alive if the object
changes while another run looks at it, whatever the clocks of the two say.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hsi_pipeline.archive.target import Target
from hsi_pipeline.errors import InputError, TargetError
from hsi_pipeline.scene.files import shown

_NAME = ".lock"
BEAT_S = 5.0
"""Between two signs of life in an object store."""
_PATIENCE = 3  # beats without a sign of life after which an owner is dead


@contextmanager
def locked(target: Target) -> Iterator[Callable[[], None]]:
    """Keep other runs from an archive while the block runs.

    Yields:
        A function that raises InputError if the archive was taken over, as may happen to a run
        that was halted or cut off for a while.

    Raises:
        InputError: Another run is at work on it.
    """
    if target.is_local:
        lock = FileLock(Path(target.path(_NAME)), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise _taken(target, "") from error
        except OSError as error:
            raise TargetError(f"{lock.lock_file} cannot be locked ({error}); remove it") from error
        try:
            yield lambda: None
        finally:
            lock.release()
        return
    name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
    _wait_for_end(target)
    if not target.create(_NAME, _sign(name, 0)):
        raise _taken(target, _owner(target))
    end, lost = threading.Event(), threading.Event()
    heart = threading.Thread(target=_beat, args=(target, name, end, lost), daemon=True)
    heart.start()

    def check() -> None:
        if lost.is_set():
            raise _taken(target, _owner(target))

    try:
        yield check
    finally:
        end.set()
        heart.join()
        with suppress(TargetError):  # it dies of itself
            if _owner(target) == name:
                target.remove(_NAME)


def _wait_for_end(target: Target) -> None:
    """Return when nobody gives signs of life, and there is no lock.

    Raises:
        InputError: Somebody does.
    """
    first = target.read(_NAME)
    if first is None:
        return
    for _ in range(_PATIENCE):
        time.sleep(BEAT_S)
        now = target.read(_NAME)
        if now is None:
            return
        if now != first:
            raise _taken(target, _owner(target))
    target.remove(_NAME)


def _beat(target: Target, name: str, end: threading.Event, lost: threading.Event) -> None:
    count = 0
    while not end.wait(BEAT_S):
        count += 1
        with suppress(TargetError):  # the next beat may get through
            if _owner(target) != name:
                lost.set()
                return
            target.write(_NAME, _sign(name, count))


def _sign(name: str, count: int) -> bytes:
    return json.dumps({"owner": name, "beat": count}).encode()


def _owner(target: Target) -> str:
    try:
        return str(json.loads(target.read(_NAME) or b"{}").get("owner", ""))
    except (ValueError, AttributeError):
        return ""


def _taken(target: Target, owner: str) -> InputError:
    by = f" (process {owner.rpartition(':')[0]})" if owner else ""
    return InputError(
        f"another run is at work on {shown(target.root)}{by}; wait for it, or choose another 'out'"
    )
