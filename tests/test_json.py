"""`--json`: one object on standard output, of which the next program of a chain reads."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml

from hsi_pipeline import __version__

LABELS = ("--label-column", "code", "--name-column", "name")
KEYS = {"version", "outputs", "results", "warnings", "seconds"}


@pytest.fixture
def said(cli):
    """Return a function that runs a command with --json: what its object says."""

    def run(*arguments, code=0):
        ended, out, err = cli(*arguments, "--json")
        assert ended == code, err
        told = json.loads(out)  # one object and nothing else
        assert told.keys() - {"error"} == KEYS
        assert told["version"] == __version__
        assert all(Path(output).is_absolute() for output in told["outputs"])
        assert all(Path(output).exists() for output in told["outputs"])
        assert ("error" in told) == bool(code)
        return told

    return run


def test_every_command_reads_what_the_one_before_it_says_it_wrote(said, tiny, tmp_path):
    trained = said(
        "train", tiny.path, tiny.labels, "--out", tmp_path / "model.safetensors", *LABELS,
        "--model", "spectral", "--epochs", 2, "--device", "cpu", "--no-baselines",
    )  # fmt: skip
    (model,) = trained["outputs"]
    classes = trained["results"]["train"]["classes"]
    assert [one["code"] for one in classes] == sorted(gpd.read_file(tiny.labels)["code"].unique())
    scores = said("evaluate", tiny.path, tiny.labels, model, *LABELS)["results"]["evaluate"]
    assert 0 < scores["overall_accuracy"] <= 1
    mapped = said("classify", tiny.path, model, "--out", tmp_path / "map.tif")
    class_map = mapped["outputs"][0]
    with rasterio.open(class_map) as raster:
        codes = raster.read(1)
    told = mapped["results"]["classify"]
    assert told["pixels"] == codes.size
    assert told["nodata_pixels"] == (codes == 0).sum()
    assert {one["code"]: one["pixels"] for one in told["classes"]} == {
        one["code"]: (codes == one["code"]).sum() for one in classes
    }
    drawn = said("polygonize", class_map, "--out", tmp_path / "landcover.gpkg")
    assert drawn["results"]["polygonize"]["polygons"] == len(
        gpd.read_file(drawn["outputs"][0], layer="landcover")
    )
    sample = said("sample", class_map, "--out", tmp_path / "sample.gpkg", "--size", 150)
    assert sample["results"]["sample"]["points"] == len(
        gpd.read_file(sample["outputs"][0], layer="sample")
    )
    assessed = said(
        "assess", class_map, tiny.labels, *LABELS, "--out", tmp_path / "assessment.json"
    )
    written = json.loads(Path(assessed["outputs"][0]).read_text())
    assert assessed["results"]["assess"] == written
    assert any("no probability sample" in text for text in assessed["warnings"])
    page = said(
        "report", class_map, "--assessment", assessed["outputs"][0], "--out", tmp_path / "r.html"
    )
    assert [Path(one).name for one in page["outputs"]] == ["r.html", "r.json"]
    (item,) = said("stac", class_map, "--out", tmp_path / "item.json")["outputs"]
    assert json.loads(Path(item).read_text())["type"] == "Feature"


def test_two_maps_are_joined_and_compared_with_figures(said, tiny, model, tmp_path):
    class_map = said("classify", tiny.path, model, "--out", tmp_path / "map.zarr")["outputs"][0]
    joined = said("mosaic", class_map, class_map, "--out", tmp_path / "mosaic.tif")
    assert joined["results"]["mosaic"]["pixels"] == tiny.classes.size
    changed = said(
        "change", class_map, joined["outputs"][0], "--out", tmp_path / "change.tif"
    )["results"]["change"]  # fmt: skip
    assert changed["changed_share"] == 0
    matrix = np.array(changed["pixels"])
    assert matrix.sum() == np.trace(matrix) > 0


def test_a_scene_is_told_as_figures(said, tiny, tmp_path):
    told = said("info", tiny.path)["results"]["info"]
    assert (told["bands"], told["rows"], told["columns"]) == tiny.pixels.shape
    assert len(told["wavelength_nm"]) == told["bands"]
    assert told["crs"] == "EPSG:32633"
    stored = said("ingest", tiny.path, "--out", tmp_path / "scene.zarr")
    assert said("info", stored["outputs"][0])["results"]["info"]["rows"] == told["rows"]


def test_a_workflow_tells_the_figures_of_each_step(said, tiny, model, tmp_path):
    flow = tmp_path / "flow.yaml"
    steps = {"classify": {"formats": ["tif"]}, "polygonize": {"formats": ["gpkg", "fgb"]}}
    flow.write_text(
        yaml.safe_dump(
            {"scene": str(tiny.path), "model": str(model), "out": str(tmp_path / "out"), **steps}
        )
    )
    told = said("run", flow)
    names = {Path(output).name for output in told["outputs"]}
    assert {"map.tif", "landcover.gpkg", "landcover.fgb", "item.json"} <= names
    assert {"classify", "polygonize", "stac", "run"} <= told["results"].keys()


def test_what_went_wrong_is_in_the_object_and_on_standard_error(cli, said, tiny, tmp_path):
    told = said("info", tmp_path / "absent.tif", code=2)
    assert told["outputs"] == []
    _, _, err = cli("info", tmp_path / "absent.tif", "--json")
    assert f"error: {told['error']}" in err
    (tmp_path / "map.tif").write_text("kept")
    told = said("classify", tiny.path, tmp_path / "no.safetensors", "--out", tmp_path / "map.tif",
                code=2)  # fmt: skip
    assert "exists already" in told["error"] or "--overwrite" in told["error"]
    assert (tmp_path / "map.tif").read_text() == "kept"


def test_events_end_with_the_same_object(cli, tiny):
    code, out, _ = cli("info", tiny.path, "--json")
    assert code == 0
    once = json.loads(out)
    code, out, _ = cli(
        "ingest", tiny.path, "--out", tiny.path.parent / "x.tif", "--progress", "json"
    )
    assert code == 2
    last = json.loads(out.splitlines()[-1])
    assert last.pop("event") == "finished"
    assert last.keys() == once.keys() | {"error"}
