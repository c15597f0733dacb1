from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hsi_pipeline.errors import InputError
from hsi_pipeline.splits import (
    MIN_KEPT,
    MIN_TRAIN,
    MIN_VALIDATION,
    split_from_column,
    split_labels,
)

REAL = Path(__file__).parents[1].parent / "shared" / "data"


def chebyshev(one, other):
    """Smallest max(|rows|, |columns|) between two sides, by comparing every pair."""
    a, b = np.argwhere(one), np.argwhere(other)
    return min(int(np.abs(b - place).max(axis=1).min()) for place in a)


def random_scene(seed, shape=(40, 50), classes=3, polygons=30, size=6):
    """Rectangles of random place, size and class; later ones lie over earlier ones."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint8)
    units = np.zeros(shape, dtype=np.int32)
    for unit in range(1, polygons + 1):
        row, column = rng.integers(0, shape[0] - 2), rng.integers(0, shape[1] - 2)
        window = np.s_[
            row : row + rng.integers(1, size + 1), column : column + rng.integers(1, size + 1)
        ]
        labels[window], units[window] = unit % classes + 1, unit
    return labels, units


def check_split(split, labels, guard):
    """What holds for every split that was not named by the file."""
    assert not (split.train & split.validation).any()
    assert not ((split.train | split.validation) & (labels == 0)).any()
    assert split.guard_px == chebyshev(split.train, split.validation)
    assert split.guard_wanted == guard
    outside = (labels > 0) & ~split.validation
    dropped = outside & ~split.train
    assert split.dropped == dropped.sum()
    assert [c.code for c in split.counts] == np.unique(labels[labels > 0]).tolist()
    for count in split.counts:
        mine = labels == count.code
        assert count.train == (split.train & mine).sum() >= MIN_TRAIN
        assert count.validation == (split.validation & mine).sum() >= MIN_VALIDATION
        assert count.dropped == (dropped & mine).sum()
        assert count.train >= MIN_KEPT * (outside & mine).sum()
    if dropped.any():  # only what is nearer than the guard is dropped
        validated = np.argwhere(split.validation)
        near = [np.abs(validated - place).max(axis=1).min() for place in np.argwhere(dropped)]
        assert max(near) < min(guard, split.guard_px)


def check_whole_polygons(split, labels, units):
    for unit in np.unique(units[units > 0]):
        mine = units == unit
        if (split.validation & mine).any():
            assert (split.validation & mine).sum() == mine.sum() or (
                set(labels[mine].tolist()) & set(split.cut)
            )


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    guard=st.integers(0, 30),
    share=st.sampled_from([0.1, 0.2, 0.35, 0.5, 0.8]),
)
def test_any_scene_gives_two_sides_that_lie_apart(seed, guard, share):
    labels, units = random_scene(seed)
    split = split_labels(labels, units, validation_share=share, guard=guard, seed=seed)
    check_split(split, labels, guard)
    check_whole_polygons(split, labels, units)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), guard=st.integers(0, 20), classes=st.integers(1, 6))
def test_rasters_without_polygons_are_cut_by_blocks(seed, guard, classes):
    labels, _ = random_scene(seed, classes=classes, polygons=24, size=9)
    counts = np.bincount(labels.ravel(), minlength=classes + 1)
    labels[np.isin(labels, np.flatnonzero(counts < MIN_TRAIN + MIN_VALIDATION))] = 0
    split = split_labels(labels, np.zeros(labels.shape, np.int32), guard=guard, seed=1)
    check_split(split, labels, guard)
    assert split.cut == ()


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    labels, units = random_scene(3)
    first, again, other = (split_labels(labels, units, guard=3, seed=s) for s in (7, 7, 8))
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.validation, again.validation)
    assert first.counts == again.counts
    assert (first.validation != other.validation).any()


def test_well_mixed_polygons_are_split_in_proportion():
    rows, columns = np.indices((120, 120)) // 4
    units = (rows * 30 + columns + 1).astype(np.int32)
    labels = np.random.default_rng(0).integers(1, 5, size=901, dtype=np.uint8)[units]
    split = split_labels(labels, units, guard=4, seed=0)
    check_split(split, labels, 4)
    check_whole_polygons(split, labels, units)
    assert split.guard_px >= 4
    for count in split.counts:
        share = count.validation / (count.train + count.validation + count.dropped)
        assert 0.15 <= share <= 0.25


def test_the_guard_that_was_asked_for_holds_where_labels_last():
    labels = np.ones((60, 100), dtype=np.uint8)
    labels[:, ::2] = 2  # both classes everywhere
    split = split_labels(labels, np.zeros(labels.shape, np.int32), guard=12, seed=0)
    check_split(split, labels, 12)
    assert split.guard_px == 12


def test_the_guard_is_reduced_where_labels_would_not_last():
    labels = np.zeros((30, 30), dtype=np.uint8)
    labels[5:15, 5:15], labels[5:15, 15:25] = 1, 2
    split = split_labels(labels, np.zeros(labels.shape, np.int32), guard=37, seed=0)
    check_split(split, labels, 37)
    assert 1 < split.guard_px < 10


def test_a_single_polygon_is_cut_and_reported():
    labels, units = np.zeros((2, 60, 60), dtype=np.int32)
    for unit, (row, column) in enumerate(np.ndindex(6, 6), start=1):
        labels[row * 10 : row * 10 + 4, column * 10 : column * 10 + 4] = 1
        units[row * 10 : row * 10 + 4, column * 10 : column * 10 + 4] = unit
    labels[25:29, 25:29], units[25:29, 25:29] = 9, 99
    split = split_labels(labels.astype(np.uint8), units, guard=2, seed=0)
    check_split(split, labels, 2)
    check_whole_polygons(split, labels, units)
    assert split.cut == (9,)


def test_two_polygons_of_a_class_stay_whole():
    labels = np.zeros((40, 40), dtype=np.uint8)
    units = np.zeros((40, 40), dtype=np.int32)
    for unit, (code, row, column) in enumerate(
        [(1, 0, 0), (1, 30, 30), (2, 0, 8), (2, 30, 20)], start=1
    ):
        labels[row : row + 4, column : column + 4] = code
        units[row : row + 4, column : column + 4] = unit
    split = split_labels(labels, units, guard=15, seed=0)
    check_split(split, labels, 15)
    assert split.cut == ()
    assert {c.validation for c in split.counts} == {16}
    assert split.guard_px >= 15


def test_polygons_that_no_subset_of_fits_are_cut():
    # Of 2, 2, 2 and 2 pixels, no whole polygons make 3 for validation and 5 for training.
    labels = np.zeros((20, 20), dtype=np.uint8)
    units = np.zeros((20, 20), dtype=np.int32)
    for unit, row in enumerate((0, 5, 10, 15), start=1):
        labels[row, 0:2], units[row, 0:2] = 1, unit
    split = split_labels(labels, units, guard=0, seed=0)
    assert split.cut == (1,)
    assert (split.counts[0].train, split.counts[0].validation) == (5, 3)


def test_points_are_split_like_polygons():
    rng = np.random.default_rng(1)
    labels = np.zeros((200, 200), dtype=np.uint8)
    places = rng.choice(40_000, size=80, replace=False)
    labels.ravel()[places] = np.arange(80) % 4 + 1
    units = np.zeros(labels.shape, dtype=np.int32)
    units.ravel()[places] = np.arange(1, 81)
    split = split_labels(labels, units, guard=10, seed=0)
    check_split(split, labels, 10)
    assert split.cut == ()


def test_more_pixels_than_the_sample_keep_the_guard_and_the_labels():
    rows, columns = np.indices((200, 250)) // 25
    labels = ((rows * 3 + columns) % 4 + 1).astype(np.uint8)
    split = split_labels(labels, np.zeros(labels.shape, np.int32), guard=9, seed=0)
    assert split.guard_px >= 9
    assert all(c.train >= MIN_KEPT * (c.train + c.dropped) for c in split.counts)


def test_a_class_with_too_few_pixels_is_named():
    labels = np.ones((10, 10), dtype=np.uint8)
    labels[0, :7] = 5
    with pytest.raises(InputError, match="'soil' has 7, a class needs 8; add polygons"):
        split_labels(labels, np.zeros((10, 10), int), guard=1, seed=0, names={5: "soil"})
    with pytest.raises(InputError, match=r"'class 5' has 7.*--split-column"):
        split_labels(labels, np.zeros((10, 10), int), guard=1, seed=0)


def test_unlabelled_scenes_and_impossible_settings_are_refused():
    nothing = np.zeros((10, 10), dtype=np.uint8)
    with pytest.raises(InputError, match="no labelled pixels"):
        split_labels(nothing, nothing, guard=1, seed=0)
    with pytest.raises(InputError, match=r"validation share is 1\.0; it lies between 0 and 1"):
        split_labels(nothing + 1, nothing, validation_share=1.0, guard=1, seed=0)
    with pytest.raises(InputError, match="guard is -1 pixels"):
        split_labels(nothing + 1, nothing, guard=-1, seed=0)


def test_a_named_split_is_taken_as_it_is():
    labels = np.ones((6, 20), dtype=np.uint8)
    labels[3:], labels[:, 19] = 2, 0
    splits = np.zeros((6, 20), dtype=np.uint8)
    splits[:, :5], splits[:, 8:12], splits[:, 15:] = 1, 2, 3
    split = split_from_column(labels, splits, guard=37)
    np.testing.assert_array_equal(split.train, splits == 1)
    np.testing.assert_array_equal(split.validation, splits == 2)
    assert split.guard_px == 4 == chebyshev(split.train, split.validation)
    assert split.guard_wanted == 37
    assert [(c.code, c.train, c.validation, c.dropped) for c in split.counts] == [
        (1, 15, 12, 30),
        (2, 15, 12, 30),
    ]


def test_far_sides_have_their_distance_measured():
    labels = np.zeros((3, 3000), dtype=np.uint8)
    splits = np.zeros((3, 3000), dtype=np.uint8)
    labels[0, 0], splits[0, 0] = 1, 1
    labels[2, 2999], splits[2, 2999] = 1, 2
    assert split_from_column(labels, splits).guard_px == 2999


@pytest.mark.parametrize(("part", "name"), [(2, "train"), (1, "validation"), (3, "train")])
def test_a_named_split_needs_both_sides(part, name):
    labels = np.ones((4, 4), dtype=np.uint8)
    with pytest.raises(InputError, match=f"no labelled pixel of the scene as {name}"):
        split_from_column(labels, np.full((4, 4), part, dtype=np.uint8))


@pytest.mark.skipif(not REAL.exists(), reason="the shared data sets are not here")
def test_enmap_potsdam_polygons_keep_the_whole_guard():
    folder = REAL / "enmap_potsdam"
    polygons = gpd.read_file(folder / "landcover_level3_polygons.gpkg")
    with rasterio.open(folder / "landcover_level3_30m.tif") as source:
        labels = source.read(1)
        units = rasterio.features.rasterize(
            ((shape, unit) for unit, shape in enumerate(polygons.geometry, start=1)),
            out_shape=source.shape,
            transform=source.transform,
            dtype=np.int32,
        )
    split = split_labels(labels, units, guard=37, seed=0)
    check_split(split, labels, 37)
    check_whole_polygons(split, labels, units)
    assert split.guard_px >= 37
    assert split.cut == ()
    for count in split.counts:
        assert 0.05 < count.validation / (labels == count.code).sum() < 0.5
