"""Means and maxima over valid pixels: of a window around each pixel, or of the whole input."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own name for it
from torch import Tensor


def window_mean(x: Tensor, valid: Tensor | None, window: int | None) -> Tensor:
    """Average over the valid pixels of a window around each pixel.

    Args:
        x: Features (B, C, H, W), zero where invalid.
        valid: 1 or 0 for each pixel (B, 1, H, W); None: all are valid.
        window: Odd side of the window in pixels, or None for the whole input.

    Returns:
        (B, C, H, W), or (B, C, 1, 1) for the whole input. Zero where a window has no valid pixel.
    """
    if window == 1:
        return x
    if window is None:
        if valid is None:
            return x.mean(dim=(2, 3), keepdim=True)
        count = valid.sum(dim=(2, 3), keepdim=True)
        return x.sum(dim=(2, 3), keepdim=True) / count.clamp(min=1)
    if valid is None:  # the array's border cuts windows too
        valid = torch.ones_like(x[:1, :1])
    return _window_sum(x, window) / _window_sum(valid, window).clamp(min=1)


def window_max(x: Tensor, valid: Tensor | None, window: int | None) -> Tensor:
    """Take the maximum over the valid pixels of a window around each pixel.

    Args and returns: as `window_mean`.
    """
    if window == 1:
        return x
    if valid is not None:
        # not masked_fill, which gives up channels-last, in which pooling is many times faster
        x = torch.where(valid > 0, x, -torch.inf)
    if window is None:
        peak = x.amax(dim=(2, 3), keepdim=True)
    else:
        peak = _over_windows(x, window, torch.maximum, -torch.inf)
    return peak if valid is None else peak.masked_fill(peak == -torch.inf, 0.0)


def _window_sum(x: Tensor, window: int) -> Tensor:
    """Sum over windows; half precision would lose what many additions round away."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return _over_windows(wide, window, torch.add, 0.0).to(x.dtype)


def _over_windows(
    x: Tensor, window: int, combine: Callable[[Tensor, Tensor], Tensor], outside: float
) -> Tensor:
    """Combine the pixels of a window around each pixel, columns then rows.

    Each result is put together from stretches of 1, 2, 4, 8 ... pixels, which neighbours share: a
    window of 11 costs five combinations instead of ten, and twice as fast as PyTorch's pooling. The
    order of the combinations does not depend on where a tile lies, so neither does rounding.
    """
    half = window // 2
    for axis, padding in ((2, (0, 0, half, half)), (3, (half, half, 0, 0))):
        stretch, size = F.pad(x, padding, value=outside), x.shape[axis]
        parts, start, length = [], 0, 1
        while True:
            if window & length:
                parts.append(stretch.narrow(axis, start, size))
                start += length
            if start == window:
                break
            longer = stretch.shape[axis] - length
            stretch = combine(stretch.narrow(axis, 0, longer), stretch.narrow(axis, length, longer))
            length *= 2
        x = reduce(combine, parts)
    return x
