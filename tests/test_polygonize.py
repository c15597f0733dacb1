"""The command `polygonize`: class map in, layers of polygons out."""

import json
import subprocess
import sys

import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from conftest import TRANSFORM
from distributed import LocalCluster
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from polygon_maps import burn, patches
from shapely.geometry import Polygon, box

from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish import open_class_map, write_class_map

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

SCHEME = make_scheme([1, 2, 3], {1: "water", 2: "tree", 3: "roof"})
SIDE = 90
NODATA = np.s_[20:40, 30:70]


def classes():
    codes = patches(SIDE, grain=2)
    codes[NODATA] = 0
    return codes


def make_map(path, grid=None, *, probability=True):
    """Write a class map of patches with a hole, and return its path."""
    codes = classes()
    grid = grid or GeoBox((SIDE, SIDE), TRANSFORM, "EPSG:32633")
    random = np.random.default_rng(0).dirichlet([1, 1, 1], (SIDE, SIDE)).astype(np.float32)
    shares = np.where(codes > 0, np.moveaxis(random, 2, 0), np.nan)
    variables = {
        "class": (("y", "x"), da.from_array(codes, chunks=32), scheme_to_attrs(SCHEME)),
        "confidence": (("y", "x"), da.from_array(shares.max(axis=0), chunks=32)),
    }
    coords = dict(xr_coords(grid, dims=("y", "x")))
    if probability:
        variables["probability"] = (("category", "y", "x"), da.from_array(shares, chunks=32))
        coords["category"] = list(SCHEME.names)
    attrs = {"scene_id": "scene 7", "acquired": "2024-07-14T10:32:08"}
    write_class_map(xr.Dataset(variables, coords, attrs), path)
    return path


@pytest.fixture(scope="module")
def class_map(tmp_path_factory):
    return make_map(tmp_path_factory.mktemp("map") / "map.zarr")


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    return make_map(tmp_path_factory.mktemp("raster") / "map.tif")


@pytest.fixture
def grid(class_map):
    return open_class_map(class_map).odc.geobox


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def read(path):
    return gpd.read_file(path, layer=0)


def test_polygons_are_the_map(cli, class_map, raster, tmp_path, grid):
    for source in (class_map, raster):
        out = tmp_path / f"{source.suffix[1:]}.gpkg"
        code, text, err = cli("polygonize", source, "--out", out)
        assert (code, text) == (0, "")
        frame = read(out)
        assert f"{len(frame)} polygons in {out}" in err
        np.testing.assert_array_equal(burn(frame, (SIDE, SIDE), grid), classes())
        assert frame["area_m2"].sum() == pytest.approx((classes() > 0).sum() * 900)
        assert frame.geometry.area.to_numpy() == pytest.approx(frame["area_m2"])
        assert frame["scene_id"].unique().tolist() == ["scene 7"]
        assert set(frame["second_name"]) == set(SCHEME.names)
        assert (frame["name"] != frame["second_name"]).all()
        assert frame["min_confidence"].le(frame["confidence"] + 1e-6).all()
    zarr, tif = (read(tmp_path / name) for name in ("zarr.gpkg", "tif.gpkg"))
    pd.testing.assert_frame_equal(zarr, tif)


def test_small_polygons_join_their_neighbours(cli, class_map, tmp_path, grid):
    frames = []
    for chunk in (11, 64):
        out = tmp_path / f"{chunk}.fgb"
        code, _, err = cli(
            "polygonize", class_map, "--out", out, "--min-area", 9000, "--chunk", chunk
        )
        assert code == 0
        assert "132 regions became 91 by the minimum of 9000 m2" in err
        frames.append(burn(read(out), (SIDE, SIDE), grid))
        assert read(out)["area_m2"].min() >= 9000
    np.testing.assert_array_equal(*frames)
    np.testing.assert_array_equal(frames[0] > 0, classes() > 0)
    assert not any(name.startswith(".") for name in listing(tmp_path))


def test_the_most_probable_class_may_decide(cli, class_map, tmp_path, grid):
    burnt = []
    for join in ("border", "probability"):
        out = tmp_path / f"{join}.gpkg"
        arguments = ("--min-area", 9000, "--join", join)
        assert cli("polygonize", class_map, "--out", out, *arguments)[0] == 0
        burnt.append(burn(read(out), (SIDE, SIDE), grid))
    assert (burnt[0] != burnt[1]).any()


@pytest.mark.parametrize(
    "options", [("--simplify", 40), ("--smooth",), ("--simplify", 40, "--smooth")]
)
def test_simplified_polygons_fit_together(cli, class_map, tmp_path, options):
    out, plain = tmp_path / "simple.gpkg", tmp_path / "plain.gpkg"
    common = ("polygonize", class_map, "--min-area", 9000, "--chunk", 32)
    assert cli(*common, "--out", out, *options)[0] == 0
    assert cli(*common, "--out", plain)[0] == 0
    simple, full = read(out), read(plain)
    assert shapely.coverage_is_valid(simple.geometry.to_numpy())
    assert len(simple) == len(full)
    assert simple["area_m2"].to_numpy() == pytest.approx(simple.area.to_numpy())
    by_class = [frame.groupby("code")["area_m2"].sum() for frame in (simple, full)]
    np.testing.assert_allclose(*by_class, rtol=0.02)


def test_the_chunk_makes_no_difference_to_simpler_lines(cli, class_map, tmp_path):
    common = ("polygonize", class_map, "--simplify", 45, "--smooth", "--quiet")
    for chunk in (20, 64):
        assert cli(*common, "--out", tmp_path / f"{chunk}.fgb", "--chunk", chunk)[0] == 0
    assert (tmp_path / "20.fgb").read_bytes() == (tmp_path / "64.fgb").read_bytes()


def test_polygons_that_fall_below_the_minimum_are_told(cli, class_map, tmp_path):
    arguments = ("--min-area", 5400, "--simplify", 90)
    code, _, err = cli("polygonize", class_map, "--out", tmp_path / "a.gpkg", *arguments)
    assert code == 0
    few = (read(tmp_path / "a.gpkg")["area_m2"] < 5400).sum()
    assert few > 0
    assert f"{few} polygons are below 5400 m2 now that their lines are simpler" in err


def test_the_parcels_themselves_are_not_overwritten(cli, class_map, tmp_path):
    square = box(TRANSFORM.c, TRANSFORM.f - 900, TRANSFORM.c + 900, TRANSFORM.f)
    path = tmp_path / "parcels.gpkg"
    gpd.GeoDataFrame({"id": [7]}, geometry=[square], crs="EPSG:32633").to_file(path, layer="mine")
    before = path.read_bytes()
    (tmp_path / "link.gpkg").symlink_to(path)
    for out in (path, tmp_path / "link.gpkg"):
        code, _, err = cli("polygonize", class_map, "--by", path, "--out", out, "--overwrite")
        assert code == 2
        assert "write the result elsewhere" in err
    assert path.read_bytes() == before


def test_own_geoparquet_serves_as_parcels(cli, class_map, tmp_path):
    arguments = ("--min-area", 90_000, "--quiet")
    assert cli("polygonize", class_map, "--out", tmp_path / "a.parquet", *arguments)[0] == 0
    code, _, err = cli("polygonize", class_map, "--by", tmp_path / "a.parquet", "--out",
                       tmp_path / "b.parquet")  # fmt: skip
    assert code == 0, err
    one, other = (gpd.read_parquet(tmp_path / f"{name}.parquet") for name in "ab")
    assert set(one.columns) < set(other.columns)
    assert other["classified_m2_2"].sum() == pytest.approx(one["area_m2"].sum(), rel=1e-6)


def test_a_damaged_map_names_the_place(cli, tmp_path):
    path = make_map(tmp_path / "map.zarr")
    chunk = next((path / "class").glob("1.1"))
    chunk.write_bytes(b"no chunk at all")
    for options in ((), ("--min-area", 9000)):
        code, _, err = cli(
            "polygonize", path, "--out", tmp_path / "a.gpkg", "--chunk", 32, *options
        )
        assert code == 2
        assert "of the map cannot be read" in err
        assert "is the file damaged?" in err
        assert listing(tmp_path) == ["map.zarr"]


def test_a_program_that_is_ended_leaves_nothing(class_map, tmp_path):
    program = (
        "import os, signal, sys; from hsi_pipeline.commands import polygonize as p;"
        "p.outline = lambda *a, **o: os.kill(os.getpid(), signal.SIGTERM) or iter(());"
        "from hsi_pipeline.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "polygonize", class_map, "--out", tmp_path / "a.gpkg",
         "--min-area", "9000"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert "nothing unfinished stands under its final name" in done.stderr
    assert listing(tmp_path) == []


def test_polygons_fit_together_in_geojson_too(cli, class_map, tmp_path, grid):
    assert cli("polygonize", class_map, "--out", tmp_path / "a.geojson")[0] == 0
    frame = read(tmp_path / "a.geojson")
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())
    assert frame["area_m2"].sum() == (classes() > 0).sum() * 900
    np.testing.assert_array_equal(burn(frame.to_crs(32633), (SIDE, SIDE), grid), classes())


def test_8_connected_polygons_are_multipolygons(cli, class_map, tmp_path, grid):
    out = tmp_path / "eight.gpkg"
    assert cli("polygonize", class_map, "--out", out, "--connectivity", 8)[0] == 0
    frame = read(out)
    assert set(frame.geom_type) == {"MultiPolygon"}
    assert frame.geometry.is_valid.all()
    np.testing.assert_array_equal(burn(frame, (SIDE, SIDE), grid), classes())


def test_parcels_get_the_areas_of_classes(cli, class_map, tmp_path):
    corner = (TRANSFORM.c, TRANSFORM.f)
    parcels = gpd.GeoDataFrame(
        {"owner": ["a", "b", "c", "d"]},
        geometry=[
            box(corner[0] + 3, corner[1] - 1500, corner[0] + 1503, corner[1]),
            Polygon([corner, (corner[0] + 900, corner[1] - 900), (corner[0] + 900, corner[1]),
                     (corner[0], corner[1] - 900)]),
            box(corner[0] - 900, corner[1], corner[0] - 300, corner[1] + 300),
            box(corner[0] + 930, corner[1] - 1170, corner[0] + 2000, corner[1] - 630),
        ],
        crs="EPSG:32633",
    ).to_crs("EPSG:25832")  # fmt: skip
    parcels.to_file(tmp_path / "parcels.gpkg")
    out = tmp_path / "result.gpkg"
    code, text, err = cli("polygonize", class_map, "--by", tmp_path / "parcels.gpkg", "--out", out)
    assert (code, text) == (0, "")
    assert "1 of 4 parcels had an invalid geometry, which was repaired" in err
    assert "1 of 4 parcels lie outside the map" in err
    assert "1 of 4 parcels hold no classified pixel" in err
    assert f"4 parcels in {out}" in err
    frame = read(out)
    assert frame["owner"].tolist() == ["a", "b", "c", "d"]
    assert frame.crs == parcels.crs
    areas = frame[["area_water_m2", "area_tree_m2", "area_roof_m2"]].sum(axis=1)
    assert areas[0] == pytest.approx(1500 * 1500 - 603 * 600, rel=1e-4)
    shares = frame[["share_water", "share_tree", "share_roof"]].sum(axis=1)
    assert shares[0] == pytest.approx(1)
    assert set(frame["majority_name"][:2]) <= set(SCHEME.names)
    assert frame["majority_name"][2:].isna().all()
    style = (tmp_path / "result.qml").read_text()
    assert 'attr="majority"' in style


def test_parcels_by_a_layer_in_a_shapefile_and_twice(cli, class_map, tmp_path):
    square = box(TRANSFORM.c, TRANSFORM.f - 900, TRANSFORM.c + 900, TRANSFORM.f)
    frame = gpd.GeoDataFrame({"id": [7]}, geometry=[square], crs="EPSG:32633")
    for layer in ("fields", "others"):
        frame.to_file(tmp_path / "parcels.gpkg", layer=layer)
    common = ("polygonize", class_map, "--by")
    code, _, err = cli(*common, tmp_path / "parcels.gpkg", "--out", tmp_path / "a.shp")
    assert code == 2
    assert "there are several layers (fields, others)" in err
    code, _, err = cli(*common, tmp_path / "parcels.gpkg", "--by-layer", "fields", "--out",
                       tmp_path / "a.shp")  # fmt: skip
    assert code == 0
    assert "majority_name is majority_n, majority_share is majority_s" in err
    assert read(tmp_path / "a.shp")["majority_n"].notna().all()
    assert 'attr="majority"' in (tmp_path / "a.qml").read_text()
    assert cli(*common, tmp_path / "parcels.gpkg", "--by-layer", "fields", "--out",
               tmp_path / "b.gpkg")[0] == 0  # fmt: skip
    code, _, err = cli(*common, tmp_path / "b.gpkg", "--out", tmp_path / "c.gpkg")
    assert code == 0
    assert "new ones end in _2" in err
    assert 'attr="majority_2"' in (tmp_path / "c.qml").read_text()


def test_a_map_without_probabilities_says_what_is_missing(cli, tmp_path):
    plain = make_map(tmp_path / "map.zarr", probability=False)
    code, _, err = cli("polygonize", plain, "--out", tmp_path / "a.gpkg")
    assert code == 0
    assert "the map has no probabilities, so second_name and second_share are empty\n" in err
    assert read(tmp_path / "a.gpkg")["second_name"].isna().all()
    code, _, err = cli("polygonize", plain, "--out", tmp_path / "b.gpkg", "--min-area", 9000,
                       "--join", "probability")  # fmt: skip
    assert code == 2
    assert "to join by probability, the map must hold probabilities" in err


def test_a_raster_of_another_program(cli, tmp_path):
    path = tmp_path / "other.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=4, height=3, count=1, dtype="int16", nodata=-1,
        crs="EPSG:4326", transform=Affine(0.01, 0, 10, 0, -0.01, 50),
    ) as target:  # fmt: skip
        target.write(np.array([[5, 5, 7, -1], [5, 5, 7, 7], [9, 9, 9, 9]], np.int16), 1)
    code, _, err = cli("polygonize", path, "--out", tmp_path / "landcover.gpkg")
    assert code == 0
    assert "no names for the classes 5, 7, 9" in err
    assert "no colours for the classes 5, 7, 9" in err
    frame = read(tmp_path / "landcover.gpkg")
    assert sorted(frame["name"]) == ["class 5", "class 7", "class 9"]
    cell = frame.to_crs(6933).area / frame["area_m2"]  # equal-area
    assert cell.to_numpy() == pytest.approx(1, rel=1e-6)


def test_an_empty_map_gives_an_empty_valid_layer(cli, tmp_path):
    path = tmp_path / "none.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=4, height=3, count=1, dtype="uint8", nodata=0,
        crs="EPSG:32633", transform=TRANSFORM,
    ):  # fmt: skip
        pass
    for suffix in ("gpkg", "parquet", "fgb", "geojson", "shp"):
        out = tmp_path / f"layer.{suffix}"
        code, _, err = cli("polygonize", path, "--out", out, "--min-area", 9, "--overwrite")
        assert code == 0, err
        assert "the map holds no classified pixel; the layer is valid and has no polygons" in err
        assert f"0 polygons in {out}" in err
        assert len(gpd.read_parquet(out) if suffix == "parquet" else read(out)) == 0


def test_names_in_a_shapefile_are_told(cli, class_map, tmp_path):
    code, _, err = cli("polygonize", class_map, "--out", tmp_path / "map.shp")
    assert code == 0
    assert "ten letters at most: perimeter_m is perimeter_, min_confidence is min_confid" in err
    assert listing(tmp_path) == [
        f"map.{s}" for s in ("cpg", "dbf", "prj", "qml", "shp", "shx", "sld")
    ]


def test_a_running_cluster_gives_the_same(cli, class_map, tmp_path):
    arguments = ("polygonize", class_map, "--min-area", 9000, "--chunk", 30)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        code, _, err = cli(*arguments, "--out", tmp_path / "far.fgb", "--scheduler",
                           cluster.scheduler_address)  # fmt: skip
    assert code == 0
    assert "2 workers" in err
    assert cli(*arguments, "--out", tmp_path / "near.fgb")[0] == 0
    assert (tmp_path / "far.fgb").read_bytes() == (tmp_path / "near.fgb").read_bytes()


def test_progress_is_told_to_programs(cli, class_map, tmp_path):
    code, text, _ = cli("polygonize", class_map, "--out", tmp_path / "a.gpkg", "--min-area", 9000,
                        "--progress", "json", "--chunk", 30)  # fmt: skip
    assert code == 0
    events = [json.loads(line) for line in text.splitlines()]
    ends = {e["label"]: (e["done"], e["total"]) for e in events if e["event"] == "progress"}
    assert ends == {"minimum area": (18, 18), "polygons": (9, 9)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--append"], "--append adds to a table of a database"),
        (["--simplify", "-1"], "tolerance of simplification is -1"),
        (["--join", "size", "--min-area", "9"], "join by border or probability, not by 'size'"),
        (["--connectivity", "6"], "connectivity is 4 or 8, not 6"),
        (["--by", "none.gpkg"], "there is no such parcel file"),
        (["--by", "none.gpkg", "--smooth"], "leave out --by"),
        (["--scheduler", "nowhere"], "not the address of a Dask scheduler"),
    ],
)
def test_what_cannot_work_is_said_and_leaves_nothing(cli, class_map, tmp_path, options, words):
    out = tmp_path / "out"
    out.mkdir()
    code, text, err = cli("polygonize", class_map, "--out", out / "a.gpkg", *options)
    assert (code, text) == (2, "")
    assert words in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) <= 2
    assert listing(out) == []


def test_a_map_that_breaks_in_the_middle_leaves_the_old_layer(class_map, tmp_path, monkeypatch):
    out = tmp_path / "a.gpkg"
    polygonize(class_map, out)
    before = out.read_bytes()
    import hsi_pipeline.commands.polygonize as command

    def broken(path, say):
        dataset = open_class_map(path)
        lost = dataset["class"].data.map_blocks(lambda block: 1 // 0, dtype=np.uint8)
        return dataset.assign({"class": dataset["class"].copy(data=lost)})

    monkeypatch.setattr(command, "open_class_map", broken)
    for options in ({}, {"min_area": 9000}):
        with pytest.raises(ZeroDivisionError):
            polygonize(class_map, out, overwrite=True, **options)
        assert out.read_bytes() == before
        assert listing(tmp_path) == ["a.gpkg", "a.qml", "a.sld"]


def test_an_unknown_suffix_names_those_that_will_do(class_map, tmp_path):
    with pytest.raises(InputError, match=r"one of \.gpkg, \.parquet, \.fgb, \.geojson, \.shp"):
        polygonize(class_map, tmp_path / "a.kml")
