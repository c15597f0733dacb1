"""Scores and labels to probabilities that mean what they say.

A network's probabilities are calibrated if, of the pixels that it is 80 % sure of, 80 % are right.
Temperature scaling divides all scores by one number, found on labels that were not learnt from;
the classes stay as they are. Guo, Pleiss, Sun & Weinberger (2017), On calibration of modern neural
networks, ICML, arXiv:1706.04599, section 4.2.

Labels of a scene are few, and one corner of it is not like another; and the model that is kept
learns from all labels once its temperature is found, so that it is better than the one that was
asked. Temperatures above 1, which make it less sure of itself, are therefore taken only as far as
all parts of the scene agree (benchmarks/accuracy/calibration.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 10
"""Bins of confidence, all of the same width."""

_PARTS = 5
_RANGE = np.log(0.05), np.log(20.0)  # of the temperature


@dataclass(frozen=True)
class Reliability:
    """Confidence beside accuracy, bin by bin of confidence from 0 to 1."""

    count: np.ndarray
    """Pixels (bin,)."""
    confidence: np.ndarray
    """Mean confidence (bin,), NaN without pixels."""
    accuracy: np.ndarray
    """Share that is right (bin,), NaN without pixels."""

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of confidence and accuracy over all pixels; Guo et al., equation 3."""
        gaps = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float(gaps @ self.count / max(self.count.sum(), 1))

    def to_list(self) -> list[dict[str, float | None]]:
        """Return the bins for JSON."""
        columns = zip(self.count, self.confidence, self.accuracy, strict=True)
        return [
            {
                "count": int(count),
                "confidence": None if not count else float(confidence),
                "accuracy": None if not count else float(accuracy),
            }
            for count, confidence, accuracy in columns
        ]


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to pixels that it was not found by."""

    temperature: float
    """What scores are divided by; 1 where that does not help."""
    before: Reliability
    """With scores as they are."""
    after: Reliability
    """With scores divided by temperatures found on the other polygons."""
    nll_before: float
    """Mean negative log-likelihood with scores as they are."""
    nll_after: float
    """The same after."""
    cross_validated: bool
    """Whether `after` is of pixels that the temperature was not found by."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a model card keeps."""
        return {
            "method": "temperature",
            "temperature": self.temperature,
            "pixels": int(self.before.count.sum()),
            "ece_before": self.before.expected_calibration_error,
            "ece_after": self.after.expected_calibration_error,
            "nll_before": self.nll_before,
            "nll_after": self.nll_after,
            "cross_validated": self.cross_validated,
            "bins": {
                "lower": [i / BINS for i in range(BINS)],
                "before": self.before.to_list(),
                "after": self.after.to_list(),
            },
        }


def find_temperature(scores: np.ndarray, labels: np.ndarray, *, doubt: float = 0.0) -> float:
    """Find the temperature under which labels are most likely.

    Args:
        scores: Scores (pixel, class).
        labels: Class indices (pixel,).
        doubt: Share of each label that is spread over all classes. Without any, labels that are all
            right would ask for certainty; Platt (1999), Probabilistic outputs for support vector
            machines, takes 1 / (n + 2).

    Returns:
        Between 0.05 and 20.
    """

    def loss(log: float) -> float:
        logs = log_softmax(scores / np.exp(log), axis=1)
        right = logs[np.arange(len(labels)), labels]
        return -float(((1 - doubt) * right + doubt * logs.mean(1)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x))


def negative_log_likelihood(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood of labels (pixel,) under scores (pixel, class)."""
    return float(-log_softmax(scores, axis=1)[np.arange(len(labels)), labels].mean())


def measure_reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """Compare confidence with accuracy.

    Args:
        probabilities: Probabilities (pixel, class).
        labels: Class indices (pixel,).
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return Reliability(
            count,
            np.bincount(place, weights=confidence, minlength=BINS) / count,
            np.bincount(place, weights=right, minlength=BINS) / count,
        )


def calibrate(
    scores: np.ndarray, labels: np.ndarray, units: np.ndarray, places: np.ndarray
) -> Calibration:
    """Find a temperature and judge it on parts of the scene that it was not found by.

    Args:
        scores: Scores (pixel, class) of labels that the model has not learnt from.
        labels: Class indices (pixel,).
        units: Polygon of each pixel (pixel,), 0 where there is none; pixels of a polygon are right
            or wrong together.
        places: Row and column of each pixel (pixel, 2).

    Returns:
        The temperature that all pixels give, if it is below 1; else the lowest that a part of the
        scene gives, if all are above 1. It is 1 where dividing did not make the parts that were
        held out more likely.
    """
    scores = scores.astype(np.float64)
    own = units.astype(np.int64)
    own[own == 0] = own.max(initial=0) + 1 + np.arange((own == 0).sum())
    part = _parts(own, places)
    cross = part.max() > 0
    divided = np.empty_like(scores)
    for held in np.unique(part):
        out = part == held
        others = ~out if cross else out
        divided[out] = scores[out] / _agreed(scores, labels, part, others)
    before, after = (negative_log_likelihood(s, labels) for s in (scores, divided))
    everything = np.ones(len(labels), bool)
    temperature = _agreed(scores, labels, part, everything) if after < before else 1.0
    used = divided if after < before else scores
    return Calibration(
        temperature=temperature,
        before=measure_reliability(softmax(scores, axis=1), labels),
        after=measure_reliability(softmax(used, axis=1), labels),
        nll_before=before,
        nll_after=min(after, before),
        cross_validated=bool(cross),
    )


def _agreed(scores: np.ndarray, labels: np.ndarray, part: np.ndarray, pixels: np.ndarray) -> float:
    """Return the temperature of some pixels: see `calibrate`."""
    doubt = 1 / (int(pixels.sum()) + 2)
    whole = find_temperature(scores[pixels], labels[pixels], doubt=doubt)
    if whole <= 1:
        return whole
    apart = [pixels & (part == one) for one in np.unique(part[pixels])]
    return max(1.0, min(find_temperature(scores[one], labels[one]) for one in apart))


def _parts(units: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Cut pixels into stripes across the longer side of what they cover, polygons kept whole.

    Returns:
        Number of the stripe (pixel,), from 0; about as many pixels in each.
    """
    along = places[:, int(np.ptp(places, axis=0).argmax())]
    polygons, member, count = np.unique(units, return_inverse=True, return_counts=True)
    order = np.argsort(np.bincount(member, along) / count, kind="stable")
    done = np.cumsum(count[order]) - count[order] / 2  # pixels before its middle
    stripe = np.empty(len(polygons), np.int64)
    stripe[order] = done * min(_PARTS, len(polygons)) // count.sum()
    return np.unique(stripe[member], return_inverse=True)[1]
