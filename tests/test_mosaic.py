"""Mosaics: what each rule takes, whatever the chunks, the grids and the order of the maps."""

import json
import os
import resource
import shutil
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from dask._task_spec import Alias
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from polygon_maps import SCHEME, UTM, make_map, patches
from pyproj import Transformer
from rasterio.warp import Resampling, reproject

from hsi_pipeline import mosaic as room
from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.commands import mosaic as command_room
from hsi_pipeline.commands.mosaic import find_maps
from hsi_pipeline.commands.mosaic import mosaic as join_files
from hsi_pipeline.commands.stac import stac
from hsi_pipeline.cube import grid_of, pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.mosaic import common_grid, mosaic, rules
from hsi_pipeline.publish import open_class_map, write_class_map
from hsi_pipeline.publish.filling import storing
from hsi_pipeline.publish.zarr import regular

CRS = "EPSG:32633"
RULES = ("confident", "newest", "majority")
UNDATED = ("confident", "majority")


def on(right, down, shape, transform=UTM, crs=CRS):
    """A grid that lies so many pixels to the right of and below the origin."""
    return GeoBox(shape, transform @ Affine.translation(right, down), crs)


def one_map(codes, grid=None, confidence=None, day=None, scene="a", **attrs):
    codes = np.asarray(codes, np.uint8)
    if grid is None:
        grid = on(0, 0, codes.shape)
    attrs |= {"scene_id": scene} | ({} if day is None else {"acquired": f"2024-01-{day:02}"})
    return make_map(codes, grid, confidence, chunks=64, attrs=attrs)


def whole_grid(maps, **options):
    return common_grid([grid_of(one) for one in maps], **options)


def joined(maps, grid=None, **options):
    grid = whole_grid(maps) if grid is None else grid
    with dask.config.set(scheduler="synchronous"):
        return mosaic(maps, grid, **options).compute()


def stacks(maps, grid):
    """Classes and confidences of maps of one lattice, each in the whole grid."""
    found = []
    for one in maps:
        own = grid_of(one)
        right, down = ~grid.affine @ (own.affine.c, own.affine.f)
        place = np.s_[
            round(down) : round(down) + own.shape[0], round(right) : round(right) + own.shape[1]
        ]
        codes, values = np.zeros(grid.shape, np.uint8), np.full(grid.shape, np.nan, np.float32)
        codes[place] = one["class"].values
        if "confidence" in one:
            values[place] = one["confidence"].values
        found.append((codes, values))
    return found


def by_hand(maps, grid, rule):
    """What a rule gives, a pixel at a time, as the documentation has it."""
    layers = stacks(maps, grid)
    dates = [one.attrs.get("acquired", "") for one in maps]
    result = np.zeros(grid.shape, np.uint8)
    for pixel in np.ndindex(*grid.shape):
        said = [
            (int(codes[pixel]), float(values[pixel]), date, one.attrs["scene_id"])
            for (codes, values), date, one in zip(layers, dates, maps, strict=True)
            if codes[pixel]
        ]
        if not said:
            continue
        by_name = sorted(said, key=lambda s: s[3])
        if rule == "confident":
            result[pixel] = max(by_name, key=lambda s: (s[1], s[2]))[0]
        elif rule == "newest":
            result[pixel] = max(by_name, key=lambda s: (s[2], np.nan_to_num(s[1], nan=-1)))[0]
        else:
            has_all = all("confidence" in one for one in maps)

            def standing(code, said=said, has_all=has_all):
                those = [s for s in said if s[0] == code]
                total = sum(s[1] for s in those) if has_all else 0
                return len(those), total, max(s[2] for s in those), -code

            result[pixel] = max({s[0] for s in said}, key=standing)
    return result


@st.composite
def scenes(draw, dated=True, confident=True):
    """Maps of one lattice that overlap, with few confidences and dates so that there are ties."""
    maps = []
    for i in range(draw(st.integers(1, 5))):
        seed = draw(st.integers(0, 2**16))
        random = np.random.default_rng(seed)
        shape = tuple(random.integers(1, 8, 2))
        grid = on(int(random.integers(0, 6)), int(random.integers(0, 6)), shape)
        codes = random.integers(0, 4, shape)
        # sums of these are exact
        values = random.choice([0.25, 0.5, 0.75], shape) if confident else None
        day = int(random.integers(1, 3)) if dated or random.random() < 0.5 else None
        maps.append(one_map(codes, grid, values, day, scene=f"s{i}"))
    return maps


@pytest.mark.parametrize("rule", RULES)
@given(maps=scenes(), chunk=st.integers(1, 9), random=st.randoms())
@settings(max_examples=25, deadline=None)
def test_a_mosaic_is_what_the_rule_says_however_it_is_cut_and_ordered(rule, maps, chunk, random):
    grid = whole_grid(maps)
    expected = by_hand(maps, grid, rule)
    found = joined(maps, grid, rule=rule, chunk=chunk)
    np.testing.assert_array_equal(found["class"], expected)
    shuffled = random.sample(maps, len(maps))
    xr.testing.assert_identical(joined(shuffled, grid, rule=rule), found)


@given(maps=scenes(dated=False, confident=False), chunk=st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_majority_needs_neither_dates_nor_confidences(maps, chunk):
    grid = whole_grid(maps)
    found = joined(maps, grid, rule="majority", chunk=chunk)
    np.testing.assert_array_equal(found["class"], by_hand(maps, grid, "majority"))
    assert "confidence" not in found


@pytest.mark.parametrize("rule", RULES)
@given(maps=scenes())
@settings(max_examples=10, deadline=None)
def test_the_mosaic_of_one_map_is_that_map(rule, maps):
    found = joined(maps[:1], rule=rule, chunk=3)
    assert grid_of(found) == grid_of(maps[0])
    np.testing.assert_array_equal(found["class"], maps[0]["class"])
    sure = np.where(maps[0]["class"], maps[0]["confidence"], np.nan)
    np.testing.assert_array_equal(found["confidence"], sure.astype(np.float32))
    assert found.attrs["acquired"] == maps[0].attrs["acquired"]
    assert found.attrs["scene_id"] == "s0"


def test_confident_takes_the_surest_and_of_equals_the_newest():
    maps = [
        one_map([[1, 1, 1, 0, 1]], confidence=[[0.9, 0.5, 0.5, 0.9, np.nan]], day=1, scene="a"),
        one_map([[2, 2, 2, 2, 0]], confidence=[[0.5, 0.9, 0.5, 0.1, 0.9]], day=2, scene="b"),
    ]
    found = joined(maps)
    assert found["class"].values.tolist() == [[1, 2, 2, 2, 1]]
    np.testing.assert_array_equal(
        found["confidence"], np.array([[0.9, 0.9, 0.5, 0.1, np.nan]], np.float32)
    )


def test_newest_takes_the_latest_class_and_of_one_time_the_surest():
    maps = [
        one_map([[1, 1, 1]], confidence=[[0.9, 0.9, 0.9]], day=1, scene="a"),
        one_map([[2, 2, 0]], confidence=[[0.4, 0.6, 0.9]], day=2, scene="b"),
        one_map([[3, 3, 0]], confidence=[[0.5, 0.5, 0.9]], day=2, scene="c"),
    ]
    assert joined(maps, rule="newest")["class"].values.tolist() == [[3, 2, 1]]


def test_newest_keeps_the_confidences_that_there_are():
    maps = [one_map([[1, 1]], confidence=[[0.9, 0.9]], day=1), one_map([[2, 0]], day=2, scene="b")]
    found = joined(maps, rule="newest")
    assert found["class"].values.tolist() == [[2, 1]]
    np.testing.assert_array_equal(found["confidence"], np.array([[np.nan, 0.9]], np.float32))


def test_majority_counts_then_sums_then_looks_at_the_date_then_at_the_code():
    sure = [[0.25, 0.75, 0.5, 0.5, 0.5]]
    other = [[0.5, 0.5, 0.5, 0.5, 0.75]]
    maps = [
        one_map([[1, 1, 1, 2, 2]], confidence=sure, day=1, scene="a"),
        one_map([[2, 2, 2, 1, 2]], confidence=other, day=2, scene="b"),
        one_map([[2, 0, 0, 0, 3]], confidence=other, day=1, scene="c"),
    ]
    found = joined(maps, rule="majority")
    assert found["class"].values.tolist() == [[2, 1, 2, 1, 2]]
    np.testing.assert_allclose(found["confidence"], [[0.5, 0.75, 0.5, 0.5, 0.625]])
    same_day = [one.assign_attrs(acquired="2024-01-01") for one in maps]
    assert joined(same_day, rule="majority")["class"].values.tolist() == [[2, 1, 1, 1, 2]]


def test_newest_reads_no_map_that_cannot_matter(monkeypatch):
    read = []
    gather = rules.gather

    def noting(source, *args, **options):
        read.append(source.name)
        return gather(source, *args, **options)

    monkeypatch.setattr(rules, "gather", noting)
    maps = [one_map([[1, 2]], day=day, scene=f"day {day}") for day in (1, 3, 2)]
    assert joined(maps, rule="newest")["class"].values.tolist() == [[1, 2]]
    assert read == ["day 3"]


def test_times_of_day_zones_and_spellings_are_compared_as_times():
    maps = [
        one_map([[1]], scene="a", acquired="2024-06-01T12:00:00+02:00"),
        one_map([[2]], scene="b", acquired="2024-06-01T11:00:00Z"),
        one_map([[3]], scene="c", acquired="2024:06:01 10:30:00"),
    ]
    found = joined(maps, rule="newest")
    assert found["class"].values.tolist() == [[2]]
    assert found.attrs["acquired_from"] == "2024-06-01T12:00:00+02:00"
    assert found.attrs["acquired_to"] == "2024-06-01T11:00:00Z"
    assert "acquired" not in found.attrs
    newer = one_map([[1]], scene="d", acquired="2024-07-01")
    assert joined([found, newer], rule="newest").attrs["scenes"] == ["a", "b", "c", "d"]


def far_from_edges(source, grid, transformer):
    """Where the centres of a grid are more than a millionth of a pixel from edges of another."""
    row, column = np.indices(grid.shape) + 0.5
    x, y = transformer.transform(*(grid.affine @ (column, row)))
    return np.all(
        [np.abs(axis - np.round(axis)) > 1e-6 for axis in ~source.affine @ (x, y)], axis=0
    )


@pytest.mark.parametrize(
    ("crs", "resolution"),
    [("EPSG:32632", None), ("EPSG:4326", None), ("EPSG:3035", 7.0), ("EPSG:3857", 45.0)],
)
@pytest.mark.parametrize("turn", [0.0, 20.0])
def test_pixels_are_those_that_gdal_finds_without_approximation(crs, resolution, turn):
    source = GeoBox((60, 80), UTM @ Affine.rotation(turn) @ Affine.scale(3, 3), CRS)
    codes = np.random.default_rng(0).integers(1, 4, source.shape).astype(np.uint8)
    grid = common_grid([source], crs, resolution)
    expected = np.zeros(grid.shape, np.uint8)
    reproject(
        codes, expected, src_transform=source.affine, src_crs=CRS, dst_transform=grid.affine,
        dst_crs=crs, resampling=Resampling.nearest, tolerance=0, src_nodata=0, dst_nodata=0,
    )  # fmt: skip
    found = joined([one_map(codes, source)], grid, rule="majority", chunk=37)["class"].values
    sure = far_from_edges(source, grid, Transformer.from_crs(crs, CRS, always_xy=True))
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(found[sure], expected[sure])
    assert np.isin([1, 2, 3], found).all()
    to = Transformer.from_crs(CRS, crs, always_xy=True)
    corners = to.transform(*(source.affine @ (np.array([0, 80, 0, 80]), np.array([0, 0, 60, 60]))))
    column, row = ~grid.affine @ corners
    assert min(column.min(), row.min()) >= 0
    assert row.max() <= grid.shape[0]
    assert column.max() <= grid.shape[1]


@given(
    crs=st.sampled_from([CRS, "EPSG:32632", "EPSG:4326"]),
    chunk=st.integers(3, 40),
    seed=st.integers(0, 999),
    size=st.floats(0.3, 4),
)
@settings(max_examples=20, deadline=None)
def test_chunks_make_no_difference_on_any_grid(crs, chunk, seed, size):
    random = np.random.default_rng(seed)
    maps = []
    for i in range(3):
        turned = UTM @ Affine.rotation(float(random.choice([0, 11]))) @ Affine.scale(size)
        grid = on(*random.uniform(0, 20, 2), tuple(random.integers(2, 30, 2)), turned)
        codes = random.integers(0, 4, grid.shape)
        maps.append(one_map(codes, grid, random.random(grid.shape), i + 1, scene=f"s{i}"))
    grid = whole_grid(maps, crs=crs, resolution=1.5e-4 if crs == "EPSG:4326" else 12.0)
    options = {"rule": RULES[seed % 3]}
    xr.testing.assert_identical(
        joined(maps, grid, chunk=chunk, **options), joined(maps, grid, chunk=999, **options)
    )


@pytest.mark.parametrize("origin", [0.0, 399_999.7])
def test_centres_on_edges_go_one_way_whatever_the_rounding(origin):
    """Half a pixel apart, all centres lie on edges, and binary fractions know no tenths."""
    transform = Affine(0.1, 0, origin, 0, -0.1, 5_800_000.3)
    source = GeoBox((200, 200), transform, CRS)
    grid = GeoBox((199, 199), transform @ Affine.translation(0.5, 0.5), CRS)
    codes = patches(200)
    found = joined([one_map(codes, source)], grid, rule="majority", chunk=17)["class"]
    np.testing.assert_array_equal(found, codes[1:, 1:])


def test_far_smaller_pixels_are_read_in_parts(monkeypatch):
    codes = patches(300)
    maps = [one_map(codes, confidence=codes / 4)]
    grid = common_grid([grid_of(maps[0])], resolution=130.0)
    expected = joined(maps, grid)
    monkeypatch.setattr("hsi_pipeline.gather._WINDOW", 500)
    xr.testing.assert_identical(joined(maps, grid), expected)


# --- grids ---


def test_maps_of_one_lattice_keep_their_pixels():
    grids = [on(right, down, (5, 7)) for right, down in ((3, 0), (0, 9), (-20, 4))]
    assert common_grid(grids) == on(-20, 0, (14, 30))


def test_a_stray_map_does_not_shift_the_others():
    grids = [on(0.3, 0.4, (5, 5)), on(0, 0, (5, 5)), on(5, 5, (5, 5))]
    assert common_grid(grids) == on(0, 0, (10, 10))


def test_without_a_common_lattice_edges_are_multiples():
    grid = common_grid([on(0.3, 0.4, (5, 5)), on(0.7, 0.1, (5, 5))])
    assert grid == on(0, 0, (6, 6))
    coarse = common_grid([on(0.3, 0.4, (5, 5))], resolution=7)
    assert (coarse.affine.c % 7, coarse.affine.f % 7, coarse.affine.a) == (0, 0, 7)


def test_the_finest_map_of_the_most_frequent_crs_decides():
    fine = on(0, 0, (4, 4), UTM @ Affine.scale(0.5))
    far = on(0, 0, (4, 4), UTM @ Affine.scale(0.1), "EPSG:32632")
    grid = common_grid([far, on(0, 0, (4, 4)), fine])
    assert (grid.crs, grid.affine.a) == (CRS, 5)
    assert common_grid([far, fine]).crs == "EPSG:32632", "of equally many the first"


def test_the_same_crs_written_twice_is_one():
    other = GeoBox((4, 4), UTM, grid_of(one_map([[1]])).crs.to_wkt("WKT1_GDAL"))
    assert common_grid([on(0, 0, (4, 4), crs="EPSG:32632"), on(0, 0, (4, 4)), other]).crs == CRS


def test_south_up_maps_lie_on_the_lattice_too():
    codes = patches(6)
    up = GeoBox((6, 6), UTM @ Affine.translation(0, 6) @ Affine.scale(1, -1), CRS)
    maps = [one_map(codes[::-1], up)]
    assert whole_grid(maps) == on(0, 0, (6, 6))
    np.testing.assert_array_equal(joined(maps, rule="majority")["class"], codes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0}, "the resolution is 0, expected more than 0"),
        ({"resolution": -1.5}, "the resolution is -1.5, expected"),
        ({"resolution": float("nan")}, "the resolution is nan, expected"),
        ({"resolution": 1e-5}, r"would have 5000000 x 5000000 pixels"),
        ({"crs": "EPSG:99"}, "EPSG:99 is no CRS that is known"),
        ({"crs": "utm"}, "utm is no CRS that is known"),
    ],
)
def test_grids_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        common_grid([on(0, 0, (5, 5))], **options)


def test_maps_without_crs_have_no_common_grid():
    with pytest.raises(InputError, match="1 of 2 maps have no CRS"):
        common_grid([on(0, 0, (5, 5)), pixel_grid(5, 5)])
    with pytest.raises(InputError, match="2 of 2 maps have no CRS"):
        common_grid([pixel_grid(5, 5)] * 2)
    with pytest.raises(InputError, match="no maps to join"):
        common_grid([])


# --- classes and rules ---


def with_scheme(one, scheme):
    return one.assign({"class": one["class"].assign_attrs(scheme_to_attrs(scheme))})


def test_schemes_without_contradictions_are_united():
    few = with_scheme(one_map([[1]]), make_scheme([1], {1: "roof"}))
    more = with_scheme(one_map([[7]], scene="b"), make_scheme([7], {7: "rock"}))
    found = joined([few, more], rule="majority")
    assert found["class"].attrs["class_names"] == ["roof", "rock"]
    assert found["class"].attrs["flag_values"] == [1, 7]


@pytest.mark.parametrize("names", [{1: "tree"}, {4: "roof"}])
def test_contradicting_schemes_are_refused(names):
    maps = [one_map([[1]]), one_map([[1]], scene="b")]
    maps[1] = with_scheme(maps[1], make_scheme(list(names), names))
    with pytest.raises(InputError, match=r"classes of (a|b) and (a|b) contradict each other"):
        joined(maps, rule="majority")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("confident", "'confident' needs the confidence of every map; b have none"),
        ("newest", "'newest' needs to know when every map's scene was taken; b do not say"),
        ("oldest", "the rule is confident or newest or majority, not 'oldest'"),
    ],
)
def test_rules_that_cannot_be_kept(rule, message):
    maps = [one_map([[1]], confidence=[[0.5]], day=1), one_map([[1]], scene="b")]
    with pytest.raises(InputError, match=message):
        joined(maps, rule=rule)


def test_a_code_without_class_and_a_chunk_without_size():
    with pytest.raises(InputError, match="a: the class map holds code 9, its classes are 1, 2, 3"):
        joined([one_map([[9]])], rule="majority")
    with pytest.raises(InputError, match="the chunk size is 0"):
        joined([one_map([[1]])], rule="majority", chunk=0)
    with pytest.raises(InputError, match="a: no variable 'class'"):
        joined([one_map([[1]]).drop_vars("class")], on(0, 0, (1, 1)), rule="majority")


def test_a_chunk_is_one_task_however_many_maps_there_are(tmp_path):
    maps = [one_map(patches(8), day=i + 1, scene=f"s{i}") for i in range(9)]
    lazy = mosaic(maps, on(0, 0, (8, 32)), rule="newest", chunk=8)
    assert isinstance(lazy["class"].data, da.Array)
    (stored,) = dask.optimize(storing(regular(lazy), tmp_path / "a", tmp_path / "b"))
    assert sum(not isinstance(task, Alias) for task in dict(stored.dask).values()) == 4


# --- files ---


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three maps that overlap, as Zarr and as GeoTIFF."""
    folder = tmp_path_factory.mktemp("maps")
    for i in range(3):
        codes, values = patches(40, seed=i), np.random.default_rng(i).random((40, 40))
        made = {"model": f"m{i > 1}", "model_sha256": f"{i > 1}" * 9}
        one = one_map(codes, on(i * 20, i * 10, (40, 40)), values, i + 1, scene=f"s{i}", **made)
        write_class_map(one, folder / f"map{i}{'.tif' if i == 1 else '.zarr'}")
    return folder


@pytest.fixture
def files(written, tmp_path):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return [tmp_path / name for name in ("map0.zarr", "map1.tif", "map2.zarr")]


class Said:
    """A terminal that remembers."""

    def __init__(self):
        from hsi_pipeline.commands.terminal import Terminal

        self.lines = []
        self.terminal = Terminal(quiet=True)
        self.terminal.say = self.lines.append


@pytest.mark.parametrize("rule", RULES)
def test_zarr_and_geotiff_hold_the_same_mosaic(files, tmp_path, rule):
    said = Said()
    expected = joined([open_class_map(path) for path in files], rule=rule)
    for suffix in (".zarr", ".tif"):
        out = tmp_path / f"mosaic{suffix}"
        written = join_files(files, out, rule=rule, chunk=16, terminal=said.terminal)
        found = open_class_map(written[0])
        np.testing.assert_array_equal(found["class"], expected["class"])
        np.testing.assert_array_equal(found["confidence"], expected["confidence"])
        assert found.attrs["rule"] == rule
        assert found.attrs["scenes"] == ["s0", "s1", "s2"]
        assert found.attrs["acquired_to"] == "2024-01-03"
        assert found.attrs["software"].startswith("hsi_pipeline ")
        assert grid_of(found) == on(0, 0, (60, 80))
    text = "\n".join(said.lines)
    assert f"3 maps on 60 x 80 pixels of 10 x 10 in EPSG:32633, rule '{rule}'" in text
    assert "made by 2 different models" in text
    assert "map of 4800 pixels in" in text


def test_what_was_done_before_a_crash_is_kept(files, tmp_path, monkeypatch):
    join_files(files, tmp_path / "whole.zarr", chunk=16)
    calls = []
    make = room.join_chunk

    def failing(chunk, **options):
        calls.append((chunk.rows.start, chunk.columns.start))
        if len(calls) == 12:
            raise OSError(5, "unplugged")
        return make(chunk, **options)

    monkeypatch.setattr(room, "join_chunk", failing)
    out = tmp_path / "mosaic.zarr"
    with pytest.raises(OSError, match="unplugged"):
        join_files(files, out, chunk=16)
    assert not out.exists()
    before = len(calls)
    with pytest.raises(InputError, match="its rule was confident, now newest; --restart throws"):
        join_files(files, out, rule="newest", chunk=16)
    join_files(files[::-1], out, chunk=16)
    assert len(calls) < before + 12, "the rest alone"
    xr.testing.assert_identical(
        open_class_map(out).compute(), open_class_map(tmp_path / "whole.zarr").compute()
    )
    assert not list(tmp_path.glob(".*"))


def test_maps_written_again_meanwhile_are_noticed(files, tmp_path, monkeypatch):
    write = command_room.write_class_map

    def slow(*args, **options):
        os.utime(files[0] / "class", ns=(1, 2**62))
        return write(*args, **options)

    monkeypatch.setattr(command_room, "write_class_map", slow)
    with pytest.raises(InputError, match=r"map0.zarr changed while it was read"):
        join_files(files, tmp_path / "mosaic.zarr")


def test_more_maps_than_files_may_be_open(tmp_path):
    paths = []
    for i in range(60):
        path = tmp_path / f"{i}{'.tif' if i % 2 else '.zarr'}"
        if i < 2:
            write_class_map(one_map(patches(8), confidence=np.full((8, 8), 0.5)), path)
        elif i % 2:
            shutil.copy(tmp_path / "1.tif", path)
        else:
            shutil.copytree(tmp_path / "0.zarr", path)
        paths.append(path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 25, limits[1]))
    try:
        join_files(paths, tmp_path / "mosaic.zarr", rule="majority")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    np.testing.assert_array_equal(open_class_map(tmp_path / "mosaic.zarr")["class"], patches(8))


def write_catalog(folder, links):
    folder.mkdir(parents=True, exist_ok=True)
    catalog = {
        "type": "Catalog", "stac_version": "1.1.0", "id": folder.name, "description": "maps",
        "links": links,
    }  # fmt: skip
    (folder / "catalog.json").write_text(json.dumps(catalog))


def link(href, rel="item"):
    return {"rel": rel, "href": href, "type": "application/json"}


def test_a_catalog_stands_for_its_maps(files, tmp_path):
    folder = tmp_path / "archive" / "scene no. 1"
    folder.mkdir(parents=True)
    shutil.copytree(files[0], folder / "map 1.zarr")
    stac(folder / "map 1.zarr", folder / "item.json")
    shutil.copytree(files[2], tmp_path / "archive" / "more" / "map2.zarr")
    stac(tmp_path / "archive/more/map2.zarr", tmp_path / "archive/more/item.json")
    write_catalog(
        tmp_path / "archive" / "more", [link("./item.json"), link("../catalog.json", "root")]
    )
    write_catalog(
        tmp_path / "archive",
        [link("./scene%20no.%201/item.json"), link("./more/catalog.json", "child")],
    )
    expected = [folder / "map 1.zarr", tmp_path / "archive" / "more" / "map2.zarr"]
    assert sorted(find_maps([tmp_path / "archive"])) == sorted(expected)
    both = find_maps([tmp_path / "archive/catalog.json", folder / "map 1.zarr", files[1]])
    assert sorted(both) == sorted([*expected, files[1]]), "each once"
    join_files([tmp_path / "archive"], tmp_path / "mosaic.zarr")
    join_files([files[0], files[2]], tmp_path / "same.zarr")
    np.testing.assert_array_equal(
        open_class_map(tmp_path / "mosaic.zarr")["class"],
        open_class_map(tmp_path / "same.zarr")["class"],
    )


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([link("../outside/item.json")], "leads to ../outside/item.json, outside of the folder of"),
        ([link("https://example.com/item.json")], "leads to https://example.com/item.json"),
        ([link("./catalog.json", "child")], "none of its 0 items has an asset 'class'"),
        ([link("./missing.json")], "leads to .*missing.json, where there is no file"),
        ([], "none of its 0 items has an asset 'class'"),
    ],
)
def test_catalogs_that_do_not_lead_to_maps(tmp_path, links, message):
    write_catalog(tmp_path / "archive", links)
    with pytest.raises(InputError, match=message):
        find_maps([tmp_path / "archive"])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"type": "Feature"}', '"x"', "[" * 9999])
def test_json_that_is_no_catalog(tmp_path, text):
    (tmp_path / "catalog.json").write_text(text)
    with pytest.raises(InputError, match=r"catalog.json: (not|cannot be read as) a STAC catalog"):
        find_maps([tmp_path])


def test_sources_that_are_no_maps(files, tmp_path):
    out = tmp_path / "out.zarr"
    with pytest.raises(InputError, match=r"is a folder without catalog.json"):
        join_files([tmp_path], out)
    with pytest.raises(InputError, match=r"none.tif: no such file"):
        join_files([tmp_path / "none.tif"], out)
    with pytest.raises(InputError, match="there are no maps to join"):
        join_files([], out)
    with pytest.raises(InputError, match=r"map0.zarr is one of the maps themselves"):
        join_files(files, files[0], overwrite=True)
    with pytest.raises(InputError, match=r"map2.zarr exists; choose another name or"):
        join_files(files, files[2])
    with pytest.raises(InputError, match="the suffix must be one of"):
        join_files(files, tmp_path / "out.gpkg")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(InputError, match=r"text.tif: not a raster that can be read"):
        join_files([tmp_path / "text.tif"], out)
    assert not out.exists()


@pytest.mark.parametrize("which", [0, 1])
def test_damaged_maps_are_named(files, tmp_path, which):
    broken = files[which]
    pixels = broken / "class" / "0.0" if broken.is_dir() else broken
    content = pixels.read_bytes()
    # an overview-first file keeps its pixels at the end
    pixels.write_bytes(content[: len(content) - (200 if which else len(content) // 2)])
    with pytest.raises(InputError, match=broken.name):
        join_files(files, tmp_path / "out.zarr")
    assert not Path(tmp_path / "out.zarr").exists()


def test_one_map_alone_is_fine(files, tmp_path):
    (written,) = join_files(files[:1], tmp_path / "out.zarr")
    np.testing.assert_array_equal(
        open_class_map(written)["class"], open_class_map(files[0])["class"]
    )
    assert open_class_map(written).attrs["model_sha256"] == "False" * 9
    assert list(open_class_map(written)["class"].attrs["class_names"]) == list(SCHEME.names)
