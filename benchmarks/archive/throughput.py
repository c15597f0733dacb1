"""Fifty small scenes on one and on two workers, and what a scene costs besides its own work.

    python benchmarks/archive/throughput.py --scenes 50 --side 400

The sample scene, mirrored to the size asked for and with noise of its own for each of eight, mapped
by the default network (trained for two epochs; accuracy does not matter here) to COG, GeoPackage
and STAC item.

Each worker is a process with one Torch thread. Throughput is that of the time in which
scenes are mapped, from the first that begins to the end of the last; starting the cluster, which
takes the same time for any number of scenes, is told apart.

The overhead is measured in this process, which does what a worker does: of each scene's seconds,
those that are not spent reading pixels, in the network, or making and writing map and polygons.
How much faster two such processes are than one tells what the machine gives.
Added is the time that a worker waits for its next scene, as the log of the run with one worker has
it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import rasterio
import torch

from hsi_pipeline import chunk_tasks, config
from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.archive.target import target_of
from hsi_pipeline.checkpoint import checkpoint_hash
from hsi_pipeline.commands import archive_scene
from hsi_pipeline.publish import filling
from hsi_pipeline.publish.cog import write_cog

_DIFFERENT = 8  # scenes; more are links to these, so that all stay in the page cache
ROOT = Path(__file__).parents[2]
PROGRAM = shutil.which("hsi-pipeline", path=os.path.dirname(sys.executable)) or "hsi-pipeline"


def make_scenes(folder: Path, count: int, side: int) -> Path:
    """Write scenes of the sample's bands."""
    scenes = folder / "scenes"
    scenes.mkdir()
    with rasterio.open(ROOT / "sample_data" / "scene.tif") as sample:
        pixels, profile = sample.read(), sample.profile
        scales, tags = sample.scales, [sample.tags(band) for band in sample.indexes]
    rows, columns = pixels.shape[1:]
    reach = ((0, 0), (0, max(side - rows, 0)), (0, max(side - columns, 0)))
    pixels = np.pad(pixels, reach, mode="symmetric")[:, :side, :side]
    profile |= {"height": side, "width": side, "tiled": True, "blockxsize": 256, "blockysize": 256}
    for number in range(_DIFFERENT, count):
        os.symlink(f"s{number % _DIFFERENT:03}.tif", scenes / f"s{number:03}.tif")
    for number in range(min(count, _DIFFERENT)):
        noise = np.random.default_rng(number).integers(-5, 6, pixels.shape[1:], np.int16)
        with rasterio.open(scenes / f"s{number:03}.tif", "w", **profile) as raster:
            raster.write(np.where(pixels == profile["nodata"], pixels, pixels + noise))
            raster.scales = scales
            for band, tag in enumerate(tags, start=1):
                raster.update_tags(band, **tag)
    return scenes


def train(folder: Path) -> Path:
    """Train the default network on the sample scene."""
    model = folder / "model.safetensors"
    subprocess.run(
        [PROGRAM, "train", ROOT / "sample_data/scene.tif", ROOT / "sample_data/train.gpkg",
         "--out", model, "--label-column", "class_id", "--name-column", "class_name",
         "--epochs", "2", "--no-baselines", "--quiet"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return model


def workflow(folder: Path, model: Path, scenes: Path, out: str) -> Path:
    """Write a workflow."""
    path = folder / f"{out}.yaml"
    path.write_text(
        f"archive: {{scenes: {scenes}}}\nout: {out}\nmodel: {model}\n"
        "device: cpu\npolygonize: {}\n"
    )
    return path


def run(path: Path, workers: int) -> tuple[float, float, list[dict[str, Any]]]:
    """Run an archive; return seconds in all, seconds of mapping, and the log."""
    started = time.monotonic()
    subprocess.run(
        [PROGRAM, "run", path, "--workers", str(workers), "--quiet"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = time.monotonic() - started
    (log,) = (path.parent / path.stem / "logs").iterdir()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    done = [event["since_start"] for event in events if event["event"] == "scene done"]
    first = next(e["since_start"] for e in events if e["event"] == "scene started")
    return seconds, done[-1] - first, events


class Stopwatch:
    """Adds up the seconds of some functions."""

    def __init__(self) -> None:
        """Begin with none."""
        self.seconds: Counter[str] = Counter()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and adds its seconds."""

        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[name] += time.perf_counter() - started

        return call


def parts(path: Path, names: list[str], out: str = "parts") -> list[dict[str, float]]:
    """Map scenes in this process; return the seconds of each part, for each scene."""
    torch.set_num_threads(1)
    settings = config.load(path)
    assert isinstance(settings, config.Archive)
    target = target_of(path.parent / out)
    model = f"model-{checkpoint_hash(settings.model)[:12]}.safetensors"
    target.put(settings.model, f"models/{model}")
    found = []
    for name in names:
        watch = Stopwatch()
        job = archive_scene.SceneJob(
            scene=ArchiveScene(id=name, path=f"{settings.archive.scenes}/{name}.tif", stamp=""),
            fingerprint=name, target=target, scratch=target.path(".work"),
            model=model, settings=settings, threads=1, whole=True,
        )  # fmt: skip
        tasks, reader = chunk_tasks.ChunkTasks, chunk_tasks.WindowReader
        with (
            patch.object(reader, "__call__", watch.timed("read", reader.__call__)),
            patch.object(tasks, "_predict", watch.timed("network", tasks._predict)),
            patch.object(filling, "_store", watch.timed("write", filling._store)),
            patch.dict(
                "hsi_pipeline.publish.MAP_WRITERS",
                {".tif": watch.timed("write", write_cog)},
            ),
            patch.object(
                archive_scene, "polygonize", watch.timed("polygons", archive_scene.polygonize)
            ),
        ):
            started = time.perf_counter()
            result = archive_scene.map_scene(job, tell=lambda event: None)
            watch.seconds["all"] = time.perf_counter() - started
        assert result.outcome == "done", result.message
        found.append(dict(watch.seconds))
    return found[1:]  # the first imports and compiles


def together(path: Path, names: list[str]) -> float:
    """Return the throughput of two processes like this one beside that of one, without Dask."""
    command = [sys.executable, __file__, "--parts", str(path), *names]

    def seconds(count: int) -> float:
        started = [
            subprocess.Popen([*command, f"parts-{count}-{n}"], stdout=subprocess.PIPE, text=True)
            for n in range(count)
        ]
        return statistics.mean(float(process.communicate()[0]) for process in started)

    return 2 * seconds(1) / seconds(2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--side", type=int, default=400, help="pixels")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", type=Path, help="instead of one that is trained first")
    parser.add_argument("--parts", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.parts:
        path, *names, out = options.parts
        print(statistics.mean(one["all"] for one in parts(Path(path), names, out)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = make_scenes(folder, options.scenes, options.side)
        model = options.model or train(folder)
        print("| workers | seconds in all | mapping | scenes/s | ratio | peak of a worker MB |")
        print("| --- | --- | --- | --- | --- | --- |")
        gaps: list[float] = []
        for number in range(options.rounds):
            first = 0.0
            for workers in (1, 2):
                path = workflow(folder, model, scenes, f"out-{number}-{workers}")
                seconds, mapping, events = run(path, workers)
                first = first or mapping
                print(
                    f"| {workers} | {seconds:.1f} | {mapping:.1f} | "
                    f"{options.scenes / mapping:.2f} | {first / mapping:.2f} | "
                    f"{events[-1]['peak_mb']} |",
                    flush=True,
                )
                if workers == 1:
                    done = [event for event in events if event["event"] == "scene done"]
                    gaps += [
                        one["since_start"] - last["since_start"] - one["seconds"]
                        for last, one in pairwise(done)
                    ]
        names = [f"s{number:03}" for number in range(min(options.scenes, 12))]
        print(f"\ntwo processes without Dask beside one: {together(path, names):.2f}")
        measured = parts(path, names)
        middle = {
            key: statistics.median(one.get(key, 0.0) for one in measured) for key in measured[0]
        }
        own = sum(value for key, value in middle.items() if key != "all")
        wait = statistics.median(gaps)
        rest = middle["all"] - own
        shown = ", ".join(f"{key} {value:.3f}" for key, value in middle.items() if key != "all")
        print(
            f"\na scene of {options.side} x {options.side} pixels: {middle['all']:.2f} s, of which "
            f"{shown}; the rest is {rest:.3f} s, and {wait:.3f} s between two scenes: "
            f"overhead {(rest + wait) / (middle['all'] + wait):.1%}"
        )


if __name__ == "__main__":
    main()
