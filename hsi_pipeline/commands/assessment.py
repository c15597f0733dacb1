"""How good a map is: the figures, as they are shown and as they are written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.commands.designs import UsedStratum
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.estimation import Estimate, Estimates
from hsi_pipeline.publish import check_target, staged

FORMAT = "hsi_pipeline assessment 1"
"""First entry of the file of figures."""

_AREA_UNITS = ((1e8, 1e6, "km2"), (1e4, 1e4, "ha"), (0.0, 1.0, "m2"))  # from which area on, m2


@dataclass(frozen=True, kw_only=True, eq=False)
class Assessment:
    """How good a map is, by a reference."""

    map: str
    """File name of the map."""
    reference: str
    """File name of the reference."""
    design: str
    """`stratified`, `simple`, or `none` where the reference is no probability sample."""
    unit: str
    """`point`, `polygon` or `pixel`."""
    sample_units: int
    """Number of units."""
    left_out: Mapping[str, int]
    """Units left out since they are `outside` the map, on `nodata`, `without_class`, or a
    `duplicate`; of polygons, those on nodata and duplicates are pixels."""
    scheme: ClassScheme
    """Classes of map and reference."""
    mapped_area: np.ndarray
    """Area that the map gives each class (class,): m2, or pixels where there is no CRS."""
    total_area_m2: float
    """Area that the shares are of; NaN where there is no CRS."""
    estimates: Estimates
    """The scores."""
    strata: tuple[UsedStratum, ...]
    """The strata; none where the reference is no probability sample."""
    warnings: tuple[str, ...]
    """What to know about the figures."""


def show_assessment(terminal: Terminal, assessment: Assessment) -> None:
    """Print design, areas, scores and the confusion matrix."""
    found, names = assessment.estimates, assessment.scheme.names
    terminal.show(f"design: {_words(assessment)}")
    _show_areas(terminal, assessment)
    kinds = (found.users_accuracy, found.producers_accuracy, found.f1, found.iou)
    terminal.table(
        "Accuracy",
        ("class", "user's", "producer's", "F1", "IoU"),
        [(name, *(_shown(kind[i]) for kind in kinds)) for i, name in enumerate(names)],
    )
    for title, one in (
        ("overall accuracy", found.overall_accuracy),
        ("kappa", found.kappa),
        ("mean F1", found.mean_f1),
        ("mean IoU", found.mean_iou),
    ):
        terminal.show(f"{title} {_shown(one)}")
    terminal.show("± and bounds in brackets are those of 95 % intervals")
    counts = found.counts
    rows = [
        [name, *map(str, line), str(sum(line))]
        for name, line in zip(
            (*names, "total"), [*counts.tolist(), counts.sum(0).tolist()], strict=True
        )
    ]
    kind = "pixels" if assessment.unit == "polygon" else f"{assessment.unit}s"
    title = f"Confusion matrix: map (lines), reference (columns), {kind}"
    terminal.table(title, ["", *names, "total"], rows)


def _show_areas(terminal: Terminal, assessment: Assessment) -> None:
    """Print the area of each class, mapped and estimated."""
    total, divisor, unit = assessment.total_area_m2, 1.0, "pixels"
    if math.isnan(total):
        total = float(assessment.mapped_area.sum())
    else:
        divisor, unit = next((d, name) for least, d, name in _AREA_UNITS if total >= least)
    digits = 0 if total / divisor >= 1000 else 2
    rows = [
        (
            name,
            f"{assessment.mapped_area[i] / divisor:.{digits}f}",
            _shown(assessment.estimates.area_share[i].times(total / divisor), digits),
        )
        for i, name in enumerate(assessment.scheme.names)
    ]
    terminal.table(f"Area, {unit}", ("class", "mapped", "estimated"), rows)


def _words(assessment: Assessment) -> str:
    """Describe the design."""
    number = f"{assessment.sample_units} {assessment.unit}"
    number += "" if assessment.sample_units == 1 else "s"
    if assessment.unit == "polygon":
        number += f" as clusters of {assessment.estimates.counts.sum()} pixels"
    if assessment.design == "none":
        return (
            f"none stated; {number}, of which figures and areas are no design-based estimates, and "
            "whose intervals are those of a random sample of as many"
        )
    if assessment.design == "stratified":
        return f"stratified random sample, {number} in {len(assessment.strata)} strata"
    if assessment.strata:
        return f"simple random sample, {number}, post-stratified by the classes of the map"
    return f"simple random sample, {number}"


def _shown(one: Estimate, digits: int = 3) -> str:
    """Show an estimate with half of its interval, or with the ends of one that has no middle."""
    if math.isnan(one.value):
        return "-"
    value = f"{one.value:.{digits}f}"
    if math.isnan(one.standard_error):
        return value
    if one.low == one.high:
        return f"{value} ± {0:.{digits}f}"
    if one.standard_error == 0:
        low, high = (f"{end:.{digits}f}" for end in (one.low, one.high))
        if one.value in (one.low, one.high):
            return f"{value} (>{low})" if one.value == one.high else f"{value} (<{high})"
        return f"{value} ({low} to {high})"
    return f"{value} ± {one.half_width:.{digits}f}"


def assessment_json(assessment: Assessment) -> dict[str, Any]:
    """Return the figures as they are written, undefined ones as None."""
    found = assessment.estimates
    areas = assessment.mapped_area
    has_area = not math.isnan(assessment.total_area_m2)
    classes = [
        {
            "code": category.code,
            "name": category.name,
            "color": category.color,
            "mapped_area_m2": float(areas[i]) if has_area else None,
            "mapped_share": float(areas[i] / areas.sum()),
            "area_share": _numbers(found.area_share[i]),
            "area_m2": _numbers(found.area_share[i].times(assessment.total_area_m2)),
            "users_accuracy": _numbers(found.users_accuracy[i]),
            "producers_accuracy": _numbers(found.producers_accuracy[i]),
            "f1": _numbers(found.f1[i]),
            "iou": _numbers(found.iou[i]),
            "units_in_map": int(found.counts[i].sum()),
            "units_in_reference": int(found.counts[:, i].sum()),
        }
        for i, category in enumerate(assessment.scheme.categories)
    ]
    return {
        "format": FORMAT,
        "map": assessment.map,
        "reference": assessment.reference,
        "design": assessment.design,
        "probability_sample": assessment.design != "none",
        "confidence_level": 0.95,
        "sample_units": assessment.sample_units,
        "unit": assessment.unit,
        "left_out": dict(assessment.left_out),
        "overall_accuracy": _numbers(found.overall_accuracy),
        "kappa": _numbers(found.kappa),
        "mean_f1": _numbers(found.mean_f1),
        "mean_iou": _numbers(found.mean_iou),
        "classes": classes,
        "confusion_matrix": {
            "rows": "map",
            "columns": "reference",
            "classes": list(assessment.scheme.names),
            "counts": found.counts.tolist(),
            "proportions": found.proportions.tolist(),
        },
        "strata": [
            {
                "name": one.name,
                "pixels": one.pixels,
                "area_m2": _number(one.area_m2),
                "weight": one.weight,
                "units": one.units,
            }
            for one in assessment.strata
        ],
        "warnings": list(assessment.warnings),
    }


def write_assessment(path: Path, assessment: Assessment, *, overwrite: bool = False) -> None:
    """Write the figures as JSON.

    Raises:
        InputError: As `check_target`.
    """
    check_target(path, overwrite=overwrite, suffixes=(".json",))
    figures = assessment_json(assessment)
    text = json.dumps(figures, indent=2, allow_nan=False, ensure_ascii=False)
    with staged(path) as target:
        target.write_text(f"{text}\n", encoding="utf-8")


def _numbers(one: Estimate) -> dict[str, float | None]:
    keys = ("value", "standard_error", "low", "high")
    return dict(zip(keys, map(_number, one.numbers), strict=True))


def _number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN: an undefined one is null."""
    return None if math.isnan(value) else float(value)
