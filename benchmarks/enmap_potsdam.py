"""The network beside classic classifiers on a real EnMAP scene, on the same pixels.

    python benchmarks/enmap_potsdam.py --data FOLDER [--seeds 0 1 2] [--epochs N]

FOLDER holds the EnMAP Potsdam tiles (enmap_potsdam_mosaic.tif and
landcover_level3_polygons.gpkg, with the published split in the column `split`).

Training: polygons of the training tiles. Test: the validation tile, which no step below looks at
(README.md beside this says where the choice of the recipe did):
the network's epoch is chosen on a spatially disjoint fifth of the training pixels, the classic
classifiers have fixed settings. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hsi_pipeline.accuracy import Accuracy, compare
from hsi_pipeline.commands.evaluate import evaluate
from hsi_pipeline.commands.train import train
from hsi_pipeline.cube import grid_of
from hsi_pipeline.ground_truth import TRAIN, VALIDATION, read_labels
from hsi_pipeline.scene import open_scene

COLUMNS = {"label_column": "class_id", "name_column": "class_name"}


def classic() -> dict[str, ClassifierMixin]:
    """Return the classifiers that a user would otherwise take."""
    return {
        "random forest (500 trees)": RandomForestClassifier(500, random_state=0, n_jobs=-1),
        "SVM (RBF, C=100)": make_pipeline(StandardScaler(), SVC(C=100)),
        "logistic regression (C=1)": make_pipeline(
            StandardScaler(), LogisticRegression(C=1.0, max_iter=5000)
        ),
    }


def row(name: str, scores: list[Accuracy], seconds: float) -> str:
    """Return a table row, mean and range over the seeds."""
    cells = []
    for values in zip(*[(a.overall, a.kappa, a.mean_iou) for a in scores], strict=True):
        spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.3f}{spread}")
    return f"| {name} | {' | '.join(cells)} | {seconds:.0f} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--models", nargs="+", default=["hyperloopnet-small", "hyperloopnet"])
    arguments = parser.parse_args()
    scene = arguments.data / "enmap_potsdam_mosaic.tif"
    polygons = arguments.data / "landcover_level3_polygons.gpkg"
    cube = open_scene(scene)
    truth = read_labels(polygons, grid_of(cube), split_column="split", **COLUMNS)
    spectra = cube.values[cube["good"].values].astype(np.float32)
    learn, test = truth.splits == TRAIN, truth.splits == VALIDATION
    index = np.zeros(256, int)
    index[list(truth.scheme.codes)] = range(len(truth.scheme))
    print(f"{learn.sum()} training pixels, {test.sum()} test pixels\n")
    print("| classifier | overall accuracy | kappa | mean IoU | training s |")
    print("| --- | --- | --- | --- | --- |")
    for name, classifier in classic().items():
        start = time.perf_counter()
        classifier.fit(spectra[:, learn].T, truth.labels[learn])
        seconds = time.perf_counter() - start
        predicted = classifier.predict(spectra[:, test].T)
        score = compare(index[truth.labels[test]], index[predicted], len(truth.scheme))
        print(row(name, [score], seconds), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        for name in arguments.models:
            scores, start = [], time.perf_counter()
            for seed in arguments.seeds:
                train(
                    scene, polygons, model, where="split = 'train'", model=name, seed=seed,
                    epochs=arguments.epochs, overwrite=True, device="cpu", **COLUMNS,
                )  # fmt: skip
                part = "split = 'validation'"
                scores.append(evaluate(scene, polygons, model, where=part, device="cpu", **COLUMNS))
            seconds = (time.perf_counter() - start) / len(arguments.seeds)
            print(row(f"{name}, {len(scores)} seeds", scores, seconds), flush=True)


if __name__ == "__main__":
    main()
