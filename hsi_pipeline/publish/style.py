"""Class scheme -> styles: QML for QGIS 3.22 and later, SLD 1.0.0 for MapServer, GeoServer, QGIS.

QGIS reads the QML by itself. It reads the SLD of polygons on request; that of rasters QGIS 3.22
does not read at all (its issue 36347).
"""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

from hsi_pipeline.classes import Category, ClassScheme
from hsi_pipeline.map_layers import NUMBER_LAYERS

_DOUBT = ("#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#67001f")  # ColorBrewer's RdGy, one half
_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_SLD_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_OUTLINE = {"outline_color": "35,35,35,255", "outline_width": "0.1", "outline_width_unit": "MM"}
# SLD counts in pixels, which the standard takes to be 0.28 mm wide
_SLD_OUTLINE = {"stroke": "#232323", "stroke-width": "0.36"}


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


def number_qml(name: str) -> str:
    """Return the style of a layer of numbers: pale where all is well, dark red where not.

    Args:
        name: One of `map_layers.NUMBER_LAYERS`.
    """
    good, bad = next(layer.doubt_at for layer in NUMBER_LAYERS if layer.name == name)
    low, high = min(good, bad), max(good, bad)
    root = _root()
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="singlebandpseudocolor", band="1", opacity="1",
        alphaBand="-1", classificationMin=str(low), classificationMax=str(high),
    )  # fmt: skip
    shader = ET.SubElement(ET.SubElement(renderer, "rastershader"), "colorrampshader")
    # of dissimilarity what is above 1 stands out; all else fades from value to value
    kind = "DISCRETE" if name == "dissimilarity" else "INTERPOLATED"
    shader.attrib |= {"colorRampType": kind, "classificationMode": "1", "clip": "0"}
    colors = _DOUBT if good < bad else _DOUBT[::-1]
    steps = [low + (high - low) * i / (len(colors) - 1) for i in range(len(colors))]
    if kind == "DISCRETE":  # a colour goes up to its value
        steps = [high * (i + 1) / (len(colors) - 1) for i in range(len(colors) - 1)] + [math.inf]
    for i, (value, color) in enumerate(zip(steps, colors, strict=True)):
        label = f"{value:.2f}"
        if kind == "DISCRETE":
            label = "above 1: not applicable" if i == len(colors) - 1 else f"up to {value:.2f}"
        text = "inf" if value == math.inf else str(value)
        ET.SubElement(shader, "item", value=text, label=label, color=color, alpha="255")
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


def raster_sld(scheme: ClassScheme, layer: str = "landcover") -> str:
    """Return the SLD of a class map: a colour for exactly each class, 0 not drawn.

    Args:
        scheme: The classes.
        layer: Name of the layer that it is for. MapServer applies it to the layer of that name
            alone; GeoServer and QGIS do not ask.
    """
    root, rules = _sld(layer)
    symbolizer = ET.SubElement(ET.SubElement(rules, "Rule"), "RasterSymbolizer")
    # the type is an extension of GeoServer, which else blends colours between the codes
    colors = ET.SubElement(symbolizer, "ColorMap", type="values")
    for category in scheme.categories:
        ET.SubElement(
            colors, "ColorMapEntry", color=category.color, quantity=str(category.code),
            label=category.name, opacity="1",
        )  # fmt: skip
    return _sld_text(root)


def polygon_sld(scheme: ClassScheme, field: str = "code", layer: str = "landcover") -> str:
    """Return the SLD of polygons: filled in the colour of their class, with a thin outline.

    Args:
        scheme: The classes.
        field: Name of the field that holds the class code.
        layer: As at `raster_sld`.
    """
    root, rules = _sld(layer)
    for category in scheme.categories:
        rule = ET.SubElement(rules, "Rule")
        ET.SubElement(rule, "Name").text = category.name  # for readers that know no titles
        ET.SubElement(rule, "Title").text = category.name
        test = ET.SubElement(ET.SubElement(rule, "ogc:Filter"), "ogc:PropertyIsEqualTo")
        ET.SubElement(test, "ogc:PropertyName").text = field
        ET.SubElement(test, "ogc:Literal").text = str(category.code)
        symbolizer = ET.SubElement(rule, "PolygonSymbolizer")
        for part, parameters in (("Fill", {"fill": category.color}), ("Stroke", _SLD_OUTLINE)):
            element = ET.SubElement(symbolizer, part)
            for name, value in parameters.items():
                ET.SubElement(element, "CssParameter", name=name).text = value
    return _sld_text(root)


def read_polygon_qml(text: str, field: str) -> ClassScheme | None:
    """Return the classes of a style by `polygon_qml`, None if it is of another kind.

    Args:
        text: QML.
        field: Name of the field that it must be about.
    """
    try:
        renderer = ET.fromstring(text).find("renderer-v2")
        if renderer is None or renderer.get("attr") != field:
            return None
        colors = {
            symbol.get("name"): symbol.find("layer/Option/Option[@name='color']").get("value")  # type: ignore[union-attr]
            for symbol in renderer.iterfind("symbols/symbol")
        }
        return ClassScheme(
            tuple(
                Category(
                    int(entry.get("value", "")),
                    entry.get("label", ""),
                    "#"
                    + "".join(
                        f"{int(n):02x}" for n in str(colors[entry.get("symbol")]).split(",")[:3]
                    ),
                )
                for entry in renderer.iterfind("categories/category")
            )
        )
    except (ET.ParseError, AttributeError, KeyError, ValueError):
        return None


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


def _sld(layer: str) -> tuple[ET.Element, ET.Element]:
    """Return the root of an SLD, and where its rules go."""
    # prefixes written out: to register them with ElementTree would change all of its output
    root = ET.Element(
        "StyledLayerDescriptor",
        {
            "version": "1.0.0",
            "xmlns": "http://www.opengis.net/sld",
            "xmlns:ogc": "http://www.opengis.net/ogc",
        },
    )
    named = ET.SubElement(root, "NamedLayer")
    ET.SubElement(named, "Name").text = layer
    return root, ET.SubElement(ET.SubElement(named, "UserStyle"), "FeatureTypeStyle")


def _sld_text(root: ET.Element) -> str:
    ET.indent(root)
    return _SLD_HEAD + ET.tostring(root, encoding="unicode") + "\n"
