"""The published programs' weights and initialisation, for our network in its patch form.

Source: Pande & Banerjee, HyperLoopNet, ISPRS J. Photogramm. Remote Sens. 183:422-438, 2022, and
its hybrid-attention variant; both are Keras programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hsi_pipeline.errors import InputError
from hsi_pipeline.models.hyperloopnet import HyperLoopNet

_NORM_PARTS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_ATTENTION_PARTS = ("channel_max", "channel_mean", "channel_shared", "spatial")
_RESULTS = frozenset({"patches", "features", "probabilities"})  # recorded beside the weights


def load_reference_weights(model: HyperLoopNet, arrays: Mapping[str, Any]) -> None:
    """Give a network the weights of a published program.

    The input is then what that program was given: `band_mean` becomes 0 and `band_std` 1. To
    compute what it computed, the model is the patch form (`window=None`), with `gate="relu"` if
    it has attention, in evaluation mode.

    Args:
        model: The network; it changes only if everything fits. The number type stays.
        arrays: Arrays by name, Keras's layout: `k{kernel}.input`, `k{kernel}.L1` to `L4`,
            `k{kernel}.attention.channel_max`, `.channel_mean`, `.channel_shared`, `.spatial` and
            `classifier`, each with `.kernel` (height, width, in, out), or (in, out) for a dense
            layer, and `.bias` (out,); and `k{kernel}.N1` to `N8` with `.gamma`, `.beta`,
            `.moving_mean`, `.moving_variance` (channel,), in the order of use. Recorded `patches`,
            `features` and `probabilities` may be among them and are left alone.

    Raises:
        InputError: An array is missing, superfluous, of another shape, or not finite.
    """
    wanted = dict(_places(model))
    given = set(arrays) - _RESULTS
    missing, strange = sorted(set(wanted) - given), sorted(given - set(wanted))
    if missing or strange:
        raise InputError(
            f"the weights do not fit kernels {model.kernels} with"
            f"{'' if model.blocks[0].attention else 'out'} attention: "
            f"{_listed('missing', missing)}{'; ' if missing and strange else ''}"
            f"{_listed('not expected', strange)}"
        )
    values = {name: _fitted(name, arrays[name], target) for name, target in wanted.items()}
    with torch.no_grad():
        for name, target in wanted.items():
            target.copy_(values[name])
        model.band_mean.zero_()
        model.band_std.fill_(1.0)


def keras_initialisation(model: nn.Module) -> None:
    """Draw weights as Keras does by default: Glorot uniform kernels, zero biases.

    The published programs start so. PyTorch's own default has narrower weights, and draws biases.

    Args:
        model: A network of convolutions, linear layers and normalisations; changed in place.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _places(model: HyperLoopNet) -> Iterator[tuple[str, Tensor]]:
    """Yield the published name and our tensor of every weight and statistic."""

    def layer(name: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        yield f"{name}.kernel", module.weight  # type: ignore[misc]
        yield f"{name}.bias", module.bias  # type: ignore[misc]

    for kernel, block in zip(model.kernels, model.blocks, strict=True):
        yield from layer(f"k{kernel}.input", block.input)  # type: ignore[arg-type]
        for i, convolution in enumerate(block.layers, 1):  # type: ignore[arg-type]
            yield from layer(f"k{kernel}.L{i}", convolution)
        for i, norm in enumerate(block.norms, 1):  # type: ignore[arg-type]
            for ours, theirs in _NORM_PARTS.items():
                yield f"k{kernel}.N{i}.{theirs}", getattr(norm, ours)
        if block.attention is not None:
            for part in _ATTENTION_PARTS:
                yield from layer(f"k{kernel}.attention.{part}", getattr(block.attention, part))
    yield from layer("classifier", model.classifier)


def _fitted(name: str, array: Any, target: Tensor) -> Tensor:
    """Return an array in our layout.

    Raises:
        InputError: Its shape is another, or it holds NaN or infinity.
    """
    value = torch.as_tensor(array)
    if target.ndim == 4:  # out, in, height, width
        keras = (*target.shape[2:], target.shape[1], target.shape[0])
        fits = tuple(value.shape) in (keras, keras[2:] if keras[:2] == (1, 1) else keras)
        value = value.reshape(keras).permute(3, 2, 0, 1) if fits else value
    elif target.ndim == 2:
        keras = tuple(reversed(target.shape))
        fits = tuple(value.shape) == keras
        value = value.T if fits else value
    else:
        keras = tuple(target.shape)
        fits = tuple(value.shape) == keras
    if not fits:
        raise InputError(
            f"{name} has shape {tuple(value.shape)}, the network needs {keras}; "
            "are bands, classes, width and kernels those of the recorded network?"
        )
    if not torch.isfinite(value).all():
        raise InputError(f"{name} holds NaN or infinity")
    return value


def _listed(title: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{title}: {', '.join(names[:3])}{rest}"
