import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.scene.block_cache import BlockCache, cached
from hsi_pipeline.scene.source import SceneSource

CUBE = np.random.default_rng(0).integers(-100, 100, (5, 23, 31), dtype=np.int16)


class CountingPixels:
    """An array in memory that remembers what was read of it."""

    shape, ndim, dtype = CUBE.shape, 3, CUBE.dtype

    def __init__(self):
        self.windows = []

    def __getitem__(self, key):
        self.windows.append(key)
        return CUBE[key]


def source(pixels, block=(8, 8)):
    return SceneSource(
        path="memory",
        pixels=pixels,
        grid=pixel_grid(*CUBE.shape[1:]),
        block=block,
        wavelengths=None,
        good=(True,) * 5,
        band_names=tuple("abcde"),
    )


def spans(size):
    return st.tuples(st.integers(0, size - 1), st.integers(1, size)).filter(lambda s: s[0] < s[1])


@given(spans(5), spans(23), spans(31), st.sampled_from([(1, 31), (8, 8), (64, 64), (5, 31)]))
def test_windows_are_those_of_the_file(bands, rows, columns, block):
    cache = BlockCache(source(CountingPixels(), block), max_bytes=2000)
    key = tuple(slice(*s) for s in (bands, rows, columns))
    np.testing.assert_array_equal(cache[key], CUBE[key])
    np.testing.assert_array_equal(cache[key], CUBE[key])  # from memory


def test_a_block_is_read_once_while_it_is_kept_and_again_when_it_was_dropped():
    pixels = CountingPixels()
    cache = BlockCache(source(pixels), max_bytes=2 * 5 * 8 * 8 * 2)  # two blocks
    first, second, third = ((slice(0, 5), slice(0, 8), slice(c, c + 8)) for c in (0, 8, 16))
    for key in (first, second, first, second):
        cache[key]
    assert len(pixels.windows) == 2
    cache[third]  # drops the one that was used longest ago
    cache[second]
    assert len(pixels.windows) == 3
    cache[first]
    assert len(pixels.windows) == 4


def test_the_cache_gives_copies_so_that_a_user_cannot_change_what_is_kept():
    cache = BlockCache(source(CountingPixels()))
    key = (slice(0, 5), slice(0, 8), slice(0, 8))
    cache[key][:] = 0
    np.testing.assert_array_equal(cache[key], CUBE[key])


def test_it_pickles_without_its_blocks():
    cache = BlockCache(source(CountingPixels()))
    empty = len(pickle.dumps(cache))
    cache[slice(0, 5), slice(0, 23), slice(0, 31)]
    assert len(pickle.dumps(cache)) < empty + 2000  # the windows that the source remembers
    again = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(
        again[slice(1, 3), slice(2, 9), slice(3, 20)], CUBE[1:3, 2:9, 3:20]
    )


def test_threads_share_it():
    cache = BlockCache(source(CountingPixels()), max_bytes=2000)
    keys = [(slice(0, 5), slice(r, r + 6), slice(c, c + 6)) for r in range(17) for c in range(25)]
    with ThreadPoolExecutor(8) as pool:
        for key, window in zip(keys, pool.map(cache.__getitem__, keys), strict=True):
            np.testing.assert_array_equal(window, CUBE[key])


@pytest.mark.parametrize("block", [(1, 31), (10**6, 10**6)])
def test_mapped_files_and_giant_blocks_are_read_straight(block):
    pixels = CountingPixels()
    assert cached(source(pixels, block)) is pixels
