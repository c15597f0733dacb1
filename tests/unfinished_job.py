"""Writes a class map chunk by chunk, slowly, as a program of its own that can be killed.

python unfinished_job.py TARGET LOG SECONDS [JOB]: LOG gets a line for every chunk computed.
"""

import os
import sys
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.publish import write_class_map

GRID = GeoBox((90, 70), Affine(30, 0, 3e5, 0, -30, 5e6), "EPSG:32632")
CHUNK = 16
CHUNKS = 6 * 5
SCHEME = make_scheme([1, 2, 9])


def make_map(compute):
    """A lazy class map; compute(i, j) is called once for each chunk and variable."""
    sizes = tuple(tuple(min(CHUNK, n - start) for start in range(0, n, CHUNK)) for n in GRID.shape)

    def planes(block_info):
        (i, j), ((r0, r1), (c0, c1)) = (
            block_info[None]["chunk-location"][1:],
            block_info[None]["array-location"][1:],
        )
        compute(i, j)
        random = np.random.default_rng(i * 1000 + j)
        shares = random.dirichlet([1, 1, 1], (r1 - r0, c1 - c0)).astype(np.float32)
        invalid = random.random(shares.shape[:2]) < 0.1
        codes = np.where(invalid, 0, np.array(SCHEME.codes)[shares.argmax(2)]).astype(np.float32)
        shares[invalid] = np.nan
        return np.stack([codes, shares.max(2), *shares.transpose(2, 0, 1)])

    stacked = da.map_blocks(
        planes, chunks=((5,), *sizes), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    mapping = {"grid_mapping": "spatial_ref"}
    return xr.Dataset(
        {
            "class": (
                ("y", "x"),
                stacked[0].astype(np.uint8),
                {**scheme_to_attrs(SCHEME), **mapping},
            ),
            "confidence": (("y", "x"), stacked[1], mapping),
            "probability": (("category", "y", "x"), stacked[2:], mapping),
        },
        {**xr_coords(GRID, dims=("y", "x")), "category": list(SCHEME.names)},
    )


def main():
    target, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    name = sys.argv[4] if len(sys.argv) > 4 else "one"

    def compute(i, j):
        time.sleep(seconds)
        with log.open("a") as file:
            file.write(f"{i} {j}\n")
            file.flush()
            os.fsync(file.fileno())

    with dask.config.set(scheduler="threads", num_workers=2):
        write_class_map(make_map(compute), target, job={"name": name}, overwrite=True)


if __name__ == "__main__":
    main()
