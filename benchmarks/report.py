"""Size of a report of an EnMAP scene, time and memory to write it, and time to open it.

    python benchmarks/report.py --data FOLDER --model MODEL [--size 1000]

Makes a scene of 1000 x 1000 pixels of real EnMAP spectra: 32 x 32 blocks of the Potsdam mosaic,
turned and put together at random. The model, which `workflows/enmap_potsdam.yaml` trains, maps it
with all layers, and the map becomes polygons of two pixels or more. The report is then written in a
process of its own; the peak is that of the whole process. Headless Chromium opens it from disk;
the time is from navigation to a map that can be used, pixel values included, the median of five.
Prints a Markdown table. Such a map is more ragged than a real one, so that its pictures and
polygons are larger.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio

BLOCK = 32
ROUNDS = 5
LAYERS = ("entropy", "margin", "dissimilarity")


def make_scene(mosaic: Path, path: Path, size: int) -> None:
    """Write a scene without nodata from blocks of another one."""
    random = np.random.default_rng(0)
    with rasterio.open(mosaic) as source:
        pixels, profile = source.read(), source.profile
        tags = [source.tags(band) for band in source.indexes]
        nodata, scales = source.nodata, source.scales
    whole = [
        (row, column)
        for row in range(0, pixels.shape[1] - BLOCK + 1, BLOCK)
        for column in range(0, pixels.shape[2] - BLOCK + 1, BLOCK)
        if (pixels[100, row : row + BLOCK, column : column + BLOCK] != nodata).all()
    ]
    across = -(-size // BLOCK)
    scene = np.empty((len(pixels), across * BLOCK, across * BLOCK), pixels.dtype)
    for down, right in np.ndindex(across, across):
        row, column = whole[random.integers(len(whole))]
        block = pixels[:, row : row + BLOCK, column : column + BLOCK]
        turned = np.rot90(block, random.integers(4), axes=(1, 2))
        scene[:, down * BLOCK :, right * BLOCK :][:, :BLOCK, :BLOCK] = turned
    profile |= {"height": size, "width": size, "tiled": True, "blockxsize": 128, "blockysize": 128}
    with rasterio.open(path, "w", **profile) as target:
        target.write(scene[:, :size, :size])
        target.scales = scales
        for band, told in zip(target.indexes, tags, strict=True):
            target.update_tags(band, **told)


def write(folder: Path, model: Path) -> dict[str, float]:
    """Write the report in this process; returns seconds and memory."""
    from hsi_pipeline.commands.report import report

    before, started = peak_mb(), time.perf_counter()
    report(
        folder / "map.zarr", folder / "report.html", scene=folder / "scene.tif", model=model,
        polygons=folder / "landcover.gpkg",
    )  # fmt: skip
    return {"seconds": time.perf_counter() - started, "peak_mb": peak_mb(), "imports_mb": before}


def open_in_browser(page: Path, folder: Path) -> list[float]:
    """Return the seconds until the map of a page can be used, of several new browsers."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from chromium import chromium, complaints_of, open_page, screenshot

    seconds = []
    for _ in range(ROUNDS):
        with chromium(folder) as driver:
            open_page(driver, page)
            mark = "return performance.getEntriesByName('map-ready')[0].startTime"
            seconds.append(driver.execute_script(mark) / 1000)
            if complaints_of(driver):
                raise SystemExit("the page complains")
            screenshot(driver, folder / "report.png")
    return seconds


def peak_mb() -> float:
    """Return the peak of this process's memory, from Linux."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds enmap_potsdam")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1000, help="rows and columns of the scene")
    parser.add_argument("--keep", type=Path, help="an existing folder for the files")
    parser.add_argument("--in-folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_folder:
        print(json.dumps(write(options.in_folder, options.model)))
        return
    from hsi_pipeline.commands.classify import classify
    from hsi_pipeline.commands.polygonize import polygonize

    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        mosaic = options.data / "enmap_potsdam" / "enmap_potsdam_mosaic.tif"
        make_scene(mosaic, folder / "scene.tif", options.size)
        classify(folder / "scene.tif", options.model, folder / "map.zarr", layers=LAYERS)
        polygonize(folder / "map.zarr", folder / "landcover.gpkg", min_area=1800)
        command = [sys.executable, __file__, "--data", str(options.data), "--model",
                   str(options.model), "--in-folder", str(folder)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout)
        page = folder / "report.html"
        opened = open_in_browser(page, folder)
        print("| pixels | HTML MB | write s | peak MB | of it imports MB | open s (range) |")
        print("|---|---|---|---|---|---|")
        print(
            f"| {options.size} x {options.size} | {page.stat().st_size / 1e6:.2f} "
            f"| {row['seconds']:.1f} | {row['peak_mb']:.0f} | {row['imports_mb']:.0f} "
            f"| {statistics.median(opened):.2f} ({min(opened):.2f} to {max(opened):.2f}) |"
        )


if __name__ == "__main__":
    main()
