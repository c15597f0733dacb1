"""Band positions: units, and matching of bands by wavelength."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsi_pipeline.errors import InputError
from hsi_pipeline.wavelengths import Wavelengths, to_nm, widths_to_nm

# Two detectors of EnMAP overlap: band 91 is 993 nm, band 92 is 902 nm.
OVERLAPPING = Wavelengths(
    (418.2, 886.7, 993.1, 902.3, 993.2, 2445.5), (6.5, 9.0, 9.4, 11.0, 11.6, 7)
)


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
