"""Statistics of bands against numpy, and which bands a model takes."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsi_pipeline import spectra
from hsi_pipeline.cube import make_cube, pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.spectra import (
    BandStatistics,
    band_statistics,
    bands_for_model,
    bands_to_learn_from,
    valid_among,
)
from hsi_pipeline.wavelengths import Wavelengths


def cube_of(array, *, chunks=-1, good=None, wavelengths=None, **arguments):
    bands = array.shape[0]
    return make_cube(
        da.from_array(array, chunks=chunks),
        pixel_grid(*array.shape[1:]),
        wavelengths=wavelengths,
        good=good or (True,) * bands,
        band_names=tuple(f"b{i}" for i in range(bands)),
        **arguments,
    )


def in_one_piece(array, pixels, scale, offset, nodata):
    """Mean, standard deviation and share of values by numpy, band by band."""
    result = []
    for band in array:
        values = band[pixels]
        known = values[np.isfinite(values) & (True if nodata is None else values != nodata)]
        reflectance = known.astype(np.float64) * scale + offset
        share = known.size / max(pixels.sum(), 1)
        moments = (reflectance.mean(), reflectance.std()) if known.size else (np.nan, np.nan)
        result.append((*moments, share))
    return np.array(result).T


# --- statistics ---


@pytest.fixture
def _small_blocks(monkeypatch):
    monkeypatch.setattr(spectra, "_BLOCK", 7)


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    holes=st.sampled_from([0.0, 0.2, 1.0]),
    dtype=st.sampled_from(["int16", "uint8", "float32"]),
    seed=st.integers(0, 999),
)
def test_statistics_do_not_depend_on_the_blocks(shape, share, holes, dtype, seed):
    random = np.random.default_rng(seed)
    array = random.integers(1, 200, shape).astype(dtype)
    array[random.random(shape) < holes] = 0
    if dtype == "float32":
        array[random.random(shape) < 0.1] = np.nan
    pixels = random.random(shape[1:]) < share
    found = band_statistics(cube_of(array, scale=0.01, offset=-0.2, nodata=0), pixels)
    mean, std, valid = in_one_piece(array, pixels, 0.01, -0.2, 0)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.std, std, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.valid_share, valid)
    assert found.mean.dtype == found.std.dtype == np.float32


def test_statistics_across_the_borders_of_blocks():
    array = np.random.default_rng(0).integers(0, 9999, (2, 260, 270)).astype(np.int16)
    pixels = np.zeros((260, 270), bool)
    pixels[250:258, 250:262] = True
    found = band_statistics(cube_of(array, scale=(1e-4, 2e-4)), pixels)
    chosen = array[:, pixels] * np.array([[1e-4], [2e-4]])
    np.testing.assert_allclose(found.mean, chosen.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found.std, chosen.std(1), rtol=1e-6)


@pytest.mark.usefixtures("_small_blocks")
def test_small_variations_of_large_values_are_not_lost():
    """The naive mean of squares would lose all digits."""
    array = 1e9 + np.random.default_rng(0).normal(0, 1, (1, 30, 30))
    found = band_statistics(cube_of(array), np.ones((30, 30), bool))
    np.testing.assert_allclose(found.std, array.std(), rtol=1e-5)


@pytest.mark.parametrize("nodata", [np.nan, -3.4e38, 0.1, np.inf, -9999.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nodata_of_float_scenes_is_left_out_even_if_it_is_not_exact(nodata, dtype):
    array = np.ones((2, 4, 4), dtype)
    array[0, :2] = nodata
    found = band_statistics(cube_of(array, nodata=nodata), np.ones((4, 4), bool))
    assert found.mean.tolist() == [1, 1]
    assert found.std.tolist() == [0, 0]
    assert found.valid_share.tolist() == [0.5, 1]


def test_without_pixels_nothing_is_known_and_nothing_read():
    cube = cube_of(np.ones((2, 4, 4)))
    cube.data = cube.data.map_blocks(
        lambda _: pytest.fail("pixels were read"), dtype=float, meta=np.empty((0, 0, 0))
    )
    found = band_statistics(cube, np.zeros((4, 4), bool))
    assert np.isnan(found.mean).all()
    assert np.isnan(found.std).all()
    assert found.valid_share.tolist() == [0, 0]


def test_only_blocks_with_such_pixels_are_read():
    array = np.ones((1, 600, 600), np.int16)
    read = []

    def record(block):
        read.append(block.shape)
        return block

    cube = cube_of(array, chunks=(1, 256, 256))
    cube.data = cube.data.map_blocks(record, dtype=np.int16, meta=np.empty((0, 0, 0), np.int16))
    pixels = np.zeros((600, 600), bool)
    pixels[300, 10] = pixels[599, 599] = True
    band_statistics(cube, pixels)
    assert sorted(read) == [(1, 88, 88), (1, 256, 256)]


@pytest.mark.usefixtures("_small_blocks")
@given(seed=st.integers(0, 999), bands=st.lists(st.integers(0, 3), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_valid_among_is_valid_in_all_those_bands(seed, bands):
    random = np.random.default_rng(seed)
    array = random.integers(0, 6, (4, 11, 9)).astype(np.int16)
    pixels = random.random((11, 9)) < 0.4
    found = valid_among(cube_of(array, nodata=0), pixels, tuple(bands))
    np.testing.assert_array_equal(found, pixels & (array[bands] != 0).all(0))


# --- bands to learn from ---


def statistics(std, share):
    ones = np.ones(len(std), np.float32)
    return BandStatistics(ones, np.array(std, np.float32), np.array(share))


WITH_GAPS = statistics([1, 1, 0, np.nan, 0.5, 2], [1, 1, 1, 0, 0.5, 0.51])
MARKS = (True, False, True, True, True, True)


def test_bad_constant_and_mostly_empty_bands_are_not_learnt_from():
    nm = Wavelengths((400.0, 500.0, 600.0, 700.0, 800.0, 900.0))
    cube = cube_of(np.ones((6, 2, 2)), good=MARKS, wavelengths=nm)
    assert bands_to_learn_from(cube, WITH_GAPS) == (0, 5)


def test_without_wavelengths_the_model_fits_the_scene_that_it_was_trained_on():
    cube = cube_of(np.ones((6, 2, 2)), good=MARKS)
    learnt = bands_to_learn_from(cube, WITH_GAPS)
    assert learnt == (0, 2, 3, 4, 5)
    assert bands_for_model(cube, None, len(learnt), 5.0).bands == learnt


def test_pixels_that_are_masked_in_every_band_do_not_speak_against_bands():
    cube = cube_of(np.ones((3, 2, 2)), wavelengths=Wavelengths((400.0, 500.0, 600.0)))
    assert bands_to_learn_from(cube, statistics([1, 1, 1], [0.3, 0.1, 0.3])) == (0, 2)


def test_labels_wholly_under_the_mask_are_said_to_be():
    cube = cube_of(np.ones((2, 2, 2)), wavelengths=Wavelengths((400.0, 500.0)))
    cube.attrs["mask"] = "cloud"
    with pytest.raises(InputError, match=r"holds a value in any band under the mask \(cloud\)"):
        bands_to_learn_from(cube, statistics([np.nan, np.nan], [0, 0]))


def test_a_scene_without_a_usable_band_is_refused():
    cube = cube_of(np.ones((3, 2, 2)), good=(True, False, True))
    with pytest.raises(InputError, match="none of the scene's 3 bands can be used: 1 are marked"):
        bands_to_learn_from(cube, statistics([0, 1, np.nan], [1, 1, 0]))


# --- bands for a model ---

NM = Wavelengths((418.2, 993.1, 902.3, 2445.5))


def test_bands_are_matched_by_wavelength_in_the_model_s_order():
    cube = cube_of(np.ones((4, 2, 2)), wavelengths=NM)
    assert bands_for_model(cube, Wavelengths((900.0, 418.0)), 2, 5.0, method="nearest").bands == (
        2,
        0,
    )
    assert bands_for_model(cube, NM, 4, 0.0).bands == (0, 1, 2, 3)


def test_bad_bands_are_missing_bands():
    cube = cube_of(np.ones((4, 2, 2)), wavelengths=NM, good=(True, True, False, True))
    with pytest.raises(InputError, match=r"needs 2 bands, .*within 5 nm of 900\.0 nm"):
        bands_for_model(cube, Wavelengths((900.0, 418.0)), 2, 5.0)


def test_without_wavelengths_on_both_sides_the_good_bands_are_taken_as_they_stand():
    cube = cube_of(np.ones((4, 2, 2)), good=(True, True, False, True))
    assert bands_for_model(cube, None, 3, 10.0).bands == (0, 1, 3)


def test_without_wavelengths_the_number_of_bands_must_be_the_model_s():
    cube = cube_of(np.ones((4, 2, 2)), good=(True, True, False, True))
    with pytest.raises(
        InputError, match="trained on 4 bands without wavelengths, the scene has 3; such a model"
    ):
        bands_for_model(cube, None, 4, 10.0)


def test_wavelengths_on_one_side_alone_are_refused():
    bare, known = cube_of(np.ones((4, 2, 2))), cube_of(np.ones((4, 2, 2)), wavelengths=NM)
    with pytest.raises(InputError, match=r"the scene has no wavelengths, .*add band tags"):
        bands_for_model(bare, NM, 4, 10.0)
    with pytest.raises(InputError, match=r"the model has no wavelengths, .*train again"):
        bands_for_model(known, None, 4, 10.0)


@pytest.mark.parametrize("tolerance", [-1.0, np.nan, np.inf])
def test_impossible_tolerances_are_refused(tolerance):
    cube = cube_of(np.ones((4, 2, 2)), wavelengths=NM)
    with pytest.raises(InputError, match=r"the tolerance is .* nm; it must be 0 or more"):
        bands_for_model(cube, NM, 4, tolerance)
