"""Polygons against GDAL, hand-computed rasters and truths that hold for every raster."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj import Geod
from rasterio.features import rasterize, shapes, sieve
from scipy import ndimage
from shapely.geometry import Polygon, shape

from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons import FIELDS, MinAreaReport, polygonize

# odc-geo multiplies affines in the way that affine 3 is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

SCHEME = make_scheme([1, 2, 3], {1: "roof", 2: "tree", 3: "water"})
UTM = Affine(10, 0, 400_000, 0, -10, 5_800_000)
RASTERS = st.tuples(st.integers(2, 9), st.integers(2, 9)).flatmap(
    lambda size: arrays(np.uint8, size, elements=st.integers(0, 3))
)


def make_map(codes, grid=None, confidence=None, chunks=4):
    codes = np.asarray(codes, np.uint8)
    grid = grid or pixel_grid(*codes.shape)
    pixels = {"class": (("y", "x"), da.from_array(codes, chunks=chunks), scheme_to_attrs(SCHEME))}
    if confidence is not None:
        values = np.asarray(confidence, np.float32)
        pixels["confidence"] = (("y", "x"), da.from_array(values, chunks=chunks))
    return xr.Dataset(pixels, coords=xr_coords(grid, dims=("y", "x")))


def burn(polygons, size, grid, column="code"):
    pairs = list(zip(polygons.geometry, polygons[column], strict=True))
    if not pairs:
        return np.zeros(size, np.uint8)
    return rasterize(pairs, out_shape=size, transform=grid.transform, dtype="uint8")


@given(codes=RASTERS, connectivity=st.sampled_from([4, 8]))
def test_polygons_rasterised_give_the_map_back(codes, connectivity):
    polygons, report = polygonize(make_map(codes), connectivity=connectivity)
    np.testing.assert_array_equal(burn(polygons, codes.shape, pixel_grid(*codes.shape)), codes)
    assert polygons.geometry.is_valid.all()
    assert polygons.pixels.sum() == (codes > 0).sum()
    np.testing.assert_allclose(polygons.area, polygons.area_m2)
    assert report == MinAreaReport(0, 0, 0)


@given(codes=RASTERS)
def test_polygons_are_those_gdal_makes_of_the_whole_raster(codes):
    polygons, _ = polygonize(make_map(codes, chunks=2))
    transform = pixel_grid(*codes.shape).transform
    expected = [
        (int(code), shape(outline).normalize())
        for outline, code in shapes(codes, mask=codes > 0, connectivity=4, transform=transform)
    ]
    ours = list(zip(polygons.code, polygons.geometry.normalize(), strict=True))
    assert sorted(ours, key=repr) == sorted(expected, key=repr)


def test_a_raster_worked_out_by_hand():
    codes = [[1, 1, 0], [2, 1, 3], [2, 2, 3]]
    confidence = [[0.5, 0.75, np.nan], [1.0, 1.0, 0.25], [0.5, 0.0, 0.75]]
    grid = GeoBox((3, 3), UTM, "epsg:32633")
    polygons, _ = polygonize(make_map(codes, grid, confidence))
    assert tuple(polygons.columns) == (*FIELDS, "geometry")
    assert polygons.crs == "EPSG:32633"
    assert polygons.code.tolist() == [1, 2, 3]  # the order of first pixels, row by row
    assert polygons.name.tolist() == ["roof", "tree", "water"]
    assert polygons.pixels.tolist() == [3, 3, 2]
    assert polygons.area_m2.tolist() == [300, 300, 200]
    assert polygons.confidence.tolist() == [0.75, 0.5, 0.5]
    water = Polygon([(400_020, y) for y in (5_799_990, 5_799_970)]
                    + [(400_030, y) for y in (5_799_970, 5_799_990)])  # fmt: skip
    assert polygons.geometry[2].equals(water)


def test_corners_join_only_when_8_connected():
    codes = [[1, 0, 2], [0, 1, 0], [2, 0, 1]]
    four, _ = polygonize(make_map(codes), connectivity=4)
    eight, _ = polygonize(make_map(codes), connectivity=8)
    assert four.code.tolist() == [1, 2, 1, 2, 1]
    assert eight.code.tolist() == [1, 2, 2]
    assert eight.pixels.tolist() == [3, 1, 1]


def test_a_hole_is_left_open():
    codes = np.ones((3, 3))
    codes[1, 1] = 0
    polygons, _ = polygonize(make_map(codes))
    assert len(polygons.geometry[0].interiors) == 1
    assert polygons.area_m2[0] == 8


@pytest.mark.parametrize("codes", [np.zeros((2, 3)), np.zeros((1, 1))])
def test_an_empty_map_gives_no_polygons_but_all_fields(codes):
    grid = GeoBox(codes.shape, UTM, "epsg:32633")
    polygons, report = polygonize(make_map(codes, grid), min_area_m2=1000)
    assert len(polygons) == 0
    assert tuple(polygons.columns) == (*FIELDS, "geometry")
    assert polygons.crs == "EPSG:32633"
    assert report == MinAreaReport(0, 0, 0)


def test_a_map_without_confidence_has_none_in_its_polygons():
    polygons, _ = polygonize(make_map([[1, 2], [1, 2]]))
    assert polygons.confidence.isna().all()


@settings(deadline=None, max_examples=25)
@given(
    codes=arrays(np.uint8, (7, 6), elements=st.integers(0, 3)),
    seed=st.integers(0, 9),
    chunk=st.integers(1, 8),
)
def test_the_chunk_size_makes_no_difference_at_all(codes, seed, chunk):
    confidence = np.random.default_rng(seed).random((7, 6), np.float32)
    whole, _ = polygonize(make_map(codes, confidence=confidence, chunks=-1))
    parts, _ = polygonize(make_map(codes, confidence=confidence, chunks=3), chunk=chunk)
    assert whole.equals(parts)
    for row in whole.itertuples():
        inside = rasterize([row.geometry], (7, 6), transform=pixel_grid(7, 6).transform) == 1
        assert row.confidence == pytest.approx(confidence[inside].mean(), abs=1e-6)


@given(codes=RASTERS, minimum=st.integers(2, 12), connectivity=st.sampled_from([4, 8]))
def test_minimum_area_leaves_nothing_smaller_and_no_gap(codes, minimum, connectivity):
    polygons, report = polygonize(make_map(codes), min_area_m2=minimum, connectivity=connectivity)
    assert (polygons.pixels >= minimum).all()
    # what hangs together amid nodata is either kept whole or, if too small itself, dropped whole
    islands, count = ndimage.label(
        codes > 0, ndimage.generate_binary_structure(2, connectivity // 4)
    )
    sizes = np.bincount(islands.ravel(), minlength=count + 1)
    kept = (sizes[islands] >= minimum) & (codes > 0)
    burnt = burn(polygons, codes.shape, pixel_grid(*codes.shape))
    np.testing.assert_array_equal(burnt > 0, kept)
    assert report.dropped == (sizes[1:] < minimum).sum()
    assert report.dropped_pixels == ((codes > 0) & ~kept).sum()
    # a class that stands now stood there before in the same island
    assert all(
        set(burnt[(islands == n) & kept]) <= set(codes[islands == n]) for n in range(1, count + 1)
    )
    # neighbours of one class are one polygon
    again, _ = polygonize(make_map(burnt), connectivity=connectivity)
    assert again.pixels.tolist() == polygons.pixels.tolist()


def test_small_regions_join_their_largest_neighbour_as_in_gdal():
    codes = np.ones((12, 12), np.uint8)
    codes[:, 8:] = 2
    codes[2, 2] = codes[5, 10] = 3  # inside 1, and inside 2
    codes[9, 7] = 3  # on the border, 1 is larger
    polygons, report = polygonize(make_map(codes), min_area_m2=5)
    burnt = burn(polygons, codes.shape, pixel_grid(12, 12))
    np.testing.assert_array_equal(burnt, sieve(codes, size=5))
    assert report == MinAreaReport(merged=3, dropped=0, dropped_pixels=0)


def test_small_regions_among_none_but_small_ones_are_kept():
    # the case that GDAL's sieve leaves as it is
    codes = np.indices((6, 6)).sum(axis=0) % 2 + 1
    polygons, report = polygonize(make_map(codes), min_area_m2=10)
    assert (sieve(codes.astype(np.uint8), size=10) == codes).all()
    assert polygons.pixels.sum() == 36
    assert (polygons.pixels >= 10).all()
    assert report.dropped == 0


def test_a_small_region_amid_nodata_is_dropped_and_counted():
    codes = np.zeros((5, 9), np.uint8)
    codes[:, :4] = 1
    codes[1:3, 6] = 2
    polygons, report = polygonize(make_map(codes), min_area_m2=3)
    assert polygons.code.tolist() == [1]
    assert report == MinAreaReport(merged=0, dropped=1, dropped_pixels=2)


def test_a_region_of_exactly_the_minimum_stays():
    codes = [[1, 1, 1, 2, 2]]
    grid = GeoBox((1, 5), Affine(0.1, 0, 0, 0, -0.1, 0), "epsg:32633")
    polygons, _ = polygonize(make_map(codes, grid), min_area_m2=0.02)
    assert polygons.code.tolist() == [1, 2]


def test_feet_are_converted_to_square_metres():
    grid = GeoBox((1, 1), Affine(10, 0, 0, 0, -10, 0), "epsg:2263")  # US survey feet
    polygons, _ = polygonize(make_map([[1]], grid))
    assert polygons.area_m2[0] == pytest.approx(100 * (1200 / 3937) ** 2)


def test_without_crs_an_area_counts_pixels():
    grid = GeoBox((2, 2), Affine(5, 0, 0, 0, -5, 0), None)
    polygons, _ = polygonize(make_map([[1, 1], [0, 0]], grid))
    assert polygons.crs is None
    assert polygons.area_m2.tolist() == [2]


@pytest.mark.parametrize("south", [0, 47, -80])
def test_area_of_a_degree_cell_is_the_geodesic_one(south):
    grid = GeoBox((1, 1), Affine(1, 0, 9, 0, -1, south + 1), "epsg:4326")
    polygons, _ = polygonize(make_map([[1]], grid))
    # sides along parallels are no geodesics: give them vertices
    along = np.linspace(0, 1, 2001)
    cell = Polygon([*((9 + t, south) for t in along), *((10 - t, south + 1) for t in along)])
    expected, _ = Geod(ellps="WGS84").geometry_area_perimeter(cell)
    assert polygons.area_m2[0] == pytest.approx(expected, rel=1e-7)


def test_area_on_a_sphere():
    crs = "+proj=longlat +R=6371000 +no_defs"
    grid = GeoBox((180, 1), Affine(1, 0, 0, 0, -1, 90), crs)
    polygons, _ = polygonize(make_map(np.ones((180, 1)), grid))
    assert polygons.area_m2[0] == pytest.approx(4 * np.pi * 6_371_000**2 / 360)


def test_area_on_a_rotated_geographic_grid_is_the_geodesic_one():
    turn = Affine.translation(9, 47) @ Affine.rotation(30) @ Affine.scale(0.001, -0.001)
    polygons, _ = polygonize(make_map(np.ones((40, 60)), GeoBox((40, 60), turn, "epsg:4326")))
    ring = polygons.geometry[0].segmentize(1e-4)
    expected, _ = Geod(ellps="WGS84").geometry_area_perimeter(ring)
    assert polygons.area_m2[0] == pytest.approx(abs(expected), rel=1e-6)


@pytest.mark.parametrize("minimum", [1.5e10, 2.1e10])
def test_minimum_area_on_a_geographic_grid_goes_by_real_area(minimum):
    # columns of 1 and 2, one degree wide; cells measure 1.2e10 m2 on the equator, 0.4e10 at 70
    codes = np.tile([1, 2, 3], (70, 1))
    codes[1:] = 1
    codes[-1] = [2, 3, 2]
    grid = GeoBox((70, 3), Affine(1, 0, 0, 0, -1, 70), "epsg:4326")
    polygons, _ = polygonize(make_map(codes, grid), min_area_m2=minimum)
    assert (polygons.area_m2 >= minimum).all()
    assert polygons.pixels.sum() == 210


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"connectivity": 6}, "connectivity is 4 or 8, not 6"),
        ({"min_area_m2": -1}, "minimum area is -1 m2, expected 0 or more"),
        ({"min_area_m2": float("nan")}, "minimum area is nan"),
        ({"chunk": 0}, "chunk size is 0 pixels, expected 1 or more"),
    ],
)
def test_settings_without_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        polygonize(make_map(np.ones((2, 2))), **settings)


def test_a_code_that_the_scheme_lacks_is_refused():
    with pytest.raises(InputError, match=r"holds code 7, its classes are \(1, 2, 3\)"):
        polygonize(make_map([[1, 7], [1, 7]]))
