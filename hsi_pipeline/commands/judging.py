"""A fitted network beside the baselines on the same pixels: is it worth its trouble here?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hsi_pipeline.accuracy import Accuracy, compare
from hsi_pipeline.calibration import Calibration, calibrate
from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.commands.fitting import EPOCH_CHOSEN_BY, Fitted, fit, predict, score
from hsi_pipeline.commands.labelled import LabelledScene, Part, accuracy_at
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimators import BASELINES
from hsi_pipeline.training import TrainingSettings, epoch_score


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """What the validation pixels say of a model."""

    accuracy: Accuracy
    """Its accuracy."""
    calibration: Calibration
    """How far its probabilities are to be trusted, and how they are mended."""
    told: dict[str, Any]
    """What the card tells of the training."""


def judge(
    data: LabelledScene,
    part: Part,
    fitted: Fitted,
    name: str,
    seed: int,
    terminal: Terminal,
    *,
    baselines: bool,
) -> Judgement:
    """Score a model on the validation pixels, beside the baselines if it is a network.

    Raises:
        InputError: There is no such pixel of the model's classes.
    """
    known = part.validation & (data.indices(part.scheme) > 0)
    if not known.any():
        raise InputError(
            "no validation label is of a class that has training labels, so that nothing tells how "
            "good the model is; mark some of each class as validation"
        )
    scored, scores = score(data, fitted.model, known)
    predicted = np.zeros(known.shape, np.uint8)
    predicted[scored] = scores.argmax(1) + 1
    accuracy = accuracy_at(data, part.scheme, predicted, known)
    reference = data.indices(part.scheme)[scored].astype(int) - 1
    calibration = calibrate(scores, reference, data.units[scored], np.argwhere(scored))
    _report_calibration(calibration, terminal)
    told: dict[str, Any] = {"own_score": epoch_score(accuracy)}
    if fitted.history:
        told |= _of_network(fitted, terminal)
        if baselines:
            told["baselines"] = _compare(
                data, part, predicted, known, name=name, seed=seed, terminal=terminal
            )
    return Judgement(accuracy=accuracy, calibration=calibration, told=told)


def _report_calibration(calibration: Calibration, terminal: Terminal) -> None:
    """Say what the temperature does."""
    before, after = (
        part.expected_calibration_error for part in (calibration.before, calibration.after)
    )
    held = "on parts held out" if calibration.cross_validated else "on the same pixels"
    if calibration.temperature == 1.0:
        terminal.say(
            f"probabilities stay as they are: expected calibration error {before:.3f}, "
            f"a temperature does not help {held}"
        )
        return
    terminal.say(
        f"probabilities calibrated by the temperature {calibration.temperature:.2f}: expected "
        f"calibration error {before:.3f} before, {after:.3f} after, {held}"
    )


def _of_network(fitted: Fitted, terminal: Terminal) -> dict[str, Any]:
    """Return what the card tells of the epochs."""
    terminal.say(f"best epoch {fitted.best_epoch} of {len(fitted.history)}")
    return {
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "epoch_chosen_by": EPOCH_CHOSEN_BY,
        "history": [
            {
                "epoch": result.epoch,
                "loss": result.loss,
                "overall_accuracy": result.accuracy.overall,
                "mean_f1": result.accuracy.mean_f1,
                "kept": result.epoch == fitted.best_epoch,
            }
            for result in fitted.history
        ],
    }


def _compare(
    data: LabelledScene,
    part: Part,
    predicted: np.ndarray,
    known: np.ndarray,
    *,
    name: str,
    seed: int,
    terminal: Terminal,
) -> dict[str, float]:
    """Return the scores of the baselines, and warn where one is better than the network."""
    own = epoch_score(accuracy_at(data, part.scheme, predicted, known))
    others = {
        key: predict(data, baseline.model, known)
        for key, baseline in fit_baselines(data, part, seed=seed).items()
    }
    found = {
        key: epoch_score(accuracy_at(data, part.scheme, other, known))
        for key, other in others.items()
    }
    listed = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
    terminal.say(f"mean of overall accuracy and mean F1 there: {name} {own:.3f}, {listed}")
    best = max(found, key=lambda key: found[key])
    spread = spread_of_difference(data, part.scheme, predicted, others[best], known, seed=seed)
    if found[best] - own > spread:
        terminal.say(
            f"warning: {best} scores {found[best]:.3f} on the validation pixels, {name} {own:.3f} "
            f"(the difference's standard error is {spread:.3f}); "
            f"--model {best} may give the better map, 'hsi-pipeline crossval' tells"
        )
    return found


def fit_baselines(data: LabelledScene, part: Part, *, seed: int) -> dict[str, Fitted]:
    """Fit every baseline on the training pixels, with the settings that it starts from."""
    how = TrainingSettings(seed=seed)
    return {name: fit(data, part, name, settings={}, how=how, tune=False) for name in BASELINES}


def spread_of_difference(
    data: LabelledScene,
    scheme: ClassScheme,
    one: np.ndarray,
    other: np.ndarray,
    pixels: np.ndarray,
    *,
    seed: int,
    draws: int = 200,
) -> float:
    """Return the standard error of the difference of two models' scores on the same pixels.

    Polygons (pixels, where there are none) are drawn with replacement: the pixels of a polygon
    are right or wrong together.

    Args:
        data: The scene.
        scheme: Classes of both models.
        one: Predictions of one model, as `predict` gives them.
        other: Predictions of the other.
        pixels: Which pixels to score, bool (y, x).
        seed: Seed of the draws.
        draws: Number of draws.

    Returns:
        Standard deviation over the draws, in units of `training.epoch_score`.
    """
    reference = data.indices(scheme)[pixels].astype(int) - 1
    sides = [side[pixels].astype(int) - 1 for side in (one, other)]
    unit = data.units[pixels].astype(np.int64)
    unit[unit == 0] = unit.max() + 1 + np.arange((unit == 0).sum())
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    members = np.split(order, starts[1:])
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(draws):
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        scores = [
            epoch_score(compare(reference[drawn], side[drawn], len(scheme))) for side in sides
        ]
        differences.append(scores[1] - scores[0])
    return float(np.std(differences))
