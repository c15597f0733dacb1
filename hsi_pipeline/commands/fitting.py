"""Labelled pixels of a scene to a fitted model, network or classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from hsi_pipeline.applicability import fit_applicability
from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.commands.labelled import LabelledScene, Part
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.datasets import HyperspectralDataset
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimators import BASELINES, fit_estimator, is_estimator
from hsi_pipeline.folds import spatial_folds
from hsi_pipeline.inference import resolve_precision
from hsi_pipeline.loaders import LandCoverDataModule, balance, score_labelled
from hsi_pipeline.models import MODELS, build_model
from hsi_pipeline.models.applicability import Applicability
from hsi_pipeline.spectra import band_statistics, read_spectra
from hsi_pipeline.splits import MIN_TRAIN
from hsi_pipeline.training import EpochResult, TrainingSettings, hide_bands
from hsi_pipeline.training import train as train_network

_TUNING_FOLDS = 3
_MOST_SPECTRA = 20_000
"""Most spectra that classifiers and the linear part learn from; more are drawn at random."""

EPOCH_CHOSEN_BY = "mean of overall accuracy and mean F1 on the validation pixels, second half"


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A fitted model."""

    model: nn.Module
    """The network or classifier, in evaluation mode."""
    history: list[EpochResult]
    """Results of the epochs; none for a classifier."""
    settings: dict[str, Any]
    """Settings beyond the defaults, those found by tuning included."""

    @property
    def best_epoch(self) -> int:
        """Number of the epoch that was kept."""
        return [result.epoch for result in self.history if result.best][-1]


def reach_of(name: str, settings: dict[str, Any]) -> int:
    """Return the halo of an architecture in pixels, 0 for classifiers of scikit-learn.

    Raises:
        InputError: The architecture is not known, cannot be built, or cannot map scenes.
    """
    if is_estimator(name):
        return 0
    if name not in MODELS:
        raise InputError(
            f"model {name!r} is not known; use one of {', '.join([*MODELS, *BASELINES])}, or the "
            "name of a classifier of scikit-learn, such as LinearDiscriminantAnalysis"
        )
    network = build_model(name, 1, 2, **settings)
    if getattr(network, "window", 1) is None:
        raise InputError(
            "the setting 'window: null' makes the patch form, which labels single patches; "
            "a map needs an odd window, 1 for none"
        )
    return int(network.halo)  # type: ignore[arg-type]


def fit(
    data: LabelledScene,
    part: Part,
    name: str,
    *,
    settings: dict[str, Any],
    how: TrainingSettings,
    tune: bool = True,
    stop_after: int | None = None,
    terminal: Terminal | None = None,
) -> Fitted:
    """Fit a network or a classifier of scikit-learn.

    Args:
        data: The scene.
        part: What to learn from; without `stop_after` the epoch is chosen by its validation
            pixels.
        name: One of `models.MODELS`, or what `estimators.is_estimator` knows.
        settings: Its settings.
        how: How to train a network; its seed is that of classifiers too.
        tune: Whether the settings of `BASELINES` are tuned by spatial folds of the training
            pixels.
        stop_after: Number of epochs of a network, without validation.
        terminal: Where to report.

    Returns:
        The model.

    Raises:
        InputError: The model cannot be built or fitted.
    """
    terminal = terminal or Terminal(quiet=True)
    labels = data.indices(part.scheme)
    if is_estimator(name):
        return _fit_classifier(data, part, labels, name, settings, how.seed, tune=tune)
    torch.manual_seed(how.seed)
    network = build_model(name, len(data.bands), len(part.scheme), **settings)
    _start(network, data, part, labels, how)
    window, batch_size = _windows(network)
    loaders = LandCoverDataModule(
        HyperspectralDataset(data.source, bands=data.bands),
        labels,
        window=window,
        batch_size=batch_size,
        train=part.train,
        validation=part.validation,
        hidden=part.hidden,
        halo=int(network.halo),  # type: ignore[arg-type]
        seed=how.seed,
    )
    with terminal.progress("training" if stop_after is None else "on all labels") as update:
        on_epoch, on_batch = _progress(update)
        history = train_network(
            network,
            len(part.scheme),
            loaders,
            how,
            stop_after=stop_after,
            on_epoch=on_epoch,
            on_batch=on_batch,
        )
    if history and hasattr(network, "balance"):
        balance(network, loaders.validation_tiles())
    return Fitted(model=network, history=history, settings=settings)


def refit(
    data: LabelledScene,
    part: Part,
    name: str,
    chosen: Fitted,
    pixels: np.ndarray,
    *,
    how: TrainingSettings,
    terminal: Terminal | None = None,
) -> Fitted:
    """Fit the same model again on all pixels: those it was chosen by, and those between.

    The epoch, the weights of the parts and the settings stay as they were chosen.

    Args:
        data: The scene.
        part: What it was fitted on.
        name: Its name.
        chosen: The fitted model.
        pixels: Pixels to learn from now, bool (y, x).
        how: How it was trained.
        terminal: Where to report.

    Returns:
        The model.
    """
    everything = replace(part, train=pixels, hidden=part.hidden & ~pixels)
    again = fit(
        data,
        everything,
        name,
        settings=chosen.settings,
        how=how,
        tune=False,
        stop_after=chosen.best_epoch if chosen.history else None,
        terminal=terminal,
    )
    if hasattr(chosen.model, "shares"):
        again.model.shares.copy_(chosen.model.shares)  # type: ignore[operator, arg-type]
    return again


def predict(data: LabelledScene, model: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Predict some pixels in their full surroundings.

    Args:
        data: The scene.
        model: A fitted model.
        pixels: Which pixels, bool (y, x), with values in all bands.

    Returns:
        Class index plus one (y, x), 0 elsewhere.
    """
    scored, scores = score(data, model, pixels)
    predicted = np.zeros(pixels.shape, np.uint8)
    predicted[scored] = scores.argmax(1) + 1
    return predicted


def score(
    data: LabelledScene, model: nn.Module, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Score some pixels in their full surroundings.

    Args:
        data: The scene.
        model: A fitted model.
        pixels: Which pixels, bool (y, x), with values in all bands.

    Returns:
        As `loaders.score_labelled`.
    """
    loaders = LandCoverDataModule(
        HyperspectralDataset(data.source, bands=data.bands),
        pixels.astype(np.uint8),
        train=pixels,
        validation=pixels,
        hidden=np.zeros_like(pixels),
        halo=int(model.halo),  # type: ignore[arg-type]
    )
    return score_labelled(model, loaders.validation_tiles())


def find_applicability(
    data: LabelledScene, part: Part, pixels: np.ndarray, *, seed: int
) -> tuple[Applicability, dict[str, Any]]:
    """Describe the spectra of some pixels, so that those unlike them can be told.

    Args:
        data: The scene.
        part: The classes.
        pixels: What a model has learnt from, bool (y, x).
        seed: Seed of the folds and of the clustering.

    Returns:
        The area, and what the card tells of it.
    """
    labels = data.indices(part.scheme)
    chosen = _some(pixels & (labels > 0), labels, seed)
    spectra = read_spectra(data.cube, chosen, data.bands)
    classes = labels[chosen].astype(int) - 1
    folds = _tuning_folds(data, chosen, seed)
    area = fit_applicability(spectra, classes, folds=folds, seed=seed)
    return area, {
        "pixels": len(spectra),
        "centers": len(area.centers),
        "threshold_by": "spatial folds" if folds else "pixels at random",
    }


def training_settings(
    device: str, seed: int, epochs: int | None, band_dropout: float = 0.0
) -> TrainingSettings:
    """Return how to train on a device.

    Raises:
        InputError: There is no epoch, or the band dropout is no share.
    """
    if not 0 <= band_dropout < 1:
        raise InputError(f"band dropout is {band_dropout}; it must be at least 0 and below 1")
    if epochs is not None and epochs < 1:
        raise InputError(f"epochs is {epochs}; it must be at least 1")
    mixed = resolve_precision("auto", device) == torch.bfloat16
    how = TrainingSettings(
        seed=seed,
        device=device,
        precision="bf16-mixed" if mixed else "32-true",
        band_dropout=band_dropout,
    )
    return how if epochs is None else replace(how, epochs=epochs)


def _fit_classifier(
    data: LabelledScene,
    part: Part,
    labels: np.ndarray,
    name: str,
    settings: dict[str, Any],
    seed: int,
    *,
    tune: bool,
) -> Fitted:
    chosen = _some(part.train, labels, seed)
    spectra = read_spectra(data.cube, chosen, data.bands)
    classes = labels[chosen].astype(int) - 1
    folds = _tuning_folds(data, chosen, seed) if tune and name in BASELINES else []
    model, found = fit_estimator(
        name, spectra, classes, len(part.scheme), folds=folds, seed=seed, settings=settings
    )
    return Fitted(model=model.eval(), history=[], settings=found)


def _tuning_folds(
    data: LabelledScene, pixels: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows of spatial folds of some pixels; none if they cannot be cut."""
    labels = np.where(pixels, data.labels, UNLABELLED)
    try:
        splits = spatial_folds(labels, data.units, folds=_TUNING_FOLDS, seed=seed)
    except InputError:
        return []
    return [
        (np.flatnonzero(split.train[pixels]), np.flatnonzero(split.validation[pixels]))
        for split in splits
    ]


def _start(
    network: nn.Module, data: LabelledScene, part: Part, labels: np.ndarray, how: TrainingSettings
) -> None:
    """Give a network the statistics of the training pixels, and what it solves in advance."""
    statistics = band_statistics(data.cube, part.train)
    chosen = list(data.bands)
    mean, std = torch.from_numpy(statistics.mean[chosen]), torch.from_numpy(statistics.std[chosen])
    state = network.state_dict()  # shares its memory with the network
    state["band_mean"].copy_(mean)
    # Of a band that is constant in the training part nothing is known: leave its unit as it is.
    state["band_std"].copy_(torch.where(std > 0, std, 1.0))
    if hasattr(network, "start"):
        some = _some(part.train, labels, how.seed)
        spectra = torch.from_numpy(read_spectra(data.cube, some, data.bands))
        classes = torch.from_numpy(labels[some].astype(np.int64) - 1)
        if how.band_dropout:
            hidden = hide_bands(spectra, state["band_mean"], how.band_dropout)
            spectra, classes = torch.cat([spectra, hidden]), torch.cat([classes, classes])
        network.start(spectra, classes)  # type: ignore[operator]


def _some(pixels: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return at most `_MOST_SPECTRA` of some pixels, at random; of each class at least a few."""
    count = int(pixels.sum())
    if count <= _MOST_SPECTRA:
        return pixels
    rng = np.random.default_rng(seed)
    kept = np.zeros_like(pixels)
    for label in np.unique(labels[pixels]):
        places = np.argwhere(pixels & (labels == label))
        share = max(round(len(places) * _MOST_SPECTRA / count), min(MIN_TRAIN, len(places)))
        kept[tuple(rng.permutation(places)[:share].T)] = True
    return kept


def _windows(network: nn.Module) -> tuple[int, int]:
    """Return the side of the training windows, and how many make a batch.

    Many small windows are more different from each other than few large ones. A network that
    pools over a window must see that window, though, as it will on the map.
    """
    return (8, 32) if (getattr(network, "window", None) or 1) == 1 else (32, 8)


def _progress(
    update: Callable[..., None],
) -> tuple[Callable[[EpochResult], None], Callable[[int, int], None]]:
    steps = [0, 1]

    def on_batch(done: int, total: int) -> None:
        steps[:] = done, total
        update(done, total)

    def on_epoch(result: EpochResult) -> None:
        update(
            *steps,
            note=f"epoch {result.epoch} loss {result.loss:.3f} "
            f"validation OA {result.accuracy.overall:.3f}",
        )

    return on_epoch, on_batch
