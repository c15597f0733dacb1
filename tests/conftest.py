"""A tiny scene whose classes are easy to tell apart, its polygons, and a model trained on it."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from hsi_pipeline.estimators import BASELINES

CRS = "EPSG:32633"
TRANSFORM = Affine(30, 0, 364_095, 0, -30, 5_809_965)
NM = (450.0, 550.0, 650.0, 750.0, 940.0, 850.0, 1050.0, 1250.0, 1650.0, 2200.0)
BAD = 4  # index of the band at 940 nm, which is marked bad and holds nothing but noise
NODATA = -32768
NAMES = {1: "water", 3: "tree", 7: "roof"}
SPECTRA = {  # digital numbers, 10000 is a reflectance of 1
    1: (400, 380, 300, 200, 0, 150, 100, -60, 40, -30),
    3: (300, 700, 400, 3200, 0, 3900, 4000, 3800, 2000, 900),
    7: (1500, 1700, 1900, 2000, 0, 2100, 2200, 2400, 2600, 2500),
}
FIELD = 8  # side of a field in pixels; one polygon stands inside each


@pytest.fixture(autouse=True)
def _environment():
    """Give every test the variables that this process began with.

    A Dask cluster sets OMP_NUM_THREADS here too; programs that later tests start would inherit it,
    and with another number of threads sums are rounded otherwise.
    """
    with patch.dict(os.environ):
        yield


@dataclass(frozen=True)
class TinyScene:
    """A scene file, its polygons, and what they were made of."""

    path: Path
    labels: Path
    pixels: np.ndarray  # digital numbers (band, y, x)
    classes: np.ndarray  # class codes (y, x) of every pixel, nodata too
    labelled: np.ndarray  # class codes (y, x) inside polygons, 0 elsewhere
    valid: np.ndarray  # (y, x)
    grid: GeoBox


def class_field(rows, columns):
    """Return class codes (y, x): square fields, each class in turn."""
    row, column = np.indices((rows, columns)) // FIELD
    return np.array(list(SPECTRA))[(row + 2 * column) % 3].astype(np.uint8)


def make_pixels(classes, seed=0):
    """Return digital numbers (band, y, x) with noise, so that nearly every spectrum is unique."""
    rng = np.random.default_rng(seed)
    spectra = np.zeros((8, len(NM)))
    for code, spectrum in SPECTRA.items():
        spectra[code] = spectrum
    noise = rng.normal(0, 40, (*classes.shape, len(NM)))
    pixels = spectra[classes] + noise
    pixels[..., BAD] = rng.uniform(-5000, 5000, classes.shape)
    return pixels.round().astype(np.int16).transpose(2, 0, 1)


def write_scene(
    path, pixels, *, crs=CRS, transform=TRANSFORM, wavelengths=NM, nodata=NODATA, **options
):
    """Write a GeoTIFF scene, tiled by 16, reflectance by its scale."""
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "nodata": nodata, "crs": crs}
    profile |= {"count": count, "height": height, "width": width, "transform": transform}
    profile |= {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "band"} | options
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)
        raster.scales = [1e-4] * count
        for band, nm in enumerate(wavelengths or (), start=1):
            raster.update_tags(
                band, wavelength=nm, wavelength_units="Nanometers", bbl=int(nm != NM[BAD])
            )
    return path


def field_polygons(classes, transform=TRANSFORM, inset=1):
    """Return a polygon inside each field: geometry, code and name."""
    rows = []
    for row in range(0, classes.shape[0] - FIELD + 1, FIELD):
        for column in range(0, classes.shape[1] - FIELD + 1, FIELD):
            west, north = transform @ (column + inset, row + inset)
            east, south = transform @ (column + FIELD - inset, row + FIELD - inset)
            code = int(classes[row, column])
            rows.append((box(west, south, east, north), code, NAMES[code]))
    return gpd.GeoDataFrame(rows, columns=["geometry", "code", "name"], crs=CRS)


def make_tiny_scene(folder, rows=48, columns=40, seed=0):
    """Write a scene with a nodata corner, and the polygons of its fields."""
    classes = class_field(rows, columns)
    valid = np.add.outer(np.arange(rows), np.arange(columns)) > 9
    pixels = np.where(valid, make_pixels(classes, seed), NODATA).astype(np.int16)
    frame = field_polygons(classes)
    frame.to_file(folder / "labels.gpkg")
    inner = np.add.outer(np.arange(rows) % FIELD * 100, np.arange(columns) % FIELD)
    inside = (inner // 100 % (FIELD - 1) > 0) & (inner % 100 % (FIELD - 1) > 0)
    return TinyScene(
        path=write_scene(folder / "scene.tif", pixels),
        labels=folder / "labels.gpkg",
        pixels=pixels,
        classes=classes,
        labelled=np.where(inside, classes, 0).astype(np.uint8),
        valid=valid,
        grid=GeoBox((rows, columns), TRANSFORM, CRS),
    )


@pytest.fixture(autouse=True, scope="session")
def few_trees():
    """Let forests have 20 trees and one setting to tune: the same code in a tenth of the time."""
    make, grid = BASELINES["random_forest"]
    few = {"max_features": grid["max_features"]}
    BASELINES["random_forest"] = (
        lambda **settings: make(**{"n_estimators": 20, "n_jobs": 1} | settings),
        few,
    )
    yield
    BASELINES["random_forest"] = (make, grid)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Return a tiny scene; tests read it and write elsewhere."""
    return make_tiny_scene(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def model(tiny, tmp_path_factory):
    """Return the file of a spectral model trained on the tiny scene."""
    from hsi_pipeline.commands.train import train

    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    train(
        tiny.path,
        tiny.labels,
        path,
        label_column="code",
        name_column="name",
        model="spectral",
        epochs=3,
        device="cpu",
    )
    return path


@pytest.fixture
def cli(monkeypatch, capsys):
    """Return a function that runs the command line in this process: (exit code, out, err)."""
    from hsi_pipeline.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hsi-pipeline", *map(str, arguments)])
        capsys.readouterr()
        # With the program's handler, forked workers of later tests might not end when told to: it
        # raises, and where that is ignored, as in a finaliser, they go on.
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as end:
                main()
        finally:
            signal.signal(signal.SIGTERM, handler)
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return run
