"""Polygons of a large class map: time, memory and exactness, beside GDAL and xarray-spatial.

    python benchmarks/polygons/speed.py --side 10000 --rounds 3
    pip install xarray-spatial==0.10.20    # for its two rows; without it they are left out

Makes a map of patches as land cover has them (about 9,500 regions in a million pixels) with
confidences, as a Zarr store of 512 x 512 chunks. Each case runs in a process of its own, rounds
interleaved; times leave out start-up and compilation, memory is the process's peak.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import dask
import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from scipy import ndimage

from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.publish import Layer, open_class_map, write_class_map, write_polygons

warnings.filterwarnings("ignore")

CLASSES = 8
TILE = 2000
SCHEME = make_scheme(range(1, CLASSES + 1))
GRID = Affine(30, 0, 300_000, 0, -30, 5_900_000)
SMALLEST = 10 * 900  # m2, ten pixels
TOLERANCE = 45  # m
CASES = {
    "stream": "our polygons with attributes, as a stream",
    "gpkg": "the same, written as GeoPackage",
    "fgb": "the same, written as FlatGeobuf",
    "parquet": "the same, written as GeoParquet",
    "minimum": f"minimum area of {SMALLEST // 900} pixels, then polygons as a stream",
    "simplify": f"the same, simplified by {TOLERANCE} m and smoothed",
    "shapes": "rasterio.features.shapes, whole raster, coordinates only",
    "shapely": "rasterio.features.shapes, whole raster, shapely polygons",
    "xrspatial": "xrspatial.polygonize, whole raster",
    "xrspatial-dask": "xrspatial.polygonize, Dask chunks of 1024",
}


def patches(side: int, seed: int) -> np.ndarray:
    """Return a raster of patches: the strongest of smooth random fields of two scales."""
    random = np.random.default_rng(seed)
    best, codes = np.full((side, side), -np.inf, np.float32), np.zeros((side, side), np.uint8)
    for code in range(1, CLASSES + 1):
        fine = ndimage.gaussian_filter(random.standard_normal((side, side), np.float32), 4)
        small = random.standard_normal((side // 25 + 1,) * 2, np.float32)
        coarse = ndimage.zoom(ndimage.gaussian_filter(small, 1.5), 25, order=1)[:side, :side]
        field = fine / fine.std() + 0.8 * coarse / coarse.std()
        np.copyto(codes, code, where=field > best)
        np.maximum(best, field, out=best)
    return codes


def make_map(path: Path, side: int) -> None:
    """Write a map tile by tile, each from its own seed."""
    starts = range(0, side, TILE)

    def tile(block_id: tuple[int, int]) -> np.ndarray:
        rows, columns = (min(TILE, side - TILE * k) for k in block_id)
        return patches(TILE, 1000 * block_id[0] + block_id[1])[:rows, :columns]

    sizes = tuple(min(TILE, side - start) for start in starts)
    codes = da.map_blocks(tile, chunks=(sizes, sizes), dtype=np.uint8, meta=np.empty((0, 0), "u1"))
    confidence = da.random.default_rng(0).random((side, side), np.float32, chunks=512)
    with dask.config.set(scheduler="threads", num_workers=2):
        codes.rechunk(512).to_zarr(path.with_suffix(".codes"), zarr_format=2)
        codes = da.from_zarr(path.with_suffix(".codes"))
        grid = GeoBox((side, side), GRID, "EPSG:32633")
        dataset = xr.Dataset(
            {
                "class": (("y", "x"), codes, scheme_to_attrs(SCHEME)),
                "confidence": (("y", "x"), confidence),
            },
            coords=xr_coords(grid, dims=("y", "x")),
            attrs={"scene_id": "patches", "acquired": "2024-07-14"},
        )
        write_class_map(dataset, path)


def memory_mb() -> float:
    """Return the most memory that this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def frames_of(
    class_map: xr.Dataset, folder: str | None = None, simplify: float = 0
) -> Iterator[gpd.GeoDataFrame]:
    """Return our polygons, of the map or of the map with a minimum area."""
    from hsi_pipeline.polygons import polygonize
    from hsi_pipeline.polygons.minimum_area import apply_minimum_area

    if folder is not None:
        class_map, _ = apply_minimum_area(class_map, SMALLEST, Path(folder) / "classes.zarr")
    return polygonize(class_map, simplify=simplify, smooth=simplify > 0)


def run(case: str, path: Path) -> tuple[int, float]:
    """Do what a case names; return the number of polygons and when it began."""
    from rasterio.features import shapes
    from shapely.geometry import shape

    if case in ("shapes", "shapely"):
        codes = open_class_map(path)["class"].values
        time_from = time.perf_counter()
        found = shapes(codes, mask=codes > 0, transform=GRID)
        if case == "shapely":
            found = [shape(geometry) for geometry, _ in found]
        return sum(1 for _ in found), time_from
    if case.startswith("xrspatial"):
        from xrspatial import polygonize

        small = xr.DataArray(patches(100, 0), dims=("y", "x"))
        polygonize(small.chunk(50) if "dask" in case else small)
        codes = open_class_map(path)["class"]
        codes = codes.chunk(1024) if "dask" in case else codes.compute()
        time_from = time.perf_counter()
        return len(polygonize(codes)[0]), time_from
    class_map = open_class_map(path)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # compile
        for tolerance in (0, TOLERANCE):
            few = class_map.isel(y=slice(0, 40), x=slice(0, 40))
            sum(len(frame) for frame in frames_of(few, simplify=tolerance))
        time_from = time.perf_counter()
        if case in ("minimum", "simplify"):
            frames = frames_of(class_map, folder, TOLERANCE if case == "simplify" else 0)
            return sum(map(len, frames)), time_from
        count = 0

        def counted() -> Iterator[gpd.GeoDataFrame]:
            nonlocal count
            for frame in frames_of(class_map):
                count += len(frame)
                yield frame

        if case == "stream":
            for _ in counted():
                pass
        else:
            write_polygons(counted(), Path(folder) / f"polygons.{case}", Layer(SCHEME))
        return count, time_from


def check(path: Path) -> None:
    """Rasterise our polygons, batch by batch, and count the pixels that differ from the map."""
    from rasterio.features import rasterize

    class_map = open_class_map(path)
    codes = class_map["class"].values
    back = np.zeros(codes.shape, np.uint8)
    for frame in frames_of(class_map):
        pairs = zip(frame.geometry, frame["code"], strict=True)
        rasterize(pairs, out=back, transform=GRID)
    print(f"polygons rasterised: {(back != codes).sum()} of {codes.size} pixels differ")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = pd.concat(frames_of(class_map, folder))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        simple = pd.concat(frames_of(class_map, folder, TOLERANCE))
    before, after = (frame.groupby("code")["area_m2"].sum() for frame in (plain, simple))
    print(
        f"simplified: coverage valid: {shapely.coverage_is_valid(simple.geometry.to_numpy())}; "
        f"areas of classes change by at most {(after / before - 1).abs().max():.2%}; "
        f"vertices {shapely.get_num_coordinates(plain.geometry.to_numpy()).sum():,} before, "
        f"{shapely.get_num_coordinates(simple.geometry.to_numpy()).sum():,} after"
    )


def main() -> None:
    """Run all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", type=Path, help="where to keep the map")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case, path = options.one
        count, time_from = run(case, Path(path))
        print(json.dumps([count, time.perf_counter() - time_from, memory_mb()]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = (options.folder or Path(temporary)) / f"patches_{options.side}.zarr"
        if not path.exists():
            make_map(path, options.side)
        compare(path, options)
        check(path)


def compare(path: Path, options: argparse.Namespace) -> None:
    """Time the cases, rounds interleaved."""
    cases = [
        case for case in options.cases
        if not case.startswith("xrspatial") or importlib.util.find_spec("xrspatial")
    ]  # fmt: skip
    results = {case: [] for case in cases}
    for _ in range(options.rounds):
        for case in cases:
            done = subprocess.run(
                [sys.executable, __file__, "--one", case, path],
                stdout=subprocess.PIPE, env=os.environ, check=True,
            )  # fmt: skip
            results[case].append(json.loads(done.stdout))
    pixels = options.side**2 / 1e6
    print(f"{pixels:g} Mpx, median of {options.rounds}\n")
    print("| case | polygons | s | Mpx/s | peak GB |\n| --- | --- | --- | --- | --- |")
    for case, runs in results.items():
        seconds = statistics.median(seconds for _, seconds, _ in runs)
        peak = max(peak for _, _, peak in runs) / 1024
        print(f"| {CASES[case]} | {runs[0][0]:,} | {seconds:.1f} | {pixels / seconds:.1f} "
              f"| {peak:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
