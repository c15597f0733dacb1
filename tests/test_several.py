"""Scenes of several sensors as one: stacking, common bands, and training on them."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from conftest import CRS, class_field, field_polygons
from hypothesis import given, settings
from hypothesis import strategies as st

from hsi_pipeline.checkpoint import load_checkpoint
from hsi_pipeline.classes import make_scheme
from hsi_pipeline.commands.several import parse_wavelengths
from hsi_pipeline.commands.train import train
from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import join_schemes
from hsi_pipeline.publish import open_class_map
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.scene.stacked import stack_rasters, stacked
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
