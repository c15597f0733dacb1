"""Scene, labels and model to accuracy figures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

from hsi_pipeline.accuracy import Accuracy, compare
from hsi_pipeline.classes import UNLABELLED, ClassScheme
from hsi_pipeline.commands.classify import open_and_classify
from hsi_pipeline.commands.messages import about, check_no_input, report_labels
from hsi_pipeline.commands.scheduling import choose_device, computing
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import TEST, VALIDATION, GroundTruth, align_labels, read_labels
from hsi_pipeline.publish import check_target, staged


def evaluate(
    scene: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    label_column: str | None = None,
    name_column: str | None = None,
    class_table: str | os.PathLike[str] | None = None,
    split_column: str | None = None,
    layer: str | None = None,
    where: str | None = None,
    out: str | os.PathLike[str] | None = None,
    chunk: int | None = None,
    precision: str = "float32",
    device: str = "auto",
    scheduler: str | None = None,
    tolerance_nm: float | None = None,
    resampling: str = "auto",
    fill_missing: str = "error",
    mask: str = "default",
    pixel_coordinates: bool = False,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> Accuracy:
    """Compare a model's classes with reference labels; only chunks with labels are computed.

    Args:
        scene: Scene file.
        labels: Vector file or class raster.
        model: Model file.
        label_column: Column of class codes or names.
        name_column: Column that names the codes.
        class_table: CSV or YAML of code, name, color.
        split_column: Column that says train, validation or test: only test labels count, or
            validation labels where none are marked test.
        layer: Layer of the vector file.
        where: SQL condition on the features.
        out: JSON file for the figures.
        chunk: As for `classify`; and so the following.
        precision: Number type.
        device: Torch device or "auto".
        scheduler: Address of a running Dask scheduler.
        tolerance_nm: How far a band may lie from the model's.
        resampling: As for `classify`.
        fill_missing: As for `classify`.
        mask: As for `classify`; masked pixels are not counted.
        pixel_coordinates: Accept a scene without georeference.
        overwrite: Replace an existing JSON file.
        terminal: Where to report.

    Returns:
        The accuracy over the labelled pixels that hold values.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    if out is not None:
        check_target(out, overwrite=overwrite, suffixes=(".json",))
        check_no_input(out, scene, labels, model, class_table)
    class_map, card, _ = open_and_classify(
        scene,
        model,
        chunk=chunk,
        precision=precision,
        probabilities=False,
        device=choose_device(device, scheduler),
        tolerance_nm=tolerance_nm,
        resampling=resampling,
        fill_missing=fill_missing,
        mask=mask,
        pixel_coordinates=pixel_coordinates,
        terminal=terminal,
    )
    truth = read_labels(
        labels,
        grid_of(class_map),
        label_column=label_column,
        name_column=name_column,
        class_table=class_table,
        split_column=split_column,
        layer=layer,
        where=where,
    )
    report_labels(terminal, truth)
    with about(labels):
        reference = _reference(truth, align_labels(truth, card.classes))
    with computing(terminal, "evaluating", scheduler):
        predicted = _classes_at(class_map, reference != UNLABELLED)
    nodata = int(((reference != UNLABELLED) & (predicted == UNLABELLED)).sum())
    if nodata:
        terminal.say(f"  {nodata} labelled pixels are nodata in the scene and left out")
    table = np.full(256, -1)
    for code, index in card.classes.index_of_code.items():
        table[code] = index
    accuracy = compare(table[reference], table[predicted], len(card.classes))
    if not accuracy.pixels:
        raise InputError(f"{labels}: all labelled pixels are nodata in {scene}")
    show_accuracy(terminal, accuracy, card.classes)
    if out is not None:
        _write_json(Path(out), accuracy, card.classes, overwrite=overwrite)
    terminal.made("evaluate", [] if out is None else [out], **_figures(accuracy, card.classes))
    return accuracy


def show_accuracy(terminal: Terminal, accuracy: Accuracy, scheme: ClassScheme) -> None:
    """Print the scores of a map and of each class."""
    columns = ("class", "pixels", "user's", "producer's", "F1", "IoU")
    per_class = (accuracy.users, accuracy.producers, accuracy.f1, accuracy.iou)
    rows = [
        (
            f"{category.code} {category.name}",
            str(int(accuracy.matrix[index].sum())),
            *(_share(values[index]) for values in per_class),
        )
        for index, category in enumerate(scheme.categories)
    ]
    terminal.table("Accuracy by class", columns, rows)
    terminal.show(
        f"overall accuracy {accuracy.overall:.4f}  kappa {accuracy.kappa:.4f}  "
        f"mean IoU {accuracy.mean_iou:.4f}  mean F1 {accuracy.mean_f1:.4f}  "
        f"({accuracy.pixels} pixels)"
    )


def _reference(truth: GroundTruth, labels: np.ndarray) -> np.ndarray:
    """Return the labels to compare with: all, or those of the part that the file names.

    Raises:
        InputError: The file names parts, but marks no pixel as test or validation.
    """
    if truth.splits is None:
        return labels
    for part in (TEST, VALIDATION):
        if (truth.splits == part).any():
            return np.where(truth.splits == part, labels, UNLABELLED)
    raise InputError(
        "the split column marks no labelled pixel of the scene as test or validation; "
        "leave out --split-column to compare with all labels"
    )


def _classes_at(class_map: xr.Dataset, pixels: np.ndarray) -> np.ndarray:
    """Compute the class codes (y, x) of the chunks that hold some pixels, 0 elsewhere."""
    codes = class_map["class"].data
    predicted = np.zeros(pixels.shape, np.uint8)
    windows, blocks = [], []
    row = 0
    for i, height in enumerate(codes.chunks[0]):
        column = 0
        for j, width in enumerate(codes.chunks[1]):
            window = slice(row, row + height), slice(column, column + width)
            if pixels[window].any():
                windows.append(window)
                blocks.append(codes.blocks[i, j])
            column += width
        row += height
    for window, block in zip(windows, dask.compute(*blocks), strict=True):
        predicted[window] = block
    return predicted


def _write_json(path: Path, accuracy: Accuracy, scheme: ClassScheme, *, overwrite: bool) -> None:
    check_target(path, overwrite=overwrite, suffixes=(".json",))
    figures = _figures(accuracy, scheme)
    text = json.dumps(figures, indent=2, allow_nan=False, ensure_ascii=False)
    with staged(path) as target:
        target.write_text(f"{text}\n", encoding="utf-8")


def _figures(accuracy: Accuracy, scheme: ClassScheme) -> dict[str, Any]:
    """Return the scores as JSON has them."""
    return {
        "pixels": accuracy.pixels,
        **{name: _number(value) for name, value in accuracy.scores().items()},
        "classes": [
            {
                "code": category.code,
                "name": category.name,
                "pixels": int(accuracy.matrix[index].sum()),
                "users_accuracy": _number(accuracy.users[index]),
                "producers_accuracy": _number(accuracy.producers[index]),
                "f1": _number(accuracy.f1[index]),
                "iou": _number(accuracy.iou[index]),
            }
            for index, category in enumerate(scheme.categories)
        ],
        "confusion_matrix": accuracy.matrix.tolist(),
    }


def _number(value: float) -> float | None:
    """Return a score for JSON, which has no NaN: an undefined one is null."""
    return None if np.isnan(value) else float(value)


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
