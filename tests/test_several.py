"""Scenes of several sensors as one: stacking, common bands, and training on them."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from conftest import CRS, class_field, field_polygons
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from hsi_pipeline.checkpoint import load_checkpoint
from hsi_pipeline.classes import make_scheme
from hsi_pipeline.commands.several import (
    JoinedScenes,
    apart_on_the_ground,
    parse_wavelengths,
)
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.commands.train import train
from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import join_schemes
from hsi_pipeline.publish import open_class_map
from hsi_pipeline.publish.cube_zarr import write_cube
from hsi_pipeline.scene import open_source
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.scene.stacked import stack_rasters, stacked
from hsi_pipeline.splits import make_split
from hsi_pipeline.training import hide_bands

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

# Three covers as smooth functions of the wavelength, so that any sensor can look at them.
COVERS = {
    1: lambda nm: 0.05 * np.exp(-(((nm - 520) / 200) ** 2)) + 0.005,
    3: lambda nm: 0.04 + 0.4 / (1 + np.exp(-(nm - 715) / 20)) * np.exp(-(((nm - 900) / 900) ** 2)),
    7: lambda nm: 0.12 + 0.00006 * (nm - 400),
}
FINE = np.arange(380.0, 2521.0)
COARSE_NM = np.arange(450.0, 1700.0, 50.0)
FINE_NM = np.arange(420.0, 1760.0, 17.0)


def seen_by(classes, centers, fwhm, seed):
    """Digital numbers (band, y, x) of covers as a sensor with Gaussian bands sees them."""
    sigma = fwhm / 2.3548
    response = np.exp(-0.5 * ((FINE - centers[:, None]) / sigma) ** 2)
    response /= response.sum(1, keepdims=True)
    spectra = np.zeros((8, len(centers)))
    for code, cover in COVERS.items():
        spectra[code] = response @ cover(FINE)
    random = np.random.default_rng(seed)
    light = random.uniform(0.8, 1.2, (*classes.shape, 1))
    noisy = spectra[classes] * light + random.normal(0, 0.004, (*classes.shape, len(centers)))
    return (noisy * 10_000).round().astype(np.int16).transpose(2, 0, 1)


def write(folder, name, classes, centers, fwhm, seed, *, pixel=30.0, west=364_095.0):
    transform = Affine(pixel, 0, west, 0, -pixel, 5_809_965)
    pixels = seen_by(classes, centers, fwhm, seed)
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "dtype": "int16", "nodata": -32768, "crs": CRS}
    profile |= {"count": count, "height": height, "width": width, "transform": transform}
    with rasterio.open(folder / f"{name}.tif", "w", **profile) as raster:
        raster.write(pixels)
        raster.scales = [1e-4] * count
        for band, nm in enumerate(centers, start=1):
            raster.update_tags(band, wavelength=nm, wavelength_units="nm", fwhm=fwhm)
    labels = field_polygons(classes, transform)
    labels.to_file(folder / f"{name}.gpkg")
    return folder / f"{name}.tif", folder / f"{name}.gpkg"


@pytest.fixture(scope="module")
def sensors(tmp_path_factory):
    """A coarse and a fine sensor over different ground, with other pixels and other places."""
    folder = tmp_path_factory.mktemp("sensors")
    return (
        write(folder, "coarse", class_field(48, 40), COARSE_NM, 40.0, 1),
        write(folder, "fine", class_field(40, 56), FINE_NM, 15.0, 2, pixel=20.0, west=500_000.0),
        write(folder, "third", class_field(32, 48), np.arange(440.0, 1720.0, 30.0), 25.0, 3),
    )


OPTIONS = {"label_column": "code", "name_column": "name", "device": "cpu", "baselines": False}


def map_of(scene, model, out, **options):
    from hsi_pipeline.commands.classify import classify

    classify(scene, model, out, **options)
    return open_class_map(out)


def share_right(class_map, classes):
    found = class_map["class"].values
    return float((found == classes)[found > 0].mean())


@pytest.mark.parametrize("model", ["spectral", "random_forest"])
def test_a_model_of_two_sensors_maps_both_and_a_third(sensors, tmp_path, model):
    (coarse, coarse_labels), (fine, fine_labels), (third, _) = sensors
    card = train(
        coarse, coarse_labels, tmp_path / "m.safetensors", also=[(fine, fine_labels)],
        model=model, epochs=8 if model == "spectral" else None, **OPTIONS,
    )  # fmt: skip
    assert card.scenes == ("coarse", "fine")
    assert set(card.wavelengths.center_nm) <= set(COARSE_NM)
    assert set(card.wavelengths.fwhm_nm) == {40.0}
    for scene, shape in ((coarse, (48, 40)), (fine, (40, 56)), (third, (32, 48))):
        found = map_of(scene, tmp_path / "m.safetensors", tmp_path / f"{scene.stem}.zarr")
        assert share_right(found, class_field(*shape)) > 0.97
        wanted = "wavelength, nearest" if scene == coarse else "wavelength, gaussian"
        assert found.attrs["band_matching"] == wanted


def test_training_on_a_range_of_wavelengths(sensors, tmp_path):
    (coarse, labels), (fine, _), _ = sensors
    card = train(
        coarse, labels, tmp_path / "m.safetensors", wavelengths="500:1600:25", model="spectral",
        epochs=8, tolerance_nm=30, **OPTIONS,
    )  # fmt: skip
    assert card.bands == 45
    assert card.wavelengths.center_nm[:2] == (500.0, 525.0)
    found = map_of(fine, tmp_path / "m.safetensors", tmp_path / "fine.zarr", resampling="linear")
    assert found.attrs["band_matching"] == "wavelength, linear"
    assert share_right(found, class_field(40, 56)) > 0.9


def test_missing_bands_are_an_error_or_filled_and_said(sensors, tmp_path, capsys):
    (coarse, labels), (fine, fine_labels), _ = sensors
    model = tmp_path / "m.safetensors"
    train(coarse, labels, model, also=[(fine, fine_labels)], model="spectral", epochs=8,
          band_dropout=0.5, **OPTIONS)  # fmt: skip
    assert load_checkpoint(model)[1].training["band_dropout"] == 0.5
    gappy = FINE_NM[(FINE_NM < 900) | (FINE_NM > 1050)]
    scene, _ = write(tmp_path, "gappy", class_field(40, 56), gappy, 15.0, 5, pixel=20.0)
    with pytest.raises(
        InputError, match=r"gappy\.tif: the model needs .* of 950\.0, 1000\.0, 1050\.0 nm"
    ):
        map_of(scene, model, tmp_path / "error.zarr")
    assert not (tmp_path / "error.zarr").exists()
    for fill, words in (("interpolate", "bands_interpolated"), ("mean", "bands_absent")):
        found = map_of(scene, model, tmp_path / f"{fill}.zarr", fill_missing=fill)
        assert found.attrs[words] == "950.0, 1000.0, 1050.0"
        assert share_right(found, class_field(40, 56)) > 0.9


def test_without_a_mean_absent_bands_are_refused(sensors, tmp_path):
    (coarse, labels), _, _ = sensors
    model = tmp_path / "m.safetensors"
    train(coarse, labels, model, model="random_forest", **OPTIONS)
    scene, _ = write(tmp_path, "short", class_field(16, 16), COARSE_NM[:12], 40.0, 5)
    with pytest.raises(InputError, match=r"set to it; use --fill-missing interpolate"):
        map_of(scene, model, tmp_path / "error.zarr", fill_missing="mean")


def test_scenes_without_wavelengths_are_not_joined(sensors, tmp_path, tiny):
    (coarse, labels), _, _ = sensors
    bare = tmp_path / "bare.tif"
    with rasterio.open(coarse) as raster:
        profile, pixels = raster.profile, raster.read()
    with rasterio.open(bare, "w", **profile) as raster:
        raster.write(pixels)
    with pytest.raises(InputError, match=r"bare\.tif: the scene has no wavelengths"):
        train(coarse, labels, tmp_path / "m.safetensors", also=[(bare, labels)], **OPTIONS)


def test_labels_of_further_scenes_default_to_the_first_file(sensors, tmp_path, cli):
    (coarse, labels), (fine, fine_labels), _ = sensors
    common = [
        "train",
        coarse,
        labels,
        "--out",
        tmp_path / "m.safetensors",
        "--label-column",
        "code",
    ]
    code, _, err = cli(*common, "--also", fine)
    assert code == 2
    assert "coarse.gpkg" in err  # its polygons lie beside the second scene
    code, _, err = cli(
        *common, "--also", fine, "--also-labels", fine_labels, "--also-labels", labels
    )
    assert code == 2
    assert "1 scenes by --also, but 2 label files" in err


@pytest.mark.parametrize(
    "text", ["400", "400:500", "a:b:c", "500:400:10", "400:500:0", "1:9e9:1e-3"]
)
def test_ranges_that_are_none_are_refused(text):
    with pytest.raises(InputError, match="wavelengths"):
        parse_wavelengths(text)


def test_a_range_holds_both_ends():
    assert parse_wavelengths("400:402:0.5").center_nm == (400.0, 400.5, 401.0, 401.5, 402.0)


# --- stacking ---


def source_of(array):
    return SceneSource(
        path="a.tif", pixels=array, grid=pixel_grid(*array.shape[1:]), block=(4, 4),
        wavelengths=None, good=(True,) * len(array), band_names=("b",) * len(array),
        nodata=float("nan"), attrs={"scene_id": f"s{array.shape[1]}"},
    )  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 99))
def test_any_window_of_stacked_scenes_is_that_of_the_whole(data, seed):
    random = np.random.default_rng(seed)
    sizes = [tuple(random.integers(1, 9, 2)) for _ in range(random.integers(1, 4))]
    gap = int(random.integers(0, 4))
    arrays = [random.uniform(0, 1, (3, *size)).astype(np.float32) for size in sizes]
    source, tops = stacked([source_of(array) for array in arrays], gap)
    _, rows, columns = source.pixels.shape
    whole = np.full((3, rows, columns), np.nan, np.float32)
    row = 0
    for array, top in zip(arrays, tops, strict=True):
        assert top == row
        whole[:, row : row + array.shape[1], : array.shape[2]] = array
        row += array.shape[1] + gap
    assert rows == row - gap
    key = tuple(
        slice(*sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))))
        for n in (3, rows, columns)
    )
    np.testing.assert_array_equal(source.pixels[key], whole[key])
    labels = stack_rasters([(a[0] > 0.5).astype(np.uint8) for a in arrays], tops, (rows, columns))
    np.testing.assert_array_equal(labels, np.nan_to_num(whole[0]) > 0.5)


# --- classes of several files ---


def test_classes_match_by_name_and_new_ones_get_a_free_code():
    first = make_scheme([1, 2], {1: "water", 2: "tree"})
    second = make_scheme([1, 2, 5], {1: "soil", 2: "water", 5: "roof"})
    joined = join_schemes([first, second])
    assert dict(zip(joined.names, joined.codes, strict=True)) == {
        "water": 1, "tree": 2, "soil": 3, "roof": 5,
    }  # fmt: skip


def test_classes_without_names_match_by_code():
    joined = join_schemes([make_scheme([1, 2]), make_scheme([2, 7])])
    assert joined.codes == (1, 2, 7)


# --- hidden bands ---


def test_half_of_the_spectra_lose_a_run_of_bands_no_longer_than_the_share():
    torch.manual_seed(0)
    spectra = torch.rand(4000, 20) + 1
    mean = -torch.arange(1.0, 21.0)
    found = hide_bands(spectra, mean, 0.4)
    hidden = found < 0
    torch.testing.assert_close(found[~hidden], spectra[~hidden])
    torch.testing.assert_close(found[hidden], mean.expand(4000, 20)[hidden])
    runs = hidden.sum(1)
    assert int(runs.max()) == 8 or int(runs.max()) == 7
    assert 0.3 < float((runs > 0).float().mean()) < 0.5  # a short one may hold no band
    edges = (hidden[:, 1:] != hidden[:, :-1]).sum(1) + hidden[:, 0].int() + hidden[:, -1].int()
    assert set(edges.tolist()) == {0, 2}
    images = hide_bands(torch.rand(8, 20, 5, 5), mean, 0.9)
    assert all(
        bool((images[i, b] < 0).all()) or bool((images[i, b] >= 0).all())
        for i in range(8) for b in range(20)
    )  # fmt: skip


def test_a_share_that_is_none_is_refused(sensors, tmp_path):
    (coarse, labels), _, _ = sensors
    with pytest.raises(InputError, match="band dropout is 1"):
        train(coarse, labels, tmp_path / "m.safetensors", band_dropout=1.0, **OPTIONS)


# --- the same ground in several scenes ---


def joined_of(grids, gap=3):
    arrays = [np.ones((1, *grid.shape), np.float32) for grid in grids]
    source, tops = stacked([source_of(array) for array in arrays], gap)
    return JoinedScenes(source=source, truth=None, grids=tuple(grids), tops=tops)


@pytest.mark.parametrize("pixel", [10, 30, 70])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32634"])
def test_training_pixels_that_show_validation_ground_of_another_scene_are_left_out(pixel, crs):
    first = GeoBox((40, 50), Affine(30, 0, 500_000, 0, -30, 5_800_000), "EPSG:32633")
    west, north = Transformer.from_crs(32633, crs, always_xy=True).transform(500_300, 5_799_700)
    second = GeoBox((30, 30), Affine(pixel, 0, west, 0, -pixel, north), crs)
    joined = joined_of([first, second])
    shape = joined.source.pixels.shape[1:]
    train, validation = np.zeros(shape, bool), np.zeros(shape, bool)
    train[joined.place(0)] = True
    validation[joined.place(1)][10:14, 8:13] = True
    labels = (train | validation).astype(np.uint8)
    guard = 2
    split = replace(make_split(labels, train, validation, guard), guard_px=guard)
    found = apart_on_the_ground(split, labels, joined)
    back = Transformer.from_crs(crs, 32633, always_xy=True)
    rows, columns = np.nonzero(validation[joined.place(1)])
    x, y = back.transform(*(second.affine @ (columns + 0.5, rows + 0.5)))
    column, row = ~first.affine @ (np.array(x), np.array(y))
    kept_rows, kept_columns = np.nonzero(found.train[joined.place(0)])
    distance = np.maximum(
        np.abs(kept_rows[:, None] + 0.5 - row), np.abs(kept_columns[:, None] + 0.5 - column)
    ).min()
    assert distance > guard
    gone = int(train.sum() - found.train.sum())
    side = 2 * (guard + max(pixel / 60, 0.5)) + max(pixel / 30, 1) * 5
    assert 0 < gone < (side + 4) ** 2  # no more than about the place and its guard
    np.testing.assert_array_equal(found.validation, validation)


def test_scenes_apart_keep_their_split():
    grids = [
        GeoBox((20, 20), Affine(30, 0, 500_000 + 9_000 * i, 0, -30, 5_800_000), "EPSG:32633")
        for i in range(2)
    ]
    joined = joined_of(grids)
    train = np.zeros(joined.source.pixels.shape[1:], bool)
    validation = train.copy()
    train[joined.place(0)], validation[joined.place(1)] = True, True
    split = make_split((train | validation).astype(np.uint8), train, validation, 1)
    assert apart_on_the_ground(split, train.astype(np.uint8), joined) is split


def test_the_same_ground_twice_teaches_nothing_about_labels_drawn_at_random(sensors, tmp_path):
    """Before, a forest knew 100 % of such labels by heart, through the other scene."""
    (coarse, labels), _, _ = sensors
    again, _ = write(tmp_path, "again", class_field(48, 40), FINE_NM, 15.0, 9)
    polygons = gpd.read_file(labels)
    polygons["code"] = np.random.default_rng(0).permutation(np.resize([1, 3, 7], len(polygons)))
    random = tmp_path / "random.gpkg"
    polygons.to_file(random)
    card = train(
        coarse, random, tmp_path / "m.safetensors", also=[(again, random)],
        model="random_forest", **OPTIONS | {"name_column": None},
    )  # fmt: skip
    assert card.scores["validation_overall_accuracy"] < 0.7


# --- what is refused, what is said ---


def test_reflectance_and_radiance_are_not_mixed(sensors, tmp_path):
    (coarse, labels), (fine, fine_labels), _ = sensors
    stores = {}
    for name, path in (("reflectance", coarse), ("radiance", fine)):
        stores[name] = tmp_path / f"{name}.zarr"
        source = open_source(path)
        write_cube(replace(source, attrs={**source.attrs, "quantity": name}), stores[name])
    with pytest.raises(InputError, match="the scenes hold different quantities"):
        train(stores["reflectance"], labels, tmp_path / "m.safetensors",
              also=[(stores["radiance"], fine_labels)], model="spectral", **OPTIONS)  # fmt: skip
    train(stores["reflectance"], labels, tmp_path / "m.safetensors", model="spectral", epochs=1,
          **OPTIONS)  # fmt: skip
    with pytest.raises(InputError, match="holds radiance, the model was trained on reflectance"):
        map_of(stores["radiance"], tmp_path / "m.safetensors", tmp_path / "map.zarr")


def test_a_scene_without_its_scale_is_warned_of(sensors, tmp_path, capsys):
    (coarse, labels), _, _ = sensors
    model = tmp_path / "m.safetensors"
    train(coarse, labels, model, model="spectral", epochs=1, **OPTIONS)
    with rasterio.open(coarse) as raster:
        profile, pixels = raster.profile, raster.read()
        tags = [raster.tags(i) for i in raster.indexes]
    with rasterio.open(tmp_path / "raw.tif", "w", **profile) as raster:
        raster.write(pixels)
        for band, values in enumerate(tags, 1):
            raster.update_tags(band, **values)
    map_of(tmp_path / "raw.tif", model, tmp_path / "a.zarr", terminal=Terminal())
    assert "warning: its values are about" in capsys.readouterr().err
    map_of(coarse, model, tmp_path / "b.zarr", terminal=Terminal())
    assert "warning" not in capsys.readouterr().err


def test_the_same_scene_twice_is_refused(sensors, tmp_path):
    (coarse, labels), _, _ = sensors
    with pytest.raises(InputError, match="is given twice"):
        train(coarse, labels, tmp_path / "m.safetensors", also=[(coarse, labels)], **OPTIONS)


def test_bands_that_a_scene_lacks_are_left_out_of_a_range_and_said(sensors, tmp_path, capsys):
    (coarse, labels), _, _ = sensors
    card = train(
        coarse, labels, tmp_path / "m.safetensors", wavelengths="350:1700:50", model="spectral",
        epochs=1, terminal=Terminal(), **OPTIONS,
    )  # fmt: skip
    assert card.wavelengths.center_nm == tuple(np.arange(450.0, 1700.0, 50.0))
    assert "left out, not all scenes have them: 350.0, 400.0, 1700.0 nm" in capsys.readouterr().err


def test_a_scene_without_usable_labels_is_left_out(sensors, tmp_path, capsys):
    (coarse, labels), (fine, fine_labels), _ = sensors
    with rasterio.open(fine) as raster:
        profile, tags = raster.profile, [raster.tags(i) for i in raster.indexes]
    with rasterio.open(tmp_path / "empty.tif", "w", **profile) as raster:
        for band, values in enumerate(tags, 1):
            raster.write(np.full((profile["height"], profile["width"]), -32768, "int16"), band)
            raster.update_tags(band, **values)
    train(coarse, labels, tmp_path / "m.safetensors", also=[(tmp_path / "empty.tif", fine_labels)],
          model="spectral", epochs=1, terminal=Terminal(), **OPTIONS)  # fmt: skip
    assert "left out: " in capsys.readouterr().err


def test_band_dropout_is_for_networks(sensors, tmp_path):
    (coarse, labels), _, _ = sensors
    with pytest.raises(InputError, match="band dropout is for networks, random_forest is"):
        train(coarse, labels, tmp_path / "m.safetensors", model="random_forest", band_dropout=0.3,
              **OPTIONS)  # fmt: skip


@pytest.mark.parametrize("tolerance", [-1.0, np.nan, np.inf])
def test_a_tolerance_that_is_none_is_refused_before_training(sensors, tmp_path, tolerance):
    (coarse, labels), _, _ = sensors
    with pytest.raises(InputError, match="the tolerance is"):
        train(coarse, labels, tmp_path / "m.safetensors", tolerance_nm=tolerance, **OPTIONS)


def test_names_and_bare_codes_are_not_joined():
    with pytest.raises(InputError, match="some of the label files name their classes"):
        join_schemes([make_scheme([1, 2], {1: "water", 2: "tree"}), make_scheme([1, 2])])
