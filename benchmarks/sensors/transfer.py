"""One model, several sensors: the sample scene's ground as EnMAP, PRISMA, EMIT and DESIS see it.

    python benchmarks/sensors/transfer.py --seeds 3

The ground is the sample scene's, drawn once; each sensor sees it through Gaussian bands of about
its own centres and widths, with its own noise. A model learns from the EnMAP-like scene and
train.gpkg and maps the other scenes; its overall accuracy on test.gpkg stands beside that of a
model of the same recipe that learnt from that very scene. For DESIS, which sees 400 to 1000 nm,
the model learns from the EnMAP-like bands in that range. The epoch is chosen on a fifth of
train.gpkg; test.gpkg is touched once per map.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from hsi_pipeline.commands.evaluate import evaluate
from hsi_pipeline.commands.train import train

SAMPLE = Path(__file__).parents[2] / "sample_data"
sys.path.insert(0, str(SAMPLE))

from landscape import FINE, fine_grid, make_landscape  # noqa: E402
from make_sample import (  # noqa: E402
    SEED,
    footprint,
    observe,
    render,
    response,
    write_scene,
)

warnings.filterwarnings("ignore")

# For each detector: first and last centre, spacing there, width as a multiple of the spacing.
DETECTORS = {
    "EnMAP": ((420.0, 993.0, 4.8, 8.2, 1.2), (902.0, 2440.0, 11.8, 7.6, 1.0)),
    "PRISMA": ((406.0, 977.0, 8.4, 10.5, 1.25), (943.0, 2490.0, 10.8, 6.8, 1.3)),
    "EMIT": ((402.0, 2490.0, 7.44, 7.44, 1.15),),
    "DESIS": ((402.0, 1000.0, 2.55, 2.55, 1.4),),
}
DESIS_RANGE = (405.0, 995.0)
RECIPE = {
    "label_column": "class_id",
    "name_column": "class_name",
    "class_table": SAMPLE / "classes.csv",
    "device": "cpu",
    "baselines": False,
    "overwrite": True,
}


def bands_of(sensor: str) -> tuple[np.ndarray, np.ndarray]:
    """Return centres and fwhm in nm, detector after detector."""
    centers, widths = [], []
    for first, last, start, stop, ratio in DETECTORS[sensor]:
        center = first
        while center <= last:
            step = start + (stop - start) * (center - first) / (last - first)
            centers.append(center)
            widths.append(step * ratio)
            center += step
    return np.round(centers, 2), np.round(widths, 2)


def make_scene(sensor: str, folder: Path, keep: tuple[float, float] = (0.0, 9e9)) -> Path:
    """Write the sample scene's ground as a sensor sees it."""
    land, spectra, noise, _ = map(np.random.default_rng, np.random.SeedSequence(SEED).spawn(4))
    canvas = make_landscape(land)
    centers, widths = bands_of(sensor)
    chosen = (centers >= keep[0]) & (centers <= keep[1])
    centers, widths = centers[chosen], widths[chosen]
    row, column = fine_grid()
    valid = footprint(row, column)[FINE // 2 :: FINE, FINE // 2 :: FINE]
    cube = render(canvas, response(centers, widths), spectra)
    path = folder / f"{sensor}{'' if chosen.all() else '_part'}.tif"
    write_scene(path, observe(cube, valid, centers, noise), centers, widths)
    return path


def main() -> None:
    """Train, map, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="hyperloopnet-fusion")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scenes = {sensor: make_scene(sensor, folder) for sensor in DETECTORS}
        part = make_scene("EnMAP", folder, DESIS_RANGE)
        print("| seen by | native | EnMAP's model: gaussian | linear | nearest | EnMAP + PRISMA |")
        print("| --- | --- | --- | --- | --- | --- |")
        table: dict[str, list[list[float]]] = {sensor: [] for sensor in scenes}
        for seed in range(options.seeds):
            for sensor, row in one_seed(scenes, part, folder, options.model, seed).items():
                table[sensor].append(row)
                print(f"seed {seed} {sensor} {np.round(row, 4)}", file=sys.stderr, flush=True)
        for sensor, rows in table.items():
            cells = [
                f"{np.mean(column):.4f} ± {np.std(column):.4f}"
                for column in zip(*rows, strict=True)
            ]
            print(f"| {sensor} | {' | '.join(cells)} |", flush=True)


def one_seed(
    scenes: dict[str, Path], part: Path, folder: Path, model: str, seed: int
) -> dict[str, list[float]]:
    """Return a row of the table for each sensor."""

    def learn(name: str, scene: Path, **more: object) -> Path:
        out = folder / f"{name}.safetensors"
        train(scene, SAMPLE / "train.gpkg", out, model=model, seed=seed, **RECIPE, **more)
        return out

    def score(scene: Path, trained: Path, **more: object) -> float:
        with contextlib.redirect_stdout(None):
            found = evaluate(
                scene, SAMPLE / "test.gpkg", trained, label_column="class_id",
                name_column="class_name", device="cpu", **more,
            )  # fmt: skip
        return found.overall

    enmap, in_part = learn("enmap", scenes["EnMAP"]), learn("part", part)
    both = learn("both", scenes["EnMAP"], also=[(scenes["PRISMA"], SAMPLE / "train.gpkg")])
    rows = {}
    for sensor, scene in scenes.items():
        native = enmap if sensor == "EnMAP" else learn("native", scene)
        foreign = in_part if sensor == "DESIS" else enmap
        rows[sensor] = [score(scene, native)]
        for method in ("gaussian", "linear", "nearest"):
            # PRISMA's bands are up to 11 nm apart, so the nearest may be further than 5 nm
            off = {"tolerance_nm": 10.0} if method == "nearest" else {}
            rows[sensor].append(score(scene, foreign, resampling=method, **off))
        rows[sensor].append(np.nan if sensor == "DESIS" else score(scene, both))
    return rows


if __name__ == "__main__":
    main()
