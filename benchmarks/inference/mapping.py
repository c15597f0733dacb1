"""Time and peak memory of mapping a large scene, each run in a process of its own.

    python benchmarks/inference/mapping.py [--size 2000] [--bands 224] [--chunk 512]
        [--precision float32 bfloat16] [--memory 2.3GB 3GB 4GB] [--model hyperloopnet]

Makes a random int16 scene (tiled GeoTIFF) and an untrained HyperLoopNet with all its default
settings in a temporary folder, then runs `hsi-pipeline classify`, with a chunk or with each of the
memories. The map means nothing, the work is the real one. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window

from hsi_pipeline import __version__
from hsi_pipeline.checkpoint import save_checkpoint
from hsi_pipeline.classes import make_scheme
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.models import build_model
from hsi_pipeline.wavelengths import Wavelengths

CLASSES = 12

# The command line, and then the most memory that the process has held.
_PROGRAM = f"""
import atexit, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from peak import peak_gb
from hsi_pipeline.cli import main
atexit.register(lambda: print(peak_gb()))
main()
"""


def make_scene(path: Path, size: int, centers: np.ndarray) -> None:
    """Write a random scene with wavelengths, block by block."""
    rng = np.random.default_rng(0)
    options = {
        "driver": "GTiff", "count": len(centers), "height": size, "width": size,
        "dtype": "int16", "crs": "EPSG:32633", "tiled": True, "blockxsize": 256,
        "blockysize": 256, "nodata": -32768, "BIGTIFF": "IF_SAFER", "interleave": "band",
        "transform": Affine(30, 0, 400000, 0, -30, 5800000),
    }  # fmt: skip
    with rasterio.open(path, "w", **options) as target:
        for band, center in enumerate(centers, start=1):
            target.update_tags(band, wavelength=f"{center:.3f}", wavelength_units="Nanometers")
            for row in range(0, size, 256):
                height = min(256, size - row)
                block = rng.integers(0, 6000, (height, size), dtype=np.int16)
                target.write(block, band, window=Window(0, row, size, height))


def make_model(path: Path, centers: np.ndarray, architecture: str = "hyperloopnet") -> None:
    """Save an untrained network for the scene."""
    torch.manual_seed(0)
    model = build_model(architecture, len(centers), CLASSES)
    model.band_mean.fill_(3000.0)
    model.band_std.fill_(1700.0)
    save_checkpoint(path, model, make_card(model, centers, architecture))


def make_card(
    model: torch.nn.Module, centers: np.ndarray, architecture: str = "hyperloopnet"
) -> ModelCard:
    """Return the card of a network for the scene's bands."""
    return ModelCard(
        architecture=architecture, settings={}, bands=len(centers),
        wavelengths=Wavelengths(tuple(float(f"{c:.3f}") for c in centers)), tolerance_nm=1.0,
        classes=make_scheme(range(1, CLASSES + 1)), halo=int(model.halo), scenes=("random",),
        seed=0, version=__version__,
    )  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2000, help="side of the scene in pixels")
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--chunk", type=int, default=512)
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--memory", nargs="+", help="instead of a chunk")
    parser.add_argument("--model", default="hyperloopnet")
    arguments = parser.parse_args()
    centers = np.linspace(420, 2450, arguments.bands)
    settings = [("--memory", memory) for memory in arguments.memory or []]
    settings = settings or [("--chunk", str(arguments.chunk))]
    print(
        "| scene | precision | setting | wall s | kpx/s | peak memory GB |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        scene, model = Path(folder) / "scene.tif", Path(folder) / "model.safetensors"
        make_scene(scene, arguments.size, centers)
        make_model(model, centers, arguments.model)
        for precision, setting in itertools.product(arguments.precision, settings):
            command = [
                sys.executable, "-c", _PROGRAM, "classify", str(scene), str(model), "--out",
                f"{folder}/map.zarr", *setting, "--precision", precision, "--device", "cpu",
                "--overwrite", "--quiet",
            ]  # fmt: skip
            start = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            wall = time.perf_counter() - start
            pixels = arguments.size**2 / 1e3
            print(
                f"| {arguments.size} x {arguments.size} x {arguments.bands} int16 | {precision} | "
                f"{setting[0][2:]} {setting[1]} | {wall:.0f} | {pixels / wall:.0f} | "
                f"{float(done.stdout):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
