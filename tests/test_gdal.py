"""GDAL 3.6 or later of the system opens what the newer GDAL of the wheels wrote."""

import json
import re

import numpy as np
import pytest
import rasterio
from system_programs import SCHEME, class_codes, class_map, class_polygons, run_program
from system_programs import require_programs as require

from hsi_pipeline.publish import Layer, write_class_map, write_polygons

SCALE = 16  # 640 x 640 pixels: more than a tile, so that there are overviews
SIDE = 640


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a class map as COG and as Zarr store, and its polygons in each format."""
    require("gdalinfo", "ogrinfo", "gdal_translate", package="gdal-bin")
    folder = tmp_path_factory.mktemp("gdal with blank")
    write_class_map(class_map(SCALE), folder / "map.tif")
    write_class_map(class_map(SCALE), folder / "map.zarr")
    for suffix in ("gpkg", "fgb", "geojson"):
        write_polygons([class_polygons()], folder / f"{suffix}.{suffix}", Layer(SCHEME))
    return folder


def run(folder, *arguments):
    """Return what a program says, which must be no warning."""
    result = run_program(*arguments, folder=folder)
    assert result.stderr == b""
    return result.stdout.decode()


def epsg(wkt):
    """Return the code at the end of a CRS as text, which stands for the whole."""
    return re.findall(r'ID\["EPSG",(\d+)\]\]', wkt)[-1]


def test_gdal_reads_the_cog_with_names_colors_and_overviews(folder):
    seen = json.loads(run(folder, "gdalinfo", "-json", "map.tif"))
    assert seen["size"] == [SIDE, SIDE]
    assert epsg(seen["coordinateSystem"]["wkt"]) == "32633"
    assert seen["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    (band,) = seen["bands"]
    assert (band["type"], band["noDataValue"]) == ("Byte", 0)
    assert [overview["size"] for overview in band["overviews"]] == [[SIDE // 2, SIDE // 2]]
    assert [band["categories"][code] for code in SCHEME.codes] == list(SCHEME.names)
    table = band["colorTable"]["entries"]
    assert [table[c.code] for c in SCHEME.categories] == [[*c.rgb, 255] for c in SCHEME.categories]


def test_gdal_reads_the_cog_of_confidence(folder):
    seen = json.loads(run(folder, "gdalinfo", "-json", "-mm", "map_confidence.tif"))
    (band,) = seen["bands"]
    assert (band["type"], band["computedMin"], band["computedMax"]) == ("Float32", 0.5, 0.5)


def test_gdal_finds_crs_and_size_of_the_zarr_store(folder):
    seen = json.loads(run(folder, "gdalinfo", "-json", f'ZARR:"{folder / "map.zarr"}":/class'))
    assert seen["size"] == [SIDE, SIDE]
    assert epsg(seen["coordinateSystem"]["wkt"]) == "32633"
    assert seen["geoTransform"] == [500_000, 30 / SCALE, 0, 5_800_000, 0, -30 / SCALE]


@pytest.mark.parametrize("source", ["map.tif", 'ZARR:"map.zarr":/class'])
def test_gdal_copies_every_pixel(folder, source):
    run(folder, "gdal_translate", "-q", "-of", "GTiff", source, "copy.tif")
    with rasterio.open(folder / "copy.tif") as copy:
        np.testing.assert_array_equal(copy.read(1), class_codes(SCALE))


@pytest.mark.parametrize("suffix", ["gpkg", "fgb", "geojson"])
def test_gdal_reads_the_polygons_without_a_warning(folder, suffix):
    name = f"{suffix}.{suffix}"
    seen = run(folder, "ogrinfo", "-so", name, "landcover")
    assert "Feature Count: 3\n" in seen
    assert "Geometry: Polygon\n" in seen
    inside = "Extent: (500000.000000, 5798800.000000) - (501200.000000, 5800000.000000)\n"
    assert (inside in seen) == (suffix != "geojson")
    assert epsg(seen) == ("4326" if suffix == "geojson" else "32633")
    assert re.findall(r"^(code|name): (\w+)", seen, re.M) == [
        ("code", "Integer"),
        ("name", "String"),
    ]
    largest = "SELECT name, OGR_GEOM_AREA FROM landcover WHERE code = 7"
    seen = run(folder, "ogrinfo", "-q", "-sql", largest, "-dialect", "OGRSQL", name)
    assert "name (String) = Wälder\n" in seen
    if suffix != "geojson":  # which has degrees
        assert "OGR_GEOM_AREA (Real) = 360000\n" in seen
