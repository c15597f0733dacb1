"""The default network's parts, alone and summed, by cross-validation on training pixels alone.

    python benchmarks/accuracy/recipe.py --data FOLDER [--scenes enmap_potsdam idtrees jasper_ridge]
        [--settings '{"centers": 100}'] [--seed 0] [--folds 5]

This is where a recipe is to be chosen: the scenes' test pixels (see run.py) take no part. Folds are
whole tiles (EnMAP), whole plots (IDTReeS) or 12 x 12 pixel blocks with a guard of 2 pixels, dealt
at random. Every network is trained for its whole schedule. All folds' pixels together, overall
accuracy / mean IoU; the sum weighs all parts alike. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scenes import BLOCK, GUARD, OPEN, Scene

from hsi_pipeline.accuracy import Accuracy
from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.commands.fitting import fit, predict, training_settings
from hsi_pipeline.commands.labelled import Part, accuracy_at, learnable
from hsi_pipeline.folds import guarded
from hsi_pipeline.models import DEFAULT_MODEL
from hsi_pipeline.splits import Split, make_split

TILE = 32  # side of EnMAP's published tiles in pixels
PARTS = {
    "linear": (1, 0, 0, 0),
    "kernel": (0, 1, 0, 0),
    "single spectra": (0, 0, 1, 0),
    "HyperLoopNet": (0, 0, 0, 1),
    "sum": (1, 1, 1, 1),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", nargs="*", default=["enmap_potsdam", "idtrees", "jasper_ridge"])
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"| scene | {' | '.join(PARTS)} |\n|{' --- |' * (len(PARTS) + 1)}")
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.scenes:
            scene = OPEN[name](arguments.data, Path(scratch))
            matrices = dict.fromkeys(PARTS, 0)
            for split in folds_of(name, scene, arguments.folds):
                for part, found in score(scene, split, arguments.settings, arguments.seed).items():
                    matrices[part] = matrices[part] + found.matrix
            cells = (Accuracy(matrix) for matrix in matrices.values())
            shown = (f"{cell.overall:.3f} / {cell.mean_iou:.3f}" for cell in cells)
            print(f"| {name} | {' | '.join(shown)} |", flush=True)


def folds_of(name: str, scene: Scene, folds: int) -> list[Split]:
    """Deal the places of a scene's training pixels to folds."""
    labels = np.where(scene.split.train, scene.data.labels, UNLABELLED)
    side = TILE if name == "enmap_potsdam" else BLOCK
    row, column = np.indices(labels.shape) // side
    place = scene.data.units if name == "idtrees" else row * 1000 + column
    guard = 0 if name in ("enmap_potsdam", "idtrees") else GUARD
    dealt = np.random.default_rng(1).permutation(np.unique(place[labels != UNLABELLED]))
    splits = []
    for fold in range(folds):
        test = np.isin(place, dealt[fold::folds]) & (labels != UNLABELLED)
        splits.append(make_split(labels, guarded(labels, test, guard), test, guard))
    return splits


def score(scene: Scene, split: Split, settings: dict[str, Any], seed: int) -> dict[str, Accuracy]:
    """Train outside a fold; score the parts and their sum inside."""
    data = scene.data
    classes = learnable(scene.scheme, data.labels, split.train)
    if classes != scene.scheme:
        raise SystemExit("a class is missing outside a fold; deal to fewer folds")
    part = Part(
        scheme=classes,
        train=split.train,
        validation=split.validation,
        hidden=(data.labels != UNLABELLED) & ~split.train,
    )
    how = training_settings("cpu", seed, None)
    fitted = fit(data, part, DEFAULT_MODEL, settings=settings, how=how, stop_after=how.epochs)
    found = {}
    for name, shares in PARTS.items():
        fitted.model.shares.copy_(torch.tensor(shares))  # type: ignore[operator, union-attr]
        predicted = predict(data, fitted.model, split.validation)
        found[name] = accuracy_at(data, scene.scheme, predicted, split.validation)
    return found


if __name__ == "__main__":
    main()
