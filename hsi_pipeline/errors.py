"""What a user can get wrong, said in one or two lines."""

from __future__ import annotations

import difflib
import os
from itertools import islice
from pathlib import Path

_MOST_NAMES = 5000  # of a folder: with more, what is alike takes seconds to find


class InputError(ValueError):
    """A file, option or combination of them that cannot be worked with.

    The message says what was asked, what was found and what to do. The command line prints it
    without a traceback and ends with exit code 2; programs may catch it as a `ValueError`.
    """


class WindowError(InputError):
    """A window of a scene that cannot be read, however often it is tried."""

    def __init__(self, message: str, chunk: tuple[int, int] = (0, 0)) -> None:
        """Say which window; `chunk` is the row and column of its chunk in the class map."""
        super().__init__(message)
        self.chunk = chunk


class SourceChangedError(InputError):
    """A scene that was written to while it was read."""


class TargetError(InputError):
    """A place of results that cannot be read or written."""


def did_you_mean(path: str | os.PathLike[str]) -> str:
    """Return what to add to the message on a file that is not there; "" if nothing is like it.

    Args:
        path: A local path. It is a folder of it that is looked for where that is missing already.
    """
    if "://" in os.fspath(path) or os.fspath(path).startswith("/vsi"):
        return ""
    missing, said = Path(os.path.abspath(path)), Path(path)
    is_folder = False
    while not missing.parent.is_dir():
        if missing == missing.parent:  # a drive that is not there
            return ""
        missing, said, is_folder = missing.parent, said.parent, True
    try:
        with os.scandir(missing.parent) as entries:
            names = [entry.name for entry in islice(entries, _MOST_NAMES)]
    except OSError:
        return ""
    lower = {name.lower(): name for name in names if not name.startswith(".")}
    near = difflib.get_close_matches(missing.name.lower(), lower, n=1, cutoff=0.75)
    found = [f"did you mean {said.parent / lower[near[0]]}?"] if near else []
    parts = [f"there is no folder {said}", *found] if is_folder else found
    return f"; {', '.join(parts)}" if parts else ""
