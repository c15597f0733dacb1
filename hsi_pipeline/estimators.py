"""Classifiers of scikit-learn behind the contract of a network: pixel by pixel, no neighbours.

They are the baselines that a network has to beat, and models in their own right: what is made
here is trained, saved, mapped and scored like a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators
from torch import Tensor, nn

from hsi_pipeline.errors import InputError

_BLOCK = 65_536  # pixels predicted at once
_LEAST = 1e-6  # probability of a class that the classifier rules out
_STATE = "estimator"
_TRUSTED = ["sklearn.tree._tree.Tree"]  # after `_check_tree`

# Name, class, and what tuning chooses from, for spectra that are standardised where it matters.
BASELINES: dict[str, tuple[Callable[..., Any], dict[str, list[Any]]]] = {
    "random_forest": (
        lambda **settings: RandomForestClassifier(**{"n_estimators": 500, "n_jobs": -1} | settings),
        {"max_features": ["sqrt", "log2"], "min_samples_leaf": [1, 3]},
    ),
    "svm": (
        # ties as in decision_function, so that the class is that of the highest score
        lambda **settings: SVC(**{"C": 100.0, "break_ties": True} | settings),
        {"C": [1.0, 10.0, 100.0, 1000.0], "gamma": ["scale", 1e-3]},
    ),
    "logistic_regression": (
        lambda **settings: LogisticRegression(**{"max_iter": 1000, "tol": 1e-3} | settings),
        {"C": [0.01, 0.1, 1.0, 10.0]},
    ),
}

SEEDED = frozenset({"random_forest"})
"""Baselines that a seed changes."""


class PixelClassifier(nn.Module):
    """A fitted classifier of spectra; its parameters travel in the state as bytes.

    The bytes are those of skops, whose loader runs no code of the file, unlike pickle.
    """

    estimator: Tensor
    halo = 0

    def __init__(self, classifier: Any, classes: int) -> None:
        """Wrap a classifier fitted on class indices 0..classes-1, some of which may be missing."""
        super().__init__()
        self._classifier = classifier
        self.classes = classes
        from skops.io import dumps  # half a second, which networks need not spend

        content = bytearray(dumps(classifier))
        self.register_buffer(_STATE, torch.frombuffer(content, dtype=torch.uint8).clone())

    @classmethod
    def from_state(cls, state: dict[str, Tensor], bands: int, classes: int) -> PixelClassifier:
        """Restore a classifier from its state.

        Raises:
            InputError: The state is not one, is of other bands or classes, or holds types that
                are not scikit-learn's.
        """
        from skops.io import loads
        from skops.io.exceptions import UntrustedTypesFoundException

        try:
            classifier = loads(state[_STATE].numpy().tobytes(), trusted=_TRUSTED)
            for tree in _trees(classifier):
                _check_tree(tree, bands)
            found, indices = classifier.n_features_in_, classifier.classes_
        except UntrustedTypesFoundException as error:
            raise InputError(f"it holds types that are not trusted ({error})") from error
        except Exception as error:  # a corrupt archive fails in any way
            raise InputError(f"the classifier cannot be read ({error})") from error
        if found != bands or indices.max() >= classes:
            raise InputError(
                f"the classifier has {found} bands and class {indices.max()}, the model card "
                f"{bands} bands and {classes} classes"
            )
        return cls(classifier, classes)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Score reflectance.

        Args:
            x: Reflectance (B, bands, H, W).
            valid: 1 or 0 for each pixel (B, 1, H, W); None if all are valid.

        Returns:
            (B, classes, H, W), the logarithms of the probabilities; for classifiers without
            probabilities, such as support vector machines, their decision values. Zero where
            invalid.
        """
        where = torch.ones_like(x[:, :1]) if valid is None else valid
        known = where[:, 0].bool().cpu().numpy()  # B, H, W
        spectra = x.float().movedim(1, -1).cpu().numpy()[known]
        scores = np.zeros((*known.shape, self.classes), np.float32)
        if len(spectra):
            blocks = range(0, len(spectra), _BLOCK)
            scores[known] = np.concatenate([self._score(spectra[i : i + _BLOCK]) for i in blocks])
        return torch.from_numpy(scores).movedim(-1, 1).to(x.device)

    def _score(self, spectra: np.ndarray) -> np.ndarray:
        """Score spectra (pixel, band); returns (pixel, class)."""
        found = np.asarray(self._classifier.classes_, dtype=int)
        if hasattr(self._classifier, "predict_proba"):
            values = np.log(np.maximum(self._classifier.predict_proba(spectra), _LEAST))
            least = np.log(_LEAST)
        else:
            values = self._classifier.decision_function(spectra)
            if values.ndim == 1:  # of two classes
                values = np.column_stack([-values, values])
            least = values.min() - 1 / _LEAST
        scores = np.full((len(spectra), self.classes), least, np.float32)
        scores[:, found] = values
        return scores


def is_estimator(name: str) -> bool:
    """Tell whether a model name stands for a classifier of scikit-learn."""
    return name in BASELINES or (name[:1].isupper() and name in _classifiers())


def build_estimator(name: str, seed: int, /, **settings: Any) -> BaseEstimator:
    """Build an unfitted classifier of spectra; other than forests it standardises them first.

    Args:
        name: One of `BASELINES`, or any classifier of scikit-learn by the name of its class.
        seed: Its random state, where it has one.
        **settings: Its settings.

    Raises:
        InputError: The name or a setting is not known.
    """
    make = BASELINES[name][0] if name in BASELINES else _classifiers().get(name)
    if make is None:
        raise InputError(
            f"model {name!r} is not known; use {', '.join(BASELINES)} or the name of a "
            "classifier of scikit-learn, such as LinearDiscriminantAnalysis"
        )
    try:
        classifier = make(**settings)
        if "random_state" in classifier.get_params():
            classifier.set_params(random_state=seed)
    except (TypeError, ValueError) as error:
        raise InputError(f"model {name!r} cannot be built: {error}") from error
    trees = isinstance(classifier, RandomForestClassifier)
    return classifier if trees else make_pipeline(StandardScaler(), classifier)


def fit_estimator(
    name: str,
    spectra: np.ndarray,
    labels: np.ndarray,
    classes: int,
    *,
    folds: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    seed: int = 0,
    settings: dict[str, Any] | None = None,
) -> tuple[PixelClassifier, dict[str, Any]]:
    """Fit a classifier.

    Args:
        name: As for `build_estimator`.
        spectra: Reflectance (pixel, band).
        labels: Class indices (pixel,).
        classes: Number of classes.
        folds: Rows to fit on and rows to score, by which the settings of `BASELINES` are tuned
            that `settings` does not name; by the mean of overall accuracy and mean F1, as epochs
            are chosen. None: scikit-learn's or `BASELINES`' own settings.
        seed: Random state.
        settings: Settings that are given.

    Returns:
        The classifier fitted on all rows, and its settings.

    Raises:
        InputError: It cannot be built, or fails on these data.
    """
    settings = dict(settings or {})
    estimator = build_estimator(name, seed, **settings)
    grid = BASELINES[name][1] if name in BASELINES else {}
    grid = {key: values for key, values in grid.items() if key not in settings}
    try:
        if folds and grid:
            prefix = f"{estimator.steps[-1][0]}__" if hasattr(estimator, "steps") else ""
            search = GridSearchCV(
                estimator,
                {prefix + key: values for key, values in grid.items()},
                cv=list(folds),
                scoring=make_scorer(_score),
            )
            search.fit(spectra, labels)
            estimator = search.best_estimator_
            settings |= {k.removeprefix(prefix): v for k, v in search.best_params_.items()}
        else:
            estimator.fit(spectra, labels)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"model {name!r} cannot be fitted: {reason}") from error
    from skops.io import dumps, get_untrusted_types

    foreign = set(get_untrusted_types(data=dumps(estimator))) - set(_TRUSTED)
    if foreign:
        raise InputError(
            f"model {name!r} cannot be kept in a file that is safe to open "
            f"({', '.join(sorted(foreign))}); choose another"
        )
    return PixelClassifier(estimator, classes), settings


def _trees(classifier: Any) -> Iterator[Any]:
    """Yield the decision trees of a classifier, of pipelines and ensembles too."""
    if hasattr(classifier, "tree_"):
        yield classifier
    for _, step in getattr(classifier, "steps", ()):
        yield from _trees(step)
    for member in np.ravel(getattr(classifier, "estimators_", ())):
        yield from _trees(member)


def _check_tree(classifier: Any, bands: int) -> None:
    """Refuse a tree whose indices would lead outside its arrays: scikit-learn does not look."""
    tree = classifier.tree_
    node = np.arange(tree.node_count)
    inner = tree.children_left != -1
    for child in (tree.children_left, tree.children_right):
        if len(child) != len(node) or (child[inner] <= node[inner]).any():
            raise ValueError("a decision tree is not one")
        if (child[inner] >= len(node)).any() or (child[~inner] != -1).any():
            raise ValueError("a decision tree leads outside itself")
    feature = tree.feature[inner]
    if (
        classifier.n_features_in_ > bands
        or ((feature < 0) | (feature >= classifier.n_features_in_)).any()
    ):
        raise ValueError("a decision tree asks for bands that are not there")


def _score(reference: np.ndarray, predicted: np.ndarray) -> float:
    present = np.unique(reference)
    f1 = f1_score(reference, predicted, labels=present, average="macro", zero_division=0.0)
    return float((accuracy_score(reference, predicted) + f1) / 2)


@cache
def _classifiers() -> dict[str, Any]:
    return dict(all_estimators(type_filter="classifier"))
