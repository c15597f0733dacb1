"""Scene and labels to an honest comparison of models, by spatial cross-validation."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hsi_pipeline.accuracy import compare
from hsi_pipeline.classes import UNLABELLED, ClassScheme
from hsi_pipeline.commands.fitting import fit, predict, reach_of, refit, training_settings
from hsi_pipeline.commands.labelled import LabelledScene, Part, labelled_scene, learnable
from hsi_pipeline.commands.messages import (
    about,
    check_no_input,
    describe_wavelengths,
    report_labels,
    report_mask,
)
from hsi_pipeline.commands.scheduling import choose_device
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.commands.trials import Trial, missing, show, summarise, write
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimators import BASELINES, SEEDED, is_estimator
from hsi_pipeline.folds import spatial_folds
from hsi_pipeline.ground_truth import check_trainable, read_labels
from hsi_pipeline.models import DEFAULT_MODEL
from hsi_pipeline.publish import check_target
from hsi_pipeline.scene import cube_of, open_source
from hsi_pipeline.splits import Split, split_labels


def crossval(
    scene: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    folds: int = 5,
    guard: int | None = None,
    models: Sequence[str] = (DEFAULT_MODEL,),
    settings: dict[str, Any] | None = None,
    seeds: int = 1,
    seed: int = 0,
    epochs: int | None = None,
    validation_share: float = 0.2,
    label_column: str | None = None,
    name_column: str | None = None,
    class_table: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    where: str | None = None,
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    mask: str = "default",
    pixel_coordinates: bool = False,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> list[Trial]:
    """Compare models and scikit-learn's classifiers on the same pixels, fold by fold.

    A network chooses its epoch on part of a fold's training pixels and learns from all of them
    again; random forest, support vector machine and logistic regression are tuned by spatial
    folds of them. None sees the pixels it is scored on, nor those within the guard of them.

    Args:
        scene: Scene file.
        labels: Vector file or class raster.
        folds: Number of spatial folds.
        guard: Pixels between a fold and what is learnt from; None: the models' largest reach.
        models: Models to compare beside the baselines.
        settings: Settings of the first model.
        seeds: Number of seeds for each fold.
        seed: Seed of the folds, and the first seed of the models.
        epochs: Epochs; None: the default of `TrainingSettings`.
        validation_share: Share of the training pixels that a network's epoch is chosen by.
        label_column: Column of class codes or names.
        name_column: Column that names the codes.
        class_table: CSV or YAML of code, name, color.
        layer: Layer of the vector file.
        where: SQL condition on the features.
        out: Table to write, `.csv`; a Markdown summary of the same name goes beside it.
        device: Torch device or "auto".
        mask: Flags of the product's quality layers that are left out; see `scene.quality`.
        pixel_coordinates: Accept a scene without georeference.
        overwrite: Replace existing tables.
        terminal: Where to report.

    Returns:
        Every trial.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    if out is not None:
        for path in (Path(out), Path(out).with_suffix(".md")):
            check_target(path, overwrite=overwrite, suffixes=(".csv", ".md"))
        if Path(out).suffix.lower() != ".csv":
            raise InputError(f"{out}: the table is a .csv file; a .md file is written beside it")
        check_no_input(out, labels, class_table)
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; it must be at least 1")
    names = [*dict.fromkeys([*models, *BASELINES])]
    options = {name: (settings or {}) if name == models[0] else {} for name in names}
    reach = max(reach_of(name, options[name]) for name in names)
    training_settings(device := choose_device(device), seed, epochs)
    source = open_source(scene, pixel_coordinates=pixel_coordinates, mask=mask)
    terminal.say(describe_wavelengths(cube_of(source)))
    report_mask(terminal, source)
    truth = read_labels(
        labels,
        source.grid,
        label_column=label_column,
        name_column=name_column,
        class_table=class_table,
        split_column=None,
        layer=layer,
        where=where,
    )
    with about(labels):
        check_trainable(truth)
    report_labels(terminal, truth)
    with about(scene):
        data = labelled_scene(source, truth.labels, truth.units)
    with about(labels):
        splits = spatial_folds(
            data.labels,
            data.units,
            folds=folds,
            guard=reach if guard is None else guard,
            seed=seed,
        )
    _report_folds(terminal, truth.scheme, splits)

    trials: list[Trial] = []
    with terminal.progress("cross-validating") as update:
        total = len(splits) * seeds * len(names)
        for index, split in enumerate(splits, 1):
            for chosen_seed in range(seed, seed + seeds):
                for name in names:
                    update(len(trials), total, note=f"fold {index} seed {chosen_seed} {name}")
                    trial = _same(trials, name, index, chosen_seed) or try_model(
                        data,
                        truth.scheme,
                        split,
                        name,
                        options[name],
                        fold=index,
                        seed=chosen_seed,
                        epochs=epochs,
                        device=device,
                        share=validation_share,
                    )
                    trials.append(trial)
        update(total, total, note="")
    summary = summarise(trials)
    show(terminal, summary, models[0], trials)
    if out is not None:
        write(Path(out), trials, summary, truth.scheme, splits, seeds)
    terminal.made(
        "crossval",
        [] if out is None else [out, Path(out).with_suffix(".md")],
        folds=len(splits),
        seeds=seeds,
        models=summary.rename_axis("model").reset_index().to_dict("records"),
    )
    return trials


def _same(trials: Sequence[Trial], name: str, fold: int, seed: int) -> Trial | None:
    """Return an earlier trial of the fold if the model does not depend on its seed."""
    if not is_estimator(name) or name in SEEDED or name not in BASELINES:
        return None
    found = (t for t in trials if t.model == name and t.fold == fold)
    return next((replace(trial, seed=seed) for trial in found), None)


def try_model(
    data: LabelledScene,
    scheme: ClassScheme,
    split: Split,
    name: str,
    settings: dict[str, Any],
    *,
    fold: int,
    seed: int,
    epochs: int | None,
    device: str,
    share: float,
) -> Trial:
    """Fit a model outside a fold and score it inside.

    Args:
        data: The scene.
        scheme: Classes to score.
        split: The fold; nothing of its validation side is used for fitting.
        name: Name of the model.
        settings: Its settings.
        fold: Number of the fold, for the record.
        seed: Seed of the model and of what chooses its epoch.
        epochs: Epochs; None: the default.
        device: Torch device.
        share: Share of the training pixels that a network's epoch is chosen by.

    Returns:
        The trial.

    Raises:
        InputError: The model cannot be built or fitted.
    """
    started = time.perf_counter()
    how = training_settings(device, seed, epochs)
    classes = learnable(scheme, data.labels, split.train)
    outside = (data.labels != UNLABELLED) & ~split.train
    if is_estimator(name):
        part = Part(scheme=classes, train=split.train, validation=split.validation, hidden=outside)
        fitted = fit(data, part, name, settings=settings, how=how)
    else:
        inner = inner_split(data, split, reach_of(name, settings), share, seed)
        part = Part(
            scheme=classes,
            train=inner.train,
            validation=inner.validation,
            hidden=(data.labels != UNLABELLED) & ~inner.train,
        )
        chosen = fit(data, part, name, settings=settings, how=how)
        fitted = refit(data, part, name, chosen, split.train, how=how)
        settings = {**settings, "epochs": chosen.best_epoch}
    fit_seconds = time.perf_counter() - started
    started = time.perf_counter()
    predicted = predict(data, fitted.model, split.validation)
    predict_seconds = time.perf_counter() - started
    # The model may know fewer classes than the fold holds: those it lacks count as wrong.
    table = np.array([-1, *(scheme.index_of_code[code] for code in classes.codes)])
    reference = data.indices(scheme)[split.validation].astype(int) - 1
    return Trial(
        model=name,
        fold=fold,
        seed=seed,
        accuracy=compare(reference, table[predicted[split.validation]], len(scheme)),
        train_pixels=int(split.train.sum()),
        fit_seconds=fit_seconds,
        predict_seconds=predict_seconds,
        settings={**settings, **fitted.settings},
    )


def inner_split(data: LabelledScene, split: Split, guard: int, share: float, seed: int) -> Split:
    """Split a fold's training pixels once more, to choose the epoch.

    Args:
        data: The scene.
        split: The fold.
        guard: Wanted distance in pixels between the sides.
        share: Share of the pixels that the epoch is chosen by.
        seed: Seed of the split.

    Returns:
        The split of the fold's training pixels.

    Raises:
        InputError: A class has too few pixels for that.
    """
    labels = np.where(split.train, data.labels, UNLABELLED)
    few = [c.code for c in split.counts if 0 < c.train < 8]
    labels = np.where(np.isin(labels, few), UNLABELLED, labels)
    inner = split_labels(labels, data.units, validation_share=share, guard=guard, seed=seed)
    # Classes too small to be split are learnt from, though the epoch is not chosen by them.
    rest = split.train & np.isin(data.labels, few)
    return Split(**{**vars(inner), "train": inner.train | rest})


def _report_folds(terminal: Terminal, scheme: ClassScheme, splits: Sequence[Split]) -> None:
    for index, split in enumerate(splits, 1):
        terminal.say(
            f"fold {index}: {int(split.validation.sum())} pixels, {int(split.train.sum())} to "
            f"learn from, {split.guard_px} pixels apart (wanted {split.guard_wanted}), "
            f"{split.dropped} left out"
        )
        for text in missing(scheme, split):
            terminal.say(f"  {text}")
