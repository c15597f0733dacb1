"""Areas and accuracy: what a map shows, and what a reference says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from hsi_pipeline.figures import areas_figure, as_svg
from hsi_pipeline.publish.report.content import Report
from hsi_pipeline.publish.report.elements import Child, class_label, element, inline_svg
from hsi_pipeline.publish.report.numbers import DASH, amount, area_unit, interval, percent

_DESIGNS = {
    "stratified": "a stratified random sample: units were drawn at random within each stratum, and "
    "each stratum counts by its share of the map (Olofsson et al. 2014)",
    "simple": "a simple random sample: every unit of the map had the same chance to be drawn",
    "none": "not a probability sample: the units were not drawn at random",
}
_LEFT_OUT = {
    "outside": "outside the map",
    "nodata": "on pixels without a class",
    "without_class": "without a class of the map",
    "duplicate": "of a place that was there already",
}
NOT_RANDOM = (
    "The reference is not a probability sample. Accuracy and areas describe these units and need "
    "not hold for the map; the intervals only show how few or many units there were."
)
_MEASURES = ("users_accuracy", "producers_accuracy", "f1", "iou")


def area_estimates(report: Report) -> list[tuple[float, float, float] | None] | None:
    """Return estimated area, low and high of each class in the report's unit.

    None where the assessment has no estimate for any class of the map.
    """
    m2, _ = area_unit(report)
    has_crs = report.overview.grid.crs is not None
    key, factor = ("area_m2", 1 / m2) if has_crs else ("area_share", report.total_m2)
    found: list[tuple[float, float, float] | None] = []
    for category in report.categories:
        estimate = (report.assessed(category) or {}).get(key) or {}
        ends = [estimate.get(end) for end in ("value", "low", "high")]
        found.append(None if None in ends else tuple(factor * end for end in ends))  # type: ignore[arg-type, operator]
    return found if any(found) else None


def areas_section(report: Report) -> ET.Element:
    """Return the section with the area of each class."""
    m2, unit = area_unit(report)
    estimates = area_estimates(report)
    mapped = [report.mapped(category) / m2 for category in report.categories]
    label = f"Area of each class in {unit}, as in the table"
    figure = as_svg(areas_figure(report.scheme, mapped, unit, estimates), "areas")
    section = element("section", element("h2", "Area of each class"), id="areas")
    if estimates is None:
        section.append(element("p", "Mapped areas count pixels. They are biased where classes are "
                               "confused; an assessment with a random sample gives unbiased areas "
                               "with intervals."))  # fmt: skip
    else:
        section.append(element("p", "Mapped areas count pixels. Estimated areas correct them by "
                               f"the confusion that the reference shows, with the {_level(report)} "
                               "interval."))  # fmt: skip
    section.append(
        element(
            "div",
            element("div", _areas_table(report, mapped, estimates, unit), class_="card scroll"),
            element("figure", inline_svg(figure, label), class_="card"),
            class_="pair",
        )
    )
    return section


def _areas_table(
    report: Report,
    mapped: list[float],
    estimates: list[tuple[float, float, float] | None] | None,
    unit: str,
) -> ET.Element:
    total = sum(mapped)
    rows = []
    for i, category in enumerate(report.categories):
        share = percent(mapped[i] / total if total else None)
        row = element(
            "tr",
            element("th", class_label(category.name, category.color), scope="row"),
            element("td", amount(mapped[i]), element("small", share)),
        )
        if estimates is not None:
            found = estimates[i]
            between = found and f"{amount(found[1])}{DASH}{amount(found[2])}"
            number = amount(found[0]) if found else DASH
            row.append(element("td", number, element("small", between) if between else None))
        rows.append(row)
    if estimates is not None:
        rows += _rows_of_other_classes(report)
    foot = element("tr", element("th", "All", scope="row"), element("td", amount(total)),
                   element("td") if estimates is not None else None)  # fmt: skip
    heads = ["Class", f"Mapped, {unit}"] + ([f"Estimated, {unit}"] if estimates else [])
    return element(
        "table",
        element("thead", element("tr", [element("th", head, scope="col") for head in heads])),
        element("tbody", rows),
        element("tfoot", foot),
    )


def _rows_of_other_classes(report: Report) -> list[ET.Element]:
    """Return rows of the classes that only the assessment has: joined ones, and the reference's."""
    known = {category.name for category in report.categories}
    m2, _ = area_unit(report)
    rows = []
    for one in (report.assessment or {}).get("classes", ()):
        area = one.get("area_m2") or {}
        if one["name"] in known or area.get("value") is None:
            continue
        low, high = area.get("low"), area.get("high")
        between = None
        if low is not None and high is not None:
            between = f"{amount(low / m2)}{DASH}{amount(high / m2)}"
        mapped = one.get("mapped_area_m2")
        rows.append(
            element(
                "tr",
                element("th", class_label(one["name"], one["color"]), scope="row"),
                element("td", DASH if mapped is None else amount(mapped / m2)),
                element("td", amount(area["value"] / m2), element("small", between)),
            )
        )
    return rows


def accuracy_section(report: Report) -> ET.Element:
    """Return the section with the accuracy of the map."""
    section = element("section", element("h2", "Accuracy"), id="accuracy")
    found = report.assessment
    if found is None:
        section.append(
            element("p", "No assessment was given, so nothing is said about how right the map is: ",
                    element("code", "hsi-pipeline assess MAP REFERENCE --out assessment.json"),
                    ", then ", element("code", "report --assessment assessment.json"), ".")
        )  # fmt: skip
        return section
    section.append(element("p", f"{_design(found)} {_left_out(found)}"))
    cautions = [] if found.get("probability_sample") else [NOT_RANDOM]
    told = [str(warning) for warning in found.get("warnings", ())]
    # which says the same for those who sit at a terminal
    cautions += [_sentence(warning) for warning in told if "probability sample" not in warning]
    if cautions:
        section.append(warning_box(cautions))
    section.append(element("dl", list(_overall_tiles(report, found)), class_="tiles"))
    matrix = found.get("confusion_matrix")
    section.append(
        element(
            "div",
            _class_card(report, found),
            element("div", list(_matrix_cards(matrix)), class_="flow") if matrix else None,
            class_="stack",
        )
    )
    return section


def warning_box(texts: Sequence[str]) -> ET.Element:
    """Return a box with what a reader must know."""
    return element("div", [element("p", text) for text in texts], class_="box warn", role="note")


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _level(report: Report) -> str:
    return percent((report.assessment or {}).get("confidence_level", 0.95), 0)


def _design(found: Mapping[str, Any]) -> str:
    design = _DESIGNS.get(str(found.get("design")), str(found.get("design")))
    strata = found.get("strata") or ()
    count = f"{found.get('sample_units', 0):,} {found.get('unit', 'unit')}s"
    within = f" in {len(strata)} strata" if found.get("design") == "stratified" and strata else ""
    return f"The map was compared with {count}{within} of {found.get('reference')}, {design}."


def _left_out(found: Mapping[str, Any]) -> str:
    parts = [
        f"{count:,} {_LEFT_OUT.get(key, key)}"
        for key, count in (found.get("left_out") or {}).items()
        if count
    ]
    return f"Left out: {', '.join(parts)}." if parts else "None was left out."


def _overall_tiles(report: Report, found: Mapping[str, Any]) -> Iterator[ET.Element]:
    for key, name, told in (
        ("overall_accuracy", "Overall accuracy", "of the area is mapped right"),
        ("mean_f1", "Mean F1", "mean over the classes, however rare"),
        ("mean_iou", "Mean IoU", "intersection over union, likewise"),
        ("kappa", "Kappa", "agreement beyond chance; often asked for, not advised"),
    ):
        text, between = _texts(found.get(key) or {}, as_share=key != "kappa")
        yield element(
            "div",
            element("dt", name),
            element("dd", text, class_="number"),
            element("dd", interval_note(_level(report), between), class_="note"),
            element("dd", told, class_="note"),
            class_="tile",
        )  # fmt: skip


def _class_card(report: Report, found: Mapping[str, Any]) -> ET.Element:
    known = {category.name: category.color for category in report.categories}
    rows = []
    for one in found.get("classes", ()):
        color = known.get(one["name"], one.get("color"))
        rows.append(
            element(
                "tr",
                element("th", class_label(one["name"], color), scope="row"),
                [_cell(one.get(key) or {}) for key in _MEASURES],
                [element("td", f"{one.get(key, 0):,}")
                 for key in ("units_in_map", "units_in_reference")],
            )
        )  # fmt: skip
    heads = ("Class", "User's", "Producer's", "F1", "IoU", "In map", "In reference")
    table = element(
        "table",
        element("thead", element("tr", [element("th", head, scope="col") for head in heads])),
        element("tbody", rows),
    )
    told = (
        "User's accuracy: how much of what is mapped as the class is it. Producer's: how much of "
        f"the class is mapped as such. Below each number its {_level(report)} interval; in the "
        "last columns units of the reference."
    )
    return table_card("Each class", told, table)


def interval_note(level: str, between: str) -> Child:
    """Return a note on an interval, which is not broken in two."""
    return (
        [f"{level} interval ", element("span", between, class_="whole")]
        if between
        else ("no interval")
    )


def table_card(title: str, told: str, table: ET.Element) -> ET.Element:
    """Return a table that scrolls by itself where it is too wide, under its heading."""
    return element(
        "div",
        element("h3", title),
        element("p", told, class_="quiet"),
        element("div", table, class_="scroll", tabindex=0, role="region", aria_label=title),
        class_="card",
    )


def _cell(estimate: Mapping[str, Any]) -> ET.Element:
    text, between = _texts(estimate)
    return element("td", text, element("small", between) if between else None)


def _texts(estimate: Mapping[str, Any], *, as_share: bool = True) -> tuple[str, str]:
    """Return a number and its interval as text, the latter empty where there is none."""
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    if value is None:
        return DASH, ""
    if as_share:
        return percent(value), interval(estimate)
    return f"{value:.3f}", "" if low is None or high is None else f"{low:.3f}{DASH}{high:.3f}"


def _matrix_cards(matrix: Mapping[str, Any]) -> Iterator[ET.Element]:
    rows = "Rows: map. Columns: reference. The stronger the shade, the larger the share of its row."
    counts = np.asarray(matrix["counts"], float)
    table = _matrix(matrix["classes"], counts, lambda x: f"{x:,g}")
    yield table_card("Confusion matrix, units", rows, table)
    if matrix.get("proportions"):
        shares = np.asarray(matrix["proportions"], float)
        table = _matrix(matrix["classes"], shares, lambda x: f"{100 * x:.1f}")
        yield table_card("Confusion matrix, % of the area", rows, table)


def _matrix(names: list[str], cells: np.ndarray, write: Any) -> ET.Element:
    """Return a confusion matrix: shades are shares of a row, so that no number needs a colour."""
    sums = cells.sum(1)
    rows = [
        element("tr", element("th", name, scope="row"), list(_row(cells[i], sums[i], i, write)),
                element("td", write(sums[i]), class_="sum"))
        for i, name in enumerate(names)
    ]  # fmt: skip
    foot = element(
        "tr",
        element("th", "All", scope="row"),
        [element("td", write(value), class_="sum") for value in cells.sum(0)],
        element("td", write(cells.sum()), class_="sum"),
    )
    heads = [element("th", name, scope="col") for name in (*names, "All")]
    return element(
        "table",
        element("thead", element("tr", element("td"), heads)),
        element("tbody", rows),
        element("tfoot", foot),
        class_="matrix",
    )


def _row(cells: np.ndarray, total: float, place: int, write: Any) -> Iterator[ET.Element]:
    for column, value in enumerate(cells):
        shade = 0.62 * value / total if total else 0
        yield element(
            "td",
            write(value) if value else element("span", "0", class_="zero"),
            class_="right" if column == place else None,
            style=f"background:rgba(var(--shade),{shade:.2f})" if shade >= 0.01 else None,
        )
