"""The default network: its components, its parts, and how they are weighed."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from hsi_pipeline.errors import InputError
from hsi_pipeline.models import DEFAULT_MODEL, build_model

BANDS, CLASSES = 12, 3


def spectra(count=400, seed=0):
    """Correlated bands: three ingredients and a little noise."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(5).normal(0, 1, (3, BANDS))
    labels = random.choice(CLASSES, count, p=[0.6, 0.3, 0.1])
    amounts = random.normal(0, 0.4, (count, 3)) + np.eye(3)[labels]
    x = 0.3 + 0.05 * amounts @ mixing + random.normal(0, 0.005, (count, BANDS))
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels)


def started(components=6, seed=0, **settings):
    """A network that has seen the training spectra."""
    x, y = spectra()
    torch.manual_seed(seed)
    model = build_model(
        DEFAULT_MODEL, BANDS, CLASSES, components=components, width=4, **settings
    ).eval()
    model.band_mean.copy_(x.mean(0))
    model.band_std.copy_(x.std(0, correction=0))
    model.start(x, y)
    return model


def components_of(model, x):
    return ((x - model.band_mean) / model.band_std) @ model.basis.T


def as_image(x, rows, columns):
    return x.T.reshape(1, BANDS, rows, columns).contiguous()


def test_components_are_uncorrelated_and_half_whitened():
    x, _ = spectra()
    model = started()
    standard = ((x - x.mean(0)) / x.std(0, correction=0)).double().numpy()
    variance = np.linalg.svd(standard, compute_uv=False)[:6] ** 2 / len(x)
    found = np.cov(components_of(model, x).double().numpy().T, bias=True)
    np.testing.assert_allclose(found - np.diag(np.diag(found)), 0, atol=1e-4)
    expected = variance / np.sqrt(variance + 1e-4)
    np.testing.assert_allclose(np.diag(found), expected / expected.mean(), rtol=1e-3)


def test_the_linear_part_is_the_logistic_regression_of_scikit_learn():
    x, y = spectra()
    model = started(penalty=4.0)
    z = components_of(model, x).numpy()
    count = np.bincount(y)
    rarity = (count**-0.5)[y]
    rarity *= len(y) / rarity.sum()
    oracle = LogisticRegression(C=1 / 4.0, max_iter=5000, tol=1e-10)
    oracle.fit(z, y.numpy(), sample_weight=rarity)
    linear = model.parts(as_image(x, 20, 20))[0, 0].flatten(1).T.softmax(1).detach()
    np.testing.assert_allclose(linear.numpy(), oracle.predict_proba(z), atol=2e-4)


def test_directions_without_training_spectra_stay_closed():
    x, y = spectra()
    x[:, 7] = x[:, 2]  # two bands that never differ
    model = build_model(DEFAULT_MODEL, BANDS, CLASSES, components=BANDS, width=4).eval()
    model.band_mean.copy_(x.mean(0))
    model.band_std.copy_(x.std(0, correction=0))
    model.start(x, y)
    other = x.clone()
    other[:, 7] += 0.05
    other[:, 2] -= 0.05 * (model.band_std[2] / model.band_std[7])
    torch.testing.assert_close(
        components_of(model, other), components_of(model, x), rtol=0, atol=1e-2
    )


def test_scores_are_the_weighted_sum_of_the_parts():
    model = started(members=2)
    x, _ = spectra(36, seed=3)
    image = as_image(x, 6, 6)
    model.shares.copy_(torch.tensor([0.2, 0.4, 0.6, 1.7]))
    with torch.no_grad():
        z = components_of(model, x)
        linear = (z @ model.linear.weight.T + model.linear.bias).T.reshape(1, CLASSES, 6, 6)
        inside = z.T.reshape(1, -1, 6, 6)
        kernel = model.kernel(inside)
        networks = sum(member(inside) for member in model.members) / 2
        spectral = model.spectral(inside)
        torch.testing.assert_close(
            model(image),
            0.2 * linear + 0.4 * kernel + 0.6 * spectral + 1.7 * networks,
            rtol=1e-4,
            atol=1e-5,
        )
        separate = model.separate_scores(image)
    assert len(separate) == 3
    torch.testing.assert_close(separate[0], spectral, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sum(separate[1:]) / 2, networks, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(separate[1], separate[2])


def test_balance_finds_the_most_likely_weights():
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 500)
    good = 2.0 * np.eye(CLASSES)[labels] + random.normal(0, 1, (500, CLASSES))
    noise = random.normal(0, 3, (500, CLASSES))
    more = random.normal(0, 1, (2, 500, CLASSES))
    parts = np.stack([noise, good, *more])
    model = started()
    model.balance(torch.from_numpy(parts), torch.from_numpy(labels))
    start = np.log([1 / 4] * 4)

    def loss(logs):
        scores = log_softmax(np.tensordot(np.exp(logs), parts, 1), axis=1)
        return -scores[np.arange(500), labels].mean() + 0.01 * np.square(logs - start).sum()

    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    np.testing.assert_allclose(model.shares.numpy(), np.exp(best.x), rtol=1e-3)
    assert model.shares[0] < 0.2 < 1.0 < model.shares[1]


def test_only_the_networks_are_trained():
    model = started()
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    parts = ("members", "spectral")
    assert trained == {name for name, _ in model.named_parameters() if name.startswith(parts)}


def test_dropout_acts_in_training_alone():
    model = started(dropout=0.5, input_dropout=0.5)
    x, _ = spectra(36, seed=3)
    image = as_image(x, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(model(image), model(image), rtol=0, atol=0)
        model.train()
        assert not torch.equal(model.separate_scores(image)[0], model.separate_scores(image)[0])


def test_more_components_than_bands_are_all_of_them():
    assert started(components=99).basis.shape == (BANDS, BANDS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": 0}, "components 0"),
        ({"members": 0}, "members 0"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"input_dropout": -0.1}, "input_dropout -0.1"),
        ({"penalty": 0.0}, "penalty 0.0"),
        ({"centers": 0}, "centers 0"),
        ({"kernel_penalty": -1.0}, "kernel_penalty -1.0"),
        ({"passes": 3}, "passes 3"),
        ({"colour": 1}, "colour"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build_model(DEFAULT_MODEL, BANDS, CLASSES, **settings)
