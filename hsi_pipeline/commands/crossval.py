"""Scene and labels to an honest comparison of models, by spatial cross-validation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hsi_pipeline.accuracy import Accuracy, compare
from hsi_pipeline.classes import UNLABELLED, ClassScheme
from hsi_pipeline.commands.fitting import (
    LabelledScene,
    Part,
    fit,
    labelled_scene,
    learnable,
    predict,
    reach_of,
    refit,
    training_settings,
)
from hsi_pipeline.commands.messages import about, describe_wavelengths, report_labels
from hsi_pipeline.commands.scheduling import choose_device
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimators import BASELINES, SEEDED, is_estimator
from hsi_pipeline.folds import spatial_folds
from hsi_pipeline.ground_truth import check_trainable, read_labels
from hsi_pipeline.models import DEFAULT_MODEL
from hsi_pipeline.publish import check_target, staged
from hsi_pipeline.scene import open_scene
from hsi_pipeline.splits import Split, split_labels

_SCORES = ("overall_accuracy", "average_accuracy", "kappa", "mean_f1", "mean_iou")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One model on one fold with one seed."""

    model: str
    """Name of the model."""
    fold: int
    """From 1."""
    seed: int
    """Seed of the model."""
    accuracy: Accuracy
    """On the fold's pixels, over the scene's classes."""
    train_pixels: int
    """Pixels learnt from."""
    fit_seconds: float
    """Wall time of choosing, tuning and fitting."""
    predict_seconds: float
    """Wall time of predicting the fold's pixels."""
    settings: dict[str, Any]
    """Settings that were given or tuned, and the epoch."""


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
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; it must be at least 1")
    names = [*dict.fromkeys([*models, *BASELINES])]
    options = {name: (settings or {}) if name == models[0] else {} for name in names}
    reach = max(reach_of(name, options[name]) for name in names)
    training_settings(device := choose_device(device), seed, epochs)
    cube = open_scene(scene, pixel_coordinates=pixel_coordinates)
    terminal.say(describe_wavelengths(cube))
    truth = read_labels(
        labels,
        grid_of(cube),
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
        data = labelled_scene(
            scene, cube, truth.labels, truth.units, pixel_coordinates=pixel_coordinates
        )
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
    _show(terminal, summary, models[0], trials)
    if out is not None:
        _write(Path(out), trials, summary, truth.scheme, splits, seeds)
    return trials


def summarise(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row per model: mean and standard deviation of each score over folds and seeds.

    Columns `NAME` and `NAME_sd` for each score; `pooled_overall_accuracy` and `pooled_mean_iou`
    count the pixels of all folds together, mean over seeds; `fit_seconds` is a mean.
    """
    frame = _frame(trials)
    grouped = frame.groupby("model", sort=False)
    summary = pd.DataFrame(index=list(grouped.groups))
    for score in _SCORES:
        summary[score] = grouped[score].mean()
        summary[f"{score}_sd"] = grouped[score].std(ddof=0)
    for score in ("overall_accuracy", "mean_iou"):
        summary[f"pooled_{score}"] = [
            np.mean([pooled.scores()[score] for pooled in _pooled(trials, model)])
            for model in summary.index
        ]
    summary["fit_seconds"] = grouped["fit_seconds"].mean()
    return summary


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


def _pooled(trials: Sequence[Trial], model: str) -> Iterator[Accuracy]:
    """Yield the accuracy over all folds' pixels together, seed by seed."""
    of_model = [trial for trial in trials if trial.model == model]
    for seed in sorted({trial.seed for trial in of_model}):
        matrices = [trial.accuracy.matrix for trial in of_model if trial.seed == seed]
        yield Accuracy(np.sum(matrices, axis=0))


def _frame(trials: Sequence[Trial]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": trial.model,
            "fold": trial.fold,
            "seed": trial.seed,
            "train_pixels": trial.train_pixels,
            "test_pixels": trial.accuracy.pixels,
            **trial.accuracy.scores(),
            "fit_seconds": round(trial.fit_seconds, 2),
            "predict_seconds": round(trial.predict_seconds, 2),
            "settings": "; ".join(f"{key}={value}" for key, value in trial.settings.items()),
        }
        for trial in trials
    )


def _report_folds(terminal: Terminal, scheme: ClassScheme, splits: Sequence[Split]) -> None:
    for index, split in enumerate(splits, 1):
        terminal.say(
            f"fold {index}: {int(split.validation.sum())} pixels, {int(split.train.sum())} to "
            f"learn from, {split.guard_px} pixels apart (wanted {split.guard_wanted}), "
            f"{split.dropped} left out"
        )
        for text in _missing(scheme, split):
            terminal.say(f"  {text}")


def _missing(scheme: ClassScheme, split: Split) -> Iterator[str]:
    """Yield what is to be said of classes that a fold or its training side lacks."""
    names = dict(zip(scheme.codes, scheme.names, strict=True))
    for count in split.counts:
        if not count.validation:
            yield f"{names[count.code]} is missing; scores are over the classes present"
        if not count.train:
            yield f"{names[count.code]} cannot be learnt outside this fold; it counts as wrong"


def _show(terminal: Terminal, summary: pd.DataFrame, network: str, trials: Sequence[Trial]) -> None:
    columns = ("model", "OA", "mean F1", "mean IoU", "fit s")
    rows = [
        (
            str(name),
            _spread(row, "overall_accuracy"),
            _spread(row, "mean_f1"),
            _spread(row, "mean_iou"),
            f"{row['fit_seconds']:.1f}",
        )
        for name, row in summary.iterrows()
    ]
    terminal.table("Mean and standard deviation over folds and seeds", columns, rows)
    for line in _verdict(summary, network, trials):
        terminal.show(line)


def _verdict(summary: pd.DataFrame, first: str, trials: Sequence[Trial]) -> Iterator[str]:
    """Yield which model is best by each score, and whether the first one is worse beyond doubt."""
    frame = _frame(trials)
    for score, title in (("overall_accuracy", "overall accuracy"), ("mean_iou", "mean IoU")):
        best = str(summary[score].idxmax())
        text = f"best by {title}: {best} ({summary[score].max():.3f})"
        if best != first:
            wide = frame.pivot(index=["fold", "seed"], columns="model", values=score)
            difference = wide[best] - wide[first]
            text += (
                f"; {first} is {difference.mean():.3f} lower, "
                f"{difference.std(ddof=0):.3f} standard deviation over folds and seeds"
            )
        yield text


def _spread(row: pd.Series, score: str) -> str:
    return f"{row[score]:.3f} ± {row[f'{score}_sd']:.3f}"


def _write(
    out: Path,
    trials: Sequence[Trial],
    summary: pd.DataFrame,
    scheme: ClassScheme,
    splits: Sequence[Split],
    seeds: int,
) -> None:
    """Write every trial as CSV and the summary as Markdown."""
    lines = [
        f"{len(splits)} spatial folds, {seeds} seed{'s' if seeds > 1 else ''}; mean ± standard "
        "deviation over folds and seeds; pooled: all folds' pixels together.",
        "",
        "| model | overall accuracy | average accuracy | kappa | mean F1 | mean IoU "
        "| pooled OA / mean IoU | fit (s) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in summary.iterrows():
        cells = (
            str(name),
            *(_spread(row, score) for score in _SCORES),
            f"{row['pooled_overall_accuracy']:.3f} / {row['pooled_mean_iou']:.3f}",
            f"{row['fit_seconds']:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {line}" for line in _verdict(summary, trials[0].model, trials))]
    for index, split in enumerate(splits, 1):
        lines += [f"- fold {index}: {text}" for text in _missing(scheme, split)]
    with staged(out) as target:
        _frame(trials).to_csv(target, index=False)
    with staged(out.with_suffix(".md")) as target:
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
