"""How unlike all that a model was trained on a spectrum is.

After Meyer & Pebesma (2021), Predicting into unknown space? Estimating the area of applicability of
spatial prediction models, Methods in Ecology and Evolution 12:1620-1633,
doi:10.1111/2041-210X.13650: the distance to the nearest training data, against distances within
them. Other than there, bands are not weighted by importance but half whitened, and the training
data are centres of clusters: the distance to these costs as much as a small layer, and new
materials are found as well by them as by all spectra (benchmarks/README.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Applicability(nn.Module):
    """Dissimilarity of spectra from the training spectra; above 1 is outside."""

    band_mean: Tensor
    band_std: Tensor
    basis: Tensor
    centers: Tensor
    threshold: Tensor

    def __init__(self, bands: int, components: int, centers: int) -> None:
        """Make room for what `applicability.fit_applicability` finds.

        Args:
            bands: Input bands.
            components: Principal components.
            centers: Centres of clusters of training spectra.
        """
        super().__init__()
        self.register_buffer("band_mean", torch.zeros(bands))
        self.register_buffer("band_std", torch.ones(bands))
        self.register_buffer("basis", torch.zeros(components, bands))
        self.register_buffer("centers", torch.zeros(centers, components))
        self.register_buffer("threshold", torch.ones(()))

    @classmethod
    def from_state(cls, state: dict[str, Tensor], bands: int) -> Applicability:
        """Restore it from its state.

        Raises:
            ValueError: The state is none, or is of another number of bands.
        """
        basis, centers = state.get("basis"), state.get("centers")
        if basis is None or centers is None or basis.ndim != 2 or centers.ndim != 2:
            raise ValueError("the area of applicability is damaged")
        if basis.shape[1] != bands:
            raise ValueError(
                f"the area of applicability has {basis.shape[1]} bands, the model {bands}"
            )
        restored = cls(bands, len(basis), len(centers))
        restored.load_state_dict(state)
        return restored.eval()

    def components(self, spectra: Tensor) -> Tensor:
        """Take reflectance (pixel, band) to components (pixel, component)."""
        return (spectra - self.band_mean) / self.band_std @ self.basis.T

    def forward(self, components: Tensor) -> Tensor:
        """Return the dissimilarity (pixel,) of components (pixel, component)."""
        return nearest_distance(components, self.centers) / self.threshold


def nearest_distance(points: Tensor, centers: Tensor) -> Tensor:
    """Return the distance of each point (point, axis) to the nearest centre (centre, axis)."""
    squares = torch.addmm(centers.square().sum(1), points, centers.T, alpha=-2).amin(1)
    return (squares + points.square().sum(1)).clamp(min=0).sqrt()
