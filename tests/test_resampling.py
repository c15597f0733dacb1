"""Resampling by wavelength: truths of the operators, their oracles, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from hsi_pipeline.errors import InputError
from hsi_pipeline.resampling import common_wavelengths, operator_of, resample
from hsi_pipeline.wavelengths import Wavelengths

REAL = Path(__file__).parents[1].parent / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real scenes at {REAL.name}/")

OVERLAPPING = Wavelengths(
    (418.2, 705.0, 993.1, 902.3, 993.3, 2445.5), (6.5, 7.0, 9.4, 11.0, 11.6, 7.0)
)
ALL = (True,) * 6


def match_bands(wanted, found, usable, tolerance_nm):
    return resample(wanted, found, usable, tolerance_nm, method="nearest").bands


def full_matrix(operator, count):
    """Return the weights (wanted band, scene band) with zeros for bands that are not read."""
    matrix = np.zeros((operator.count, count))
    rows = np.arange(operator.count)
    if operator.matrix is None:
        matrix[rows, list(operator.bands)] = 1
    else:
        matrix[:, list(operator.bands)] = operator.matrix
    return matrix


def ramp(start, stop, step, fwhm=None):
    centers = np.arange(start, stop, step)
    return Wavelengths(tuple(centers.tolist()), (fwhm,) * len(centers))


# Centres and widths about those of the sensors: two detectors, the second begins below the end
# of the first.
def sensor(vnir, swir):
    centers, widths = [], []
    for start, stop, first, last, ratio in (vnir, swir):
        center, span = start, stop - start
        while center < stop:
            step = first + (last - first) * (center - start) / span
            centers.append(round(center, 2))
            widths.append(round(step * ratio, 2))
            center += step
    return Wavelengths(tuple(centers), tuple(widths))


ENMAP = sensor((418.2, 996, 4.8, 8.2, 1.15), (902, 2445, 11.8, 7.6, 1.0))
PRISMA = sensor((402.4, 978, 8.4, 10.5, 1.2), (943, 2497, 10.8, 6.8, 1.15))

# --- nearest ---


def test_each_wavelength_takes_the_nearest_band_wherever_it_stands():
    wanted = Wavelengths((900.0, 2446.0, 420.0))
    assert match_bands(wanted, OVERLAPPING, ALL, 5) == (3, 5, 0)


def test_where_detectors_overlap_the_nearer_centre_wins_then_the_width_then_the_order():
    at = lambda center, fwhm=None: Wavelengths((center,), (fwhm,))  # noqa: E731
    assert match_bands(at(993.25), OVERLAPPING, ALL, 5) == (4,)
    assert match_bands(at(993.0), OVERLAPPING, ALL, 5) == (2,)
    twins = Wavelengths((993.0, 993.0, 993.0), (9.4, 11.6, 11.6))
    assert match_bands(at(993.0, 11.6), twins, (True,) * 3, 5) == (1,)
    assert match_bands(at(993.0, 9.0), twins, (True,) * 3, 5) == (0,)
    assert match_bands(at(993.0), twins, (True,) * 3, 5) == (0,)


def test_bad_bands_are_never_matched_even_if_nearest():
    usable = (True, True, False, True, True, True)
    assert match_bands(Wavelengths((993.1,)), OVERLAPPING, usable, 5) == (4,)
    with pytest.raises(InputError, match=r"within 5 nm of 418\.2 nm \(absent or marked bad\)"):
        match_bands(Wavelengths((418.2,)), OVERLAPPING, (False,) * 6, 5)


def test_the_tolerance_is_inclusive():
    wanted = Wavelengths((420.25,))
    found = Wavelengths((418.25,))
    assert match_bands(wanted, found, (True,), 2) == (0,)
    with pytest.raises(InputError, match=r"within 1\.9 nm of 420\.2 nm"):
        match_bands(wanted, found, (True,), 1.9)


def test_all_missing_wavelengths_are_listed():
    wanted = Wavelengths((418.2, 1358.0, 1369.8))
    with pytest.raises(
        InputError,
        match=r"needs 3 bands, .* within 2 nm of 1358\.0, 1369\.8 nm .*raise --tolerance-nm",
    ):
        match_bands(wanted, OVERLAPPING, ALL, 2)


def test_a_long_list_of_missing_wavelengths_is_cut():
    wanted = Wavelengths(tuple(3000.0 + i for i in range(9)))
    with pytest.raises(InputError, match=r"3005\.0 and 3 more nm") as caught:
        match_bands(wanted, OVERLAPPING, ALL, 2)
    assert "3006" not in str(caught.value)


centers = st.lists(
    st.integers(4_000, 25_000).map(lambda v: v / 10), min_size=1, max_size=12, unique=True
)


@given(found=centers, wanted=centers, seed=st.randoms(use_true_random=False))
def test_the_order_of_the_scene_s_bands_does_not_matter(found, wanted, seed):
    nearest = [sorted(abs(f - w) for f in found) for w in wanted]
    assume(all(len(d) < 2 or d[1] - d[0] > 1e-6 for d in nearest))  # no ties
    order = list(range(len(found)))
    seed.shuffle(order)
    one, other = Wavelengths(tuple(found)), Wavelengths(tuple(found)).select(order)
    usable = (True,) * len(found)
    bands = match_bands(Wavelengths(tuple(wanted)), one, usable, 1e5)
    permuted = match_bands(Wavelengths(tuple(wanted)), other, usable, 1e5)
    assert one.select(bands) == other.select(permuted)
    for center, band in zip(wanted, bands, strict=True):
        assert abs(found[band] - center) == min(abs(f - center) for f in found)


@given(found=centers, seed=st.randoms(use_true_random=False))
def test_a_scene_s_own_bands_match_to_themselves(found, seed):
    order = list(range(len(found)))
    seed.shuffle(order)
    scene = Wavelengths(tuple(found))
    assert match_bands(scene.select(order), scene, (True,) * len(found), 0) == tuple(order)


# --- truths of the matrices ---

spectrometers = st.builds(
    lambda centers, width: Wavelengths(tuple(centers), (width,) * len(centers)),
    st.lists(
        st.integers(4_000, 25_000).map(lambda v: v / 10), min_size=2, max_size=40, unique=True
    ),
    st.floats(1, 300),
)


@given(
    found=spectrometers,
    wanted=spectrometers,
    method=st.sampled_from(["linear", "gaussian", "auto"]),
)
@settings(deadline=None)
def test_a_constant_spectrum_stays_constant(found, wanted, method):
    operator = resample(wanted, found, (True,) * len(found), 1e5, method=method)
    matrix = full_matrix(operator, len(found))
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-12)
    assert (matrix >= 0).all()  # so noise is never made larger
    np.testing.assert_allclose(operator.apply(np.full(len(operator.bands), 0.37)), 0.37)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize(("one", "other"), [(ENMAP, PRISMA), (PRISMA, ENMAP)])
def test_a_spectrum_that_is_a_straight_line_stays_one_away_from_the_ends(one, other, method):
    operator = resample(other, one, (True,) * len(one), 100, method=method)
    values = np.array(one.center_nm)[list(operator.bands)]
    centers = np.array(other.center_nm)
    inside = (centers > min(one.center_nm) + 30) & (centers < max(one.center_nm) - 30)
    np.testing.assert_allclose(operator.apply(values)[inside], centers[inside], atol=0.02)


def test_a_line_at_the_middle_of_two_bands_takes_half_of_each():
    found = Wavelengths((500.0, 510.0, 530.0))
    operator = resample(Wavelengths((505.0, 515.0)), found, (True,) * 3, 5, method="linear")
    assert operator.bands == (0, 1, 2)
    np.testing.assert_allclose(operator.matrix, [[0.5, 0.5, 0], [0, 0.75, 0.25]])


@pytest.mark.parametrize("wide", [12.0, 25.0, 60.0])
def test_gaussian_weights_are_the_integral_of_the_response_over_the_broken_line(wide):
    found = Wavelengths(
        tuple(np.cumsum([450.0, 3, 4, 2, 8, 5, 3, 3, 6, 4, 5, 2, 7]).tolist()), (5.0,) * 13
    )
    values = np.random.default_rng(4).uniform(0, 1, 13)
    operator = resample(Wavelengths((476.0,), (wide,)), found, (True,) * 13, 5, method="gaussian")
    nm = np.linspace(100, 900, 400_001)
    sigma = np.sqrt(wide**2 - 5.0**2) / 2.354820045
    response = np.exp(-0.5 * ((nm - 476.0) / sigma) ** 2)
    seen = trapezoid(response * np.interp(nm, found.center_nm, values), nm) / trapezoid(
        response, nm
    )
    weights = full_matrix(operator, 13)[0]
    assert weights @ values == pytest.approx(seen, abs=13e-4 if wide < 20 else 1e-3)


def test_a_band_that_is_no_wider_than_the_scene_s_is_interpolated():
    found = ramp(400, 500, 10, 12.0)
    one = resample(Wavelengths((444.0,), (12.0,)), found, (True,) * 10, 5, method="gaussian")
    other = resample(Wavelengths((444.0,)), found, (True,) * 10, 5, method="linear")
    np.testing.assert_array_equal(one.matrix, other.matrix)


@given(seed=st.integers(0, 999), method=st.sampled_from(["linear", "gaussian"]))
@settings(deadline=None, max_examples=30)
def test_the_order_of_bands_does_not_matter(seed, method):
    random = np.random.default_rng(seed)
    order = random.permutation(len(ENMAP))
    usable = random.random(len(ENMAP)) > 0.02
    one = resample(PRISMA.select(range(20, 60)), ENMAP, usable, 50, method=method)
    other = resample(
        PRISMA.select(range(20, 60)), ENMAP.select(order), usable[order], 50, method=method
    )
    np.testing.assert_allclose(
        full_matrix(one, len(ENMAP))[:, order], full_matrix(other, len(ENMAP)), atol=1e-12
    )


def smooth_spectra():
    """Spectra as smooth as vegetation, soil and water: red edge, bowls, slopes."""

    def red_edge(nm):
        return (
            0.05 + 0.4 / (1 + np.exp(-(nm - 715) / 18)) - 0.15 * np.exp(-(((nm - 1450) / 90) ** 2))
        )

    def soil(nm):
        return (
            0.1 + 0.3 * (1 - np.exp(-(nm - 350) / 600)) - 0.06 * np.exp(-(((nm - 2205) / 35) ** 2))
        )

    def water(nm):
        return 0.06 * np.exp(-(((nm - 560) / 120) ** 2)) + 0.002

    return red_edge, soil, water


def test_smooth_spectra_come_back_from_enmap_to_prisma_and_back():
    """To 0.003 at the steepest place, the red edge, and 0.0006 in the mean (root mean square)."""
    there = resample(PRISMA, ENMAP, (True,) * len(ENMAP), 100, method="gaussian")
    back = resample(ENMAP, PRISMA, (True,) * len(PRISMA), 100, method="gaussian")
    nm = np.array(ENMAP.center_nm)
    inside = (nm > 425) & (nm < 2430)
    for spectrum in smooth_spectra():
        before = spectrum(nm)
        seen = there.apply(before[list(there.bands)])
        after = back.apply(seen[list(back.bands)])
        error = (after - before)[inside]
        assert np.abs(error).max() < 0.003
        assert np.sqrt((error**2).mean()) < 0.0006


def test_the_same_bands_are_taken_as_they_are():
    for method in ("auto", "nearest", "linear", "gaussian"):
        operator = resample(ENMAP, ENMAP, (True,) * len(ENMAP), 5, method=method)
        np.testing.assert_array_equal(full_matrix(operator, len(ENMAP)), np.eye(len(ENMAP)))
        assert operator.shift_nm == 0
    assert resample(ENMAP, ENMAP, (True,) * len(ENMAP), 5).matrix is None


# --- which method, what supports a band ---


def test_auto_takes_bands_as_they_are_up_to_a_nanometre():
    found = ramp(400, 500, 10, 12.0)
    near = Wavelengths(tuple(c + 0.9 for c in found.center_nm[:4]), (12.0,) * 4)
    far = Wavelengths(tuple(c + 1.1 for c in found.center_nm[:4]), (12.0,) * 4)
    assert resample(near, found, (True,) * 10, 5).method == "nearest"
    assert resample(far, found, (True,) * 10, 5).method == "gaussian"
    assert resample(far, Wavelengths(found.center_nm), (True,) * 10, 5).method == "linear"
    assert resample(far, found, (True,) * 10, 5).shift_nm == pytest.approx(1.1)


def test_interpolation_reaches_as_far_as_a_band_is_wide_between_bands():
    found = Wavelengths((500.0, 520.0), (12.0, 12.0))
    with pytest.raises(InputError, match=r"within 5 nm of 510\.0 nm"):
        resample(Wavelengths((510.0,), (12.0,)), found, (True,) * 2, 5, method="nearest")
    operator = resample(Wavelengths((510.0,), (12.0,)), found, (True,) * 2, 5, method="linear")
    np.testing.assert_allclose(operator.matrix, [[0.5, 0.5]])
    with pytest.raises(InputError, match=r"within 5 nm, or the width of its bands, of 528\.0 nm"):
        resample(Wavelengths((528.0,), (12.0,)), found, (True,) * 2, 5, method="linear")


WITH_GAP = tuple(not 1340 < c < 1440 for c in ENMAP.center_nm)


def test_bands_in_a_gap_are_an_error_that_names_them():
    wanted = PRISMA.select([i for i, c in enumerate(PRISMA.center_nm) if 420 < c < 2430])
    words = r"of 13\d\d\.\d, .* and \d+ more nm .*--fill-missing inter"
    with pytest.raises(InputError, match=words):
        resample(wanted, ENMAP, WITH_GAP, 5)


def test_a_gap_is_interpolated_where_asked_and_said():
    wanted = PRISMA.select([i for i, c in enumerate(PRISMA.center_nm) if 420 < c < 2430])
    operator = resample(wanted, ENMAP, WITH_GAP, 5, fill="interpolate")
    filled = [wanted.center_nm[i] for i in operator.interpolated]
    assert filled
    assert all(1335 < nm < 1445 for nm in filled)
    line = operator.apply(np.array(ENMAP.center_nm)[list(operator.bands)])
    np.testing.assert_allclose(line[list(operator.interpolated)], filled, atol=0.01)
    assert operator.provenance(wanted)["bands_interpolated"].startswith(f"{filled[0]:.1f}")
    assert not any(WITH_GAP[band] is False for band in operator.bands)


def test_nothing_is_interpolated_beyond_the_ends():
    desis = ramp(402, 1000, 2.55, 3.5)
    with pytest.raises(
        InputError, match=r"they lie beyond the scene's bands: .*--fill-missing mean"
    ):
        resample(ENMAP, desis, (True,) * len(desis), 5, fill="interpolate")


def test_absent_bands_have_no_weight():
    desis = ramp(402, 1000, 2.55, 3.5)
    operator = resample(ENMAP, desis, (True,) * len(desis), 5, fill="mean")
    absent = [ENMAP.center_nm[i] for i in operator.absent]
    assert min(absent) > 1000
    assert (operator.matrix[list(operator.absent)] == 0).all()
    assert "bands_absent" in operator.provenance(ENMAP)
    with pytest.raises(InputError, match="none of the model's bands is there"):
        resample(ramp(1500, 1600, 10, 9.0), desis, (True,) * len(desis), 5, fill="mean")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"method": "cubic"}, "resampling 'cubic' is not one of auto, nearest, linear, gaussian"),
        ({"fill": "zero"}, "fill-missing 'zero' is not one of error, interpolate, mean"),
    ],
)
def test_unknown_options_are_refused(option, words):
    with pytest.raises(InputError, match=words):
        resample(ENMAP, ENMAP, (True,) * len(ENMAP), 5, **option)


def test_gaussian_needs_widths():
    with pytest.raises(InputError, match="needs the fwhm of every band"):
        resample(ramp(410, 420, 3), ramp(400, 430, 5, 5.0), (True,) * 6, 5, method="gaussian")


def test_no_usable_band_is_an_error():
    with pytest.raises(InputError, match="the model needs 6 bands"):
        resample(OVERLAPPING, OVERLAPPING, (False,) * 6, 5, method="linear")


def test_a_choice_of_bands_is_an_operator():
    operator = operator_of([3, 1])
    assert operator.bands == (3, 1)
    assert operator.count == 2
    assert operator_of(operator) is operator


# --- common grids ---


def test_common_bands_are_those_of_the_coarsest_that_all_support():
    fine, coarse = ramp(400, 1000, 2.5, 3.5), ramp(450, 1700, 10, 12.0)
    found = common_wavelengths([(fine, (True,) * len(fine)), (coarse, (True,) * len(coarse))], 5)
    assert found.center_nm[0] == 450
    assert max(found.center_nm) == 1000
    assert set(found.center_nm) <= set(coarse.center_nm)
    assert set(found.fwhm_nm) == {12.0}
    for one in (fine, coarse):
        assert resample(found, one, (True,) * len(one), 5).count == len(found)


def test_common_bands_leave_out_what_one_of_them_lacks():
    usable = (True,) * len(PRISMA)
    found = common_wavelengths([(ENMAP, WITH_GAP), (PRISMA, usable)], 5)
    assert list(found.center_nm) == sorted(found.center_nm)
    assert not any(1355 < nm < 1425 for nm in found.center_nm)
    assert any(1200 < nm < 1300 for nm in found.center_nm)
    for one, good in ((ENMAP, WITH_GAP), (PRISMA, usable)):
        assert resample(found, one, good, 5).interpolated == ()


def test_sensors_without_a_common_band_are_refused():
    one, other = ramp(400, 700, 10), ramp(900, 1700, 10)
    with pytest.raises(InputError, match="no wavelength in common within 5 nm"):
        common_wavelengths([(one, (True,) * len(one)), (other, (True,) * len(other))], 5)


# --- real sensors ---


@needs_real
def test_real_enmap_bands_give_real_prisma_bands():
    def bands(name):
        text = (REAL / "enmap_metadata" / name).read_text(encoding="utf-8")
        listed = json.loads(text)["expectedContent"]["bands"]
        pairs = {
            (float(b["spectralWavelength"]), float(b["spectralBandwidth"]))
            for b in listed
            if float(b.get("spectralWavelength", 0)) > 0
        }
        return Wavelengths(*map(tuple, zip(*sorted(pairs), strict=True)))

    enmap = bands("ENMAP01-____L2A-DT0000001049.json")
    prisma = bands("PRS_L2D_STD_20240402102837_20240402102842_0001_he5.json")
    assert len(enmap) > 2
    assert len(prisma) > 2
    inside = [
        i for i, c in enumerate(prisma.center_nm) if min(enmap.center_nm) < c < max(enmap.center_nm)
    ]
    operator = resample(
        prisma.select(inside), enmap, (True,) * len(enmap), 5, fill="interpolate", method="linear"
    )
    values = np.array(enmap.center_nm)[list(operator.bands)]
    np.testing.assert_allclose(operator.apply(values), np.array(prisma.center_nm)[inside], atol=0.5)
