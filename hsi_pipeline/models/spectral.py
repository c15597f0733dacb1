"""A purely spectral baseline: each pixel by its own spectrum, no neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own name for it
from torch import Tensor, nn

from hsi_pipeline.models.hyperloopnet import BatchNorm


class SpectralNet(nn.Module):
    """Three 1x1 convolutions: a multilayer perceptron on each spectrum."""

    band_mean: Tensor
    band_std: Tensor

    def __init__(self, bands: int, classes: int, *, width: int = 64, dropout: float = 0.0) -> None:
        """Build the network; `dropout` is the share of features hidden in training."""
        super().__init__()
        if width < 1:
            raise ValueError(f"width {width} must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout {dropout} must be at least 0 and below 1")
        self.dropout = dropout
        self.first = nn.Conv2d(bands, width, 1)
        self.first_norm = BatchNorm(width)
        self.second = nn.Conv2d(width, width, 1)
        self.second_norm = BatchNorm(width)
        self.classifier = nn.Conv2d(width, classes, 1)
        self.register_buffer("band_mean", torch.zeros(bands))
        self.register_buffer("band_std", torch.ones(bands))

    @property
    def halo(self) -> int:
        """No context is used."""
        return 0

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Score reflectance (B, bands, H, W); returns (B, classes, H, W) before softmax."""
        x = (x - self.band_mean[:, None, None]) / self.band_std[:, None, None]
        for layer, norm in ((self.first, self.first_norm), (self.second, self.second_norm)):
            x = norm(torch.relu(layer(x)), valid)
            x = F.dropout(x, self.dropout, self.training)
        return self.classifier(x)
