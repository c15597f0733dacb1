"""Class scheme -> QGIS styles (QML), as QGIS 3.22 and later read them."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hsi_pipeline.classes import Category, ClassScheme

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_OUTLINE = {"outline_color": "35,35,35,255", "outline_width": "0.1", "outline_width_unit": "MM"}


def raster_qml(scheme: ClassScheme) -> str:
    """Return the style of a class map: a palette of exactly the classes, 0 not drawn."""
    root = _root()
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1",
        nodataColor="",
    )  # fmt: skip
    palette = ET.SubElement(renderer, "colorPalette")
    for category in scheme.categories:
        ET.SubElement(
            palette, "paletteEntry", value=str(category.code), color=category.color,
            label=category.name, alpha="255",
        )  # fmt: skip
    ET.SubElement(root, "blendMode").text = "0"
    return _text(root)


def polygon_qml(scheme: ClassScheme, field: str = "code") -> str:
    """Return the style of polygons: filled in the colour of their class, with a thin outline.

    Args:
        scheme: The classes.
        field: Name of the field that holds the class code.
    """
    root = _root()
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=field, symbollevels="0",
        enableorderby="0", forceraster="0",
    )  # fmt: skip
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for position, category in enumerate(scheme.categories):
        ET.SubElement(
            categories, "category", value=str(category.code), symbol=str(position),
            label=category.name, render="true",
        )  # fmt: skip
        symbols.append(_fill(str(position), category))
    ET.SubElement(root, "layerGeometryType").text = "2"  # polygons
    return _text(root)


def _fill(name: str, category: Category) -> ET.Element:
    """Return a fill symbol; properties in the form of QGIS 3.18 and later, and in the older."""
    symbol = ET.Element("symbol", name=name, type="fill", alpha="1", clip_to_extent="1",
                        force_rhr="0")  # fmt: skip
    layer = ET.SubElement(
        symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"}
    )
    properties = {
        "color": ",".join(map(str, (*category.rgb, 255))),
        "style": "solid",
        "outline_style": "solid",
        **_OUTLINE,
    }
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in properties.items():
        ET.SubElement(options, "Option", name=key, type="QString", value=value)
        ET.SubElement(layer, "prop", k=key, v=value)
    return symbol


def _root() -> ET.Element:
    return ET.Element("qgis", version="3.22.0-Białowieża", styleCategories="Symbology")


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return _HEAD + ET.tostring(root, encoding="unicode") + "\n"
