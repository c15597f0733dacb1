"""Means and maxima over valid pixels: of a window around each pixel, or of the whole input."""

from __future__ import annotations

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
        half = window // 2
        peak = F.max_pool2d(x, (window, 1), stride=1, padding=(half, 0))
        peak = F.max_pool2d(peak, (1, window), stride=1, padding=(0, half))
    return peak if valid is None else peak.masked_fill(peak == -torch.inf, 0.0)


def _window_sum(x: Tensor, window: int) -> Tensor:
    """Sum over windows, rows then columns: two passes of `window` instead of its square."""
    half = window // 2
    rows = F.avg_pool2d(x, (window, 1), stride=1, padding=(half, 0), divisor_override=1)
    return F.avg_pool2d(rows, (1, window), stride=1, padding=(0, half), divisor_override=1)
