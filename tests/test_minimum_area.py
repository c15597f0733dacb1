"""Minimum mapping unit: the map stays whole, and no chunk makes a difference."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from polygon_maps import UTM, make_map, patches, rasters, whole
from rasterio.features import sieve
from scipy import ndimage

from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons.minimum_area import MinAreaReport, apply_minimum_area

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def sieved(class_map, minimum, **options):
    """Return the new codes (y, x) and the report."""
    with tempfile.TemporaryDirectory() as folder:
        made, report = apply_minimum_area(class_map, minimum, Path(folder) / "c.zarr", **options)
        return made["class"].values, report


def islands(codes, connectivity):
    """Return what hangs together amid nodata, and the size of each, as scipy finds it."""
    structure = ndimage.generate_binary_structure(2, connectivity // 4)
    labels, count = ndimage.label(codes > 0, structure)
    return labels, np.bincount(labels.ravel(), minlength=count + 1)


@settings(deadline=None, max_examples=200)
@given(
    codes=rasters(),
    minimum=st.integers(1, 12),
    connectivity=st.sampled_from([4, 8]),
    chunk=st.integers(1, 9),
)
def test_nothing_smaller_is_left_that_has_a_neighbour(codes, minimum, connectivity, chunk):
    made = make_map(codes, chunks=-1)
    new, report = sieved(made, minimum, connectivity=connectivity)
    parts, same_report = sieved(made, minimum, connectivity=connectivity, chunk=chunk)
    np.testing.assert_array_equal(parts, new)
    assert same_report == report
    np.testing.assert_array_equal(new > 0, codes > 0)  # whole
    labels, sizes = islands(codes, connectivity)
    polygons = whole(make_map(new), connectivity=connectivity)
    small = polygons[polygons.pixels < minimum]
    assert len(small) == report.kept == (sizes[1:] < minimum).sum()
    # a class that stands now stood there before in the same island
    for number in range(1, len(sizes)):
        assert set(new[labels == number]) <= set(codes[labels == number])
    before = whole(make_map(codes), connectivity=connectivity)
    kept_codes = [new.ravel()[first] for first in before.index]
    assert report.merged == (before.code != kept_codes).sum()
    assert (report.before, report.after) == (len(before), len(polygons))


def test_small_regions_join_the_neighbour_with_the_longest_border():
    codes = np.array(
        [
            [1, 1, 1, 1, 1, 1],
            [1, 1, 2, 2, 2, 2],
            [1, 3, 3, 2, 2, 2],
            [1, 1, 2, 2, 2, 2],
            [1, 1, 1, 2, 2, 2],
        ]
    )
    # 3 touches 1 by three sides and 2 by three: of equal ones the larger, which is 2 with 14 pixels
    assert (codes == 1).sum() == 14
    assert (codes == 2).sum() == 14
    new, report = sieved(make_map(codes), 3)
    assert new[2].tolist() == [1, 1, 1, 2, 2, 2]  # of equal size too: the one that comes first
    assert report == MinAreaReport(before=3, after=2, merged=1, kept=0)
    codes[4, 2] = 2
    assert sieved(make_map(codes), 3)[0][2].tolist() == [1, 2, 2, 2, 2, 2]
    codes[1, 1] = 2  # now four sides with 2
    codes[4] = 1
    assert sieved(make_map(codes), 3)[0][2].tolist() == [1, 2, 2, 2, 2, 2]


def test_sides_count_by_their_length():
    codes = np.ones((3, 4), np.uint8)
    codes[:, 2:] = 2
    codes[1, 1:3] = 3  # above and below it has 1 and 2, beside it 1 and 2
    codes[0, 1] = 2
    square = sieved(make_map(codes, GeoBox((3, 4), UTM, "epsg:32633")), 300)[0]
    assert square[1, 1] == 2
    tall = GeoBox((3, 4), Affine(10, 0, 0, 0, -90, 0), "epsg:32633")
    codes[0, 1] = 1
    codes[1, 3] = 1  # three sides of 10 m with 2, one of 90 m with 1 on either side
    codes[2, 1] = 2
    assert sieved(make_map(codes, tall), 2000)[0][1].tolist() == [1, 1, 1, 1]


def test_the_most_probable_class_decides_if_asked():
    codes = np.ones((5, 5), np.uint8)
    codes[:, 3:] = 2
    codes[2, 2] = 3  # three sides with 1, one with 2
    probability = np.zeros((3, 5, 5))
    probability[:, 2, 2] = [0.1, 0.3, 0.6]
    made = make_map(codes, probability=probability)
    assert sieved(made, 2)[0][2, 2] == 1
    for chunk in (1, 3, 9):
        assert sieved(made, 2, join="probability", chunk=chunk)[0][2, 2] == 2
    with pytest.raises(InputError, match="classify --probabilities"):
        sieved(make_map(codes), 2, join="probability")


def test_small_regions_inside_others_are_filled_as_by_gdal():
    codes = np.ones((12, 12), np.uint8)
    codes[:, 8:] = 2
    codes[2, 2] = codes[5, 10] = 3
    new, report = sieved(make_map(codes), 5)
    np.testing.assert_array_equal(new, sieve(codes, size=5))
    assert report == MinAreaReport(before=4, after=2, merged=2, kept=0)


def test_small_regions_among_none_but_small_ones_join_too():
    # the case that GDAL's sieve leaves as it is
    codes = (np.indices((6, 6)).sum(axis=0) % 2 + 1).astype(np.uint8)
    assert (sieve(codes, size=10) == codes).all()
    polygons = whole(make_map(sieved(make_map(codes), 10)[0]))
    assert polygons.pixels.sum() == 36
    assert (polygons.pixels >= 10).all()


def test_a_small_region_amid_nodata_stays_and_is_counted():
    codes = np.zeros((5, 9), np.uint8)
    codes[:, :4] = 1
    codes[1:3, 6] = 2
    new, report = sieved(make_map(codes), 3)
    np.testing.assert_array_equal(new, codes)
    assert report == MinAreaReport(before=2, after=2, merged=0, kept=1)


def test_a_region_of_exactly_the_minimum_stays():
    grid = GeoBox((1, 5), Affine(0.1, 0, 0, 0, -0.1, 0), "epsg:32633")
    new, _ = sieved(make_map([[1, 1, 1, 2, 2]], grid), 0.02)
    assert new.tolist() == [[1, 1, 1, 2, 2]]


@pytest.mark.parametrize("minimum", [1.5e10, 2.1e10])
def test_a_geographic_grid_goes_by_area_on_the_ellipsoid(minimum):
    # columns of 1 and 2, one degree wide; cells measure 1.2e10 m2 on the equator, 0.4e10 at 70
    codes = np.tile([1, 2, 3], (70, 1))
    codes[1:] = 1
    codes[-1] = [2, 3, 2]
    grid = GeoBox((70, 3), Affine(1, 0, 0, 0, -1, 70), "epsg:4326")
    made = make_map(codes, grid)
    new, _ = sieved(made, minimum)
    np.testing.assert_array_equal(sieved(made, minimum, chunk=7)[0], new)
    polygons = whole(make_map(new, grid))
    assert (polygons.area_m2 >= minimum).all()
    assert polygons.pixels.sum() == 210


def test_all_else_of_the_map_stays():
    codes, confidence = patches(40, grain=1), np.full((40, 40), 0.25)
    made = make_map(codes, confidence=confidence, attrs={"scene_id": "a"})
    with tempfile.TemporaryDirectory() as folder:
        new, report = apply_minimum_area(made, 9, Path(folder) / "c.zarr")
        assert report.merged > 0
        assert new.attrs == made.attrs
        assert new["class"].attrs == made["class"].attrs
        assert new["class"].dtype == np.uint8
        assert new["confidence"].identical(made["confidence"])
        assert new.odc.geobox == made.odc.geobox


def test_a_cluster_does_the_same():
    made = make_map(patches(90, grain=1.5), chunks=30)
    near = sieved(made, 12)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        far = sieved(made, 12, chunk=30, executor=client.get_executor(pure=False))
    np.testing.assert_array_equal(far[0], near[0])
    assert far[1] == near[1]


def test_progress_counts_both_passes():
    seen = []
    sieved(make_map(patches(40, grain=1)), 9, chunk=20, progress=lambda *at: seen.append(at))
    assert seen == [(n, 8) for n in range(1, 9)]


@pytest.mark.parametrize(
    ("minimum", "options", "message"),
    [
        (-1, {}, "minimum area is -1 m2, expected 0 or more"),
        (float("nan"), {}, "minimum area is nan"),
        (float("inf"), {}, "minimum area is inf"),
        (1, {"join": "size"}, "join by border or probability, not by 'size'"),
        (1, {"chunk": 0}, "chunk size is 0 pixels, expected 1 or more"),
        (1, {"connectivity": 5}, "connectivity is 4 or 8, not 5"),
    ],
)
def test_settings_without_sense_are_refused(minimum, options, message):
    with pytest.raises(InputError, match=message):
        sieved(make_map(np.ones((2, 2))), minimum, **options)
