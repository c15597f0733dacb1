"""The page on extending is true: its files and lines add a sensor, a network and a format."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import xarray as xr
from conftest import BAD, CRS, NM, TRANSFORM, class_field, make_tiny_scene
from system_programs import has_program, run_program

from hsi_pipeline import models, publish, scene
from hsi_pipeline.datasets import HyperspectralDataset
from hsi_pipeline.errors import InputError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'```python title="(.+?)"\n(.*?)```\n', PAGE, re.DOTALL))
LINES = re.findall(r"^In `(.+?)`: `(.+?)`, and in `(\w+)` the line `(.+?)`\.$", PAGE, re.MULTILINE)
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
            for line in block.splitlines()]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny scene as a product of the new sensor, and its polygons."""
    folder = tmp_path_factory.mktemp("extending")
    tiny = make_tiny_scene(folder)
    count, rows, columns = tiny.pixels.shape
    tiny.pixels.astype("<i2").tofile(folder / "a.bin")
    about = {"shape": (count, rows, columns), "transform": list(TRANSFORM)[:6], "crs": CRS}
    about |= {"wavelength_nm": NM, "fwhm_nm": [10] * count}
    about |= {"good": [band != BAD for band in range(count)]}
    (folder / "a.cube.json").write_text(json.dumps(about))
    shutil.copy(tiny.labels, folder / "polygons.gpkg")
    return folder


@pytest.fixture
def scripts(folder, monkeypatch):
    """The page's files beside the product, importable; the package's tables are put back."""
    for name, text in FILES.items():
        if not name.startswith("tests/"):
            (folder / Path(name).name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(scene, "READERS", scene.READERS)
    tables = (models.MODELS, publish.POLYGON_WRITERS)
    before = [dict(table) for table in tables]
    yield folder
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
    for module in ("cubefile", "convnet", "wkt"):
        sys.modules.pop(module, None)


def run_script(line, monkeypatch):
    """Run a line of the page in this process: python SCRIPT ARGUMENTS."""
    program, script, *arguments = line.split()
    assert program == "python"
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(script, run_name="__main__")
    assert end.value.code in (0, None)


def test_a_script_adds_all_three_without_changing_the_package(scripts, monkeypatch, capsys):
    assert [line.split()[2] for line in COMMANDS] == ["train", "classify", "polygonize"]
    for line in COMMANDS:
        run_script(f"{line} --quiet", monkeypatch)
    check_results(scripts)
    # the styles of the new format are its own: not overwritten unasked
    (scripts / "fields.csv").unlink()
    with pytest.raises(InputError, match=r"fields\.qml exists; .*--overwrite"):
        publish.check_target(scripts / "fields.csv", suffixes=publish.POLYGON_WRITERS)
    # and the new sensor opens in xarray and as a TorchGeo dataset
    dataset = xr.open_dataset("a.cube.json", engine="hsi")
    with rasterio.open("scene.tif") as other:
        expected = np.where(other.read(3) == -32768, np.nan, other.read(3) * np.float32(1e-4))
    np.testing.assert_allclose(dataset.reflectance[2], expected, rtol=1e-6)
    images = HyperspectralDataset("a.cube.json")
    assert images[images.bounds]["image"].shape == (len(NM) - 1, *dataset.reflectance.shape[1:])


def check_results(folder):
    """Check a map and its polygons against the fields that the scene was made of."""
    with rasterio.open(folder / "mine.tif") as source:
        found, grid = source.read(1), source.transform
    classes = class_field(*found.shape)
    known = found > 0
    assert known.mean() > 0.9
    assert (found == classes)[known].mean() > 0.9
    table = gpd.read_file(folder / "fields.csv")
    polygons = gpd.GeoSeries.from_wkt(table["WKT"])
    shapes = zip(polygons, table["code"].astype(int), strict=True)
    burnt = rasterio.features.rasterize(shapes, found.shape, transform=grid)
    np.testing.assert_array_equal(burnt, found)
    if has_program("ogrinfo"):
        seen = run_program("ogrinfo", "-so", "fields.csv", "fields", folder=folder).stdout.decode()
        assert f"Feature Count: {len(table)}\n" in seen
        assert "UTM zone 33N" in seen.replace("_", " ")


def test_a_cube_that_does_not_fit_its_description_is_refused(scripts, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["my_hsi.py", "info", "b.cube.json"])
    (scripts / "b.cube.json").write_bytes((scripts / "a.cube.json").read_bytes())
    (scripts / "b.bin").write_bytes((scripts / "a.bin").read_bytes()[:-1])
    with pytest.raises(SystemExit) as end:
        runpy.run_path("my_hsi.py", run_name="__main__")
    assert end.value.code == 2


# --- in a copy of the package ---------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package with the page's files and lines, and the contract tests."""
    root = tmp_path_factory.mktemp("copy")
    # what is compiled goes along
    ignore = shutil.ignore_patterns("stac_schemas", "qgis_plugin")
    shutil.copytree(ROOT / "hsi_pipeline", root / "hsi_pipeline", ignore=ignore)
    shutil.copytree(ROOT / "tests" / "products", root / "tests" / "products", ignore=ignore)
    for name in ("conftest.py", "test_products.py", "test_models.py"):
        shutil.copy(ROOT / "tests" / name, root / "tests" / name)
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, text in FILES.items():
        if "/" in name:
            (root / name).write_text(text)
    for name, imported, table, line in LINES:
        add_line(root / name, imported, table, line)
    return root


def add_line(path, imported, table, line):
    """Add an import before the table, and a line as the table's first."""
    text = path.read_text()
    (start,) = re.findall(rf"^{table}: .*[\[({{]$", text, re.MULTILINE)
    path.write_text(text.replace(start, f"{imported}\n\n{start}\n    {line}", 1))


def run_in(root, *arguments, folder=None):
    """Run Python with the copy in place of the package."""
    paths = os.pathsep.join([str(root), str(root / "tests")])
    result = subprocess.run(
        [sys.executable, *arguments], cwd=folder or root, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_each_is_one_file_and_one_line():
    assert [table for _, _, table, _ in LINES] == ["READERS", "MODELS", "POLYGON_WRITERS"]
    assert [name for name in FILES if name.startswith("hsi_pipeline/")] == [
        "hsi_pipeline/scene/cubefile.py",
        "hsi_pipeline/models/convnet.py",
        "hsi_pipeline/publish/wkt.py",
    ]


def test_the_contract_tests_hold_for_the_new_sensor_and_network(copy):
    chosen = "cubefile or (TestContract and convnet) or torch_alone"
    out = run_in(
        copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen,
        "tests/test_products.py", "tests/test_models.py",
    )  # fmt: skip
    passed = int(re.findall(r"(\d+) passed", out)[0])
    assert passed >= 25
    assert "failed" not in out


def test_the_command_line_of_the_copy_has_all_three(copy, folder, tmp_path):
    for name in ("a.bin", "a.cube.json", "polygons.gpkg"):
        shutil.copy(folder / name, tmp_path)
    program = [
        "import sys, hsi_pipeline",
        f"assert hsi_pipeline.__file__.startswith({str(copy)!r})",
        "from hsi_pipeline.cli import app",
        *(
            f"app({[*line.split()[2:], '--quiet']}, standalone_mode=False)" for line in COMMANDS
        ),
    ]  # fmt: skip
    run_in(copy, "-c", "\n".join(program), folder=tmp_path)
    check_results(tmp_path)


def test_files_of_the_page_keep_the_house_style(copy, tmp_path):
    names = [str(copy / name) for name in FILES if name.startswith("hsi_pipeline/")]
    config = ["--config", str(ROOT / "pyproject.toml")]
    for command in (["check", *config], ["format", "--check", *config]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *names],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout
