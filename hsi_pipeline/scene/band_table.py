"""Reading band positions out of the texts that files keep about their bands. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from hsi_pipeline.errors import InputError
from hsi_pipeline.wavelengths import Wavelengths, to_nm, widths_to_nm

# What an optical or thermal imaging spectrometer can measure.
PLAUSIBLE_NM = (200.0, 20_000.0)

_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
_UNIT = r"(nm|nanomet(?:er|re)s?|[uµμ]m|microns?|micromet(?:er|re)s?)"
# "418.24 Nanometers", "band 1 (418.24 nm)"
_WITH_UNIT = re.compile(rf"(?<![\w.-]){_NUMBER}\s*{_UNIT}\s*\)?\s*$", re.IGNORECASE)
# "channel_0 (381.0055927)", GDAL's way to join an ENVI band name and a wavelength without unit
_IN_PARENTHESES = re.compile(rf"\(\s*{_NUMBER}\s*\)\s*$")

BandTags = Sequence[Mapping[str, str]]


def numbers(text: str) -> tuple[float, ...]:
    """Split an ENVI list such as "{ 1.0, 2.0 }" to numbers.

    Raises:
        ValueError: An entry is not a number.
    """
    return tuple(float(entry) for entry in words(text))


def words(text: str) -> tuple[str, ...]:
    """Split an ENVI list such as "{red, green}" to texts."""
    return tuple(entry.strip() for entry in text.strip().strip("{}").split(",") if entry.strip())


def in_nm(
    centers: Sequence[float], widths: Sequence[float | None], unit: str | None
) -> Wavelengths | None:
    """Convert band centres and widths to `Wavelengths`.

    Args:
        centers: Wavelengths or wavenumbers, one per band.
        widths: Full widths at half maximum in the same unit, None where unknown; or empty.
        unit: As the file says it; "Index" means that the numbers are no wavelengths.

    Returns:
        The wavelengths in nm, or None where the numbers are no wavelengths.

    Raises:
        InputError: The unit is not known, or a wavelength is not positive.
    """
    name = (unit or "").strip().lower()
    if name == "index":
        return None
    center_nm = to_nm(centers, unit)
    if name in ("", "unknown") and not all(_is_plausible(value) for value in center_nm):
        return None  # band numbers, years: nothing says that they are wavelengths
    known = [i for i, width in enumerate(widths) if width is not None and 0 < width < math.inf]
    width_nm: list[float | None] = [None] * len(center_nm)
    # Wavenumber widths need their centres, so both are converted together.
    converted = widths_to_nm(
        [widths[i] or 0.0 for i in known], [centers[i] for i in known], _unit_of(centers, unit)
    )
    for i, value in zip(known, converted, strict=True):
        width_nm[i] = value
    return Wavelengths(center_nm, tuple(width_nm))


def wavelengths_from_tags(
    bands: BandTags, imagery: BandTags, descriptions: Sequence[str | None], tags: Mapping[str, str]
) -> Wavelengths | None:
    """Find the wavelengths of a raster that GDAL opened.

    In this order, the first that every band has: the band tag `wavelength` (GDAL's ENVI reader,
    EnMAP-Box); `CENTRAL_WAVELENGTH_UM` of the domain IMAGERY, which GDAL rounds to 1 nm; the
    end of the band's description; a list in the raster's own tags.

    Args:
        bands: Tags of each band, names in lower case.
        imagery: Tags of each band in the domain IMAGERY, names in lower case.
        descriptions: Description of each band.
        tags: Tags of the raster, names in lower case.

    Returns:
        Wavelengths in the order of the bands, None where the file does not say.

    Raises:
        InputError: A unit is not known, or a wavelength is not positive.
    """
    unit = tags.get("wavelength_units")
    centers = _column(bands, "wavelength")
    if centers:
        units = [band.get("wavelength_units", unit) for band in bands]
        widths = _optional_column(bands, "fwhm")
        if len(set(units)) == 1:
            found = in_nm(centers, widths, units[0])
            return found and _with_widths(found, _optional_column(imagery, "fwhm_um"))
        return _each_in_its_unit(centers, widths, units)
    centers = _column(imagery, "central_wavelength_um")
    if centers:
        return in_nm(centers, _optional_column(imagery, "fwhm_um"), "um")
    found = wavelengths_from_descriptions(descriptions)
    if found:
        return found
    return _from_lists(tags, len(bands))


def wavelengths_from_descriptions(descriptions: Sequence[str | None]) -> Wavelengths | None:
    """Find wavelengths at the end of band descriptions.

    A number counts with a unit or, without one, in parentheses; it must be plausible, and all
    bands must have one: "Band 5", "B12" or "NDVI (2019)" are no wavelengths.

    Args:
        descriptions: Description of each band.

    Returns:
        Wavelengths, None unless every band has one.
    """
    texts = [text or "" for text in descriptions]
    named = [_WITH_UNIT.search(text) for text in texts]
    if all(named):
        center_nm = tuple(to_nm([float(m[1])], m[2])[0] for m in named if m)
    else:
        bare = [_IN_PARENTHESES.search(text) for text in texts]
        values = [m[1] for m in bare if m]
        # Years and counts have no decimals; a micrometre value is not told from a count.
        if len(values) < len(texts) or not any("." in value for value in values):
            return None
        center_nm = tuple(float(value) for value in values)
    if not center_nm or not all(_is_plausible(value) for value in center_nm):
        return None
    return Wavelengths(center_nm)


def good_bands(bands: BandTags, tags: Mapping[str, str]) -> tuple[bool, ...]:
    """Return False for bands whose `bbl` (bad band list) is 0, in band tags or a list."""
    listed = _list(tags.get("bbl"), len(bands))
    if listed and not any("bbl" in band for band in bands):
        return tuple(value != 0 for value in listed)
    return tuple(_float(band.get("bbl")) != 0 for band in bands)


def check_plausible(found: Wavelengths | None) -> None:
    """Refuse wavelengths that no imaging spectrometer has, as a wrong unit makes them.

    Raises:
        InputError: One lies beyond `PLAUSIBLE_NM`.
    """
    if found is not None and not all(_is_plausible(value) for value in found.center_nm):
        raise InputError(
            f"wavelengths of {min(found.center_nm):g} to {max(found.center_nm):g} nm are none that "
            "an imaging spectrometer measures; is their unit right?"
        )


def _is_plausible(center_nm: float) -> bool:
    return PLAUSIBLE_NM[0] <= center_nm <= PLAUSIBLE_NM[1]


def _unit_of(centers: Sequence[float], unit: str | None) -> str | None:
    """Fix the unit that `to_nm` takes for all centres, so that some of them mean the same."""
    if (unit or "").strip().lower() not in ("", "unknown"):
        return unit
    return "um" if to_nm(centers, unit) != tuple(centers) else "nm"


def _float(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _optional_column(bands: BandTags, name: str) -> list[float | None]:
    return [_float(band.get(name)) for band in bands]


def _column(bands: BandTags, name: str) -> list[float]:
    """Return a tag of every band, or nothing where a band lacks it."""
    values = [value for value in _optional_column(bands, name) if value is not None]
    return values if len(values) == len(bands) else []


def _list(text: str | None, count: int) -> tuple[float, ...]:
    """Return a list of a raster's own tags, or nothing.

    Tools that take bands out of a raster copy such lists unchanged: one that does not fit the
    number of bands is stale, not wrong.
    """
    try:
        values = numbers(text or "")
    except ValueError:
        return ()
    return values if len(values) == count else ()


def _from_lists(tags: Mapping[str, str], count: int) -> Wavelengths | None:
    centers = _list(tags.get("wavelength") or tags.get("wavelengths"), count)
    if not centers:
        return None
    return in_nm(centers, _list(tags.get("fwhm"), count), tags.get("wavelength_units"))


def _each_in_its_unit(
    centers: Sequence[float], widths: Sequence[float | None], units: Sequence[str | None]
) -> Wavelengths | None:
    bands = [in_nm([c], [w], u) for c, w, u in zip(centers, widths, units, strict=True)]
    known = [band for band in bands if band is not None]
    if len(known) < len(bands):
        return None
    return Wavelengths(
        tuple(band.center_nm[0] for band in known), tuple(band.fwhm_nm[0] for band in known)
    )


def _with_widths(found: Wavelengths, fwhm_um: Sequence[float | None]) -> Wavelengths:
    """Fill widths that the band tags lack from the domain IMAGERY."""
    if any(width is not None for width in found.fwhm_nm):
        return found
    return Wavelengths(found.center_nm, tuple(w * 1000.0 if w else None for w in fwhm_um))
