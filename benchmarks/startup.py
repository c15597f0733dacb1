"""How long commands take that only answer, beside Python alone, and whether Torch was imported.

    python benchmarks/startup.py [--rounds 9]

Each is a process of its own, as a user starts it; one round runs all of them in turn, so that a
busy machine is as busy for each. The time is the median, and in brackets the least and the most.
`polygonize` and `report` work on a map of 64 x 64 pixels, which is nearly all start-up. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

TOLD = "torch was imported"


def write_map(path: Path) -> None:
    """Write a raster of two classes."""
    codes = np.repeat(np.repeat(np.random.default_rng(0).integers(1, 3, (8, 8)), 8, 0), 8, 1)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 64, "width": 64}
    profile |= {"crs": "EPSG:32633", "transform": Affine(30, 0, 5e5, 0, -30, 5.8e6), "nodata": 0}
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(codes.astype(np.uint8), 1)


def start(arguments: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, bool]:
    """Run the command line: seconds, and whether Torch was imported."""
    watch = (
        "import atexit, sys\n"
        f"atexit.register(lambda: 'torch' in sys.modules and print({TOLD!r}, file=sys.stderr))\n"
    )
    run = "sys.argv[0] = 'hsi-pipeline'\nfrom hsi_pipeline.cli import main\nmain()\n"
    code = watch + run if arguments[0] else watch
    command = [sys.executable, "-c", code, *arguments[1:]]
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - started, TOLD in done.stderr


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    complete = {
        "_HSI_PIPELINE_COMPLETE": "complete_bash",
        "COMP_WORDS": "hsi-pipeline cl",
        "COMP_CWORD": "1",
    }
    cases: dict[str, tuple[list[str], dict[str, str]]] = {
        "Python alone": ([""], {}),
        "`hsi-pipeline`": (["run"], {}),
        "`hsi-pipeline --help`": (["run", "--help"], {}),
        "`hsi-pipeline classify --help`": (["run", "classify", "--help"], {}),
        "`hsi-pipeline --version`": (["run", "--version"], {}),
        "completion of `hsi-pipeline cl`": (["run"], complete),
        "`hsi-pipeline polygonize`": (
            ["run", "polygonize", "map.tif", "--out", "landcover.gpkg", "--overwrite", "-q"], {},
        ),
        "`hsi-pipeline report`": (
            ["run", "report", "map.tif", "--out", "report.html", "--overwrite", "-q"], {},
        ),
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    torch: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_map(folder / "map.tif")
        for _ in range(rounds):
            for name, (arguments, environment) in cases.items():
                took, torch[name] = start(arguments, folder, environment)
                seconds[name].append(took)
    print("| command | seconds | imports Torch |\n| --- | --- | --- |")
    for name, all_ in seconds.items():
        shown = f"{statistics.median(all_):.2f} ({min(all_):.2f} to {max(all_):.2f})"
        print(f"| {name} | {shown} | {'yes' if torch[name] else 'no'} |")


if __name__ == "__main__":
    main()
