"""scikit-learn's classifiers behind the contract of a network: same answers, nothing executed."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC
from skops.io import dumps

from hsi_pipeline.checkpoint import HEADER_KEY, load_checkpoint, save_checkpoint
from hsi_pipeline.classes import Category, ClassScheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimators import (
    BASELINES,
    PixelClassifier,
    build_estimator,
    fit_estimator,
    is_estimator,
)
from hsi_pipeline.model_card import ModelCard

BANDS, CLASSES = 5, 3
SCHEME = ClassScheme(tuple(Category(c, f"class {c}", f"#00000{c}") for c in (1, 2, 3)))


def spectra(count=240, seed=0, classes=CLASSES):
    """Overlapping classes of different mean."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    means = np.random.default_rng(9).uniform(0, 1, (classes, BANDS))
    return (means[labels] + random.normal(0, 0.15, (count, BANDS))).astype(np.float32), labels


def card(name, bands=BANDS):
    return ModelCard(
        architecture=name,
        settings={},
        bands=bands,
        wavelengths=None,
        tolerance_nm=5.0,
        classes=SCHEME,
        halo=0,
        scenes=("made up",),
        seed=0,
        version="0",
    )


@pytest.mark.parametrize(
    "name", [*BASELINES, "LinearDiscriminantAnalysis", "GaussianNB", "RidgeClassifier"]
)
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_name_the_class_that_scikit_learn_predicts(name, classes):
    x, y = spectra(classes=classes)
    model, _ = fit_estimator(name, x, y, classes)
    oracle = build_estimator(name, 0).fit(x, y)
    grid, _ = spectra(60, seed=1, classes=classes)
    image = torch.from_numpy(grid.T.reshape(1, BANDS, 6, 10))
    scores = model(image)
    assert scores.shape == (1, classes, 6, 10)
    np.testing.assert_array_equal(scores.argmax(1).ravel().numpy(), oracle.predict(grid))
    if hasattr(oracle, "predict_proba"):
        found = scores.softmax(1)[0].flatten(1).T.numpy()
        np.testing.assert_allclose(found, oracle.predict_proba(grid), atol=1e-5)


def test_invalid_pixels_are_left_out_and_change_nothing():
    x, y = spectra()
    model, _ = fit_estimator("logistic_regression", x, y, CLASSES)
    image = torch.from_numpy(x[:12].T.reshape(1, BANDS, 3, 4).copy())
    valid = torch.ones(1, 1, 3, 4)
    valid[..., 1, 2] = 0
    spoilt = image.clone()
    spoilt[..., 1, 2] = float("nan")
    expected, found = model(image), model(spoilt, valid)
    assert not found[..., 1, 2].any()
    known = valid[0, 0].bool()
    torch.testing.assert_close(found[0][:, known], expected[0][:, known])
    assert not model(spoilt, torch.zeros_like(valid)).any()


@pytest.mark.parametrize("name", ["random_forest", "logistic_regression", "svm"])
def test_a_class_without_pixels_is_never_predicted(name):
    x, y = spectra(classes=2)
    model, _ = fit_estimator(name, x, y * 2, 3)  # class 1 is missing
    scores = model(torch.from_numpy(x.T.reshape(1, BANDS, 12, 20)))
    assert set(scores.argmax(1).unique().tolist()) == {0, 2}
    assert scores.softmax(1)[:, 1].max() < 1e-4


@pytest.mark.parametrize("name", [*BASELINES, "ExtraTreesClassifier"])
def test_a_saved_classifier_is_the_same(name, tmp_path):
    x, y = spectra()
    model, _ = fit_estimator(name, x, y, CLASSES)
    save_checkpoint(tmp_path / "m.safetensors", model, card(name))
    loaded, _ = load_checkpoint(tmp_path / "m.safetensors")
    image = torch.from_numpy(x.T.reshape(1, BANDS, 12, 20))
    torch.testing.assert_close(loaded(image), model(image), rtol=0, atol=0)


def test_tuning_takes_what_scores_best_on_the_folds():
    """Rows that are scored follow a boundary that only a wide kernel misses."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (300, BANDS)).astype(np.float32)
    y = ((x[:, 0] * x[:, 1]) > 0).astype(int)
    rows = np.arange(300)
    folds = [(rows[rows % 2 == 0], rows[rows % 2 == 1])]
    model, settings = fit_estimator("svm", x, y, 2, folds=folds)
    assert set(settings) == {"C", "gamma"}
    scores = {}
    for c in BASELINES["svm"][1]["C"]:
        for gamma in BASELINES["svm"][1]["gamma"]:
            other = build_estimator("svm", 0, C=c, gamma=gamma).fit(x[::2], y[::2])
            scores[c, gamma] = other.score(x[1::2], y[1::2])
    assert scores[settings["C"], settings["gamma"]] >= max(scores.values()) - 0.02
    assert min(scores.values()) < max(scores.values()) - 0.1
    assert isinstance(model, PixelClassifier)


def test_settings_that_are_given_are_not_tuned():
    x, y = spectra()
    rows = np.arange(len(x))
    folds = [(rows[:120], rows[120:])]
    _, settings = fit_estimator("svm", x, y, CLASSES, folds=folds, settings={"C": 3.0})
    assert settings["C"] == 3.0
    assert "gamma" in settings


def test_the_seed_decides_a_forest():
    x, y = spectra()
    image = torch.from_numpy(x.T.reshape(1, BANDS, 12, 20))
    one, again, other = (
        fit_estimator("random_forest", x, y, CLASSES, seed=seed, settings={"n_estimators": 9})[0](
            image
        )
        for seed in (1, 1, 2)
    )
    torch.testing.assert_close(one, again, rtol=0, atol=0)
    assert not torch.equal(one, other)


def test_names():
    assert is_estimator("random_forest")
    assert is_estimator("KNeighborsClassifier")
    assert not is_estimator("hyperloopnet")
    assert not is_estimator("LinearRegression")
    with pytest.raises(InputError, match="'forest' is not known; use random_forest"):
        build_estimator("forest", 0)
    with pytest.raises(InputError, match=r"'svm' cannot be built: .*'colour'"):
        build_estimator("svm", 0, colour=1)


def test_a_classifier_that_cannot_be_fitted_says_so():
    x, y = spectra()
    with pytest.raises(InputError, match=r"'svm' cannot be fitted: .*NaN"):
        fit_estimator("svm", np.where(x > 1, np.nan, x), y, CLASSES)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: {}, "cannot be read"),
        (lambda state: {"estimator": state["estimator"][:200].clone()}, "cannot be read"),
        (
            lambda state: {
                "estimator": torch.frombuffer(bytearray(dumps(print)), dtype=torch.uint8)
            },
            "not trusted|cannot be read",
        ),
    ],
)
def test_spoilt_or_foreign_content_is_refused(spoil, message, tmp_path):
    x, y = spectra()
    model, _ = fit_estimator("GaussianNB", x, y, CLASSES)
    assert isinstance(model._classifier[-1], GaussianNB)
    state = spoil(model.state_dict()) or {"other": torch.zeros(1)}
    path = tmp_path / "m.safetensors"
    save_file(state, path, metadata={HEADER_KEY: card("GaussianNB").to_json()})
    with pytest.raises(InputError, match=message):
        load_checkpoint(path)


def test_a_tree_that_leads_astray_is_refused(tmp_path):
    x, y = spectra()
    model, _ = fit_estimator("random_forest", x, y, CLASSES, settings={"n_estimators": 2})
    state = model._classifier.estimators_[1].tree_.__getstate__()
    state["nodes"]["left_child"][0] = 10**6
    model._classifier.estimators_[1].tree_.__setstate__(state)
    save_checkpoint(
        tmp_path / "m.safetensors",
        PixelClassifier(model._classifier, CLASSES),
        card("random_forest"),
    )
    with pytest.raises(InputError, match="leads outside itself"):
        load_checkpoint(tmp_path / "m.safetensors")


def test_a_tree_that_asks_for_bands_that_are_not_there_is_refused(tmp_path):
    x, y = spectra()
    model, _ = fit_estimator("random_forest", x, y, CLASSES, settings={"n_estimators": 2})
    tree = model._classifier.estimators_[0]
    state = tree.tree_.__getstate__()
    state["nodes"]["feature"][0] = BANDS + 3
    tree.tree_.__setstate__(state)
    tree.n_features_in_ = BANDS + 9  # a file may claim anything
    save_checkpoint(
        tmp_path / "m.safetensors",
        PixelClassifier(model._classifier, CLASSES),
        card("random_forest"),
    )
    with pytest.raises(InputError, match="asks for bands that are not there"):
        load_checkpoint(tmp_path / "m.safetensors")


def test_a_classifier_that_no_safe_file_holds_is_refused_before_it_is_saved():
    x, y = spectra()
    with pytest.raises(InputError, match="'HistGradientBoostingClassifier' cannot be kept"):
        fit_estimator("HistGradientBoostingClassifier", x, y, CLASSES)


def test_a_classifier_of_other_bands_is_refused(tmp_path):
    x, y = spectra()
    model, _ = fit_estimator("svm", x, y, CLASSES)
    assert isinstance(model._classifier[-1], SVC)
    save_checkpoint(tmp_path / "m.safetensors", model, card("svm", bands=BANDS + 1))
    with pytest.raises(InputError, match="has 5 bands"):
        load_checkpoint(tmp_path / "m.safetensors")
