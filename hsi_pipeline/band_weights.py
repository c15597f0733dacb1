"""A scene's usable bands in the order of their wavelengths, and what they tell of the spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import erf

from hsi_pipeline.wavelengths import Wavelengths

_LEAST_WEIGHT = 1e-4  # smaller ones, of bands far away, would only mean more to read
_FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


class UsableBands:
    """Bands to make others from; detectors may overlap, equal centres count as one."""

    def __init__(self, found: Wavelengths, usable: Sequence[bool]) -> None:
        """Order the usable bands.

        Args:
            found: Wavelengths of a scene, in any order.
            usable: One flag per band.
        """
        self.found = found
        self.places = [i for i in range(len(found)) if usable[i]]
        self.center_nm = np.unique([found.center_nm[i] for i in self.places])
        at = np.searchsorted(self.center_nm, [found.center_nm[i] for i in self.places])
        self._members: list[list[int]] = [[] for _ in self.center_nm]
        for i, node in zip(self.places, at, strict=True):
            self._members[node].append(i)

    @property
    def have_widths(self) -> bool:
        """Whether the fwhm of all of them is known."""
        return all(self.found.fwhm_nm[i] is not None for i in self.places)

    def nearest(self, center: float, fwhm: float | None = None) -> int | None:
        """Return the band nearest to a wavelength; of equally near ones that with the nearest fwhm.

        None where no band is usable.
        """

        def distance(i: int) -> tuple[float, float, int]:
            width = self.found.fwhm_nm[i]
            unlike = abs(width - fwhm) if width is not None and fwhm is not None else 0.0
            return self.distance(center, i), unlike, i

        return min(self.places, key=distance, default=None)

    def distance(self, center: float, band: int | None) -> float:
        """Return how far a band's centre is from a wavelength, in nm."""
        return math.inf if band is None else abs(self.found.center_nm[band] - center)

    def inside(self, center: float) -> bool:
        """Tell whether there are bands on both sides of a wavelength, or at it."""
        nodes = self.center_nm
        return len(nodes) > 0 and bool(nodes[0] <= center <= nodes[-1])

    def support(
        self, center: float, band: int | None, tolerance_nm: float, *, interpolating: bool
    ) -> bool:
        """Tell whether the bands say what the spectrum is at a wavelength.

        Args:
            center: The wavelength in nm.
            band: The nearest band.
            tolerance_nm: How far it may be, in nm.
            interpolating: Whether a band tells of all that lies within its fwhm, where there are
                bands on both sides.
        """
        off = self.distance(center, band)
        if off <= tolerance_nm or band is None or not interpolating:
            return off <= tolerance_nm
        return self.inside(center) and off <= (self.found.fwhm_nm[band] or 0.0)

    def extra_sigma(self, fwhm: float | None, band: int | None) -> float:
        """Return the sigma in nm by which a band must be widened to be `fwhm` nm wide."""
        width = None if band is None else self.found.fwhm_nm[band]
        if fwhm is None or width is None or fwhm <= width:
            return 0.0
        return math.sqrt(fwhm**2 - width**2) / _FWHM_PER_SIGMA

    def weights(self, center: float, sigma: float = 0.0) -> np.ndarray:
        """Return the weights (band,) of what a Gaussian around a wavelength sees.

        The spectrum is linear between centres and constant beyond the last ones.

        Args:
            center: The wavelength in nm.
            sigma: Of the Gaussian, in nm; 0 gives the spectrum at the wavelength.

        Returns:
            float64, one for each band of the scene, summing to one.
        """
        nodes = self.center_nm
        if sigma > 0 and len(nodes) > 1:
            shares = _seen(nodes, center, sigma)
        else:
            shares = np.zeros(len(nodes))
            place = float(np.interp(center, nodes, np.arange(len(nodes))))
            before = min(int(place), max(len(nodes) - 2, 0))
            shares[before] = 1 - (place - before)
            if len(nodes) > 1:
                shares[before + 1] = place - before
        shares[shares < _LEAST_WEIGHT] = 0.0
        shares /= shares.sum()
        weights = np.zeros(len(self.found))
        for members, share in zip(self._members, shares, strict=True):
            weights[members] = share / len(members)
        return weights


def _seen(nodes: np.ndarray, center: float, sigma: float) -> np.ndarray:
    """Return the integral of each node's hat function times a normal density (node,).

    Over an interval [a, b] the rising hat (x - a) / (b - a) gives
    ((center - a) * (P(b) - P(a)) + sigma * (p(a) - p(b))) / (b - a), with p and P density and
    distribution of the standard normal at (x - center) / sigma.
    """
    z = (nodes - center) / sigma
    below = 0.5 * (1 + erf(z / math.sqrt(2)))
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    mass = np.diff(below)
    rising = ((center - nodes[:-1]) * mass - sigma * np.diff(density)) / np.diff(nodes)
    shares = np.zeros(len(nodes))
    shares[1:] += rising
    shares[:-1] += mass - rising
    shares[0] += below[0]
    shares[-1] += 1 - below[-1]
    return shares
