"""Which bands of a scene a model uses, and what their values look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from hsi_pipeline.cube import WindowReader, scale_offset, valid_pixels, wavelengths_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.resampling import SpectralOperator, check_tolerance, resample
from hsi_pipeline.wavelengths import Wavelengths

_BLOCK = 256


@dataclass(frozen=True)
class BandStatistics:
    """Reflectance of each band over some pixels."""

    mean: np.ndarray
    """float32 (band,); NaN without a valid pixel."""
    std: np.ndarray
    """float32 (band,); NaN without a valid pixel."""
    valid_share: np.ndarray
    """Share of the pixels that hold a value, (band,)."""


def band_statistics(cube: xr.DataArray, pixels: np.ndarray) -> BandStatistics:
    """Compute mean and standard deviation of each band over some pixels.

    Only blocks that hold such pixels are read, one at a time.

    Args:
        cube: Scene by the cube contract.
        pixels: Which pixels, bool (y, x).

    Returns:
        Statistics of all bands, in reflectance.
    """
    count = cube.sizes["band"]
    scale, offset = scale_offset(cube)
    nodata = cube.attrs["nodata"]
    reader = WindowReader(cube.data, tuple(range(count)))
    number = np.zeros(count)
    mean = np.zeros(count)
    squares = np.zeros(count)
    for window in _blocks(pixels):
        raw = reader(*window)[:, pixels[window]]
        known = np.isfinite(raw)
        if nodata is not None:
            known &= raw != nodata  # before conversion: nodata may not be exact in float32
        values = raw.astype(np.float64)
        values = np.where(known, values * scale[:, None] + offset[:, None], 0.0)
        # Chan, Golub & LeVeque (1983): joins the moments of blocks without cancellation.
        n = known.sum(1)
        m = values.sum(1) / np.maximum(n, 1)
        s = (np.where(known, values - m[:, None], 0.0) ** 2).sum(1)
        total = np.maximum(number + n, 1)
        squares += s + (m - mean) ** 2 * number * n / total
        mean += (m - mean) * n / total
        number += n
    unknown = number == 0
    std = np.sqrt(squares / np.maximum(number, 1))
    return BandStatistics(
        np.where(unknown, np.nan, mean).astype(np.float32),
        np.where(unknown, np.nan, std).astype(np.float32),
        number / max(int(pixels.sum()), 1),
    )


def valid_among(cube: xr.DataArray, pixels: np.ndarray, bands: tuple[int, ...]) -> np.ndarray:
    """Tell which of some pixels hold a value in all of some bands.

    Args:
        cube: Scene by the cube contract.
        pixels: Which pixels to look at, bool (y, x).
        bands: Zero-based bands.

    Returns:
        bool (y, x), true only where `pixels` is.
    """
    valid = np.zeros_like(pixels)
    reader = WindowReader(cube.data, bands)
    for window in _blocks(pixels):
        valid[window] = valid_pixels(reader(*window), cube.attrs["nodata"]) & pixels[window]
    return valid


def read_spectra(cube: xr.DataArray, pixels: np.ndarray, bands: tuple[int, ...]) -> np.ndarray:
    """Read the spectra of some pixels.

    Args:
        cube: Scene by the cube contract.
        pixels: Which pixels, bool (y, x); all of them hold a value in all of the bands.
        bands: Zero-based bands.

    Returns:
        Reflectance (pixel, band) float32, in the order of `pixels.nonzero()`.
    """
    chosen = list(bands)
    scale, offset = (values[chosen, None] for values in scale_offset(cube))
    rank = np.zeros(pixels.shape, np.int64)
    rank[pixels] = np.arange(pixels.sum())
    spectra = np.empty((int(pixels.sum()), len(bands)), np.float32)
    reader = WindowReader(cube.data, bands)
    for window in _blocks(pixels):
        inside = pixels[window]
        raw = reader(*window)[:, inside].astype(np.float32)
        spectra[rank[window][inside]] = (raw * scale + offset).T
    return spectra


def _blocks(pixels: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Yield the blocks of a raster that hold true pixels, row by row."""
    for row in range(0, pixels.shape[0], _BLOCK):
        for column in range(0, pixels.shape[1], _BLOCK):
            window = slice(row, row + _BLOCK), slice(column, column + _BLOCK)
            if pixels[window].any():
                yield window


def bands_to_learn_from(cube: xr.DataArray, statistics: BandStatistics) -> tuple[int, ...]:
    """Choose the bands for a new model: not marked bad, with values that vary.

    Without wavelengths all bands that are not marked bad are taken, since a scene's bands can
    then be told apart by nothing but their order.

    Args:
        cube: Scene by the cube contract.
        statistics: Statistics of its bands over the labelled pixels.

    Returns:
        Zero-based bands in the file's order.

    Raises:
        InputError: No band can be used.
    """
    good = cube["good"].values
    # A band that is nodata in most labelled pixels would make these pixels invalid. Pixels without
    # any value, beyond the swath or masked, say nothing about a band.
    most = statistics.valid_share.max(initial=0.0)
    telling = good & (statistics.valid_share > most / 2) & (statistics.std > 0)
    if not most:
        mask = cube.attrs.get("mask")
        hidden = f" under the mask ({mask}); see --mask" if mask else ""
        raise InputError(f"no labelled pixel holds a value in any band{hidden}")
    if not telling.any():
        raise InputError(
            f"none of the scene's {cube.sizes['band']} bands can be used: "
            f"{int((~good).sum())} are marked bad, the others hold nodata or one "
            "value in all labelled pixels"
        )
    usable = good if wavelengths_of(cube) is None else telling
    return tuple(int(band) for band in np.flatnonzero(usable))


def bands_for_model(
    cube: xr.DataArray,
    wavelengths: Wavelengths | None,
    count: int,
    tolerance_nm: float,
    *,
    method: str = "auto",
    fill: str = "error",
) -> SpectralOperator:
    """Find how the bands that a model needs are made of a scene's.

    Args:
        cube: Scene by the cube contract.
        wavelengths: The model's bands; None for a model trained on a scene without wavelengths.
        count: Number of the model's bands.
        tolerance_nm: Largest accepted distance in nm.
        method: As for `resampling.resample`.
        fill: As for `resampling.resample`.

    Returns:
        The operator, in the model's order of bands. Without wavelengths on either side it takes
        the scene's bands as they stand, provided that their number is the model's.

    Raises:
        InputError: Only one side has wavelengths, or bands are missing.
    """
    check_tolerance(tolerance_nm)
    found = wavelengths_of(cube)
    good = cube["good"].values.tolist()
    if wavelengths is not None and found is not None:
        return resample(wavelengths, found, good, tolerance_nm, method=method, fill=fill)
    if (wavelengths is None) != (found is None):
        side = "model" if wavelengths is None else "scene"
        raise InputError(
            f"the {side} has no wavelengths, so its bands cannot be matched; add band tags "
            "'wavelength' and 'wavelength_units' to the scene"
            + (" it was trained on and train again" if side == "model" else "")
        )
    bands = tuple(int(band) for band in np.flatnonzero(good))
    if len(bands) != count:
        raise InputError(
            f"the model was trained on {count} bands without wavelengths, the scene has "
            f"{len(bands)}; such a model fits only scenes with the same bands"
        )
    return SpectralOperator(bands)
