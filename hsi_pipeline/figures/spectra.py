"""Spectra of the classes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from hsi_pipeline.classes import Category
from hsi_pipeline.figures.drawing import INK, PALE, styled, visible

_EVERY = 3  # bands of a spectrum that is there for comparison
_GAP = 3  # times the usual step between bands, from which on there are none


@dataclass(frozen=True)
class Spectrum:
    """The spectra of a class."""

    category: Category
    """The class."""
    mean: np.ndarray
    """(band,); NaN in bands that are left out."""
    low: np.ndarray
    """Tenth percentile (band,)."""
    high: np.ndarray
    """Ninetieth percentile (band,)."""
    pixels: int
    """How many pixels they come from."""


@styled
def spectra_figure(
    spectra: Sequence[Spectrum],
    positions: np.ndarray,
    *,
    x_label: str,
    y_label: str,
    columns: int = 3,
    others: Sequence[Spectrum] = (),
) -> Figure:
    """Draw the spectra of classes, a panel each: mean, and from the 10th to the 90th percentile.

    Args:
        spectra: One for each panel.
        positions: Wavelength, or number, of each band in the file's order (band,).
        x_label: What the positions are.
        y_label: What the values are.
        columns: Panels in a row.
        others: Spectra whose means are drawn behind for comparison; those of the panels too.
    """
    columns = min(columns, max(len(spectra), 1))
    rows = max(1, -(-len(spectra) // columns))
    width = 3.3 if columns == 1 else 2.5 * columns
    figure = Figure(figsize=(width, (2.3 if columns == 1 else 1.9) * rows + 0.2))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    shown = [*spectra, *others]
    lines = _lines(positions)
    for axes, one in zip(grid.flat, spectra, strict=False):
        for other in shown:
            for part in lines if other is not one else ():
                few = slice(part.start, part.stop, _EVERY)
                axes.plot(positions[few], other.mean[few], color=f"{PALE}70", linewidth=0.7)
        for part in lines:
            x = positions[part]
            axes.fill_between(
                x, one.low[part], one.high[part], color=one.category.color, alpha=0.45, linewidth=0
            )
            axes.plot(x, one.mean[part], color=INK, linewidth=1.3)
        axes.grid()
        if columns > 1:
            axes.set_title(visible([one.category.name])[0], fontsize=9, loc="left")
    for place, axes in enumerate(grid.flat[len(spectra) :], start=len(spectra)):
        axes.set_visible(False)
        grid.flat[place - columns].tick_params(labelbottom=True)
    grid[0, 0].set_ylim(*_span(shown))
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    return figure


def _span(spectra: Sequence[Spectrum]) -> tuple[float, float]:
    """Return where the y axis begins and ends; noise of a few bands may lie outside."""
    high = np.concatenate([one.high[np.isfinite(one.high)] for one in spectra] or [np.ones(1)])
    low = np.concatenate([one.low[np.isfinite(one.low)] for one in spectra] or [np.zeros(1)])
    if not high.size:
        return 0.0, 1.0
    top, bottom = float(np.percentile(high, 99.5)), float(np.percentile(low, 0.5))
    top = top if top > bottom else bottom + 1.0
    return min(0.0, bottom) - 0.02 * (top - bottom), top + 0.06 * (top - bottom)


def _lines(positions: np.ndarray) -> list[slice]:
    """Cut bands where their positions step back, as detectors overlap, or leap over a gap."""
    steps = np.diff(positions)
    usual = np.median(np.abs(steps)) if steps.size else 0.0
    cuts = [0, *(np.flatnonzero((steps <= 0) | (steps > _GAP * usual)) + 1), len(positions)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]
