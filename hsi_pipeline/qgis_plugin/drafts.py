"""What a command that was killed leaves beside its target."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterable

# Hidden, as what a target is until it is complete. Not among them: what lets `classify` go on.
_PATTERNS = (".{name}.partial-*", ".{name}.minimum-area-*")


def remove_drafts(targets: Iterable[str], since: float) -> None:
    """Remove drafts of files.

    Args:
        targets: The files.
        since: Time in seconds; older drafts are of another run, which may be at work.
    """
    for target in targets:
        folder, name = map(glob.escape, os.path.split(os.path.abspath(target)))
        for pattern in _PATTERNS:
            for draft in glob.glob(os.path.join(folder, pattern.format(name=name))):
                with contextlib.suppress(OSError):
                    if os.stat(draft).st_mtime >= since:
                        (shutil.rmtree if os.path.isdir(draft) else os.unlink)(draft)
