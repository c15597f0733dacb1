"""Scene and labels to a trained model."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hsi_pipeline import __version__
from hsi_pipeline.checkpoint import save_checkpoint
from hsi_pipeline.classes import UNLABELLED, ClassScheme
from hsi_pipeline.commands.messages import about, describe_wavelengths, report_labels
from hsi_pipeline.commands.scheduling import choose_device
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of, wavelengths_of
from hsi_pipeline.datasets import HyperspectralDataset
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import GroundTruth, check_trainable, read_labels
from hsi_pipeline.inference import resolve_precision
from hsi_pipeline.loaders import LandCoverDataModule
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.models import DEFAULT_MODEL, build_model
from hsi_pipeline.publish import check_target
from hsi_pipeline.scene import open_scene
from hsi_pipeline.spectra import (
    BandStatistics,
    band_statistics,
    bands_to_learn_from,
    valid_among,
)
from hsi_pipeline.splits import Split, split_from_column, split_labels
from hsi_pipeline.training import EpochResult, TrainingSettings
from hsi_pipeline.training import train as train_model

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
    tolerance_nm: float = 5.0,
    pixel_coordinates: bool = False,
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
        model: One of `models.MODELS`.
        settings: Settings of the architecture, such as `{"kernels": [1, 3]}`.
        epochs: Epochs; None: the default of `TrainingSettings`.
        seed: Seed of the split, the weights and the windows.
        device: Torch device or "auto".
        validation_share: Share of the labels that the epoch is chosen by.
        guard: Pixels between training and validation labels; None: the network's reach.
        tolerance_nm: How far a band may lie from the model's when it is used, in nm.
        pixel_coordinates: Accept a scene without georeference.
        overwrite: Replace an existing model.
        terminal: Where to report.

    Returns:
        The card of the model.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    check_target(out, overwrite=overwrite, suffixes=(MODEL_SUFFIX,))
    if epochs is not None and epochs < 1:
        raise InputError(f"epochs is {epochs}; it must be at least 1")
    chosen_device = choose_device(device)
    cube = open_scene(scene, pixel_coordinates=pixel_coordinates)
    terminal.say(describe_wavelengths(cube))
    truth = read_labels(
        labels,
        grid_of(cube),
        label_column=label_column,
        name_column=name_column,
        class_table=class_table,
        split_column=split_column,
        layer=layer,
        where=where,
    )
    with about(labels):
        check_trainable(truth)
    report_labels(terminal, truth)

    labelled = truth.labels != UNLABELLED
    with about(scene):
        bands = bands_to_learn_from(cube, band_statistics(cube, labelled))
    known = valid_among(cube, labelled, bands)
    if not known.any():
        raise InputError(
            f"{scene}: no labelled pixel holds a value in all {len(bands)} bands; "
            "are these the labels of this scene?"
        )
    reach = _reach(model, settings or {})
    with about(labels):
        split = _split(truth, known, reach if guard is None else guard, validation_share, seed)
        _report_split(terminal, truth.scheme, split)
        scheme = _learnable(truth.scheme, split)

    torch.manual_seed(seed)
    network = build_model(model, len(bands), len(scheme), **(settings or {}))
    _set_statistics(network, band_statistics(cube, split.train), bands)
    loaders = LandCoverDataModule(
        HyperspectralDataset(scene, bands=bands, pixel_coordinates=pixel_coordinates),
        _indices(truth.labels, scheme),
        train=split.train,
        validation=split.validation,
        hidden=labelled & ~split.train,
        halo=reach,
        seed=seed,
    )
    mixed = resolve_precision("auto", chosen_device) == torch.bfloat16
    how = TrainingSettings(
        seed=seed,
        device=chosen_device,
        precision="bf16-mixed" if mixed else "32-true",
    )
    if epochs is not None:
        how = replace(how, epochs=epochs)
    terminal.say(f"training {model} on {len(bands)} bands, {len(scheme)} classes, {chosen_device}")
    history = _train_with_progress(terminal, network, len(scheme), loaders, how)
    best = max(history, key=lambda result: result.score)
    wavelengths = wavelengths_of(cube)
    card = ModelCard(
        architecture=model,
        settings=settings or {},
        bands=len(bands),
        wavelengths=wavelengths and wavelengths.select(bands),
        tolerance_nm=tolerance_nm,
        classes=scheme,
        halo=reach,
        scenes=(str(cube.attrs["scene_id"]),),
        seed=seed,
        version=__version__,
        training={
            "epochs": len(history),
            "best_epoch": best.epoch,
            "epoch_chosen_by": "mean of overall accuracy and mean F1 on the validation pixels",
            "split": "column" if truth.splits is not None else "spatial",
            "guard_px": split.guard_px,
            "train_pixels": int(split.train.sum()),
            "validation_pixels": int(split.validation.sum()),
        },
        scores={f"validation_{k}": v for k, v in best.accuracy.scores().items()},
    )
    save_checkpoint(out, network, card)
    scores = best.accuracy
    terminal.say(
        f"best epoch {best.epoch} of {len(history)}: validation overall accuracy "
        f"{scores.overall:.3f}, mean IoU {scores.mean_iou:.3f}; model in {out}"
    )
    return card


def _reach(model: str, settings: dict[str, Any]) -> int:
    """Return the halo of an architecture in pixels.

    Raises:
        InputError: The architecture cannot map scenes, or cannot be built.
    """
    network = build_model(model, 1, 2, **settings)
    if getattr(network, "window", 1) is None:
        raise InputError(
            "the setting 'window: null' makes the patch form, which labels single patches; "
            "a map needs an odd window, 1 for none"
        )
    return int(network.halo)  # type: ignore[arg-type]


def _split(truth: GroundTruth, known: np.ndarray, guard: int, share: float, seed: int) -> Split:
    """Split as the label file says, or else by space."""
    labels = np.where(known, truth.labels, UNLABELLED)
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


def _learnable(scheme: ClassScheme, split: Split) -> ClassScheme:
    """Return the classes that have training pixels.

    Raises:
        InputError: Fewer than two are left.
    """
    trained = {count.code for count in split.counts if count.train}
    left = tuple(c for c in scheme.categories if c.code in trained)
    if len(left) < 2:
        raise InputError(
            f"only {len(left)} class has training pixels after the split; training needs two or "
            "more: add labels, or mark the split in a column and pass --split-column"
        )
    return ClassScheme(left)


def _set_statistics(
    network: torch.nn.Module, statistics: BandStatistics, bands: tuple[int, ...]
) -> None:
    """Give the network mean and standard deviation of the training pixels."""
    chosen = list(bands)
    mean, std = torch.from_numpy(statistics.mean[chosen]), torch.from_numpy(statistics.std[chosen])
    state = network.state_dict()  # shares its memory with the network
    state["band_mean"].copy_(mean)
    # Of a band that is constant in the training part nothing is known: leave its unit as it is.
    state["band_std"].copy_(torch.where(std > 0, std, 1.0))


def _indices(labels: np.ndarray, scheme: ClassScheme) -> np.ndarray:
    """Recode class codes to the model's index plus one, 0 where unlabelled or not learnt."""
    table = np.zeros(256, np.uint8)
    for index, code in enumerate(scheme.codes):
        table[code] = index + 1
    return table[labels]


def _train_with_progress(
    terminal: Terminal,
    network: torch.nn.Module,
    classes: int,
    loaders: LandCoverDataModule,
    how: TrainingSettings,
) -> list[EpochResult]:
    with terminal.progress("training") as update:
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

        return train_model(network, classes, loaders, how, on_epoch=on_epoch, on_batch=on_batch)
