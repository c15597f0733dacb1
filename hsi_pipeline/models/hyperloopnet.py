"""HyperLoopNet: multiscale self-looping convolutions with hybrid attention.

Source: Pande & Banerjee, HyperLoopNet, ISPRS J. Photogramm. Remote Sens. 183:422-438, 2022.

One class, two forms. The patch form (`window=None`) is the published network: it labels the
centre of a small patch and pools over all of it. The dense form labels every pixel of a tile at
once and pools over a window around each pixel, so that a result depends on `halo` pixels of
context and on nothing else: a scene may be cut anywhere.

Invalid pixels (outside the scene, nodata) are zero after every layer, which is what zero padding
makes of pixels outside the array. So a nodata pixel and the world beyond the scene's edge are the
same thing to the network, and padding a scene with nodata changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own name for it
from torch import Tensor, nn

from hsi_pipeline.models.attention import HybridAttention
from hsi_pipeline.models.pooling import window_mean

LAYERS = 4
USES = 2  # each convolution is used twice: that is the loop


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics leave invalid pixels out.

    Epsilon and momentum are those of the published program (Keras's 0.001 and 0.99).
    """

    def __init__(self, channels: int) -> None:
        """Set the published constants."""
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise (B, C, H, W); `valid` (B, 1, H, W) or None for all."""
        if valid is None or not self.training:
            return super().forward(x)
        x = only_valid(x, valid)
        # Moments over all pixels by PyTorch's own kernel, then set right for those that are zero
        # only because they are invalid: that is several times faster than masked sums.
        count = valid.sum()
        share = (count / valid.numel()).clamp(min=1 / valid.numel())
        x_full = x.to(self.weight.dtype)  # moments need more than half precision
        variance, mean = torch.var_mean(x_full, dim=(0, 2, 3), correction=0)
        square = (variance + mean.square()) / share
        mean = mean / share
        variance = (square - mean.square()).clamp(min=0)
        with torch.no_grad():
            # A batch without a valid pixel teaches nothing.
            momentum = float(self.momentum or 0.0) * (count > 0).to(mean.dtype)
            unbiased = variance * (count / (count - 1).clamp(min=1))  # as PyTorch's own keeps
            self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(unbiased, momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class LoopBlock(nn.Module):
    """Four convolutions of one kernel size, each used twice with the same weights.

    In the second pass every layer sees what all others made: the self-loop.
    """

    def __init__(
        self,
        bands: int,
        width: int,
        kernel: int,
        attention: HybridAttention | None,
        dropout: float = 0.0,
        passes: int = USES,
    ) -> None:
        """Build the layers for an odd kernel size."""
        super().__init__()
        self.dropout = dropout
        self.passes = passes
        self.input = nn.Conv2d(bands, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2) for _ in range(LAYERS)
        )
        self.norms = nn.ModuleList(BatchNorm(width) for _ in range(LAYERS * passes))
        self.attention = attention

    def forward(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the four layers' features, each (B, width, H, W), of input (B, bands, H, W)."""
        s = only_valid(torch.relu(self.input(x)), valid)  # B, width, H, W
        total = s
        v1 = self._use(0, 0, total, valid)
        total = total + v1
        v2 = self._use(1, 1, total, valid)
        total = total + v2
        v3 = self._use(2, 2, total, valid)
        total = total + v3
        if self.attention is not None:
            total = self.attention(total, valid)
        v4 = self._use(3, 3, total, valid)
        if self.passes == 1:
            return v1, v2, v3, v4
        v1 = self._use(0, 4, v2 + v3 + v4, valid)
        v2 = self._use(1, 5, v1 + v3 + v4, valid)
        v3 = self._use(2, 6, v1 + v2 + v4, valid)
        v4 = self._use(3, 7, v1 + v2 + v3, valid)
        return v1, v2, v3, v4

    def _use(self, layer: int, norm: int, x: Tensor, valid: Tensor | None) -> Tensor:
        """Apply one convolution, ReLU and the normalisation of this use, in that order."""
        y = torch.relu(self.layers[layer](x))
        y = F.dropout(self.norms[norm](y, valid), self.dropout, self.training)
        return only_valid(y, valid)


class HyperLoopNet(nn.Module):
    """Scores of each class, for every pixel of a tile or for one patch.

    Input is reflectance; the mean and standard deviation of the training pixels are buffers, so
    that training and use cannot disagree about them.
    """

    band_mean: Tensor
    band_std: Tensor

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        width: int = 32,
        kernels: Sequence[int] = (3, 5, 7),
        attention: bool = True,
        gate: str = "sigmoid",
        window: int | None = 11,
        dropout: float = 0.0,
        passes: int = USES,
    ) -> None:
        """Build the network.

        Args:
            bands: Input bands.
            classes: Output classes.
            width: Channels inside the blocks.
            kernels: Odd kernel size of each block; the blocks work side by side.
            attention: Whether hybrid attention stands before the last layer of the first pass.
            gate: Gate of the attention, "sigmoid", or "relu" as published.
            window: Odd side in pixels of the pooling window; None pools over the whole input
                (the patch form).
            dropout: Share of every layer's features hidden in training; 0 as published.
            passes: 2 as published; 1 leaves out the pass in which every layer sees all others.

        Raises:
            ValueError: A size is even or too small, the dropout is not a share, or the gate is
                not known.
        """
        super().__init__()
        sizes = [*kernels, *([window] if window is not None else [])]
        if width < 2:
            raise ValueError(f"width {width} must be at least 2")
        if not kernels or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(f"kernels {tuple(kernels)} and window {window} must be odd")
        if passes not in (1, USES):
            raise ValueError(f"passes {passes} must be 1 or {USES}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout {dropout} must be at least 0 and below 1")
        self.window = window
        self.width = width
        self.kernels = tuple(kernels)
        self.passes = passes
        self.blocks = nn.ModuleList(
            LoopBlock(
                bands,
                width,
                kernel,
                HybridAttention(width, window=window, gate=gate) if attention else None,
                dropout,
                passes,
            )
            for kernel in kernels
        )
        self.classifier = nn.Linear(len(self.kernels) * LAYERS * width, classes)
        self.register_buffer("band_mean", torch.zeros(bands))
        self.register_buffer("band_std", torch.ones(bands))

    @property
    def halo(self) -> int:
        """Pixels of context on each side that make a window's scores exact."""
        loop = LAYERS * self.passes * (max(self.kernels) // 2)
        attention = self.blocks[0].attention
        reach = attention.reach if isinstance(attention, HybridAttention) else 0
        return loop + reach + (self.window or 1) // 2

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Score reflectance spectra.

        Args:
            x: Reflectance (B, bands, H, W); invalid pixels may hold anything finite.
            valid: 1 or 0 for each pixel (B, 1, H, W); None if all are valid.

        Returns:
            Scores before softmax: (B, classes, H, W), or (B, classes) in the patch form.
        """
        if self.window is None:
            return self.classifier(self.features(x, valid))
        x = self._standardise(x, valid)
        scores = x.new_zeros(())
        weights = self.classifier.weight.split(self.width, dim=1)  # one part for each layer
        for b, block in enumerate(self.blocks):
            for layer, features in enumerate(block(x, valid)):
                weight = weights[b * LAYERS + layer][:, :, None, None]
                scores = scores + F.conv2d(features, weight)  # B, classes, H, W
        # Mean pooling and the linear classifier commute: pooling class scores instead of the
        # features costs a fiftieth.
        pooled = window_mean(only_valid(scores, valid), valid, self.window)
        return pooled + self.classifier.bias[:, None, None]

    def features(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return what enters the classifier, averaged over the whole input.

        Args:
            x: Reflectance (B, bands, H, W).
            valid: As for `forward`.

        Returns:
            (B, blocks * 4 * width): block by block, in each the four layers.
        """
        x = self._standardise(x, valid)
        pooled = [
            window_mean(features, valid, None).flatten(1)
            for block in self.blocks
            for features in block(x, valid)
        ]
        return torch.cat(pooled, 1)

    def _standardise(self, x: Tensor, valid: Tensor | None) -> Tensor:
        mean, std = self.band_mean[:, None, None], self.band_std[:, None, None]
        return only_valid((x - mean).div_(std), valid)


def only_valid(x: Tensor, valid: Tensor | None) -> Tensor:
    """Set invalid pixels to zero; the number type stays, which matters in mixed precision."""
    return x if valid is None else x * valid.to(x.dtype)
