"""The figures of a report for papers: the same drawings, as files of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from hsi_pipeline.figures import (
    areas_figure,
    confusion_figure,
    layer_figure,
    map_figure,
    picture_figure,
    reliability_figure,
    spectra_figure,
    training_figure,
)
from hsi_pipeline.overview import LAYERS
from hsi_pipeline.publish.report.accuracy_section import area_estimates
from hsi_pipeline.publish.report.content import Report
from hsi_pipeline.publish.report.layer_styles import LAYER_STYLES
from hsi_pipeline.publish.report.numbers import area_unit

PICTURES = ("true_color", "false_color", "other_colors")
FIGURE_NAMES = (
    "map", *PICTURES, *LAYERS, "areas", "confusion_matrix", "reliability", "training", "spectra",
)  # fmt: skip
"""Stems of all figures that there may be."""


def paper_figures(report: Report) -> dict[str, Callable[[], Figure]]:
    """Return what draws each figure that there is enough known for, by the stem of its file."""
    found: dict[str, Callable[[], Figure]] = {
        "map": lambda: map_figure(report.overview.codes, report.scheme, report.frame)
    }
    for picture in report.pictures:
        found[picture.name] = lambda pixels=picture.pixels: picture_figure(pixels, report.frame)  # type: ignore[misc]
    for name in report.overview.layers:
        found[name] = lambda name=name: _layer(report, name)  # type: ignore[misc]
    found["areas"] = lambda: _areas(report)
    matrix = (report.assessment or {}).get("confusion_matrix")
    if matrix:
        counts = np.asarray(matrix["counts"], float)
        found["confusion_matrix"] = lambda: confusion_figure(matrix["classes"], counts)
    card, spectra = report.card, report.spectra
    if card is not None and card.calibration.get("bins"):
        bins = card.calibration["bins"]
        found["reliability"] = lambda: reliability_figure(
            bins["lower"], bins["before"], bins["after"]
        )
    if card is not None and card.training.get("history"):
        history = card.training["history"]
        found["training"] = lambda: training_figure(history)
    if spectra is not None:
        found["spectra"] = lambda: spectra_figure(
            spectra.classes, spectra.positions, x_label=spectra.x_label, y_label=spectra.quantity
        )
    return found


def _layer(report: Report, name: str) -> Figure:
    style = LAYER_STYLES[name]
    return layer_figure(
        report.overview.layers[name], report.frame, label=style.title.lower(),
        high=style.scale.high, colors=style.colors,
    )  # fmt: skip


def _areas(report: Report) -> Figure:
    m2, unit = area_unit(report)
    mapped = [report.mapped(category) / m2 for category in report.categories]
    return areas_figure(report.scheme, mapped, unit, area_estimates(report))
