"""What cross-validation found: trials, their summary, and the tables made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hsi_pipeline.accuracy import Accuracy
from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.publish import staged
from hsi_pipeline.splits import Split

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


def show(terminal: Terminal, summary: pd.DataFrame, network: str, trials: Sequence[Trial]) -> None:
    """Show the summary as a table, and which model is best, `network` or another."""
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


def write(
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
        lines += [f"- fold {index}: {text}" for text in missing(scheme, split)]
    with staged(out) as target:
        _frame(trials).to_csv(target, index=False)
    with staged(out.with_suffix(".md")) as target:
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def missing(scheme: ClassScheme, split: Split) -> Iterator[str]:
    """Yield what is to be said of classes that a fold or its training side lacks."""
    names = dict(zip(scheme.codes, scheme.names, strict=True))
    for count in split.counts:
        if not count.validation:
            yield f"{names[count.code]} is missing; scores are over the classes present"
        if not count.train:
            yield f"{names[count.code]} cannot be learnt outside this fold; it counts as wrong"


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
