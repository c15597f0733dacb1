"""Polygons against GDAL, hand-computed rasters and truths that hold for every raster."""

import numpy as np
import pytest
import shapely
from affine import Affine
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from polygon_maps import UTM, burn, make_map, patches, rasters, whole
from rasterio.features import rasterize, shapes
from shapely.geometry import Polygon, shape

from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons import FIELDS, polygonize
from hsi_pipeline.polygons.chunks import outline_chunk
from hsi_pipeline.polygons.joining import OpenRegions
from hsi_pipeline.polygons.windows import chunk_windows, source_of

# odc-geo multiplies affines in the way that affine 3 is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

CONNECTIVITY = st.sampled_from([4, 8])


def gdal_polygons(codes, connectivity, transform):
    """Return what GDAL makes of the whole raster, where it crosses itself made valid."""
    found = [
        (int(code), shapely.normalize(shapely.make_valid(shape(outline))))
        for outline, code in shapes(
            codes, mask=codes > 0, connectivity=connectivity, transform=transform
        )
    ]
    return sorted(found, key=repr)


def our_polygons(frame):
    geometry = shapely.normalize(frame.geometry.to_numpy())
    return sorted(zip(frame.code.tolist(), geometry, strict=True), key=repr)


def check_against_gdal(codes, connectivity, chunk):
    grid = pixel_grid(*codes.shape)
    frame = whole(make_map(codes, chunks=-1), connectivity=connectivity, chunk=chunk)
    assert our_polygons(frame) == gdal_polygons(codes, connectivity, grid.transform)
    assert frame.geometry.is_valid.all()
    np.testing.assert_array_equal(burn(frame, codes.shape), codes)
    assert frame.pixels.sum() == (codes > 0).sum()
    assert frame.area.tolist() == frame.area_m2.tolist()
    assert frame.length.tolist() == frame.perimeter_m.tolist()


@settings(max_examples=1000, deadline=None)
@given(codes=rasters(), connectivity=CONNECTIVITY, chunk=st.integers(1, 10))
def test_polygons_are_those_that_gdal_makes_of_the_whole_raster(codes, connectivity, chunk):
    check_against_gdal(codes, connectivity, chunk)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("chunk", [1, 7, 32, 1000])
def test_rings_and_winding_regions_are_whole_across_chunks(connectivity, chunk):
    row, column = np.indices((41, 41)) - 20
    ring = np.maximum(abs(row), abs(column))
    spiral = (np.hypot(row, column) + 1.5 * np.arctan2(row, column)) // 3 % 2 + 1
    for codes in (ring // 2 % 2 + 1, spiral, np.where(ring == 20, 0, spiral), ring % 2):
        check_against_gdal(codes.astype(np.uint8), connectivity, chunk)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_noise_and_patches_are_as_in_gdal(connectivity):
    noise = np.random.default_rng(0).integers(0, 4, (120, 130)).astype(np.uint8)
    check_against_gdal(noise, connectivity, 37)
    check_against_gdal(patches(150), connectivity, 64)


def test_coordinates_are_those_of_gdal_to_the_last_bit():
    turned = Affine.translation(437_123.4, 5_812_345.6) * Affine.rotation(17) * Affine.scale(3.7)
    codes = patches(60)
    frame = whole(make_map(codes, GeoBox(codes.shape, turned, "epsg:32633")), chunk=16)
    assert our_polygons(frame) == gdal_polygons(codes, 4, turned)


def test_a_raster_worked_out_by_hand():
    codes = [[1, 1, 0], [2, 1, 3], [2, 2, 3]]
    confidence = [[0.5, 0.75, np.nan], [1.0, 1.0, 0.25], [0.5, 0.0, 0.75]]
    roof, tree = np.full((3, 3), 0.25), np.full((3, 3), 0.5)
    grid = GeoBox((3, 3), UTM, "epsg:32633")
    attrs = {"scene_id": "EnMAP 1", "acquired": "2022-07-24"}
    polygons = whole(make_map(codes, grid, confidence, [roof, tree, 0.75 - tree], attrs=attrs))
    assert tuple(polygons.columns) == (*FIELDS, "geometry")
    assert polygons.crs == "EPSG:32633"
    assert polygons.index.tolist() == [0, 3, 5]  # first pixels, row by row
    assert polygons.code.tolist() == [1, 2, 3]
    assert polygons.name.tolist() == ["roof", "tree", "water"]
    assert polygons.pixels.tolist() == [3, 3, 2]
    assert polygons.area_m2.tolist() == [300, 300, 200]
    assert polygons.perimeter_m.tolist() == [80, 80, 60]
    assert polygons.confidence.tolist() == [0.75, 0.5, 0.5]
    assert polygons.min_confidence.tolist() == [0.5, 0, 0.25]
    assert polygons.second_name.tolist() == ["tree", "roof", "tree"]
    assert polygons.second_share.tolist() == [0.5, 0.25, 0.5]
    assert polygons.scene_id.unique().tolist() == ["EnMAP 1"]
    assert polygons.acquired.unique().tolist() == ["2022-07-24"]
    water = Polygon([(400_020, y) for y in (5_799_990, 5_799_970)]
                    + [(400_030, y) for y in (5_799_970, 5_799_990)])  # fmt: skip
    assert polygons.geometry.iloc[2].equals(water)


def test_corners_join_only_when_8_connected():
    codes = [[1, 0, 2], [0, 1, 0], [2, 0, 1]]
    four, eight = (whole(make_map(codes), connectivity=n) for n in (4, 8))
    assert four.code.tolist() == [1, 2, 1, 2, 1]
    assert eight.code.tolist() == [1, 2, 2]
    assert eight.pixels.tolist() == [3, 1, 1]
    assert eight.geom_type.tolist() == ["MultiPolygon", "Polygon", "Polygon"]


@pytest.mark.parametrize("codes", [np.zeros((2, 3)), np.zeros((1, 1))])
def test_an_empty_map_gives_one_frame_without_rows_but_all_columns(codes):
    frames = list(polygonize(make_map(codes, GeoBox(codes.shape, UTM, "epsg:32633"))))
    assert len(frames) == 1
    assert len(frames[0]) == 0
    assert tuple(frames[0].columns) == (*FIELDS, "geometry")
    assert frames[0].crs == "EPSG:32633"
    full = whole(make_map(np.ones((2, 2)), GeoBox((2, 2), UTM, "epsg:32633")))
    assert frames[0].dtypes.tolist() == full.dtypes.tolist()


def test_what_a_map_does_not_hold_is_missing_in_its_polygons():
    polygons = whole(make_map([[1, 2], [1, 2]]))
    unknown = ["confidence", "min_confidence", "second_name", "second_share", "scene_id"]
    assert polygons[unknown].isna().all().all()


@settings(deadline=None, max_examples=50)
@given(
    codes=arrays(np.uint8, (7, 6), elements=st.integers(0, 3)),
    seed=st.integers(0, 9),
    chunk=st.integers(1, 8),
    connectivity=CONNECTIVITY,
)
def test_the_chunk_size_makes_no_difference_at_all(codes, seed, chunk, connectivity):
    rng = np.random.default_rng(seed)
    confidence = np.where(rng.random((7, 6)) < 0.1, np.nan, rng.random((7, 6)))
    probability = rng.random((3, 7, 6))
    made = make_map(codes, confidence=confidence, probability=probability, chunks=3)
    one, parts = (whole(made, connectivity=connectivity, chunk=size) for size in (None, chunk))
    columns = list(FIELDS)
    assert one[columns].equals(parts[columns])
    assert our_polygons(one) == our_polygons(parts)
    for row in one.itertuples():
        inside = rasterize([row.geometry], (7, 6), transform=pixel_grid(7, 6).transform) == 1
        known = confidence[inside][np.isfinite(confidence[inside])]
        if known.size:
            assert row.confidence == pytest.approx(known.mean(), abs=1e-6)
            assert row.min_confidence == pytest.approx(known.min(), abs=1e-6)
        means = probability[:, inside].mean(axis=1)
        means[row.code - 1] = -1
        assert row.second_share == pytest.approx(means.max(), abs=1e-6)
        assert row.second_name == ["roof", "tree", "water"][means.argmax()]


def test_a_code_without_a_class_is_refused():
    with pytest.raises(InputError, match=r"holds code 7, its classes are \(1, 2, 3\)"):
        whole(make_map([[1, 7], [1, 7]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connectivity": 6}, "connectivity is 4 or 8, not 6"),
        ({"chunk": 0}, "chunk size is 0 pixels, expected 1 or more"),
    ],
)
def test_settings_without_sense_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        polygonize(make_map(np.ones((2, 2))), **options)


def test_no_more_is_held_than_reaches_into_chunks_to_come():
    codes = np.kron(np.indices((60, 6)).sum(axis=0) % 3 + 1, np.ones((4, 4))).astype(np.uint8)
    codes[:, 0] = 1  # all the way down
    source = source_of(make_map(codes, chunks=-1))
    regions = OpenRegions(24, 4, UTM)
    held = []
    for rows, columns in chunk_windows(codes.shape, 10):
        result = outline_chunk(source.window(rows, columns), UTM, 4, None)
        regions.add(result.pieces, columns)
        held.append(len(regions))
    assert max(held[len(held) // 2 :]) <= max(held[: len(held) // 2]) + 24  # the long one's pieces
    assert held[-1] == 0


def test_a_stream_that_is_left_stops_reading():
    done = []
    codes = np.random.default_rng(0).integers(1, 4, (800, 800))
    stream = polygonize(make_map(codes), chunk=50, progress=lambda *at: done.append(at))
    next(stream)
    stream.close()
    assert len(done) < 256
    assert done[0] == (1, 256)


def test_a_cluster_gives_the_same_polygons():
    made = make_map(patches(100), confidence=np.full((100, 100), 0.5), chunks=30)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        far = whole(made, chunk=30, executor=client.get_executor(pure=False))
    near = whole(made)
    assert far[list(FIELDS)].equals(near[list(FIELDS)])
    assert our_polygons(far) == our_polygons(near)
