"""What a reader finds out about a scene file without reading its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from odc.geo.geobox import GeoBox

from hsi_pipeline.wavelengths import Wavelengths

if TYPE_CHECKING:
    from hsi_pipeline.scene.quality import QualityBits


class Pixels(Protocol):
    """A lazy (band, y, x) array over a file.

    Picklable (paths and numbers only), safe in threads, and right in forked workers: no open
    handle may be shared between processes.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(band, y, x)."""

    @property
    def ndim(self) -> int:
        """Always 3."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the digital numbers."""

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """Read a window: unmasked digital numbers (band, y, x); a new or read-only array."""


@dataclass(frozen=True, kw_only=True)
class SceneSource:
    """A scene file, opened: where its pixels are and what they mean."""

    path: str
    """Path or address as the user gave it."""
    pixels: Pixels
    """Digital numbers, lazily."""
    grid: GeoBox
    """Grid of the pixels; without CRS for scenes in pixel coordinates."""
    block: tuple[int, int]
    """Rows and columns that the file stores together (compressed tile, strip or line)."""
    wavelengths: Wavelengths | None
    """Band positions, None where the file does not say."""
    good: tuple[bool, ...]
    """False for bands marked bad."""
    band_names: tuple[str, ...]
    """One name per band."""
    scale: float | tuple[float, ...] = 1.0
    """Factor from digital numbers to reflectance, one or one per band."""
    offset: float | tuple[float, ...] = 0.0
    """Added after scaling."""
    nodata: float | None = None
    """Digital number of invalid pixels."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Free strings and numbers: `scene_id` and, where known, `acquired` (ISO 8601, UTC), `sensor`,
    `level`, `quantity` ("reflectance" or "radiance"), `cloud_share` (0 to 1, as the product says)
    and `advice`, a line for a layout that is slow by nature."""
    quality: QualityBits | None = None
    """Flags of the pixels, where the product has any."""
