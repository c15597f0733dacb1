"""The real QGIS opens the results by name, class and colour, with no step by the user."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.polygons import polygonize
from hsi_pipeline.publish import open_class_map, write_class_map
from hsi_pipeline.publish.vector import write_polygons

SYSTEM_PYTHON = "/usr/bin/python3"  # QGIS of a distribution belongs to the system's Python
SCHEME = make_scheme(
    [1, 2, 7], {1: "roof & <co>", 2: "low plants", 7: "Wälder"}, {1: "#c80000", 2: "#00ff00"}
)
GRID = GeoBox((40, 40), Affine(30, 0, 500_000, 0, -30, 5_800_000), "EPSG:32633")


def has_qgis():
    return (
        shutil.which(SYSTEM_PYTHON) is not None
        and subprocess.run(
            [SYSTEM_PYTHON, "-c", "import qgis.core"], capture_output=True, check=False
        ).returncode
        == 0
    )


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What QGIS says of a class map of four quarters: nodata and three classes."""
    if not has_qgis():
        pytest.skip("QGIS is not installed (Debian: qgis python3-qgis qgis-providers)")
    folder = tmp_path_factory.mktemp("qgis with blank")
    codes = np.zeros((40, 40), np.uint8)
    codes[:20, 20:], codes[20:, :20], codes[20:, 20:] = 1, 2, 7
    confidence = np.where(codes > 0, 0.5, np.nan).astype(np.float32)
    dataset = xr.Dataset(
        {
            "class": (("y", "x"), da.from_array(codes, chunks=16), scheme_to_attrs(SCHEME)),
            "confidence": (("y", "x"), da.from_array(confidence, chunks=16)),
        },
        coords=dict(xr_coords(GRID, dims=("y", "x"))),
    )
    write_class_map(dataset, folder / "map.zarr")
    write_class_map(dataset, folder / "map.tif")
    polygons, _ = polygonize(open_class_map(folder / "map.zarr"))
    write_polygons(polygons, folder / "landcover.gpkg", SCHEME)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GDAL", "PROJ", "PYTHON"))}
    result = subprocess.run(
        [SYSTEM_PYTHON, str(Path(__file__).with_name("qgis_opens.py")),
         *(str(folder / name) for name in ("landcover.gpkg", "map.tif", "map.zarr"))],
        capture_output=True, text=True, timeout=120, check=True,
        env={**clean, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
    )  # fmt: skip
    assert "Non-conformant" not in result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("layer", ["polygons", "raster"])
def test_qgis_shows_exactly_the_classes_by_name_in_their_colors(seen, layer):
    assert seen[layer]["valid"]
    assert seen[layer]["crs"] == "EPSG:32633"
    legend = [[int(code), name, color] for code, name, color in seen[layer]["legend"]]
    assert legend == [[c.code, c.name, c.color] for c in SCHEME.categories]


@pytest.mark.parametrize("layer", ["polygons", "raster"])
def test_qgis_renders_each_quarter_in_its_class_color(seen, layer):
    colors = seen[layer]["colors"]
    quarters = [SCHEME.colors[0], SCHEME.colors[1], SCHEME.colors[2]]
    # polygons leave the empty quarter out of their bounding box only if it were a whole side
    for color in quarters:
        assert colors[color] == pytest.approx(10_000, rel=0.05)  # thin outlines of polygons
    assert colors["#ffffff"] == pytest.approx(10_000, rel=0.05)


def test_qgis_finds_the_crs_of_the_zarr_store(seen):
    assert seen["store"]["valid"]
    assert seen["store"]["crs"] == "EPSG:32633"
    assert len(seen["store"]["colors"]) > 1
