"""Is a material that training never saw flagged? A class left out of training, one after another.

    python benchmarks/accuracy/applicability.py --data FOLDER

For each class: train without its labels (a quick classifier; the area of applicability does not
depend on the model), map the scene with the layer `dissimilarity`, and see how well it tells the
test pixels of that class from those of the others: area under the ROC curve (AUC), and the share
of both that is above 1, the threshold. Data: the sample scene (train.gpkg, test.gpkg); EnMAP
Potsdam with the published split (14 tiles, 1 tile). Prints a Markdown table. With --cost: what
layers add to the time of mapping a scene of 2,000 x 2,000 pixels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
from calibration import scenes
from odc.geo.geobox import GeoBox
from sklearn.metrics import roc_auc_score

from hsi_pipeline.checkpoint import load_applicability, load_checkpoint
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.train import train
from hsi_pipeline.cube import make_cube
from hsi_pipeline.ground_truth import read_labels
from hsi_pipeline.inference import classify_cube
from hsi_pipeline.publish import open_class_map
from hsi_pipeline.scene import open_source

SIDE = 2000
REPEATS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cost", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    if arguments.cost:
        measure_cost(*scenes(arguments.data)["EnMAP Potsdam"][:2])
        return
    print("| scene | class left out | pixels | AUC | flagged of it | flagged of the others |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (scene, learn, judge) in scenes(arguments.data).items():
        truth = read_labels(judge[0], open_source(scene).grid, **judge[1])
        found = []
        for category in truth.scheme.categories:
            values = dissimilarity_without(category.code, scene, learn)
            known = (truth.labels > 0) & np.isfinite(values)
            own, value = truth.labels[known] == category.code, values[known]
            auc = roc_auc_score(own, value)
            found.append(auc)
            flagged = [f"{(value[side] > 1).mean():.1%}" for side in (own, ~own)]
            cells = f"{own.sum()} | {auc:.3f} | {' | '.join(flagged)}"
            print(f"| {name} | {category.name} | {cells} |", flush=True)
        print(f"| {name} | mean | | {np.mean(found):.3f} | | |", flush=True)


def dissimilarity_without(code: int, scene: Path, learn: tuple[Path, dict[str, Any]]) -> np.ndarray:
    """Return the layer (y, x) of a model that was trained without a class."""
    labels, options = learn
    where = " AND ".join(filter(None, [options.get("where"), f"class_id <> {code}"]))
    with tempfile.TemporaryDirectory() as folder:
        model, out = Path(folder) / "model.safetensors", Path(folder) / "map.zarr"
        train(
            scene, labels, model, model="LinearDiscriminantAnalysis", **options | {"where": where}
        )
        classify(scene, model, out, layers=["dissimilarity"])
        return open_class_map(out)["dissimilarity"].values


def measure_cost(scene: Path, learn: tuple[Path, dict[str, Any]]) -> None:
    """Print the time of mapping with the layer over that without, in one run."""
    import dask.array as da

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        train(scene, learn[0], file, baselines=False, epochs=2, **learn[1])
        model, card = load_checkpoint(file)
        area = load_applicability(file)
    assert area is not None
    assert card.wavelengths is not None
    rng = np.random.default_rng(0)
    block = rng.integers(0, 5000, (card.bands, 500, 500)).astype(np.int16)
    pixels = da.from_array(np.tile(block, (1, SIDE // 500, SIDE // 500)), chunks=(-1, 512, 512))
    cube = make_cube(
        pixels, GeoBox((SIDE, SIDE), _affine(), "EPSG:32633"), good=(True,) * card.bands,
        band_names=tuple(map(str, range(card.bands))), scale=1e-4, nodata=None,
        wavelengths=card.wavelengths,
    )  # fmt: skip
    bands = tuple(range(card.bands))
    times: dict[str, list[float]] = {"none": [], "entropy, margin": [], "dissimilarity": []}
    for _ in range(REPEATS):
        for name in times:
            layers = [] if name == "none" else name.split(", ")
            made = classify_cube(
                cube, model, card.classes, bands=bands, layers=layers, applicability=area
            )
            started = time.perf_counter()
            with dask.config.set(scheduler="threads", num_workers=2):
                made.compute()
            times[name].append(time.perf_counter() - started)
    base = np.median(times["none"])
    print(f"{len(area.centers)} centres, {len(area.basis)} components, {card.bands} bands")
    print("| layers | s | over none |\n| --- | --- | --- |")
    for name, spent in times.items():
        print(f"| {name} | {np.median(spent):.1f} | {np.median(spent) / base:.2f} |")


def _affine() -> Any:
    from affine import Affine

    return Affine(30, 0, 0, 0, -30, 0)


if __name__ == "__main__":
    main()
