"""Charts of areas, of accuracy, and of how a model was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.figures.drawing import ACCENT, INK, PALE, WIDTH, styled, visible

_FEW = 10  # pixels


@styled
def areas_figure(
    scheme: ClassScheme,
    mapped: Sequence[float],
    unit: str,
    estimates: Sequence[tuple[float, float, float] | None] | None = None,
) -> Figure:
    """Draw the area of each class as a bar, and its estimate as a point with its interval.

    Args:
        scheme: The classes.
        mapped: Area of each.
        unit: Unit of the areas.
        estimates: For each class value, lowest and highest, None where there is none.
    """
    count = len(scheme)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.3 * count))
    axes = figure.add_subplot()
    axes.barh(range(count), mapped, color=scheme.colors, edgecolor=INK, linewidth=0.4, height=0.62)
    ends = list(mapped)
    known = [(i, found) for i, found in enumerate(estimates or ()) if found is not None]
    for i, (value, low, high) in known:
        error = [[max(value - low, 0)], [max(high - value, 0)]]
        axes.errorbar(
            value, i, xerr=error, fmt="o", color=INK, linewidth=1.4, capsize=3, markersize=4.5
        )
        ends[i] = max(ends[i], high)
    for i, area in enumerate(mapped if not known else ()):
        axes.annotate(
            f"{area:#.3g}" if 0 < area < 100 else f"{area:,.0f}", (area, i), xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    axes.set_yticks(range(count), visible(scheme.names))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1e-9, *ends) * 1.14)
    axes.set_xlabel(f"area in {unit}")
    axes.grid(axis="x")
    if known:
        figure.legend(  # type: ignore[call-overload]
            [Patch(facecolor=PALE), axes.containers[-1]], ["mapped", "estimated, with interval"],
            loc="outside upper right", ncols=2,
        )  # fmt: skip
    return figure


@styled
def confusion_figure(names: Sequence[str], counts: np.ndarray) -> Figure:
    """Draw a confusion matrix: shades are shares of a row, numbers the counts.

    Args:
        names: Classes of rows and columns.
        counts: (map, reference).
    """
    counts = np.asarray(counts, float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1e-12)
    size = max(3.4, 1.4 + 0.44 * len(names))
    figure = Figure(figsize=(size + 0.7, size))
    axes = figure.add_subplot()
    shades = LinearSegmentedColormap.from_list("shades", ["#ffffff", ACCENT])
    image = axes.imshow(shares, cmap=shades, vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        color = "white" if shares[row, column] > 0.55 else INK
        weight = "bold" if row == column else "normal"
        if counts[row, column]:
            axes.text(
                column, row, f"{counts[row, column]:g}", ha="center", va="center", color=color,
                fontsize=8, fontweight=weight,
            )  # fmt: skip
    axes.set_xticks(range(len(names)), visible(names), rotation=45, ha="right")
    axes.set_yticks(range(len(names)), visible(names))
    axes.set(xlabel="reference", ylabel="map")
    axes.tick_params(length=0)
    figure.colorbar(
        image, ax=axes, shrink=0.7, label="share of the row", format=PercentFormatter(1)
    ).outline.set_visible(False)  # type: ignore[operator]
    return figure


@styled
def reliability_figure(
    lower: Sequence[float], before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Figure:
    """Draw how often the map is right at each confidence, before and after calibration.

    Bins of fewer than ten pixels are hollow, and no line leads there.

    Args:
        lower: Lower edge of each bin of confidence; the last one ends at 1.
        before: Of each bin `count`, `confidence` and `accuracy`.
        after: Likewise, calibrated.
    """
    figure = Figure(figsize=(WIDTH, 4.6))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
    axes.plot((0, 1), (0, 1), color=PALE, linestyle=(0, (4, 3)), linewidth=1)
    axes.annotate("as sure as right", (0.03, 0.05), rotation=40, fontsize=8, color=PALE)
    edges = np.append(np.asarray(lower, float), 1.0)
    for bins, name, color, marker, shift in (
        (before, "before calibration", PALE, "s", 0.0),
        (after, "after", ACCENT, "o", 0.5),
    ):
        style = {"color": color, "marker": marker, "markersize": 5}
        axes.plot(*_points(bins, _FEW, np.inf), linewidth=1.6, label=name, **style)
        # a handful of pixels says little: no line leads there
        axes.plot(*_points(bins, 1, _FEW), linestyle="", markerfacecolor="none", **style)
        width = np.diff(edges) / 2
        share = np.array([one["count"] for one in bins]) / max(1, sum(one["count"] for one in bins))
        below.bar(edges[:-1] + shift * 2 * width, share, width, align="edge", color=color)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is right")
    below.set(xlabel="confidence", ylabel="pixels")
    for part, axis in ((axes, "both"), (below, "y")):
        part.grid(axis=axis)  # type: ignore[arg-type]
        part.yaxis.set_major_formatter(PercentFormatter(1))
    below.xaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="upper left")
    return figure


def _points(bins: Sequence[Mapping[str, Any]], least: float, below: float) -> tuple[list, list]:
    """Return confidence and accuracy of the bins that hold some number of pixels."""
    held = [one for one in bins if least <= one["count"] < below]
    return [one["confidence"] for one in held], [one["accuracy"] for one in held]


@styled
def training_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss and validation scores over the epochs, and the epoch that was kept.

    Args:
        history: Of each epoch `epoch`, `loss`, `overall_accuracy`, `mean_f1` and `kept`.
    """
    figure = Figure(figsize=(WIDTH, 4.2))
    scores, loss = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    epochs = [one["epoch"] for one in history]
    for key, name, color, marker in (
        ("overall_accuracy", "overall accuracy", ACCENT, "o"),
        ("mean_f1", "mean F1", "#c2570c", "s"),
    ):
        values = [math.nan if one.get(key) is None else one[key] for one in history]
        scores.plot(epochs, values, color=color, marker=marker, markersize=4, label=name)
    loss.plot(epochs, [one["loss"] for one in history], color=INK, marker="o", markersize=4)
    for kept in (one["epoch"] for one in history if one.get("kept")):
        for axes in (scores, loss):
            axes.axvline(kept, color=PALE, linestyle=(0, (4, 3)), linewidth=1)
        scores.annotate(
            f"kept: epoch {kept}", (kept, 0), xycoords=("data", "axes fraction"), xytext=(4, 5),
            textcoords="offset points", fontsize=9,
        )  # fmt: skip
    low, high = scores.get_ylim()
    scores.yaxis.set_major_formatter(PercentFormatter(1, decimals=0 if high - low > 0.05 else 1))
    scores.set_ylabel("validation")
    scores.legend(loc="best")
    loss.set(xlabel="epoch", ylabel="training loss")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (scores, loss):
        axes.grid()
    return figure
