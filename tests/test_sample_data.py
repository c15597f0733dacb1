import csv
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.features import rasterize

from hsi_pipeline.classes import Category, ClassScheme

SAMPLE = Path(__file__).parents[1] / "sample_data"
FOLDER_LIMIT = 8e6
NODATA = -32768


@pytest.fixture(scope="module")
def scene():
    with rasterio.open(SAMPLE / "scene.tif") as file:
        yield file


@pytest.fixture(scope="module")
def numbers(scene):
    return scene.read()


@pytest.fixture(scope="module")
def wavelengths(scene):
    return np.array([float(scene.tags(band)["wavelength"]) for band in scene.indexes])


@pytest.fixture(scope="module")
def good(scene):
    return np.array([scene.tags(band)["bbl"] == "1" for band in scene.indexes])


@pytest.fixture(scope="module")
def polygons(scene):
    """Training and test polygons on the grid of the scene."""
    return {
        name: gpd.read_file(SAMPLE / f"{name}.gpkg", layer=name).to_crs(scene.crs)
        for name in ("train", "test")
    }


def burn(frame, scene):
    shapes = zip(frame.geometry, frame.class_id, strict=True)
    return rasterize(shapes, out_shape=scene.shape, transform=scene.transform, dtype="uint8")


def test_folder_stays_small():
    files = [path for path in SAMPLE.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < FOLDER_LIMIT


def test_scene_is_int16_at_30_m_in_utm(scene):
    assert scene.shape == (160, 160)
    assert 100 <= scene.count <= 130
    assert scene.crs.to_epsg() == 32633
    assert scene.res == (30.0, 30.0)
    assert set(scene.dtypes) == {"int16"}
    assert scene.nodata == NODATA
    assert set(scene.scales) == {0.0001}
    assert set(scene.offsets) == {0.0}
    assert scene.tags()["start_time"].startswith("2024-07-14T")


def test_scene_is_tiled_and_compressed(scene):
    tags = scene.tags(ns="IMAGE_STRUCTURE")
    assert scene.block_shapes[0] == (64, 64)
    assert tags["COMPRESSION"] == "DEFLATE"
    assert tags["PREDICTOR"] == "2"


def test_detectors_overlap_and_wavelengths_are_not_monotonic(wavelengths):
    (swir_start,) = np.flatnonzero(np.diff(wavelengths) < 0) + 1
    vnir, swir = wavelengths[:swir_start], wavelengths[swir_start:]
    assert vnir[0] == 420
    assert swir[0] < vnir[-1] < 1000
    assert swir[0] > 900
    assert 2400 < swir[-1] < 2450
    assert (vnir > 900).sum() >= 3
    assert (swir < 1000).sum() >= 3


def test_band_tags_agree_in_both_domains(scene, wavelengths):
    for band, nm in zip(scene.indexes, wavelengths, strict=True):
        tags, imagery = scene.tags(band), scene.tags(band, ns="IMAGERY")
        assert tags["wavelength_units"] == "Nanometers"
        assert 5 < float(tags["fwhm"]) < 13
        assert float(imagery["CENTRAL_WAVELENGTH_UM"]) * 1000 == pytest.approx(nm)
        assert float(imagery["FWHM_UM"]) * 1000 == pytest.approx(float(tags["fwhm"]))
        assert tags["wavelength"] in scene.descriptions[band - 1]


def test_bands_in_water_vapour_are_bad_and_no_others(wavelengths, good):
    vapour = ((wavelengths > 1350) & (wavelengths < 1430)) | (
        (wavelengths > 1800) & (wavelengths < 1950)
    )
    assert (good == ~vapour).all()
    assert (~good).sum() >= 8


def test_some_bad_bands_are_empty_and_some_are_noise(numbers, good):
    empty = (numbers == NODATA).all(axis=(1, 2))
    assert 2 <= empty.sum() < (~good).sum()
    assert not (empty & good).any()
    noise = numbers[~good & ~empty]
    noise = noise[noise != NODATA]
    # No signal: the mean is 0 but for chance.
    assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(noise.size)
    assert noise.std() > 100


def test_nodata_border_is_that_of_a_turned_square(numbers, good):
    valid = numbers[good] != NODATA
    assert (valid == valid[0]).all()  # the same pixels in every band with values
    valid = valid[0]
    assert not valid[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert valid[40:120, 40:120].all()
    assert 0.65 < valid.mean() < 0.80
    # The first valid column moves steadily, by tan(12 degrees) a row, along the left border.
    rows = np.arange(40, 110)
    slope = np.polyfit(rows, valid[rows].argmax(axis=1), 1)[0]
    assert np.rad2deg(np.arctan(-slope)) == pytest.approx(12, abs=0.5)


def test_values_are_plausible_reflectances(numbers, good):
    values = numbers[good]
    reflectance = values[values != NODATA] * 0.0001
    assert reflectance.min() > -0.02
    assert reflectance.max() < 0.8
    assert 0.08 < np.median(reflectance) < 0.25


def test_classes_have_the_spectra_of_their_material(numbers, wavelengths):
    with rasterio.open(SAMPLE / "truth.tif") as file:
        truth = file.read(1)

    def mean(code, nm):
        return numbers[np.abs(wavelengths - nm).argmin(), truth == code].mean() * 0.0001

    roof, grass, crop, forest, soil, water = 1, 3, 4, 5, 6, 7
    for plant in (grass, crop, forest):
        assert mean(plant, 860) > 3 * mean(plant, 665)  # red edge
        assert mean(plant, 560) > mean(plant, 665)  # chlorophyll absorbs red, less green
    assert mean(forest, 1650) < mean(grass, 1650)  # shade between crowns
    for bare in (roof, soil):
        assert mean(bare, 1650) > mean(bare, 860) > mean(bare, 560)
    assert mean(water, 560) > mean(water, 860) > mean(water, 2200)
    assert mean(water, 860) < 0.06


def test_truth_covers_the_footprint_and_only_that(scene, numbers, good):
    with rasterio.open(SAMPLE / "truth.tif") as file:
        truth = file.read(1)
        assert (file.crs, file.transform, file.shape) == (scene.crs, scene.transform, scene.shape)
        assert file.nodata == 0
    valid = numbers[np.flatnonzero(good)[0]] != NODATA
    assert ((truth > 0) == valid).all()
    parts = np.bincount(truth[valid], minlength=8)[1:] / valid.sum()
    assert parts.min() > 0.02
    assert parts.max() < 0.5


def test_classes_are_a_scheme_that_all_files_share(polygons):
    with (SAMPLE / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scheme = ClassScheme(tuple(Category(int(r["code"]), r["name"], r["color"]) for r in rows))
    with rasterio.open(SAMPLE / "truth.tif") as file:
        assert set(np.unique(file.read(1))) == {0, *scheme.codes}
        colors = file.colormap(1)
    assert [colors[c.code][:3] for c in scheme.categories] == [c.rgb for c in scheme.categories]
    names = dict(zip(scheme.codes, scheme.names, strict=True))
    for frame in polygons.values():
        assert dict(zip(frame.class_id, frame.class_name, strict=True)) == names


def test_polygons_come_in_two_reference_systems():
    train = pyogrio.read_info(SAMPLE / "train.gpkg", layer="train")
    test = pyogrio.read_info(SAMPLE / "test.gpkg", layer="test")
    assert (train["crs"], test["crs"]) == ("EPSG:32633", "EPSG:4326")
    for info in (train, test):
        assert list(info["fields"]) == ["class_id", "class_name"]
        assert info["geometry_type"] == "Polygon"


def test_polygons_are_simple_and_many_enough(polygons, scene):
    least = {"train": (5, 1500), "test": (3, 800)}
    for name, frame in polygons.items():
        per_class, pixels = least[name]
        assert frame.geometry.is_valid.all()
        assert frame.geometry.count_coordinates().between(5, 9).all()  # 4 to 8 corners, closed
        assert frame.class_id.value_counts().min() >= per_class
        assert (burn(frame, scene) > 0).sum() >= pixels


def test_training_polygons_of_a_class_lie_in_different_places(polygons, scene):
    for _, frame in polygons["train"].groupby("class_id"):
        left, bottom, right, top = frame.total_bounds
        assert max(right - left, top - bottom) > 0.4 * scene.width * scene.res[0]


def test_training_and_test_polygons_are_five_pixels_apart(polygons):
    train, test = polygons["train"].union_all(), polygons["test"].union_all()
    assert train.distance(test) > 5 * 30


def test_polygons_do_not_overlap(polygons):
    for frame in polygons.values():
        assert frame.union_all().area == pytest.approx(frame.area.sum())


def test_labels_lie_on_pixels_and_are_nearly_all_true(polygons, scene):
    with rasterio.open(SAMPLE / "truth.tif") as file:
        truth = file.read(1)
    for frame in polygons.values():
        labels = burn(frame, scene)
        labelled = labels > 0
        assert (truth[labelled] > 0).all()
        assert (truth[labelled] == labels[labelled]).mean() > 0.97


@pytest.fixture(scope="module")
def remade(tmp_path_factory):
    pytest.importorskip("prosail", reason="the spectral models need prosail")
    folder = tmp_path_factory.mktemp("sample")
    program = [sys.executable, SAMPLE / "make_sample.py", "--out", folder]
    subprocess.run(program, check=True, capture_output=True, timeout=300)
    return folder


def test_the_program_makes_the_shipped_scene(remade, numbers):
    with rasterio.open(remade / "scene.tif") as file:
        made = file.read()
    assert ((made == NODATA) == (numbers == NODATA)).all()
    # Other library versions may round another way.
    assert np.abs(made.astype(int) - numbers).max() <= 1


def test_the_program_makes_the_shipped_labels(remade, polygons, scene):
    assert (remade / "classes.csv").read_bytes() == (SAMPLE / "classes.csv").read_bytes()
    with rasterio.open(remade / "truth.tif") as made, rasterio.open(SAMPLE / "truth.tif") as ours:
        assert (made.read(1) == ours.read(1)).all()
    for name, frame in polygons.items():
        made = gpd.read_file(remade / f"{name}.gpkg").to_crs(scene.crs)
        assert (made.class_id == frame.class_id).all()
        assert made.geometry.geom_equals_exact(frame.geometry, tolerance=0.01).all()
