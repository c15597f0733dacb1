"""The first layer of a prepared network: affine maps of raw digital numbers, made one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_STRIP_VALUES = 2**20  # digital numbers turned to floating point at once, in a processor's cache


class Affine:
    """An affine map of digital numbers, before it is a layer: weight @ (raw - center) + bias.

    The centre keeps single precision exact where the numbers differ little from their mean.
    """

    def __init__(self, weight: Tensor, center: Tensor, bias: Tensor) -> None:
        """Keep the parts: weight (channel, band), center (band,), bias (channel,), float64."""
        self.weight, self.center, self.bias = weight, center, bias

    def then(self, layer: Any) -> Affine:
        """Return this map followed by a 1x1 convolution or a linear layer."""
        weight = layer.weight.detach().double().flatten(1)
        bias = layer.bias.detach().double()
        return Affine(weight @ self.weight, self.center, weight @ self.bias + bias)

    def turned(self, basis: Tensor) -> Affine:
        """Return the map's components in a basis (component, band)."""
        basis = basis.double()
        return Affine(basis @ self.weight, self.center, basis @ self.bias)

    def standardised(self, model: Any) -> Affine:
        """Return the map followed by a network's own standardisation."""
        mean, std = model.band_mean.double(), model.band_std.double()
        return Affine(self.weight / std[:, None], self.center, (self.bias - mean) / std)


def reflectance_map(model: Any, scale: Tensor, offset: Tensor, matrix: Tensor | None) -> Affine:
    """Return radiometry and resampling as one map, its centre at the training pixels' mean."""
    scale, offset = scale.double(), offset.double()
    known = getattr(model, "band_mean", None)  # a classifier of scikit-learn has none
    count = len(scale) if matrix is None else len(matrix)
    mean = torch.zeros(count, dtype=torch.float64) if known is None else known.double()
    if matrix is None:
        center = torch.where(scale != 0, (mean - offset) / scale, 0.0)
        return Affine(torch.diag(scale), center, center * scale + offset)
    weights = matrix.double()
    share = weights.sum(0)
    typical = torch.where(share != 0, (mean @ weights) / share, 0.0)  # of the scene's bands
    center = torch.where(scale != 0, (typical - offset) / scale, 0.0)
    absent = torch.where((weights == 0).all(1), mean, 0.0)
    return Affine(weights * scale, center, weights @ (center * scale + offset) + absent)


class FirstLayer(nn.Module):
    """Affine maps of raw digital numbers, several at once, strip by strip."""

    center: Tensor

    def __init__(self, maps: Sequence[Affine]) -> None:
        """Take maps of the same bands and centre."""
        super().__init__()
        self.register_buffer("center", maps[0].center[:, None])
        self.weights = nn.ParameterList(m.weight.T for m in maps)
        self.biases = nn.ParameterList(m.bias for m in maps)

    def forward(self, raw: Tensor, valid: Tensor | None, dtype: torch.dtype) -> list[Tensor]:
        """Return each map's result (1, channel, y, x), channels last, zero where invalid."""
        bands, rows, columns = raw.shape
        results = [
            torch.empty((rows * columns, len(bias)), dtype=dtype, device=raw.device)
            for bias in self.biases
        ]
        step = max(_STRIP_VALUES // (bands * columns), 1) if raw.device.type == "cpu" else rows
        for top in range(0, rows, step):
            strip = raw[:, top : top + step].reshape(bands, -1).to(self.center.dtype)
            spectra = strip.sub(self.center).T  # pixel, band
            here = slice(top * columns, top * columns + len(spectra))
            for result, weight, bias in zip(results, self.weights, self.biases, strict=True):
                if result.dtype == bias.dtype:
                    torch.addmm(bias, spectra, weight, out=result[here])
                else:
                    result[here] = torch.addmm(bias, spectra, weight)
        if valid is not None:
            for result in results:  # not times zero: raw numbers may be NaN
                result.masked_fill_(~valid.reshape(-1, 1), 0.0)
        return [result.view(1, rows, columns, -1).movedim(-1, 1) for result in results]
