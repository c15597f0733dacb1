"""A fitted network beside the baselines on the same pixels: is it worth its trouble here?"""

from __future__ import annotations

from typing import Any

import numpy as np

from hsi_pipeline.accuracy import Accuracy, compare
from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.commands.fitting import EPOCH_CHOSEN_BY, Fitted, fit, predict
from hsi_pipeline.commands.labelled import LabelledScene, Part, accuracy_at
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.estimators import BASELINES
from hsi_pipeline.training import TrainingSettings, epoch_score


def judge(
    data: LabelledScene,
    part: Part,
    fitted: Fitted,
    name: str,
    seed: int,
    terminal: Terminal,
    *,
    baselines: bool,
) -> tuple[Accuracy, dict[str, Any]]:
    """Score a model on the validation pixels, beside the baselines if it is a network.

    Returns:
        Its accuracy, and what the card tells of the training.
    """
    known = part.validation & (data.indices(part.scheme) > 0)
    predicted = predict(data, fitted.model, known)
    accuracy = accuracy_at(data, part.scheme, predicted, known)
    if not fitted.history:
        return accuracy, {}
    told: dict[str, Any] = {
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "epoch_chosen_by": EPOCH_CHOSEN_BY,
    }
    terminal.say(f"best epoch {fitted.best_epoch} of {len(fitted.history)}")
    if not baselines:
        return accuracy, told
    own = epoch_score(accuracy)
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
    return accuracy, told | {"baselines": found}


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
