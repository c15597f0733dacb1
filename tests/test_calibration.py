"""Temperature and reliability: against hand-computed cases and labels drawn from known scores."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from hsi_pipeline.calibration import (
    BINS,
    calibrate,
    find_temperature,
    measure_reliability,
    negative_log_likelihood,
)


def drawn(temperature, count=20_000, seed=0):
    """Scores, and labels drawn by their probabilities under a temperature."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (count, 4))
    chances = softmax(scores / temperature, axis=1)
    labels = (chances.cumsum(1) < rng.random((count, 1))).sum(1)
    return scores, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_labels_were_drawn_by_is_found(temperature):
    assert find_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_the_likelihood_is_that_of_scikit_learn():
    scores, labels = drawn(1.0, 50)
    expected = log_loss(labels, softmax(scores, axis=1), labels=range(4))
    assert negative_log_likelihood(scores, labels) == pytest.approx(expected)


def test_reliability_by_hand():
    confidence = np.array([0.55, 0.6, 0.95, 1.0, 0.91])
    right = np.array([1, 0, 1, 1, 0])
    found = measure_reliability(np.column_stack([confidence, 1 - confidence]), 1 - right)
    assert found.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 3]  # 0.6 belongs to 0.5 .. 0.6
    assert found.accuracy[[5, 9]] == pytest.approx([0.5, 2 / 3])
    error = (2 * abs(0.575 - 0.5) + 3 * abs(2.86 / 3 - 2 / 3)) / 5
    assert found.expected_calibration_error == pytest.approx(error)
    listed = found.to_list()
    assert len(listed) == BINS
    assert listed[0] == {"count": 0, "confidence": None, "accuracy": None}
    assert listed[5] == {"count": 2, "confidence": pytest.approx(0.575), "accuracy": 0.5}


def along(units):
    """Places of pixels whose polygons lie one after another."""
    return np.column_stack([units, np.zeros_like(units)])


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_a_model_that_is_wrong_about_itself_is_mended_on_parts_held_out(temperature):
    scores, labels = drawn(temperature)
    units = np.repeat(np.arange(1, 201), 100)
    found = calibrate(scores, labels, units, along(units))
    assert found.cross_validated
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.after.expected_calibration_error < 0.02
    assert found.before.expected_calibration_error > 0.1
    assert found.nll_after < found.nll_before
    assert found.to_dict()["pixels"] == len(labels)


def test_a_part_that_disagrees_keeps_a_model_as_sure_as_it_is():
    scores, labels = drawn(3.0)
    units = np.repeat(np.arange(1, 201), 100)
    one = units <= 40  # a fifth of the scene, where the scores are right
    scores[one], labels[one] = drawn(1.0, int(one.sum()), seed=1)
    assert calibrate(scores, labels, units, along(units)).temperature == pytest.approx(1, abs=0.1)
    # polygons of it all over the scene leave no part that disagrees
    shuffled = np.random.default_rng(0).permutation(200)[units - 1] + 1
    assert calibrate(scores, labels, shuffled, along(shuffled)).temperature > 1.5


def test_labels_that_are_all_right_do_not_ask_for_certainty():
    scores = np.tile([[2.0, 0.0]], (400, 1))
    units = np.repeat(np.arange(1, 21), 20)
    found = calibrate(scores, np.zeros(400, int), units, along(units))
    confidence = softmax([2 / found.temperature, 0])[0]
    assert confidence == pytest.approx(1 - 1 / 402 / 2, abs=1e-3)


def test_what_does_not_help_parts_held_out_is_left_alone():
    # of one polygon all is right, of the other all is wrong: each misleads about the other
    scores = np.tile([[2.0, 0.0]], (40, 1))
    labels = np.repeat([0, 1], 20)
    units = np.repeat([1, 2], 20)
    found = calibrate(scores, labels, units, along(units))
    assert found.temperature == 1.0
    assert found.nll_after == found.nll_before
    assert found.after.to_list() == found.before.to_list()


def test_a_single_polygon_cannot_be_held_out():
    scores, labels = drawn(2.0, 200)
    one = np.ones(200, int)
    assert not calibrate(scores, labels, one, along(one)).cross_validated
    # pixels without a polygon are one each
    assert calibrate(scores, labels, 0 * one, along(np.arange(200))).cross_validated
