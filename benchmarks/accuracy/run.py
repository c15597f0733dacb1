"""The network beside scikit-learn's classifiers on real scenes, on the same pixels.

    python benchmarks/accuracy/run.py --data FOLDER [--scenes ...] [--methods ...] [--seeds 5]
        [--classic indian_pines=FILE ...] [--out FOLDER]

FOLDER holds enmap_potsdam, salinas_a, jasper_ridge, idtrees and label_maps. Scenes that cannot be
shipped (indian_pines, pavia_university, houston_2013, salinas) are given as .mat files.

Nothing of a scene's test pixels is used before the last line of a row. A network chooses its
epoch on a spatially disjoint fifth of the training pixels and then learns from all of them; the
classifiers are tuned by three spatial folds of them. `--ablation` compares variants of the
default network instead.

Rows are added to OUT/results.csv (or ablation.csv) as they are measured; what is there is not
measured again, so an interrupted run goes on. The Markdown table is made anew from all rows.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parent))
import patches
from scenes import CLASSIC, OPEN, Scene

from hsi_pipeline.accuracy import Accuracy, compare
from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.commands.crossval import inner_split, try_model
from hsi_pipeline.commands.fitting import fit, predict, reach_of, refit, training_settings
from hsi_pipeline.commands.labelled import Part, accuracy_at
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimators import BASELINES, SEEDED

SHARE = 0.2
PATCH = "patch"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "fusion (default)": ("hyperloopnet-fusion", {}),
    "dense": ("hyperloopnet", {}),
    "dense, ReLU gate": ("hyperloopnet", {"gate": "relu"}),
    "dense, no attention": ("hyperloopnet-no-attention", {}),
    "patch (published form)": (PATCH, {}),
    "spectral only": ("spectral", {}),
    **{name.replace("_", " "): (name, {}) for name in BASELINES},
}
ABLATION: dict[str, dict[str, Any]] = {
    "default: kernels 1 and 3, attention, two passes, no window": {},
    "no attention": {"attention": False},
    "ReLU gate": {"gate": "relu"},
    "one pass": {"passes": 1},
    "kernel 1 only": {"kernels": [1]},
    "kernel 3 only": {"kernels": [3]},
    "kernels 3, 5, 7": {"kernels": [3, 5, 7]},
    "window 5": {"window": 5},
    "window 11": {"window": 11},
}


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", nargs="*", default=list(OPEN), choices=list(OPEN))
    parser.add_argument("--classic", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--patch-epochs", type=int, default=20)
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    known = ABLATION if arguments.ablation else METHODS
    methods = arguments.methods or list(known)
    if strange := set(methods) - set(known):
        parser.error(f"unknown methods {sorted(strange)}; choose from {list(known)}")
    path = arguments.out / ("ablation.csv" if arguments.ablation else "results.csv")
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    measure = measure_variant if arguments.ablation else measure_method
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for name, scene in _scenes(arguments, Path(scratch)):
                print(f"{name}: {scene.how}; {scene.data.labels.shape}", flush=True)
                for method in methods:
                    for seed in range(arguments.seeds):
                        if seed and METHODS.get(method, ("",))[0] in set(BASELINES) - SEEDED:
                            continue  # nothing random in it
                        done = {(r["scene"], r["method"], r["seed"]) for r in rows}
                        if (name, method, seed) in done:
                            continue
                        found = measure(scene, method, seed, arguments.patch_epochs)
                        for row in found:
                            rows.append({"scene": name, "split": scene.how, **row, **_stamp()})
                            print("  ", {k: _short(v) for k, v in row.items()}, flush=True)
                        pd.DataFrame(rows).to_csv(path, index=False)
    except InputError as error:
        sys.exit(f"error: {error}")
    path.with_suffix(".md").write_text(_table(pd.DataFrame(rows)), encoding="utf-8")


def measure_method(scene: Scene, method: str, seed: int, patch_epochs: int) -> list[dict]:
    """Train a method with a seed and score it on the scene's test pixels."""
    name, settings = METHODS[method]
    if name == PATCH:
        return [_measure_patches(scene, method, seed, patch_epochs)]
    trial = try_model(
        scene.data,
        scene.scheme,
        scene.split,
        name,
        settings,
        fold=1,
        seed=seed,
        epochs=None,
        device="cpu",
        share=SHARE,
    )
    return [
        _row(
            method,
            seed,
            trial.accuracy,
            fit_seconds=trial.fit_seconds,
            predict_seconds=trial.predict_seconds,
            settings=trial.settings,
        )
    ]


def measure_variant(scene: Scene, method: str, seed: int, patch_epochs: int) -> list[dict]:
    """Train a variant of the default network; score it, and its networks without linear part."""
    name, settings = METHODS["fusion (default)"][0], ABLATION[method]
    data, split = scene.data, scene.split
    started = time.perf_counter()
    inner = inner_split(data, split, reach_of(name, {}), SHARE, seed)  # the same for all variants
    part = Part(
        scheme=scene.scheme,
        train=inner.train,
        validation=inner.validation,
        hidden=(data.labels != UNLABELLED) & ~inner.train,
    )
    how = training_settings("cpu", seed, None)
    chosen = fit(data, part, name, settings=settings, how=how)
    fitted = refit(data, part, name, chosen, split.train, how=how)
    seconds = time.perf_counter() - started
    rows = []
    for title, shares in ((method, None), (f"{method}: HyperLoopNet alone", (0.0, 0.0, 0.0, 1.0))):
        if shares is not None:
            fitted.model.shares.copy_(torch.tensor(shares))
        predicted = predict(data, fitted.model, split.validation)
        accuracy = accuracy_at(data, scene.scheme, predicted, split.validation)
        rows.append(_row(title, seed, accuracy, fit_seconds=seconds))
    # The first row's name tells what has been measured, so it comes last.
    return rows[::-1]


def _measure_patches(scene: Scene, method: str, seed: int, epochs: int) -> dict:
    data, split = scene.data, scene.split
    started = time.perf_counter()
    inner = inner_split(data, split, patches.SIDE // 2, SHARE, seed)
    found = patches.fit_and_predict(
        data,
        scene.scheme,
        train=inner.train,
        validation=inner.validation,
        test=split.validation,
        seed=seed,
        epochs=epochs,
    )
    seconds = time.perf_counter() - started
    reference = data.indices(scene.scheme)[split.validation].astype(int) - 1
    accuracy = compare(reference, found, len(scene.scheme))
    return _row(method, seed, accuracy, fit_seconds=seconds, settings={"epochs": epochs})


def _scenes(arguments: argparse.Namespace, scratch: Path) -> list[tuple[str, Scene]]:
    scenes = [(name, OPEN[name](arguments.data, scratch)) for name in arguments.scenes]
    for item in arguments.classic:
        name, _, path = item.partition("=")
        if name not in CLASSIC or not path:
            raise InputError(f"--classic {item}: use NAME=FILE, NAME one of {', '.join(CLASSIC)}")
        scenes.append((name, CLASSIC[name](Path(path), arguments.data)))
    return scenes


def _row(
    method: str,
    seed: int,
    accuracy: Accuracy,
    *,
    fit_seconds: float,
    predict_seconds: float = float("nan"),
    settings: dict[str, Any] | None = None,
) -> dict:
    return {
        "method": method,
        "seed": seed,
        **{key: round(value, 4) for key, value in accuracy.scores().items()},
        "test_pixels": accuracy.pixels,
        "fit_seconds": round(fit_seconds, 1),
        "predict_seconds": round(predict_seconds, 2),
        "settings": "; ".join(f"{key}={value}" for key, value in (settings or {}).items()),
    }


def _stamp() -> dict[str, str]:
    packages = ("hsi-pipeline", "torch", "scikit-learn")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": "; ".join(f"{p} {version(p)}" for p in packages)
        + f"; Python {platform.python_version()}",
    }


def _table(rows: pd.DataFrame) -> str:
    """Return a Markdown table for each scene, mean (standard deviation) over seeds."""
    lines = [
        f"Measured {rows.date.min()} to {rows.date.max()}; {rows.versions.iloc[-1]}. Mean over "
        "seeds, standard deviation in brackets. Times are wall seconds on two cores.",
        "",
    ]
    scores = ("overall_accuracy", "average_accuracy", "kappa", "mean_iou")
    order = {name: place for place, name in enumerate([*METHODS, *ABLATION])}
    rows = rows.sort_values("method", key=lambda m: m.map(order), kind="stable")
    scene_order = {name: place for place, name in enumerate([*OPEN, *CLASSIC])}
    rows = rows.sort_values("scene", key=lambda s: s.map(scene_order), kind="stable")
    for scene, part in rows.groupby("scene", sort=False):
        lines += [
            f"### {scene}",
            "",
            f"{part['split'].iloc[0]}; {int(part.test_pixels.iloc[0])} test pixels.",
            "",
            "| method | seeds | OA | AA | kappa | mean IoU | fit (s) | predict (s) |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for method, of_method in part.groupby("method", sort=False):
            cells = [str(method), str(len(of_method))]
            for score in scores:
                spread = f" ({of_method[score].std():.3f})" if len(of_method) > 1 else ""
                cells.append(f"{of_method[score].mean():.3f}{spread}")
            cells.append(f"{of_method.fit_seconds.mean():.0f}")
            seconds = of_method.predict_seconds.mean()
            cells.append("" if np.isnan(seconds) else f"{seconds:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _short(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
