"""How much requests may ask for."""

from __future__ import annotations

from dataclasses import dataclass

MOST_BODY_BYTES = 64 * 1024
"""Of a request; an execute request has a dozen short values."""
MOST_LETTERS = 500
"""Of a path in a request."""
MOST_PART_BYTES = 200
"""Of one name in a path: file systems take 255, and names of layers and drafts are longer."""


@dataclass(frozen=True)
class Limits:
    """Limits of one server."""

    megapixels: float = 100.0
    """Largest scene or map, in million pixels."""
    jobs: int = 1
    """Jobs that run at once."""
    waiting: int = 8
    """Jobs that wait for others to end; further ones are refused."""
    seconds: float = 6 * 3600.0
    """Longest run of a job."""
    kept: int = 100
    """Finished jobs that are remembered."""
