"""STAC items: valid offline for every kind of grid and model, and read back by other programs."""

import hashlib
import json
import socket
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import dask.array as da
import numpy as np
import pyproj
import pystac
import pytest
import rasterio
import rasterio.warp
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.eo import EOExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from system_programs import require_programs, run_program

from hsi_pipeline import __version__
from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.publish import open_class_map, write_class_map
from hsi_pipeline.publish.stac import validate_item, write_stac_item
from hsi_pipeline.publish.stac_place import footprint
from hsi_pipeline.publish.stac_schemas import _registry, _schemas
from hsi_pipeline.wavelengths import Wavelengths

SCHEME = make_scheme([1, 2, 7], {1: "roof & <co>", 2: "low plants", 7: "Wälder"}, {2: "#00ff00"})
SIZE = (50, 70)
UTM = Affine(30, 0, 500_000, 0, -30, 4_000_000)
TURN = Affine.translation(500_000, 4_000_000) @ Affine.rotation(20) @ Affine.scale(30, -30)
LAEA = "+proj=laea +lat_0=50 +lon_0=9 +ellps=GRS80"
GRIDS = {
    "north up": GeoBox(SIZE, UTM, "epsg:32632"),
    "rotated": GeoBox(SIZE, TURN, "epsg:32632"),
    "geographic": GeoBox(SIZE, Affine(0.001, 0, 10, 0, -0.001, 50), "epsg:4326"),
    "own CRS": GeoBox(SIZE, Affine(30, 0, -1000, 0, -30, 2000), LAEA),
    "no CRS": pixel_grid(*SIZE),
}
MODEL_BYTES = b"any bytes will do for a hash"
ATTRS = {
    "scene_id": "0123",
    "acquired": "2022-07-24T10:20:30.5Z",
    "software": f"hsi_pipeline {__version__}",
    "model": "model.safetensors",
    "model_sha256": hashlib.sha256(MODEL_BYTES).hexdigest(),
    "model_architecture": "spectral",
    "precision": "float32",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Let every attempt to reach another machine fail."""

    def refuse(*arguments, **options):
        raise AssertionError(f"the network was asked for {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def make_map(folder, grid=GRIDS["north up"], suffix=".tif", name="map", attrs=ATTRS):
    """Write a class map with confidence and probabilities; return it as it is opened."""
    random = np.random.default_rng(0)
    codes = random.choice(np.array([0, 1, 2, 7], np.uint8), grid.shape)
    share = da.from_array(random.random(grid.shape, dtype=np.float32), chunks=32)
    made = xr.Dataset(
        {
            "class": (("y", "x"), da.from_array(codes, chunks=32), scheme_to_attrs(SCHEME)),
            "confidence": (("y", "x"), share),
            "probability": (("category", "y", "x"), da.stack([share] * 3)),
        },
        coords={**xr_coords(grid, dims=("y", "x")), "category": list(SCHEME.names)},
        attrs=attrs,
    )
    return open_class_map(write_class_map(made, folder / f"{name}{suffix}")[0])


def products_in(folder):
    found = {"class": "map.tif", "confidence": "map_confidence.tif"}
    found |= {"probability": "map_probability.tif", "style": "map.qml"}
    return {name: folder / file for name, file in found.items()}


def make_card(wavelengths=None, architecture="spectral", **changes):
    values = {
        "architecture": architecture,
        "settings": {"width": 64},
        "bands": 3,
        "wavelengths": wavelengths,
        "tolerance_nm": 2.0,
        "classes": SCHEME,
        "halo": 1,
        "scenes": ("north", "south"),
        "seed": 4,
        "version": "0.1.2",
    }
    return ModelCard(**values | changes)


WAVELENGTHS = Wavelengths((418.416, 550.0, 2445.53), (6.99, None, 10.0))
CARDS = {
    "wavelengths": make_card(WAVELENGTHS),
    "no wavelengths": make_card(),
    "scikit-learn": make_card(WAVELENGTHS, "random_forest", halo=0, settings={}),
}


def write_model(folder):
    (folder / "model.safetensors").write_bytes(MODEL_BYTES)
    return folder / "model.safetensors"


def write_item(folder, name="item.json", grid=GRIDS["north up"], card=CARDS["wavelengths"], **more):
    """Write a map, a model and the item of both; return the item as JSON has it."""
    class_map = make_map(folder, grid)
    model_file = None if card is None else write_model(folder)
    options = {"model_file": model_file, "card": card} | more
    path = write_stac_item(folder / name, class_map, products_in(folder), **options)
    return json.loads(path.read_text(encoding="utf-8"))


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("card", [*CARDS.values(), None], ids=[*CARDS, "no model"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_an_item_is_valid_for_every_grid_and_model(tmp_path, grid, card):
    item = write_item(tmp_path, grid=grid, card=card)
    validate_item(item)
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert item["assets"]["class"]["proj:shape"] == list(raster.shape)
        if grid.crs is not None:
            assert item["assets"]["class"]["proj:transform"] == list(raster.transform)[:6]
    assert ("bbox" in item) == (item["geometry"] is not None) == (grid.crs is not None)


def test_place_of_a_known_grid(tmp_path):
    item = write_item(tmp_path)
    assert item["properties"]["proj:epsg"] == 32632
    asset = item["assets"]["class"]
    assert asset["proj:shape"] == [50, 70]
    assert asset["proj:transform"] == [30, 0, 500_000, 0, -30, 4_000_000]
    # the west edge is the central meridian of the zone, 9 degrees east
    to_degrees = pyproj.Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True).transform
    _, north = to_degrees(500_000, 4_000_000)
    east, _ = to_degrees(502_100, 4_000_000)
    _, south = to_degrees(502_100, 3_998_500)
    np.testing.assert_allclose(item["bbox"], [9, south, east, north], atol=1e-7)
    ring = item["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    assert shapely.LinearRing(ring).is_ccw  # RFC 7946
    for x, y in [(500_000, 4_000_000), (502_100, 3_998_500)]:
        nearest = np.abs(np.array(ring) - to_degrees(x, y)).max(axis=1).min()
        assert nearest < 1e-7


def test_a_grid_of_degrees_has_its_four_corners(tmp_path):
    item = write_item(tmp_path, grid=GRIDS["geographic"], card=None)
    assert item["bbox"] == [10, 49.95, 10.07, 50]
    assert len(item["geometry"]["coordinates"][0]) == 5


def test_a_grid_in_pixel_coordinates_says_so(tmp_path):
    item = write_item(tmp_path, grid=GRIDS["no CRS"])
    assert item["geometry"] is None
    assert item["properties"]["proj:epsg"] is None
    assert "proj:wkt2" not in item["properties"]


def test_a_crs_without_code_is_written_out(tmp_path):
    item = write_item(tmp_path, grid=GRIDS["own CRS"])
    assert item["properties"]["proj:epsg"] is None
    assert pyproj.CRS(item["properties"]["proj:wkt2"]).equals(
        pyproj.CRS(GRIDS["own CRS"].crs.to_wkt())
    )


@pytest.mark.parametrize("name", ["north up", "own CRS"])
def test_edges_are_bent_as_the_projection_bends_them(name):
    wide = GRIDS[name].zoom_out(0.001)  # pixels of 30 km would be far off as straight lines
    wide = GeoBox((40, 40), Affine(30_000, 0, 0, 0, -30_000, 1_000_000), GRIDS[name].crs)
    bounds = rasterio.warp.transform_bounds(
        wide.crs.to_wkt(), "EPSG:4326", *wide.boundingbox, densify_pts=1000
    )
    np.testing.assert_allclose(footprint(wide)["bbox"], bounds, atol=2e-3)


def test_a_footprint_over_the_antimeridian_is_cut_there():
    grid = GeoBox((10, 10), Affine(10_000, 0, 800_000, 0, -10_000, 100_000), "epsg:32660")
    place = footprint(grid)
    west, south, east, north = place["bbox"]
    assert 179 < west < 180
    assert -180 < east < -179
    assert south == pytest.approx(0)
    shapes = shapely.geometry.shape(place["geometry"])
    assert shapes.geom_type == "MultiPolygon"
    assert shapes.is_valid
    assert shapes.bounds == pytest.approx((-180, south, 180, north))
    assert sum(part.area for part in shapes.geoms) == pytest.approx(0.9 * 0.9, rel=0.02)


def test_longitudes_beyond_180_are_the_same_place():
    far = GeoBox(SIZE, Affine(0.001, 0, 190, 0, -0.001, 50), "epsg:4326")
    assert footprint(far)["bbox"] == pytest.approx([-170, 49.95, -169.93, 50])


@pytest.mark.parametrize(("code", "sign"), [("epsg:3413", 1), ("epsg:3031", -1)])
def test_a_footprint_around_a_pole_reaches_to_it(code, sign):
    place = footprint(GeoBox((10, 10), Affine(10_000, 0, -50_000, 0, -10_000, 50_000), code))
    west, south, east, north = place["bbox"]
    assert (west, east) == (-180, 180)
    assert (north if sign > 0 else -south) == 90
    assert 89 < (south if sign > 0 else -north) < 90


@pytest.mark.parametrize("origin", [0, 1e9])
def test_a_grid_that_is_nowhere_on_earth_has_no_footprint(origin):
    crs = (
        "epsg:32632"
        if origin
        else 'LOCAL_CS["bench",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    )
    grid = GeoBox(SIZE, Affine(1, 0, origin, 0, -1, origin), crs)
    assert footprint(grid) == {"geometry": None}


def test_classes_have_names_and_colours(tmp_path):
    (band,) = write_item(tmp_path)["assets"]["class"]["raster:bands"]
    assert (band["data_type"], band["nodata"]) == ("uint8", 0)
    nodata, *classes = band["classification:classes"]
    assert (nodata["value"], nodata["nodata"]) == (0, True)
    assert [(c["value"], c["name"], c["title"], c["color_hint"]) for c in classes] == [
        (1, "roof_co", "roof & <co>", "cc6677"),
        (2, "low_plants", "low plants", "00ff00"),
        (7, "Walder", "Wälder", "ddcc77"),
    ]


def test_a_class_of_no_latin_letters_has_a_name_too(tmp_path):
    class_map = make_map(tmp_path)
    class_map["class"].attrs |= scheme_to_attrs(make_scheme([1, 5], {1: "森林", 5: "水"}))
    write_stac_item(tmp_path / "item.json", class_map, products_in(tmp_path))
    item = json.loads((tmp_path / "item.json").read_text(encoding="utf-8"))
    classes = item["assets"]["class"]["raster:bands"][0]["classification:classes"][1:]
    assert [(c["name"], c["title"]) for c in classes] == [("class_1", "森林"), ("class_5", "水")]


def test_numbers_of_the_other_rasters(tmp_path):
    assets = write_item(tmp_path)["assets"]
    for name, file in products_in(tmp_path).items():
        if name in ("confidence", "probability"):
            bands = assets[name]["raster:bands"]
            with rasterio.open(file) as raster:
                assert [band["data_type"] for band in bands] == list(raster.dtypes)
                np.testing.assert_equal(float(bands[0]["nodata"]), raster.nodata)
                assert [band.get("scale", 1) for band in bands] == pytest.approx(raster.scales)
    assert [band["name"] for band in assets["probability"]["raster:bands"]] == list(SCHEME.names)
    assert "raster:bands" not in assets["style"]
    assert "proj:shape" not in assets["style"]


def test_the_model_has_its_hash_version_and_wavelengths_in_micrometres(tmp_path):
    item = write_item(tmp_path)
    asset = item["assets"]["model"]
    assert asset["file:checksum"] == "1220" + hashlib.sha256(MODEL_BYTES).hexdigest()
    assert asset["file:size"] == len(MODEL_BYTES)
    assert asset["version"] == "0.1.2"
    assert asset["processing:lineage"] == "trained on north, south with seed 4"
    assert asset["eo:bands"] == [
        {"name": "band_1", "center_wavelength": 0.418416, "full_width_half_max": 0.00699},
        {"name": "band_2", "center_wavelength": 0.55},
        {"name": "band_3", "center_wavelength": 2.44553, "full_width_half_max": 0.01},
    ]
    said = item["properties"]
    assert (said["mlm:name"], said["mlm:architecture"]) == ("model", "spectral")
    assert said["mlm:framework"] == "PyTorch"
    settings = {"width": 64, "seed": 4, "halo": 1, "tolerance_nm": 2.0, "temperature": 1.0}
    assert said["mlm:hyperparameters"] == settings
    (read,), (written,) = said["mlm:input"], said["mlm:output"]
    assert read["bands"] == ["band_1", "band_2", "band_3"]
    assert read["input"]["shape"] == [-1, 3, -1, -1]
    assert [c["value"] for c in written["classification:classes"]] == [0, 1, 2]
    assert [c["title"] for c in written["classification:classes"]] == list(SCHEME.names)
    assert "codes 1, 2, 7" in written["description"]


def test_a_model_without_wavelengths_has_numbered_bands(tmp_path):
    asset = write_item(tmp_path, card=CARDS["no wavelengths"])["assets"]["model"]
    assert asset["eo:bands"] == [{"name": "band_1"}, {"name": "band_2"}, {"name": "band_3"}]


def test_a_baseline_is_of_scikit_learn(tmp_path):
    item = write_item(tmp_path, card=CARDS["scikit-learn"])
    assert item["properties"]["mlm:framework"] == "scikit-learn"


@pytest.mark.parametrize("name", ["7.safetensors", "m.safetensors", "Öl & more_.safetensors"])
def test_a_model_of_any_name_is_described(tmp_path, name):
    class_map, model_file = make_map(tmp_path), write_model(tmp_path).rename(tmp_path / name)
    options = {"model_file": model_file, "card": CARDS["wavelengths"]}
    write_stac_item(tmp_path / "item.json", class_map, products_in(tmp_path), **options)


def test_software_and_lineage(tmp_path):
    said = write_item(tmp_path)["properties"]
    software = said["processing:software"]
    assert software["hsi_pipeline"] == __version__
    assert software["GDAL"] == rasterio.__gdal_version__
    assert set(software) == {"hsi_pipeline", "torch", "rasterio", "GDAL"}
    assert "scene 0123, acquired 2022-07-24T10:20:30.5Z" in said["processing:lineage"]
    assert ATTRS["model_sha256"] in said["processing:lineage"]


def test_a_map_of_another_version_is_not_said_to_be_made_with_the_libraries_of_today(tmp_path):
    class_map = make_map(tmp_path, attrs=ATTRS | {"software": "hsi_pipeline 0.0.1"})
    path = write_stac_item(tmp_path / "item.json", class_map, products_in(tmp_path))
    said = json.loads(path.read_text(encoding="utf-8"))["properties"]
    assert said["processing:software"] == {"hsi_pipeline": "0.0.1"}


def test_a_map_of_another_program_says_nothing_of_software(tmp_path):
    class_map = make_map(tmp_path, attrs={})
    path = write_stac_item(tmp_path / "item.json", class_map, products_in(tmp_path))
    item = json.loads(path.read_text(encoding="utf-8"))
    assert "processing:software" not in item["properties"]
    assert item["id"] == "item"


DAY = ("2022-07-24T00:00:00Z", "2022-07-24T00:00:00Z", "2022-07-24T23:59:59Z")


@pytest.mark.parametrize(
    ("acquired", "times"),
    [
        ("2022-07-24T10:20:30Z", ("2022-07-24T10:20:30Z",)),
        ("2022-07-24T10:20:30.123456789Z", ("2022-07-24T10:20:30Z",)),
        ("2022-07-24T12:20:30+0200", ("2022-07-24T10:20:30Z",)),
        ("2022:07:24 10:20:30", ("2022-07-24T10:20:30Z",)),
        ("2022-07-24 10:20:30 UTC", ("2022-07-24T10:20:30Z",)),
        ("20220724T102030", ("2022-07-24T10:20:30Z",)),
        ("2022-07-24", DAY),
        (20220724, DAY),  # as a tag of a GeoTIFF comes back
        (" 2022:07:24", DAY),
    ],
)
def test_dates_are_read_in_the_forms_that_headers_have(tmp_path, acquired, times):
    class_map = make_map(tmp_path)
    class_map.attrs["acquired"] = acquired
    path = write_stac_item(tmp_path / "item.json", class_map, products_in(tmp_path))
    said = json.loads(path.read_text(encoding="utf-8"))["properties"]
    names = ("datetime", "start_datetime", "end_datetime")
    assert tuple(said[name] for name in names if name in said) == times


@pytest.mark.parametrize("acquired", [None, "summer 2022", "2022-13-45", "0001-01-01T00:00+05:00"])
def test_an_unknown_date_is_null_and_any_time_until_now(tmp_path, acquired):
    class_map = make_map(tmp_path, attrs={} if acquired is None else {"acquired": acquired})
    path = write_stac_item(tmp_path / "item.json", class_map, products_in(tmp_path))
    said = json.loads(path.read_text(encoding="utf-8"))["properties"]
    assert said["datetime"] is None
    assert said["start_datetime"] == "1970-01-01T00:00:00Z"
    end = datetime.fromisoformat(said["end_datetime"])
    assert abs((datetime.now(UTC) - end).total_seconds()) < 60
    assert (acquired or "land-cover") in said["processing:lineage"]


def test_media_types_and_roles(tmp_path):
    class_map = make_map(tmp_path, suffix=".zarr")
    files = {
        "class": ("map.zarr", "application/vnd+zarr", "data"),
        "polygons": ("map.gpkg", "application/geopackage+sqlite3", "data"),
        "parquet": ("map.parquet", "application/vnd.apache.parquet", "data"),
        "flatgeobuf": ("map.fgb", "application/vnd.flatgeobuf", "data"),
        "geojson": ("map.geojson", "application/geo+json", "data"),
        "report": ("map.html", "text/html", "overview"),
        "scores": ("scores.json", "application/json", "metadata"),
        "other": ("map.xyz", None, "data"),
    }
    for file, _, _ in files.values():
        if file != "map.zarr":
            (tmp_path / file).touch()
    products = {name: tmp_path / file for name, (file, _, _) in files.items()}
    path = write_stac_item(tmp_path / "item.json", class_map, products)
    assets = json.loads(path.read_text(encoding="utf-8"))["assets"]
    assert {n: (a["title"], a.get("type"), a["roles"][0]) for n, a in assets.items()} == files
    assert assets["class"]["raster:bands"][0]["name"] == "class"


@pytest.mark.parametrize(
    "source", ["https://example.org/items/scene.json", "s3://bucket/scene.tif"]
)
def test_an_address_of_the_source_is_kept(tmp_path, source):
    (link,) = write_item(tmp_path, derived_from=source)["links"]
    assert (link["rel"], link["href"]) == ("derived_from", source)


def test_the_source_item_is_linked_from_where_the_item_is(tmp_path):
    (tmp_path / "scenes").mkdir()
    (tmp_path / "out").mkdir()
    source = tmp_path / "scenes" / "scene 1.json"
    source.touch()
    (link,) = write_item(tmp_path / "out", derived_from=str(source))["links"]
    assert link["href"] == "../scenes/scene%201.json"
    assert link["type"] == "application/geo+json"


def test_without_a_source_there_is_no_link(tmp_path):
    assert write_item(tmp_path)["links"] == []


def read_with_pystac(path):
    return pystac.Item.from_file(str(path))


def test_pystac_finds_the_files(tmp_path):
    maps, models, items = (tmp_path / name for name in ("Wälder & 100% #1", "models", "items here"))
    for folder in (tmp_path / "plain", models, items):
        folder.mkdir()
    class_map = make_map(tmp_path / "plain").load()
    (tmp_path / "plain").rename(maps)
    products, model_file = products_in(maps), write_model(models)
    options = {"model_file": model_file, "card": CARDS["wavelengths"]}
    item = read_with_pystac(write_stac_item(items / "item.json", class_map, products, **options))
    assert products | {"model": model_file} == {
        name: Path(unquote(asset.get_absolute_href())).resolve()
        for name, asset in item.assets.items()
    }
    assert all(" " not in asset.href and "#" not in asset.href for asset in item.assets.values())


def test_addresses_hold_through_a_link_to_the_folder(tmp_path):
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "short").symlink_to(tmp_path / "deep" / "down")
    class_map = make_map(tmp_path)
    path = write_stac_item(tmp_path / "short" / "item.json", class_map, products_in(tmp_path))
    item = json.loads(path.read_text(encoding="utf-8"))
    assert (path.parent / item["assets"]["class"]["href"]).samefile(tmp_path / "map.tif")


def test_pystac_reads_what_the_extensions_say(tmp_path):
    write_item(tmp_path)
    item = read_with_pystac(tmp_path / "item.json")
    assert item.datetime == datetime(2022, 7, 24, 10, 20, 30, tzinfo=UTC)
    assert ProjectionExtension.ext(item).epsg == 32632
    (band,) = RasterExtension.ext(item.assets["class"]).bands
    assert band.nodata == 0
    assert ProjectionExtension.ext(item.assets["class"]).shape == [50, 70]
    classes = [c for c in ClassificationExtension.ext(band).classes if not c.nodata]
    assert [(c.value, c.color_hint) for c in classes] == [
        (category.code, category.color[1:]) for category in SCHEME.categories
    ]
    model = item.assets["model"]
    bands = EOExtension.ext(model).bands
    assert [band.center_wavelength * 1000 for band in bands] == pytest.approx(WAVELENGTHS.center_nm)
    assert FileExtension.ext(model).checksum[4:] == ATTRS["model_sha256"]
    described = MLMExtension.ext(item)
    assert described.tasks == ["semantic-segmentation"]
    assert described.input[0].bands == [band.name for band in bands]
    assert len(described.output[0].classes) == len(SCHEME)


@pytest.mark.parametrize("name", ["north up", "geographic", "own CRS"])
def test_gdal_opens_the_rasters_of_an_item(tmp_path, name):
    require_programs("gdalinfo", package="gdal-bin")
    item = write_item(tmp_path, grid=GRIDS[name])
    # GDAL 3.6 opens what a search gives, a single item from later versions on
    found = {"type": "FeatureCollection", "features": [item]}
    (tmp_path / "found.json").write_text(json.dumps(found), encoding="utf-8")

    def describe(source):
        # GDAL takes relative addresses from the folder where it runs
        result = run_program("gdalinfo", "-json", "-checksum", source, folder=tmp_path)
        return json.loads(result.stdout)

    listed = describe('STACIT:"found.json"')["metadata"]["SUBDATASETS"]
    sources = [text for key, text in listed.items() if key.endswith("NAME")]
    assert [text.rpartition("=")[2] for text in sources] == ["class", "confidence", "probability"]
    through_item, itself = describe(sources[0]), describe("map.tif")
    for key in ("size", "geoTransform"):
        assert through_item[key] == itself[key]
    crs = pyproj.CRS(through_item["coordinateSystem"]["wkt"])
    assert crs.equals(pyproj.CRS(itself["coordinateSystem"]["wkt"]))
    (band,), (expected,) = through_item["bands"], itself["bands"]
    assert (band["checksum"], band["noDataValue"]) == (expected["checksum"], 0)


def test_the_gdal_of_today_opens_an_item(tmp_path, monkeypatch):
    write_item(tmp_path)
    monkeypatch.chdir(tmp_path)
    with rasterio.open('STACIT:"item.json":asset=class') as through_item:
        pixels = through_item.read(1)
        assert through_item.crs.to_epsg() == 32632
    np.testing.assert_array_equal(pixels, open_class_map(tmp_path / "map.tif")["class"].values)


def test_every_reference_of_the_schemas_is_kept_in_the_package():
    def references(part):
        if isinstance(part, dict):
            yield from (v for k, v in part.items() if k == "$ref" and isinstance(v, str))
            part = list(part.values())
        if isinstance(part, list):
            for inner in part:
                yield from references(inner)

    count = 0
    for address, schema in _schemas().items():
        resolver = _registry().resolver(address)
        for reference in references(schema):
            resolver.lookup(reference)
            count += 1
    assert count > 100


def _drop(item, *path):
    for key in path[:-1]:
        item = item[key]
    del item[path[-1]]


def _put(value, item, *path):
    for key in path[:-1]:
        item = item[key]
    item[path[-1]] = value


CLASSES = ("raster:bands", 0, "classification:classes")
MISTAKES = {
    "item.json": lambda item: _drop(item, "properties", "datetime"),
    "projection": lambda item: _put("32632", item, "properties", "proj:epsg"),
    "raster": lambda item: _put("byte", item, "assets", "class", "raster:bands", 0, "data_type"),
    "classification": lambda item: _put("a b", item, "assets", "class", *CLASSES, 1, "name"),
    "processing": lambda item: _put({"a": 1}, item, "properties", "processing:software"),
    "mlm": lambda item: _drop(item, "properties", "mlm:architecture"),
    "eo": lambda item: _put("red", item, "assets", "model", "eo:bands", 0, "center_wavelength"),
    "file": lambda item: _put("XYZ", item, "assets", "model", "file:checksum"),
    "version": lambda item: _put(3, item, "assets", "model", "version"),
    "no bands": lambda item: _drop(item, "assets", "model", "eo:bands"),
    "classes without description": lambda item: _drop(
        item, "properties", "mlm:output", 0, CLASSES[-1], 0, "description"
    ),
}


@pytest.mark.parametrize(("name", "spoil"), MISTAKES.items(), ids=MISTAKES)
def test_an_item_that_breaks_a_schema_is_refused(tmp_path, name, spoil):
    item = write_item(tmp_path)
    validate_item(item)
    spoil(item)
    schema = name if " " not in name else "mlm"
    with pytest.raises(InputError, match=rf"is not valid by https://\S*{schema}\S*: \$"):
        validate_item(item)


def test_a_schema_that_is_not_kept_is_named_and_not_fetched(tmp_path):
    item = write_item(tmp_path)
    item["stac_extensions"].append("https://stac-extensions.github.io/sar/v1.0.0/schema.json")
    with pytest.raises(InputError, match=r"no copy of the schema https://\S*/sar/v1\.0\.0"):
        validate_item(item)


def test_numbers_that_json_has_not_are_refused(tmp_path):
    card = make_card(settings={"dropout": float("nan")})
    with pytest.raises(InputError, match="cannot be written as JSON"):
        write_item(tmp_path, card=card)
    assert "item.json" not in listing(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "item.stac"}, "the suffix must be one of .json"),
        ({"name": "none/item.json"}, "the folder .* does not exist"),
        ({"model_file": None}, "the model file and its card, or neither"),
        ({"card": None, "model_file": Path("m")}, "the model file and its card, or neither"),
        ({"model_file": Path("absent.safetensors")}, "absent.safetensors: no such model file"),
        ({"derived_from": "absent.json"}, "absent.json: neither a URL nor a file"),
    ],
)
def test_what_cannot_be_described_is_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        write_item(tmp_path, **change)
    assert not [name for name in listing(tmp_path) if "item" in name]


def test_a_missing_product_is_named(tmp_path):
    class_map = make_map(tmp_path)
    products = products_in(tmp_path) | {"polygons": tmp_path / "map.gpkg"}
    with pytest.raises(InputError, match=r"map.gpkg: no such file for the product 'polygons'"):
        write_stac_item(tmp_path / "item.json", class_map, products)
    del products["class"]
    with pytest.raises(InputError, match="the class map as product 'class', found 'confidence'"):
        write_stac_item(tmp_path / "item.json", class_map, products)


def test_another_model_than_the_maps_is_refused(tmp_path):
    class_map = make_map(tmp_path, attrs=ATTRS | {"model_sha256": "ab" * 32})
    options = {"model_file": write_model(tmp_path), "card": CARDS["wavelengths"]}
    with pytest.raises(InputError, match=r"not the model that made the class map \(abababababab\)"):
        write_stac_item(tmp_path / "item.json", class_map, products_in(tmp_path), **options)


def test_an_existing_item_stays_unless_it_may_be_replaced(tmp_path):
    write_item(tmp_path, card=None)
    class_map, products = open_class_map(tmp_path / "map.tif"), products_in(tmp_path)
    before = (tmp_path / "item.json").read_bytes()
    with pytest.raises(InputError, match=r"item\.json exists"):
        write_stac_item(tmp_path / "item.json", class_map, products)
    assert (tmp_path / "item.json").read_bytes() == before
    class_map.attrs["scene_id"] = "other"
    write_stac_item(tmp_path / "item.json", class_map, products, overwrite=True)
    assert read_with_pystac(tmp_path / "item.json").id == "other_item"


def test_an_error_while_writing_leaves_the_old_item(tmp_path, monkeypatch):
    write_item(tmp_path, card=None)
    class_map, before = open_class_map(tmp_path / "map.tif"), listing(tmp_path)
    text = (tmp_path / "item.json").read_bytes()

    def full(*arguments, **options):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space left"):
        write_stac_item(tmp_path / "item.json", class_map, products_in(tmp_path), overwrite=True)
    assert listing(tmp_path) == before
    assert (tmp_path / "item.json").read_bytes() == text
