"""Chips per CPU-second: our dataset and TorchGeo's stock RasterDataset, on the same files.

    python benchmarks/sampling.py [--size 1000] [--chips 200]

Makes a scene of 224 int16 bands as ENVI BIL and as tiled GeoTIFF (256 x 256, band-interleaved) in
a temporary folder and draws the same random 64 x 64 windows with both. CPU time, since the ratio
is what counts. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from torchgeo.datasets import RasterDataset

from hsi_pipeline.datasets import HyperspectralDataset

BANDS, CHIP, PIXEL = 224, 64, 30.0


def make_scenes(folder: Path, size: int) -> dict[str, Path]:
    """Write one random scene in two layouts."""
    cube = np.random.default_rng(0).integers(0, 10000, (BANDS, size, size), dtype=np.int16)
    common = {
        "count": BANDS, "height": size, "width": size, "dtype": "int16", "crs": "EPSG:32633",
        "transform": Affine(PIXEL, 0, 400000, 0, -PIXEL, 5800000),
    }  # fmt: skip
    layouts = {
        "ENVI BIL": ("scene.bil", {"driver": "ENVI", "INTERLEAVE": "BIL"}),
        "GeoTIFF, 256 x 256 tiles": (
            "scene.tif",
            {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256,
             "interleave": "band", "BIGTIFF": "IF_SAFER"},
        ),
    }  # fmt: skip
    paths = {}
    for name, (file, options) in layouts.items():
        paths[name] = folder / file
        with rasterio.open(paths[name], "w", **common, **options) as target:
            target.write(cube)
    return paths


def rate(dataset: torch.utils.data.Dataset, size: int, chips: int) -> float:
    """Return chips per second of CPU time over random windows."""
    rng = np.random.default_rng(1)
    queries = []
    for _ in range(chips + 10):
        row, column = rng.integers(0, size - CHIP, 2)
        x, y = 400000 + column * PIXEL, 5800000 - (row + CHIP) * PIXEL
        queries.append((slice(x, x + CHIP * PIXEL), slice(y, y + CHIP * PIXEL)))
    for query in queries[:10]:  # opens files, fills caches
        dataset[query]
    start = time.process_time()
    for query in queries[10:]:
        sample = dataset[query]
    elapsed = time.process_time() - start
    assert sample["image"].shape == (BANDS, CHIP, CHIP)
    return chips / elapsed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1000, help="side of the scene in pixels")
    parser.add_argument("--chips", type=int, default=200, help="windows per measurement")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, {BANDS} int16 bands, {CHIP} px chips\n")
    print("| layout | RasterDataset | HyperspectralDataset | ratio |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in make_scenes(Path(folder), arguments.size).items():
            ours, stock = HyperspectralDataset(path), RasterDataset(path)
            # Alternate, so that a busy machine slows both alike.
            pairs = [
                (rate(stock, arguments.size, arguments.chips),
                 rate(ours, arguments.size, arguments.chips))
                for _ in range(3)
            ]  # fmt: skip
            theirs, mine = np.median(pairs, axis=0)
            print(f"| {name} | {theirs:.0f} | {mine:.0f} | {mine / theirs:.1f} |")


if __name__ == "__main__":
    main()
