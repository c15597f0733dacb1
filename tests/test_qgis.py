"""The real QGIS opens the results by name, class and colour, with no step by the user.

One step in one place: QGIS loads an SLD when it is told to, that of polygons alone.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from system_programs import SCHEME, class_map, class_polygons, clean_environment, run_program

from hsi_pipeline.polygons import polygonize
from hsi_pipeline.publish import Layer, open_class_map, write_class_map, write_polygons
from hsi_pipeline.publish.style import polygon_qml, polygon_sld

SYSTEM_PYTHON = "/usr/bin/python3"  # QGIS of a distribution belongs to the system's Python
STYLED_FILES = {"flatgeobuf": "fgb", "geojson": "geojson", "shapefile": "shp"}
BY_HAND = [*STYLED_FILES, "sld"]
SHOWN = ["polygons", "raster", *BY_HAND]


def has_qgis(folder):
    return (
        shutil.which(SYSTEM_PYTHON) is not None
        and subprocess.run(
            [SYSTEM_PYTHON, "-c", "import qgis.core"],
            env=clean_environment(folder),
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


def open_in_qgis(folder, layers):
    """Return what QGIS says of each layer."""
    script = Path(__file__).with_name("qgis_opens.py")
    result = run_program(SYSTEM_PYTHON, script, json.dumps(layers), folder=folder)
    assert b"Non-conformant" not in result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qgis with blank")
    if not has_qgis(folder):
        pytest.skip("QGIS is not installed (Debian: qgis python3-qgis qgis-providers)")
    return folder


@pytest.fixture(scope="module")
def published(folder):
    """What QGIS says of a class map and of its polygons, as the commands write them."""
    write_class_map(class_map(), folder / "map.zarr")
    write_class_map(class_map(), folder / "map.tif")
    polygons = polygonize(open_class_map(folder / "map.zarr"))
    write_polygons(polygons, folder / "landcover.gpkg", Layer(SCHEME))
    return open_in_qgis(
        folder,
        {
            "polygons": {"vector": str(folder / "landcover.gpkg")},
            "raster": {"raster": str(folder / "map.tif")},
            "numbers": {"raster": str(folder / "map_confidence.tif")},
            "store": {"raster": f'ZARR:"{folder / "map.zarr"}":/class'},
        },
    )


@pytest.fixture(scope="module")
def styled(folder):
    """What QGIS says of polygons made by hand, with a style of the same name beside them."""
    layers = {}
    for name, suffix in STYLED_FILES.items():
        path = folder / f"{name}.{suffix}"
        class_polygons().to_file(path)
        path.with_suffix(".qml").write_text(polygon_qml(SCHEME), encoding="utf-8")
        layers[name] = {"vector": str(path)}
    plain, sld = folder / "plain.fgb", folder / "style.sld"
    class_polygons().to_file(plain)
    sld.write_text(polygon_sld(SCHEME), encoding="utf-8")
    layers["sld"] = {"vector": str(plain), "sld": str(sld)}
    return open_in_qgis(folder, layers)


@pytest.fixture
def seen(request, layer):
    """What QGIS says of one layer."""
    return request.getfixturevalue("styled" if layer in BY_HAND else "published")[layer]


@pytest.mark.parametrize("layer", SHOWN)
def test_qgis_shows_exactly_the_classes_by_name_in_their_colors(seen):
    assert seen["valid"]
    assert seen["crs"] == "EPSG:32633"
    legend = [[int(code), name, color] for code, name, color in seen["legend"]]
    assert legend == [[c.code, c.name, c.color] for c in SCHEME.categories]


@pytest.mark.parametrize("layer", SHOWN)
def test_qgis_renders_each_quarter_in_its_class_color(seen):
    # polygons leave the empty quarter out of their bounding box only if it were a whole side
    for color in (*SCHEME.colors, "#ffffff"):
        assert seen["colors"][color] == pytest.approx(10_000, rel=0.05)  # outlines of polygons


@pytest.mark.parametrize("layer", ["store"])
def test_qgis_finds_the_crs_of_the_zarr_store(seen):
    assert seen["valid"]
    assert seen["crs"] == "EPSG:32633"
    assert len(seen["colors"]) > 1


@pytest.mark.parametrize("layer", ["numbers"])
def test_qgis_shows_layers_of_numbers_in_their_colors(seen):
    assert seen["renderer"] == "singlebandpseudocolor"
    # a confidence of 0.5 everywhere but in the empty quarter
    assert seen["colors"]["#f4a582"] == pytest.approx(30_000, rel=0.01)
    assert seen["colors"]["#ffffff"] == pytest.approx(10_000, rel=0.01)
