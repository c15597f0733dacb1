"""The numbers of a report: as people read them, and as programs do."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from hsi_pipeline import __version__
from hsi_pipeline.publish.report.content import Report

FORMAT = "hsi_pipeline report 1"
"""What the first key of the JSON file says."""

_UNITS = ((1e7, 1e6, "km²"), (1e4, 1e4, "ha"), (0.0, 1.0, "m²"))  # from which area on, m2, name
DASH = "\N{EN DASH}"
"""Stands between two numbers, and where there is none."""


def area_unit(report: Report) -> tuple[float, str]:
    """Return m2 in the unit that suits the map, and its name."""
    if report.overview.grid.crs is None:
        return 1.0, "pixels"
    return next((m2, name) for least, m2, name in _UNITS if report.total_m2 >= least)


def amount(value: float) -> str:
    """Write a number of three digits, or of all before the point."""
    if not math.isfinite(value):
        return DASH
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as per cent."""
    return DASH if share is None or not math.isfinite(share) else f"{share:.{digits}%}"


def interval(estimate: Mapping[str, Any] | None, digits: int = 1) -> str:
    """Write an interval of shares, nothing where there is none."""
    low, high = (estimate or {}).get("low"), (estimate or {}).get("high")
    if low is None or high is None:
        return ""
    return f"{100 * low:.{digits}f}{DASH}{100 * high:.{digits}f}%"


def size_text(size: int | None) -> str:
    """Write a number of bytes."""
    if size is None:
        return DASH
    for unit in ("bytes", "kB", "MB"):
        if size < 1000 or unit == "MB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000  # type: ignore[assignment]
    return DASH


def date_text(acquired: str) -> str:
    """Write a date of ISO 8601 as people do; any other text as it stands."""
    try:
        moment = datetime.fromisoformat(re.sub(r" *(UTC|GMT|Z)$", "+00:00", acquired.strip()))
    except ValueError:
        return acquired
    date = f"{moment.day} {moment:%B %Y}"
    return date if len(acquired.strip()) <= 10 else f"{date}, {moment:%H:%M} UTC"


def numbers_of(report: Report) -> dict[str, Any]:
    """Return all that the report shows in numbers, as JSON has it: what is not known is null."""
    overview, attrs = report.overview, report.attrs
    grid = overview.grid
    return _plain(
        {
            "format": FORMAT,
            "title": report.title,
            "software": f"hsi_pipeline {__version__}",
            "scene_id": report.scene_id or None,
            "acquired": attrs.get("acquired"),
            "grid": {
                "rows": grid.shape[0],
                "columns": grid.shape[1],
                "crs": None if grid.crs is None else str(grid.crs),
                "transform": list(grid.transform)[:6],
            },
            "step": overview.step,
            "pixels": int(overview.pixels.sum()),
            "classified_pixels": overview.classified,
            "mapped_area_m2": None if grid.crs is None else report.total_m2,
            "layers": {name: {"mean": overview.mean(name)} for name in overview.layers},
            "outside_share": outside_share(report),
            "classes": [_class(report, category) for category in report.categories],
            "assessment": report.assessment,
            "model": _model(report),
            "spectra": _spectra(report),
            "attributes": dict(attrs),
            "files": [vars(file) for file in report.files],
            "warnings": list(report.warnings),
        }
    )


def outside_share(report: Report) -> float | None:
    """Return which share of the classified pixels lies outside the area of applicability."""
    overview = report.overview
    if overview.outside is None or not overview.classified:
        return None
    return float(overview.outside[1:].sum() / overview.classified)


def _class(report: Report, category: Any) -> dict[str, Any]:
    overview, code = report.overview, category.code
    found = {
        "code": code,
        "name": category.name,
        "color": category.color,
        "pixels": int(overview.pixels[code]),
        "mapped_area_m2": None if overview.grid.crs is None else report.mapped(category),
        "mapped_share": report.mapped(category) / report.total_m2 if report.total_m2 else None,
    }
    found |= {f"mean_{name}": float(mean[code]) for name, mean in overview.means.items()}
    if overview.outside is not None and overview.pixels[code]:
        found["outside_share"] = float(overview.outside[code] / overview.pixels[code])
    return found


def _model(report: Report) -> dict[str, Any] | None:
    card = report.card
    if card is None:
        return None
    return {
        "architecture": card.architecture,
        "settings": dict(card.settings),
        "bands": card.bands,
        "scenes": list(card.scenes),
        "seed": card.seed,
        "version": card.version,
        "temperature": card.temperature,
        "calibration": dict(card.calibration),
        "training": dict(card.training),
        "scores": dict(card.scores),
    }


def _spectra(report: Report) -> dict[str, Any] | None:
    spectra = report.spectra
    if spectra is None:
        return None
    return {
        "quantity": spectra.quantity,
        "wavelength_nm" if spectra.in_nm else "band": spectra.positions,
        "classes": [
            {
                "code": one.category.code,
                "name": one.category.name,
                "pixels": one.pixels,
                "mean": one.mean,
                "percentile_10": one.low,
                "percentile_90": one.high,
            }
            for one in spectra.classes
        ],
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):  # what was read as float32 has seven digits
        return [_plain(float(f"{one:.7g}")) for one in value.tolist()]
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)
