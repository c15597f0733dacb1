"""QML and SLD texts: well-formed, with exactly the classes, names escaped."""

from xml.etree import ElementTree as ET

import pytest

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.map_layers import NUMBER_LAYERS
from hsi_pipeline.publish.style import number_qml, polygon_qml, polygon_sld, raster_qml, raster_sld

SCHEME = make_scheme(
    [1, 2, 9], {1: "roof & <metal>", 2: 'grass "low"', 9: "Wälder"}, {1: "#ff0000", 9: "#00ff7f"}
)

SLD = {"": "http://www.opengis.net/sld", "ogc": "http://www.opengis.net/ogc"}


def test_raster_style_is_a_palette_of_exactly_the_classes():
    root = ET.fromstring(raster_qml(SCHEME))
    renderer = root.find("pipe/rasterrenderer")
    assert root.tag == "qgis"
    assert renderer.get("type") == "paletted"
    assert renderer.get("band") == "1"
    entries = renderer.findall("colorPalette/paletteEntry")
    assert [(int(e.get("value")), e.get("label"), e.get("color")) for e in entries] == [
        (c.code, c.name, c.color) for c in SCHEME.categories
    ]


def test_polygon_style_has_one_fill_for_each_class():
    root = ET.fromstring(polygon_qml(SCHEME, field="kind"))
    renderer = root.find("renderer-v2")
    assert renderer.get("type") == "categorizedSymbol"
    assert renderer.get("attr") == "kind"
    symbols = {s.get("name"): s for s in renderer.findall("symbols/symbol")}
    assert len(symbols) == len(SCHEME)
    for entry, category in zip(
        renderer.findall("categories/category"), SCHEME.categories, strict=True
    ):
        assert (entry.get("value"), entry.get("label")) == (str(category.code), category.name)
        symbol = symbols[entry.get("symbol")]
        assert symbol.get("type") == "fill"
        color = symbol.find("layer/Option/Option[@name='color']").get("value")
        assert color == "{},{},{},255".format(*category.rgb)
        assert symbol.find("layer/prop[@k='color']").get("v") == color


def test_raster_sld_has_a_color_for_exactly_the_classes():
    root = ET.fromstring(raster_sld(SCHEME, layer="scene & map"))
    assert root.get("version") == "1.0.0"
    assert root.find("NamedLayer/Name", SLD).text == "scene & map"
    (colors,) = root.iter(f"{{{SLD['']}}}ColorMap")
    assert colors.get("type") == "values"
    assert [(int(e.get("quantity")), e.get("label"), e.get("color")) for e in colors] == [
        (c.code, c.name, c.color) for c in SCHEME.categories
    ]


def test_polygon_sld_has_one_rule_for_each_class():
    root = ET.fromstring(polygon_sld(SCHEME, field="kind", layer="parcels"))
    assert root.get("version") == "1.0.0"
    assert root.find("NamedLayer/Name", SLD).text == "parcels"
    rules = root.findall("NamedLayer/UserStyle/FeatureTypeStyle/Rule", SLD)
    for rule, category in zip(rules, SCHEME.categories, strict=True):
        assert rule.find("Title", SLD).text == category.name
        test = rule.find("ogc:Filter/ogc:PropertyIsEqualTo", SLD)
        assert test.find("ogc:PropertyName", SLD).text == "kind"
        assert test.find("ogc:Literal", SLD).text == str(category.code)
        fill = rule.find("PolygonSymbolizer/Fill/CssParameter[@name='fill']", SLD)
        assert fill.text == category.color
        assert rule.find("PolygonSymbolizer/Stroke", SLD) is not None


@pytest.mark.parametrize("layer", NUMBER_LAYERS, ids=lambda layer: layer.name)
def test_styles_of_numbers_are_palest_where_all_is_well(layer):
    (shader,) = ET.fromstring(number_qml(layer.name)).iter("colorrampshader")
    colors = {float(e.get("value")): e.get("color") for e in shader}
    values = sorted(colors)
    good, bad = (values[0], values[-1]) if layer.name in ("entropy", "dissimilarity") else (1, 0)
    assert colors[good] == "#f7f7f7"
    assert colors[bad] == "#67001f"
    if layer.name == "dissimilarity":  # a colour of its own above the threshold, none across it
        assert values[-2:] == [1.0, float("inf")]
        assert shader.get("colorRampType") == "DISCRETE"


def test_names_are_escaped_in_the_text_itself():
    for text in (raster_qml(SCHEME), polygon_qml(SCHEME)):
        assert "roof &amp; &lt;metal&gt;" in text
        assert text.startswith("<!DOCTYPE qgis")
    for text in (raster_sld(SCHEME), polygon_sld(SCHEME)):
        assert "roof &amp; &lt;metal&gt;" in text
        assert text.startswith("<?xml")
        assert "Wälder" in text
