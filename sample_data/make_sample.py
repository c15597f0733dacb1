"""Make the sample scene, its classes and its polygons: `python make_sample.py [--out DIR]`."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
from affine import Affine
from digitize import digitize, to_frame
from landscape import (
    CROP,
    FINE,
    FOREST,
    GRASS,
    PAVEMENT,
    ROOF,
    SIZE,
    SOIL,
    WATER,
    Canvas,
    fine_grid,
    make_landscape,
    smooth_noise,
)
from scipy.ndimage import gaussian_filter
from spectral_models import WAVELENGTH_NM, draw, spectrum

SEED = 20240714
CRS = "EPSG:32633"
TRANSFORM = Affine(30.0, 0.0, 512400.0, 0.0, -30.0, 5634000.0)
NODATA = -32768
SCALE = 0.0001
FOOTPRINT_DEGREES = 12.0
PSF_FWHM = 0.9  # of a pixel; the pixel's own area comes on top
CLASSES = {
    ROOF: ("roof", "#c0392b"),
    PAVEMENT: ("pavement", "#8c8c8c"),
    GRASS: ("grassland", "#a6d854"),
    CROP: ("crop", "#e8c547"),
    FOREST: ("forest", "#1b7837"),
    SOIL: ("bare soil", "#a6761d"),
    WATER: ("water", "#2b83ba"),
}
WANTED = {  # training and test polygons by class
    ROOF: (12, 9),
    PAVEMENT: (12, 9),
    GRASS: (18, 10),
    CROP: (30, 14),
    FOREST: (18, 10),
    SOIL: (12, 7),
    WATER: (9, 5),
}
# Water vapour: marked bad, and where the sensor sees no ground at all also without values.
BAD_NM = ((1350, 1430), (1800, 1950))
EMPTY_NM = (1850, 1920)


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description="Make the synthetic sample scene.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to fill")
    parser.add_argument("--seed", type=int, default=SEED, help="another seed, other fields")
    options = parser.parse_args()
    make_sample(options.out, options.seed)


def make_sample(folder: Path, seed: int = SEED) -> None:
    """Write scene.tif, truth.tif, classes.csv, train.gpkg and test.gpkg to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    # One stream of random numbers per step: a change in one leaves the others as they were.
    land_rng, spectra_rng, sensor_rng, polygon_rng = map(
        np.random.default_rng, np.random.SeedSequence(seed).spawn(4)
    )
    canvas = make_landscape(land_rng)
    centers, widths = band_positions()
    row, col = fine_grid()
    fine_footprint = footprint(row, col)
    valid = fine_footprint[FINE // 2 :: FINE, FINE // 2 :: FINE]
    cube = render(canvas, response(centers, widths), spectra_rng)
    write_scene(folder / "scene.tif", observe(cube, valid, centers, sensor_rng), centers, widths)
    write_truth(folder / "truth.tif", np.where(valid, dominant_class(canvas), 0))
    write_classes(folder / "classes.csv")
    train, test = digitize(canvas, fine_footprint, WANTED, polygon_rng)
    names = {code: name for code, (name, _) in CLASSES.items()}
    write_polygons(folder / "train.gpkg", to_frame(train, names, TRANSFORM, CRS))
    write_polygons(folder / "test.gpkg", to_frame(test, names, TRANSFORM, CRS).to_crs("EPSG:4326"))


def band_positions() -> tuple[np.ndarray, np.ndarray]:
    """Return centres and fwhm of the bands in nm: VNIR, then SWIR, which overlap.

    Ranges and widths are about those of EnMAP, with every second band left out.
    """
    vnir = np.cumsum(np.r_[420.0, np.linspace(10.6, 15.4, 44)])  # to 992 nm
    swir = np.cumsum(np.r_[902.0, np.linspace(23.6, 17.2, 75)])  # to 2432 nm
    widths = np.r_[np.linspace(6.8, 10.6, vnir.size), np.linspace(11.6, 8.4, swir.size)]
    return np.r_[vnir, swir].round(2), widths.round(2)


def good_bands(centers: np.ndarray) -> np.ndarray:
    """Return bool (band,), False in the water vapour bands."""
    return ~np.any([(low < centers) & (centers < high) for low, high in BAD_NM], axis=0)


def response(centers: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return the Gaussian weights (band, nm) that turn spectra at 1 nm into bands."""
    sigma = widths[:, None] / 2.3548
    weights = np.exp(-0.5 * ((WAVELENGTH_NM - centers[:, None]) / sigma) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def footprint(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Return where the scene has pixels: the largest square turned like an orbit."""
    angle = np.deg2rad(FOOTPRINT_DEGREES)
    half = SIZE / 2 / (np.cos(angle) + np.sin(angle))
    r, c = row - SIZE / 2, col - SIZE / 2
    along = r * np.cos(angle) - c * np.sin(angle)
    across = r * np.sin(angle) + c * np.cos(angle)
    return np.maximum(np.abs(along), np.abs(across)) < half


def render(canvas: Canvas, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return reflectance (band, y, x) at 30 m, each pixel a mixture of what lies in and near it.

    Args:
        canvas: The landscape.
        weights: (band, nm) as from `response`.
        rng: Source of randomness.
    """
    mean, first, second = patch_spectra(canvas, weights, rng)
    along_first = np.tanh(0.8 * smooth_noise(rng, 1.5) + 0.5 * smooth_noise(rng, 0.25))
    along_second = np.tanh(0.8 * smooth_noise(rng, 2.5) + 0.5 * smooth_noise(rng, 0.25))
    light = brightness(canvas, rng)
    where = canvas.patch_map
    cube = np.empty((len(weights), SIZE, SIZE), dtype=np.float32)
    for band in range(len(weights)):
        fine = mean[where, band] + along_first * first[where, band]
        fine = (fine + along_second * second[where, band]) * light
        blurred = gaussian_filter(fine, PSF_FWHM / 2.3548 * FINE, mode="nearest", truncate=3)
        cube[band] = blurred.reshape(SIZE, FINE, SIZE, FINE).mean(axis=(1, 3))
    return cube


def patch_spectra(
    canvas: Canvas, weights: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per patch the mean spectrum and its change along both axes, (patch, band) each."""
    spectra = np.empty((3, len(canvas.patches), len(weights)), dtype=np.float32)
    for number, patch in enumerate(canvas.patches):
        parameters = draw(patch.kind, rng)
        for axis, position in enumerate(((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))):
            spectra[axis, number] = weights @ spectrum(patch.kind, parameters, *position)
    return spectra[0], spectra[1] - spectra[0], spectra[2] - spectra[0]


def brightness(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Return the factor (y, x) of relief, crown and roof texture, and light across the swath."""
    texture = np.array([0, 0.15, 0.10, 0.06, 0.06, 0.22, 0.06, 0.03])[canvas.code_map()]
    row, col = fine_grid()
    swath = 1 + 0.025 * (col + 0.3 * row - SIZE * 0.65) / SIZE
    relief = 1 + 0.03 * smooth_noise(rng, 9)
    return (swath * relief * (1 + texture * np.tanh(smooth_noise(rng, 0.2)))).astype(np.float32)


def observe(
    cube: np.ndarray, valid: np.ndarray, centers: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Add sensor noise and gaps, and store reflectance as int16 digital numbers.

    Args:
        cube: Reflectance (band, y, x).
        valid: bool (y, x), the footprint.
        centers: Band centres in nm.
        rng: Source of randomness.
    """
    floor = np.interp(centers, (420, 500, 900, 1000, 1700, 2000, 2450), _NOISE)[:, None, None]
    # Bands of the second detector are noisier where both see the same wavelength.
    floor[int(np.argmin(np.diff(centers))) + 1 :] *= 1.2
    deviation = floor * np.sqrt(0.25 + 2.5 * np.clip(cube, 0, None))
    noisy = cube + deviation * rng.standard_normal(cube.shape)
    bad = ~good_bands(centers)
    noisy[bad] = 0.02 * rng.standard_normal(noisy[bad].shape)
    numbers = np.round(noisy / SCALE).astype(np.int16)
    numbers[(centers > EMPTY_NM[0]) & (centers < EMPTY_NM[1])] = NODATA
    numbers[:, ~valid] = NODATA
    return numbers


_NOISE = (0.0030, 0.0018, 0.0016, 0.0022, 0.0024, 0.0038, 0.0060)


def dominant_class(canvas: Canvas) -> np.ndarray:
    """Return the class code with the largest part of each pixel, uint8 (y, x)."""
    codes = canvas.code_map().reshape(SIZE, FINE, SIZE, FINE)
    parts = np.stack([(codes == code).sum(axis=(1, 3)) for code in CLASSES])
    return np.array(list(CLASSES), dtype=np.uint8)[parts.argmax(axis=0)]


def write_scene(path: Path, numbers: np.ndarray, centers: np.ndarray, widths: np.ndarray) -> None:
    """Write digital numbers and the tags of every band as EnMAP-Box and GDAL write them."""
    with rasterio.open(path, "w", **_profile(numbers), nodata=NODATA) as file:
        file.write(numbers)
        file.scales = (SCALE,) * len(numbers)
        file.update_tags(start_time="2024-07-14T10:32:08", sensor="synthetic", license="CC0-1.0")
        for band, good in enumerate(good_bands(centers), start=1):
            center, width = centers[band - 1], widths[band - 1]
            file.update_tags(
                band,
                wavelength=f"{center:.2f}",
                wavelength_units="Nanometers",
                fwhm=f"{width:.2f}",
                bbl=str(int(good)),
            )
            file.update_tags(
                band,
                ns="IMAGERY",
                CENTRAL_WAVELENGTH_UM=f"{center / 1000:.5f}",
                FWHM_UM=f"{width / 1000:.5f}",
            )
            file.set_band_description(band, f"band {band} ({center:.2f} Nanometers)")


def write_truth(path: Path, codes: np.ndarray) -> None:
    """Write the class map with its colours; 0 is outside the scene."""
    with rasterio.open(path, "w", **_profile(codes[None]), nodata=0) as file:
        file.write(codes, 1)
        colors = {code: tuple(bytes.fromhex(color[1:])) for code, (_, color) in CLASSES.items()}
        file.write_colormap(1, {0: (0, 0, 0, 0)} | colors)


def write_classes(path: Path) -> None:
    """Write the table of codes, names and colours."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("code", "name", "color"))
        writer.writerows((code, name, color) for code, (name, color) in CLASSES.items())


def write_polygons(path: Path, polygons: gpd.GeoDataFrame) -> None:
    """Write a GeoPackage with one layer named like the file, its date fixed."""
    path.unlink(missing_ok=True)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2024-07-14T00:00:00.000Z"})
    try:
        pyogrio.write_dataframe(polygons, path, layer=path.stem)
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _profile(numbers: np.ndarray) -> dict[str, object]:
    bands, height, width = numbers.shape
    return {
        "driver": "GTiff", "count": bands, "height": height, "width": width,
        "dtype": numbers.dtype, "crs": CRS, "transform": TRANSFORM, "tiled": True,
        "blockxsize": 64, "blockysize": 64, "compress": "deflate", "predictor": 2, "zlevel": 9,
        "interleave": "band",
    }  # fmt: skip


if __name__ == "__main__":
    main()
