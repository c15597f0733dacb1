"""Band positions in the spectrum, and their units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hsi_pipeline.errors import InputError

_NM_PER_UNIT = {
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometers": 1.0,
    "nanometre": 1.0,
    "nanometres": 1.0,
    "um": 1000.0,
    "µm": 1000.0,  # micro sign, U+00B5
    "μm": 1000.0,  # Greek mu, U+03BC
    "micron": 1000.0,
    "microns": 1000.0,
    "micrometer": 1000.0,
    "micrometers": 1000.0,
    "micrometre": 1000.0,
    "micrometres": 1000.0,
}
_WAVENUMBER_UNITS = {"cm-1", "cm^-1", "1/cm", "wavenumber"}
_NM_PER_CM = 1.0e7
# Longest plausible micrometre value and shortest plausible nanometre value of an optical or
# thermal imaging spectrometer: a number below 100 cannot be nm, one above 100 cannot be um.
_UNIT_DIVIDE = 100.0


@dataclass(frozen=True)
class Wavelengths:
    """Centre and full width at half maximum of each band, in the file's own order.

    The order is kept because detectors overlap: EnMAP band 91 is 993 nm and band 92 is 902 nm.
    """

    center_nm: tuple[float, ...]
    """Band centres in nm, one per band."""
    fwhm_nm: tuple[float | None, ...] = ()
    """Full widths at half maximum in nm; None where the file does not say."""

    def __post_init__(self) -> None:
        """Fill missing widths and refuse impossible values."""
        if not self.fwhm_nm:
            object.__setattr__(self, "fwhm_nm", (None,) * len(self.center_nm))
        if len(self.fwhm_nm) != len(self.center_nm):
            raise InputError(
                f"{len(self.center_nm)} wavelengths but {len(self.fwhm_nm)} fwhm values; "
                "give one fwhm per band or none"
            )
        for value in self.center_nm:
            if not math.isfinite(value) or value <= 0:
                raise InputError(f"wavelength {value} nm is not a positive number")

    def __len__(self) -> int:
        """Return the number of bands."""
        return len(self.center_nm)

    def select(self, bands: Sequence[int]) -> Wavelengths:
        """Return the wavelengths of some bands, by zero-based index, in the order given."""
        return Wavelengths(
            tuple(self.center_nm[i] for i in bands), tuple(self.fwhm_nm[i] for i in bands)
        )


def to_nm(values: Sequence[float], unit: str | None) -> tuple[float, ...]:
    """Convert wavelengths to nm.

    Args:
        values: Wavelengths or, for unit cm-1, wavenumbers.
        unit: nm, um or cm-1 in any common spelling. None, "" or "unknown": the unit follows
            from the size of the numbers, since below 100 they cannot be nm and above not um.

    Returns:
        Values in nm, in the same order.

    Raises:
        InputError: The unit is not known, or a wavenumber is not positive.
    """
    name = (unit or "").strip().lower()
    if name in ("", "unknown"):
        name = "um" if values and max(values) < _UNIT_DIVIDE else "nm"
    if name in _WAVENUMBER_UNITS:
        if any(value <= 0 for value in values):
            raise InputError("wavenumbers must be positive")
        return tuple(_NM_PER_CM / value for value in values)
    if name not in _NM_PER_UNIT:
        raise InputError(f"wavelength unit {unit!r} is not known; use nm, um or cm-1")
    return tuple(value * _NM_PER_UNIT[name] for value in values)


def widths_to_nm(
    widths: Sequence[float], centers: Sequence[float], unit: str | None
) -> tuple[float, ...]:
    """Convert band widths to nm.

    A width in cm-1 depends on where it is: d(lambda) = 1e7 * d(nu) / nu^2.

    Args:
        widths: Full widths at half maximum in `unit`, one per band.
        centers: Band centres in the same unit.
        unit: As for `to_nm`.

    Returns:
        Widths in nm.
    """
    name = (unit or "").strip().lower()
    if name in _WAVENUMBER_UNITS:
        return tuple(_NM_PER_CM * w / c**2 for w, c in zip(widths, centers, strict=True))
    if name in ("", "unknown") and centers and max(centers) < _UNIT_DIVIDE:
        name = "um"
    return to_nm(widths, name if name not in ("", "unknown") else "nm")
