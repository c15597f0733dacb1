"""Small products as the agencies deliver them, written from the published descriptions.

Each module here writes one sensor's products; `EXAMPLES` maps a name to a function of a folder that
writes a product there and says what a reader must find in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox


@dataclass(frozen=True, kw_only=True)
class Example:
    """A product, and what is true of it."""

    path: Path
    """What a user gives: folder, archive, metadata or image file."""
    reader: str
    """Name of the reader's module."""
    reflectance: np.ndarray
    """Reflectance or radiance float64 (band, y, x), NaN where there is no data."""
    grid: GeoBox
    """Its grid, worked out here and not by the reader."""
    center_nm: tuple[float, ...]
    """Wavelengths."""
    fwhm_nm: tuple[float, ...]
    """Widths; empty where the product has none."""
    good: tuple[bool, ...] = ()
    """Good bands; empty if all are."""
    attrs: Mapping[str, object] = field(default_factory=dict)
    """What `SceneSource.attrs` must hold at least: sensor, level, acquired ..."""
    flags: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Pixels of each flag that the product has, bool (y, x)."""
    damage: tuple[Path, ...] = ()
    """Files that the fuzzer may damage; empty: `path` itself if it is a file."""


Writer = Callable[[Path], Example]


def spectra_like(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return reflectance (band, y, x) between 0.01 and 0.6, no two pixels or bands alike."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.01, 0.6, shape)
