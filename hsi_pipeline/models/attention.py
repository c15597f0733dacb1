"""Hybrid attention: which channels matter, then where, in CBAM's order.

Source: Woo et al., CBAM, ECCV 2018, doi 10.1007/978-3-030-01234-2_1. As in the published
hybrid-attention HyperLoopNet, maximum and mean have a 1x1 convolution each and share the layer
after it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hsi_pipeline.models.pooling import window_max, window_mean

GATES = {"sigmoid": torch.sigmoid, "relu": torch.relu}
SPATIAL_KERNEL = 7


class HybridAttention(nn.Module):
    """Channel attention over a window, then spatial attention.

    The published program gates with ReLU, which is zero at about half of all positions at the
    start and everywhere in some initialisations; sigmoid has no such failure.
    """

    def __init__(self, channels: int, *, window: int | None, gate: str) -> None:
        """Build the layers.

        Args:
            channels: Channels of the features.
            window: Odd side in pixels of the window that channel attention looks at, or None
                for the whole input.
            gate: "sigmoid", or "relu" as published.
        """
        super().__init__()
        if gate not in GATES:
            raise ValueError(f"gate {gate!r} is not one of {', '.join(GATES)}")
        self.window = window
        self.gate = gate
        self.channel_max = nn.Conv2d(channels, channels // 2, 1)
        self.channel_mean = nn.Conv2d(channels, channels // 2, 1)
        self.channel_shared = nn.Conv2d(channels // 2, channels, 1)
        self.spatial = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2)

    @property
    def reach(self) -> int:
        """Pixels on each side that a result depends on."""
        return (self.window or 1) // 2 + SPATIAL_KERNEL // 2

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Weigh features (B, C, H, W), zero where invalid; the shape stays."""
        gate = GATES[self.gate]
        peak = torch.relu(self.channel_max(window_max(x, valid, self.window)))
        mean = torch.relu(self.channel_mean(window_mean(x, valid, self.window)))
        peak, mean = self.channel_shared(peak), self.channel_shared(mean)
        if self.gate == "relu":  # the published program has a ReLU on each, CBAM has none
            peak, mean = torch.relu(peak), torch.relu(mean)
        x = x * gate(peak + mean)
        where = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)  # B, 2, H, W
        return x * gate(self.spatial(where))
