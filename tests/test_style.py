"""QML texts: well-formed, with exactly the classes, names escaped."""

from xml.etree import ElementTree as ET

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.publish.style import polygon_qml, raster_qml

SCHEME = make_scheme(
    [1, 2, 9], {1: "roof & <metal>", 2: 'grass "low"', 9: "Wälder"}, {1: "#ff0000", 9: "#00ff7f"}
)


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


def test_names_are_escaped_in_the_text_itself():
    for text in (raster_qml(SCHEME), polygon_qml(SCHEME)):
        assert "roof &amp; &lt;metal&gt;" in text
        assert text.startswith("<!DOCTYPE qgis")
