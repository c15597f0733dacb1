"""Scores against scikit-learn's, and by hand where classes are absent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from hsi_pipeline.accuracy import Accuracy, compare


@st.composite
def labelled(draw):
    """Reference and predicted indices with unlabelled ones, and the number of classes."""
    classes = draw(st.integers(2, 6))
    count = draw(st.integers(1, 60))
    pairs = st.lists(st.integers(-1, classes), min_size=count, max_size=count)
    return np.array(draw(pairs)), np.array(draw(pairs)), classes


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@settings(deadline=None, max_examples=60)
@given(labelled())
def test_scores_are_those_of_scikit_learn(case):
    reference, predicted, classes = case
    accuracy = compare(reference, predicted, classes)
    both = (reference >= 0) & (reference < classes) & (predicted >= 0) & (predicted < classes)
    y, p = reference[both], predicted[both]
    assert accuracy.pixels == both.sum()
    if not both.any():
        assert all(np.isnan(value) for value in accuracy.scores().values())
        return
    labels = np.arange(classes)
    np.testing.assert_array_equal(accuracy.matrix, metrics.confusion_matrix(y, p, labels=labels))
    assert accuracy.overall == pytest.approx(metrics.accuracy_score(y, p))
    if len(np.union1d(y, p)) > 1:  # else kappa is 0 / 0
        assert accuracy.kappa == pytest.approx(metrics.cohen_kappa_score(y, p, labels=labels))
    else:
        assert np.isnan(accuracy.kappa)
    kwargs = {"labels": labels, "average": None, "zero_division": np.nan}
    for ours, theirs in (
        (accuracy.producers, metrics.recall_score),
        (accuracy.users, metrics.precision_score),
        (accuracy.f1, metrics.f1_score),
    ):
        np.testing.assert_allclose(ours, theirs(y, p, **kwargs))
    in_either = np.isin(labels, np.union1d(y, p))
    jaccard = metrics.jaccard_score(y, p, labels=labels, average=None, zero_division=0)
    np.testing.assert_allclose(accuracy.iou, np.where(in_either, jaccard, np.nan))
    present = np.unique(y)
    assert accuracy.average == pytest.approx(
        metrics.recall_score(y, p, labels=present, average="macro", zero_division=0)
    )
    assert accuracy.mean_f1 == pytest.approx(
        metrics.f1_score(y, p, labels=present, average="macro", zero_division=0)
    )
    assert accuracy.mean_iou == pytest.approx(
        metrics.jaccard_score(y, p, labels=present, average="macro", zero_division=0)
    )


def test_by_hand():
    accuracy = Accuracy(np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]]))
    assert accuracy.pixels == 10
    assert accuracy.overall == pytest.approx(0.7)
    assert accuracy.kappa == pytest.approx((0.7 - 0.5) / 0.5)  # chance: (4 * 5 + 6 * 5) / 100
    np.testing.assert_allclose(accuracy.producers, [3 / 4, 4 / 6, np.nan])
    np.testing.assert_allclose(accuracy.users, [3 / 5, 4 / 5, np.nan])
    np.testing.assert_allclose(accuracy.f1, [6 / 9, 8 / 11, np.nan])
    np.testing.assert_allclose(accuracy.iou, [3 / 6, 4 / 7, np.nan])
    assert accuracy.average == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert accuracy.mean_iou == pytest.approx((3 / 6 + 4 / 7) / 2)


def test_a_class_that_is_only_predicted_counts_against_the_others_and_not_in_means():
    accuracy = compare(np.array([0, 0, 1]), np.array([0, 2, 1]), 3)
    assert accuracy.iou[2] == accuracy.f1[2] == accuracy.users[2] == 0
    assert np.isnan(accuracy.producers[2])
    assert accuracy.mean_f1 == pytest.approx((2 / 3 + 1) / 2)


def test_nothing_to_compare_gives_no_numbers():
    for reference in (np.array([], int), np.full((3, 3), -1)):
        accuracy = compare(reference, np.zeros_like(reference), 4)
        assert accuracy.pixels == 0
        assert accuracy.matrix.shape == (4, 4)
        assert all(np.isnan(value) for value in accuracy.scores().values())
        for values in (accuracy.producers, accuracy.users, accuracy.f1, accuracy.iou):
            assert np.isnan(values).all()


def test_rows_are_the_reference_and_shapes_do_not_matter():
    reference = np.array([[0, 0], [1, 1]], np.uint8)
    predicted = np.array([[1, 0], [1, 1]], np.int8)
    expected = [[1, 1], [0, 2]]
    assert compare(reference, predicted, 2).matrix.tolist() == expected
    assert compare(reference.ravel(), predicted.ravel(), 2).matrix.tolist() == expected


def test_kappa_of_very_many_pixels_does_not_overflow():
    matrix = np.array([[3, 1], [2, 5]])
    assert Accuracy(matrix * 7 * 10**9).kappa == pytest.approx(Accuracy(matrix).kappa)
