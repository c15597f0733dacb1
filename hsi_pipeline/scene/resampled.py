"""Scenes with other bands: those that a model or a common grid of wavelengths wants."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hsi_pipeline.cube import valid_pixels
from hsi_pipeline.resampling import SpectralOperator
from hsi_pipeline.scene.source import Pixels, SceneSource
from hsi_pipeline.scene.windows import Key, read_key
from hsi_pipeline.wavelengths import Wavelengths


@dataclass(frozen=True, eq=False)
class ResampledPixels:
    """Reflectance float32 in wanted bands, NaN in all of them where invalid; see `Pixels`."""

    pixels: Pixels
    """The scene's digital numbers."""
    nodata: float | None
    """Their nodata value."""
    scale: np.ndarray
    """Factor to reflectance float32 (read band,)."""
    offset: np.ndarray
    """Added after scaling (read band,)."""
    operator: SpectralOperator
    """How the wanted bands are made."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(band, y, x)."""
        _, rows, columns = self.pixels.shape
        return self.operator.count, rows, columns

    @property
    def ndim(self) -> int:
        """Return 3."""
        return 3

    @property
    def dtype(self) -> np.dtype:
        """Return float32."""
        return np.dtype(np.float32)

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a window of reflectance."""
        return read_key(key, self.shape, self.dtype, self._read)

    def _read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        read = self.operator.bands
        first = min(read)
        raw = self.pixels[first : max(read) + 1, rows, columns]
        if len(read) < len(raw) or read != tuple(range(first, first + len(raw))):
            raw = raw[[band - first for band in read]]
        valid = valid_pixels(raw, self.nodata)
        reflectance = raw.astype(np.float32) * self.scale[:, None, None]
        reflectance += self.offset[:, None, None]
        reflectance[:, ~valid] = 0  # what is invalid may be infinite
        window = self.operator.apply(reflectance)
        window[:, ~valid] = np.nan
        return window if bands == list(range(len(window))) else window[bands]


def resampled(
    source: SceneSource, wanted: Wavelengths | None, operator: SpectralOperator
) -> SceneSource:
    """Return a scene with wanted bands, lazily.

    Args:
        source: The scene.
        wanted: What the operator makes; None where nobody knows the wavelengths.
        operator: How, from `resampling.resample`.

    Returns:
        The scene in float32 reflectance, NaN where a band that is read is nodata.
    """
    read = list(operator.bands)
    scale, offset = (
        np.broadcast_to(np.asarray(values, np.float32), source.pixels.shape[:1])[read]
        for values in (source.scale, source.offset)
    )
    names = (
        tuple(f"{center:.2f} nm" for center in wanted.center_nm)
        if wanted
        else tuple(source.band_names[band] for band in read)
    )
    return replace(
        source,
        pixels=ResampledPixels(source.pixels, source.nodata, scale, offset, operator),
        wavelengths=wanted,
        good=(True,) * operator.count,
        band_names=names,
        scale=1.0,
        offset=0.0,
        nodata=float("nan"),
    )
