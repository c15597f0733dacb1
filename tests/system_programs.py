"""What the tests with QGIS, MapServer and GDAL of the system share: how to run them, what to show.

These programs come from the distribution (Debian: qgis python3-qgis qgis-providers gdal-bin
mapserver-bin); on a machine without them their tests are skipped.
"""

import os
import shutil
import subprocess

import dask.array as da
import geopandas as gpd
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from shapely.geometry import box

from hsi_pipeline.classes import make_scheme, scheme_to_attrs

SCHEME = make_scheme(
    [1, 2, 7], {1: "roof & <co>", 2: "low plants", 7: "Wälder"}, {1: "#c80000", 2: "#00ff00"}
)
SIDE = 40
GRID = GeoBox((SIDE, SIDE), Affine(30, 0, 500_000, 0, -30, 5_800_000), "EPSG:32633")
_BOXES = {1: (0, 20, 20, 40), 2: (20, 0, 40, 20), 7: (20, 20, 40, 40)}

# The project's own GDAL, PROJ, Qt and Python are of other versions than the system's.
_FOREIGN = ("GDAL", "OGR", "CPL_", "PROJ", "PYTHON", "QT_", "QGIS", "MAPSERVER", "MS_")
_FOREIGN_NAMES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV")


def has_program(name):
    return shutil.which(name) is not None


def require_programs(*names, package):
    """Skip a test where a program is missing, and say which package has it."""
    missing = [name for name in names if not has_program(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: {package})")


def clean_environment(folder):
    """Return the variables for a program of the system, whose home is a folder of the test."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and name not in _FOREIGN_NAMES
    }
    return kept | {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "LC_ALL": "C.UTF-8"}


def run_program(*arguments, folder, **variables):
    """Run a program of the system in a folder; an exit code other than 0 is an error."""
    result = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=folder,
        env=clean_environment(folder) | variables,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, (result.stdout[-2000:], result.stderr[-2000:])
    return result


def class_codes(scale=1):
    """Return class codes (y, x) of four quarters, nodata and three classes."""
    codes = np.zeros((SIDE, SIDE), np.uint8)
    for code, (top, left, bottom, right) in _BOXES.items():
        codes[top:bottom, left:right] = code
    return np.kron(codes, np.ones((scale, scale), np.uint8))


def class_map(scale=1):
    """Return the quarters as a class map, each pixel cut into scale x scale."""
    codes = class_codes(scale)
    confidence = np.where(codes > 0, 0.5, np.nan).astype(np.float32)
    chunks = 16 * scale
    return xr.Dataset(
        {
            "class": (("y", "x"), da.from_array(codes, chunks=chunks), scheme_to_attrs(SCHEME)),
            "confidence": (("y", "x"), da.from_array(confidence, chunks=chunks)),
        },
        coords=dict(xr_coords(GRID.zoom_to(codes.shape), dims=("y", "x"))),
    )


def class_polygons():
    """Return the same quarters as polygons made by hand, nodata left out."""
    names = dict(zip(SCHEME.codes, SCHEME.names, strict=True))
    shapes = []
    for top, left, bottom, right in _BOXES.values():
        west, north = GRID.transform @ (left, top)
        east, south = GRID.transform @ (right, bottom)
        shapes.append(box(west, south, east, north))
    codes = list(_BOXES)
    return gpd.GeoDataFrame(
        {"code": np.array(codes, np.int32), "name": [names[code] for code in codes]},
        geometry=shapes,
        crs=GRID.crs,
    )
