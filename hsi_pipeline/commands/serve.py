"""A folder of scenes, models and maps as an OGC API - Processes."""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from pathlib import Path

from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError


def serve(
    folder: str | os.PathLike[str],
    *,
    port: int = 5000,
    max_megapixels: float = 100.0,
    jobs: int = 1,
    timeout: float = 6 * 3600.0,
    url: str | None = None,
    terminal: Terminal | None = None,
) -> None:
    """Offer classify and polygonize to programs on this machine, until stopped.

    Args:
        folder: All files that requests may name lie in it.
        port: On 127.0.0.1; 0 takes a free one.
        max_megapixels: Largest scene or map, in million pixels.
        jobs: How many run at once.
        timeout: Longest run of a job, in seconds.
        url: Address by which clients know the server, where a proxy stands before it.
        terminal: Where to report.

    Raises:
        InputError: pygeoapi is not installed; the folder or port cannot be used; a limit is none.
    """
    terminal = terminal or Terminal(quiet=True)
    if find_spec("pygeoapi") is None:
        raise InputError("serve needs pygeoapi; install it: pip install pygeoapi")
    for option, value in (("max-megapixels", max_megapixels), ("timeout", timeout), ("jobs", jobs)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"--{option} {value:g} must be more than 0")
    from hsi_pipeline.server.limits import Limits
    from hsi_pipeline.server.service import serve_folder

    limits = Limits(megapixels=max_megapixels, jobs=jobs, seconds=timeout)
    serve_folder(Path(folder), port, limits, url, terminal.say)
