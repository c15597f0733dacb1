"""Networks prepared for one scene: from raw digital numbers to scores, nothing computed twice.

What a prepared network computes is what the plain one does, up to rounding; tests hold each of
these identities in float64:

- Scale, offset, standardisation (and the principal components of a fusion) are affine, and so are
  the first 1x1 convolutions behind them: together one matrix, applied to raw numbers strip by
  strip. No cube of floating-point numbers is ever made.
- Normalisation is an affine per channel once a network is trained. Behind a 1x1 layer it folds
  into the next one; a wider convolution pads with zeros after it, so there it stays.
- The sums of the loop share their parts, and class scores are added up layer by layer.
- Where a window is cut out of a scene that goes on, each layer leaves out the context that no later
  one looks at.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own name for it
from torch import Tensor, nn

from hsi_pipeline.models.attention import GATES, HybridAttention
from hsi_pipeline.models.first_layer import Affine, FirstLayer, reflectance_map
from hsi_pipeline.models.fusion import FusionNet
from hsi_pipeline.models.hyperloopnet import (
    LAYERS,
    BatchNorm,
    HyperLoopNet,
    only_valid,
)
from hsi_pipeline.models.pooling import window_max, window_mean
from hsi_pipeline.models.spectral import SpectralNet


class Sides(NamedTuple):
    """Sides of a window where it is cut out of a scene that goes on."""

    top: bool = False
    bottom: bool = False
    left: bool = False
    right: bool = False

    def crop(self, x: Tensor, pixels: int) -> Tensor:
        """Take pixels off (..., y, x), so many at each side that is cut."""
        down, across = pixels * (self.top + self.bottom), pixels * (self.left + self.right)
        return self.fit(x, (x.shape[-2] - down, x.shape[-1] - across))

    def fit(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Take pixels off (..., y, x), as many at each side that is cut, until it has a size."""
        for axis, first, last in ((-2, self.top, self.bottom), (-1, self.left, self.right)):
            surplus = x.shape[axis] - size[axis]
            x = x.narrow(axis, surplus * first // max(first + last, 1), size[axis])
        return x

    def conv(self, layer: Any, x: Tensor) -> Tensor:
        """Convolve (B, C, y, x) with zeros outside; what looks past a cut is left out."""
        reach = layer.kernel_size[0] // 2
        # along an axis that is cut at both ends nothing is computed only to be cropped
        padding = [
            0 if first and last else reach
            for first, last in ((self.top, self.bottom), (self.left, self.right))
        ]
        y = F.conv2d(x, layer.weight, layer.bias, padding=padding)
        sides = ((self.top, self.bottom), (self.left, self.right))
        size = [x.shape[axis - 2] - reach * sum(side) for axis, side in enumerate(sides)]
        return self.fit(y, size)


_WHOLE = Sides()
_EXACT = ("first", "kernel")  # parts of a network that half precision would spoil


def prepare(
    model: nn.Module,
    scale: Tensor,
    offset: Tensor,
    dtype: torch.dtype = torch.float32,
    *,
    matrix: Tensor | None = None,
) -> nn.Module:
    """Prepare a network for scenes of some radiometry.

    Args:
        model: A network in evaluation mode, in its dense form; it stays as it is.
        scale: Factor from digital numbers to reflectance (band,).
        offset: Added after scaling (band,).
        dtype: Number type of all layers behind the first; that one computes in float32, or
            float64 if asked for.
        matrix: Weights (model band, band) that make the network's bands of the scene's
            reflectance; a band whose weights are all zero gets the mean of the training pixels.
            None: the scene's bands are the network's.

    Returns:
        A module of `(raw, valid, cut)`: digital numbers (band, y, x) of any number type; validity
        bool (y, x) or None if all are valid; and the sides where the scene goes on beyond the
        window, none by default. It returns scores (class, y, x) in float32 (float64), equal to
        those of the network, without the halo at the sides that are cut; where invalid they hold
        anything finite.
    """
    for kind, made in _KINDS.items():
        if isinstance(model, kind):
            reflectance = reflectance_map(model, scale, offset, matrix)
            prepared = made(model, reflectance.standardised(model))
            return prepared.eval().requires_grad_(False).to_type(dtype)
    plain = None if matrix is None else reflectance_map(model, scale, offset, matrix)
    return _Plain(model, scale, offset, dtype, plain).eval()


class _Prepared(nn.Module):
    """What the prepared networks share: a first layer, and the number type behind it."""

    def __init__(self, first: FirstLayer) -> None:
        super().__init__()
        self.first = first
        self.dtype = torch.float64

    def to_type(self, dtype: torch.dtype) -> nn.Module:
        """Turn the weights to a number type; those of sums and small differences to no half one."""
        exact = dtype if dtype == torch.float64 else torch.float32
        for name, child in self.named_children():
            child.to(exact if name in _EXACT else dtype)
        for own in self.parameters(recurse=False):
            own.data = own.data.to(exact)
        self.dtype = dtype
        return self


class _Loops(_Prepared):
    """HyperLoopNet."""

    def __init__(self, model: HyperLoopNet, affine: Affine) -> None:
        super().__init__(FirstLayer([affine.then(block.input) for block in model.blocks]))
        self.body = _LoopBody(model)

    def forward(self, raw: Tensor, valid: Tensor | None = None, cut: Sides = _WHOLE) -> Tensor:
        mask = _mask(valid, self.dtype)
        return self.body(self.first(raw, valid, self.dtype), mask, cut)


class _LoopBody(nn.Module):
    """All of HyperLoopNet behind its first convolutions."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.window = model.window
        self.halo = model.halo
        self.blocks = nn.ModuleList(_Block(block) for block in model.blocks)
        parts = model.classifier.weight.detach().double().split(model.width, dim=1)
        self.classifier = nn.ParameterList(part.T.clone() for part in parts)
        self.bias = nn.Parameter(model.classifier.bias.detach().double())

    def forward(self, starts: Sequence[Tensor], mask: Tensor | None, cut: Sides) -> Tensor:
        """Return scores (class, y, x) of the first convolutions' results, without the halo."""
        exact = torch.promote_types(self.bias.dtype, torch.float32)
        reach = self.window // 2
        size = cut.crop(starts[0], self.halo - reach).shape[2:]
        scores = torch.zeros((*size, len(self.bias)), dtype=exact, device=starts[0].device)
        scores = scores.movedim(-1, 0)
        for b, (block, start) in enumerate(zip(self.blocks, starts, strict=True)):
            start = cut.crop(start, self.halo - reach - block.halo)
            for layer, features in enumerate(block(start, mask, cut)):
                pixels = features[0].movedim(0, -1)
                part = (pixels @ self.classifier[b * LAYERS + layer]).movedim(-1, 0)
                scores += cut.fit(part, size)
        wide = None if mask is None else cut.fit(mask, size).to(exact)
        pooled = window_mean(only_valid(scores[None], wide), wide, self.window)
        return (cut.crop(pooled, reach) + self.bias[:, None, None])[0]


class _Block(nn.Module):
    """A block of HyperLoopNet (`LoopBlock`) behind its first convolution."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.passes = block.passes
        self.attention = block.attention and _Attention(block.attention)
        self.layers = nn.ModuleList(_copied(layer) for layer in block.layers)
        reach = block.layers[0].kernel_size[0] // 2
        self.halo = LAYERS * self.passes * reach + (block.attention.reach if block.attention else 0)
        affine = [_affine_of(norm) for norm in block.norms]
        self.scales = nn.ParameterList(scale[:, None, None] for scale, _ in affine)
        self.shifts = nn.ParameterList(shift[:, None, None] for _, shift in affine)

    def forward(self, start: Tensor, mask: Tensor | None, cut: Sides) -> tuple[Tensor, ...]:
        """Return the four layers' features of the first convolution's result, before its ReLU.

        Each is as large as its context allows. A sum has the size of its first part.
        """

        def use(layer: int, norm: int, x: Tensor) -> Tensor:
            y = cut.conv(self.layers[layer], x).relu_()
            y = torch.addcmul(self.shifts[norm], y, self.scales[norm])
            return y if mask is None else y.mul_(cut.fit(mask, y.shape[2:]))

        def plus(x: Tensor, larger: Tensor) -> Tensor:
            return x + cut.fit(larger, x.shape[2:])

        total = start.relu_()
        v1 = use(0, 0, total)
        total = plus(v1, total)
        v2 = use(1, 1, total)
        total = plus(v2, total)
        v3 = use(2, 2, total)
        total = plus(v3, total)
        if self.attention is not None:
            total = self.attention(total, mask, cut)
        v4 = use(3, 3, total)
        if self.passes == 1:
            return v1, v2, v3, v4
        later = plus(v4, v3)
        v1 = use(0, 4, plus(later, v2))
        v2 = use(1, 5, plus(v1, later))
        both = plus(v2, v1)
        v3 = use(2, 6, plus(both, v4))
        v4 = use(3, 7, plus(v3, both))
        return v1, v2, v3, v4


class _Attention(nn.Module):
    """`HybridAttention`, without what looks past a cut."""

    def __init__(self, model: HybridAttention) -> None:
        super().__init__()
        self.model = _copied(model)
        self.reach = (model.window or 1) // 2
        self.gate = GATES[model.gate]

    def forward(self, x: Tensor, mask: Tensor | None, cut: Sides) -> Tensor:
        model: Any = self.model
        mask = None if mask is None else cut.fit(mask, x.shape[2:])
        peak = cut.crop(window_max(x, mask, model.window), self.reach)
        mean = cut.crop(window_mean(x, mask, model.window), self.reach)
        peak = model.channel_shared(torch.relu(model.channel_max(peak)))
        mean = model.channel_shared(torch.relu(model.channel_mean(mean)))
        if model.gate == "relu":
            peak, mean = torch.relu(peak), torch.relu(mean)
        x = cut.crop(x, self.reach) * self.gate(peak + mean)
        where = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        where = self.gate(cut.conv(model.spatial, where))
        return cut.fit(x, where.shape[2:]) * where


class _Spectral(_Prepared):
    """SpectralNet."""

    def __init__(self, model: SpectralNet, affine: Affine) -> None:
        super().__init__(FirstLayer([affine.then(model.first)]))
        self.body = _SpectralBody(model)

    def forward(self, raw: Tensor, valid: Tensor | None = None, cut: Sides = _WHOLE) -> Tensor:
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

    def __init__(self, model: Any, affine: Affine) -> None:
        components = affine.turned(model.basis)
        maps = [components, components.then(model.linear)]
        maps.append(components.standardised(model.spectral).then(model.spectral.first))
        for member in model.members:
            standard = components.standardised(member)
            maps += [standard.then(block.input) for block in member.blocks]
        super().__init__(FirstLayer(maps))
        self.kernel = _copied(model.kernel)
        self.spectral = _SpectralBody(model.spectral)
        self.members = nn.ModuleList(_LoopBody(member) for member in model.members)
        self.halo = model.halo
        self.shares = nn.Parameter(model.shares.detach().double())

    def forward(self, raw: Tensor, valid: Tensor | None = None, cut: Sides = _WHOLE) -> Tensor:
        mask = _mask(valid, self.dtype)
        maps = self.first(raw, valid, self.first.center.dtype)
        starts = maps[3:]
        components, linear, spectral = (cut.crop(x, self.halo) for x in maps[:3])
        scores = self.shares[0] * linear[0] + self.shares[1] * self.kernel(components)[0]
        scores += self.shares[2] * self.spectral(spectral.to(self.dtype))
        count = len(starts) // len(self.members)
        for i, member in enumerate(self.members):
            own = [
                cut.crop(start, self.halo - member.halo).to(self.dtype)
                for start in starts[i * count : (i + 1) * count]
            ]
            scores += self.shares[3] / len(self.members) * member(own, mask, cut)
        return scores


class _Plain(nn.Module):
    """Any other network: reflectance first, then the network as it is."""

    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        model: nn.Module,
        scale: Tensor,
        offset: Tensor,
        dtype: torch.dtype,
        resampled: Affine | None = None,
    ) -> None:
        super().__init__()
        exact = dtype if dtype == torch.float64 else torch.float32
        self.resampled: nn.Module | None = None
        if resampled is not None:
            self.resampled = FirstLayer([resampled]).to(exact)
        self.model = model
        self.halo = int(model.halo)  # type: ignore[arg-type]
        self.mixed = dtype == torch.bfloat16
        self.register_buffer("scale", scale.to(exact)[:, None, None])
        self.register_buffer("offset", offset.to(exact)[:, None, None])

    def forward(self, raw: Tensor, valid: Tensor | None = None, cut: Sides = _WHOLE) -> Tensor:
        if self.resampled is not None:
            x = self.resampled(raw, valid, self.scale.dtype)[0][0]
        else:
            x = self._scaled(raw, valid)
        with torch.autocast(raw.device.type, torch.bfloat16, enabled=self.mixed):
            scores = self.model(x[None], None if valid is None else _mask(valid, x.dtype))[0]
        return cut.crop(scores, self.halo).to(x.dtype)

    def _scaled(self, raw: Tensor, valid: Tensor | None) -> Tensor:
        """Return reflectance (band, y, x), zero where invalid."""
        # channels last from the start and changed in place: the window exists once
        x = raw.movedim(0, -1).to(self.scale.dtype, copy=True).contiguous().movedim(-1, 0)
        x.mul_(self.scale).add_(self.offset)
        return x if valid is None else x.masked_fill_(~valid, 0.0)


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


_KINDS: dict[type[nn.Module], Callable[[Any, Affine], _Prepared]] = {
    HyperLoopNet: _Loops,
    SpectralNet: _Spectral,
    FusionNet: _Fusion,
}
