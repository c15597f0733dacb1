"""Networks. This folder needs torch alone.

A network is an `nn.Module` made of `(bands, classes, **settings)` with buffers `band_mean` and
`band_std` (reflectance of the training pixels), a property `halo`, and
`forward(x, valid) -> scores`, x (B, bands, H, W) in reflectance, valid (B, 1, H, W) or None.
It may have `start(spectra, labels)`, called before training; `separate_scores(x, valid)`, the
scores of parts that learn one by one; `parts(x, valid)` and `balance(parts, labels)`, which weighs
parts by validation labels. A new one is a file here and a line in `MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from hsi_pipeline.errors import InputError
from hsi_pipeline.models.fusion import FusionNet
from hsi_pipeline.models.hyperloopnet import HyperLoopNet
from hsi_pipeline.models.spectral import SpectralNet

MODELS: dict[str, Callable[..., nn.Module]] = {
    # For few labels and land cover that changes from pixel to pixel: no pooling over a window.
    "hyperloopnet-fusion": partial(FusionNet, kernels=(1, 3), window=1),
    "hyperloopnet": HyperLoopNet,
    "hyperloopnet-no-attention": partial(HyperLoopNet, attention=False),
    "spectral": SpectralNet,
}

DEFAULT_MODEL = "hyperloopnet-fusion"
"""What training takes unless told otherwise; benchmarks/accuracy has the comparison."""


def build_model(name: str, bands: int, classes: int, /, **settings: Any) -> nn.Module:
    """Build an untrained network.

    Args:
        name: One of `MODELS`.
        bands: Input bands.
        classes: Output classes.
        **settings: Settings of that architecture.

    Raises:
        InputError: The name or a setting is not known.
    """
    if name not in MODELS:
        raise InputError(f"model {name!r} is not known; use one of {', '.join(MODELS)}")
    try:
        return MODELS[name](bands, classes, **settings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model {name!r} cannot be built: {error}") from error
