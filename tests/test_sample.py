"""Drawing a sample of a map, and filling it in: what the file says, and what QGIS shows of it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from polygon_maps import SCHEME, UTM, make_map, patches
from system_programs import SCHEME as STRANGE_NAMES
from system_programs import class_map as strange_map
from system_programs import run_program
from test_qgis import SYSTEM_PYTHON, has_qgis

from hsi_pipeline.commands.sample import sample
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish import write_class_map
from hsi_pipeline.publish.sample_form import DESIGN_COLUMNS, SAMPLE

CRS = "EPSG:32633"


def codes_of(side=90, rare=8):
    """Patches of two classes with some nodata, and a few pixels of a third."""
    codes = patches(side, classes=2)
    codes[:7] = 0
    codes[-1, :rare] = 3
    return codes


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A class map."""
    path = tmp_path_factory.mktemp("sample") / "map.tif"
    codes = codes_of()
    attrs = {"model_sha256": "ab" * 32}
    write_class_map(make_map(codes, GeoBox(codes.shape, UTM, CRS), chunks=32, attrs=attrs), path)
    return path


def read(path):
    """Points and design of a sample."""
    return gpd.read_file(path, layer="sample"), pyogrio.read_dataframe(path, layer="design")


def test_the_map_has_the_drawn_classes_at_the_points(path, tmp_path):
    written = sample(path, tmp_path / "s.gpkg", seed=3)
    assert written == [tmp_path / "s.gpkg"]
    points, design = read(written[0])
    with rasterio.open(path) as raster:
        found = [value for (value,) in raster.sample(points.geometry.apply(lambda p: (p.x, p.y)))]
        places = [raster.index(p.x, p.y) for p in points.geometry]
        centres = [raster.xy(*place) for place in places]
    number = dict(zip(design["name"], design["stratum"], strict=True))
    np.testing.assert_array_equal(
        points["stratum"], [number[SCHEME.names[code - 1]] for code in found]
    )
    np.testing.assert_allclose(centres, [(p.x, p.y) for p in points.geometry])
    assert len(set(places)) == len(points)
    assert points["stratum"].value_counts().to_dict() == dict(
        zip(design["stratum"], design["points"], strict=True)
    )
    assert points.crs == CRS


def test_points_are_empty_and_their_order_tells_nothing(path, tmp_path):
    points, _ = read(sample(path, tmp_path / "s.gpkg")[0])
    assert list(points.columns) == ["sample_id", "stratum", "reference", "note", "geometry"]
    assert points["reference"].isna().all()
    assert points["note"].isna().all()
    assert points["sample_id"].tolist() == list(range(1, len(points) + 1))
    strata = points["stratum"].to_numpy()
    # as many neighbours of the same class as by chance
    same = (strata[1:] == strata[:-1]).mean()
    chance = (np.bincount(strata) / len(strata)) ** 2
    assert same == pytest.approx(chance.sum(), abs=0.1)


def test_the_number_of_a_stratum_does_not_tell_its_class(tmp_path):
    """Interpreters may see it in other programs than QGIS."""
    codes = patches(40, classes=3)
    write_class_map(make_map(codes, chunks=16), tmp_path / "map.zarr")
    seen = set()
    for seed in range(20):
        target = tmp_path / f"{seed}.gpkg"
        _, design = read(sample(tmp_path / "map.zarr", target, size=150, seed=seed)[0])
        assert design["name"].tolist() == list(SCHEME.names)
        assert sorted(design["stratum"]) == [1, 2, 3]
        seen.add(tuple(design["stratum"]))
    assert len(seen) > 3


def test_the_design_adds_up_to_the_map(path, tmp_path):
    _, design = read(sample(path, tmp_path / "s.gpkg", size=200, min_per_class=20, seed=5)[0])
    codes = codes_of()
    assert tuple(design.columns) == DESIGN_COLUMNS
    assert design["design"].tolist() == ["stratified"] * 3
    assert design["name"].tolist() == list(SCHEME.names)
    assert design["pixels"].tolist() == [(codes == code).sum() for code in (1, 2, 3)]
    np.testing.assert_array_equal(design["area_m2"], design["pixels"] * 100.0)
    assert design["points"].sum() == 200
    assert design["points"].tolist()[2] == 8  # all there are
    assert set(design["seed"]) == {5}
    assert set(design["map"]) == {"map.tif"}
    assert set(design["model_sha256"]) == {"ab" * 32}


def test_a_simple_sample_has_one_stratum_of_all_classes(path, tmp_path):
    points, design = read(sample(path, tmp_path / "s.gpkg", design="simple", size=100)[0])
    assert design["design"].tolist() == ["simple"]
    assert design["stratum"].tolist() == [0]
    assert design["name"].tolist() == ["all"]
    assert design["pixels"].tolist() == [(codes_of() > 0).sum()]
    assert design["area_m2"].tolist() == [(codes_of() > 0).sum() * 100.0]
    assert design["points"].tolist() == [100]
    assert set(points["stratum"]) == {0}


def test_the_same_seed_gives_the_same_sample_from_any_format(path, tmp_path):
    codes = codes_of()
    store = tmp_path / "map.zarr"
    write_class_map(make_map(codes, GeoBox(codes.shape, UTM, CRS), chunks=17), store)
    one, _ = read(sample(path, tmp_path / "a.gpkg", seed=1)[0])
    other, _ = read(sample(store, tmp_path / "b.gpkg", seed=1)[0])
    third, _ = read(sample(path, tmp_path / "c.gpkg", seed=2)[0])
    assert one.equals(other)
    assert not one.geometry.equals(third.geometry)


@pytest.mark.parametrize("crs", [None, "EPSG:4326"])
def test_maps_without_crs_and_in_degrees(crs, tmp_path):
    codes = patches(40, classes=3)
    place = GeoBox(codes.shape, Affine(0.01, 0, 10, 0, -0.01, 60), crs) if crs else None
    write_class_map(make_map(codes, place, chunks=16), tmp_path / "map.zarr")
    points, design = read(sample(tmp_path / "map.zarr", tmp_path / "s.gpkg", size=150)[0])
    if crs is None:
        assert points.crs is None or "Undefined" in points.crs.name
        assert design["area_m2"].isna().all()
        row, column = -points.geometry.y - 0.5, points.geometry.x - 0.5
        there = codes[row.astype(int), column.astype(int)]
        number = np.array([0, *design["stratum"]])
        np.testing.assert_array_equal(number[there], points["stratum"])
    else:
        assert points.crs == crs
        # a pixel at 60 degrees north is half as wide as it is high, 1.11 km
        assert design["area_m2"].sum() == pytest.approx(1600 * 1113 * 1113 / 2, rel=0.02)


def test_a_size_follows_from_the_accuracies_expected(path, tmp_path, cli):
    options = ("--min-per-class", 2, "--allocation", "balanced")
    code, _, err = cli("sample", path, "--out", tmp_path / "a.gpkg", *options)
    assert code == 0
    assert "standard error of about 0.02" in err
    assert "tree: all 8 pixels" not in err
    rows = len(read(tmp_path / "a.gpkg")[0])
    surer = ("--expected", "0.95", "--expected", "water=0.9")
    code, _, _ = cli("sample", path, "--out", tmp_path / "b.gpkg", *options, *surer)
    assert code == 0
    assert len(read(tmp_path / "b.gpkg")[0]) < rows / 2
    finer = ("--standard-error", 0.01)
    code, _, _ = cli("sample", path, "--out", tmp_path / "c.gpkg", *options, *finer)
    assert code == 0
    assert len(read(tmp_path / "c.gpkg")[0]) > rows * 2


def test_the_report_says_what_is_small(path, tmp_path, cli):
    code, out, err = cli("sample", path, "--out", tmp_path / "s.gpkg", "--standard-error", 0.1)
    assert code == 0
    assert "50 for each of 3 classes make 108" in err
    assert "water: all 8 pixels are in the sample" in err
    assert out.splitlines()[0].strip() == "Sample"
    line = next(line for line in out.splitlines() if line.startswith("water"))
    assert line.split() == ["water", "8", "0.11%", "8"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"design": "systematic"}, "--design systematic is not one of stratified, simple"),
        ({"allocation": "fair"}, "--allocation fair is not one of balanced, proportional"),
        ({"size": 100, "standard_error": 0.01}, "--size or --standard-error, not both"),
        ({"standard_error": 0.0}, "--standard-error 0 is not between 0 and 0.5"),
        ({"standard_error": float("nan")}, "--standard-error nan is not between"),
        ({"design": "simple", "allocation": "equal"}, "a simple design has no strata"),
        ({"min_per_class": 9, "allocation": "equal"}, "that of the balanced allocation"),
        ({"min_per_class": 1}, "--min-per-class 1 is below 2"),
        ({"seed": -1}, "--seed -1 is negative"),
        ({"size": 10**6}, "--size 1000000 is more than the map's 7470 classified pixels"),
        ({"size": 5, "allocation": "proportional"}, "fewer than 2 for each of 3 classes; take 6"),
        ({"size": 60}, "fewer than 50 for each of 3 classes; take 108 or more, or lower"),
        ({"size": 1, "design": "simple"}, "--size 1 is fewer than 2 points; take 2 or more"),
        ({"expected": ["rock=0.9"]}, "no class 'rock', only roof, tree, water"),
        ({"expected": ["tree=high"]}, "--expected tree=high is neither a number"),
        ({"expected": ["80"]}, "--expected 80: an accuracy lies between 0 and 1"),
        ({"expected": ["tree=1"]}, "both excluded"),
        ({"expected": ["=0.5x"]}, "neither a number such as 0.8 nor a class"),
    ],
)
def test_options_that_make_no_sense_are_refused(path, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        sample(path, tmp_path / "s.gpkg", **options)
    assert not list(tmp_path.iterdir())


def test_targets_that_cannot_be_written_are_refused(path, tmp_path):
    with pytest.raises(InputError, match=r"the suffix must be one of \.gpkg"):
        sample(path, tmp_path / "s.geojson")
    sample(path, tmp_path / "s.gpkg")
    with pytest.raises(InputError, match=r"s\.gpkg exists; choose another name or pass"):
        sample(path, tmp_path / "s.gpkg")
    sample(path, tmp_path / "s.gpkg", design="simple", overwrite=True)
    assert read(tmp_path / "s.gpkg")[1]["design"].tolist() == ["simple"]


def test_the_map_itself_is_not_overwritten(tmp_path):
    path = tmp_path / "map.gpkg"
    profile = {"driver": "GPKG", "width": 300, "height": 300, "count": 1, "dtype": "uint16"}
    with rasterio.open(path, "w", **profile, crs=CRS, transform=UTM) as raster:
        raster.write(patches(300).astype("uint16"), 1)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"map\.gpkg is the map itself"):
        sample(path, path, overwrite=True)
    assert path.read_bytes() == before


def test_an_empty_map_is_refused(tmp_path):
    write_class_map(make_map(np.zeros((9, 9))), tmp_path / "map.zarr")
    with pytest.raises(InputError, match="holds no classified pixel, so there is nothing"):
        sample(tmp_path / "map.zarr", tmp_path / "s.gpkg")
    with pytest.raises(InputError, match="no such file"):
        sample(tmp_path / "other.zarr", tmp_path / "s.gpkg")


def test_a_class_of_one_pixel_is_in_the_sample(tmp_path):
    codes = np.ones((30, 30), np.uint8)
    codes[4, 5] = 2
    write_class_map(make_map(codes), tmp_path / "map.zarr")
    for number, allocation in enumerate(("balanced", "equal", "proportional", "optimal")):
        target = tmp_path / f"{number}.gpkg"
        points, design = read(
            sample(tmp_path / "map.zarr", target, size=60, allocation=allocation)[0]
        )
        assert (points["stratum"] == design["stratum"][1]).sum() == 1
        assert len(points) == 60


def test_the_file_is_a_valid_geopackage(path, tmp_path):
    sample(path, tmp_path / "s.gpkg")
    with closing(sqlite3.connect(tmp_path / "s.gpkg")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        kinds = dict(database.execute("SELECT table_name, data_type FROM gpkg_contents"))
        styles = database.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault FROM layer_styles"
        ).fetchall()
    assert kinds == {"sample": "features", "design": "attributes", "layer_styles": "attributes"}
    assert styles == [(SAMPLE, "geometry", 1)]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What QGIS shows of a sample of a map with strange class names."""
    folder = tmp_path_factory.mktemp("qgis form")
    folder.chmod(0o700)
    if not has_qgis(folder):
        pytest.skip("QGIS is not installed (Debian: qgis python3-qgis qgis-providers)")
    write_class_map(strange_map(), folder / "map.tif")
    sample(folder / "map.tif", folder / "s.gpkg", size=150)
    script = Path(__file__).with_name("qgis_form.py")
    files = folder / "s.gpkg", folder / "point.png"
    return json.loads(run_program(SYSTEM_PYTHON, script, *files, folder=folder).stdout)


def test_qgis_offers_the_classes_of_the_map(shown):
    assert shown["valid"]
    assert shown["crs"] == CRS
    assert shown["count"] == 150
    assert shown["widgets"]["reference"] == "ValueMap"
    _, *choices = shown["choices"]
    assert choices == [{name: name} for name in STRANGE_NAMES.names]
    assert ["", *STRANGE_NAMES.names] in shown["form"]["lists"]
    assert "" in shown["form"]["chosen"]  # no class before one is chosen


def test_qgis_hides_what_the_map_says(shown):
    assert "stratum" in shown["fields"]
    assert shown["widgets"]["stratum"] == "Hidden"
    assert shown["form"]["labels"] == ["sample_id", "reference", "note"]
    assert shown["columns"] == ["sample_id", "reference", "note"]
    assert set(shown["read_only"]) == {"fid", "sample_id", "stratum"}


def test_qgis_shows_a_hollow_ring_and_the_pixel_around_it(shown):
    picture = shown["picture"]
    assert picture["colors"]["#ffff00"] > 500
    assert picture["colors"]["#ffffff"] > 50_000
    # of 300 pixels across; one of the map is two thirds of the picture wide
    left, *ring, right = np.unique(np.array(picture["yellow_on_middle_row"]) // 4) * 4
    assert left == pytest.approx(50, abs=4)
    assert right == pytest.approx(250, abs=4)
    assert ring == pytest.approx([136, 160], abs=4)


def test_qgis_reads_the_design(shown):
    assert tuple(shown["design"]) == ("fid", *DESIGN_COLUMNS)
