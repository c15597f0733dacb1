"""Folds: every pixel in one, polygons whole, neighbours together, training at a distance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from hsi_pipeline.errors import InputError
from hsi_pipeline.folds import guarded, spatial_folds


def patchwork(seed=0, side=60, fields=60, classes=4):
    """Labels and polygon ids of small square fields, some of them touching."""
    random = np.random.default_rng(seed)
    labels, units = np.zeros((side, side), np.uint8), np.zeros((side, side), np.int32)
    for unit in range(1, fields + 1):
        row, column = random.integers(0, side - 4, 2)
        window = np.s_[row : row + 4, column : column + 4]
        if not labels[window].any():
            labels[window], units[window] = unit % classes + 1, unit
    return labels, units


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("guard", [0, 4])
def test_every_labelled_pixel_is_scored_once_and_polygons_stay_whole(folds, guard):
    labels, units = patchwork()
    splits = spatial_folds(labels, units, folds=folds, guard=guard, seed=1)
    assert len(splits) == folds
    scored = np.sum([split.validation for split in splits], axis=0)
    np.testing.assert_array_equal(scored, labels > 0)
    for split in splits:
        assert not (split.train & split.validation).any()
        assert not (split.train & (labels == 0)).any()
        inside = set(np.unique(units[split.validation]))
        assert inside.isdisjoint(np.unique(units[(labels > 0) & ~split.validation]))


def test_folds_share_out_the_classes():
    labels, units = patchwork(fields=150, side=90)
    for split in spatial_folds(labels, units, folds=4, seed=0):
        for count in split.counts:
            total = count.train + count.validation + count.dropped
            assert 0.1 < count.validation / total < 0.45


def test_the_guard_holds_between_pixels():
    labels, units = patchwork()
    for split in spatial_folds(labels, units, folds=3, guard=5, seed=0):
        apart = cdist(np.argwhere(split.train), np.argwhere(split.validation), "chebyshev").min()
        assert apart == split.guard_px
        assert split.guard_px <= 5 or split.dropped == 0
        for count in split.counts:
            assert count.train >= 0.5 * (count.train + count.dropped)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 6),
    st.floats(0.02, 0.6),
)
@settings(max_examples=40, deadline=None)
def test_the_guard_drops_all_near_pixels_or_keeps_half_of_every_class(seed, guard, share):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, (20, 20)).astype(np.uint8)
    held_out = (random.random((20, 20)) < share) & (labels > 0)
    if not held_out.any() or not ((labels > 0) & ~held_out).any():
        return
    train = guarded(labels, held_out, guard)
    outside = (labels > 0) & ~held_out
    assert not (train & ~outside).any()
    distance = cdist(np.argwhere(outside), np.argwhere(held_out), "chebyshev").min(1)
    near = distance[train[outside]].min()
    if near < guard:  # reduced: one more would take too much of some class
        wider = outside.copy()
        wider[outside] = distance >= near + 1
        kept = [
            (wider & (labels == c)).sum() / (outside & (labels == c)).sum()
            for c in np.unique(labels[outside])
        ]
        assert (
            min(kept) < 0.5
            or min((wider & (labels == c)).sum() for c in np.unique(labels[outside])) < 5
        )
    for c in np.unique(labels[outside]):
        assert (train & (labels == c)).sum() >= 0.5 * (outside & (labels == c)).sum()


def test_the_same_seed_gives_the_same_folds():
    labels, units = patchwork()
    first, again, other = (
        spatial_folds(labels, units, folds=3, guard=2, seed=seed) for seed in (3, 3, 4)
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.validation, two.validation)
    assert any(
        not np.array_equal(one.validation, two.validation)
        for one, two in zip(first, other, strict=True)
    )


def test_a_class_in_one_place_is_missing_in_the_other_folds():
    labels, units = patchwork(classes=3)
    labels[labels == 3] = 0
    labels[:3, :3], units[:3, :3] = 3, 99
    splits = spatial_folds(labels, units, folds=3, seed=0)
    counts = [next(c for c in split.counts if c.code == 3) for split in splits]
    assert sorted(count.validation for count in counts) == [0, 0, 9]
    assert min(count.train for count in counts) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 1}, "folds is 1"),
        ({"guard": -1}, "guard is -1"),
        ({"labels": np.zeros((9, 9), np.uint8)}, "no labelled pixels"),
        ({"folds": 7}, "too few places for 7 folds"),
    ],
)
def test_what_cannot_be_cut_is_refused(change, message):
    labels = np.zeros((9, 9), np.uint8)
    labels[2:4, 2:4] = 1
    units = np.where(labels, 1, 0)
    options = {"labels": labels, "units": units, "folds": 2} | change
    with pytest.raises(InputError, match=message):
        spatial_folds(options.pop("labels"), options.pop("units"), **options)
