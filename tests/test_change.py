"""Change between two class maps: the matrix, the map and the polygons say the same."""

import csv

import dask
import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from polygon_maps import UTM, burn, make_map, patches, rasters
from sklearn.metrics import confusion_matrix

from hsi_pipeline import change as room
from hsi_pipeline.areas import Measure
from hsi_pipeline.change import (
    UNCHANGED,
    change_map,
    is_reversed,
    only_changes,
    transition_counts,
)
from hsi_pipeline.classes import make_scheme, scheme_from_attrs, scheme_to_attrs
from hsi_pipeline.commands.change import change as compare_files
from hsi_pipeline.cube import grid_of, pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.mosaic import mosaic
from hsi_pipeline.publish import open_class_map, write_class_map

CRS = "EPSG:32633"
# the same classes under other codes, and others
OTHERS = make_scheme(
    [4, 5, 6, 9], {4: "water", 5: "roof", 6: "rock", 9: "tree"}, {9: "#00ff00", 6: "#888888"}
)


def one_map(codes, grid=None, confidence=None, scheme=None, chunks=64, **attrs):
    codes = np.asarray(codes, np.uint8)
    grid = GeoBox(codes.shape, UTM, CRS) if grid is None else grid
    one = make_map(codes, grid, confidence, chunks=chunks, attrs=attrs)
    if scheme is not None:
        one = one.assign({"class": one["class"].assign_attrs(scheme_to_attrs(scheme))})
    return one


def compared(before, after, **options):
    """Computed counts and map of change."""
    with dask.config.set(scheduler="synchronous"):
        counts = transition_counts(before, after, **options).compute()
        return counts, change_map(before, after, counts, **options).compute()


def names_of(one):
    """The names of a map's pixels, "" where there is none."""
    scheme = scheme_from_attrs(one["class"].attrs)
    names = np.full(256, "", object)
    names[list(scheme.codes)] = scheme.names
    return names[one["class"].values]


pairs = st.tuples(rasters(), st.integers(0, 2**16)).map(
    lambda both: (both[0], np.random.default_rng(both[1]).integers(0, 4, both[0].shape))
)


@given(both=pairs, chunk=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_the_matrix_is_the_confusion_matrix_of_the_whole(both, chunk):
    before, after = map(one_map, both)
    with dask.config.set(scheduler="synchronous"):
        counts = transition_counts(before, after, chunk=chunk).compute()
    valid = (both[0] > 0) & (both[1] > 0)
    if valid.any():
        expected = confusion_matrix(both[0][valid], both[1][valid], labels=[1, 2, 3])
    else:
        expected = np.zeros((3, 3))
    np.testing.assert_array_equal(counts["pixels"], expected)
    np.testing.assert_allclose(counts["area_m2"], expected * 100)


@given(both=pairs, chunk=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_the_map_names_what_became_what_under_any_codes_and_chunks(both, chunk):
    codes = np.array([0, 5, 9, 4], np.uint8)  # roof, tree, water
    before, after = one_map(both[0]), one_map(codes[both[1]], scheme=OTHERS)
    said = [names_of(one) for one in (before, after)]
    valid = (said[0] != "") & (said[1] != "")
    if not valid.any():
        with pytest.raises(InputError, match="nowhere do both before and after have a class"):
            compared(before, after)
        return
    _, found = compared(before, after, chunk=chunk)
    expected = np.where(said[0] == said[1], "unchanged", said[0] + " to " + said[1])
    np.testing.assert_array_equal(names_of(found), np.where(valid, expected, ""))
    xr.testing.assert_identical(found, compared(before, after)[1])


def test_classes_of_change_have_the_colours_of_what_pixels_became():
    before, after = one_map([[1, 2, 3]]), one_map([[9, 9, 6]], scheme=OTHERS)
    _, found = compared(before, after)
    scheme = scheme_from_attrs(found["class"].attrs)
    assert scheme.names == ("unchanged", "roof to tree", "water to rock")
    assert scheme.colors[1:] == ("#00ff00", "#888888")
    assert found["class"].values.tolist() == [[2, UNCHANGED, 3]]


def test_names_that_look_like_others_stay_apart():
    before = one_map([[1, 2, 3]], scheme=make_scheme([1, 2, 3], {1: "a to b", 2: "a", 3: "c"}))
    after = one_map([[3, 2, 3]], scheme=make_scheme([2, 3], {2: "b to c", 3: "c"}))
    _, found = compared(before, after)
    assert names_of(found).tolist() == [["a to b to c (1)", "a to b to c (2)", "unchanged"]]


def test_confidence_is_the_lower_one():
    before = one_map([[1, 1, 0]], confidence=[[0.9, 0.2, 0.5]])
    after = one_map([[1, 2, 1]], confidence=[[0.3, 0.8, 0.5]])
    _, found = compared(before, after)
    np.testing.assert_array_equal(found["confidence"], np.array([[0.3, 0.2, np.nan]], np.float32))
    assert "confidence" not in compared(before, one_map([[1, 2, 1]]))[1]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (CRS, UTM),
        ("EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 60)),
        ("EPSG:3857", Affine(900, 0, 1e6, 0, -900, 8e6)),
        ("EPSG:2263", Affine(30, 0, 9e5, 0, -30, 2e5)),  # feet
    ],
)
def test_areas_sum_to_those_of_the_common_pixels(crs, transform):
    grid = GeoBox((50, 70), transform, crs)
    codes = [np.random.default_rng(i).integers(0, 4, grid.shape) for i in range(2)]
    before, after = (one_map(part, grid) for part in codes)
    counts, _ = compared(before, after, chunk=16)
    areas = np.broadcast_to(Measure(grid).pixel_areas(slice(0, 50), slice(0, 70)), grid.shape)
    valid = (codes[0] > 0) & (codes[1] > 0)
    assert float(counts["area_m2"].sum()) == pytest.approx(areas[valid].sum(), rel=1e-5)
    assert int(counts["pixels"].sum()) == valid.sum()


@pytest.mark.parametrize("crs", [CRS, "EPSG:32632", "EPSG:4326"])
@pytest.mark.parametrize("chunk", [7, 64])
def test_the_second_map_is_brought_onto_the_first(crs, chunk):
    """As a mosaic of it alone on that grid has it."""
    transforms = {
        CRS: UTM @ Affine.translation(10.3, 4.8) @ Affine.rotation(5),
        "EPSG:32632": Affine(12, 0, 808_734, 0, -12, 5_808_614),
        "EPSG:4326": Affine(1.5e-4, 0, 13.533, 0, -1e-4, 52.342),
    }
    other = GeoBox((50, 60), transforms[crs], crs)
    before, after = one_map(patches(60)), one_map(patches(60, seed=1)[:50], other)
    _, found = compared(before, after, chunk=chunk)
    moved = mosaic([after], grid_of(before), rule="majority").compute()
    assert 500 < (moved["class"] > 0).sum() < 3600
    xr.testing.assert_identical(found, compared(before, moved)[1])
    assert grid_of(found) == grid_of(before)


def test_maps_without_crs_are_compared_pixel_by_pixel():
    grid = pixel_grid(2, 2)
    counts, found = compared(one_map([[1, 1], [0, 2]], grid), one_map([[1, 2], [1, 2]], grid))
    assert "area_m2" not in counts
    assert counts["pixels"].values.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert grid_of(found).crs is None


def far(codes):
    return one_map(codes, GeoBox((2, 2), UTM @ Affine.translation(900, 0), CRS))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (lambda c: one_map(c), far, "before and after do not overlap"),
        (lambda c: one_map(c), lambda c: one_map(c, pixel_grid(2, 2)), "after has no CRS, the"),
        (lambda c: one_map(c, pixel_grid(2, 2)), lambda c: one_map(c), "before has no CRS, the"),
        (
            lambda c: one_map(c, pixel_grid(2, 2)),
            lambda c: one_map(c[:1], pixel_grid(1, 2)),
            "have no CRS, and not the same pixels: 2 x 2 and 1 x 2",
        ),
        (
            lambda c: one_map(c),
            lambda c: one_map(c, scheme=make_scheme([1])),
            "before and after have no class in common: roof, tree, water in the one, class 1",
        ),
        (lambda c: one_map(c), lambda c: one_map(c + 7), "after: the class map holds code 8"),
        (
            lambda c: one_map(c),
            lambda c: one_map(c).drop_vars("class"),
            "after: no variable 'class'",
        ),
    ],
)
def test_maps_that_cannot_be_compared(before, after, message):
    codes = np.ones((2, 2), np.uint8)
    with pytest.raises(InputError, match=message):
        compared(before(codes), after(codes))


def test_more_transitions_than_a_byte_holds():
    count = 17
    scheme = make_scheme(range(1, count + 1))
    codes = np.add.outer(np.arange(count), np.zeros(count, int)) + 1
    with pytest.raises(InputError, match="272 transitions occur, and a map holds 254 at most"):
        compared(one_map(codes, scheme=scheme), one_map(codes.T, scheme=scheme))
    few = codes.T.copy()
    few[0] = codes[0]
    few[1, :3] = codes[1, 0]
    _, found = compared(one_map(codes, scheme=scheme), one_map(few, scheme=scheme))
    changed = scheme_from_attrs(found["class"].attrs)
    assert changed.codes == tuple(range(1, 256)), "as many as there may be"
    expected = [[f"class {i} to class {j}" for j in range(1, 18)] for i in range(1, 18)]
    went = few != codes
    assert names_of(found)[went].tolist() == np.array(expected, object)[went].tolist()


def test_what_is_known_of_the_maps_is_kept():
    before = one_map([[1]], scene_id="a", acquired="2023-05-01")
    after = one_map([[2]], scene_id="b", acquired="2022-05-01")
    _, found = compared(before, after)
    assert found.attrs == {
        "scene_id_before": "a", "acquired_before": "2023-05-01",
        "scene_id_after": "b", "acquired_after": "2022-05-01",
    }  # fmt: skip
    assert is_reversed(before, after)
    assert not is_reversed(after, before)
    assert not is_reversed(before, one_map([[1]]))


def test_a_map_that_did_not_change_has_no_changes():
    same = one_map(patches(9))
    _, found = compared(same, same)
    changes, _ = only_changes(found, scheme_from_attrs(found["class"].attrs))
    assert (found["class"] == UNCHANGED).all()
    assert not changes["class"].any()


# --- files ---


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two maps, the second on another grid with other codes."""
    folder = tmp_path_factory.mktemp("change")
    sure = np.random.default_rng(0).random((60, 60))
    before = one_map(patches(60), confidence=sure, scene_id="a", acquired="2020-01-01")
    write_class_map(before, folder / "before.zarr")
    codes = np.array([0, 5, 9, 4], np.uint8)[patches(60, seed=1)]
    grid = GeoBox((60, 60), UTM @ Affine.translation(8, 5), CRS)
    after = one_map(
        codes, grid, confidence=sure, scheme=OTHERS, scene_id="b", acquired="2024-01-01"
    )
    write_class_map(after, folder / "after.tif")
    return folder


def run(written, out, **options):
    return compare_files(written / "before.zarr", written / "after.tif", out, **options)


class Said:
    """A terminal that remembers."""

    def __init__(self):
        from hsi_pipeline.commands.terminal import Terminal

        self.lines, self.tables = [], []
        self.terminal = Terminal(quiet=True)
        self.terminal.say = self.lines.append
        self.terminal.table = lambda *table: self.tables.append(table)


def test_zarr_and_geotiff_hold_the_same_change(written, tmp_path):
    for suffix in (".zarr", ".tif"):
        files = run(written, tmp_path / f"change{suffix}", chunk=16)
        assert files[0] == tmp_path / f"change{suffix}"
    zarr, tif = (open_class_map(tmp_path / f"change{suffix}") for suffix in (".zarr", ".tif"))
    np.testing.assert_array_equal(zarr["class"], tif["class"])
    np.testing.assert_array_equal(zarr["confidence"], tif["confidence"])
    assert zarr.attrs["acquired_before"] == tif.attrs["acquired_before"] == "2020-01-01"
    assert scheme_from_attrs(zarr["class"].attrs) == scheme_from_attrs(tif["class"].attrs)


def test_matrix_table_map_and_polygons_agree(written, tmp_path):
    said = Said()
    files = run(
        written, tmp_path / "change.zarr", polygons=tmp_path / "change.gpkg",
        matrix=tmp_path / "change.csv", chunk=16, terminal=said.terminal,
    )  # fmt: skip
    assert {tmp_path / f"change.{end}" for end in ("zarr", "gpkg", "csv")} <= set(files)
    found = open_class_map(tmp_path / "change.zarr")
    codes, names = found["class"].values, names_of(found)
    with (tmp_path / "change.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["pixels"]) for row in rows) == (codes > 0).sum() == 52 * 55
    for row in rows:
        same = row["from_name"] == row["to_name"]
        assert float(row["area_m2"]) == int(row["pixels"]) * 100
        if not same:
            name = f"{row['from_name']} to {row['to_name']}"
            assert int(row["pixels"]) == (names == name).sum()
    stayed = sum(int(row["pixels"]) for row in rows if row["from_name"] == row["to_name"])
    assert stayed == (codes == UNCHANGED).sum()
    assert {(row["from_name"], row["from_code"]) for row in rows} == {
        ("roof", "1"), ("tree", "2"), ("water", "3"),
    }  # fmt: skip
    polygons = gpd.read_file(tmp_path / "change.gpkg", layer="change")
    changed = np.where(codes == UNCHANGED, 0, codes)
    np.testing.assert_array_equal(burn(polygons, codes.shape, grid_of(found)), changed)
    assert polygons["area_m2"].sum() == pytest.approx((changed > 0).sum() * 100)
    assert "unchanged" not in set(polygons["name"])
    ((title, columns, lines),) = said.tables
    assert title == "from (lines) to (columns), ha"
    assert columns == ["", "water", "roof", "rock", "tree", "total"]
    assert lines[-1][-1] == f"{52 * 55 / 100:.2f}"
    assert lines[0][3] == "-", "nothing became rock"
    share = (changed > 0).sum() / (codes > 0).sum()
    assert f"{share:.1%} changed, of 28.60 ha where both maps have a class" in said.lines


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson", ".shp"])
def test_polygons_of_change_go_to_any_vector_file(written, tmp_path, suffix):
    run(written, tmp_path / "change.zarr", polygons=tmp_path / f"polygons{suffix}")
    path = tmp_path / f"polygons{suffix}"
    table = gpd.read_parquet(path) if suffix == ".parquet" else pyogrio.read_dataframe(
        path, **({"layer": "change"} if suffix == ".gpkg" else {})
    )  # fmt: skip
    assert len(table) > 5


def test_small_changes_amid_what_is_unchanged_become_that(tmp_path):
    codes = np.ones((12, 12), np.uint8)
    later = codes.copy()
    later[1, 1] = 2  # alone: no change to speak of
    later[4:9, 4:9] = 2
    later[6, 6] = 1  # a hole in a change: joins it
    later[5, 5] = 3  # a speck in it of another change: joins it
    for name, part in (("before", codes), ("after", later)):
        write_class_map(one_map(part), tmp_path / f"{name}.zarr")
    compare_files(
        tmp_path / "before.zarr", tmp_path / "after.zarr", tmp_path / "change.tif",
        polygons=tmp_path / "change.gpkg", min_area=250,
    )  # fmt: skip
    polygons = gpd.read_file(tmp_path / "change.gpkg", layer="change")
    assert polygons[["name", "pixels"]].values.tolist() == [["roof to tree", 25]]
    whole = open_class_map(tmp_path / "change.tif")["class"].values
    assert (whole != UNCHANGED).sum() == 1 + 24, "the map itself stays as it is"


def test_no_change_gives_an_empty_layer(written, tmp_path):
    same = written / "before.zarr"
    compare_files(same, same, tmp_path / "c.zarr", polygons=tmp_path / "c.gpkg", min_area=500)
    polygons = gpd.read_file(tmp_path / "c.gpkg", layer="change")
    assert len(polygons) == 0
    assert "area_m2" in polygons


def test_maps_without_crs_are_counted_in_pixels(tmp_path):
    said = Said()
    for name, seed in (("before", 0), ("after", 1)):
        write_class_map(
            one_map(patches(20, seed=seed), pixel_grid(20, 20)), tmp_path / f"{name}.tif"
        )
    files = [tmp_path / "before.tif", tmp_path / "after.tif"]
    with pytest.raises(InputError, match="GeoJSON is in WGS 84, and the map has no CRS"):
        compare_files(*files, tmp_path / "c.zarr", polygons=tmp_path / "c.geojson")
    compare_files(
        *files, tmp_path / "c.zarr", polygons=tmp_path / "c.gpkg", matrix=tmp_path / "c.csv",
        min_area=3, terminal=said.terminal,
    )  # fmt: skip
    assert said.tables[0][0] == "from (lines) to (columns), pixels"
    assert said.tables[0][2][-1][-1] == "400"
    assert (tmp_path / "c.csv").read_text().splitlines()[1].endswith(",")
    assert "the maps have no CRS: areas are in pixels" in said.lines


def test_an_older_second_map_and_another_model_are_told(tmp_path):
    for name, year in (("before", 2024), ("after", 2020)):
        one = one_map(patches(8), acquired=f"{year}-01-01", model_sha256=f"{year}" * 16)
        write_class_map(one, tmp_path / f"{name}.zarr")
    said = Said()
    compare_files(
        tmp_path / "before.zarr", tmp_path / "after.zarr", tmp_path / "c.zarr",
        terminal=said.terminal,
    )  # fmt: skip
    assert (
        "the second map is of 2020-01-01 and older than the first, of 2024-01-01" in said.lines[0]
    )
    assert "the maps were made by two models" in said.lines[1]


def test_the_same_command_goes_on_after_a_crash(written, tmp_path, monkeypatch):
    run(written, tmp_path / "whole.zarr", chunk=16)
    make, calls = room._map_chunk, []

    def failing(chunk, **options):
        calls.append(chunk)
        if len(calls) == 9:
            raise OSError(5, "unplugged")
        return make(chunk, **options)

    monkeypatch.setattr(room, "_map_chunk", failing)
    options = {"chunk": 16, "matrix": tmp_path / "c.csv", "polygons": tmp_path / "c.gpkg"}
    with pytest.raises(OSError, match="unplugged"):
        run(written, tmp_path / "c.zarr", **options)
    assert [file.name for file in tmp_path.iterdir() if file.name != "whole.zarr"] == [
        ".c.zarr.unfinished"
    ]
    before = len(calls)
    run(written, tmp_path / "c.zarr", **options)
    assert len(calls) - before < 16
    xr.testing.assert_identical(
        open_class_map(tmp_path / "c.zarr").compute(),
        open_class_map(tmp_path / "whole.zarr").compute(),
    )
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "there.zarr"}, r"there.zarr exists; choose another name or pass --overwrite"),
        ({"matrix": "there.csv"}, r"there.csv exists; choose another name or pass --overwrite"),
        ({"polygons": "there.gpkg"}, r"there.gpkg exists; choose another name or"),
        ({"matrix": "m.txt"}, r"m.txt: the suffix must be one of .csv"),
        ({"polygons": "p.tif"}, r"p.tif: the suffix must be one of .gpkg"),
        ({"polygons": "no/p.gpkg"}, r"the folder .*no does not exist"),
        ({"out": "c.tif", "polygons": "c.fgb"}, "would need two styles of the same name"),
        ({"min_area": 5}, "--min-area is that of the polygons; give --polygons too"),
        ({"min_area": -5, "polygons": "p.gpkg"}, "the minimum area is -5"),
        ({"chunk": 0}, "the chunk size is 0"),
        ({"out": "c.gpkg"}, "the suffix must be one of .zarr, .tif"),
        ({"before": "text.tif"}, "not a raster that can be read"),
        ({"before": "none.tif"}, "no such file"),
        ({"before": "there.csv"}, "not a raster that can be read"),
    ],
)
def test_nothing_is_written_where_something_cannot_work(written, tmp_path, options, message):
    (tmp_path / "there.zarr").mkdir()
    (tmp_path / "there.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    for name in ("there.csv", "there.gpkg", "text.tif"):
        (tmp_path / name).write_text("x")
    before = sorted(tmp_path.iterdir())
    places = {"out": "c.zarr"} | options
    for key in ("out", "matrix", "polygons", "before"):
        if key in places:
            places[key] = tmp_path / places[key]
    places = {"before": written / "before.zarr", "after": written / "after.tif"} | places
    with pytest.raises(InputError, match=message):
        compare_files(**places)
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_map_is_named(written, tmp_path):
    broken = tmp_path / "after.tif"
    broken.write_bytes((written / "after.tif").read_bytes()[:-300])
    with pytest.raises(InputError, match=r"after.tif"):
        compare_files(written / "before.zarr", broken, tmp_path / "c.zarr")


def test_a_map_is_not_written_over(written, tmp_path):
    with pytest.raises(InputError, match="is one of the maps themselves"):
        compare_files(
            written / "before.zarr", written / "after.tif", written / "after.tif", overwrite=True
        )
