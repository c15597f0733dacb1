"""Reference samples: the published example, exact shares, fair and repeatable draws."""

import tracemalloc

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from polygon_maps import SCHEME, UTM, make_map, patches, rasters
from scipy.stats import chisquare

from hsi_pipeline.areas import Measure
from hsi_pipeline.classes import scheme_to_attrs
from hsi_pipeline.errors import InputError
from hsi_pipeline.reference_sample import (
    ALLOCATIONS,
    ClassCounts,
    allocate,
    count_classes,
    draw_pixels,
    expected_error,
    sample_size,
    strata_of,
)

# Olofsson et al. (2014), section 5.1.1: deforestation, gain, stable forest, stable non-forest
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
EXPECTED = np.array([0.70, 0.60, 0.90, 0.95])


def drawn(class_map, design="stratified", share=0.4, **options):
    """A sample of a part of each stratum, and the strata."""
    counts = count_classes(class_map, chunk=options.get("chunk", 1024))
    strata = strata_of(counts, design)
    points = [int(np.ceil(one.pixels * share)) for one in strata]
    return draw_pixels(class_map, counts, strata, points, **options), strata, points


def test_the_size_is_that_of_the_published_example():
    assert sample_size(PIXELS, EXPECTED, 0.01) == 641


def test_a_simple_design_needs_what_a_proportion_does():
    # n = p (1 - p) / S^2 for many pixels; for few of them no more than there are
    assert sample_size(np.array([10**12]), np.array([0.8]), 0.02) == 400
    assert sample_size(np.array([100]), np.array([0.8]), 0.02) == 80  # 16 / (4 + 16 / 100)
    assert sample_size(np.array([100]), np.array([0.8]), 1e-9) == 100


def test_equal_and_proportional_shares_are_those_of_the_published_table():
    assert allocate(640, PIXELS, allocation="equal").tolist() == [160] * 4
    assert allocate(641, PIXELS, allocation="proportional").tolist() == [13, 10, 205, 413]


@pytest.mark.parametrize(
    ("least", "stable", "printed"),
    [(100, [146, 295], [149, 292]), (75, [163, 328], [165, 325]), (50, [179, 362], [174, 367])],
)
def test_rare_classes_get_the_least_and_others_share_the_rest_by_area(least, stable, printed):
    """The table prints other shares of the two stable classes, which its rule does not give."""
    found = allocate(641, PIXELS, least=least)
    assert found.tolist() == [least, least, *stable]
    np.testing.assert_allclose(found[2:], printed, rtol=0.03)


strata = st.lists(st.integers(1, 10**6), min_size=1, max_size=8)


@given(pixels=strata, part=st.floats(0, 1), least=st.integers(2, 60), data=st.data())
@settings(max_examples=200, deadline=None)
def test_shares_add_up_and_stay_between_least_and_all(pixels, part, least, data):
    pixels = np.array(pixels)
    rates = st.lists(st.floats(0.01, 0.99), min_size=len(pixels), max_size=len(pixels))
    expected = np.array(data.draw(rates))
    low = np.minimum(least, pixels)
    size = int(low.sum() + part * (pixels.sum() - low.sum()))
    for allocation in ALLOCATIONS:
        points = allocate(size, pixels, allocation=allocation, expected=expected, least=least)
        assert points.sum() == size
        assert (points >= low).all()
        assert (points <= pixels).all()


@given(seed=st.integers(0, 2**16))
@settings(max_examples=50, deadline=None)
def test_no_other_shares_are_better_than_the_optimal_ones(seed):
    rng = np.random.default_rng(seed)
    pixels, expected = rng.integers(10**6, 10**7, 4), rng.uniform(0.5, 0.97, 4)
    best = allocate(400, pixels, allocation="optimal", expected=expected)
    other = allocate(400, rng.integers(10**4, 10**7, 4), least=10)
    # rounding to whole points costs a little
    assert expected_error(pixels, expected, best) < expected_error(pixels, expected, other) * 1.001


def test_the_size_reaches_the_standard_error_by_the_optimal_shares():
    size = sample_size(PIXELS, EXPECTED, 0.01)
    points = allocate(size, PIXELS, allocation="optimal", expected=EXPECTED)
    assert expected_error(PIXELS, EXPECTED, points) == pytest.approx(0.01, rel=1e-3)


def test_the_expected_error_is_the_spread_of_simulated_estimates():
    pixels, expected, points = np.array([60, 300, 2000]), np.array([0.5, 0.8, 0.9]), [30, 40, 90]
    right = (pixels * expected).astype(int)
    hits = np.random.default_rng(0).hypergeometric(right, pixels - right, points, (20_000, 3))
    estimates = (hits / points) @ (pixels / pixels.sum())
    found = expected_error(pixels, right / pixels, np.array(points))
    assert found == pytest.approx(estimates.std(), rel=0.02)


@given(codes=rasters(), chunk=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_counts_are_those_of_the_whole(codes, chunk):
    class_map = make_map(codes, GeoBox(codes.shape, UTM, "EPSG:32633"))
    if not codes.any():
        with pytest.raises(InputError, match="no classified pixel"):
            count_classes(class_map, chunk=chunk)
        return
    found = count_classes(class_map, chunk=chunk)
    present, pixels = np.unique(codes[codes > 0], return_counts=True)
    assert found.codes == tuple(present)
    np.testing.assert_array_equal(found.by_row.sum(0), pixels)
    np.testing.assert_array_equal(found.area_m2, pixels * 100.0)
    for column, code in enumerate(found.codes):
        np.testing.assert_array_equal(found.by_row[:, column], (codes == code).sum(1))


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 60)),
        ("EPSG:3857", Affine(900, 0, 1e6, 0, -900, 8e6)),
    ],
)
def test_areas_are_those_on_the_ground(crs, transform):
    grid = GeoBox((50, 70), transform, crs)
    codes = np.random.default_rng(0).integers(0, 4, grid.shape)
    areas = np.broadcast_to(Measure(grid).pixel_areas(slice(0, 50), slice(0, 70)), grid.shape)
    found = count_classes(make_map(codes, grid), chunk=16)
    expected = [areas[codes == code].sum() for code in found.codes]
    np.testing.assert_allclose(found.area_m2, expected, rtol=1e-5)


def test_without_crs_areas_are_unknown():
    assert np.isnan(count_classes(make_map([[1, 2]])).area_m2).all()


@given(codes=rasters(), chunk=st.integers(1, 9), stored=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
@pytest.mark.parametrize("design", ["stratified", "simple"])
def test_a_sample_does_not_depend_on_chunks(design, codes, chunk, stored, seed):
    if not codes.any():
        return
    found, strata, points = drawn(make_map(codes), design, seed=seed)
    again, _, _ = drawn(make_map(codes, chunks=stored), design, seed=seed, chunk=chunk)
    for one, other in zip(vars(found).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    there = codes[found.row, found.column]
    if design == "stratified":
        np.testing.assert_array_equal(there, found.stratum)
    assert there.all()
    for one, number in zip(strata, points, strict=True):
        assert (found.stratum == one.code).sum() == number
    assert len(set(zip(found.row.tolist(), found.column.tolist(), strict=True))) == sum(points)


@pytest.mark.parametrize("design", ["stratified", "simple"])
def test_each_pixel_of_a_stratum_is_drawn_equally_often_and_at_any_place(design):
    codes = np.array([[1, 2, 1, 0, 2], [2, 2, 0, 1, 2], [1, 1, 2, 2, 0], [2, 1, 1, 2, 2]])
    class_map = make_map(codes)
    counts = count_classes(class_map)
    strata = strata_of(counts, design)
    points = [3, 5] if design == "stratified" else [8]
    draws, hits, first = 1500, np.zeros(codes.shape), np.zeros(codes.shape)
    for seed in range(draws):
        found = draw_pixels(class_map, counts, strata, points, seed=seed)
        hits[found.row, found.column] += 1
        first[found.row[0], found.column[0]] += 1
    assert (hits[codes == 0] == 0).all()
    groups = [codes == code for code in (1, 2)] if design == "stratified" else [codes > 0]
    for pixels, number in zip(groups, points, strict=True):
        share = number / pixels.sum()
        # draws without replacement vary less than the test assumes, by what is not drawn
        scaled = (hits[pixels] - draws * share) / np.sqrt(1 - share) + draws * share
        assert chisquare(scaled).pvalue > 0.001
        # which points come first tells nothing either
        assert chisquare(first[pixels]).pvalue > 0.001
        assert first[pixels].sum() == pytest.approx(draws * number / sum(points), rel=0.15)


def test_seeds_give_other_samples():
    class_map = make_map(patches(40))
    one, other = (drawn(class_map, share=0.1, seed=seed)[0] for seed in (0, 1))
    assert (one.row != other.row).any()


def test_a_whole_stratum_is_drawn_once_each():
    found, _, _ = drawn(make_map(patches(9)), share=1)
    assert sorted(zip(found.row, found.column, strict=True)) == list(np.ndindex(9, 9))


def test_few_of_ten_billion_pixels_take_little_memory():
    side = 100_000
    raster = da.full((side, side), 2, chunks=4096, dtype=np.uint8)
    class_map = xr.Dataset({"class": (("y", "x"), raster, scheme_to_attrs(SCHEME))})
    counts = ClassCounts((2,), ("tree",), np.full((side, 1), side), np.array([np.nan]))
    tracemalloc.start()
    found = draw_pixels(class_map, counts, strata_of(counts, "stratified"), [5], seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.row) == 5
    assert found.row.max() < side
    assert peak < 100e6


def test_progress_ends_with_all_windows():
    seen = []
    class_map = make_map(patches(20))
    counts = count_classes(class_map, chunk=8, progress=lambda *step: seen.append(step))
    assert seen == [(i, 9) for i in range(1, 10)]
    seen.clear()
    strata = strata_of(counts, "simple")
    draw_pixels(class_map, counts, strata, [300], chunk=8, progress=lambda *step: seen.append(step))
    assert seen[-1] == (9, 9)


def test_a_code_without_a_class_is_refused():
    with pytest.raises(InputError, match="holds code 9, its classes are 1, 2, 3"):
        count_classes(make_map([[1, 9]]))


def test_a_map_that_changes_meanwhile_is_refused():
    counts = count_classes(make_map([[1, 1, 2, 2]]))
    with pytest.raises(InputError, match="has changed while it was read"):
        draw_pixels(make_map([[1, 2, 2, 2]]), counts, strata_of(counts, "stratified"), [2, 2])
