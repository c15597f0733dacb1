"""Maps and pictures on the ground, with coordinates and a scale bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.figures.drawing import INK, styled, visible

AMOUNTS = mpl.colormaps["viridis"]
"""Colours of shares, which people with any colour vision tell apart."""
OUTSIDE = LinearSegmentedColormap.from_list(
    "dissimilarity",
    [(0, "#e8eef2"), (1 / 3, "#3b6a8c"), (1 / 3, "#fdae61"), (1, "#a50026")],
)
"""Colours of dissimilarity from 0 to 3: another hue from the threshold, 1, on."""


@dataclass(frozen=True)
class Frame:
    """Where a picture lies on the ground."""

    extent: tuple[float, float, float, float]
    """Left, right, bottom and top in units of the axes."""
    x_label: str
    """What the x axis counts."""
    y_label: str
    """What the y axis counts."""
    unit_m: float | None
    """Metres in a unit of the x axis in the middle of the map; None where that is not known."""


def frame_of(grid: GeoBox, step: int, shape: tuple[int, ...], pixel_m: float | None) -> Frame:
    """Return where a picture of a grid lies; of a rotated grid, in its pixels.

    Args:
        grid: The grid, its first row the northern one.
        step: Pixels of the grid for a pixel of the picture.
        shape: Rows and columns of the picture.
        pixel_m: Width of a pixel of the grid on the ground, None where that is not known.
    """
    rows, columns = shape[0] * step, shape[1] * step
    if grid.crs is None or not grid.axis_aligned:
        return Frame((0, columns, rows, 0), "column", "row", pixel_m)
    left, top = grid.transform @ (0, 0)
    right, bottom = grid.transform @ (columns, rows)
    unit_m = None if pixel_m is None else pixel_m * columns / abs(right - left)
    name = f"EPSG:{grid.crs.epsg}" if grid.crs.epsg else grid.crs.proj.name
    words = ("longitude", "latitude") if grid.crs.geographic else ("easting", "northing")
    axes = grid.crs.proj.axis_info
    unit = axes[0].unit_name if axes else "units"
    unit = {"metre": "m", "degree": "°"}.get(unit, unit)
    x_label, y_label = (f"{word} in {unit}" for word in words)
    return Frame((left, right, bottom, top), f"{x_label} ({name})", y_label, unit_m)


@styled
def map_figure(codes: np.ndarray, scheme: ClassScheme, frame: Frame) -> Figure:
    """Draw a class map with legend, scale bar and coordinates.

    Args:
        codes: Class codes (y, x), 0 unclassified.
        scheme: The classes.
        frame: Where it lies.
    """
    table = np.zeros((256, 4), np.uint8)
    for category in scheme.categories:
        table[category.code] = (*category.rgb, 255)
    figure, _ = _on_the_ground(table[codes], frame)
    handles = [
        Patch(facecolor=one.color, edgecolor=INK, linewidth=0.4) for one in scheme.categories
    ]
    figure.legend(
        handles, visible(scheme.names), loc="outside right upper", ncols=-(-len(scheme) // 40)
    )
    return figure


@styled
def picture_figure(picture: np.ndarray, frame: Frame) -> Figure:
    """Draw a picture of the scene with scale bar and coordinates.

    Args:
        picture: Red, green, blue and opacity, uint8 (y, x, 4).
        frame: Where it lies.
    """
    return _on_the_ground(picture, frame)[0]


@styled
def layer_figure(
    values: np.ndarray, frame: Frame, *, label: str, high: float, colors: Colormap
) -> Figure:
    """Draw a layer of numbers with its colour bar.

    Args:
        values: (y, x), NaN where there is none.
        frame: Where it lies.
        label: What the numbers are.
        high: Where the colours end; they begin at 0.
        colors: The colours.
    """
    figure, axes = _on_the_ground(values, frame, cmap=colors, vmin=0, vmax=high)
    most = np.nanmax(values, initial=0)
    figure.colorbar(
        axes.images[0], ax=axes, label=label, shrink=0.7, extend="max" if most > high else "neither"
    ).outline.set_visible(False)  # type: ignore[operator]
    return figure


def _on_the_ground(picture: np.ndarray, frame: Frame, **shades: Any) -> tuple[Figure, Axes]:
    """Draw a picture with coordinates and a scale bar."""
    left, right, bottom, top = frame.extent
    tall = abs((top - bottom) / (right - left))
    figure = Figure(figsize=(6.4, min(max(4.9 * tall, 2.4), 8.5)))
    axes = figure.add_subplot()
    axes.imshow(picture, extent=frame.extent, interpolation="nearest", **shades)
    axes.set(xlabel=frame.x_label, ylabel=frame.y_label)
    axes.ticklabel_format(style="plain", useOffset=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="y", labelrotation=90)
    for label in axes.get_yticklabels():
        label.set_verticalalignment("center")
    axes.spines[:].set_visible(True)
    if frame.unit_m:
        _draw_scale_bar(axes, frame.unit_m)
    return figure, axes


def _draw_scale_bar(axes: Axes, unit_m: float) -> None:
    """Draw a bar of a round length, at most a quarter of the picture, into its corner."""
    left, right = axes.get_xlim()
    width = abs(right - left) * unit_m
    length = round_length(width / 4)
    share = length / width
    axes.add_patch(
        Rectangle(
            (0.02, 0.02), share + 0.04, 0.075, transform=axes.transAxes, facecolor="white",
            alpha=0.8, linewidth=0,
        )
    )  # fmt: skip
    axes.plot(
        (0.04, 0.04 + share), (0.04, 0.04), transform=axes.transAxes, color="black", linewidth=2.5,
        solid_capstyle="butt",
    )  # fmt: skip
    axes.text(
        0.04 + share / 2, 0.05, length_text(length), transform=axes.transAxes, ha="center",
        va="bottom", fontsize=8, color="black",
    )  # fmt: skip


def round_length(most: float) -> float:
    """Return the longest length of 1, 2 or 5 times a power of ten that is not above another."""
    power = 10.0 ** math.floor(math.log10(most))
    # the half, as the logarithm of a number just below a power is rounded to it
    return max(step * power for step in (0.5, 1, 2, 5) if step * power <= most)


def length_text(metres: float) -> str:
    """Write a length in m or km."""
    return f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
