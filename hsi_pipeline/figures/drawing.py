"""The common style of all figures, and figures to SVG and PNG."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#1c2530"
"""Colour of text; `as_svg` makes it that of the text around."""
ACCENT, PALE = "#0b7285", "#8a949e"
_STYLE: Any = {
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "grid.color": f"{PALE}40",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text
    "text.color": INK,
    "text.parse_math": False,  # a $ in the name of a class is a $
    "xtick.color": PALE,
    "xtick.labelcolor": INK,
    "ytick.color": PALE,
    "ytick.labelcolor": INK,
}
WIDTH = 5.0
"""Inches of a chart, so that it can be read on a phone too."""


def styled[**P](draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in the common style."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **options: P.kwargs) -> Figure:
        with _style():
            return draw(*args, **options)

    return wrapped


@contextmanager
def _style(**further: Any) -> Iterator[None]:
    with mpl.rc_context(_STYLE | further), warnings.catch_warnings():
        # letters that the font lacks become boxes; in SVG the reader's fonts have them
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def as_svg(figure: Figure, salt: str) -> str:
    """Return a figure as SVG whose text stays text, in the colours of the page around it.

    Args:
        figure: The figure.
        salt: Keeps names inside apart from those of other figures in the same page.
    """
    text = io.StringIO()
    with _style(**{"svg.hashsalt": salt}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing)
    return text.getvalue().replace(INK, "currentColor").replace(ACCENT, f"var(--accent, {ACCENT})")


def as_png(figure: Figure) -> bytes:
    """Return a figure as PNG of 300 dots an inch on white."""
    picture = io.BytesIO()
    with _style():
        figure.savefig(picture, format="png", facecolor="white", metadata={"Software": None})
    return picture.getvalue()


def visible(names: Sequence[str]) -> list[str]:
    """Return names as matplotlib shows them: it hides those that begin with an underscore."""
    return [f"\N{ZERO WIDTH SPACE}{name}" if name.startswith("_") else name for name in names]
