"""What a map is made of, from the scores of a prepared network: classes, and how far to trust them.

Layers of a tile depend on nothing but that tile and the network's halo, so that, as classes do,
they stay the same however a scene is cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hsi_pipeline.models.applicability import Applicability
from hsi_pipeline.models.first_layer import FirstLayer, reflectance_map
from hsi_pipeline.models.prepared import Sides

_STRIP = 2**14  # pixels whose distances to all centres are in memory at once


class MapOutputs(nn.Module):
    """A prepared network, and what is asked of its scores."""

    def __init__(
        self,
        network: nn.Module,
        *,
        temperature: float = 1.0,
        layers: Sequence[str] = ("confidence",),
        probabilities: bool = False,
        applicability: PreparedApplicability | None = None,
    ) -> None:
        """Keep what is to be made.

        Args:
            network: As `prepared.prepare` makes it.
            temperature: What scores are divided by.
            layers: Names of `map_layers.NUMBER_LAYERS`.
            probabilities: Whether the probability of each class comes too.
            applicability: What the layer `dissimilarity` is made by.
        """
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.layers = tuple(layers)
        self.probabilities = probabilities
        self.applicability = applicability

    def forward(
        self,
        raw: Tensor,
        valid: Tensor | None,
        cut: Sides,
        inside: tuple[slice, slice],
        core: tuple[slice, slice],
    ) -> tuple[Tensor, list[Tensor]]:
        """Map a tile.

        Args:
            raw: Digital numbers of the tile with its halo (band, y, x).
            valid: Which pixels are valid, bool (y, x); None if all are.
            cut: Sides where the scene goes on.
            inside: Where the tile lies in `raw`.
            core: Where it lies in the scores, which lack the halo at the sides that are cut.

        Returns:
            Class index (y, x), and the layers (y, x) in their order, then the probability of each
            class where asked for. Invalid pixels hold anything.
        """
        scores = self.network(raw, valid, cut)[:, *core]
        probabilities = (scores / self.temperature).softmax(0).float()
        confidence, best = probabilities.max(0)
        made = {"confidence": confidence}
        if "entropy" in self.layers:
            entropy = torch.special.entr(probabilities).sum(0)
            made["entropy"] = entropy / math.log(len(probabilities))
        if "margin" in self.layers:  # many times as fast as to look for the two highest at once
            others = probabilities.scatter(0, best[None], -1.0)
            made["margin"] = confidence - others.amax(0)
        if "dissimilarity" in self.layers:
            assert self.applicability is not None  # `inference.classify_cube` sees to it
            here = None if valid is None else valid[inside]
            made["dissimilarity"] = self.applicability(raw[:, *inside], here)
        layers = [made[name] for name in self.layers]
        return best, layers + (list(probabilities) if self.probabilities else [])


class PreparedApplicability(nn.Module):
    """An area of applicability prepared for one scene: from digital numbers to dissimilarity."""

    def __init__(
        self, area: Applicability, scale: Tensor, offset: Tensor, matrix: Tensor | None
    ) -> None:
        """Join radiometry, resampling and components; arguments as for `prepared.prepare`."""
        super().__init__()
        reflectance = reflectance_map(area, scale, offset, matrix)
        self.first = FirstLayer([reflectance.standardised(area).turned(area.basis)]).float()
        self.area = area

    def forward(self, raw: Tensor, valid: Tensor | None) -> Tensor:
        """Return the dissimilarity (y, x) of digital numbers (band, y, x)."""
        found = self.first(raw, valid, torch.float32)[0][0]
        components = found.flatten(1).T
        parts = [self.area(part) for part in components.split(_STRIP)]
        return torch.cat(parts).view(found.shape[1:])
