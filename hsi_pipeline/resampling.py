"""Spectra of one sensor as another would see them: linear operators, worked out by wavelength.

An operator is a matrix from a scene's bands to those that are wanted. It is applied where the
spectra are multiplied by a matrix anyway, in the first layer of a network: no pass of its own.

Interpolation takes the spectrum to be linear between the centres of a scene's usable bands, in the
order of their wavelengths: detectors that overlap are woven together. The Gaussian method gives
what a band of the wanted width would see of that spectrum: each band's response is taken to be a
Gaussian, so that a band of fwhm f is one of fwhm g < f seen through a Gaussian of fwhm
sqrt(f^2 - g^2). Weights of a wanted band sum to one: constant spectra stay as they are, and so do
spectra that are straight lines, except near the ends of the range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hsi_pipeline.band_weights import UsableBands
from hsi_pipeline.errors import InputError
from hsi_pipeline.wavelengths import Wavelengths

METHODS = ("auto", "nearest", "linear", "gaussian")
FILLS = ("error", "interpolate", "mean")
_SAME_NM = 1.0  # bands as near as this are taken for the same band: smile shifts them as much


@dataclass(frozen=True, eq=False)
class SpectralOperator:
    """How wanted bands are made of a scene's: reflectance = matrix @ reflectance of `bands`."""

    bands: tuple[int, ...]
    """Zero-based bands of the scene that are read."""
    matrix: np.ndarray | None = None
    """Weights float64 (wanted band, read band); None: the bands themselves, one for one."""
    method: str = "nearest"
    """"nearest", "linear" or "gaussian"."""
    interpolated: tuple[int, ...] = ()
    """Wanted bands without support in the scene that were interpolated across a gap."""
    absent: tuple[int, ...] = ()
    """Wanted bands without support in the scene that get the mean of the training pixels."""
    shift_nm: float = 0.0
    """Largest distance of a wanted centre from the nearest usable band, of those with support."""

    @property
    def count(self) -> int:
        """Number of wanted bands."""
        return len(self.bands) if self.matrix is None else len(self.matrix)

    def apply(self, reflectance: np.ndarray) -> np.ndarray:
        """Return the wanted bands of reflectance (band, ...), in its number type; 0 if absent."""
        if self.matrix is None:
            return reflectance
        return np.tensordot(self.matrix.astype(reflectance.dtype), reflectance, axes=1)

    def provenance(self, wanted: Wavelengths) -> dict[str, str]:
        """Return what was done in words, for the attributes of results."""
        said = {"band_matching": f"wavelength, {self.method}"}
        filled = {"bands_interpolated": self.interpolated, "bands_absent": self.absent}
        for name, bands in filled.items():
            if bands:
                said[name] = listed_nm((wanted.center_nm[i] for i in bands), most=len(bands))
        return said


def operator_of(bands: Sequence[int] | SpectralOperator) -> SpectralOperator:
    """Return an operator as it is, and a choice of bands as the operator that makes it."""
    return bands if isinstance(bands, SpectralOperator) else SpectralOperator(tuple(bands))


def resample(
    wanted: Wavelengths,
    found: Wavelengths,
    usable: Sequence[bool],
    tolerance_nm: float,
    *,
    method: str = "auto",
    fill: str = "error",
) -> SpectralOperator:
    """Find the operator from a scene's bands to wanted bands.

    A wanted band has support where the nearest usable band lies within the tolerance, or, for
    the methods that interpolate, within the fwhm of that band and not beyond the last one.

    Args:
        wanted: Bands to make, for instance a model's.
        found: The scene's bands, in any order.
        usable: One flag per band of the scene; others are never used.
        tolerance_nm: Largest accepted distance between centres, in nm.
        method: "nearest" takes the nearest band as it is; "linear" interpolates between
            neighbours; "gaussian" also widens to the fwhm of the wanted band; "auto" is nearest
            where all bands lie within 1 nm, else gaussian where widths are known, else linear.
        fill: What becomes of wanted bands without support: "error"; "interpolate" across the gap;
            "mean", for models trained with band dropout, of the training pixels.

    Returns:
        The operator.

    Raises:
        InputError: Names the wavelengths without support, or an option is not known.
    """
    for what, given, choices in (("resampling", method, METHODS), ("fill-missing", fill, FILLS)):
        if given not in choices:
            raise InputError(f"{what} {given!r} is not one of {', '.join(choices)}")
    bands = UsableBands(found, usable)
    nearest = [bands.nearest(c, w) for c, w in zip(wanted.center_nm, wanted.fwhm_nm, strict=True)]
    method = _method(method, wanted, bands, nearest, tolerance_nm)
    supported = [
        bands.support(center, band, tolerance_nm, interpolating=method != "nearest")
        for center, band in zip(wanted.center_nm, nearest, strict=True)
    ]
    missing = [i for i, there in enumerate(supported) if not there]
    inside = [i for i in missing if bands.inside(wanted.center_nm[i])]
    interpolated = inside if fill == "interpolate" else []
    absent = missing if fill == "mean" else []
    lost = sorted({*missing} - {*interpolated, *absent})
    if lost or not any(supported):
        beyond = fill == "error" and len(inside) < len(missing)
        fill = "beyond" if beyond else fill
        raise InputError(_said_missing(wanted, lost or missing, tolerance_nm, fill, method))
    shift = max(
        bands.distance(wanted.center_nm[i], nearest[i])
        for i, there in enumerate(supported)
        if there
    )
    if method == "nearest" and not missing:
        return SpectralOperator(tuple(b for b in nearest if b is not None), shift_nm=shift)
    weights = np.zeros((len(wanted), len(found)))
    for i in sorted({*range(len(wanted))} - {*absent}):
        if method == "nearest" and supported[i]:
            weights[i, nearest[i]] = 1.0
            continue
        widen = method == "gaussian" and supported[i]
        sigma = bands.extra_sigma(wanted.fwhm_nm[i], nearest[i]) if widen else 0.0
        weights[i] = bands.weights(wanted.center_nm[i], sigma)
    read = np.flatnonzero(weights.any(0))
    return SpectralOperator(
        tuple(int(band) for band in read),
        np.ascontiguousarray(weights[:, read]),
        method,
        tuple(interpolated),
        tuple(absent),
        shift,
    )


def check_tolerance(tolerance_nm: float) -> None:
    """Refuse a tolerance that is none.

    Raises:
        InputError: It is below 0, infinite or no number.
    """
    if not tolerance_nm >= 0 or math.isinf(tolerance_nm):
        raise InputError(f"the tolerance is {tolerance_nm} nm; it must be 0 or more")


def supported_by_all(
    wanted: Wavelengths, sensors: Sequence[tuple[Wavelengths, Sequence[bool]]], tolerance_nm: float
) -> Wavelengths:
    """Return the wanted bands that all of some sensors can give.

    Args:
        wanted: The bands.
        sensors: Wavelengths of each, and which bands are usable.
        tolerance_nm: As for `resample`.

    Raises:
        InputError: There is none.
    """
    usable = [UsableBands(found, good) for found, good in sensors]
    kept = [
        i
        for i, center in enumerate(wanted.center_nm)
        if all(
            bands.support(center, bands.nearest(center), tolerance_nm, interpolating=True)
            for bands in usable
        )
    ]
    if not kept:
        raise InputError(
            f"the scenes have no wavelength in common within {tolerance_nm:g} nm; train on scenes "
            "whose ranges overlap, or raise --tolerance-nm"
        )
    return wanted.select(kept)


def common_wavelengths(
    sensors: Sequence[tuple[Wavelengths, Sequence[bool]]], tolerance_nm: float
) -> Wavelengths:
    """Return a grid of wavelengths that all of some sensors can give.

    Its centres are the usable bands of the sensor whose bands are furthest apart, as far as every
    other one supports them; each is as wide as the widest band that any sensor has there, so that
    all can be brought to one resolution.

    Args:
        sensors: Wavelengths of each, and which bands are usable.
        tolerance_nm: As for `resample`.

    Returns:
        Wavelengths in ascending order; widths only where every sensor tells them.

    Raises:
        InputError: The sensors have no band in common.
    """
    usable = [UsableBands(found, good) for found, good in sensors]

    def spacing(bands: UsableBands) -> float:
        return float(np.median(np.diff(bands.center_nm))) if len(bands.center_nm) > 1 else math.inf

    coarsest = Wavelengths(tuple(max(usable, key=spacing).center_nm.tolist()))
    common = supported_by_all(coarsest, sensors, tolerance_nm)
    widths: list[float | None] = []
    for center in common.center_nm:
        nearest = [(bands, bands.nearest(center)) for bands in usable]
        there = [bands.found.fwhm_nm[band] for bands, band in nearest if band is not None]
        known = [width for width in there if width is not None]
        widths.append(max(known) if len(known) == len(usable) else None)
    return Wavelengths(common.center_nm, tuple(widths))


def _method(
    method: str,
    wanted: Wavelengths,
    bands: UsableBands,
    nearest: Sequence[int | None],
    tolerance_nm: float,
) -> str:
    """Return the method that "auto" stands for, and check the others.

    Raises:
        InputError: Widths are missing that the method needs.
    """
    widths = bands.have_widths and all(width is not None for width in wanted.fwhm_nm)
    if method == "auto":
        same = min(tolerance_nm, _SAME_NM)
        if all(
            bands.distance(center, band) <= same
            or not bands.support(center, band, tolerance_nm, interpolating=True)
            for center, band in zip(wanted.center_nm, nearest, strict=True)
        ):
            return "nearest"
        return "gaussian" if widths else "linear"
    if method == "gaussian" and not widths:
        raise InputError(
            "gaussian resampling needs the fwhm of every band, of model and scene; "
            "use --resampling linear"
        )
    return method


def _said_missing(
    wanted: Wavelengths, lost: Sequence[int], tolerance_nm: float, fill: str, method: str
) -> str:
    advice = {
        "error": "train without them, raise --tolerance-nm, or --fill-missing interpolate",
        "beyond": "some lie beyond the scene's bands: train without them, or --fill-missing mean "
        "for a model trained with band dropout",
        "interpolate": "they lie beyond the scene's bands: train without them, or --fill-missing "
        "mean for a model trained with band dropout",
        "mean": "none of the model's bands is there",
    }[fill]
    reach = "" if method == "nearest" else ", or the width of its bands,"
    return (
        f"the model needs {len(wanted)} bands, the scene has no usable band within "
        f"{tolerance_nm:g} nm{reach} of {listed_nm(wanted.center_nm[i] for i in lost)} nm "
        f"(absent or marked bad); {advice}"
    )


def listed_nm(centers: Iterable[float], most: int = 6) -> str:
    """Return wavelengths in words, "1358.0, 1369.8 and 4 more"."""
    values = list(centers)
    text = ", ".join(f"{value:.1f}" for value in values[:most])
    return text + (f" and {len(values) - most} more" if len(values) > most else "")
