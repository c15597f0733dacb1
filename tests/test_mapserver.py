"""The real MapServer applies the SLD: every pixel of a class in its colour, and no other.

MapServer 8.0 takes an SLD with the request, and applies it to the layer whose NAME the SLD names
(a STYLEITEM "sld://..." in the map file came with 8.2).
"""

from io import BytesIO
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from system_programs import (
    GRID,
    SCHEME,
    SIDE,
    class_codes,
    class_map,
    class_polygons,
    require_programs,
    run_program,
)

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.publish import write_class_map
from hsi_pipeline.publish.style import polygon_sld, raster_sld

# other colours than the raster's own colour table has, which MapServer draws where no SLD applies
STYLE = make_scheme(SCHEME.codes, None, {1: "#112233", 2: "#aa00bb", 7: "#00cc44"})
BACKGROUND = "#ffffff"
WITHOUT_SLD = "#010203"  # of polygons that no rule styles
ZOOM = 5  # image pixels per side of a raster pixel; odd, so that one of them lies in its centre
MAP_FILE = f"""
MAP
  NAME "landcover"
  IMAGETYPE png24
  IMAGECOLOR "{BACKGROUND}"
  PROJECTION "init=epsg:32633" END
  WEB METADATA
    "ows_enable_request" "*" "ows_onlineresource" "http://localhost/" "ows_srs" "EPSG:32633"
  END END
  OUTPUTFORMAT NAME png24 DRIVER AGG/PNG MIMETYPE "image/png" IMAGEMODE RGB END
  LAYER NAME "raster" TYPE RASTER DATA "map.tif" END
  LAYER
    NAME "geopackage" TYPE POLYGON CONNECTIONTYPE OGR CONNECTION "polygons.gpkg" DATA "polygons"
    CLASS STYLE COLOR "{WITHOUT_SLD}" END END
  END
  LAYER
    NAME "flatgeobuf" TYPE POLYGON CONNECTIONTYPE OGR CONNECTION "polygons.fgb" DATA "polygons"
    CLASS STYLE COLOR "{WITHOUT_SLD}" END END
  END
END
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a class map, polygons, and the map file that serves them."""
    require_programs("mapserv", package="mapserver-bin")
    folder = tmp_path_factory.mktemp("mapserver")
    write_class_map(class_map(), folder / "map.tif")
    class_polygons().to_file(folder / "polygons.gpkg", layer="polygons")
    class_polygons().to_file(folder / "polygons.fgb", layer="polygons")
    (folder / "landcover.map").write_text(MAP_FILE)
    (folder / "mapserver.conf").write_text('CONFIG ENV MS_MAP_PATTERN "." END END')
    return folder


def draw(folder, layer, sld, zoom=1):
    """Return the colours (y, x) of a WMS GetMap of the whole grid, as a web server would run it."""
    west, south, east, north = GRID.boundingbox.bbox
    query = {
        "map": folder / "landcover.map", "SERVICE": "WMS", "VERSION": "1.1.1",
        "REQUEST": "GetMap", "LAYERS": layer, "STYLES": "", "SRS": "EPSG:32633",
        "BBOX": f"{west},{south},{east},{north}", "WIDTH": SIDE * zoom, "HEIGHT": SIDE * zoom,
        "FORMAT": "image/png", "SLD_BODY": sld,
    }  # fmt: skip
    answer = run_program(
        "mapserv",
        folder=folder,
        REQUEST_METHOD="GET",
        QUERY_STRING=urlencode(query),
        MAPSERVER_CONFIG_FILE=str(folder / "mapserver.conf"),
    ).stdout
    header, _, body = answer.partition(b"\r\n\r\n")
    assert header.startswith(b"Content-Type: image/png"), answer
    rgb = np.asarray(Image.open(BytesIO(body)).convert("RGB"))
    return np.apply_along_axis(lambda color: "#{:02x}{:02x}{:02x}".format(*color), 2, rgb)


def expected_colors():
    colors = dict(zip(STYLE.codes, STYLE.colors, strict=True)) | {0: BACKGROUND}
    return np.vectorize(colors.get)(class_codes())


def test_mapserver_draws_each_pixel_of_the_raster_in_its_class_color(folder):
    image = draw(folder, "raster", raster_sld(STYLE, layer="raster"))
    np.testing.assert_array_equal(image, expected_colors())


@pytest.mark.parametrize("layer", ["geopackage", "flatgeobuf"])
def test_mapserver_fills_polygons_with_their_class_color(folder, layer):
    image = draw(folder, layer, polygon_sld(STYLE, layer=layer), ZOOM)
    np.testing.assert_array_equal(image[ZOOM // 2 :: ZOOM, ZOOM // 2 :: ZOOM], expected_colors())
    # outlines blend what they touch, at most a pixel inside of the edge, and nothing else
    for row, color in zip(class_polygons().itertuples(), STYLE.colors, strict=True):
        whole = row.geometry.area / 30**2 * ZOOM**2
        edge = row.geometry.length / 30 * ZOOM
        assert whole - edge <= (image == color).sum() < whole


@pytest.mark.parametrize("layer", ["raster", "geopackage"])
def test_mapserver_leaves_layers_of_other_names_alone(folder, layer):
    sld = {"raster": raster_sld, "geopackage": polygon_sld}[layer](STYLE, layer="another")
    assert not set(np.unique(draw(folder, layer, sld))) & set(STYLE.colors)
