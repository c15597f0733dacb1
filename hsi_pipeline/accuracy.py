"""Agreement of predicted with reference labels: confusion matrix and the scores made from it.

Source of the formulas: Congalton & Green, Assessing the Accuracy of Remotely Sensed Data, 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Accuracy:
    """Scores of a classification.

    Means over classes take the classes that the reference holds: a class without reference
    pixels says nothing about the map. Undefined ratios are NaN.
    """

    matrix: np.ndarray
    """Counts (reference class, predicted class)."""

    @property
    def pixels(self) -> int:
        """Reference pixels."""
        return int(self.matrix.sum())

    @property
    def overall(self) -> float:
        """Overall accuracy: share of pixels that are right."""
        return _ratio(np.trace(self.matrix), self.matrix.sum())

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond that expected by chance."""
        counts = self.matrix.astype(np.float64)  # squares of counts may not fit in integers
        chance = _ratio(float(counts.sum(0) @ counts.sum(1)), counts.sum() ** 2)
        return _ratio(self.overall - chance, 1 - chance)

    @property
    def producers(self) -> np.ndarray:
        """Producer's accuracy (recall) of each class."""
        return _ratios(self._right, self.matrix.sum(1))

    @property
    def users(self) -> np.ndarray:
        """User's accuracy (precision) of each class."""
        return _ratios(self._right, self.matrix.sum(0))

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of user's and producer's accuracy of each class."""
        return _ratios(2 * self._right, self.matrix.sum(0) + self.matrix.sum(1))

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class."""
        return _ratios(self._right, self.matrix.sum(0) + self.matrix.sum(1) - self._right)

    @property
    def average(self) -> float:
        """Average accuracy: mean of the producer's accuracies."""
        return self._mean(self.producers)

    @property
    def mean_f1(self) -> float:
        """Mean F1 over the classes of the reference."""
        return self._mean(self.f1)

    @property
    def mean_iou(self) -> float:
        """Mean intersection over union over the classes of the reference."""
        return self._mean(self.iou)

    def scores(self) -> dict[str, float]:
        """Return the scores that describe the whole map, by name."""
        return {
            "overall_accuracy": self.overall,
            "average_accuracy": self.average,
            "kappa": self.kappa,
            "mean_f1": self.mean_f1,
            "mean_iou": self.mean_iou,
        }

    @property
    def _right(self) -> np.ndarray:
        return np.diagonal(self.matrix)

    def _mean(self, values: np.ndarray) -> float:
        present = self.matrix.sum(1) > 0
        return float(values[present].mean()) if present.any() else float("nan")


def compare(reference: np.ndarray, predicted: np.ndarray, classes: int) -> Accuracy:
    """Count agreement.

    Args:
        reference: Class indices 0..classes-1; others (unlabelled) are left out.
        predicted: Class indices of the same shape; others are left out.
        classes: Number of classes.

    Returns:
        The accuracy over all pixels that have both.
    """
    reference = np.asarray(reference).ravel().astype(np.int64)
    predicted = np.asarray(predicted).ravel().astype(np.int64)
    known = (reference >= 0) & (reference < classes) & (predicted >= 0) & (predicted < classes)
    pairs = reference[known] * classes + predicted[known]
    return Accuracy(np.bincount(pairs, minlength=classes**2).reshape(classes, classes))


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")


def _ratios(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    return np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)
