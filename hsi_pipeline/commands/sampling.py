"""A few windows of a scene, to know what its values are like."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hsi_pipeline.cube import WindowReader, scale_offset, valid_pixels

_SAMPLES = 16  # windows that quick statistics read
_SIDE = 64


def sample_reflectance(cube: xr.DataArray, windows: int = _SAMPLES) -> tuple[np.ndarray, float]:
    """Return reflectance (band, pixel) of valid pixels in windows over the scene, and their share.

    Bands marked bad may be nodata everywhere and do not make a pixel invalid.
    """
    good = np.flatnonzero(cube["good"].values)
    good = good if good.size else np.arange(cube.sizes["band"])
    reader = WindowReader(cube.data, tuple(range(cube.sizes["band"])))
    scale, offset = scale_offset(cube)
    per_axis = round(windows**0.5)
    found, seen, valid_count = [], 0, 0
    for row in _spread(cube.sizes["y"], per_axis):
        for column in _spread(cube.sizes["x"], per_axis):
            raw = reader(slice(row, row + _SIDE), slice(column, column + _SIDE))
            valid = valid_pixels(raw[good], cube.attrs["nodata"])
            seen += valid.size
            valid_count += int(valid.sum())
            found.append(raw[:, valid] * scale[:, None] + offset[:, None])
    return np.concatenate(found, axis=1), valid_count / seen


def _spread(size: int, count: int) -> list[int]:
    """Return up to `count` distinct window starts that do not overlap more than they must."""
    last = max(size - _SIDE, 0)
    return sorted(
        {round(i * last / max(count - 1, 1)) for i in range(min(count, 1 + last // _SIDE + 1))}
    )
