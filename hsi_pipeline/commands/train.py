"""Scene and labels to a trained model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hsi_pipeline import __version__
from hsi_pipeline.checkpoint import save_checkpoint
from hsi_pipeline.classes import UNLABELLED, ClassScheme
from hsi_pipeline.commands.fitting import (
    find_applicability,
    fit,
    reach_of,
    refit,
    training_settings,
)
from hsi_pipeline.commands.judging import judge
from hsi_pipeline.commands.labelled import Part, labelled_scene, learnable
from hsi_pipeline.commands.messages import (
    about,
    describe_wavelengths,
    report_labels,
    report_mask,
)
from hsi_pipeline.commands.scheduling import choose_device
from hsi_pipeline.commands.several import (
    SceneWithLabels,
    apart_on_the_ground,
    on_common_bands,
    parse_wavelengths,
)
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimators import is_estimator
from hsi_pipeline.ground_truth import GroundTruth, check_trainable, labels_sha256, read_labels
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.models import DEFAULT_MODEL
from hsi_pipeline.publish import check_target
from hsi_pipeline.resampling import check_tolerance
from hsi_pipeline.scene import cube_of, open_source
from hsi_pipeline.splits import Split, split_from_column, split_labels

MODEL_SUFFIX = ".safetensors"


def train(
    scene: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    label_column: str | None = None,
    name_column: str | None = None,
    class_table: str | os.PathLike[str] | None = None,
    split_column: str | None = None,
    layer: str | None = None,
    where: str | None = None,
    model: str = DEFAULT_MODEL,
    settings: dict[str, Any] | None = None,
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    validation_share: float = 0.2,
    guard: int | None = None,
    also: Sequence[tuple[str | os.PathLike[str], str | os.PathLike[str]]] = (),
    wavelengths: str | None = None,
    band_dropout: float = 0.0,
    tolerance_nm: float = 5.0,
    mask: str = "default",
    pixel_coordinates: bool = False,
    baselines: bool = True,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> ModelCard:
    """Train a model on a scene and labels, and save it with its card.

    Args:
        scene: Scene file.
        labels: Vector file or class raster.
        out: Target, `.safetensors`.
        label_column: Column of class codes or names.
        name_column: Column that names the codes.
        class_table: CSV or YAML of code, name, color.
        split_column: Column that says train, validation or test.
        layer: Layer of the vector file.
        where: SQL condition on the features.
        model: One of `models.MODELS` or `estimators.BASELINES`, or the name of a classifier of
            scikit-learn.
        settings: Settings of the architecture, such as `{"kernels": [1, 3]}`.
        epochs: Epochs; None: the default of `TrainingSettings`.
        seed: Seed of the split, the weights and the windows.
        device: Torch device or "auto".
        validation_share: Share of the labels that the epoch is chosen by.
        guard: Pixels between training and validation labels; None: the network's reach.
        also: Further scenes and their labels, of the same or other sensors; all are brought to
            common bands. The options for label files hold for each of them.
        wavelengths: Common bands as "START:STOP:STEP" in nm; None: those that all scenes can give,
            or those of the scene itself if it is the only one.
        band_dropout: Largest share of the bands that is hidden from the network at random, so that
            it gets along without them.
        tolerance_nm: How far a band may lie from the model's when it is used, in nm.
        mask: Flags of a product's quality layers that are not learnt from; see `scene.quality`.
        pixel_coordinates: Accept a scene without georeference.
        baselines: Whether a network is compared with scikit-learn's classifiers.
        overwrite: Replace an existing model.
        terminal: Where to report.

    Returns:
        The card of the model.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    check_target(out, overwrite=overwrite, suffixes=(MODEL_SUFFIX,))
    chosen_device = choose_device(device)
    check_tolerance(tolerance_nm)
    how = training_settings(chosen_device, seed, epochs, band_dropout)
    if band_dropout and is_estimator(model):
        raise InputError(
            f"band dropout is for networks, {model} is a classifier of scikit-learn; leave out "
            "--band-dropout"
        )
    reach = reach_of(model, settings or {})
    common = None if wavelengths is None else parse_wavelengths(wavelengths)
    options: dict[str, Any] = {
        "label_column": label_column,
        "name_column": name_column,
        "class_table": class_table,
        "split_column": split_column,
        "layer": layer,
        "where": where,
    }
    scenes = []
    for scene_path, labels_path in ((scene, labels), *also):
        source = open_source(scene_path, pixel_coordinates=pixel_coordinates, mask=mask)
        terminal.say(describe_wavelengths(cube_of(source)))
        report_mask(terminal, source)
        with about(scene_path):
            truth = read_labels(labels_path, source.grid, **options)
        report_labels(terminal, truth)
        scenes.append(SceneWithLabels(source=source, truth=truth, labels=labels_path))
    joined = None
    if len(scenes) > 1 or common is not None:
        joined = on_common_bands(scenes, common, tolerance_nm, reach, terminal)
    learnt, truth = (scenes[0] if joined is None else joined), (joined or scenes[0]).truth
    with about(labels):
        check_trainable(truth)
    with about(scene):
        data = labelled_scene(learnt.source, truth.labels, truth.units)
    if data.nodata:
        terminal.say(f"  {data.nodata} labelled pixels hold no value in some band, left out")
    with about(labels):
        split = _split(
            truth, data.labels, reach if guard is None else guard, validation_share, seed
        )
        if joined is not None:
            split = apart_on_the_ground(split, data.labels, joined)
        _report_split(terminal, truth.scheme, split)
        scheme = learnable(truth.scheme, data.labels, split.train)

    part = Part(
        scheme=scheme,
        train=split.train,
        validation=split.validation,
        hidden=(truth.labels != UNLABELLED) & ~split.train,
    )
    terminal.say(
        f"training {model} on {len(data.bands)} bands, {len(scheme)} classes, {chosen_device}"
    )
    fitted = fit(data, part, model, settings=settings or {}, how=how, terminal=terminal)
    judged = judge(data, part, fitted, model, seed, terminal, baselines=baselines)
    learnt_from = split.train
    if truth.splits is None:  # what a column holds out is never learnt from
        learnt_from = data.labels != UNLABELLED
        fitted = refit(data, part, model, fitted, learnt_from, how=how, terminal=terminal)
    area, told = find_applicability(data, part, learnt_from, seed=seed)
    if told["threshold_by"] != "spatial folds":
        terminal.say(
            "the labels are too few to hold parts of them out: the layer 'dissimilarity' will flag "
            "more than it should"
        )
    found = data.source.wavelengths
    card = ModelCard(
        architecture=model,
        settings=fitted.settings,
        bands=len(data.bands),
        wavelengths=found and found.select(data.bands),
        tolerance_nm=tolerance_nm,
        classes=scheme,
        halo=reach,
        scenes=tuple(str(one.source.attrs["scene_id"]) for one in scenes),
        seed=seed,
        version=__version__,
        temperature=judged.calibration.temperature,
        calibration=judged.calibration.to_dict(),
        training={
            **judged.told,
            "labels": [_labels_entry(one, where, layer) for one in scenes],
            "applicability": told,
            "split": "column" if truth.splits is not None else "spatial",
            "guard_px": split.guard_px,
            "train_pixels": int(split.train.sum()),
            "validation_pixels": int(split.validation.sum()),
            "learnt_from_all_labels": truth.splits is None,
            "quantity": scenes[0].source.attrs.get("quantity"),
            "sensors": sorted({str(one.source.attrs.get("sensor", "")) for one in scenes} - {""}),
            "mask": mask,
            "band_dropout": band_dropout,
        },
        scores={f"validation_{k}": v for k, v in judged.accuracy.scores().items()},
    )
    save_checkpoint(out, fitted.model, card, area)
    terminal.say(
        f"validation overall accuracy {judged.accuracy.overall:.3f}, "
        f"mean IoU {judged.accuracy.mean_iou:.3f}; "
        f"model in {out}"
    )
    terminal.made(
        "train",
        [out],
        architecture=model,
        bands=len(data.bands),
        classes=[{"code": one.code, "name": one.name} for one in scheme.categories],
        best_epoch=judged.told.get("best_epoch"),
        train_pixels=int(split.train.sum()),
        validation_pixels=int(split.validation.sum()),
        validation=judged.accuracy.scores(),
    )
    return card


def _labels_entry(one: SceneWithLabels, where: str | None, layer: str | None) -> dict[str, str]:
    """Return by what labels are known again, when a map is assessed by them."""
    path = Path(one.labels)
    entry = {
        "name": path.name,
        "pixels_sha256": labels_sha256(one.truth.labels, one.source.grid),
    }
    entry |= {key: text for key, text in (("where", where), ("layer", layer)) if text}
    if path.is_file():
        with path.open("rb") as opened:
            entry["sha256"] = hashlib.file_digest(opened, "sha256").hexdigest()
    return entry


def _split(truth: GroundTruth, labels: np.ndarray, guard: int, share: float, seed: int) -> Split:
    """Split as the label file says, or else by space."""
    if truth.splits is not None:
        return split_from_column(labels, truth.splits, guard=guard)
    names = dict(zip(truth.scheme.codes, truth.scheme.names, strict=True))
    return split_labels(
        labels, truth.units, validation_share=share, guard=guard, seed=seed, names=names
    )


def _report_split(terminal: Terminal, scheme: ClassScheme, split: Split) -> None:
    names = dict(zip(scheme.codes, scheme.names, strict=True))
    terminal.say(
        f"split: {int(split.train.sum())} training and {int(split.validation.sum())} validation "
        f"pixels, {split.guard_px} pixels apart (wanted {split.guard_wanted}), "
        f"{split.dropped} left out"
    )
    if split.cut:
        cut = ", ".join(names[code] for code in split.cut)
        terminal.say(f"  too few polygons to share out, so polygons were cut: {cut}")
    for count in split.counts:
        if count.validation == 0:
            terminal.say(f"  {names[count.code]} has no validation pixel; scores leave it out")
