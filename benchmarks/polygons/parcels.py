"""Parcels over a large class map: time and memory of `summarise_parcels`.

    python benchmarks/polygons/parcels.py --side 10000 --parcels 100000

The map is that of speed.py. Three layers, each in a process of its own: random quadrilaterals, the
cells of a grid that tiles the map, and one polygon of 200,000 vertices over all of it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from speed import make_map, memory_mb

from hsi_pipeline.parcels import summarise_parcels
from hsi_pipeline.publish import open_class_map

warnings.filterwarnings("ignore")

KINDS = ("random", "tiling", "one")


def make_parcels(kind: str, count: int, bounds: tuple[float, float, float, float]) -> np.ndarray:
    """Return polygons inside some bounds."""
    left, bottom, right, top = bounds
    random = np.random.default_rng(0)
    if kind == "random":
        x = random.uniform(left, right - 1000, (count, 1))
        y = random.uniform(bottom, top - 1000, (count, 1))
        corners = np.array([[0, 0], [1, 0.2], [0.9, 1], [0.1, 0.8]]) * random.uniform(50, 1000)
        return shapely.polygons(np.stack((x + corners[:, 0], y + corners[:, 1]), axis=2))
    if kind == "tiling":
        side = int(np.sqrt(count))
        x, y = np.linspace(left, right, side + 1), np.linspace(bottom, top, side + 1)
        west, south = (edges.ravel() for edges in np.meshgrid(x[:-1], y[:-1]))
        return shapely.box(west, south, west + x[1] - x[0], south + y[1] - y[0])
    angle = np.linspace(0, 2 * np.pi, 200_000)
    radius = (right - left) / 2 * (0.9 + 0.1 * np.sin(5000 * angle))
    middle = (left + right) / 2, (bottom + top) / 2
    x, y = middle[0] + radius * np.cos(angle), middle[1] + radius * np.sin(angle)
    return np.array([shapely.Polygon(np.column_stack((x, y)))])


def main() -> None:
    """Summarise each kind of parcels and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--parcels", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to keep the map")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, path = options.one
        class_map = open_class_map(path)
        bounds = class_map.odc.geobox.boundingbox.bbox
        parcels = gpd.GeoDataFrame(
            geometry=make_parcels(kind, options.parcels, bounds), crs=class_map.odc.crs
        )
        begun = time.perf_counter()
        frame, _ = summarise_parcels(class_map, parcels)
        print(json.dumps([len(frame), time.perf_counter() - begun, memory_mb()]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = (options.folder or Path(temporary)) / f"patches_{options.side}.zarr"
        if not path.exists():
            make_map(path, options.side)
        print("| parcels | number | s | peak GB |\n| --- | --- | --- | --- |")
        for kind in KINDS:
            done = subprocess.run(
                [sys.executable, __file__, "--one", kind, path, "--parcels", str(options.parcels)],
                stdout=subprocess.PIPE, check=True,
            )  # fmt: skip
            count, seconds, peak = json.loads(done.stdout)
            print(f"| {kind} | {count:,} | {seconds:.1f} | {peak / 1024:.2f} |")


if __name__ == "__main__":
    main()
