"""Expected calibration error before and after the temperature, on labels that were not learnt from.

    python benchmarks/accuracy/calibration.py --data FOLDER [--seeds 3]

Trains by the command `train`, which finds the temperature on its own validation part, and scores
labels that training never saw, as they are and divided by that temperature. Data: the sample scene
(train.gpkg, test.gpkg); EnMAP Potsdam with the published split (14 tiles to learn from, the
validation tile to score). The epoch is chosen on the validation part within the training labels.
Prints a Markdown table: means over seeds, the standard deviation in brackets.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from hsi_pipeline.calibration import measure_reliability
from hsi_pipeline.checkpoint import load_checkpoint
from hsi_pipeline.commands.fitting import score
from hsi_pipeline.commands.labelled import labelled_scene
from hsi_pipeline.commands.train import train
from hsi_pipeline.ground_truth import align_labels, read_labels
from hsi_pipeline.scene import open_source

SAMPLE = Path(__file__).parents[2] / "sample_data"
MODELS = ("hyperloopnet-fusion", "spectral", "random_forest", "svm", "logistic_regression")
COLUMNS = {"label_column": "class_id", "name_column": "class_name"}


def scenes(data: Path) -> dict[str, tuple[Path, Any, Any]]:
    """Return scene, labels to learn from and labels to score, with the options to read them."""
    folder = data / "enmap_potsdam"
    polygons = folder / "landcover_level3_polygons.gpkg"
    return {
        "sample": (
            SAMPLE / "scene.tif",
            (SAMPLE / "train.gpkg", COLUMNS),
            (SAMPLE / "test.gpkg", COLUMNS),
        ),
        "EnMAP Potsdam": (
            folder / "enmap_potsdam_mosaic.tif",
            (polygons, COLUMNS | {"where": "split = 'train'"}),
            (polygons, COLUMNS | {"where": "split = 'validation'"}),
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    print("| scene | model | pixels | accuracy | temperature | ECE before | ECE after |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (scene, learn, judge) in scenes(arguments.data).items():
        for model in MODELS:
            found = [measure(scene, learn, judge, model, seed) for seed in range(arguments.seeds)]
            pixels, *figures = zip(*found, strict=True)
            cells = [f"{np.mean(f):.3f} ({np.std(f):.3f})" for f in figures]
            print(f"| {name} | {model} | {pixels[0]} | {' | '.join(cells)} |", flush=True)


def measure(
    scene: Path, learn: tuple[Path, dict], judge: tuple[Path, dict], model: str, seed: int
) -> tuple[float, ...]:
    """Train and score; returns pixels, accuracy, temperature, ECE before and after."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.safetensors"
        train(scene, learn[0], out, model=model, seed=seed, baselines=False, **learn[1])
        network, card = load_checkpoint(out)
    source = open_source(scene)
    truth = read_labels(judge[0], source.grid, **judge[1])
    data = labelled_scene(source, align_labels(truth, card.classes), truth.units)
    pixels, scores = score(data, network, data.labels > 0)
    labels = data.indices(card.classes)[pixels].astype(int) - 1
    before, after = (
        measure_reliability(softmax(scores / t, axis=1), labels) for t in (1.0, card.temperature)
    )
    right = float((scores.argmax(1) == labels).mean())
    errors = (part.expected_calibration_error for part in (before, after))
    return len(labels), right, card.temperature, *errors


if __name__ == "__main__":
    main()
