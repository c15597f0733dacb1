"""Prepared networks compute what the plain ones do: each identity in float64, on raw numbers."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from hsi_pipeline.models import build_model, first_layer
from hsi_pipeline.models.prepared import Sides, prepare

BANDS, CLASSES, ROWS, COLUMNS = 7, 4, 19, 23
FIELDS = {  # of what a network sees around a pixel
    "hyperloopnet": {"kernels": [1, 3, 5], "window": 5, "width": 6},
    "hyperloopnet, ReLU gate": {"kernels": [3], "window": 3, "width": 4, "gate": "relu"},
    "hyperloopnet, one pass": {"kernels": [3], "window": 1, "width": 4, "passes": 1},
    "hyperloopnet-no-attention": {"kernels": [3, 1], "window": 3, "width": 4},
    "hyperloopnet-fusion": {"components": 5, "width": 4, "centers": 20},
    "hyperloopnet-fusion, two members": {"components": 6, "width": 4, "members": 2, "window": 3},
    "spectral": {"width": 6},
}
SCALE = torch.linspace(1e-4, 3e-4, BANDS)
OFFSET = torch.linspace(-0.1, 0.2, BANDS)


def network(name):
    """A network whose every number is random, in float64."""
    torch.manual_seed(11)
    model = build_model(name.partition(",")[0], BANDS, CLASSES, **FIELDS[name]).eval()
    if name.startswith("hyperloopnet-fusion"):
        model.start(torch.rand(200, BANDS), torch.randint(0, CLASSES, (200,)))
        model.shares.uniform_(0.1, 1.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, 0.0, 0.4)
            nn.init.uniform_(module.running_var, 0.2, 0.5)
            nn.init.uniform_(module.weight, -1.0, 1.5)
            nn.init.normal_(module.bias)
        if hasattr(module, "band_mean"):
            module.band_mean.uniform_(0.1, 0.4)
            module.band_std.uniform_(0.2, 0.5)
    return model.double()


def raw_numbers(dtype=np.int16, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 200, (BANDS, ROWS, COLUMNS)).astype(dtype) * 20)


def some_valid(kind, seed=0):
    if kind == "all":
        return None
    if kind == "none":
        return torch.zeros((ROWS, COLUMNS), dtype=torch.bool)
    return torch.from_numpy(np.random.default_rng(seed).random((ROWS, COLUMNS)) > 0.3)


def plain(model, raw, valid):
    """Scores of the network itself, of reflectance."""
    x = raw.double() * SCALE.double()[:, None, None] + OFFSET.double()[:, None, None]
    with torch.inference_mode():
        return model(x[None], None if valid is None else valid[None, None].double())[0]


def run(ready, raw, valid):
    with torch.inference_mode():
        return ready(raw, valid)


def at(scores, valid):
    return scores if valid is None else scores[:, valid]


@pytest.mark.parametrize("valid", ["all", "some"])
@pytest.mark.parametrize("name", FIELDS)
def test_the_scores_are_those_of_the_network(name, valid):
    model, raw, valid = network(name), raw_numbers(), some_valid(valid)
    expected = at(plain(model, raw, valid), valid)
    found = run(prepare(model, SCALE, OFFSET, torch.float64), raw, valid)
    assert found.dtype == torch.float64
    torch.testing.assert_close(at(found, valid), expected, rtol=1e-11, atol=1e-11)
    assert expected.std() > 0.05


@pytest.mark.parametrize("valid", ["all", "some"])
@pytest.mark.parametrize("name", FIELDS)
def test_resampling_is_folded_into_the_first_layer(name, valid):
    model, valid = network(name), some_valid(valid)
    random = np.random.default_rng(5)
    raw = torch.from_numpy(random.integers(0, 4000, (9, ROWS, COLUMNS)).astype(np.int16))
    scale, offset = torch.linspace(1e-4, 2e-4, 9), torch.linspace(-0.1, 0.1, 9)
    matrix = torch.from_numpy(random.dirichlet(np.ones(9), BANDS))
    matrix[2] = 0  # a band that the scene lacks
    reflectance = raw.double() * scale.double()[:, None, None] + offset.double()[:, None, None]
    x = torch.einsum("mb,byx->myx", matrix, reflectance)
    x[2] = model.band_mean[2]
    with torch.inference_mode():
        mask = None if valid is None else valid[None, None].double()
        expected = at(model(x[None], mask)[0], valid)
    found = run(prepare(model, scale, offset, torch.float64, matrix=matrix), raw, valid)
    torch.testing.assert_close(at(found, valid), expected, rtol=1e-10, atol=1e-10)
    single = run(prepare(model.float(), scale, offset, matrix=matrix), raw, valid)
    torch.testing.assert_close(at(single, valid).double(), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("cut", [*product((False, True), repeat=4)])
@pytest.mark.parametrize("valid", ["all", "some"])
@pytest.mark.parametrize("name", FIELDS)
def test_where_a_window_is_cut_its_halo_is_left_out_and_the_rest_is_the_same(name, valid, cut):
    model = network(name)
    halo = model.halo
    random = np.random.default_rng(3)
    rows, columns = 2 * halo + 6, 2 * halo + 9
    raw = torch.from_numpy(random.integers(0, 4000, (BANDS, rows, columns)).astype(np.int16))
    valid = None if valid == "all" else torch.from_numpy(random.random((rows, columns)) > 0.3)
    cut = Sides(*cut)
    kept = (
        slice(halo * cut.top, rows - halo * cut.bottom),
        slice(halo * cut.left, columns - halo * cut.right),
    )
    expected = plain(model, raw, valid)[:, *kept]
    with torch.inference_mode():
        found = prepare(model, SCALE, OFFSET, torch.float64)(raw, valid, cut)
    assert found.shape == expected.shape
    inside = None if valid is None else valid[kept]
    torch.testing.assert_close(at(found, inside), at(expected, inside), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", FIELDS)
def test_single_and_half_precision_stay_near(name):
    model, raw, valid = network(name), raw_numbers(), some_valid("some")
    expected = at(plain(model, raw, valid), valid)
    spread = float(expected.std())
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 0.15)):
        found = run(prepare(model, SCALE, OFFSET, dtype), raw, valid)
        assert found.dtype == torch.float32
        assert float((at(found, valid) - expected).abs().max()) < tolerance * spread


@pytest.mark.parametrize("name", FIELDS)
def test_half_precision_leaves_the_first_layer_as_it_is(name):
    """Numbers near 3000 would be off by up to 8, and every band with them."""
    model = network(name)
    half, single = (prepare(model, SCALE, OFFSET, t) for t in (torch.bfloat16, torch.float32))
    exact = dict(single.named_parameters()) | dict(single.named_buffers())
    kept = [n for n in exact if n.startswith(("first.", "kernel.")) or n == "shares"]
    assert len(kept) >= 3
    found = dict(half.named_parameters()) | dict(half.named_buffers())
    assert all(torch.equal(found[n], exact[n]) for n in kept)
    others = [value for n, value in found.items() if n not in kept]
    assert {value.dtype for value in others} == {torch.bfloat16}


@pytest.mark.parametrize("name", FIELDS)
def test_invalid_pixels_may_hold_anything_and_leave_finite_scores(name):
    model, valid = network(name), some_valid("some")
    ready = prepare(model, SCALE, OFFSET)
    raw = raw_numbers(np.float32)
    spoilt = raw.clone()
    spoilt[:, ~valid] = torch.nan
    found = run(ready, spoilt, valid)
    assert torch.isfinite(found).all()
    assert torch.equal(at(found, valid), at(run(ready, raw, valid), valid))
    assert torch.isfinite(run(ready, spoilt, some_valid("none"))).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_all_number_types_are_taken(dtype):
    raw = raw_numbers(np.int16).clamp(max=255)
    ready = prepare(network("hyperloopnet"), SCALE, OFFSET)
    same = torch.from_numpy(raw.numpy().astype(dtype))
    assert torch.equal(run(ready, same, None), run(ready, raw, None))


def test_the_strips_of_the_first_layer_do_not_matter(monkeypatch):
    ready = prepare(network("hyperloopnet"), SCALE, OFFSET, torch.float64)
    raw = raw_numbers()
    whole = run(ready, raw, None)
    monkeypatch.setattr(first_layer, "_STRIP_VALUES", 2 * BANDS * COLUMNS)
    torch.testing.assert_close(run(ready, raw, None), whole, rtol=1e-12, atol=1e-12)


def test_numbers_far_from_zero_keep_single_precision():
    """Without its centre, the first layer would lose what differs between the pixels."""
    model = network("spectral")
    raw = 60_000 + raw_numbers(np.int32) // 20
    model.band_mean.copy_(60_100 * SCALE + OFFSET)
    model.band_std.copy_(60 * SCALE)
    expected = plain(model, raw, None)
    found = run(prepare(model, SCALE, OFFSET), raw, None)
    assert float((found - expected).abs().max() / expected.std()) < 2e-5


def test_a_band_that_is_scaled_to_nothing():
    model, raw = network("hyperloopnet"), raw_numbers()
    scale = SCALE.clone()
    scale[2] = 0.0
    x = raw.double() * scale.double()[:, None, None] + OFFSET.double()[:, None, None]
    with torch.inference_mode():
        expected = model(x[None])[0]
    found = run(prepare(model, scale, OFFSET, torch.float64), raw, None)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", FIELDS)
def test_the_network_stays_as_it_is(name):
    model, raw = network(name), raw_numbers()
    before = copy.deepcopy(model.state_dict())
    ready = prepare(model, SCALE, OFFSET, torch.bfloat16)
    first = run(ready, raw, None)
    assert torch.equal(first, run(ready, raw, None))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_any_other_network_is_used_as_it_is():
    class Mean(nn.Module):
        halo = 0

        def forward(self, x, valid=None):
            return x.mean(1, keepdim=True) * (1 if valid is None else valid)

    raw, valid = raw_numbers(), some_valid("some")
    expected = plain(Mean(), raw, valid)
    for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)):
        found = run(prepare(Mean(), SCALE, OFFSET, dtype), raw, valid)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)
