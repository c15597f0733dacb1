"""Time and memory of mosaics by each rule, beside rasterio's merge in one piece.

    python benchmarks/mosaic.py [--maps 40] [--size 1000] [--chunk 1024]

Makes synthetic class maps that overlap by about half, as Zarr and as tiled GeoTIFF of the same
pixels, in a temporary folder. Every method joins them in a process of its own, from opened to
written, imports aside; the peak is that of the whole process. `rasterio.merge` takes the first map
that has a class, of maps named the newest first, which is the rule "newest": the result must be
equal. It reads and writes classes alone, as "newest, without confidence" does. Prints a Markdown
table.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

CRS, PIXEL, FIELD = "EPSG:32633", 30.0, 20
NAMES = ("water", "forest", "crops", "meadow", "built-up")
METHODS = (
    "newest, without confidence",
    "rasterio.merge",
    "newest",
    "confident",
    "majority",
)


def make_maps(folder: Path, count: int, size: int) -> None:
    """Write class maps with and without confidence (Zarr), and without (GeoTIFF)."""
    import dask.array as da
    import xarray as xr

    from hsi_pipeline.classes import make_scheme, scheme_to_attrs
    from hsi_pipeline.publish import write_class_map

    random = np.random.default_rng(0)
    scheme = make_scheme(range(1, 6), dict(enumerate(NAMES, start=1)))
    across = math.ceil(math.sqrt(count))
    fields = -(-size // FIELD)
    for i in range(count):
        step = 0.7 * size
        right, down = (int(place * step + random.integers(0, 50)) for place in divmod(i, across))
        transform = Affine(PIXEL, 0, 4e5 + right * PIXEL, 0, -PIXEL, 58e5 - down * PIXEL)
        grid = GeoBox((size, size), transform, CRS)
        codes = random.integers(1, 6, (fields, fields)).astype(np.uint8)
        codes = codes.repeat(FIELD, 0).repeat(FIELD, 1)[:size, :size].copy()
        codes[random.random((size, size)) < 0.02] = 0
        values = random.random((size, size), np.float32)
        values[codes == 0] = np.nan
        mapping = {"grid_mapping": "spatial_ref"}
        one = xr.Dataset(
            {
                "class": (
                    ("y", "x"),
                    da.from_array(codes, chunks=512),
                    {**scheme_to_attrs(scheme), **mapping},
                ),
                "confidence": (("y", "x"), da.from_array(values, chunks=512), mapping),
            },
            dict(xr_coords(grid, dims=("y", "x"))),
            attrs={
                "scene_id": f"scene{i:04}",
                "acquired": f"2024-01-01T00:{i // 60:02}:{i % 60:02}",
            },
        )
        write_class_map(one, folder / f"with{i:04}.zarr")
        write_class_map(one.drop_vars("confidence"), folder / f"without{i:04}.zarr")
        with rasterio.open(
            folder / f"{i:04}.tif", "w", driver="GTiff", dtype="uint8", count=1, height=size,
            width=size, crs=CRS, transform=transform, nodata=0, tiled=True, compress="deflate",
        ) as target:  # fmt: skip
            target.write(codes, 1)


def measure(method: str, folder: Path, chunk: int) -> dict[str, float]:
    """Join the maps in this process; returns seconds and peak memory."""
    from rasterio.merge import merge

    from hsi_pipeline.commands.mosaic import mosaic

    before = peak_mb()
    started = time.perf_counter()
    if method == "rasterio.merge":
        files = sorted(folder.glob("[0-9]*.tif"), reverse=True)
        merge(
            files, method="first", nodata=0, dst_path=folder / "out_merge.tif",
            mem_limit=1 << 20, dst_kwds={"tiled": True, "compress": "deflate"},
        )  # fmt: skip
    else:
        rule, _, without = method.partition(", ")
        kind = "without" if without else "with"
        mosaic(
            sorted(folder.glob(f"{kind}[0-9]*.zarr")), folder / f"out_{rule}{bool(without)}.zarr",
            rule=rule, chunk=chunk,
        )  # fmt: skip
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": peak_mb(), "imports_mb": before}


def peak_mb() -> float:
    """Return the peak of this process's memory, from Linux."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3


def check(folder: Path) -> tuple[int, int]:
    """Compare what must be equal; returns the size of the mosaic."""
    from hsi_pipeline.publish import open_class_map

    with rasterio.open(folder / "out_merge.tif") as source:
        expected = source.read(1)
    for name in ("out_newestTrue.zarr", "out_newestFalse.zarr"):
        found = open_class_map(folder / name)["class"].values
        if found.shape != expected.shape or (found != expected).any():
            raise SystemExit(f"{name} and the merge of rasterio differ")
    return expected.shape


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=40)
    parser.add_argument("--size", type=int, default=1000, help="rows and columns of a map")
    parser.add_argument("--chunk", type=int, default=1024)
    parser.add_argument("--in-folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.method:
        print(json.dumps(measure(options.method, options.in_folder, options.chunk)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_maps(folder, options.maps, options.size)
        rows = {}
        for method in METHODS:
            command = [
                sys.executable, __file__, "--method", method, "--in-folder", name,
                "--chunk", str(options.chunk),
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[method] = json.loads(done.stdout)
        shape = check(folder)
    pixels = shape[0] * shape[1]
    print(
        f"{options.maps} maps of {options.size} x {options.size} pixels, mosaic of "
        f"{shape[0]} x {shape[1]}, chunks of {options.chunk}; Python {platform.python_version()}\n"
    )
    print("| method | s | Mpx/s | peak MB | of it imports MB |\n|---|---|---|---|---|")
    for method, row in rows.items():
        print(
            f"| {method} | {row['seconds']:.1f} | {pixels / 1e6 / row['seconds']:.1f} "
            f"| {row['peak_mb']:.0f} | {row['imports_mb']:.0f} |"
        )


if __name__ == "__main__":
    main()
