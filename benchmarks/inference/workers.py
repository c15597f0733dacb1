"""One and two single-threaded worker processes on the same scene, on a local Dask cluster.

    python benchmarks/inference/workers.py [--size 1536] [--bands 224] [--model hyperloopnet]
        [--precision float32] [--workers 1 2]

The scene is a random int16 GeoTIFF, the network untrained. Starting the cluster does not count, nor
does the first chunk of each worker, in which it imports what it needs; writing counts. Prints a
Markdown table; the ratio is the first row's time over each row's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import dask
import numpy as np
import torch
from distributed import Client, LocalCluster
from mapping import CLASSES, make_scene

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.inference import CHUNK, classify_cube
from hsi_pipeline.models import build_model
from hsi_pipeline.publish import write_class_map
from hsi_pipeline.scene import open_scene


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1536)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--model", default="hyperloopnet")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--chunk", type=int, default=CHUNK // 2)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = build_model(arguments.model, arguments.bands, CLASSES).eval()
    model.band_mean.fill_(3000.0)
    model.band_std.fill_(1700.0)
    print("| workers | seconds | kpx/s | ratio |\n| --- | --- | --- | --- |")
    first = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        make_scene(path, arguments.size, np.linspace(420, 2450, arguments.bands))
        cube = open_scene(path)

        def classify(side: int, name: str) -> None:
            part = cube[:, :side, :side]
            lazy = classify_cube(
                part, model, make_scheme(range(1, CLASSES + 1)), chunk=arguments.chunk,
                bands=tuple(range(arguments.bands)), precision=arguments.precision,
            )  # fmt: skip
            write_class_map(lazy, f"{folder}/{name}.zarr")

        for count in arguments.workers:
            with (
                LocalCluster(
                    n_workers=count, threads_per_worker=1, processes=True, dashboard_address=":0"
                ) as cluster,
                Client(cluster, set_as_default=False) as client,
                dask.config.set(scheduler=client),
            ):
                classify(min(2 * arguments.chunk, arguments.size), f"first-{count}")
                started = time.perf_counter()
                classify(arguments.size, f"all-{count}")
                seconds = time.perf_counter() - started
            first = first or seconds
            print(
                f"| {count} | {seconds:.1f} | {arguments.size**2 / 1e3 / seconds:.0f} | "
                f"{first / seconds:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
