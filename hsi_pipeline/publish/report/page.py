"""The page of a report, from its head to its end."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from xml.etree import ElementTree as ET

from hsi_pipeline import __version__
from hsi_pipeline.figures import as_svg, spectra_figure
from hsi_pipeline.publish.record import ACCURACY
from hsi_pipeline.publish.report.accuracy_section import (
    accuracy_section,
    areas_section,
    interval_note,
    warning_box,
)
from hsi_pipeline.publish.report.content import Report
from hsi_pipeline.publish.report.elements import Child, breakable, class_label, element, inline_svg
from hsi_pipeline.publish.report.map_section import Still, crs_name, map_section
from hsi_pipeline.publish.report.model_section import model_section, validation_accuracy
from hsi_pipeline.publish.report.numbers import (
    amount,
    area_unit,
    date_text,
    interval,
    outside_share,
    percent,
    size_text,
)
from hsi_pipeline.publish.report.outlines import Outlines

_PARTS = {
    "map": "Map",
    "areas": "Areas",
    "accuracy": "Accuracy",
    "model": "Model",
    "spectra": "Spectra",
    "provenance": "Provenance",
}
_MOST_PANELS = 24  # of spectra
_MOST_OTHERS = 8  # of the largest classes, behind each of them


def page_of(report: Report, stills: list[Still], outlines: Outlines | None) -> list[ET.Element]:
    """Return what the body of the page holds."""
    main = element(
        "main",
        element("div", warning_box(report.warnings), class_="top") if report.warnings else None,
        map_section(report, stills, outlines),
        areas_section(report),
        accuracy_section(report),
        model_section(report),
        _spectra_section(report),
        _provenance_section(report),
        id="main",
        class_="inner",
    )
    links = [element("li", element("a", name, href=f"#{part}")) for part, name in _PARTS.items()]
    return [
        element("a", "Skip to the map", href="#map", class_="skip"),
        _head(report),
        element(
            "nav",
            element("div", element("ul", links), class_="inner"),
            class_="contents",
            aria_label="Contents",
        ),
        main,
        element(
            "footer",
            element("p", f"Made with hsi_pipeline {__version__}. The map uses Leaflet 1.9.4. This "
                    "file holds all it needs and asks no server for anything."),
            class_="inner end",
        ),
    ]  # fmt: skip


def _head(report: Report) -> ET.Element:
    attrs, grid = report.attrs, report.overview.grid
    facts = [
        f"Scene {report.scene_id}" if report.scene_id else None,
        date_text(str(attrs["acquired"])) if attrs.get("acquired") else None,
        str(attrs["sensor"]) if attrs.get("sensor") else None,
        f"{grid.shape[0]:,} x {grid.shape[1]:,} pixels"
        + (f" of {amount(report.pixel_m)} m" if report.pixel_m else ""),
        crs_name(report),
    ]
    return element(
        "header",
        element(
            "div",
            element("p", "Land-cover report", class_="kind"),
            element("h1", breakable(report.title)),
            element("ul", [element("li", fact) for fact in facts if fact], class_="facts-line"),
            element("dl", list(_tiles(report)), class_="tiles"),
            class_="inner",
        ),
        class_="head",
    )


def _tiles(report: Report) -> Iterator[ET.Element]:
    yield _accuracy_tile(report)
    m2, unit = area_unit(report)
    overview = report.overview
    share = overview.classified / max(int(overview.pixels.sum()), 1)
    yield _tile("Mapped area", amount(report.total_m2 / m2), unit,
                f"{percent(share)} of the pixels have a class")  # fmt: skip
    present = sum(bool(overview.pixels[category.code]) for category in report.categories)
    missing = len(report.scheme) - present
    note = f"{missing} more of the scheme not found" if missing else "all of the scheme"
    yield _tile("Classes on the map", str(present), "", note)
    if "confidence" in overview.layers and overview.classified:
        yield _tile("Mean confidence", percent(overview.mean("confidence")), "",
                    "what the model thinks of itself")  # fmt: skip
    outside = outside_share(report)
    if outside is not None:
        yield _tile("Outside the area of applicability", percent(outside), "",
                    "of the classified pixels: unlike anything in training")  # fmt: skip


def _accuracy_tile(report: Report) -> ET.Element:
    found = report.assessment
    if found is None and (report.card is None or not report.card.scores):
        return _tile("Accuracy", "unknown", "", "no assessment was given")
    if found is None:
        return _tile("Validation accuracy", validation_accuracy(report.card), "",
                     "on labels kept from training; the map itself was not assessed")  # fmt: skip
    overall = found.get("overall_accuracy") or {}
    level = percent(found.get("confidence_level", 0.95), 0)
    between = interval_note(level, interval(overall))
    units = f"{found.get('sample_units', 0):,} {found.get('unit', 'unit')}s"
    tile = _tile("Overall accuracy", percent(overall.get("value")), "", between)
    if found.get("probability_sample"):
        tile.append(element("dd", f"from a random sample of {units}", class_="note"))
    else:
        link = element("a", "not a random sample", href="#accuracy")
        tile.append(element("dd", f"from {units}, ", link, class_="note caution"))
    return tile


def _tile(name: str, number: str, unit: str, note: Child) -> ET.Element:
    return element(
        "div",
        element("dt", name),
        element("dd", number, element("span", f" {unit}", class_="unit") if unit else None,
                class_="number"),
        element("dd", note, class_="note"),
        class_="tile",
    )  # fmt: skip


def _spectra_section(report: Report) -> ET.Element:
    section = element("section", element("h2", "Spectra of the classes"), id="spectra")
    spectra = report.spectra
    if spectra is None:
        text = "No spectra: the map holds no classified pixel." if report.has_scene else None
        section.append(
            element("p", text)
            if text
            else element("p", "No scene was given, so there are no spectra: ",
                         element("code", "report --scene SCENE"), " adds them.")
        )  # fmt: skip
        return section
    surer = ", from its more confident half," if "confidence" in report.overview.layers else ""
    section.append(
        element("p", f"Mean (line) and 10th to 90th percentile (band) of up to {spectra.most:,} "
                f"pixels mapped as each class{surer} with the means of the other classes in grey. "
                f"The vertical axis is {spectra.quantity}; gaps are bands that are bad or missing.")
    )  # fmt: skip
    shown = sorted(spectra.classes, key=lambda one: -report.overview.pixels[one.category.code])
    kept = {one.category.code for one in shown[:_MOST_PANELS]}
    panels = element("div", class_="spectra")
    for one in spectra.classes:
        if one.category.code not in kept:
            continue
        others = [other for other in shown[:_MOST_OTHERS] if other is not one]
        figure = spectra_figure([one], spectra.positions, x_label=spectra.x_label,
                                y_label=spectra.quantity, columns=1, others=others)  # fmt: skip
        svg = as_svg(figure, f"spectrum{one.category.code}")
        label = f"Spectrum of {one.category.name}: {spectra.quantity} over {spectra.x_label}"
        head = element("h3", class_label(one.category.name, one.category.color),
                       element("small", f"{one.pixels:,} pixels"))  # fmt: skip
        panels.append(element("figure", head, inline_svg(svg, label), class_="card"))
    section.append(panels)
    if len(spectra.classes) > len(kept):
        section.append(element("p", f"The {len(kept)} largest of {len(spectra.classes)} classes."))
    return section


def _provenance_section(report: Report) -> ET.Element:
    files = [
        element("tr", element("th", file.role, scope="row"),
                element("td", breakable(file.name),
                        element("small", "SHA-256 ", element("code", file.sha256))
                        if file.sha256 else None),
                element("td", size_text(file.size)))
        for file in report.files
    ]  # fmt: skip
    heads = [element("th", head, scope="col") for head in ("File", "Name", "Size")]
    attributes = [
        element(
            "tr",
            element("th", breakable(str(key)), scope="row"),
            element("td", breakable(str(value))),
        )
        for key, value in sorted(report.attrs.items())
        if key != ACCURACY  # a section of its own
    ]
    return element(
        "section",
        element("h2", "Provenance"),
        element("p", "What this report was made of. The same numbers stand, for programs, in the "
                "JSON file of the same name beside it."),
        element(
            "div",
            element("div",
                    element("table", element("thead", element("tr", heads)),
                            element("tbody", files), class_="plain files"),
                    class_="card scroll"),
            element("div", element("h3", "Made by"),
                    element("table", element("tbody", list(_makers(report))), class_="plain"),
                    class_="card"),
            element(
                "div",
                element("h3", "What the map says of itself"),
                element("table", element("tbody", attributes), class_="plain")
                if attributes
                else element("p", "The map has no attributes.", class_="quiet"),
                class_="card",
            ),
            class_="stack",
        ),
        id="provenance",
    )  # fmt: skip


def _makers(report: Report) -> Iterator[ET.Element]:
    card = report.card
    libraries = (
        f"{name} {version(name)}" for name in ("numpy", "xarray", "rasterio", "matplotlib")
    )
    for name, value in (
        ("This report", f"hsi_pipeline {__version__}, {datetime.now(UTC):%Y-%m-%d}"),
        ("The map", report.attrs.get("software")),
        ("The model", card and f"hsi_pipeline {card.version}, {card.architecture}"),
        ("With", f"Python {platform.python_version()}, {', '.join(libraries)}, Leaflet 1.9.4"),
    ):
        if value:
            yield element("tr", element("th", name, scope="row"), element("td", str(value)))
