"""What the Dask scheduler costs for each chunk, up to 100,000 chunks on 1,000 workers.

    python benchmarks/inference/scheduling.py [--runs 10000x10 10000x100 10000x1000 100000x1000]
        [--chunk-seconds 7.7]

The graph is the one that `classify` computes for a scene of so many chunks; reading, network and
writing do nothing, so what remains is Dask. The scheduler is a process of its own, so are all the
workers together, which talk to it by TCP as they would from other machines. Measured are the
seconds until the graph is there and optimised, the processor time of the scheduler for each chunk,
and its memory. From it follows how many workers it can feed if a chunk takes them so many seconds
(default: 512 x 512 x 224 on one core in float32), and how busy they are at most: a scheduler hands
out one chunk after the other. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import psutil
import torch
from dask.base import compute_as_if_collection
from distributed import Client, Worker
from mapping import CLASSES
from stages import Zeros

from hsi_pipeline import chunk_tasks
from hsi_pipeline.classes import make_scheme
from hsi_pipeline.cube import make_cube, pixel_grid
from hsi_pipeline.inference import CHUNK, classify_cube
from hsi_pipeline.models import build_model
from hsi_pipeline.publish import filling
from hsi_pipeline.publish.zarr import regular

BANDS = 224


def _read(self: Any, *, block_info: dict) -> np.ndarray:
    return np.empty((0, 0, 0), np.int16)


def _predict(self: Any, raw: np.ndarray, network: Any, *, block_info: dict) -> np.ndarray:
    return np.empty((2, 0, 0), np.float32)


def _store(*_: Any, **__: Any) -> np.ndarray:
    return np.ones((1, 1), np.uint8)


def class_map_of(chunks: int) -> Any:
    """Return the lazy class map of a scene of so many chunks."""
    side = round(math.sqrt(chunks)) * CHUNK
    cube = make_cube(
        da.from_array(
            Zeros((BANDS, side, side), np.dtype("int16")), chunks=(BANDS, 4096, 4096),
            asarray=False, name="zeros", meta=np.empty((0, 0, 0), np.int16),
        ),
        pixel_grid(side, side), wavelengths=None, good=(True,) * BANDS,
        band_names=tuple(map(str, range(BANDS))), nodata=-1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = build_model("hyperloopnet", BANDS, CLASSES).eval()
    return classify_cube(cube, model, make_scheme(range(1, CLASSES + 1)), bands=tuple(range(BANDS)))


async def be_workers(address: str, count: int) -> None:
    """Be so many workers until killed."""
    workers = [Worker(address, nthreads=1, memory_limit=0, dashboard=False) for _ in range(count)]
    for first in range(0, count, 50):
        await asyncio.gather(*workers[first : first + 50])
    await asyncio.gather(*(worker.finished() for worker in workers))


def measure(chunks: int, workers: int, chunk_seconds: float) -> None:
    """Start scheduler and workers, compute, print a row."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    quiet: dict[str, Any] = {
        "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL,
        "env": {**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    }  # fmt: skip
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
         "--port", str(port), "--no-dashboard", "--no-show"], **quiet,
    )  # fmt: skip
    crowd = subprocess.Popen(
        [sys.executable, __file__, "--address", address, "--count", str(workers)], **quiet
    )
    try:
        with Client(address, timeout=60) as client, tempfile.TemporaryDirectory() as folder:
            client.wait_for_workers(workers, timeout=600)
            usage = psutil.Process(scheduler.pid)
            before = sum(usage.cpu_times()[:2])
            start = time.perf_counter()
            class_map = class_map_of(chunks)
            written = filling.storing(
                regular(class_map), Path(folder, "map.zarr"), Path(folder, "done.zarr")
            )
            keys = [(written.name, i, j) for i, j in np.ndindex(*written.numblocks)]
            with dask.config.set({"optimization.fuse.rename-keys": False}):
                da.Array.__dask_optimize__(written.dask, keys)
                built = time.perf_counter() - start
                compute_as_if_collection(da.Array, written.dask, keys)
            each = (sum(usage.cpu_times()[:2]) - before) / len(keys)
            memory = usage.memory_info().rss / 1e9
    finally:
        for process in (crowd, scheduler):
            process.kill()
            process.wait()
    busy = min(chunk_seconds / (each * workers), 1.0)
    print(
        f"| {len(keys):,} | {workers:,} | {built:.1f} | {1e3 * each:.2f} | {memory:.2f} | "
        f"{chunk_seconds / each:,.0f} | {busy:.0%} |",
        flush=True,
    )


def main() -> None:
    """Measure and print, or be the workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--runs", nargs="+", default=["10000x10", "10000x100", "10000x1000", "100000x1000"]
    )
    parser.add_argument("--chunk-seconds", type=float, default=7.7)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    chunk_tasks.ChunkTasks.read = _read  # type: ignore[method-assign]
    chunk_tasks.ChunkTasks.predict = _predict  # type: ignore[method-assign]
    filling._store_chunk = _store  # type: ignore[assignment]
    if arguments.address:
        asyncio.run(be_workers(arguments.address, arguments.count))
        return
    print(
        "| chunks | workers | graph s | scheduler ms a chunk | scheduler GB "
        "| workers it can feed | busy |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for run in arguments.runs:
        chunks, workers = map(int, run.split("x"))
        measure(chunks, workers, arguments.chunk_seconds)


if __name__ == "__main__":
    main()
