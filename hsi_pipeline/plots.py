"""Pictures of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hsi_pipeline.classes import ClassScheme


def plot_sample(
    sample: Mapping[str, Any],
    rgb: Sequence[int] | None,
    suptitle: str | None = None,
    scheme: ClassScheme | None = None,
) -> Figure:
    """Draw what a sample holds: image, mask and prediction side by side.

    Args:
        sample: A sample of one of these datasets, or of their intersection.
        rgb: Bands to show as red, green and blue; None for no image.
        suptitle: Title of the figure.
        scheme: Names and colours of the classes.
    """
    panels: list[tuple[str, np.ndarray]] = []
    if rgb is not None and "image" in sample:
        image = sample["image"][list(rgb)].numpy().transpose(1, 2, 0)
        seen = sample["valid"].numpy() if "valid" in sample else np.ones(image.shape[:2], bool)
        low, high = np.percentile(image[seen], (2, 98)) if seen.any() else (0.0, 1.0)
        panels.append(("image", np.clip((image - low) / max(high - low, 1e-9), 0, 1)))
    panels += [
        (key, _colored(sample[key].numpy(), scheme))
        for key in ("mask", "prediction")
        if key in sample
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4), squeeze=False)
    for axis, (title, picture) in zip(axes[0], panels, strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title)
        axis.axis("off")
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def _colored(mask: np.ndarray, scheme: ClassScheme | None) -> np.ndarray:
    """Return labels as colours (y, x, 3), unlabelled white."""
    table = np.full((256, 3), 1.0)
    if scheme is None:
        table[1:] = plt.get_cmap("tab20")(np.arange(255) % 20)[:, :3]
    else:
        for category in scheme.categories:
            table[category.code] = np.array(category.rgb) / 255
    return table[mask]
