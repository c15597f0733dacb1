"""The same scene and the same weights through other programs: seconds, memory, pixels that differ.

    python benchmarks/inference/peers.py [--size 1024] [--bands 100] [--rounds 3]
        [--terratorch PYTHON] [--geoai PYTHON] [--geo-inference PYTHON]

Each peer runs in a process of its own, some in an environment of their own, whose Python is
given (`pip install terratorch==1.2.13`, `geoai-py==0.40.1`, `geo-inference==3.2.4`); those that
are not given are left out. All start from an int16 GeoTIFF and end with a class map on disk.
Imports and the building of the network do not count, reading and writing do. Rounds are
interleaved, so that other work on the machine hits all alike; the median counts.

The network is the published HyperLoopNet (halo 37), untrained, its scores scaled so that every
class occurs. Peers get tiles of 256, batches of 4 and, where they take it, an overlap or border
that makes inner pixels exact. The patch loop (a network pass for each pixel's 11 x 11 patch, as the
classic toolboxes do) runs on some rows; its time is scaled to the scene. Whole is one pass of the
plain network over the scene in float32, with which the maps are compared; in float64 it runs once
and shows how many pixels float32 itself leaves open. The margin is the largest distance between the
two highest probabilities, in that pass, of the pixels inside that differ. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from peak import peak_gb

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for environments that have this package's models only as files

from hsi_pipeline.models import build_model  # noqa: E402

CLASSES = 12
TILE, BATCH = 256, 4
INSIDE = (0, 16, 37)  # pixels from the border
PATCH, PATCH_ROWS, PATCH_BATCH = 11, 8, 512


def main() -> None:
    """Measure all, or be the process that measures one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--bands", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    for name in ("terratorch", "geoai", "geo-inference"):
        parser.add_argument(f"--{name}", metavar="PYTHON")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        _be_a_job(arguments.job, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        _compare(arguments, Path(folder))


def _compare(arguments: argparse.Namespace, folder: Path) -> None:
    _make_inputs(folder, arguments.size, arguments.bands)
    pythons = dict.fromkeys(JOBS, sys.executable)
    for job in ("terratorch", "geoai", "geo-inference"):
        pythons[job] = getattr(arguments, job.replace("-", "_"))
    results: dict[str, list[dict[str, Any]]] = {job: [] for job in JOBS if pythons[job]}
    for _ in range(arguments.rounds):
        for job in results:
            if job == "whole float64" and results[job]:
                continue
            command = [pythons[job], __file__, "--job", job, "--folder", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
            if done.returncode:
                sys.exit(f"{job} failed:\n{done.stderr[-3000:]}")
            results[job].append(json.loads(done.stdout.splitlines()[-1]))
    print("| program | seconds | Mpx/s | / float32 | / bfloat16 | peak memory GB |", end="")
    print(" differ | > 16 px inside | > 37 px inside | margin |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    whole, margin = np.load(folder / "whole.npy"), np.load(folder / "margin.npy")
    pixels = arguments.size**2
    ours = [
        statistics.median(run["seconds"] for run in results[f"hsi_pipeline {precision}"])
        for precision in ("float32", "bfloat16")
    ]
    for job, runs in results.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        spread = f"{min(r['seconds'] for r in runs):.1f} to {max(r['seconds'] for r in runs):.1f}"
        peak = max(run["peak_gb"] for run in runs)
        differ = "| " * 4
        path = folder / f"{job}.npy"
        if path.exists():
            wrong = np.load(path) != whole
            counts = [wrong[c : wrong.shape[0] - c, c : wrong.shape[1] - c].sum() for c in INSIDE]
            differ = "".join(f"| {count:,} " for count in counts)
            differ += f"| {margin[37:-37, 37:-37][wrong[37:-37, 37:-37]].max(initial=0):.0e} "
        print(
            f"| {job} {runs[0]['version']} | {seconds:.1f} ({spread}) | "
            f"{pixels / 1e6 / seconds:.4g} | {seconds / ours[0]:.2f} | {seconds / ours[1]:.2f} | "
            f"{peak:.2f} {differ}|"
        )
    print(
        f"\n{pixels:,} pixels, {arguments.bands} bands; in the whole-scene pass the two highest "
        f"probabilities of {int((margin < 1e-5).sum())} pixels are within 1e-5."
    )


def _make_inputs(folder: Path, size: int, bands: int) -> None:
    """Write a scene of patches of materials with noise, and a network that tells classes apart."""
    rng = np.random.default_rng(0)
    spectra = rng.integers(500, 6000, (CLASSES, bands))
    cells = rng.integers(0, CLASSES, (-(-size // 8), -(-size // 8)))
    materials = np.kron(cells, np.ones((8, 8), int))[:size, :size]
    centers = np.linspace(420, 2450, bands)
    options: dict[str, Any] = {
        "driver": "GTiff", "count": bands, "height": size, "width": size, "dtype": "int16",
        "crs": "EPSG:32633", "tiled": True, "blockxsize": 256, "blockysize": 256,
        "transform": rasterio.Affine(30, 0, 400020, 0, -30, 5800020),
    }  # fmt: skip
    scene = np.empty((bands, size, size), np.int16)
    for band in range(bands):
        noise = rng.normal(0, 400, (size, size))
        scene[band] = np.clip(spectra[materials, band] + noise, 1, 10000)
    with rasterio.open(folder / "scene.tif", "w", **options) as target:
        for band in range(bands):
            target.update_tags(band + 1, wavelength=f"{centers[band]:.3f}")
            target.update_tags(band + 1, wavelength_units="Nanometers")
        target.write(scene)
    torch.manual_seed(0)
    model = build_model("hyperloopnet", bands, CLASSES).eval()
    model.band_mean.copy_(torch.from_numpy(scene.mean((1, 2))))
    model.band_std.copy_(torch.from_numpy(scene.std((1, 2))))
    with torch.no_grad():
        scores = model(torch.from_numpy(scene[None, :, :256, :256].astype(np.float32)))
        factor = 4 / scores.std((0, 2, 3))
        mean = scores.mean((0, 2, 3))
        weight, bias = model.classifier.weight, model.classifier.bias
        bias.copy_((bias - mean) * factor)
        weight.mul_(factor[:, None])
    torch.save({"bands": bands, "state": model.state_dict()}, folder / "weights.pt")
    from mapping import make_card  # needs the whole package

    from hsi_pipeline.checkpoint import save_checkpoint

    save_checkpoint(folder / "model.safetensors", model, make_card(model, centers))


def _network(folder: Path, **settings: Any) -> torch.nn.Module:
    stored = torch.load(folder / "weights.pt", weights_only=True)
    model = build_model("hyperloopnet", stored["bands"], CLASSES, **settings).eval()
    model.load_state_dict(stored["state"])
    return model


def _be_a_job(job: str, folder: Path) -> None:
    """Run one program, keep its map as `JOB.npy`, print seconds, peak memory and version."""
    warnings.simplefilter("ignore")
    seconds, codes, version = JOBS[job](folder)
    if codes is not None:
        np.save(folder / f"{job}.npy", codes)
    print(json.dumps({"seconds": seconds, "peak_gb": peak_gb(), "version": version}))


Result = tuple[float, np.ndarray | None, str]


def _write(folder: Path, codes: np.ndarray) -> None:
    with rasterio.open(folder / "scene.tif") as source:
        profile = source.profile | {"count": 1, "dtype": "uint8"}
    with rasterio.open(folder / "map.tif", "w", **profile) as target:
        target.write(codes.astype(np.uint8), 1)


def whole(dtype: torch.dtype) -> Callable[[Path], Result]:
    """Return a job that runs the plain network once over the whole scene."""

    @torch.inference_mode()
    def job(folder: Path) -> Result:
        model = _network(folder).to(dtype)
        start = time.perf_counter()
        with rasterio.open(folder / "scene.tif") as source:
            scene = torch.from_numpy(source.read()).to(dtype)
        probabilities = model(scene[None])[0].softmax(0)
        codes = probabilities.argmax(0).numpy()
        _write(folder, codes)
        seconds = time.perf_counter() - start
        if dtype == torch.float32:
            highest = probabilities.topk(2, 0).values
            np.save(folder / "margin.npy", (highest[0] - highest[1]).numpy())
        return seconds, codes, ""

    return job


def hsi_pipeline(precision: str) -> Callable[[Path], Result]:
    """Return a job that classifies as the command line does."""

    def job(folder: Path) -> Result:
        from hsi_pipeline import __version__
        from hsi_pipeline.commands.classify import classify
        from hsi_pipeline.publish import open_class_map

        start = time.perf_counter()
        classify(
            folder / "scene.tif", folder / "model.safetensors", folder / "ours.zarr",
            precision=precision, device="cpu", overwrite=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        return seconds, open_class_map(folder / "ours.zarr")["class"].values - 1, __version__

    return job


@torch.inference_mode()
def torchgeo(folder: Path) -> Result:
    """TorchGeo's gridded sampler with a DataLoader, tiles trimmed by the halo."""
    import torchgeo as package
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GriddedPatchSampler

    class Scene(RasterDataset):
        filename_glob = "scene.tif"

    model = _network(folder)
    halo = int(model.halo)
    start = time.perf_counter()
    dataset = Scene(str(folder))
    left, top = dataset.bounds[0].start, dataset.bounds[1].stop
    with rasterio.open(folder / "scene.tif") as source:
        rows, columns = source.shape
    codes = np.zeros((rows, columns), np.uint8)
    sampler = GriddedPatchSampler(dataset, size=TILE, stride=TILE - 2 * halo)
    for batch in DataLoader(dataset, BATCH, sampler=sampler, collate_fn=stack_samples):
        found = model(batch["image"]).argmax(1).numpy()
        for tile, bounds in zip(found, batch["bounds"].numpy(), strict=True):
            column, row = round((bounds[0] - left) / 30), round((top - bounds[4]) / 30)
            # trimmed where another tile goes on, whole at the scene's edge
            r0 = row + (halo if row > 0 else 0)
            c0 = column + (halo if column > 0 else 0)
            r1 = row + TILE - (halo if row + TILE < rows else 0)
            c1 = column + TILE - (halo if column + TILE < columns else 0)
            r0, c0, r1, c1 = max(r0, 0), max(c0, 0), min(r1, rows), min(c1, columns)
            codes[r0:r1, c0:c1] = tile[r0 - row : r1 - row, c0 - column : c1 - column]
    _write(folder, codes)
    return time.perf_counter() - start, codes, package.__version__


def terratorch(folder: Path) -> Result:
    """TerraTorch's tiled inference; the border that it drops is the halo."""
    from importlib.metadata import version

    from terratorch.tasks.tiled_inference import tiled_inference

    model = _network(folder)
    halo = int(model.halo)
    start = time.perf_counter()
    with rasterio.open(folder / "scene.tif") as source:
        scene = torch.from_numpy(source.read().astype(np.float32))
    scores = tiled_inference(
        model, scene[None], crop=TILE, stride=TILE - 2 * halo, delta=halo, batch_size=BATCH
    )
    codes = scores[0].argmax(0).numpy()
    _write(folder, codes)
    return time.perf_counter() - start, codes, version("terratorch")


def geoai(folder: Path) -> Result:
    """Run geoai's `predict_geotiff`, spline blending over twice the halo."""
    from importlib.metadata import version

    from geoai.inference import predict_geotiff

    model = _network(folder)
    start = time.perf_counter()
    predict_geotiff(
        model, str(folder / "scene.tif"), str(folder / "map.tif"), tile_size=TILE,
        overlap=2 * int(model.halo), batch_size=BATCH, num_classes=CLASSES, blend_mode="spline",
        preprocess_fn=lambda tile: tile, device="cpu", verbose=False, output_dtype="uint8",
        output_nodata=255, postprocess_fn=lambda scores: scores.argmax(0),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    with rasterio.open(folder / "map.tif") as result:
        return seconds, result.read(1), version("geoai-py")


class _BySize(torch.nn.Module):
    """Traced networks for the sizes of chunk that geo-inference makes."""

    def __init__(self, model: torch.nn.Module, bands: int) -> None:
        super().__init__()
        half = TILE // 2

        def trace(rows: int, columns: int) -> torch.nn.Module:
            return torch.jit.trace(model, torch.rand(1, bands, rows, columns) * 5000)

        self.inner, self.right = trace(TILE, TILE), trace(TILE, half)
        self.bottom, self.corner = trace(half, TILE), trace(half, half)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.float()
        if x.shape[2] == x.shape[3]:
            if x.shape[2] > 128:
                return self.inner(x)
            return self.corner(x)
        if x.shape[2] > x.shape[3]:
            return self.right(x)
        return self.bottom(x)


def geo_inference(folder: Path) -> Result:
    """geo-inference: Dask, half of each tile overlaps, TorchScript."""
    from importlib.metadata import version

    import scipy.signal
    from geo_inference.geo_inference import GeoInference

    assert scipy.signal  # imported lazily otherwise, inside the time
    model = _network(folder)
    with torch.inference_mode():
        torch.jit.script(_BySize(model, len(model.band_mean))).save(str(folder / "traced.pt"))
    work = GeoInference(
        model=str(folder / "traced.pt"), work_dir=str(folder / "work"), device="cpu",
        num_classes=CLASSES,
    )  # fmt: skip
    start = time.perf_counter()
    name = work(str(folder / "scene.tif"), patch_size=TILE, workers=os.cpu_count() or 1)
    seconds = time.perf_counter() - start
    with rasterio.open(folder / "work" / name) as result:
        return seconds, result.read(1), version("geo-inference")


@torch.inference_mode()
def patch_loop(folder: Path) -> Result:
    """A network pass for each pixel's patch, some rows of the scene; seconds for all of it."""
    model = _network(folder, window=None)
    half = PATCH // 2
    with rasterio.open(folder / "scene.tif") as source:
        scene = source.read().astype(np.float32)
    rows, columns = scene.shape[1:]
    padded = torch.from_numpy(np.pad(scene, ((0, 0), (half, half), (half, half))))
    places = [(row, column) for row in range(PATCH_ROWS) for column in range(columns)]
    start = time.perf_counter()
    for first in range(0, len(places), PATCH_BATCH):
        some = places[first : first + PATCH_BATCH]
        patches = torch.stack([padded[:, r : r + PATCH, c : c + PATCH] for r, c in some])
        model(patches).argmax(1).numpy()
    return (time.perf_counter() - start) * rows / PATCH_ROWS, None, ""


JOBS: dict[str, Callable[[Path], Result]] = {
    "whole": whole(torch.float32),
    "whole float64": whole(torch.float64),
    "hsi_pipeline float32": hsi_pipeline("float32"),
    "hsi_pipeline bfloat16": hsi_pipeline("bfloat16"),
    "torchgeo": torchgeo,
    "terratorch": terratorch,
    "geoai": geoai,
    "geo-inference": geo_inference,
    "patch loop": patch_loop,
}


if __name__ == "__main__":
    main()
