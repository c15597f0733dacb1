"""`assess` from end to end: real files, counted and computed again here."""

import json
import math
import shutil
import tracemalloc
from dataclasses import replace

import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from shapely.geometry import LineString, MultiPoint, Point, box
from sklearn import metrics
from test_estimation import OLOFSSON, STEHMAN_MAP, STEHMAN_STRATUM, STEHMAN_TRUE, of_matrix

from hsi_pipeline.areas import Measure
from hsi_pipeline.checkpoint import checkpoint_hash, load_checkpoint
from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.commands import map_pixels
from hsi_pipeline.commands.assess import assess
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.learnt import is_learnt_from
from hsi_pipeline.commands.reference_units import points_sha256
from hsi_pipeline.commands.train import train
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimation import estimate, tally_units
from hsi_pipeline.ground_truth import labels_sha256, read_labels
from hsi_pipeline.ground_truth.points import read_points
from hsi_pipeline.publish import open_class_map, write_class_map

CRS = "EPSG:32633"
UTM = Affine(30, 0, 364_095, 0, -30, 5_809_965)
NAMES = {1: "water", 3: "tree", 7: "roof"}
E = ("value", "standard_error", "low", "high")


def write_map(path, codes, names=None, *, transform=UTM, crs=CRS, **attrs):
    """Write a class map and return its path."""
    codes = np.asarray(codes, np.uint8)
    names = NAMES if names is None else names
    scheme = make_scheme(list(names), names)
    grid = GeoBox(codes.shape, transform, crs)
    pixels = (("y", "x"), da.from_array(codes, chunks=512), scheme_to_attrs(scheme))
    one = xr.Dataset({"class": pixels}, coords=dict(xr_coords(grid, dims=("y", "x"))), attrs=attrs)
    write_class_map(one, path)
    return path


def field(rows=40, columns=50):
    """Class codes (y, x) in stripes, with nodata in a corner."""
    codes = np.repeat([1, 3, 7, 3, 1], 10)[None].repeat(rows, 0)[:, :columns].copy()
    codes[:4, :5] = 0
    return codes


@pytest.fixture
def class_map(tmp_path):
    return write_map(tmp_path / "map.tif", field())


def centres(rows, columns, transform=UTM):
    return gpd.points_from_xy(*(transform @ (np.asarray(columns) + 0.5, np.asarray(rows) + 0.5)))


def write_points(path, rows, columns, names, *, crs=CRS, to=None, transform=UTM, **columns_too):
    frame = gpd.GeoDataFrame(
        {"class": names, **columns_too}, geometry=centres(rows, columns, transform), crs=crs
    )
    if to is not None:
        frame = frame.to_crs(to)
    frame.to_file(path)
    return path


def write_sample(path, points, strata, design="stratified"):
    """Write a sample as `sample` does: points with strata, and the table of its design."""
    pyogrio.write_dataframe(points, path, layer="sample", driver="GPKG")
    table = pd.DataFrame(strata, columns=["stratum", "name", "pixels", "area_m2"])
    number = [int((points["stratum"] == code).sum()) for code in table["stratum"]]
    table = table.assign(design=design, points=number, seed=0, map="map.tif", model_sha256="")
    pyogrio.write_dataframe(table, path, layer="design", driver="GPKG", append=True)
    return path


def drawn(rows, columns, strata, reference, transform=UTM):
    number = np.arange(1, len(rows) + 1)
    return gpd.GeoDataFrame(
        {"sample_id": number, "stratum": strata, "reference": reference, "note": None},
        geometry=centres(rows, columns, transform),
        crs=CRS,
    )


def random_points(codes, count=120, seed=0, right=0.8):
    """Rows and columns of valid pixels, all different, and names that are mostly right."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(np.flatnonzero(codes > 0))[:count]
    true = codes.ravel()[places].copy()
    wrong = rng.random(count) > right
    true[wrong] = rng.choice(list(NAMES), wrong.sum())
    rows, columns = np.unravel_index(places, codes.shape)
    return rows, columns, np.array([NAMES[code] for code in true])


def figures(path):
    return json.loads(path.read_text(encoding="utf-8"))


def numbers(entry):
    return [math.nan if entry[key] is None else entry[key] for key in E]


def by_name(found, key):
    return {one["name"]: one[key] for one in found["classes"]}


def index_of(names):
    return np.array([list(NAMES.values()).index(name) for name in names])


# --- worked examples as files -------------------------------------------------------------------


def test_the_example_of_olofsson_as_files(tmp_path, cli):
    """Its map a hundredth as large on a side, with the very sample: shares are as printed."""
    pixels = np.array([200, 150, 3200, 6450])
    codes = np.repeat(np.arange(1, 5), pixels).reshape(100, 100)
    names = {1: "deforestation", 2: "gain", 3: "forest", 4: "other"}
    class_map = write_map(tmp_path / "map.tif", codes, names)
    mapped, true = np.repeat(np.argwhere(OLOFSSON >= 0), OLOFSSON.ravel(), axis=0).T
    order = np.concatenate([np.flatnonzero(codes == i + 1)[: (mapped == i).sum()]
                            for i in range(4)])  # fmt: skip
    rows, columns = np.unravel_index(order, codes.shape)
    points = write_points(tmp_path / "points.gpkg", rows, columns, [names[j + 1] for j in true])
    out = tmp_path / "figures.json"
    code, text, err = cli("assess", class_map, points, "--design", "stratified", "--out", out)
    assert code == 0, err
    assert "design: stratified random sample, 640 points in 4 strata" in text
    assert "overall accuracy 0.947 ± 0.018" in text
    assert "0.880 ± 0.074" in text
    found = figures(out)
    assert found["probability_sample"] is True
    assert found["confusion_matrix"]["counts"] == OLOFSSON.tolist()
    assert np.round(found["confusion_matrix"]["proportions"], 4)[0].tolist() == [
        0.0176, 0, 0.0013, 0.0011,
    ]  # fmt: skip
    whole = 900_000  # ha in the paper, 900 ha here
    shares = [one["area_share"] for one in found["classes"]]
    assert [round(whole * one["value"]) for one in shares] == [21_158, 11_686, 285_770, 581_386]
    assert [round(whole * 1.96 * one["standard_error"]) for one in shares] == [
        6_158, 3_756, 15_510, 16_282,
    ]  # fmt: skip
    for one, mapped_pixels in zip(found["classes"], pixels.tolist(), strict=True):
        assert one["mapped_area_m2"] == pytest.approx(mapped_pixels * 900)
        assert one["area_m2"]["value"] == pytest.approx(one["area_share"]["value"] * 9e6)
        assert one["area_m2"]["high"] == pytest.approx(one["area_share"]["high"] * 9e6)
    assert [one["weight"] for one in found["strata"]] == [0.02, 0.015, 0.32, 0.645]
    assert [one["units"] for one in found["strata"]] == [75, 75, 165, 325]


def test_the_example_of_stehman_as_files(tmp_path, cli):
    """The sample was drawn from one map, and serves to assess another one."""
    rows, columns = np.divmod(np.arange(40), 8)
    codes = np.zeros((5, 8))
    codes[rows, columns] = STEHMAN_MAP + 1
    names = dict(enumerate("ABCD", start=1))
    class_map = write_map(tmp_path / "other.zarr", codes, names)
    points = drawn(rows, columns, STEHMAN_STRATUM + 10, [names[c + 1] for c in STEHMAN_TRUE])
    strata = [(10 + i, f"part {i}", n, n * 900.0) for i, n in
              enumerate((40_000, 30_000, 20_000, 10_000))]  # fmt: skip
    sample = write_sample(tmp_path / "sample.gpkg", points, strata)
    out = tmp_path / "figures.json"
    code, text, err = cli("assess", class_map, sample, "--out", out)
    assert code == 0, err
    assert "stratified random sample, 40 points in 4 strata" in text
    found = figures(out)
    assert found["design"] == "stratified"
    assert round(found["overall_accuracy"]["value"], 2) == 0.63
    assert round(found["overall_accuracy"]["standard_error"], 3) == 0.085
    second = found["classes"][1]
    assert round(second["users_accuracy"]["value"], 3) == 0.574
    assert round(second["users_accuracy"]["standard_error"], 3) == 0.125
    assert round(second["producers_accuracy"]["value"], 3) == 0.794
    # areas are those of the strata, not of the 40 pixels of this map
    first = found["classes"][0]
    assert first["area_m2"]["value"] == pytest.approx(0.35 * 100_000 * 900)
    assert first["mapped_area_m2"] == pytest.approx((STEHMAN_MAP == 0).sum() * 900)
    assert [one["name"] for one in found["strata"]] == ["part 0", "part 1", "part 2", "part 3"]


def test_from_sample_to_assessment(tmp_path, cli):
    """A sample of the program itself, filled in by hand, by names and by codes."""
    codes = field()
    class_map = write_map(tmp_path / "map.tif", codes)
    sample = tmp_path / "sample.gpkg"
    assert (
        cli("sample", class_map, "--out", sample, "--size", "90", "--allocation", "equal")[0] == 0
    )
    code, _, err = cli("assess", class_map, sample)
    assert code == 2
    assert "column 'reference' gives no point a class; interpret the points and fill it in" in err
    points = gpd.read_file(sample, layer="sample")
    columns, rows = ~UTM @ (points.geometry.x, points.geometry.y)
    true = codes[rows.astype(int), columns.astype(int)].copy()
    true[:6] = 1
    design = pyogrio.read_dataframe(sample, layer="design")
    results = []
    mixed = [NAMES[c] if i % 9 else f"{c} " for i, c in enumerate(true)]
    for values in ([NAMES[c] for c in true], [f" {c}" for c in true], mixed):
        points["reference"] = values
        sample.unlink()
        pyogrio.write_dataframe(points, sample, layer="sample", driver="GPKG")
        pyogrio.write_dataframe(design, sample, layer="design", driver="GPKG", append=True)
        results.append(assess(class_map, sample))
    assert set(points["stratum"]) == {1, 2, 3}  # strata are numbered, not by the codes 1, 3, 7
    mapped = index_of([NAMES[c] for c in codes[rows.astype(int), columns.astype(int)]])
    expected = estimate(
        tally_units(
            mapped, index_of([NAMES[c] for c in true]), stratum=mapped,
            weights=[(codes == c).sum() for c in NAMES],
        ), 3,
    )  # fmt: skip
    for found in results:
        assert found.design == "stratified"
        assert found.estimates.kappa.numbers == pytest.approx(expected.kappa.numbers)
        np.testing.assert_array_equal(found.estimates.counts, expected.counts)


def test_a_number_that_is_the_name_of_a_class_is_no_code(tmp_path):
    names = {1: "10", 2: "20", 10: "tree"}
    codes = np.repeat([1, 2, 10], 10)[None].repeat(30, 0)
    class_map = write_map(tmp_path / "map.tif", codes, names)
    rows, columns = np.indices(codes.shape)[:, ::3, ::3].reshape(2, -1)
    there = codes[rows, columns]
    strata = [(code, names[code], 300, 300 * 900.0) for code in names]
    for number, values in enumerate(
        ([names[c] for c in there], [{1: "10", 2: "2", 10: "tree"}[c] for c in there])
    ):
        points = drawn(rows, columns, there, values)
        found = assess(class_map, write_sample(tmp_path / f"{number}.gpkg", points, strata))
        assert found.scheme.names == ("10", "20", "tree")
        assert found.estimates.overall_accuracy.value == 1
    # what is neither stays what it is
    points = drawn(rows, columns, there, ["99" if c == 2 else names[c] for c in there])
    found = assess(class_map, write_sample(tmp_path / "neither.gpkg", points, strata))
    assert any("the map has no class '99'" in one for one in found.warnings)


# --- units --------------------------------------------------------------------------------------


def test_points_are_compared_pixel_by_pixel(class_map, tmp_path, cli):
    codes = field()
    rows, columns, names = random_points(codes)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    out = tmp_path / "figures.json"
    code, text, err = cli("assess", class_map, points, "--out", out)
    assert code == 0, err
    assert "warning: the reference is no probability sample as far as is known" in err
    assert "design: none stated; 120 points" in text
    mapped = [NAMES[code] for code in codes[rows, columns]]
    found = figures(out)
    assert found["format"] == "hsi_pipeline assessment 1"
    assert (found["map"], found["reference"]) == ("map.tif", "points.gpkg")
    assert (found["design"], found["probability_sample"]) == ("none", False)
    assert not any("differ in area" in one for one in found["warnings"])
    assert (found["unit"], found["sample_units"]) == ("point", 120)
    assert found["left_out"] == {"outside": 0, "nodata": 0, "without_class": 0, "duplicate": 0}
    assert found["strata"] == []
    labels = list(NAMES.values())
    matrix = metrics.confusion_matrix(names, mapped, labels=labels).T
    assert found["confusion_matrix"]["counts"] == matrix.tolist()
    right = metrics.accuracy_score(names, mapped)
    assert found["overall_accuracy"]["value"] == pytest.approx(right)
    assert found["kappa"]["value"] == pytest.approx(metrics.cohen_kappa_score(names, mapped))
    f1 = metrics.f1_score(names, mapped, labels=labels, average=None)
    assert [one["f1"]["value"] for one in found["classes"]] == pytest.approx(f1)
    assert [one["units_in_map"] for one in found["classes"]] == matrix.sum(1).tolist()
    assert [one["units_in_reference"] for one in found["classes"]] == matrix.sum(0).tolist()
    assert [one["color"] for one in found["classes"]] == list(make_scheme([1, 3, 7]).colors)
    areas = [(codes == code).sum() * 900 for code in NAMES]
    assert [one["mapped_area_m2"] for one in found["classes"]] == pytest.approx(areas)
    assert sum(one["mapped_share"] for one in found["classes"]) == pytest.approx(1)
    # areas are post-stratified, scores are not
    index = index_of(mapped)
    strata = tally_units(index, index_of(names), stratum=index, weights=areas)
    for one, other in zip(found["classes"], estimate(strata, 3).area_share, strict=True):
        assert numbers(one["area_share"]) == pytest.approx(other.numbers)
    for one in found["classes"]:
        for key in ("area_share", "users_accuracy", "producers_accuracy", "f1", "iou"):
            value, error, low, high = numbers(one[key])
            assert 0 <= low <= value <= high <= 1
            assert error > 0


@pytest.mark.parametrize("suffix", ["geojson", "shp", "fgb"])
def test_neither_crs_nor_format_of_points_matters(class_map, tmp_path, suffix):
    rows, columns, names = random_points(field())
    one = assess(class_map, write_points(tmp_path / "one.gpkg", rows, columns, names))
    path = tmp_path / f"other.{suffix}"
    other = assess(class_map, write_points(path, rows, columns, names, to="EPSG:4326"))
    np.testing.assert_array_equal(one.estimates.counts, other.estimates.counts)
    assert one.estimates.mean_iou == other.estimates.mean_iou


def test_what_is_left_out_is_counted_and_said(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 60)
    rows, columns = [*rows, 0, 100, -3, 20, 21], [*columns, 1, 5, 5, 20, 22]
    names = [*names, "water", "water", "tree", None, ""]
    # the first point twice, the second with another class, the third thrice with both
    other = "tree" if names[1] != "tree" else "roof"
    rows += [rows[0], rows[1], rows[2], rows[2]]
    columns += [columns[0], columns[1], columns[2], columns[2]]
    names += [names[0], other, names[2], "roof" if names[2] != "roof" else "tree"]
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    out = tmp_path / "figures.json"
    code, _, err = cli("assess", class_map, points, "--out", out)
    assert code == 0, err
    found = figures(out)
    # one of a pair that agrees, two that disagree, three that disagree
    assert found["left_out"] == {"outside": 2, "nodata": 1, "without_class": 2, "duplicate": 6}
    assert found["sample_units"] == 58
    assert "58 points on the map; left out: 2 outside the map, 1 on nodata, 2 without class" in err
    assert "5 points are left out: they share a pixel and disagree on its class" in err


def test_far_away_and_empty_points_are_outside(class_map, tmp_path):
    rows, columns, names = random_points(field(), 30)
    frame = gpd.GeoDataFrame(
        {"class": [*names, "tree", "tree"]},
        geometry=[*centres(rows, columns), Point(), None],
        crs=CRS,
    ).to_crs(4326)
    frame.loc[len(frame)] = ["tree", Point(-100, 89.9)]
    frame.to_file(tmp_path / "points.gpkg")
    found = assess(class_map, tmp_path / "points.gpkg")
    assert found.left_out["outside"] == 3
    assert found.sample_units == 30


def test_points_of_a_multipoint_are_units(class_map, tmp_path):
    rows, columns = [10, 20, 30, 5], [5, 25, 15, 42]
    geometry = [MultiPoint(list(centres(rows[:2], columns[:2]))), *centres(rows[2:], columns[2:])]
    frame = gpd.GeoDataFrame({"class": ["water", "tree", "water"]}, geometry=geometry, crs=CRS)
    frame.to_file(tmp_path / "points.gpkg")
    assert assess(class_map, tmp_path / "points.gpkg").sample_units == 4


def polygons(path, seed=1, count=30):
    """Write squares of 3 x 3 pixels, most with the class of their middle; return their labels."""
    codes, rng = field(), np.random.default_rng(seed)
    places = [(r, c) for r in range(5, 36, 4) for c in range(2, 47, 4)]
    labels, rows = np.zeros(codes.shape, int), []
    features = np.zeros(codes.shape, int)
    for number, i in enumerate(rng.permutation(len(places))[:count], start=1):
        r, c = places[i]
        code = codes[r + 1, c + 1] if rng.random() < 0.8 else rng.choice(list(NAMES))
        west, north = UTM @ (c, r)
        rows.append((box(west, north - 90, west + 90, north), NAMES[code]))
        labels[r : r + 3, c : c + 3], features[r : r + 3, c : c + 3] = code, number
    frame = gpd.GeoDataFrame(rows, columns=["geometry", "class"], crs=CRS)
    frame.to_crs(3857).to_file(path)
    return path, labels, features


def test_polygons_are_clusters_of_pixels(class_map, tmp_path, cli):
    path, labels, features = polygons(tmp_path / "polygons.gpkg")
    out = tmp_path / "figures.json"
    code, text, err = cli("assess", class_map, path, "--out", out)
    assert code == 0, err
    assert "30 polygons as clusters of 270 pixels" in text
    held = labels > 0
    index = np.zeros(8, int)
    index[[1, 3, 7]] = range(3)
    mapped, true = index[field()[held]], index[labels[held]]
    expected = estimate(tally_units(mapped, true, cluster=features[held]), 3)
    plain = estimate(tally_units(mapped, true), 3)
    found = figures(out)
    assert (found["unit"], found["sample_units"]) == ("polygon", 30)
    assert found["confusion_matrix"]["counts"] == expected.counts.tolist()
    assert numbers(found["overall_accuracy"]) == pytest.approx(expected.overall_accuracy.numbers)
    assert numbers(found["kappa"]) == pytest.approx(expected.kappa.numbers)
    # pixels of a polygon are not independent: pretending they were would halve the error
    assert expected.overall_accuracy.standard_error > 2 * plain.overall_accuracy.standard_error


def test_polygons_as_a_simple_sample_are_post_stratified(class_map, tmp_path):
    path, _, _ = polygons(tmp_path / "polygons.gpkg")
    found = assess(class_map, path, design="simple")
    assert found.design == "simple"
    assert [one.name for one in found.strata] == list(NAMES.values())
    assert sum(one.weight for one in found.strata) == pytest.approx(1)
    assert sum(one.units for one in found.strata) == 270
    with pytest.raises(InputError, match="stratified sample is one of points, the ref"):
        assess(class_map, path, design="stratified")


def test_intervals_of_few_polygons_are_wider_and_warned_of(class_map, tmp_path, cli):
    path, _, _ = polygons(tmp_path / "polygons.gpkg", count=8)
    code, text, err = cli("assess", class_map, path)
    assert code == 0
    assert "intervals rest on 8 polygons: below 20 they are rough" in err
    found = assess(class_map, path).estimates.overall_accuracy
    half = 2.3646 * found.standard_error  # of Student's t with 7 degrees of freedom
    assert found.high - found.value == pytest.approx(min(half, 1 - found.value), rel=1e-4)
    assert found.value - found.low == pytest.approx(half, rel=1e-4)
    assert f"overall accuracy {found.value:.3f} ± {half:.3f}\n" in text
    many, _, _ = polygons(tmp_path / "many.gpkg", count=30)
    assert not any("polygons: below" in one for one in assess(class_map, many).warnings)


def test_one_polygon_tells_no_error(class_map, tmp_path, cli):
    west, north = UTM @ (5, 5)
    frame = gpd.GeoDataFrame({"class": ["water"]}, geometry=[box(west, north - 300, west + 300,
                             north)], crs=CRS)  # fmt: skip
    frame.to_file(tmp_path / "one.gpkg")
    out = tmp_path / "figures.json"
    code, text, err = cli("assess", class_map, tmp_path / "one.gpkg", "--out", out)
    assert code == 0, err
    assert "all pixels are of one polygon, so nothing tells how uncertain figures are" in err
    assert "overall accuracy 0.500\n" in text
    assert figures(out)["overall_accuracy"] == {
        "value": 0.5, "standard_error": None, "low": None, "high": None,
    }  # fmt: skip


def test_a_class_raster_as_reference(class_map, tmp_path):
    codes = field()
    codes[:, 20:30] = 3
    reference = write_map(tmp_path / "reference.tif", codes)
    found = assess(class_map, reference)
    assert (found.unit, found.sample_units) == ("pixel", int((codes > 0).sum()))
    mapped, true = field()[codes > 0], codes[codes > 0]
    right = metrics.accuracy_score(true, mapped)
    assert found.estimates.overall_accuracy.value == pytest.approx(right)
    assert any("no reference is of class 'roof'" in one for one in found.warnings)


# --- classes ------------------------------------------------------------------------------------


def test_classes_of_one_side_alone(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 80)
    names = [{"roof": "Watr", "tree": "tree", "water": "water"}[name] for name in names]
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    out = tmp_path / "figures.json"
    code, _, err = cli("assess", class_map, points, "--out", out)
    assert code == 0, err
    assert (
        "the map has no class 'Watr', where the reference says so it is wrong; is it 'water'?"
        in err
    )
    assert "no reference is of class 'roof'" in err
    found = figures(out)
    assert [one["name"] for one in found["classes"]] == ["water", "Watr", "tree", "roof"]
    watr = found["classes"][1]
    assert watr["mapped_area_m2"] == watr["mapped_share"] == watr["units_in_map"] == 0
    assert watr["producers_accuracy"]["value"] == 0
    assert watr["users_accuracy"] == dict.fromkeys(E)
    assert found["classes"][3]["producers_accuracy"]["value"] is None
    assert found["classes"][3]["users_accuracy"]["value"] == 0
    assert found["warnings"] == [one.removeprefix("warning: ") for one in err.splitlines()
                                 if one.startswith("warning: ")]  # fmt: skip


def test_no_class_in_common(class_map, tmp_path, cli):
    points = write_points(tmp_path / "points.gpkg", [9, 8], [9, 30], ["ice", "snow"])
    code, _, err = cli("assess", class_map, points)
    assert code == 2
    assert "no class in common by name; the map has 1 water, 3 tree, 7 roof, the" in err


def test_classes_are_merged_before_comparing(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 100)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    out = tmp_path / "figures.json"
    code, _, err = cli("assess", class_map, points, "--merge", "land=tree,7", "--out", out)
    assert code == 0, err
    found = figures(out)
    land = np.where(names == "water", "water", "land")
    mapped = np.where(field()[rows, columns] == 1, "water", "land")
    assert found["confusion_matrix"]["classes"] == ["water", "land"]
    right = metrics.accuracy_score(land, mapped)
    assert found["overall_accuracy"]["value"] == pytest.approx(right)
    assert by_name(found, "mapped_area_m2")["land"] == pytest.approx(
        np.isin(field(), (3, 7)).sum() * 900
    )
    code, _, err = cli("assess", class_map, points, "--merge", "land=tree,rof")
    assert code == 2
    assert "--merge land: there is no class 'rof', did you mean 'roof'" in err


def test_strata_stay_those_of_the_map_when_classes_are_merged(class_map, tmp_path):
    rows, columns, names = random_points(field(), 100)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    found = assess(class_map, points, design="stratified", merge=["land=tree,roof"])
    assert [one.name for one in found.strata] == ["water", "tree", "roof"]
    assert found.scheme.names == ("water", "land")


def test_names_for_a_map_that_has_codes_alone(tmp_path, cli):
    rows, columns, names = random_points(field(), 50)
    plain = write_map(tmp_path / "plain.tif", field(), {1: "class 1", 3: "class 3", 7: "class 7"})
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    code, _, err = cli("assess", plain, points)
    assert code == 2  # codes of names are made up in sorted order
    assert "no class in common by name; the map has 1 class 1, 3 class 3, 7 class 7" in err
    areas, _, _ = polygons(tmp_path / "polygons.gpkg")
    code, _, err = cli("assess", plain, areas)
    assert code == 2
    assert "no class in common by name" in err
    table = tmp_path / "classes.csv"
    table.write_text("code,name\n1,water\n3,tree\n7,roof\n", encoding="utf-8")
    assert cli("assess", plain, points, "--class-table", table)[0] == 0
    coded = write_points(
        tmp_path / "coded.gpkg", rows, columns, [{v: k for k, v in NAMES.items()}[n] for n in names]
    )
    one, other = assess(plain, points, class_table=table), assess(plain, coded)
    np.testing.assert_array_equal(one.estimates.counts, other.estimates.counts)


def test_one_class_alone(tmp_path, cli):
    class_map = write_map(tmp_path / "map.tif", np.ones((9, 9)), {1: "water"})
    points = write_points(tmp_path / "points.gpkg", range(9), range(9), ["water"] * 9)
    out = tmp_path / "figures.json"
    code, text, err = cli("assess", class_map, points, "--design", "simple", "--out", out)
    assert code == 0, err
    assert "kappa -" in text
    assert "overall accuracy 1.000 (>0.664)" in text
    found = figures(out)
    assert found["kappa"] == dict.fromkeys(E)
    assert found["overall_accuracy"]["value"] == found["classes"][0]["area_share"]["value"] == 1


def test_too_few_points(class_map, tmp_path, cli):
    points = write_points(tmp_path / "two.gpkg", [20, 20], [5, 15], ["water", "tree"])
    code, _, err = cli("assess", class_map, points)
    assert code == 0
    assert "there are fewer points (2) than classes (3): figures of single classes mean li" in err
    assert "areas are not estimated: some class of the map has fewer than two labelled" in err
    one = write_points(tmp_path / "one.gpkg", [20, 0], [5, 0], ["water", "tree"])
    code, _, err = cli("assess", class_map, one)
    assert code == 2
    assert "one point is left to compare with, an estimate with its uncertainty needs 2" in err
    assert "left out: 1 on nodata" in err
    none = write_points(tmp_path / "none.gpkg", [0, 1], [0, 1], ["water", "tree"])
    code, _, err = cli("assess", class_map, none)
    assert code == 2
    assert "no point is left (2 on nodata)" in err
    away = write_points(tmp_path / "away.gpkg", [500], [500], ["water"])
    code, _, err = cli("assess", class_map, away)
    assert code == 2
    assert "labels no pixel of the scene; the labels span x 379110 to 379110" in err


# --- designs ------------------------------------------------------------------------------------


def test_a_simple_sample_is_post_stratified(class_map, tmp_path, cli):
    rows, columns, names = random_points(field())
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    code, text, err = cli("assess", class_map, points, "--design", "simple")
    assert code == 0, err
    assert "simple random sample, 120 points, post-stratified by the classes of the map" in text
    assert "probability" not in err
    found = assess(class_map, points, design="simple")
    stratified = assess(class_map, points, design="stratified")
    assert found.estimates.kappa == stratified.estimates.kappa
    assert [one.weight for one in found.strata] == [one.weight for one in stratified.strata]


def test_a_simple_sample_that_misses_a_class_is_not(class_map, tmp_path):
    rows, columns, names = random_points(field())
    keep = field()[rows, columns] != 7
    points = write_points(tmp_path / "p.gpkg", rows[keep], columns[keep], names[keep])
    found = assess(class_map, points, design="simple")
    assert found.strata == ()
    assert any("areas of classes in the map are not made use of" in one for one in found.warnings)
    mapped = index_of([NAMES[c] for c in field()[rows, columns][keep]])
    expected = estimate(tally_units(mapped, index_of(names[keep])), 3)
    assert found.estimates.overall_accuracy == expected.overall_accuracy
    assert found.estimates.area_share[0] == expected.area_share[0]


def test_a_stratum_with_one_point(class_map, tmp_path, cli):
    rows, columns, names = random_points(field())
    roof = np.flatnonzero(field()[rows, columns] == 7)
    keep = np.delete(np.arange(len(rows)), roof[1:])
    points = write_points(tmp_path / "p.gpkg", rows[keep], columns[keep], names[keep])
    code, _, err = cli("assess", class_map, points, "--design", "stratified")
    assert code == 2
    assert "stratum 'roof' has 1 interpreted point on the map, 2 are needed in each" in err


def test_a_stratum_of_one_pixel_needs_one_point(tmp_path):
    codes = field()
    codes[codes == 7] = 3
    codes[20, 20] = 7
    class_map = write_map(tmp_path / "map.tif", codes)
    rows, columns, names = random_points(codes, 60)
    keep = codes[rows, columns] != 7
    rows, columns = [*rows[keep], 20], [*columns[keep], 20]
    points = write_points(tmp_path / "p.gpkg", rows, columns, [*names[keep], "roof"])
    found = assess(class_map, points, design="stratified")
    assert found.strata[2].units == found.strata[2].pixels == 1
    assert found.estimates.overall_accuracy.standard_error > 0


def test_strata_of_another_raster(class_map, tmp_path, cli):
    halves = np.ones((20, 25))  # pixels of 60 m
    halves[:, 12:] = 2
    halves[:3] = 0
    strata = write_map(
        tmp_path / "strata.tif", halves, {1: "west", 2: "east"},
        transform=UTM @ Affine.scale(2),
    )  # fmt: skip
    rows, columns, names = random_points(field())
    points = write_points(tmp_path / "points.gpkg", rows, columns, names, to="EPSG:4326")
    out = tmp_path / "figures.json"
    code, text, err = cli("assess", class_map, points, "--strata", strata, "--out", out)
    assert code == 0, err
    assert "in 2 strata" in text
    inside = rows >= 6
    stratum = (columns[inside] >= 24).astype(int)
    expected = estimate(
        tally_units(
            index_of([NAMES[c] for c in field()[rows, columns][inside]]), index_of(names[inside]),
            stratum=stratum, weights=[12, 13],
        ), 3,
    )  # fmt: skip
    found = figures(out)
    assert found["design"] == "stratified"
    assert found["left_out"]["outside"] == (~inside).sum()
    assert f"({(~inside).sum()} outside the map): the others stand for them" in err
    assert numbers(found["mean_f1"]) == pytest.approx(expected.mean_f1.numbers)
    assert [one["pixels"] for one in found["strata"]] == [17 * 12, 17 * 13]
    assert by_name(found, "area_m2")["tree"]["value"] == pytest.approx(
        expected.area_share[1].value * 17 * 25 * 3600
    )
    code, _, err = cli("assess", class_map, points, "--strata", strata, "--design", "simple")
    assert code == 2
    assert "--strata is for a stratified design, this one is simple" in err


def test_strata_that_points_were_drawn_in_are_not_replaced(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 60)
    points = drawn(rows, columns, field()[rows, columns], names)
    strata = [(code, NAMES[code], 100, 90_000.0) for code in (1, 3, 7)]
    sample = write_sample(tmp_path / "sample.gpkg", points, strata)
    other = write_map(tmp_path / "other.tif", np.where(field() > 0, 1, 0), {1: "all"})
    for design in ("auto", "stratified"):
        code, _, err = cli("assess", class_map, sample, "--strata", other, "--design", design)
        assert code == 2
        assert "other.tif, but the file has its own strata, which its points were drawn in" in err
        assert "leave out --strata" in err
    # a simple sample may be post-stratified by any raster
    simple = write_sample(tmp_path / "simple.gpkg", points, [(0, "all", 1980, 9.0)], "simple")
    assert assess(class_map, simple, strata=other).design == "stratified"


def test_strata_of_another_raster_are_never_complete(class_map, tmp_path, cli):
    """A pixel of it holds many of the map: as many points as it has pixels are not all."""
    quarters = np.array([[1, 1], [1, 2]])
    strata = write_map(
        tmp_path / "strata.tif", quarters, {1: "most", 2: "corner"},
        transform=UTM @ Affine.scale(25, 20),
    )  # fmt: skip
    rows, columns, names = random_points(field(), 60)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    found = assess(class_map, points, strata=strata)
    assert [one.pixels for one in found.strata] == [3, 1]
    corner = (rows >= 20) & (columns >= 25)
    mapped = index_of([NAMES[c] for c in field()[rows, columns]])
    expected = estimate(
        tally_units(mapped, index_of(names), stratum=corner.astype(int), weights=[3, 1]), 3
    )
    assert found.estimates.overall_accuracy == expected.overall_accuracy
    assert expected.overall_accuracy.standard_error > 0
    # and one point does not do
    keep = np.delete(np.arange(60), np.flatnonzero(corner)[1:])
    few = write_points(tmp_path / "few.gpkg", rows[keep], columns[keep], names[keep])
    code, _, err = cli("assess", class_map, few, "--strata", strata)
    assert code == 2
    assert "stratum 'corner' has 1 interpreted point on the map, 2 are needed in each; int" in err
    assert err.rstrip().endswith("interpret more points there")


def test_a_census_has_no_uncertainty(tmp_path, cli):
    codes = field(6, 50)
    class_map = write_map(tmp_path / "map.tif", codes)
    rows, columns, names = random_points(codes, (codes > 0).sum())
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    code, out, _ = cli("assess", class_map, points, "--design", "stratified")
    assert code == 0
    found = assess(class_map, points, design="stratified").estimates
    for one in (found.overall_accuracy, found.kappa, *found.area_share, *found.users_accuracy):
        assert one.low == pytest.approx(one.value)
        assert one.high == pytest.approx(one.value)
    assert f"overall accuracy {found.overall_accuracy.value:.3f} ± 0.000" in out


def test_a_simple_sample_of_another_map(class_map, tmp_path, cli):
    rows, columns, names = random_points(field())
    points = drawn(rows, columns, np.zeros(len(rows), int), names)
    said = "figures are those of this map, of which the sample tells nothing where it was not"
    for number, (pixels, area, differs) in enumerate((
        (1980, 1980 * 900.0, False), (1970, 1970 * 900.0, False), (7920, 1980 * 900.0, False),
        (2500, 2500 * 900.0, True), (1980, math.nan, False), (1000, math.nan, True),
    )):  # fmt: skip
        path = write_sample(
            tmp_path / f"{number}.gpkg", points, [(0, "all", pixels, area)], "simple"
        )
        code, _, err = cli("assess", class_map, path)
        assert code == 0
        assert (said in err) == differs
    assert "the sample was drawn from 1000 pixels, this map has 1980: figures" in err


def test_designs_that_cannot_be(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 30)
    codes = field()[rows, columns]
    points = drawn(rows, columns, codes, names)
    strata = [(code, NAMES[code], 100, 90_000.0) for code in (1, 3, 7)]
    path = write_sample(tmp_path / "sample.gpkg", points, strata)
    assert assess(class_map, path).design == "stratified"
    assert assess(class_map, path, design="none").design == "none"
    for options, words in (
        (
            ("--design", "simple"),
            "but the file says that its sample is stratified; leave out",
        ),
        (("--design", "random"), "--design random is not one of auto, stratified, simple, none"),
    ):
        code, _, err = cli("assess", class_map, path, *options)
        assert code == 2
        assert words in err
    faulty = write_sample(tmp_path / "few.gpkg", points, strata[:2])
    code, _, err = cli("assess", class_map, faulty)
    assert code == 2
    assert "a point is of stratum 7, which its table 'design' lacks" in err
    other = write_sample(tmp_path / "other.gpkg", points, strata, design="snowball")
    code, _, err = cli("assess", class_map, other)
    assert code == 2
    assert "its sample is 'snowball'; designs are stratified, simple, none" in err


def test_a_simple_sample_says_so_itself(class_map, tmp_path):
    rows, columns, names = random_points(field())
    points = drawn(rows, columns, np.zeros(len(rows), int), names)
    path = write_sample(tmp_path / "s.gpkg", points, [(0, "all", 1980, 1980 * 900.0)], "simple")
    found = assess(class_map, path)
    assert found.design == "simple"
    assert [one.name for one in found.strata] == ["water", "tree", "roof"]


def test_a_sample_that_lost_its_design(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 60)
    points = drawn(rows, columns, field()[rows, columns], names)
    points.to_file(tmp_path / "points.geojson")
    code, _, err = cli(
        "assess", class_map, tmp_path / "points.geojson", "--label-column", "reference"
    )
    assert code == 0
    assert "It looks like one that lost its table 'design': keep the GeoPackage as drawn" in err


def test_two_points_of_a_sample_in_a_larger_pixel_are_two_units(tmp_path):
    """They were drawn from a finer map than the one that is assessed."""
    coarse = write_map(
        tmp_path / "coarse.tif", field()[::10, ::10], transform=UTM @ Affine.scale(10)
    )
    rows, columns = [22, 27, 24, 31, 36, 22], [2, 7, 14, 24, 26, 2]  # the last one is the first
    names = ["water", "tree", "tree", "roof", "roof", "water"]
    strata = [(1, "all of it", 2000, 2000 * 900.0)]
    points = drawn(rows, columns, [1] * 6, names)
    found = assess(coarse, write_sample(tmp_path / "sample.gpkg", points, strata))
    assert found.sample_units == 5
    assert found.left_out["duplicate"] == 1
    plain = assess(coarse, write_points(tmp_path / "p.gpkg", rows, columns, names))
    # of points that nobody drew, those of a pixel are one, or none where they disagree
    assert plain.left_out["duplicate"] == 4


def test_thinly_sampled_classes_are_warned_of(tmp_path):
    codes = np.full((100, 100), 3)
    codes[:2] = 1
    class_map = write_map(tmp_path / "map.tif", codes, {1: "water", 3: "tree"})
    rows = [0] * 45 + [1] * 5 + list(range(2, 100)) * 3
    columns = [*range(50), *([10] * 98 + [50] * 98 + [90] * 98)]
    names = ["water"] * 45 + ["tree"] * 5 + ["tree"] * 294
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    found = assess(class_map, points, design="stratified")
    assert any(
        "intervals of the area and the producer's accuracy of 'water' are too narrow" in one
        for one in found.warnings
    )
    # without a design, areas alone are those of strata
    (narrow,) = (one for one in assess(class_map, points).warnings if "narrow" in one)
    assert narrow.startswith("intervals of the area of 'water' are too narrow")


def test_where_areas_are_not_estimated_they_are_not_thinly_sampled(tmp_path):
    """Of labels that miss a class of the map, only scores are known."""
    codes = field()
    class_map = write_map(tmp_path / "map.tif", codes)
    rows, columns, names = random_points(codes, 60)
    keep = codes[rows, columns] != 7
    points = write_points(tmp_path / "p.gpkg", rows[keep], columns[keep], names[keep])
    found = assess(class_map, points)
    assert not any(found.estimates.is_thinly_sampled)
    assert all(math.isnan(one.value) for one in found.estimates.area_share)


# --- parts, and what the model knows ------------------------------------------------------------


def test_only_the_test_part_counts(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 90)
    part = np.repeat(["train", "validation", "test"], 30)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names, part=part)
    found = assess(class_map, points, split_column="part")
    assert found.sample_units == 30
    mapped = np.array([NAMES[c] for c in field()[rows, columns]])
    test = part == "test"
    right = metrics.accuracy_score(names[test], mapped[test])
    assert found.estimates.overall_accuracy.value == pytest.approx(right)
    fewer = write_points(
        tmp_path / "fewer.gpkg", rows[:60], columns[:60], names[:60], part=part[:60]
    )
    found = assess(class_map, fewer, split_column="part")
    said = "nothing is marked test, so the labels marked validation are taken"
    assert said in found.warnings
    assert said not in assess(class_map, points, split_column="part").warnings
    right = metrics.accuracy_score(names[30:60], mapped[30:60])
    assert found.estimates.overall_accuracy.value == pytest.approx(right)
    train = write_points(
        tmp_path / "train.gpkg", rows[:30], columns[:30], names[:30], part=part[:30]
    )
    code, _, err = cli("assess", class_map, train, "--split-column", "part")
    assert code == 2
    assert "the split column marks nothing on the map as test or validation; leave out" in err


def test_the_part_of_polygons(class_map, tmp_path):
    path, labels, features = polygons(tmp_path / "polygons.gpkg")
    frame = gpd.read_file(path)
    frame["part"] = ["train"] * 20 + ["test"] * 10
    frame.to_file(tmp_path / "parts.gpkg")
    found = assess(class_map, tmp_path / "parts.gpkg", split_column="part")
    held = features > 20
    assert found.sample_units == 10
    assert found.estimates.overall_accuracy.value == pytest.approx((labels == field())[held].mean())


LEARNT = "was trained on this very reference: the figures tell what it learnt by heart"


@pytest.fixture(scope="module")
def forest(tiny, tmp_path_factory):
    """A model that is trained in a second."""
    path = tmp_path_factory.mktemp("model") / "forest.safetensors"
    train(
        tiny.path, tiny.labels, path, label_column="code", name_column="name",
        model="random_forest", device="cpu",
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def made_map(tiny, forest, tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "map.tif"
    classify(tiny.path, forest, path, device="cpu")
    return path


def test_a_reference_that_the_model_learnt_from_is_warned_of(tiny, forest, made_map, tmp_path, cli):
    columns = ("--label-column", "code", "--name-column", "name")
    code, _, err = cli("assess", made_map, tiny.labels, *columns, "--model", forest)
    assert code == 0, err
    assert f"{forest.name} {LEARNT}" in err
    # the same labels in another file, CRS and format
    gpd.read_file(tiny.labels).to_crs(4326).to_file(tmp_path / "again.geojson")
    assert LEARNT in cli(
        "assess", made_map, tmp_path / "again.geojson", *columns, "--model", forest
    )[2]  # fmt: skip
    # half of them are not recognised, nor are any without the model
    gpd.read_file(tiny.labels)[::2].to_file(tmp_path / "half.gpkg")
    for arguments in (
        (made_map, tmp_path / "half.gpkg", *columns, "--model", forest),
        (made_map, tiny.labels, *columns),
    ):
        code, _, err = cli("assess", *arguments)
        assert code == 0
        assert LEARNT not in err


def test_the_model_beside_the_map_is_found(tiny, forest, made_map, tmp_path):
    shutil.copy(made_map, tmp_path)
    shutil.copy(forest, tmp_path)
    options = {"label_column": "code", "name_column": "name"}
    found = assess(tmp_path / made_map.name, tiny.labels, **options)
    assert any(LEARNT in one for one in found.warnings)
    # another model of that name is none of its business
    (tmp_path / forest.name).write_bytes(b"another one")
    found = assess(tmp_path / made_map.name, tiny.labels, **options)
    assert not any(LEARNT in one for one in found.warnings)


def test_points_that_the_model_learnt_from(tiny, tmp_path, cli):
    rows, columns = np.indices((48, 40)).reshape(2, -1)[:, 500::7]
    names = [{1: "water", 3: "tree", 7: "roof"}[c] for c in tiny.classes[rows, columns]]
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    model, class_map = tmp_path / "m.safetensors", tmp_path / "map.zarr"
    code, _, err = cli("train", tiny.path, points, "--out", model, "--model", "random_forest")
    assert code == 0, err
    classify(tiny.path, model, class_map, device="cpu")
    gpd.read_file(points).to_file(tmp_path / "again.fgb")
    assert checkpoint_hash(tmp_path / "again.fgb") != checkpoint_hash(points)
    assert LEARNT in cli("assess", class_map, tmp_path / "again.fgb")[2]


def test_what_a_split_column_held_out_is_not_learnt(tiny, tmp_path, cli):
    frame = gpd.read_file(tiny.labels)
    frame["part"] = np.resize(["train", "train", "validation", "test"], len(frame))
    frame.to_file(tmp_path / "parts.gpkg")
    model, class_map = tmp_path / "m.safetensors", tmp_path / "map.zarr"
    columns = ("--label-column", "code", "--name-column", "name")
    code, _, err = cli(
        "train", tiny.path, tmp_path / "parts.gpkg", "--out", model, *columns,
        "--model", "random_forest", "--split-column", "part",
    )  # fmt: skip
    assert code == 0, err
    classify(tiny.path, model, class_map, device="cpu")
    arguments = ("assess", class_map, tmp_path / "parts.gpkg", *columns)
    assert LEARNT not in cli(*arguments, "--split-column", "part")[2]
    assert LEARNT in cli(*arguments)[2]


def test_the_validation_part_chose_the_model(tiny, tmp_path, cli):
    frame = gpd.read_file(tiny.labels)
    frame["part"] = np.resize(["train", "train", "train", "validation"], len(frame))
    frame.to_file(tmp_path / "parts.gpkg")
    model, class_map = tmp_path / "m.safetensors", tmp_path / "map.zarr"
    columns = ("--label-column", "code", "--name-column", "name", "--split-column", "part")
    code, _, err = cli(
        "train", tiny.path, tmp_path / "parts.gpkg", "--out", model, *columns,
        "--model", "random_forest",
    )  # fmt: skip
    assert code == 0, err
    classify(tiny.path, model, class_map, device="cpu")
    _, _, err = cli("assess", class_map, tmp_path / "parts.gpkg", *columns)
    assert "labels marked validation chose the epoch and the temperature of m.safetensors" in err
    assert "nothing is marked test, so the labels marked validation are taken" in err
    assert LEARNT not in err


def test_a_part_that_the_model_has_not_seen_is_not_learnt(tiny, tmp_path, cli):
    """The same file for training and assessment, but other features of it."""
    frame = gpd.read_file(tiny.labels)
    frame["split"] = np.resize(["train", "train", "train", "validation"], len(frame))
    frame.to_file(tmp_path / "parts.gpkg")
    model, class_map = tmp_path / "m.safetensors", tmp_path / "map.zarr"
    columns = ("--label-column", "code", "--name-column", "name")
    code, _, err = cli(
        "train", tiny.path, tmp_path / "parts.gpkg", "--out", model, *columns,
        "--model", "random_forest", "--where", "split='train'",
    )  # fmt: skip
    assert code == 0, err
    classify(tiny.path, model, class_map, device="cpu")
    arguments = ("assess", class_map, tmp_path / "parts.gpkg", *columns)
    assert LEARNT not in cli(*arguments, "--where", "split='validation'")[2]
    assert LEARNT in cli(*arguments, "--where", "split='train'")[2]
    # of all of it the model has seen a part: that goes unnoticed
    assert LEARNT not in cli(*arguments)[2]


def test_labels_are_known_again_as_file_or_by_what_they_label(forest, tiny):
    card = load_checkpoint(forest)[1]
    (entry,) = card.training["labels"]
    pixels = entry["pixels_sha256"]
    assert is_learnt_from(card, "elsewhere.gpkg", pixels, narrowed=True)
    assert is_learnt_from(card, tiny.labels, "0", narrowed=False)
    assert not is_learnt_from(card, tiny.labels, "0", narrowed=True)
    assert not is_learnt_from(card, "elsewhere.gpkg", "0", narrowed=False)
    for key in ("where", "layer"):
        part = replace(card, training={"labels": [{**entry, key: "x"}]})
        assert not is_learnt_from(part, tiny.labels, "0", narrowed=False)
        assert is_learnt_from(part, tiny.labels, pixels, narrowed=False)
    assert not is_learnt_from(replace(card, training={}), tiny.labels, pixels, narrowed=False)


def test_points_have_the_name_of_the_raster_that_they_make(tmp_path):
    """Without making it: two agree in a pixel, two disagree, one has no class, one is outside."""
    rows, columns = [20, 3, 20, 5, 5, 8, 100], [5, 15, 5, 30, 30, 2, 5]
    names = ["water", "tree", "water", "tree", "roof", "", "roof"]
    path = write_points(tmp_path / "points.gpkg", rows, columns, names)
    grid = GeoBox((40, 50), UTM, CRS)
    points = read_points(path)
    expected = labels_sha256(read_labels(path, grid).labels, grid)
    assert points_sha256(points, grid) == expected
    # of a grid that no memory would hold
    large = GeoBox((4_000_000, 5_000_000), UTM, CRS)
    tracemalloc.start()
    assert points_sha256(points, large) != expected
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_another_model_than_the_one_that_made_the_map(tiny, forest, tmp_path, cli):
    made = write_map(tmp_path / "made.tif", field(), model_sha256="0" * 64, model="x.safetensors")
    rows, columns, names = random_points(field(), 30)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    code, _, err = cli("assess", made, points, "--model", forest)
    assert code == 2
    assert "is not the model that made the map (SHA-256 000000000000); name that one" in err
    code, _, err = cli("assess", made, points, "--model", tmp_path / "none.safetensors")
    assert code == 2
    assert "no such model file" in err


# --- maps ---------------------------------------------------------------------------------------


def test_windows_make_no_difference(tmp_path, monkeypatch):
    codes = field(37, 50)
    class_map = write_map(tmp_path / "map.zarr", codes)
    rows, columns, names = random_points(codes, 200)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    path, _, _ = polygons(tmp_path / "polygons.gpkg")
    one = [assess(class_map, reference) for reference in (points, path)]
    monkeypatch.setattr(map_pixels, "CHUNK", 7)
    other = [assess(class_map, reference) for reference in (points, path)]
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.estimates.counts, second.estimates.counts)
        np.testing.assert_allclose(first.mapped_area, second.mapped_area)
        assert first.estimates.mean_iou.numbers == pytest.approx(second.estimates.mean_iou.numbers)


def test_areas_in_degrees_are_those_on_the_ellipsoid(tmp_path):
    codes = field()
    degrees = Affine(0.1, 0, 10, 0, -0.1, 60)
    class_map = write_map(tmp_path / "map.tif", codes, transform=degrees, crs="EPSG:4326")
    rows, columns, names = random_points(codes)
    points = write_points(
        tmp_path / "p.gpkg", rows, columns, names, crs="EPSG:4326", transform=degrees
    )
    found = assess(class_map, points, design="stratified")
    areas = Measure(GeoBox(codes.shape, degrees, "EPSG:4326")).pixel_areas(
        slice(0, 40), slice(0, 50)
    )
    areas = np.broadcast_to(areas, codes.shape)
    expected = [areas[codes == code].sum() for code in NAMES]
    assert found.mapped_area == pytest.approx(expected)
    weights = [one.weight for one in found.strata]
    assert weights == pytest.approx(np.array(expected) / sum(expected))
    valid = areas[codes > 0]
    unlike = f"{valid.max() / valid.min() - 1:.0%}"
    assert unlike == "11%"
    assert any(f"pixels of the map differ in area by {unlike}" in one for one in found.warnings)
    # southern stripes would weigh the same by pixels; classes here do not
    assert found.total_area_m2 == pytest.approx(sum(expected))


def test_a_map_without_crs_has_areas_in_pixels(tmp_path, cli):
    class_map = write_map(
        tmp_path / "map.zarr", field(), transform=Affine(1, 0, 0, 0, -1, 0), crs=None
    )
    rows, columns, names = random_points(field())
    frame = gpd.GeoDataFrame(
        {"class": names}, geometry=centres(rows, columns, Affine(1, 0, 0, 0, -1, 0))
    )
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        frame.to_file(tmp_path / "points.gpkg")
    out = tmp_path / "figures.json"
    code, text, err = cli(
        "assess", class_map, tmp_path / "points.gpkg", "--design", "stratified", "--out", out
    )
    assert code == 0, err
    assert "Area, pixels" in text
    found = figures(out)
    assert found["classes"][0]["mapped_area_m2"] is None
    assert found["classes"][0]["area_m2"] == dict.fromkeys(E)
    assert found["classes"][0]["area_share"]["value"] > 0
    assert found["strata"][0]["area_m2"] is None
    assert found["strata"][0]["weight"] == pytest.approx(780 / 1980)
    # and with one on one side alone nothing can be said
    code, _, err = cli("assess", class_map, write_points(tmp_path / "p.gpkg", [9], [9], ["tree"]))
    assert code == 2
    assert "the labels have a CRS but the scene has none" in err


def test_a_code_that_the_legend_lacks(tmp_path, cli):
    class_map = write_map(tmp_path / "map.zarr", np.where(field() == 7, 9, field()))
    points = write_points(tmp_path / "points.gpkg", [9, 9], [9, 15], ["water", "tree"])
    code, _, err = cli("assess", class_map, points)
    assert code == 2
    assert "the map holds code 9, which its legend lacks; its classes are 1, 3, 7" in err


# --- files --------------------------------------------------------------------------------------


def test_results_are_written_once(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 30)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    out = tmp_path / "figures.json"
    assert cli("assess", class_map, points, "--out", out, "--quiet")[0] == 0
    before = out.read_bytes()
    code, _, err = cli("assess", class_map, points, "--out", out)
    assert code == 2
    assert "exists; choose another name or pass --overwrite" in err
    assert cli("assess", class_map, points, "--out", out, "--overwrite")[0] == 0
    assert out.read_bytes() == before
    code, _, err = cli("assess", class_map, points, "--out", tmp_path / "figures.txt")
    assert code == 2
    assert "the suffix must be one of .json" in err
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["map.tif", "map.zarr"])
def test_the_figures_may_go_into_the_map(name, tmp_path, cli):
    path = write_map(tmp_path / name, field())
    points = gpd.GeoDataFrame(
        {"name": ["water", "tree", "roof", "water"]},
        geometry=[Point(UTM @ (c + 0.5, 20.5)) for c in (3, 13, 23, 35)],
        crs=CRS,
    )
    points.to_file(tmp_path / "points.gpkg")
    out = tmp_path / "figures.json"
    code, _, err = cli(
        "assess", path, tmp_path / "points.gpkg", "--label-column", "name", "--out", out, "--record"
    )
    assert code == 0
    assert "accuracy recorded in" in err
    found, kept = json.loads(out.read_text()), open_class_map(path).attrs["accuracy"]
    assert kept["overall_accuracy"] == found["overall_accuracy"]
    assert kept["overall_accuracy"]["value"] == 0.75
    assert kept["probability_sample"] is False
    np.testing.assert_array_equal(open_class_map(path)["class"], field())


def test_references_that_cannot_be_read(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 30)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    text = tmp_path / "notes.txt"
    text.write_text("no map", encoding="utf-8")
    lines = gpd.GeoDataFrame(
        {"class": ["tree"]}, geometry=[LineString([(364100, 5809900), (364500, 5809500)])], crs=CRS
    )
    lines.to_file(tmp_path / "lines.gpkg")
    for arguments, words in (
        ((class_map, tmp_path / "none.gpkg"), "there is no such reference file"),
        ((tmp_path / "none.tif", points), "no such file"),
        ((class_map, text), "neither a vector file nor a raster that can be read"),
        ((class_map, tmp_path / "lines.gpkg"), "holds LineString; labels are polygons or points"),
        ((class_map, points, "--label-column", "clas"), "did you mean 'class'"),
        ((class_map, points, "--where", "nope = 1"), "--where 'nope = 1' cannot be used"),
        ((class_map, points, "--layer", "x"), "there is no layer 'x'; its layers are points"),
    ):
        code, _, err = cli("assess", *arguments)
        assert code == 2
        assert words in err
        assert len(err.strip().splitlines()) <= 2


def test_a_table_of_a_design_that_cannot_be_used(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 30)
    points = drawn(rows, columns, field()[rows, columns], names)
    path = tmp_path / "sample.gpkg"
    for table, words in (
        (pd.DataFrame({"design": ["simple"], "stratum": [0]}), "has no column name, pixels, area_"),
        (
            pd.DataFrame({"design": ["simple"] * 2, "stratum": [1, 1], "name": "a", "pixels": 5,
                          "area_m2": 4.0}),
            "needs one line for each stratum, all of one design; it has 2 lines of simple",
        ),
    ):  # fmt: skip
        path.unlink(missing_ok=True)
        pyogrio.write_dataframe(points, path, layer="sample", driver="GPKG")
        pyogrio.write_dataframe(table, path, layer="design", driver="GPKG", append=True)
        code, _, err = cli("assess", class_map, path)
        assert code == 2
        assert words in err


def test_the_confusion_matrix_of_a_raster_map_of_another_program(tmp_path):
    """A bare GeoTIFF of codes, without a legend."""
    codes = field().astype(np.uint8)
    with rasterio.open(
        tmp_path / "bare.tif", "w", driver="GTiff", dtype="uint8", count=1, nodata=0,
        height=40, width=50, crs=CRS, transform=UTM,
    ) as raster:  # fmt: skip
        raster.write(codes, 1)
    rows, columns, names = random_points(codes, 100)
    true = [{v: k for k, v in NAMES.items()}[name] for name in names]
    points = write_points(tmp_path / "points.gpkg", rows, columns, true, name=names)
    found = assess(tmp_path / "bare.tif", points, name_column="name")
    assert found.scheme.names == ("water", "tree", "roof")
    matrix = metrics.confusion_matrix(true, codes[rows, columns], labels=[1, 3, 7]).T
    np.testing.assert_array_equal(found.estimates.counts, matrix)
    expected = estimate(of_matrix(matrix), 3)
    assert found.estimates.iou[1] == expected.iou[1]


# --- what may become of a sample in other hands -------------------------------------------------


@pytest.fixture
def sample_file(class_map, tmp_path):
    """A stratified sample, 20 points in each class, and its strata as the table has them."""
    codes = field()
    rng = np.random.default_rng(3)
    places = np.concatenate([rng.permutation(np.flatnonzero(codes == code))[:20] for code in NAMES])
    rows, columns = np.unravel_index(places, codes.shape)
    strata = codes[rows, columns].astype(int)
    points = drawn(rows, columns, strata, [NAMES[code] for code in strata])
    table = [(c, NAMES[c], int((codes == c).sum()), float((codes == c).sum() * 900)) for c in NAMES]
    return points, table, tmp_path / "sample.gpkg"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("pixels", None, "line 2 of its table 'design': 'pixels' is empty; it must be a whole num"),
        ("pixels", -4, "'pixels' is -4; it must be a whole number from 0"),
        ("pixels", "many", "'pixels' is 'many'"),
        ("stratum", None, "'stratum' is empty"),
        ("area_m2", -5.0, "'area_m2' is -5.0; it must be an area above 0, unless all are empty"),
        ("area_m2", 0.0, "'area_m2' is 0.0"),
        ("area_m2", float("inf"), "'area_m2' is inf"),
        ("area_m2", None, "'area_m2' is empty"),
        ("pixels", 3, "stratum 'tree' has 20 points, but 3 pixels by the table 'design'"),
        ("points", 12, "stratum 'tree' has 20 points, 12 were drawn; those added by hand"),
    ],
)
def test_a_table_of_a_design_is_checked(class_map, sample_file, cli, column, value, words):
    points, strata, path = sample_file
    write_sample(path, points, strata)
    table = pyogrio.read_dataframe(path, layer="design")
    if isinstance(value, str):
        table[column] = table[column].astype(str)
    table.loc[1, column] = value
    path.unlink()
    pyogrio.write_dataframe(points, path, layer="sample", driver="GPKG")
    pyogrio.write_dataframe(table, path, layer="design", driver="GPKG", append=True)
    code, _, err = cli("assess", class_map, path)
    assert code == 2
    assert words in err
    assert err.splitlines()[-1].startswith("error: ")


def test_points_of_a_sample_that_are_missing_are_counted(class_map, sample_file, cli):
    points, strata, path = sample_file
    write_sample(path, points, strata)
    table = pyogrio.read_dataframe(path, layer="design")
    path.unlink()
    pyogrio.write_dataframe(points.iloc[::2], path, layer="sample", driver="GPKG")
    pyogrio.write_dataframe(table, path, layer="design", driver="GPKG", append=True)
    code, _, err = cli("assess", class_map, path)
    assert code == 0
    assert "30 of 60 drawn points are missing from the file" in err
    _, _, err = cli("assess", class_map, path, "--design", "none")
    assert "--design none: the sample that the file says it is, is not taken for one" in err


@pytest.mark.parametrize(
    ("strata", "words"),
    [
        (["one"] * 60, "a point has stratum 'one'; strata are whole numbers from 0"),
        ([None] * 5 + [3] * 55, "stratum 'tree' has 55 points"),
    ],
)
def test_strata_of_points_are_checked(class_map, sample_file, cli, strata, words):
    points, table, path = sample_file
    write_sample(path, points, table)
    design = pyogrio.read_dataframe(path, layer="design")
    path.unlink()
    pyogrio.write_dataframe(points.assign(stratum=strata), path, layer="sample", driver="GPKG")
    pyogrio.write_dataframe(design, path, layer="design", driver="GPKG", append=True)
    code, _, err = cli("assess", class_map, path)
    assert code == 2
    assert words in err


def test_blank_strata_are_counted(class_map, sample_file, cli):
    points, table, path = sample_file
    write_sample(path, points, table)
    design = pyogrio.read_dataframe(path, layer="design")
    path.unlink()
    blank = points.assign(stratum=points["stratum"].astype("Int64"))
    blank.loc[:4, "stratum"] = pd.NA
    pyogrio.write_dataframe(blank, path, layer="sample", driver="GPKG")
    pyogrio.write_dataframe(design, path, layer="design", driver="GPKG", append=True)
    code, _, err = cli("assess", class_map, path)
    assert code == 2
    assert "5 points have no stratum; leave them out or fill it in" in err


def test_polygons_and_points_are_not_mixed(class_map, tmp_path, cli):
    shapes = [box(*UTM @ (2, 8), *UTM @ (5, 5)), Point(UTM @ (20.5, 20.5))]
    mixed = gpd.GeoDataFrame({"class": ["water", "roof"]}, geometry=shapes, crs=CRS)
    path = tmp_path / "mixed.geojson"
    mixed.to_crs(4326).to_file(path)
    code, _, err = cli("assess", class_map, path)
    assert code == 2
    assert "mixes 1 polygons and 1 points" in err


def test_the_reference_is_never_the_target(class_map, tmp_path, cli):
    rows, columns, names = random_points(field(), 30)
    points = write_points(tmp_path / "points.gpkg", rows, columns, names)
    reference = tmp_path / "points.json"
    gpd.read_file(points).to_crs(4326).to_file(reference, driver="GeoJSON")
    before = reference.read_bytes()
    code, _, err = cli("assess", class_map, reference, "--out", reference, "--overwrite")
    assert code == 2
    assert "write the result elsewhere" in err
    assert reference.read_bytes() == before
