"""Layers of numbers that a class map may have beside its classes: what they say and where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NumberLayer:
    """A layer of numbers, float32 (y, x), NaN where the map holds no class."""

    name: str
    """Variable of the class map; a GeoTIFF of it is called `MAP_name.tif`."""
    long_name: str
    """What it says, in words."""
    doubt_at: tuple[float, float]
    """Values where nothing and where everything speaks against the class, for styles."""


NUMBER_LAYERS = (
    NumberLayer("confidence", "probability of the class", (1.0, 0.0)),
    NumberLayer("entropy", "Shannon entropy of the probabilities over its maximum", (0.0, 1.0)),
    NumberLayer("margin", "probability of the first less that of the second class", (1.0, 0.0)),
    NumberLayer(
        "dissimilarity",
        "distance to the training spectra; above 1 outside the area of applicability",
        (0.0, 1.0),
    ),
)
"""All that there are, in the order in which they are stored; maps have the first anyway."""

OPTIONAL_LAYERS = tuple(layer.name for layer in NUMBER_LAYERS[1:])
"""Names of those that a map has if they are asked for."""
