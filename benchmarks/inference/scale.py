"""Time and memory of scenes of 1, 4, 16 and 64 Mpx that are generated while they are read.

    python benchmarks/inference/scale.py [--megapixels 1 4 16 64] [--bands 224] [--chunk 512]
        [--model hyperloopnet] [--precision bfloat16]

Each scene runs in a process of its own, threads of that process, map written to Zarr. Pixels are
int16, cut from a random array of 2,304 x 2,304 pixels that repeats. Wanted: the same time for each
pixel, and at 64 Mpx at most 1.05 times the memory of 4 Mpx. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time

import dask.array as da
import numpy as np
import torch
from mapping import CLASSES
from peak import peak_gb

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.commands.scheduling import computing
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import make_cube, pixel_grid
from hsi_pipeline.inference import CHUNK, classify_cube
from hsi_pipeline.models import build_model
from hsi_pipeline.publish import write_class_map


class Endless:
    """Pixels made on demand: a random tile, shifted from band to band, that repeats."""

    ndim = 3
    dtype = np.dtype("int16")

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Keep the shape; the tile is a few megabytes."""
        self.shape = shape
        self._tile = np.random.default_rng(0).integers(0, 6000, (2304, 2304), dtype=np.int16)

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        """Return a window (band, y, x)."""
        bands, rows, columns = (range(*s.indices(n)) for s, n in zip(key, self.shape, strict=True))
        window = np.empty((len(bands), len(rows), len(columns)), np.int16)
        side = len(self._tile)
        across = np.arange(columns.start, columns.stop)
        for i, band in enumerate(bands):
            down = (np.arange(rows.start, rows.stop) + 7 * band) % side
            window[i] = self._tile[np.ix_(down, (across + 11 * band) % side)]
        return window


def measure(arguments: argparse.Namespace) -> None:
    """Map one scene and print seconds and peak memory."""
    side = round(arguments.side)
    torch.manual_seed(0)
    model = build_model(arguments.model, arguments.bands, CLASSES).eval()
    model.band_mean.fill_(3000.0)
    model.band_std.fill_(1700.0)
    source = Endless((arguments.bands, side, side))
    cube = make_cube(
        da.from_array(
            source, chunks=(arguments.bands, 256, 256), asarray=False, name="endless",
            meta=np.empty((0, 0, 0), np.int16),
        ),
        pixel_grid(side, side), wavelengths=None, good=(True,) * arguments.bands,
        band_names=tuple(map(str, range(arguments.bands))), nodata=-1,
    )  # fmt: skip
    class_map = classify_cube(
        cube, model, make_scheme(range(1, CLASSES + 1)), bands=tuple(range(arguments.bands)),
        chunk=arguments.chunk, precision=arguments.precision,
    )  # fmt: skip
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, computing(Terminal(quiet=True), "", None):
        write_class_map(class_map, f"{folder}/map.zarr", job={"scene": "endless"})
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_gb()}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--chunk", type=int, default=CHUNK)
    parser.add_argument("--model", default="hyperloopnet")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--side", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        measure(arguments)
        return
    print("| Mpx | chunks | seconds | kpx/s | peak memory GB |\n| --- | --- | --- | --- | --- |")
    for megapixels in arguments.megapixels:
        side = round((megapixels * 1e6) ** 0.5)
        done = subprocess.run(
            [sys.executable, *sys.argv, "--side", str(side)], check=True, capture_output=True
        )
        result = json.loads(done.stdout)
        print(
            f"| {megapixels:g} | {(-(-side // arguments.chunk)) ** 2} | {result['seconds']:.0f} | "
            f"{side**2 / 1e3 / result['seconds']:.0f} | {result['peak']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
