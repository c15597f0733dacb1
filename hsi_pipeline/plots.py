"""Pictures of samples, and of what a model relies on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hsi_pipeline.classes import ClassScheme

_GAP = 3  # times the usual step between bands, from which on there are none


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


def plot_importance(frame: pd.DataFrame, title: str = "") -> Figure:
    """Draw how much a model relies on the regions of the spectrum.

    Args:
        frame: As `commands.importance` writes it: a line for each band, by wavelength.
        title: Title of the figure.

    Returns:
        Bars over wavelength: the drop of overall accuracy when a region is permuted, with its
        standard deviation; points: that of mean F1; a line: the gradients, where there are any. In
        the background the mean spectrum. It belongs to no window and can be saved as it is.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    by_band = bool(frame["wavelength_nm"].isna().any())
    x = frame["band" if by_band else "wavelength_nm"].to_numpy(float)
    gaps, left, right = _band_edges(x)
    for gap in gaps:
        axes.axvspan(right[gap], left[gap + 1], color="0.94", lw=0, zorder=0)
    handles = [_draw_spectrum(axes, x, frame["mean_reflectance"].to_numpy(), gaps)]
    handles += _draw_drops(axes, left, right, frame)
    if frame["gradient"].notna().any():
        side = axes.twinx()
        color = "#aa3377"
        places, values = _broken(x, frame["gradient"].to_numpy(), gaps)
        handles += side.plot(places, values, color=color, lw=1.2, label="gradient")
        side.set_ylabel("gradient, score per standard deviation", color=color)
        side.tick_params(axis="y", colors=color)
        side.set_ylim(bottom=0)
    axes.set_xlabel("band" if by_band else "wavelength in nm")
    axes.set_ylabel("drop when the region is permuted")
    axes.set_xlim(left[0], right[-1])
    axes.set_title(title, fontsize="medium")
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _band_edges(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return after which bands there are gaps, and the left and right edges of bands (band,)."""
    steps = np.diff(x)
    step = float(np.median(steps)) if len(steps) else 1.0
    half = np.where(steps > _GAP * step, step, steps) / 2
    first, last = (half[0], half[-1]) if len(half) else (step / 2, step / 2)
    left, right = x - np.insert(half, 0, first), x + np.append(half, last)
    gaps = np.flatnonzero(steps > _GAP * step)
    return gaps, left, right


def _draw_drops(axes: Axes, left: np.ndarray, right: np.ndarray, frame: pd.DataFrame) -> list[Any]:
    """Draw bars of overall accuracy and points of mean F1, one for each region."""
    regions = frame.assign(left=left, right=right).groupby("region", sort=False)
    drops = regions.first()
    start, stop = regions["left"].min().to_numpy(), regions["right"].max().to_numpy()
    middle = (start + stop) / 2
    bars = axes.bar(
        middle, drops["overall_accuracy_drop"], stop - start, color="#4477aa", edgecolor="white",
        lw=0.8, zorder=2, alpha=0.85, label="overall accuracy",
        yerr=drops["overall_accuracy_drop_std"], error_kw={"lw": 0.8, "ecolor": "0.2"},
    )  # fmt: skip
    points = axes.scatter(
        middle, drops["mean_f1_drop"], s=14, marker="D", facecolor="white", edgecolor="#222222",
        lw=0.9, zorder=4, label="mean F1",
    )  # fmt: skip
    axes.axhline(0, color="0.3", lw=0.8, zorder=3)
    return [bars, points]


def _draw_spectrum(axes: Axes, x: np.ndarray, reflectance: np.ndarray, gaps: np.ndarray) -> Any:
    """Draw the mean spectrum behind the rest, on a scale of its own that is not shown."""
    behind = axes.twinx()
    behind.set_zorder(axes.get_zorder() - 1)
    axes.patch.set_visible(False)
    places, values = _broken(x, reflectance, gaps)
    label = f"mean reflectance, up to {np.nanmax(reflectance):.3g}"
    (line,) = behind.plot(places, values, color="0.72", lw=2.5, label=label)
    behind.set_ylim(0, max(float(np.nanmax(reflectance)), 1e-9) * 1.1)
    behind.yaxis.set_visible(False)
    return line


def _broken(x: np.ndarray, values: np.ndarray, gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a line that is not drawn across gaps."""
    return np.insert(x, gaps + 1, np.nan), np.insert(values, gaps + 1, np.nan)


def _colored(mask: np.ndarray, scheme: ClassScheme | None) -> np.ndarray:
    """Return labels as colours (y, x, 3), unlabelled white."""
    table = np.full((256, 3), 1.0)
    if scheme is None:
        table[1:] = plt.get_cmap("tab20")(np.arange(255) % 20)[:, :3]
    else:
        for category in scheme.categories:
            table[category.code] = np.array(category.rgb) / 255
    return table[mask]
