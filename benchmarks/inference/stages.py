"""Reading, network and writing, each alone and all together, in one process on one scene.

    python benchmarks/inference/stages.py [--size 2048] [--bands 224] [--model hyperloopnet]
        [--precision float32 bfloat16] [--chunk 512]

The scene is a random int16 GeoTIFF of 256 x 256 tiles, the network untrained. Alone, reading reads
each chunk's window with its halo from the file; the network classifies windows that are in memory;
writing writes a map that is in memory, flushed to disk chunk by chunk. Together is what `classify`
does. The ratio is together over the slowest alone; 1.10 at most is promised. Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import torch
import xarray as xr
from mapping import CLASSES, make_scene

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.commands.scheduling import computing
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.inference import CHUNK, classify_cube
from hsi_pipeline.models import build_model
from hsi_pipeline.publish import write_class_map
from hsi_pipeline.scene import open_scene


class Zeros:
    """Pixels that cost nothing to read."""

    ndim = 3

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Keep the shape; one window's memory is enough."""
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        """Return a window of zeros."""
        sizes = [len(range(*s.indices(n))) for s, n in zip(key, self.shape, strict=True)]
        return np.zeros(sizes, self.dtype)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--model", default="hyperloopnet")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--chunk", type=int, default=CHUNK)
    arguments = parser.parse_args()
    size, bands = arguments.size, arguments.bands
    scheme = make_scheme(range(1, CLASSES + 1))
    torch.manual_seed(0)
    model = build_model(arguments.model, bands, CLASSES).eval()
    model.band_mean.fill_(3000.0)
    model.band_std.fill_(1700.0)
    print(
        f"{arguments.model}, {size} x {size} x {bands} int16, chunks of {arguments.chunk}, "
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}\n\n"
        "| precision | read s | network s | write s | together s | ratio | kpx/s |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        make_scene(Path(folder) / "scene.tif", size, np.linspace(420, 2450, bands))
        cube = open_scene(Path(folder) / "scene.tif")
        fake = da.from_array(
            Zeros(cube.shape, cube.dtype), chunks=cube.data.chunksize, asarray=False,
            name=f"zeros-{size}-{bands}", meta=np.empty((0, 0, 0), cube.dtype),
        )  # fmt: skip
        empty = cube.copy(data=fake)

        def classified(of: xr.DataArray, precision: str) -> xr.Dataset:
            return classify_cube(
                of, model, scheme, bands=tuple(range(bands)), chunk=arguments.chunk,
                precision=precision,
            )  # fmt: skip

        def row(precision: str) -> str:
            found: list[xr.Dataset] = []
            network = seconds(lambda: found.append(classified(empty, precision).compute()))
            ready = random_map(found[0]).chunk(dict.fromkeys("yx", arguments.chunk))
            write = seconds(lambda: write_class_map(ready, f"{folder}/ready-{precision}.zarr"))
            whole = classified(cube, precision)
            together = seconds(lambda: write_class_map(whole, f"{folder}/{precision}.zarr"))
            return (
                f"| {precision} | {read:.1f} | {network:.1f} | {write:.1f} | {together:.1f} | "
                f"{together / max(read, network, write):.2f} | {size**2 / 1e3 / together:.0f} |"
            )

        read = seconds(lambda: read_all(cube, arguments.chunk, int(model.halo)))
        for precision in arguments.precision:
            print(row(precision), flush=True)


def random_map(like: xr.Dataset) -> xr.Dataset:
    """Return a map that compresses as badly as a real one may."""
    random = np.random.default_rng(0)
    result = like.copy(deep=True)
    result["class"].values[:] = random.integers(1, CLASSES, like["class"].shape)
    result["confidence"].values[:] = random.random(like["confidence"].shape)
    return result


def seconds(job: Callable[[], object]) -> float:
    """Return the wall time of a job on the scheduler that `classify` uses."""
    started = time.perf_counter()
    with computing(Terminal(quiet=True), "", None):
        job()
    return time.perf_counter() - started


def read_all(cube: xr.DataArray, chunk: int, halo: int) -> None:
    """Read the window of every chunk with its halo, one after the other."""
    rows, columns = cube.sizes["y"], cube.sizes["x"]
    for top in range(0, rows, chunk):
        for left in range(0, columns, chunk):
            window = np.s_[
                :,
                max(top - halo, 0) : min(top + chunk + halo, rows),
                max(left - halo, 0) : min(left + chunk + halo, columns),
            ]
            cube.data[window].compute(scheduler="synchronous")


if __name__ == "__main__":
    main()
