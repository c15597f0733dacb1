"""How each layer of numbers of a class map is drawn, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.colors import Colormap, to_hex

from hsi_pipeline.figures import AMOUNTS, OUTSIDE
from hsi_pipeline.publish.report.rasters import Scale


@dataclass(frozen=True)
class LayerStyle:
    """Look and words of a layer."""

    title: str
    """Its name."""
    told: str
    """What it is, in a sentence or two."""
    scale: Scale
    """Its values as bytes."""
    colors: Colormap
    """Colours from 0 to the highest value."""
    ticks: tuple[str, ...]
    """What stands along the colours, evenly."""
    is_share: bool
    """Whether values are shown as per cent."""

    @property
    def gradient(self) -> str:
        """The colours as CSS has them."""
        # two stops at each place, so that a step in the colours stays one
        stops = [f"{to_hex(self.colors(i / 96))} {100 * i / 96:.2f}%" for i in range(97)]
        return f"linear-gradient(to right, {', '.join(stops)})"


_SHARES = ("0%", "50%", "100%")
LAYER_STYLES = {
    "confidence": LayerStyle(
        "Confidence",
        "Probability that the model gives the class on the map. It is an estimate of the model "
        "about itself, not a measured accuracy.",
        Scale(0.01, 1.0), AMOUNTS, _SHARES, is_share=True,
    ),
    "entropy": LayerStyle(
        "Entropy",
        "How evenly the model spreads its probability over all classes: 0 is sure of one class, 1 "
        "is no idea.",
        Scale(0.02, 1.0), AMOUNTS, ("0", "0.5", "1"), is_share=False,
    ),
    "margin": LayerStyle(
        "Margin",
        "Probability of the class on the map minus that of the second most likely one. Where it is "
        "small, two classes compete.",
        Scale(0.02, 1.0), AMOUNTS, _SHARES, is_share=True,
    ),
    "dissimilarity": LayerStyle(
        "Dissimilarity",
        "How unlike the training data a pixel's spectrum is. Above 1: outside the area of "
        "applicability, the class there is a guess.",
        Scale(0.02, 3.0), OUTSIDE, ("0", "1", "2", "3 or more"), is_share=False,
    ),
}  # fmt: skip
"""By name of the layer; see `overview.LAYERS`."""
