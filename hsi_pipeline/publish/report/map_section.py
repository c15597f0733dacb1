"""The map of a report: the interactive one, and the still pictures that print shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from hsi_pipeline.figures import length_text, round_length
from hsi_pipeline.publish.report.content import Report
from hsi_pipeline.publish.report.elements import Child, class_label, element
from hsi_pipeline.publish.report.layer_styles import LAYER_STYLES
from hsi_pipeline.publish.report.numbers import outside_share, percent
from hsi_pipeline.publish.report.outlines import PARTS, Outlines, encode_outlines
from hsi_pipeline.publish.report.rasters import class_png, data_address, layer_png, photo

_MOST_BYTES = 4_200_000
"""Of pictures and polygons together, so that a page stays below 5 MB."""
_MOST_OUTLINES = 1_500_000
_HELP = (
    "Click or tap the map for the class, confidence and coordinates of a pixel{polygons}. After a "
    "click the mouse wheel zooms; two fingers move and zoom on a touch screen. With the keyboard: "
)


@dataclass(frozen=True)
class Still:
    """A picture inside the page."""

    name: str
    """What the page's program calls it."""
    title: str
    """Its heading."""
    told: str
    """What it shows."""
    address: str
    """The picture itself, as a data address."""


def stills_of(report: Report) -> list[Still]:
    """Return the pictures of the scene, then the classes, then the layers of numbers."""
    overview = report.overview
    stills = [
        Still(one.name, one.title, one.told, data_address(photo(one.pixels), "webp"))
        for one in report.pictures
    ]
    address = data_address(class_png(overview.codes, report.scheme), "png")
    stills.append(Still("class", "Land cover", "Class of each pixel.", address))
    for name, values in overview.layers.items():
        style = LAYER_STYLES[name]
        address = data_address(layer_png(values, style.scale, style.colors), "png")
        stills.append(Still(name, style.title, style.told, address))
    return stills


def outlines_of(report: Report, stills: list[Still]) -> Outlines | None:
    """Return as many polygons as the page has room for, None where there are none."""
    if report.polygons is None:
        return None
    room = _MOST_BYTES - sum(len(still.address) for still in stills)
    overview = report.overview
    return encode_outlines(
        report.polygons, overview.grid, overview.step, max(0, min(room, _MOST_OUTLINES))
    )


def map_data(report: Report, outlines: Outlines | None) -> dict[str, Any]:
    """Return what the page's program must know."""
    overview, grid = report.overview, report.overview.grid
    layers = [{"id": "class", "title": "Land cover"}] + [
        {
            "id": name,
            "title": LAYER_STYLES[name].title,
            "step": LAYER_STYLES[name].scale.step,
            "high": LAYER_STYLES[name].scale.high,
            "percent": LAYER_STYLES[name].is_share,
        }
        for name in overview.layers
    ]
    fine = report.pixel_m is not None and abs(grid.transform.a) < 1e-2  # degrees
    return {
        "size": list(overview.codes.shape),
        "step": overview.step,
        "rows": [int(overview.rows[0])],
        "columns": [int(overview.columns[0])],
        "transform": list(grid.transform)[:6],
        "metres": None if report.pixel_m is None else report.pixel_m * overview.step,
        "crs": None if grid.crs is None else crs_name(report),
        "digits": 6 if fine else 1,
        "classes": [vars(category) for category in report.categories],
        "layers": layers,
        "polygons": outlines
        and {"parts": PARTS, "columns": outlines.columns, "rings": outlines.rings},
    }


def crs_name(report: Report) -> str:
    """Return a short name of the map's CRS."""
    crs = report.overview.grid.crs
    if crs is None:
        return "no CRS"
    return f"EPSG:{crs.epsg}" if crs.epsg else crs.proj.name


def map_section(report: Report, stills: list[Still], outlines: Outlines | None) -> ET.Element:
    """Return the section with the map."""
    section = element("section", element("h2", "Map"), id="map")
    section.extend(_notes(report, outlines))
    section.append(_explorer(report, stills, outlines))
    frame = element("div", class_="stills", aria_label="Pictures of the map")
    for still in stills:
        frame.append(_still_figure(report, still))
    section.append(frame)
    return section


def _notes(report: Report, outlines: Outlines | None) -> Iterator[ET.Element]:
    overview = report.overview
    if not overview.classified:
        yield _box("The map holds no classified pixel.")
    if overview.step > 1:
        yield element(
            "p",
            f"The map is larger than its pictures: they show one of {overview.step} x "
            f"{overview.step} pixels, and a click names the class of that one. All numbers of this "
            "report are of every pixel.",
        )
    if not report.has_scene:
        yield element("p", "No scene was given, so there are no pictures of it: ",
                      element("code", "report --scene SCENE"), " adds them.")  # fmt: skip
    elif not report.pictures:
        yield element("p", "The scene holds no band that a picture could be made of.")
    if outlines is None:
        yield element("p", "No polygons were given: ",
                      element("code", "report --polygons FILE"), " adds them.")  # fmt: skip
    elif len(outlines.rings) < outlines.total:
        yield element(
            "p",
            f"{len(outlines.rings):,} of {outlines.total:,} polygons are shown, the largest ones.",
        )


def _box(text: str) -> ET.Element:
    return element("div", element("p", text), class_="box warn", role="note")


def _explorer(report: Report, stills: list[Still], outlines: Outlines | None) -> ET.Element:
    pictures = {picture.name for picture in report.pictures}
    below = [still for still in stills if still.name in pictures]
    above = [still for still in stills if still.name not in pictures]
    help_text = _HELP.format(polygons=", and the attributes of a polygon" if outlines else "")
    keys: list[Child] = [
        element("kbd", "Tab"), " to the map, arrows to move, ", element("kbd", "+"), " and ",
        element("kbd", "-"), " to zoom, ", element("kbd", "Enter"), " for what is at the centre.",
    ]  # fmt: skip
    return element(
        "div",
        element(
            "div",
            _choices("picture", "Picture below", below) if below else None,
            _choices("layer", "Layer on top", above),
            _opacity(),
            _polygon_toggle(outlines) if outlines else None,
            class_="toolbar",
        ),
        element("div", _viewport(bool(below)), _panel(report, above), class_="stage"),
        element("p", help_text, keys, class_="hint"),
        element("p", id="said", class_="hidden", role="status"),
        class_="explorer card",
    )


def _choices(name: str, title: str, stills: list[Still]) -> ET.Element:
    chosen = "class" if name == "layer" else stills[0].name
    labels = [
        element(
            "label",
            element("input", type="radio", name=name, value=still.name,
                    checked=still.name == chosen),
            element("span", still.title),
        )
        for still in stills
    ]  # fmt: skip
    return element("fieldset", element("legend", title), element("div", labels, class_="choices"))


def _opacity() -> ET.Element:
    slider = element("input", type="range", id="opacity", min=0, max=100, value=100)
    return element("label", element("span", "Opacity of the layer", class_="label"), slider)


def _polygon_toggle(outlines: Outlines) -> ET.Element:
    box = element("input", type="checkbox", id="polygons", checked=True)
    return element("label", box, f"Polygons ({len(outlines.rings):,})", class_="check")


def _viewport(has_pictures: bool) -> ET.Element:
    viewport = element(
        "div",
        element("div", id="leaflet", tabindex=0, role="region", aria_label="Interactive map"),
        element("div", class_="cross", aria_hidden="true"),
        class_="viewport",
    )
    if has_pictures:
        viewport.append(element("div", id="swipe-line", class_="swipe-line", aria_hidden="true"))
        label = "Swipe between the picture, left of the line, and the layer"
        viewport.append(element("input", type="range", id="swipe", class_="swipe", min=0, max=100,
                                value=50, aria_label=label))  # fmt: skip
    return viewport


def _panel(report: Report, stills: list[Still]) -> ET.Element:
    panel = element("div", class_="panel", role="group", aria_label="Legend")
    for still in stills:
        legend = _legend(report, still)
        legend.set("data-layer", still.name)
        legend.insert(0, element("h3", still.title))
        panel.append(legend)
    return panel


def _legend(report: Report, still: Still) -> ET.Element:
    if still.name == "class":
        total = report.total_m2
        items = [
            element(
                "li",
                class_label(category.name, category.color),
                element("span", percent(report.mapped(category) / total if total else None),
                        class_="share"),
            )
            for category in report.categories
        ]  # fmt: skip
        return element("div", element("ul", items), class_="legend")
    style = LAYER_STYLES[still.name]
    ticks = element("div", [element("span", tick) for tick in style.ticks], class_="ticks")
    legend = element(
        "div",
        element("div", class_="ramp", style=f"background:{style.gradient}"),
        ticks,
        element("p", style.told),
        class_="legend",
    )
    outside = outside_share(report)
    if still.name == "dissimilarity" and outside is not None:
        legend.append(element("p", f"{percent(outside)} of the classified pixels are outside."))
    elif report.overview.classified:
        mean = report.overview.mean(still.name)
        text = percent(mean) if style.is_share else f"{mean:.2f}"
        legend.append(element("p", f"Mean over the map: {text}."))
    return legend


def _still_figure(report: Report, still: Still) -> ET.Element:
    caption = element("figcaption", element("strong", still.title))
    if still.name == "class" or still.name in LAYER_STYLES:
        caption.append(_legend(report, still))
    else:
        caption[-1].tail = f". {still.told}"
    image = element("img", src=still.address, alt=f"{still.title}. {still.told}")
    return element(
        "figure",
        element("div", image, _scale_bar(report), class_="frame"),
        caption,
        id=f"still-{still.name}",
    )


def _scale_bar(report: Report) -> ET.Element | None:
    if report.pixel_m is None:
        return None
    width = report.overview.grid.shape[1] * report.pixel_m
    length = round_length(width / 4)
    style = f"width:{100 * length / width:.2f}%"
    return element("div", length_text(length), class_="length", style=style)


def as_json(data: dict[str, Any]) -> str:
    """Return JSON that may stand inside a script element."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":  # U+2028 and its like are escaped already
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
