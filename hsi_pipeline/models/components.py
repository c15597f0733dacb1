"""Half whitened principal components: what two spectra differ in, neither drowned nor noise."""

from __future__ import annotations

import torch
from torch import Tensor

_RIDGE = 1e-4  # added to each component's variance, that of a standardised band being 1


def half_whitening(x: Tensor, count: int) -> Tensor:
    """Return principal components, each divided by the fourth root of its variance.

    Not at all, and small differences drown; by the square root, and noise is as loud as signal.

    Args:
        x: Standardised spectra (pixel, band).
        count: Components.

    Returns:
        Basis (component, band) float64; the components' mean variance is 1.
    """
    x = x.double()
    variance, vectors = torch.linalg.eigh(x.T @ x / len(x))
    variance, vectors = variance.flip(0)[:count], vectors.flip(1)[:, :count]
    # Directions that the training pixels do not have must not be blown up in other scenes.
    known = variance > variance[0] * 1e-10
    scale = torch.where(known, (variance.clamp(min=0) + _RIDGE) ** -0.25, 0.0)
    scale = scale * (variance * scale.square()).mean().clamp(min=_RIDGE).rsqrt()
    return (vectors * scale).T
