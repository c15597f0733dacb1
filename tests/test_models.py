"""Networks: the published equations, exact halos, and indifference to what is invalid."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from hsi_pipeline.errors import InputError
from hsi_pipeline.models import MODELS, build_model
from hsi_pipeline.models.attention import HybridAttention
from hsi_pipeline.models.hyperloopnet import BatchNorm, HyperLoopNet
from hsi_pipeline.models.pooling import window_max, window_mean
from hsi_pipeline.models.reference import keras_initialisation, load_reference_weights

REFERENCE = Path(__file__).parents[1].parent / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"no recorded numbers of the published programs at {REFERENCE}"
)
BANDS, CLASSES = 3, 4
SMALL = {
    "hyperloopnet": {"width": 4},
    "hyperloopnet-fusion": {"width": 4},
    "hyperloopnet-no-attention": {"width": 4},
    "spectral": {},
}


def small_model(name, seed=0, **extra):
    """A small network in float64 with random weights and statistics, every ReLU half alive."""
    torch.manual_seed(seed)
    model = build_model(name, BANDS, CLASSES, **SMALL.get(name, {}), **extra).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.3),
                (module.running_var, 0.3, 2.0),
            ):
                nn.init.uniform_(tensor, low, high)
    nn.init.uniform_(model.band_mean, -0.5, 0.5)
    nn.init.uniform_(model.band_std, 0.5, 2.0)
    return model


def lively(model):
    """Make all weights positive, most in kernel corners, so that the farthest pixels count."""
    for name, weight in model.named_parameters():
        if "norm" in name:
            continue
        nn.init.uniform_(weight, *((0.0, 0.1) if weight.ndim == 1 else (0.5, 1.5)))
        if weight.ndim == 4 and weight.shape[-1] > 1:
            weight.data[..., 1:-1, :] *= 0.01
            weight.data[..., 1:-1] *= 0.01
        # a mean over inputs, and gates that do not saturate
        total = weight.data.flatten(1).sum(1).max() if weight.ndim > 1 else 1
        weight.data /= total * (10 if "channel_shared" in name else 1)
    return model


def scene(rows, columns, *, seed=0, holes=False):
    """Positive float64 reflectance (1, band, y, x) and validity (1, 1, y, x)."""
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.uniform(0.5, 3.0, (1, BANDS, rows, columns)))
    valid = torch.ones(1, 1, rows, columns, dtype=torch.float64)
    if holes:
        valid[..., : rows // 3, : columns // 4] = 0  # a border as of a rotated footprint
        valid[..., rows // 2, columns // 2 :] = 0  # a lost scan line
        valid[torch.from_numpy(random.random(valid.shape) < 0.05)] = 0
    return x, valid


@torch.no_grad()
def tiled(model, x, valid, halo, tile):
    """Score a scene tile by tile, each with a halo cut off at the scene's edge."""
    rows, columns = x.shape[2:]
    scores = torch.full((CLASSES, rows, columns), torch.nan, dtype=x.dtype)
    for row in range(0, rows, tile[0]):
        for column in range(0, columns, tile[1]):
            top, left = max(row - halo, 0), max(column - halo, 0)
            window = np.s_[..., top : row + tile[0] + halo, left : column + tile[1] + halo]
            part = model(x[window], valid[window])[0]
            core = part[:, row - top :, column - left :][:, : tile[0], : tile[1]]
            scores[:, row : row + tile[0], column : column + tile[1]] = core
    return scores


# --- the published network ---


@pytest.mark.parametrize(
    ("bands", "classes", "attention", "expected"),
    [
        (144, 15, False, 363_119),
        (204, 16, False, 369_264),
        (48, 20, False, 355_828),
        (103, 9, False, 356_873),
        (144, 15, True, 363_119 + 5_097),
        (103, 9, True, 356_873 + 5_097),
    ],
)
def test_parameter_counts_are_the_published_ones(bands, classes, attention, expected):
    model = HyperLoopNet(bands, classes, attention=attention)
    trained = sum(weight.numel() for weight in model.parameters())
    statistics = sum(
        norm.running_mean.numel() + norm.running_var.numel()
        for norm in model.modules()
        if isinstance(norm, BatchNorm)
    )
    assert statistics == 1_536
    assert trained + statistics == expected


def test_normalisation_has_the_published_constants():
    norms = [m for m in HyperLoopNet(2, 2).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 24
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def numpy_features(weights, patches, *, attention):
    """Sections 1 and 2 of the description of the network, in numpy; patches (B, y, x, band).

    Weights by name; kernels (height, width, in, out).
    """
    relu = lambda v: np.maximum(v, 0)  # noqa: E731

    def convolve(x, name):
        kernel = weights[f"{name}.kernel"].astype(np.float64)
        half = kernel.shape[0] // 2
        x = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
        windows = sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
        return np.einsum("byxihw,hwio->byxo", windows, kernel, optimize=True) + weights[
            f"{name}.bias"
        ].astype(np.float64)

    def normalise(x, name):
        gamma, beta, mean, variance = (
            weights[f"{name}.{part}"].astype(np.float64)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 0.001) + beta

    def attend(x, name):
        def shared(v):
            kernel, bias = (weights[f"{name}.channel_shared.{p}"] for p in ("kernel", "bias"))
            return relu(v @ kernel.astype(np.float64).reshape(kernel.shape[-2:]) + bias)

        peak = relu(convolve(x.max((1, 2), keepdims=True), f"{name}.channel_max"))
        mean = relu(convolve(x.mean((1, 2), keepdims=True), f"{name}.channel_mean"))
        x = x * relu(shared(peak) + shared(mean))
        where = np.concatenate([x.max(3, keepdims=True), x.mean(3, keepdims=True)], 3)
        return x * relu(convolve(where, f"{name}.spatial"))

    features = []
    for k in (3, 5, 7):

        def use(layer, norm, x, k=k):
            return normalise(relu(convolve(x, f"k{k}.L{layer}")), f"k{k}.N{norm}")

        s = relu(convolve(patches.astype(np.float64), f"k{k}.input"))
        v1 = use(1, 1, s)
        v2 = use(2, 2, s + v1)
        v3 = use(3, 3, s + v1 + v2)
        total = s + v1 + v2 + v3
        v4 = use(4, 4, attend(total, f"k{k}.attention") if attention else total)
        v1 = use(1, 5, v2 + v3 + v4)
        v2 = use(2, 6, v1 + v3 + v4)
        v3 = use(3, 7, v1 + v2 + v4)
        v4 = use(4, 8, v1 + v2 + v3)
        features += [v.mean((1, 2)) for v in (v1, v2, v3, v4)]
    return np.concatenate(features, 1)


def random_weights(*, attention, bands=3, width=4, classes=5):
    """Small random weights by the names of the recorded ones."""
    random = np.random.default_rng(7)
    half = width // 2
    weights = {}

    def layer(name, *shape):
        weights[f"{name}.kernel"] = random.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
        weights[f"{name}.bias"] = random.normal(0.1, 0.2, shape[-1])

    for k in (3, 5, 7):
        layer(f"k{k}.input", 1, 1, bands, width)
        for i in range(1, 5):
            layer(f"k{k}.L{i}", k, k, width, width)
        for i in range(1, 9):
            for part, low, high in (
                ("gamma", 0.5, 1.5),
                ("beta", -0.5, 0.5),
                ("moving_mean", -0.2, 0.5),
                ("moving_variance", 0.3, 2),
            ):
                weights[f"k{k}.N{i}.{part}"] = random.uniform(low, high, width)
        if attention:
            layer(f"k{k}.attention.channel_max", 1, 1, width, half)
            layer(f"k{k}.attention.channel_mean", 1, 1, width, half)
            layer(f"k{k}.attention.channel_shared", half, width)
            layer(f"k{k}.attention.spatial", 7, 7, 2, 1)
            # so that the ReLU gates are neither all dead nor all alive
            weights[f"k{k}.attention.channel_shared.bias"] += 0.3
            weights[f"k{k}.attention.spatial.bias"] += 0.2
    layer("classifier", 12 * width, classes)
    return weights


@pytest.mark.parametrize("attention", [False, True])
def test_patch_form_is_the_published_equations(attention):
    weights = random_weights(attention=attention)
    model = HyperLoopNet(3, 5, width=4, attention=attention, gate="relu", window=None)
    model.double().eval()
    load_reference_weights(model, weights)
    patches = np.random.default_rng(1).normal(0.5, 1, (3, 11, 11, 3))
    x = torch.from_numpy(patches).permute(0, 3, 1, 2)
    expected = numpy_features(weights, patches, attention=attention)
    assert np.abs(expected).min() > 0
    with torch.no_grad():
        np.testing.assert_allclose(model.features(x), expected, rtol=1e-10, atol=1e-12)
        scores = expected @ weights["classifier.kernel"] + weights["classifier.bias"]
        np.testing.assert_allclose(model(x), scores, rtol=1e-10, atol=1e-12)


@needs_reference
@pytest.mark.parametrize(
    ("file", "attention"), [("hyperloopnet.npz", False), ("hyperloopnet_hybrid.npz", True)]
)
def test_patch_form_reproduces_the_published_programs(file, attention):
    weights = np.load(REFERENCE / file)
    model = HyperLoopNet(20, 15, attention=attention, gate="relu", window=None)
    model.double().eval()
    load_reference_weights(model, weights)
    x = torch.from_numpy(weights["patches"].astype(np.float64)).permute(0, 3, 1, 2)
    with torch.no_grad():
        features, probabilities = model.features(x).numpy(), model(x).softmax(1).numpy()
    np.testing.assert_allclose(features, weights["features"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probabilities, weights["probabilities"], rtol=1e-5, atol=1e-6)
    oracle = numpy_features(weights, weights["patches"], attention=attention)
    np.testing.assert_allclose(features, oracle, rtol=1e-9, atol=1e-12)


def test_loading_reference_weights_takes_the_input_as_it_is():
    model = HyperLoopNet(3, 5, width=4, attention=False, window=None)
    model.band_mean.fill_(3.0)
    model.band_std.fill_(2.0)
    load_reference_weights(model, random_weights(attention=False))
    assert model.band_mean.tolist() == [0.0] * 3
    assert model.band_std.tolist() == [1.0] * 3
    assert model.classifier.weight.dtype == torch.float32


def without(name):
    return lambda weights: weights.pop(name)


def changed(name, change):
    return lambda weights: weights.update({name: change(weights[name])})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("k5.L2.bias"), r"missing: k5\.L2\.bias"),
        (lambda w: w.update({"k9.L1.bias": np.zeros(4)}), r"not expected: k9\.L1\.bias"),
        (
            changed("k3.input.kernel", lambda a: a[:, :, :2]),
            r"k3\.input\.kernel has shape \(1, 1, 2, 4\), the network needs \(1, 1, 3, 4\)",
        ),
        (changed("classifier.kernel", lambda a: a.T), r"classifier\.kernel has shape \(5, 48\)"),
        (changed("k7.N8.gamma", lambda a: a[:1]), r"k7\.N8\.gamma has shape \(1,\)"),
        (changed("k7.L4.bias", lambda a: a * np.nan), r"k7\.L4\.bias holds NaN"),
    ],
)
def test_reference_weights_that_do_not_fit_are_refused_and_change_nothing(spoil, message):
    weights = random_weights(attention=True)
    spoil(weights)
    model = HyperLoopNet(3, 5, width=4, gate="relu", window=None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=message):
        load_reference_weights(model, weights)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_reference_weights_with_attention_need_a_network_with_attention():
    model = HyperLoopNet(3, 5, width=4, attention=False, window=None)
    with pytest.raises(InputError, match=r"without attention: not expected: k3\.attention"):
        load_reference_weights(model, random_weights(attention=True))


def test_keras_initialisation_is_glorot_uniform_with_zero_biases():
    model = HyperLoopNet(20, 5)
    keras_initialisation(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            area = module.weight[0, 0].numel()
            out, into = module.weight.shape[:2]
            limit = (6 / (area * (into + out))) ** 0.5
            assert module.weight.abs().max() <= limit
            if module.weight.numel() > 500:
                assert module.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.1)
            assert not module.bias.any()


def test_classifier_before_pooling_equals_pooling_before_classifier():
    model = small_model("hyperloopnet")
    x, valid = scene(20, 17, holes=True)
    with torch.no_grad():
        standard = (x - model.band_mean[:, None, None]) / model.band_std[:, None, None] * valid
        features = torch.cat([f for block in model.blocks for f in block(standard, valid)], 1)
        pooled = window_mean(features, valid, 11)
        expected = model.classifier(pooled.movedim(1, -1)).movedim(-1, 1)
        torch.testing.assert_close(model(x, valid), expected, rtol=1e-12, atol=1e-12)


def test_patch_form_counts_valid_pixels_only():
    model = small_model("hyperloopnet", window=None)
    x, _ = scene(7, 9)
    padded = nn.functional.pad(x, (2, 1, 3, 4), value=5e6)
    valid = nn.functional.pad(torch.ones_like(x[:, :1]), (2, 1, 3, 4))
    with torch.no_grad():
        assert model(x).shape == (1, CLASSES)
        torch.testing.assert_close(model(padded, valid), model(x), rtol=1e-12, atol=1e-12)


# --- halo ---


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 37),
        ({"attention": False}, 29),
        ({"attention": False, "window": 1}, 24),
        ({"window": 1}, 24 + 3),
        ({"kernels": (3,)}, 8 + 5 + 3 + 5),
        ({"kernels": (5, 3)}, 16 + 5 + 3 + 5),
        ({"kernels": (1,), "window": 7, "attention": False}, 3),
        ({"kernels": (1, 3), "window": 3}, 8 + 1 + 3 + 1),
        ({"kernels": (3,), "passes": 1}, 4 + 5 + 3 + 5),
    ],
)
def test_halo_follows_from_kernels_and_windows(arguments, expected):
    assert HyperLoopNet(2, 2, width=4, **arguments).halo == expected


HALO_CASES = [
    ("hyperloopnet", {}),
    ("hyperloopnet", {"gate": "relu"}),
    ("hyperloopnet", {"kernels": (3,), "window": 5}),
    ("hyperloopnet", {"kernels": (1, 3), "window": 1}),
    ("hyperloopnet-fusion", {}),
    ("hyperloopnet-fusion", {"window": 5, "passes": 1}),
    ("hyperloopnet-no-attention", {}),
    ("hyperloopnet-no-attention", {"kernels": (5,), "window": 3}),
    ("spectral", {}),
]


@pytest.mark.parametrize(("name", "extra"), HALO_CASES)
@pytest.mark.parametrize("holes", [False, True])
def test_tiles_with_halo_give_the_whole_scene_exactly(name, extra, holes):
    model = lively(small_model(name, **extra))
    x, valid = scene(70, 63, holes=holes)
    with torch.no_grad():
        whole = model(x, valid)[0]
    parts = tiled(model, x, valid, model.halo, (27, 40))
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "extra"), [c for c in HALO_CASES if c[0] != "spectral"])
def test_a_halo_one_smaller_is_not_enough(name, extra):
    model = lively(small_model(name, **extra))
    x, valid = scene(70, 63)
    with torch.no_grad():
        whole = model(x, valid)[0]
    parts = tiled(model, x, valid, model.halo - 1, (27, 40))
    assert (parts - whole).abs().max() > 1e-11 * whole.abs().max()


# --- contract of every network ---


@pytest.mark.parametrize("name", MODELS)
class TestContract:
    def test_scores_every_pixel(self, name):
        model = small_model(name)
        for rows, columns in ((1, 1), (1, 9), (8, 13)):
            x, valid = scene(rows, columns)
            with torch.no_grad():
                scores = model(x.repeat(2, 1, 1, 1), valid.repeat(2, 1, 1, 1))
            assert scores.shape == (2, CLASSES, rows, columns)
            assert torch.isfinite(scores).all()

    def test_nothing_beyond_the_halo_matters_and_the_halo_does(self, name):
        model = lively(small_model(name))
        halo = model.halo
        x, valid = scene(2 * halo + 5, 2 * halo + 5)
        centre = halo + 2
        with torch.no_grad():
            before = model(x, valid)[..., centre]  # a column of pixels
            for side in (-1, 1):
                beyond, at_the_edge = x.clone(), x.clone()
                beyond[..., centre + side * (halo + 1)] += 100
                at_the_edge[..., centre + side * halo] += 100
                change = (model(beyond, valid)[..., centre] - before).abs().max()
                assert change <= 1e-13 * before.abs().max()
                assert (model(at_the_edge, valid)[..., centre] - before).abs().max() > 1e-11

    def test_evaluation_is_deterministic(self, name):
        model = small_model(name).float()
        x, valid = (t.float() for t in scene(12, 15, holes=True))
        with torch.no_grad():
            assert torch.equal(model(x, valid), model(x, valid))

    def test_batch_members_do_not_see_each_other(self, name):
        model = small_model(name)
        (x, valid), (y, other) = scene(9, 11, holes=True), scene(9, 11, seed=1)
        with torch.no_grad():
            both = model(torch.cat([x, y]), torch.cat([valid, other]))
            torch.testing.assert_close(both[:1], model(x, valid), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(both[1:], model(y, other), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("garbage", [0.0, -9999.0, 1e30])
    def test_what_invalid_pixels_hold_changes_nothing(self, name, garbage):
        model = small_model(name)
        x, valid = scene(24, 21, holes=True)
        with torch.no_grad():
            before = model(x, valid)
            after = model(torch.where(valid > 0, x, garbage), valid)
        seen = (valid > 0).expand_as(before)
        assert torch.equal(before[seen], after[seen])

    @pytest.mark.parametrize("holes", [False, True])
    def test_padding_the_scene_with_nodata_changes_nothing(self, name, holes):
        model = lively(small_model(name))
        x, valid = scene(23, 18, holes=holes)
        pad = (7, 3, 5, 14)
        with torch.no_grad():
            alone = model(x, valid if holes else None)
            padded = model(nn.functional.pad(x, pad, value=-9999.0), nn.functional.pad(valid, pad))[
                ..., 5:-14, 7:-3
            ]
        seen = (valid > 0).expand_as(alone)
        torch.testing.assert_close(padded[seen], alone[seen], rtol=1e-12, atol=1e-12)

    def test_all_valid_means_the_same_as_no_mask(self, name):
        model = small_model(name)
        x, valid = scene(13, 16)
        with torch.no_grad():
            torch.testing.assert_close(model(x, valid), model(x), rtol=1e-13, atol=1e-13)

    def test_a_window_without_valid_pixels_gives_finite_scores(self, name):
        model = small_model(name)
        x, valid = scene(14, 14)
        with torch.no_grad():
            assert torch.isfinite(model(x, torch.zeros_like(valid))).all()

    @pytest.mark.parametrize("holes", [False, True])
    def test_gradients_are_finite_and_reach_every_weight(self, name, holes):
        model = lively(small_model(name)).train()
        x, valid = scene(16, 15, holes=holes)
        scores = model(x, valid if holes else None)
        target = torch.full((1, 16, 15), -1)
        target[0, 8:10, 3:12] = torch.arange(9) % CLASSES
        nn.functional.cross_entropy(scores, target, ignore_index=-1).backward()
        trained = [(n, w) for n, w in model.named_parameters() if w.requires_grad]
        for weight_name, weight in trained:
            assert weight.grad is not None, weight_name
            assert torch.isfinite(weight.grad).all(), weight_name
        dead = [n for n, w in trained if not w.grad.any()]
        # Normalisation takes a constant before it away, so such a gradient may be exactly zero.
        assert all("bias" in n for n in dead)

    def test_training_does_not_see_what_invalid_pixels_hold(self, name):
        x, valid = scene(16, 15, holes=True)
        scores, states = [], []
        for garbage in (0.0, 1e6):
            model = small_model(name).train()
            scores.append(model(torch.where(valid > 0, x, garbage), valid).detach())
            states.append(model.state_dict())
        seen = (valid > 0).expand_as(scores[0])
        assert torch.equal(scores[0][seen], scores[1][seen])
        for key, tensor in states[0].items():
            assert torch.equal(tensor, states[1][key]), key

    def test_standardisation_is_part_of_the_network(self, name):
        model = small_model(name)
        x, valid = scene(9, 9, holes=True)
        with torch.no_grad():
            before = model(x, valid)
            model.band_mean.mul_(10).add_(3)
            model.band_std.mul_(10)
            after = model(10 * x + 3, valid)
        torch.testing.assert_close(after, before, rtol=1e-11, atol=1e-11)


# --- attention ---


@pytest.mark.parametrize("gate", ["sigmoid", "relu"])
@pytest.mark.parametrize("window", [None, 1, 3, 11])
def test_attention_keeps_the_shape_and_weighs_in_the_range_of_its_gate(gate, window):
    torch.manual_seed(0)
    attention = HybridAttention(6, window=window, gate=gate).double()
    x = torch.rand(2, 6, 8, 9, dtype=torch.float64) + 0.1
    with torch.no_grad():
        ratio = attention(x, None) / x
    assert ratio.shape == x.shape
    assert (ratio >= 0).all()
    if gate == "sigmoid":
        assert (ratio > 0).all()
        assert (ratio < 1).all()


def test_a_dead_relu_gate_is_alive_with_sigmoid():
    """With negative spatial weights the ReLU gate is zero at all positions."""
    for gate, alive in (("relu", False), ("sigmoid", True)):
        attention = HybridAttention(4, window=3, gate=gate)
        nn.init.constant_(attention.spatial.weight, -1.0)
        nn.init.constant_(attention.spatial.bias, -0.1)
        x = torch.rand(1, 4, 6, 6)
        assert bool(attention(x, None).detach().any()) is alive


# --- pooling ---


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    window=st.sampled_from([1, 3, 5, 11]),
    seed=st.integers(0, 999),
    share=st.sampled_from([0.0, 0.3, 0.9, 1.0, None]),
)
def test_window_pooling_is_brute_force_over_valid_pixels(rows, columns, window, seed, share):
    random = np.random.default_rng(seed)
    x = random.normal(size=(2, 3, rows, columns))
    valid = (
        np.ones((2, 1, rows, columns))
        if share is None
        else random.random((2, 1, rows, columns)) < share
    )
    valid = valid.astype(float)
    x *= valid
    mean, peak = np.zeros_like(x), np.zeros_like(x)
    half = window // 2
    for b, r, c in np.ndindex(2, rows, columns):
        place = np.s_[max(r - half, 0) : r + half + 1, max(c - half, 0) : c + half + 1]
        seen = valid[b, 0][place] > 0
        for channel in range(3):
            values = x[b, channel][place][seen]
            if values.size:
                mean[b, channel, r, c], peak[b, channel, r, c] = values.mean(), values.max()
    mask = None if share is None else torch.from_numpy(valid)
    tensor = torch.from_numpy(x)
    if window == 1:  # a window of one pixel is that pixel, zero where it is invalid
        assert torch.equal(window_mean(tensor, mask, 1), tensor)
        assert torch.equal(window_max(tensor, mask, 1), tensor)
    np.testing.assert_allclose(window_mean(tensor, mask, window), mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(window_max(tensor, mask, window), peak, rtol=0, atol=0)


@pytest.mark.parametrize("share", [0.0, 0.4, None])
def test_pooling_of_the_whole_input_is_over_valid_pixels(share):
    random = np.random.default_rng(3)
    valid = np.ones((2, 1, 6, 7)) if share is None else random.random((2, 1, 6, 7)) < share
    x = -random.random((2, 3, 6, 7)) * valid  # negative: a zero of an invalid pixel must not win
    mask = None if share is None else torch.from_numpy(valid.astype(float))
    mean, peak = (
        window_mean(torch.from_numpy(x), mask, None),
        window_max(torch.from_numpy(x), mask, None),
    )
    assert mean.shape == peak.shape == (2, 3, 1, 1)
    for b in range(2):
        seen = valid[b, 0].astype(bool)
        for channel in range(3):
            values = x[b, channel][seen]
            expected = (values.mean(), values.max()) if values.size else (0, 0)
            np.testing.assert_allclose(
                (mean[b, channel, 0, 0], peak[b, channel, 0, 0]), expected, rtol=1e-12
            )


# --- normalisation ---


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), share=st.floats(0.05, 1.0))
def test_masked_normalisation_is_batch_norm_of_the_valid_pixels(seed, share):
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.gamma(2, 1, (2, 3, 6, 7)))
    valid = torch.from_numpy((random.random((2, 1, 6, 7)) < share).astype(float))
    valid.view(-1)[:2] = 1
    ours, plain = BatchNorm(3).double(), nn.BatchNorm2d(3, eps=1e-3, momentum=0.01).double()
    for norm in (ours, plain):
        nn.init.constant_(norm.weight, 1.7)
        nn.init.constant_(norm.bias, -0.3)
    for _ in range(2):
        result = ours(x * valid, valid)
        gathered = x.movedim(1, -1)[valid[:, 0] > 0]  # pixel, channel
        expected = plain(gathered.T[None, :, :, None])[0, :, :, 0].T
        torch.testing.assert_close(
            result.movedim(1, -1)[valid[:, 0] > 0], expected, rtol=1e-6, atol=1e-6
        )
    # The moments are computed in float32, also of float64 features.
    torch.testing.assert_close(ours.running_mean, plain.running_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.running_var, plain.running_var, rtol=1e-5, atol=1e-6)
    assert ours.num_batches_tracked == plain.num_batches_tracked == 2
    ours.eval(), plain.eval()
    torch.testing.assert_close(ours(x, valid), plain(x), rtol=1e-5, atol=1e-5)


def test_masked_normalisation_learns_as_batch_norm_of_the_valid_pixels():
    x = torch.rand(1, 2, 5, 6, generator=torch.Generator().manual_seed(0)) + 0.5
    valid = torch.ones(1, 1, 5, 6)
    valid[..., :2, :4] = 0
    weights = torch.rand(1, 2, 5, 6, generator=torch.Generator().manual_seed(1))
    ours, plain = BatchNorm(2), nn.BatchNorm2d(2, eps=1e-3)
    masked, gathered = (x * valid).requires_grad_(), x.clone().requires_grad_()
    (ours(masked, valid) * weights * valid).sum().backward()
    seen = valid[0, 0] > 0
    (plain(gathered[:, :, seen][..., None]) * weights[:, :, seen][..., None]).sum().backward()
    torch.testing.assert_close(masked.grad * valid, gathered.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-5)


def test_a_batch_without_valid_pixels_leaves_the_statistics():
    norm = BatchNorm(2)
    nn.init.constant_(norm.running_mean, 3.0)
    assert torch.isfinite(norm(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))).all()
    assert norm.running_mean.tolist() == [3.0, 3.0]
    assert norm.running_var.tolist() == [1.0, 1.0]


# --- refusals ---


@pytest.mark.parametrize(
    "settings_",
    [
        {"kernels": (2,)},
        {"kernels": (3, 4)},
        {"kernels": ()},
        {"kernels": (-3,)},
        {"window": 10},
        {"window": 0},
    ],
)
def test_even_or_absent_sizes_are_refused(settings_):
    with pytest.raises(ValueError, match="must be odd"):
        HyperLoopNet(2, 2, **settings_)
    with pytest.raises(InputError, match="'hyperloopnet' cannot be built: kernels"):
        build_model("hyperloopnet", 2, 2, **settings_)


def test_unknown_gate_is_refused():
    with pytest.raises(InputError, match="gate 'tanh' is not one of sigmoid, relu"):
        build_model("hyperloopnet", 2, 2, gate="tanh")


def test_unknown_model_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="'resnet' is not known; use one of hyperloopnet-fusion, "):
        build_model("resnet", 2, 2)


@pytest.mark.parametrize(
    "settings_",
    [{"depth": 3}, {"bands": 3}, {"width": "wide"}, {"width": 0}, {"width": -4}, {"kernels": 3}],
)
@pytest.mark.parametrize("name", ["hyperloopnet", "spectral"])
def test_settings_that_a_network_does_not_have_are_refused(name, settings_):
    with pytest.raises(InputError, match=f"model '{name}' cannot be built"):
        build_model(name, 2, 2, **settings_)


def test_networks_need_torch_alone():
    """No package of the geographic world is imported, and none is needed."""
    program = (
        "import sys\n"
        "blocked = ('rasterio', 'xarray', 'dask', 'lightning', 'geopandas', 'odc', 'pyproj',\n"
        "           'torchgeo', 'scipy', 'pandas', 'shapely', 'zarr', 'torchvision')\n"
        "for name in blocked:\n"
        "    sys.modules[name] = None  # importing it now fails\n"
        "import torch\n"
        "from hsi_pipeline.models import MODELS, build_model\n"
        "for name in MODELS:\n"
        "    assert build_model(name, 3, 2).eval()(torch.rand(1, 3, 4, 4)).shape == (1, 2, 4, 4)\n"
        "ours = sorted(m for m in sys.modules if m.startswith('hsi_pipeline.')\n"
        "              and not m.startswith('hsi_pipeline.models'))\n"
        "assert ours == ['hsi_pipeline.errors'], ours\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
