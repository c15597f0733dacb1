"""Networks prepared for one scene: from raw digital numbers to scores, nothing computed twice.

What a prepared network computes is what the plain one does, up to rounding; tests hold each of
these identities in float64:

- Scale, offset, standardisation (and the principal components of a fusion) are affine, and so are
  the first 1x1 convolutions behind them: together one matrix, applied to raw numbers strip by
  strip. No cube of floating-point numbers is ever made.
- Normalisation is an affine per channel once a network is trained. Behind a 1x1 layer it folds
  into the next one; a wider convolution pads with zeros after it, so there it stays.
- The sums of the loop share their parts, and class scores are added up layer by layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hsi_pipeline.models.fusion import FusionNet
from hsi_pipeline.models.hyperloopnet import (
    LAYERS,
    BatchNorm,
    HyperLoopNet,
    only_valid,
)
from hsi_pipeline.models.pooling import window_mean
from hsi_pipeline.models.spectral import SpectralNet

_STRIP_VALUES = 2**20  # digital numbers turned to floating point at once


def prepare(
    model: nn.Module, scale: Tensor, offset: Tensor, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Prepare a network for scenes of some radiometry.

    Args:
        model: A network in evaluation mode, in its dense form; it stays as it is.
        scale: Factor from digital numbers to reflectance (band,).
        offset: Added after scaling (band,).
        dtype: Number type of all layers behind the first; that one computes in float32, or
            float64 if asked for.

    Returns:
        A module of `(raw, valid)`: digital numbers (band, y, x) of any number type, and validity
        bool (y, x) or None if all are valid. It returns scores (class, y, x) in float32 (float64),
        equal to those of the network; where invalid they hold anything finite.
    """
    for kind, made in _KINDS.items():
        if isinstance(model, kind):
            prepared = made(model, _standardised(model, scale, offset))
            return prepared.eval().requires_grad_(False).to_type(dtype)
    return _Plain(model, scale, offset, dtype).eval()


class _Affine:
    """An affine map of digital numbers, before it is a layer: weight @ (raw - center) + bias.

    The centre keeps single precision exact where the numbers differ little from their mean.
    """

    def __init__(self, weight: Tensor, center: Tensor, bias: Tensor) -> None:
        self.weight, self.center, self.bias = weight, center, bias

    def then(self, layer: Any) -> _Affine:
        """Return this map followed by a 1x1 convolution or a linear layer."""
        weight = layer.weight.detach().double().flatten(1)
        bias = layer.bias.detach().double()
        return _Affine(weight @ self.weight, self.center, weight @ self.bias + bias)

    def turned(self, basis: Tensor) -> _Affine:
        """Return the map's components in a basis (component, band)."""
        basis = basis.double()
        return _Affine(basis @ self.weight, self.center, basis @ self.bias)

    def standardised(self, model: Any) -> _Affine:
        """Return the map followed by a network's own standardisation."""
        mean, std = model.band_mean.double(), model.band_std.double()
        return _Affine(self.weight / std[:, None], self.center, (self.bias - mean) / std)


def _standardised(model: Any, scale: Tensor, offset: Tensor) -> _Affine:
    """Return radiometry and standardisation as one map, its centre at the training pixels' mean."""
    scale, offset = scale.double(), offset.double()
    mean = model.band_mean.double()
    center = torch.where(scale != 0, (mean - offset) / scale, 0.0)
    reflectance = _Affine(torch.diag(scale), center, center * scale + offset)
    return reflectance.standardised(model)


class _FirstLayer(nn.Module):
    """Affine maps of raw digital numbers, several at once, strip by strip."""

    center: Tensor

    def __init__(self, maps: Sequence[_Affine]) -> None:
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
        step = max(_STRIP_VALUES // (bands * columns), 1)
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


class _Prepared(nn.Module):
    """What the prepared networks share: a first layer, and the number type behind it."""

    def __init__(self, first: _FirstLayer) -> None:
        super().__init__()
        self.first = first
        self.dtype = torch.float64

    def to_type(self, dtype: torch.dtype) -> nn.Module:
        """Turn the weights to a number type."""
        exact = dtype if dtype == torch.float64 else torch.float32
        self.to(dtype)
        self.first.to(exact)
        self.dtype = dtype
        return self


class _Loops(_Prepared):
    """HyperLoopNet."""

    def __init__(self, model: HyperLoopNet, affine: _Affine) -> None:
        super().__init__(_FirstLayer([affine.then(block.input) for block in model.blocks]))
        self.body = _LoopBody(model)

    def forward(self, raw: Tensor, valid: Tensor | None = None) -> Tensor:
        mask = _mask(valid, self.dtype)
        return self.body(self.first(raw, valid, self.dtype), mask)


class _LoopBody(nn.Module):
    """All of HyperLoopNet behind its first convolutions."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.window = model.window
        self.blocks = nn.ModuleList(_Block(block) for block in model.blocks)
        parts = model.classifier.weight.detach().double().split(model.width, dim=1)
        self.classifier = nn.ParameterList(part.T.clone() for part in parts)
        self.bias = nn.Parameter(model.classifier.bias.detach().double())

    def forward(self, starts: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        exact = torch.promote_types(self.bias.dtype, torch.float32)
        rows, columns = starts[0].shape[2:]
        scores = torch.zeros((rows * columns, len(self.bias)), dtype=exact, device=starts[0].device)
        for b, (block, start) in enumerate(zip(self.blocks, starts, strict=True)):
            for layer, features in enumerate(block(start, mask)):
                weight = self.classifier[b * LAYERS + layer]
                pixels = features.movedim(1, -1).reshape(rows * columns, -1)
                scores += pixels @ weight
        pooled = scores.view(1, rows, columns, -1).movedim(-1, 1)
        wide = None if mask is None else mask.to(exact)
        pooled = window_mean(only_valid(pooled, wide), wide, self.window)
        return (pooled + self.bias[:, None, None])[0]


class _Block(nn.Module):
    """A block of HyperLoopNet (`LoopBlock`) behind its first convolution."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.passes = block.passes
        self.attention = block.attention and _copied(block.attention)
        self.layers = nn.ModuleList(_copied(layer) for layer in block.layers)
        affine = [_affine_of(norm) for norm in block.norms]
        self.scales = nn.ParameterList(scale[:, None, None] for scale, _ in affine)
        self.shifts = nn.ParameterList(shift[:, None, None] for _, shift in affine)

    def forward(self, start: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """Return the four layers' features of the first convolution's result, before its ReLU."""
        total = start.relu_()
        v1 = self._use(0, 0, total, mask)
        total = total.add_(v1)
        v2 = self._use(1, 1, total, mask)
        total = total.add_(v2)
        v3 = self._use(2, 2, total, mask)
        total = total.add_(v3)
        if self.attention is not None:
            total = self.attention(total, mask)
        v4 = self._use(3, 3, total, mask)
        if self.passes == 1:
            return v1, v2, v3, v4
        later = v3 + v4
        v1 = self._use(0, 4, v2.add_(later), mask)
        v2 = self._use(1, 5, later.add_(v1), mask)
        both = v1 + v2
        v3 = self._use(2, 6, v4.add_(both), mask)
        v4 = self._use(3, 7, both.add_(v3), mask)
        return v1, v2, v3, v4

    def _use(self, layer: int, norm: int, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.layers[layer](x).relu_()
        y = torch.addcmul(self.shifts[norm], y, self.scales[norm])
        return y if mask is None else y.mul_(mask)


class _Spectral(_Prepared):
    """SpectralNet."""

    def __init__(self, model: SpectralNet, affine: _Affine) -> None:
        super().__init__(_FirstLayer([affine.then(model.first)]))
        self.body = _SpectralBody(model)

    def forward(self, raw: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.body(self.first(raw, valid, self.dtype)[0])


class _SpectralBody(nn.Module):
    """All of SpectralNet behind its first convolution."""

    def __init__(self, model: SpectralNet) -> None:
        super().__init__()
        self.second = _folded(model.first_norm, model.second)
        self.classifier = _folded(model.second_norm, model.classifier)

    def forward(self, start: Tensor) -> Tensor:
        """Return scores (class, y, x) of the first convolution's result, before its ReLU."""
        pixels = start[0].movedim(0, -1).relu_()
        scores = self.classifier(self.second(pixels).relu_())
        return scores.to(torch.promote_types(scores.dtype, torch.float32)).movedim(-1, 0)


class _Fusion(_Prepared):
    """FusionNet: the first layers of all its parts are behind the same components."""

    def __init__(self, model: Any, affine: _Affine) -> None:
        components = affine.turned(model.basis)
        maps = [components, components.then(model.linear)]
        maps.append(components.standardised(model.spectral).then(model.spectral.first))
        for member in model.members:
            standard = components.standardised(member)
            maps += [standard.then(block.input) for block in member.blocks]
        super().__init__(_FirstLayer(maps))
        self.kernel = _copied(model.kernel)
        self.spectral = _SpectralBody(model.spectral)
        self.members = nn.ModuleList(_LoopBody(member) for member in model.members)
        self.shares = nn.Parameter(model.shares.detach().double())

    def to_type(self, dtype: torch.dtype) -> nn.Module:
        """Turn the weights to a number type; of sums and of small differences not to a half one."""
        super().to_type(dtype)
        self.kernel.to(self.first.center.dtype)
        self.shares.data = self.shares.data.to(self.first.center.dtype)
        return self

    def forward(self, raw: Tensor, valid: Tensor | None = None) -> Tensor:
        mask = _mask(valid, self.dtype)
        components, linear, spectral, *starts = self.first(raw, valid, self.first.center.dtype)
        scores = self.shares[0] * linear[0] + self.shares[1] * self.kernel(components)[0]
        scores += self.shares[2] * self.spectral(spectral.to(self.dtype))
        count = len(starts) // len(self.members)
        for i, member in enumerate(self.members):
            own = [start.to(self.dtype) for start in starts[i * count : (i + 1) * count]]
            scores += self.shares[3] / len(self.members) * member(own, mask)
        return scores


class _Plain(nn.Module):
    """Any other network: reflectance first, then the network as it is."""

    scale: Tensor
    offset: Tensor

    def __init__(self, model: nn.Module, scale: Tensor, offset: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.mixed = dtype == torch.bfloat16
        exact = dtype if dtype == torch.float64 else torch.float32
        self.register_buffer("scale", scale.to(exact)[:, None, None])
        self.register_buffer("offset", offset.to(exact)[:, None, None])

    def forward(self, raw: Tensor, valid: Tensor | None = None) -> Tensor:
        # channels last from the start and changed in place: the window exists once
        x = raw.movedim(0, -1).to(self.scale.dtype, copy=True).contiguous().movedim(-1, 0)
        x.mul_(self.scale).add_(self.offset)
        if valid is not None:
            x.masked_fill_(~valid, 0.0)
        with torch.autocast(raw.device.type, torch.bfloat16, enabled=self.mixed):
            scores = self.model(x[None], None if valid is None else _mask(valid, x.dtype))[0]
        return scores.to(x.dtype)


def _mask(valid: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if valid is None else valid[None, None].to(dtype)


def _affine_of(norm: Any) -> tuple[Tensor, Tensor]:
    """Return what a trained normalisation multiplies by and adds, float64 (channel,)."""
    deviation = (norm.running_var.double() + norm.eps).sqrt()
    scale = norm.weight.detach().double() / deviation
    return scale, norm.bias.detach().double() - norm.running_mean.double() * scale


def _folded(norm: BatchNorm, layer: Any) -> nn.Linear:
    """Return a normalisation and the 1x1 convolution behind it as one layer of (..., channel)."""
    scale, shift = _affine_of(norm)
    weight = layer.weight.detach().double().flatten(1)
    folded = nn.Linear(weight.shape[1], weight.shape[0]).double()
    folded.weight.data = weight * scale
    folded.bias.data = weight @ shift + layer.bias.detach().double()
    return folded


def _copied(module: nn.Module) -> nn.Module:
    """Return a copy in float64, its convolutions' weights channels last."""
    return copy.deepcopy(module).double().to(memory_format=torch.channels_last)


_KINDS: dict[type[nn.Module], Callable[[Any, _Affine], _Prepared]] = {
    HyperLoopNet: _Loops,
    SpectralNet: _Spectral,
    FusionNet: _Fusion,
}
