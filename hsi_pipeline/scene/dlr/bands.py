"""Bands as the XML of a product of DLR describes them: order, wavelengths, gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.band_table import PLAUSIBLE_NM, in_nm
from hsi_pipeline.scene.xml import number_of
from hsi_pipeline.wavelengths import Wavelengths

_WIDEST_NM = 100.0  # no band of an imaging spectrometer is wider


@dataclass(frozen=True)
class BandTags:
    """Names of the elements that describe a band."""

    center: str
    """Wavelength of the centre, in nm unless its attribute `unit` says otherwise."""
    width: str
    """Full width at half maximum, in the same unit."""
    gain: str
    """Factor from digital numbers."""
    offset: str
    """Added after the gain."""


@dataclass(frozen=True)
class Bands:
    """What an XML says of the bands of an image, in the image's order."""

    wavelengths: Wavelengths
    """Centres and widths."""
    gains: tuple[float, ...]
    """Factors from digital numbers to reflectance or radiance."""
    offsets: tuple[float, ...]
    """Added after the gains."""


def in_order(bands: Sequence[tuple[str | None, Element]], name: str) -> list[Element]:
    """Return the elements of bands in the order of their numbers.

    Args:
        bands: Number and element of each.
        name: The XML, for messages.

    Raises:
        InputError: There are none, or their numbers are not consecutive.
    """
    try:
        numbered = {int(number or ""): band for number, band in bands}
    except ValueError:
        numbered = {}
    numbers = sorted(numbered)
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(bands))):
        raise InputError(
            f"{name} describes bands without consecutive numbers "
            f"({len(bands)} in specific/bandCharacterisation); it is damaged, download it again"
        )
    return [numbered[number] for number in numbers]


def read_bands(bands: Sequence[Element], tags: BandTags, name: str) -> Bands:
    """Read wavelengths and gains of bands.

    Args:
        bands: Their elements, in order.
        tags: Names of what is in them.
        name: The XML, for messages.

    Raises:
        InputError: Something is missing, no number, or not plausible.
    """
    gains = _column(bands, tags.gain, name)
    if bad := [gain for gain in gains if not gain > 0]:
        raise InputError(f"{name}: {tags.gain} is {bad[0]:g}, expected a positive number")
    return Bands(_wavelengths(bands, tags, name), gains, _column(bands, tags.offset, name))


def check_uniform(bands: Bands, name: str) -> None:
    """Check that reflectance has one gain and no offset, as DLR writes it.

    Raises:
        InputError: It has not.
    """
    if len(set(bands.gains)) > 1 or set(bands.offsets) != {0.0}:
        raise InputError(
            f"{name}: reflectance has gains {min(bands.gains):g} to {max(bands.gains):g} and "
            f"offsets {min(bands.offsets):g} to {max(bands.offsets):g}, expected one gain and "
            "offset 0; it is damaged, download it again"
        )


def check_ascending(
    center_nm: Sequence[float], detectors: Sequence[Sequence[int]], name: str
) -> None:
    """Check that wavelengths rise along each detector.

    Args:
        center_nm: Wavelengths, in nm.
        detectors: Zero-based bands of each.
        name: The XML, for messages.

    Raises:
        InputError: They do not.
    """
    for bands in detectors:
        for before, after in pairwise(bands):
            if not center_nm[before] < center_nm[after]:
                raise InputError(
                    f"{name}: wavelengths do not rise along the detector, {center_nm[before]:g} "
                    f"nm of band {before + 1} before {center_nm[after]:g} nm of band {after + 1}; "
                    "it is damaged, download it again"
                )


def _column(bands: Sequence[Element], tag: str, name: str) -> tuple[float, ...]:
    return tuple(number_of(band, tag, f"{name}: band {i}") for i, band in enumerate(bands, 1))


def _wavelengths(bands: Sequence[Element], tags: BandTags, name: str) -> Wavelengths:
    centers, widths = _column(bands, tags.center, name), _column(bands, tags.width, name)
    units = {
        element.get("unit", "nm")
        for band in bands
        for tag in (tags.center, tags.width)
        if (element := band.find(tag)) is not None
    }
    try:
        if len(units) > 1:
            raise InputError(f"wavelengths have different units ({', '.join(sorted(units))})")
        found = in_nm(centers, widths, units.pop())
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    low, high = PLAUSIBLE_NM
    for center, width in zip(*((found.center_nm, found.fwhm_nm) if found else ()), strict=True):
        if not low <= center <= high or not 0 < (width or 0) < _WIDEST_NM:
            raise InputError(
                f"{name}: a band at {center:g} nm, {width or 0:g} nm wide; expected "
                f"{low:g} to {high:g} nm, and a width below {_WIDEST_NM:g} nm"
            )
    if found is None:
        raise InputError(f"{name}: its wavelengths have the unit index, expected nm")
    return found
