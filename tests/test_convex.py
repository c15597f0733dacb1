"""The convex parts of the default network, beside scikit-learn's and numpy's own."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

from hsi_pipeline.models.convex import KernelClassifier, logistic_regression

CLASSES = 3


def rings(count=300, seed=0):
    """Two rings and a core, which no plane tells apart, and two features that say nothing."""
    random = np.random.default_rng(seed)
    labels = random.choice(CLASSES, count, p=[0.5, 0.4, 0.1])
    angle = random.uniform(0, 2 * np.pi, count)
    radius = labels + random.normal(0, 0.15, count)
    x = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), 0.3 * angle, angle * 0])
    return torch.from_numpy((x / x.std()).astype(np.float32)), torch.from_numpy(labels)


def solved(x, labels, seed=0, centers=40, penalty=0.05):
    torch.manual_seed(seed)
    classifier = KernelClassifier(x.shape[1], CLASSES, centers=centers, penalty=penalty)
    classifier.start(x, labels)
    return classifier


def score(classifier, x):
    """Scores (pixel, class) of features (pixel, feature)."""
    return classifier(x.T[None, :, :, None])[0, :, :, 0].T


def test_the_regression_is_that_of_scikit_learn():
    x, labels = rings()
    weight, bias = logistic_regression(x, labels, CLASSES, penalty=2.0)
    rarity = (np.bincount(labels) ** -0.5)[labels]
    oracle = LogisticRegression(C=1 / 2.0, max_iter=5000, tol=1e-10)
    oracle.fit(x.numpy(), labels.numpy(), sample_weight=rarity * len(labels) / rarity.sum())
    found = torch.softmax(x.double() @ weight.T + bias, 1)
    np.testing.assert_allclose(found.numpy(), oracle.predict_proba(x.numpy()), atol=2e-4)


def test_a_class_without_pixels_stays_finite():
    x, labels = rings()
    weight, bias = logistic_regression(x, labels, CLASSES + 1, penalty=1.0)
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()
    assert (x.double() @ weight.T + bias).argmax(1).max() < CLASSES


def test_the_scores_are_a_regression_on_nystroem_features():
    x, labels = rings()
    classifier = solved(x, labels)
    centers = classifier.centers.double().numpy()
    inner = np.exp(-cdist(centers, centers, "sqeuclidean") / (2 * x.shape[1]))
    values, vectors = np.linalg.eigh(inner)
    kept = values > 1e-6 * values[-1]
    outer = np.exp(-cdist(x.double().numpy(), centers, "sqeuclidean") / (2 * x.shape[1]))
    features = outer @ vectors[:, kept] / np.sqrt(values[kept])
    weight, bias = logistic_regression(torch.from_numpy(features), labels, CLASSES, penalty=0.05)
    expected = features @ weight.numpy().T + bias.numpy()
    np.testing.assert_allclose(score(classifier, x).numpy(), expected, atol=5e-3)


def test_kernels_tell_apart_what_no_plane_does():
    x, labels = rings()
    other, truth = rings(seed=1)
    weight, bias = logistic_regression(x, labels, CLASSES, penalty=0.05)
    linear = (other.double() @ weight.T + bias).argmax(1)
    kernel = score(solved(x, labels), other).argmax(1)
    assert (linear == truth).float().mean() < 0.75
    assert (kernel == truth).float().mean() > 0.95


def test_far_from_all_centers_the_bias_is_left():
    x, labels = rings()
    classifier = solved(x, labels)
    far = torch.full((1, x.shape[1]), 1e4)
    torch.testing.assert_close(score(classifier, far)[0], classifier.bias, rtol=0, atol=0)


def test_fewer_training_pixels_than_centers():
    x, labels = rings(25)
    few = solved(x, labels, centers=25)
    more = solved(x, labels, centers=60)
    torch.testing.assert_close(score(more, x), score(few, x), rtol=1e-4, atol=1e-4)
    assert more.centers.shape == (60, x.shape[1])


def test_the_seed_draws_the_centers():
    x, labels = rings()
    assert torch.equal(solved(x, labels).centers, solved(x, labels).centers)
    assert not torch.equal(solved(x, labels).centers, solved(x, labels, seed=1).centers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_around_it_does_not_reach_it(dtype):
    x, labels = rings()
    classifier = solved(x, labels)
    image = x.to(dtype).T[None, :, :, None]
    with torch.autocast("cpu", torch.bfloat16):
        found = classifier(image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, classifier(image.float()), rtol=0, atol=0)


def test_rows_are_scored_in_parts(monkeypatch):
    x, labels = rings()
    classifier = solved(x, labels)
    image = x.T.reshape(1, -1, 20, 15)
    whole = classifier(image)
    monkeypatch.setattr("hsi_pipeline.models.convex._ROW_PIXELS", 40)
    torch.testing.assert_close(classifier(image), whole, rtol=1e-5, atol=1e-5)
