"""Quality flags and masks: their truth tables, and what commands make of them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from products.enmap import EXAMPLES

from hsi_pipeline.checkpoint import save_checkpoint
from hsi_pipeline.classes import make_scheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.models import build_model
from hsi_pipeline.publish import open_class_map
from hsi_pipeline.scene import open_source
from hsi_pipeline.scene.quality import (
    FLAGS,
    MASKS,
    MaskedPixels,
    QualityLayer,
    QualityLayers,
    QualityPlane,
    bit,
    check_quality_size,
    flag_shares,
    flags_of_mask,
    mask_value,
)
from hsi_pipeline.wavelengths import Wavelengths

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def test_names_of_masks():
    assert flags_of_mask("none") == ()
    assert flags_of_mask("default") == ("cloud", "cloud_shadow", "saturated", "invalid")
    assert set(flags_of_mask("strict")) == set(FLAGS) - {"water"}
    assert flags_of_mask("cloud, water") == ("cloud", "water")
    with pytest.raises(
        InputError, match="mask 'clouds' is not known; use none, default, strict, or"
    ):
        flags_of_mask("cloud,clouds")


def test_each_flag_has_its_own_bit():
    assert sum(bit(flag) for flag in FLAGS) == 2 ** len(FLAGS) - 1


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"),
    [
        ("int16", -9999.0, -9999.0),
        ("int16", None, -32768.0),
        ("uint16", None, 65535.0),
        ("uint8", 0.0, 0.0),
        ("uint16", -9999.0, 65535.0),
        ("int16", -9999.5, -32768.0),
        ("int16", 1e20, -32768.0),
        ("int16", np.nan, -32768.0),
        ("float32", -9999.0, -9999.0),
    ],
)
def test_the_value_of_masked_pixels(dtype, nodata, expected):
    assert mask_value(np.dtype(dtype), nodata) == expected
    assert np.isnan(mask_value(np.dtype("float32"), None))


def layers_of(random, shape):
    codes = random.integers(0, 4, (2, *shape)).astype(np.uint8)
    bits = random.integers(0, 8, (1, *shape)).astype(np.uint8)
    quality = QualityLayers(
        (
            QualityLayer(codes, 1, values=((1, "cirrus"), (3, "cloud"))),
            QualityLayer(codes, None, values=((2, "saturated"),)),
            QualityLayer(bits, 0, bits=((1, "haze"), (6, "cloud"))),
        )
    )
    truth = {
        "cirrus": codes[1] == 1,
        "cloud": (codes[1] == 3) | (bits[0] & 6 > 0),
        "saturated": (codes == 2).any(0),
        "haze": bits[0] & 1 > 0,
    }
    return quality, truth


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 9999), data=st.data())
def test_flags_follow_from_values_and_bits_in_any_window(seed, data):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 9, 2))
    quality, truth = layers_of(random, shape)
    assert quality.flags == ("cloud", "cirrus", "haze", "saturated")
    rows, columns = (
        slice(start := data.draw(st.integers(0, n - 1)), data.draw(st.integers(start + 1, n)))
        for n in shape
    )
    found = quality.read(rows, columns)
    for flag, where in truth.items():
        np.testing.assert_array_equal((found & bit(flag)) != 0, where[rows, columns])
    assert not (found & ~np.uint16(sum(bit(flag) for flag in truth))).any()
    np.testing.assert_array_equal(QualityPlane(quality)[rows, columns], found)
    shares = flag_shares(quality, ["cloud", "haze"])
    assert shares["cloud"] == pytest.approx(truth["cloud"].mean())
    assert shares["any"] == pytest.approx((truth["cloud"] | truth["haze"]).mean())


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 9999), dtype=st.sampled_from(["int16", "uint16", "float32"]))
def test_masked_pixels_hold_nodata_in_all_bands(seed, dtype):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 9, 2))
    quality, truth = layers_of(random, shape)
    pixels = random.integers(0, 100, (3, *shape)).astype(dtype)
    pixels.flags.writeable = False  # as of a memory map
    nodata = mask_value(pixels.dtype, None)
    masked = MaskedPixels(pixels, quality, bit("cloud") | bit("haze"), nodata)
    gone = truth["cloud"] | truth["haze"]
    expected = np.where(gone, np.array(nodata, dtype), pixels)
    np.testing.assert_array_equal(masked[:, :, :], expected)
    np.testing.assert_array_equal(masked[::-1, ::2, 0], expected[::-1, ::2, 0])
    assert masked[:, :, :].dtype == pixels.dtype


def test_a_layer_of_another_size_is_refused_by_name():
    with pytest.raises(InputError, match=r"p: the quality layer cloud has 3 x 4 pixels, .* 3 x 5"):
        check_quality_size("p", "cloud", (3, 4), (3, 5))


# --- commands ---


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    writer = next(iter(EXAMPLES.values()))
    return writer(tmp_path_factory.mktemp("enmap"))


@pytest.fixture(scope="module")
def untrained(product, tmp_path_factory):
    """A model of the product's good bands, with weights as they come."""
    source = open_source(product.path)
    good = np.flatnonzero(source.good)
    wavelengths = source.wavelengths.select(good)
    torch.manual_seed(0)
    network = build_model("spectral", len(good), 2)
    network.band_mean.fill_(0.3)
    card = ModelCard(
        architecture="spectral", settings={}, bands=len(good), wavelengths=wavelengths,
        tolerance_nm=5.0, classes=make_scheme([1, 2]), halo=0, scenes=("a",), seed=0, version="0",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_checkpoint(path, network.eval(), card)
    return path


@pytest.mark.parametrize("mask", [*MASKS, "cloud,snow"])
def test_masked_pixels_are_nodata_in_the_map_and_their_share_is_told(
    product, untrained, tmp_path, cli, mask
):
    out = tmp_path / "map.zarr"
    code, _, err = cli("classify", product.path, untrained, "--out", out, "--mask", mask)
    assert code == 0
    found = open_class_map(out)
    flags = [flag for flag in flags_of_mask(mask) if flag in product.flags]
    gone = np.zeros(product.reflectance.shape[1:], bool)
    for flag in flags:
        gone |= product.flags[flag]
    good = np.flatnonzero(open_source(product.path).good)
    nodata = np.isnan(product.reflectance[good]).any(0)
    np.testing.assert_array_equal(found["class"].values == 0, gone | nodata)
    assert found.attrs.get("mask", "") == ", ".join(f for f in FLAGS if f in flags)
    if flags:
        assert f"{gone.mean():.1%} of the pixels in all" in err
        assert f"cloud {product.flags['cloud'].mean():.1%}" in err
    else:
        assert "masked as nodata" not in err


def test_an_unknown_mask_is_refused_before_anything_is_read(product, untrained, tmp_path, cli):
    code, _, err = cli(
        "classify", product.path, untrained, "--out", tmp_path / "m.zarr", "--mask", "clowds"
    )
    assert code == 2
    assert "mask 'clowds' is not known" in err


def test_info_names_sensor_level_time_clouds_and_quality(product, cli):
    code, out, _ = cli("info", product.path)
    assert code == 0
    assert "sensor    EnMAP L2A reflectance" in out
    assert "acquired  2022-06-12T10:57:35.160668Z" in out
    assert "as the product says" in out
    assert f"cloud {product.flags['cloud'].mean():.1%}" in out
    assert "bad bands 1" in out


def test_evaluate_leaves_masked_pixels_out(product, untrained, tmp_path, cli):
    import geopandas as gpd
    from shapely.geometry import box

    left, bottom, right, top = product.grid.boundingbox
    labels = gpd.GeoDataFrame(
        {"code": [1]}, geometry=[box(left, bottom, right, top)], crs=str(product.grid.crs)
    )
    labels.to_file(tmp_path / "labels.gpkg")
    pixels = {}
    for mask in ("none", "default"):
        out = tmp_path / f"{mask}.json"
        code, _, _ = cli("evaluate", product.path, tmp_path / "labels.gpkg", untrained,
                         "--label-column", "code", "--mask", mask, "--out", out)  # fmt: skip
        assert code == 0
        pixels[mask] = json.loads(out.read_text())["pixels"]
    good = np.flatnonzero(open_source(product.path).good)
    valid = ~np.isnan(product.reflectance[good]).any(0)
    gone = np.zeros(valid.shape, bool)
    for flag in MASKS["default"]:
        gone |= product.flags.get(flag, False)
    assert pixels == {"none": valid.sum(), "default": (valid & ~gone).sum()}


def test_wavelengths_of_the_example_are_not_ascending(product):
    """So that the tests above see overlapping detectors."""
    assert list(product.center_nm) != sorted(product.center_nm)
    assert isinstance(open_source(product.path).wavelengths, Wavelengths)
