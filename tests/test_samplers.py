"""Windows: where they lie, how often each class is drawn, and that tiles share out the labels."""

import numpy as np
import pytest
from affine import Affine
from conftest import CRS, TRANSFORM
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from hsi_pipeline.datasets import GroundTruthDataset
from hsi_pipeline.errors import InputError
from hsi_pipeline.samplers import LabelledWindowSampler, label_tiles, window_query

SHAPE = (50, 70)
GRID = GeoBox(SHAPE, TRANSFORM, CRS)


@pytest.fixture(scope="module")
def labels():
    """Three classes: a few pixels in a corner, a patch, and a quarter of the scene."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[25:, 35:] = 2
    labels[10:14, 10:14] = 5
    labels[0, :3] = 9
    return labels


def make_sampler(labels, *, size=16, length=1500, generator=0, grid=GRID):
    dataset = GroundTruthDataset(labels, grid)
    return LabelledWindowSampler(
        dataset, labels, grid, size=size, length=length, generator=generator
    )


def window_of(query):
    x, y = query
    (column, row), (right, bottom) = ~TRANSFORM @ (x.start, y.stop), ~TRANSFORM @ (x.stop, y.start)
    numbers = (row, bottom, column, right)
    assert all(number == round(number) for number in numbers)
    return np.s_[round(row) : round(bottom), round(column) : round(right)]


@given(
    row=st.integers(-50, 60),
    column=st.integers(-50, 80),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_queries_and_windows_are_the_same_thing(row, column, height, width):
    window = slice(row, row + height), slice(column, column + width)
    assert window_of(window_query(GRID, *window)) == window
    x, y = window_query(GRID, *window)
    assert x.stop - x.start == 30 * width
    assert y.stop - y.start == 30 * height


def test_windows_stay_inside_and_hold_a_labelled_pixel(labels):
    for query in make_sampler(labels):
        rows, columns = window_of(query)
        assert 0 <= rows.start < rows.stop == rows.start + 16 <= SHAPE[0]
        assert 0 <= columns.start < columns.stop == columns.start + 16 <= SHAPE[1]
        assert labels[rows, columns].any()


def test_every_class_is_drawn_equally_often(labels):
    """With windows of one pixel, the pixel drawn is the window."""
    drawn = [int(labels[window_of(q)][0, 0]) for q in make_sampler(labels, size=1)]
    counts = np.bincount(drawn, minlength=10)[[2, 5, 9]]
    assert counts.sum() == 1500
    # chi-square with 2 degrees of freedom stays below 13.8 in 999 of 1000 cases
    assert ((counts - 500) ** 2 / 500).sum() < 13.8


def test_every_pixel_and_every_place_in_the_window_comes_up():
    labels = np.zeros(SHAPE, np.uint8)
    labels[20:24, 30:34] = 1
    windows = [window_of(q) for q in make_sampler(labels, size=5, length=3000)]
    places = np.array([(r.start, c.start) for r, c in windows])
    assert places.min(axis=0).tolist() == [16, 26]
    assert places.max(axis=0).tolist() == [23, 33]
    pixels = [window_of(q) for q in make_sampler(labels, size=1, length=400)]
    assert {(r.start, c.start) for r, c in pixels} == {
        (r, c) for r in range(20, 24) for c in range(30, 34)
    }


def test_a_seed_gives_the_same_windows_and_every_epoch_others(labels):
    first, again = make_sampler(labels, length=20), make_sampler(labels, length=20)
    epoch = list(first)
    assert epoch == list(again)
    assert epoch != list(first)
    assert epoch != list(make_sampler(labels, length=20, generator=1))
    assert len(epoch) == len(first) == 20


def test_it_is_a_random_sampler_of_torchgeo(labels):
    sampler = make_sampler(labels)
    assert sampler.strategy == "random"
    assert sampler.res == (30, 30)


def test_a_window_larger_than_the_scene_begins_at_its_corner(labels):
    queries = make_sampler(labels, size=64, length=5)
    assert {window_of(q)[0].start for q in queries} == {0}
    assert all(window_of(q)[0] == slice(0, 64) for q in queries)


def test_nothing_labelled_is_an_error():
    with pytest.raises(InputError, match="no pixel is labelled"):
        make_sampler(np.zeros(SHAPE, np.uint8))


@settings(deadline=None)
@given(
    seed=st.integers(0, 1000),
    tile=st.integers(1, 40),
    halo=st.integers(0, 20),
    density=st.sampled_from([0.002, 0.05, 0.9]),
)
def test_tiles_share_out_the_labels_and_have_their_halo(seed, tile, halo, density):
    labels = (np.random.default_rng(seed).random((31, 43)) < density).astype(np.uint8)
    seen = np.zeros(labels.shape, int)
    starts = []
    for window, core in label_tiles(labels, tile=tile, halo=halo):
        part = seen[window]  # a view
        part[core] += 1
        assert labels[window][core].any()
        for w, c, extent in zip(window, core, labels.shape, strict=True):
            assert 0 <= w.start < w.stop <= extent
            assert c.start == min(halo, w.start + c.start)  # the halo, or the scene's edge
            assert (w.stop - w.start) - c.stop == min(halo, extent - (w.start + c.stop))
            assert c.stop - c.start <= tile
        starts.append((window[0].start + core[0].start, window[1].start + core[1].start))
    assert (seen[labels > 0] == 1).all()
    assert seen.max(initial=0) <= 1
    assert starts == sorted(starts)  # in the order of the file


def test_queries_of_a_fine_grid_far_from_the_origin_are_exact():
    grid = GeoBox(SHAPE, Affine(0.05, 0, 3_456_789.15, 0, -0.05, 5_400_321.4), CRS)
    labels = np.ones(SHAPE, np.uint8)
    dataset = GroundTruthDataset(np.arange(3500, dtype=np.uint16).reshape(SHAPE), grid)
    sampler = LabelledWindowSampler(dataset, labels, grid, size=7, length=200, generator=0)
    for query in sampler:
        mask = dataset[query]["mask"].numpy()
        row, column = divmod(int(mask[0, 0]), SHAPE[1])
        np.testing.assert_array_equal(mask, dataset.labels[row : row + 7, column : column + 7])
