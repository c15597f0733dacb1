"""Band positions: units, and matching of bands by wavelength."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hsi_pipeline.errors import InputError
from hsi_pipeline.wavelengths import Wavelengths, match_bands, to_nm, widths_to_nm

# Two detectors of EnMAP overlap: band 91 is 993 nm, band 92 is 902 nm.
OVERLAPPING = Wavelengths(
    (418.2, 886.7, 993.1, 902.3, 993.2, 2445.5), (6.5, 9.0, 9.4, 11.0, 11.6, 7)
)
ALL = (True,) * 6


# --- values ---


def test_missing_widths_are_unknown():
    found = Wavelengths((500.0, 400.0))
    assert found.fwhm_nm == (None, None)
    assert len(found) == 2
    assert found == Wavelengths((500.0, 400.0), (None, None))
    assert hash(found) == hash(Wavelengths((500.0, 400.0)))


def test_select_keeps_the_order_asked_for():
    assert OVERLAPPING.select((3, 0)) == Wavelengths((902.3, 418.2), (11.0, 6.5))


def test_a_width_count_that_is_not_the_band_count_is_refused():
    with pytest.raises(InputError, match="2 wavelengths but 1 fwhm values"):
        Wavelengths((1.0, 2.0), (1.0,))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_wavelengths_are_refused(value):
    with pytest.raises(InputError, match="is not a positive number"):
        Wavelengths((500.0, value))


# --- units ---


@pytest.mark.parametrize("unit", ["um", "µm", "μm", " Micrometers", "MICRONS", "micrometre"])
def test_micrometres(unit):
    assert to_nm((0.5, 2.5), unit) == pytest.approx((500, 2500))
    assert widths_to_nm((0.01,), (2.5,), unit) == pytest.approx((10,))


@pytest.mark.parametrize("unit", ["nm", "Nanometers", "nanometre"])
def test_nanometres(unit):
    assert to_nm((0.5, 2500), unit) == (0.5, 2500)
    assert widths_to_nm((10.0,), (2500.0,), unit) == (10.0,)


@pytest.mark.parametrize("unit", ["cm-1", "cm^-1", "1/cm", "Wavenumber"])
def test_wavenumbers_turn_the_order_and_are_not_the_wavelengths(unit):
    assert to_nm((20_000, 4_000, 1_000), unit) == pytest.approx((500, 2500, 10_000))
    # The width between the two edges, by hand: 1e7 / 3995 - 1e7 / 4005.
    width = widths_to_nm((10.0,), (4_000.0,), unit)[0]
    assert width == pytest.approx(1e7 / 3995 - 1e7 / 4005, rel=1e-5)


@pytest.mark.parametrize("unit", [None, "", "Unknown", "  "])
def test_without_a_unit_it_follows_from_the_numbers(unit):
    assert to_nm((0.4, 14.0), unit) == pytest.approx((400, 14_000))
    assert to_nm((400.0, 2500.0), unit) == (400, 2500)
    # widths alone are below 100 in both units: the centres decide
    assert widths_to_nm((0.01, 0.01), (0.4, 2.5), unit) == pytest.approx((10, 10))
    assert widths_to_nm((6.5, 10.0), (400.0, 2500.0), unit) == (6.5, 10.0)
    assert to_nm((), unit) == ()
    assert widths_to_nm((), (), unit) == ()


def test_unknown_units_and_impossible_wavenumbers_are_refused():
    with pytest.raises(InputError, match="unit 'GHz' is not known; use nm, um or cm-1"):
        to_nm((1.0,), "GHz")
    with pytest.raises(InputError, match="wavenumbers must be positive"):
        to_nm((1.0, 0.0), "cm-1")


@given(st.lists(st.floats(100, 20_000), min_size=1, max_size=9))
def test_all_units_say_the_same(values):
    for unit, of_nm in (("nm", values), ("um", [v / 1e3 for v in values])):
        assert to_nm(of_nm, unit) == pytest.approx(values, rel=1e-12)
    assert to_nm([1e7 / v for v in values], "cm-1") == pytest.approx(values, rel=1e-12)


# --- matching ---


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
