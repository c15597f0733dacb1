"""Several scenes as one, far enough apart that a network sees no more than one of them.

To a network nodata and the world beyond a scene are the same thing. So scenes with nodata between
them, at least as wide as its reach, are one scene to learn from, whatever their grids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.scene.source import Pixels, SceneSource
from hsi_pipeline.scene.windows import Key, read_key


@dataclass(frozen=True, eq=False)
class StackedPixels:
    """Scenes of the same bands, one below the other, NaN between and beside; see `Pixels`."""

    parts: tuple[Pixels, ...]
    """Float pixels of each scene, (band, y, x)."""
    tops: tuple[int, ...]
    """First row of each."""
    shape: tuple[int, int, int]
    """(band, y, x) of all."""

    @property
    def ndim(self) -> int:
        """Return 3."""
        return 3

    @property
    def dtype(self) -> np.dtype:
        """Return float32."""
        return np.dtype(np.float32)

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a window."""
        return read_key(key, self.shape, self.dtype, self._read)

    def _read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        size = len(bands), rows.stop - rows.start, columns.stop - columns.start
        window = np.full(size, np.nan, np.float32)
        low = min(bands)
        for part, top in zip(self.parts, self.tops, strict=True):
            _, height, width = part.shape
            r = slice(max(rows.start, top), min(rows.stop, top + height))
            c = slice(columns.start, min(columns.stop, width))
            if r.start < r.stop and c.start < c.stop:
                block = part[low : max(bands) + 1, r.start - top : r.stop - top, c]
                place = slice(r.start - rows.start, r.stop - rows.start)
                window[:, place, : c.stop - c.start] = block[[band - low for band in bands]]
        return window


def stacked(sources: Sequence[SceneSource], gap: int) -> tuple[SceneSource, tuple[int, ...]]:
    """Return scenes as one, in pixel coordinates.

    Args:
        sources: Scenes with the same bands, from `resampled`.
        gap: Rows of nodata between them, at least the reach of the network.

    Returns:
        The scene, and the row at which each begins.
    """
    heights = [source.pixels.shape[1] for source in sources]
    tops = tuple(accumulate((height + gap for height in heights[:-1]), initial=0))
    width = max(source.pixels.shape[2] for source in sources)
    first = sources[0]
    shape = first.pixels.shape[0], tops[-1] + heights[-1], width
    pixels = StackedPixels(tuple(source.pixels for source in sources), tops, shape)
    joined = SceneSource(
        path=first.path,
        pixels=pixels,
        grid=pixel_grid(*shape[1:]),
        block=(1, width),  # blocks are kept below, scene by scene
        wavelengths=first.wavelengths,
        good=first.good,
        band_names=first.band_names,
        nodata=float("nan"),
        attrs={"scene_id": ", ".join(str(source.attrs["scene_id"]) for source in sources)},
    )
    return joined, tops


def stack_rasters(
    rasters: Sequence[np.ndarray], tops: Sequence[int], shape: tuple[int, int]
) -> np.ndarray:
    """Place rasters (y, x) of each scene where `stacked` puts the scene; zero elsewhere."""
    joined: Any = np.zeros(shape, rasters[0].dtype)
    for raster, top in zip(rasters, tops, strict=True):
        joined[top : top + raster.shape[0], : raster.shape[1]] = raster
    return joined
