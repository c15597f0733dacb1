"""Each command from end to end on tiny scenes, its results checked by other programs."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import scipy.io
import torch
import xarray as xr
import yaml
from conftest import BAD, NM, TRANSFORM, class_field, field_polygons, make_pixels, write_scene
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score

from hsi_pipeline.checkpoint import load_applicability, load_checkpoint, save_checkpoint
from hsi_pipeline.commands import terminal as commands_terminal
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.evaluate import evaluate
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.commands.run import run
from hsi_pipeline.commands.train import train
from hsi_pipeline.ground_truth import labels_sha256, read_labels
from hsi_pipeline.models import build_model
from hsi_pipeline.publish import open_class_map, unfinished
from hsi_pipeline.publish.filling import fill_store

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "enmap_potsdam"
COLUMNS = ("--label-column", "code", "--name-column", "name")


@pytest.fixture(scope="module")
def zarr_map(tiny, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.zarr"
    classify(tiny.path, model, path, device="cpu", probabilities=True)
    return path


def classes_of(path):
    """The class codes of a map as other programs read it."""
    if path.suffix == ".zarr":
        with xr.open_zarr(path) as dataset:
            return dataset["class"].values
    with rasterio.open(path) as raster:
        return raster.read(1)


def test_layers_of_doubt_go_with_the_map(cli, tiny, model, tmp_path):
    area = load_applicability(model)
    for target in (tmp_path / "map.zarr", tmp_path / "map.tif"):
        wanted = "entropy, margin,dissimilarity"
        code, _, err = cli("classify", tiny.path, model, "--out", target, "--layers", wanted)
        assert code == 0
        assert "of the classified pixels are outside the area of applicability" in err
        opened = open_class_map(target)
        assert set(opened.data_vars) == {
            "class",
            "confidence",
            "entropy",
            "margin",
            "dissimilarity",
        }
        assert opened.attrs["temperature"] == pytest.approx(load_checkpoint(model)[1].temperature)
        good = [band for band in range(10) if band != BAD]
        spectra = torch.from_numpy(tiny.pixels[good][:, tiny.valid].T * np.float32(1e-4))
        expected = area(area.components(spectra)).numpy()
        np.testing.assert_allclose(
            opened["dissimilarity"].values[tiny.valid], expected, rtol=1e-3, atol=1e-4
        )
        assert np.isnan(opened["entropy"].values[~tiny.valid]).all()
        labelled = (tiny.labelled > 0) & tiny.valid
        assert (opened["dissimilarity"].values[labelled] > 1).mean() < 0.1
    assert {p.name for p in tmp_path.glob("map_*")} == {
        f"map_{name}.{end}"
        for name in ("confidence", "entropy", "margin", "dissimilarity")
        for end in ("tif", "qml")
    }
    cli("stac", tmp_path / "map.tif", "--out", tmp_path / "item.json")
    assets = json.loads((tmp_path / "item.json").read_text())["assets"]
    assert {"entropy", "margin", "dissimilarity"} < set(assets)
    code, _, err = cli("classify", tiny.path, model, "--out", tmp_path / "a.zarr", "--layers", "x")
    assert code == 2
    assert err.startswith("error: there is no layer 'x'; layers are entropy, margin, dissimilarity")


# --- info ---------------------------------------------------------------------------------------


def test_info_shows_grid_crs_bands_and_statistics(cli, tiny):
    code, out, err = cli("info", tiny.path)
    assert (code, err) == (0, "")
    assert "48 rows x 40 columns x 10 bands, int16" in out
    assert "EPSG:32633" in out
    assert "origin 364095, 5809965; pixel 30 x 30" in out
    assert "450.00 to 2200.00 nm, not ascending (kept as stored)" in out
    assert "bad bands 1: 5" in out
    assert "nodata -32768" in out
    assert "scale 0.0001" in out
    assert f"{1 - tiny.valid.mean():.1%}"[:1] in out
    row = next(line.split() for line in out.splitlines() if line.startswith("4 "))
    values = tiny.pixels[3][tiny.valid] * 1e-4
    assert row[:4] == ["4", "750.00", "-", "yes"]
    assert [float(v) for v in row[4:]] == pytest.approx(
        [values.min(), values.mean(), values.std(), values.max()], rel=2e-3
    )


def test_info_lists_every_band_and_says_what_is_unknown(cli, tiny, tmp_path):
    pixels = np.repeat(tiny.pixels, 3, axis=0)
    path = write_scene(tmp_path / "scene.tif", pixels, wavelengths=None)
    code, out, _ = cli("info", path)
    assert code == 0
    assert "no wavelengths in the file" in out
    assert "of 30 bands, --bands shows all" in out
    _, all_bands, _ = cli("info", path, "--bands")
    assert sum(line.split()[:1] == [str(n)] for n in range(1, 31) for line in
               all_bands.splitlines()) == 30  # fmt: skip


def test_info_of_a_scene_without_any_value(cli, tiny, tmp_path):
    path = write_scene(tmp_path / "scene.tif", np.full_like(tiny.pixels, -32768))
    code, out, _ = cli("info", path)
    assert code == 0
    assert "nodata    100.0%" in out
    assert "no pixel was sampled that has a value in every band" in out


# --- train --------------------------------------------------------------------------------------


def test_the_card_says_what_was_trained_on_what(model, tiny):
    network, card = load_checkpoint(model)
    assert card.architecture == "spectral"
    assert card.bands == 9
    assert card.wavelengths.center_nm == tuple(nm for nm in NM if nm != NM[BAD])
    assert card.classes.codes == (1, 3, 7)
    assert card.classes.names == ("water", "tree", "roof")
    assert card.scenes == ("scene",)
    assert card.halo == network.halo == 0
    assert card.training["split"] == "spatial"
    assert card.training["epochs"] == 3
    trained, validated = (card.training[f"{side}_pixels"] for side in ("train", "validation"))
    assert 0 < validated < trained
    assert trained + validated <= int(((tiny.labelled > 0) & tiny.valid).sum())
    assert 0.8 < card.scores["validation_overall_accuracy"] <= 1
    epochs = card.training["history"]
    assert [one["epoch"] for one in epochs] == [1, 2, 3]
    assert [one["epoch"] for one in epochs if one["kept"]] == [card.training["best_epoch"]]
    # by which an assessment knows the labels again, in whatever format
    (labels,) = card.training["labels"]
    assert labels["name"] == tiny.labels.name
    assert labels["sha256"] == hashlib.sha256(tiny.labels.read_bytes()).hexdigest()
    again = read_labels(tiny.labels, tiny.grid, label_column="code")
    assert labels["pixels_sha256"] == labels_sha256(again.labels, tiny.grid)
    assert labels["pixels_sha256"] != labels_sha256(again.labels[::-1], tiny.grid)
    assert card.temperature > 0
    assert card.calibration["pixels"] == validated
    assert 0 <= card.calibration["ece_after"] < 1
    good = [band for band in range(10) if band != BAD]
    spectra = tiny.pixels[good][:, (tiny.labelled > 0) & tiny.valid] * 1e-4
    assert network.band_mean.numpy() == pytest.approx(spectra.mean(axis=1), abs=0.02)
    assert network.band_std.numpy() == pytest.approx(spectra.std(axis=1), abs=0.02)


def test_the_same_seed_trains_the_same_model(tiny, model, tmp_path, cli):
    options = (*COLUMNS, "--model", "spectral", "--epochs", "3", "--device", "cpu")
    again, other = tmp_path / "again.safetensors", tmp_path / "other.safetensors"
    assert cli("train", tiny.path, tiny.labels, "--out", again, *options)[0] == 0
    assert cli("train", tiny.path, tiny.labels, "--out", other, *options, "--seed", "1")[0] == 0
    first, second, third = (load_checkpoint(p)[0].state_dict() for p in (model, again, other))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], third[key]) for key in first)


def test_train_tells_how_it_goes_and_quiet_says_nothing(tiny, tmp_path, cli):
    options = (*COLUMNS, "--model", "spectral", "--epochs", "1", "--device", "cpu")
    path = tmp_path / "model.safetensors"
    code, out, err = cli("train", tiny.path, tiny.labels, "--out", path, *options)
    assert (code, out) == (0, "")
    assert "10 bands, 450 to 2200 nm, 1 marked bad" in err
    assert "1 water: 10 features, 360 pixels, 32.40 ha" in err
    assert "training and" in err
    assert "pixels apart (wanted 0)" in err
    assert "training spectral on 9 bands, 3 classes, cpu" in err
    assert "best epoch 1 of 1" in err
    assert "mean of overall accuracy and mean F1 there: spectral" in err
    assert "validation overall accuracy" in err
    assert cli("train", tiny.path, tiny.labels, "--out", path, *options, "--quiet",
               "--overwrite") == (0, "", "")  # fmt: skip


def test_all_labels_are_learnt_from_once_the_epoch_is_chosen(tiny, tmp_path):
    """The statistics of the kept network are those of all labelled pixels, not of a part."""
    path = tmp_path / "model.safetensors"
    card = train(
        tiny.path, tiny.labels, path, label_column="code", model="spectral", epochs=1,
        device="cpu", baselines=False,
    )  # fmt: skip
    assert card.training["learnt_from_all_labels"] is True
    assert "baselines" not in card.training
    network, _ = load_checkpoint(path)
    known = (tiny.labelled > 0) & tiny.valid
    bands = [i for i in range(10) if i != 4]
    spectra = tiny.pixels[bands][:, known] / 1e4
    np.testing.assert_allclose(network.band_mean, spectra.mean(1), rtol=1e-5)
    np.testing.assert_allclose(network.band_std, spectra.std(1), rtol=1e-4)


@pytest.mark.parametrize("name", ["random_forest", "svm", "LinearDiscriminantAnalysis"])
def test_a_classifier_of_scikit_learn_goes_all_the_way(name, tiny, tmp_path, cli):
    model, class_map, polygons = (
        tmp_path / file for file in ("m.safetensors", "map.tif", "polygons.gpkg")
    )
    code, _, err = cli(
        "train", tiny.path, tiny.labels, "--out", model, *COLUMNS, "--model", name
    )  # fmt: skip
    assert code == 0, err
    _, card = load_checkpoint(model)
    assert (card.architecture, card.halo) == (name, 0)
    assert bool(card.settings) is (name != "LinearDiscriminantAnalysis")  # what tuning chose
    code, out, _ = cli("evaluate", tiny.path, tiny.labels, model, *COLUMNS)
    assert code == 0
    assert float(out.split("overall accuracy ")[1].split()[0]) > 0.99
    assert cli("classify", tiny.path, model, "--out", class_map, "--chunk", 16)[0] == 0
    assert cli("polygonize", class_map, "--out", polygons)[0] == 0
    found = classes_of(class_map)
    np.testing.assert_array_equal(found > 0, tiny.valid)
    assert (found == tiny.classes)[tiny.valid].mean() > 0.99
    assert set(gpd.read_file(polygons, layer="landcover")["code"]) == {1, 3, 7}


def test_settings_of_a_classifier_come_from_a_workflow(tiny, tmp_path, cli):
    labels = {"path": str(tiny.labels), "label_column": "code", "name_column": "name"}
    workflow = write_workflow(
        tiny, tmp_path, evaluate=None, classify=None, assess=None, polygonize=None, report=None,
        train={"labels": labels, "model": "random_forest", "settings": {"max_depth": 2}},
    )  # fmt: skip
    code, _, err = cli("run", workflow)
    assert code == 0, err
    network, card = load_checkpoint(tmp_path / "results" / "model.safetensors")
    assert card.settings["max_depth"] == 2
    assert max(tree.get_depth() for tree in network._classifier.estimators_) == 2


def test_a_split_column_is_kept_to(tiny, tmp_path):
    frame = gpd.read_file(tiny.labels)
    west = frame.geometry.centroid.x < TRANSFORM.c + 24 * 30
    frame["part"] = np.where(west, "train", "validation")
    frame.loc[frame.geometry.centroid.y < TRANSFORM.f - 40 * 30, "part"] = "test"
    frame.to_file(tmp_path / "labels.gpkg")
    path = tmp_path / "model.safetensors"
    options = {"label_column": "code", "split_column": "part", "device": "cpu"}
    card = train(tiny.path, tmp_path / "labels.gpkg", path, model="spectral", epochs=1, **options)
    rows, columns = np.indices(tiny.labelled.shape)
    known = (tiny.labelled > 0) & tiny.valid
    above = rows < 40
    assert card.training["split"] == "column"
    assert card.training["train_pixels"] == (known & above & (columns < 24)).sum()
    assert card.training["validation_pixels"] == (known & above & (columns >= 24)).sum()
    # test pixels count where there are any
    assert (
        evaluate(tiny.path, tmp_path / "labels.gpkg", path, **options).pixels
        == (known & ~above).sum()
    )


# --- classify -----------------------------------------------------------------------------------


def test_a_class_map_is_right_and_nodata_stays_nodata(zarr_map, tiny):
    with xr.open_zarr(zarr_map) as dataset:
        codes, confidence = dataset["class"].values, dataset["confidence"].values
        assert dataset["class"].attrs["flag_values"] == [1, 3, 7]
        assert dataset["class"].attrs["flag_meanings"] == "water tree roof"
        probability = dataset["probability"].values
    assert set(np.unique(codes)) == {0, 1, 3, 7}
    np.testing.assert_array_equal(codes > 0, tiny.valid)
    np.testing.assert_array_equal(np.isfinite(confidence), tiny.valid)
    assert (codes == tiny.classes)[tiny.valid].mean() > 0.9
    best = np.array([1, 3, 7])[np.nan_to_num(probability).argmax(axis=0)]
    sure = tiny.valid & (np.sort(np.nan_to_num(probability), axis=0)[1] < confidence - 0.01)
    np.testing.assert_array_equal(best[sure], codes[sure])
    assert probability.sum(axis=0)[tiny.valid] == pytest.approx(1, abs=0.01)
    assert probability.max(axis=0)[tiny.valid] == pytest.approx(confidence[tiny.valid], abs=0.005)


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
@pytest.mark.parametrize("chunk", [7, 40, 1000])
def test_format_and_chunk_do_not_change_the_map(cli, tiny, model, zarr_map, tmp_path, suffix,
                                                chunk):  # fmt: skip
    out = tmp_path / f"map{suffix}"
    code, text, err = cli("classify", tiny.path, model, "--out", out, "--chunk", chunk, "--quiet")
    assert (code, text, err) == (0, "", "")
    np.testing.assert_array_equal(classes_of(out), classes_of(zarr_map))


def test_classify_tells_what_it_does(cli, tiny, model, tmp_path):
    out = tmp_path / "map.tif"
    code, text, err = cli("classify", tiny.path, model, "--out", out, "--probabilities")
    assert (code, text) == (0, "")
    assert "9 bands matched by wavelength, at most 0.00 nm off" in err
    assert f"map of 1920 pixels in {out}: water" in err
    assert f"nodata {1 - tiny.valid.mean():.1%}" in err
    with rasterio.open(tmp_path / "map_probability.tif") as raster:
        assert raster.descriptions == ("water", "tree", "roof")
    with rasterio.open(out) as raster:
        assert raster.crs.to_epsg() == 32633
        assert raster.transform == TRANSFORM
        assert raster.nodata == 0


def test_bands_are_matched_by_wavelength_and_not_by_place(cli, tiny, model, zarr_map, tmp_path):
    order = np.random.default_rng(0).permutation(10)
    scene = write_scene(
        tmp_path / "scene.tif", tiny.pixels[order], wavelengths=[NM[band] for band in order]
    )
    out = tmp_path / "map.tif"
    assert cli("classify", scene, model, "--out", out)[0] == 0
    np.testing.assert_array_equal(classes_of(out), classes_of(zarr_map))


def test_a_dask_cluster_gives_the_same_map(tiny, model, zarr_map, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp",
        dashboard_address=":0",
    ) as cluster:
        classify(
            tiny.path, model, tmp_path / "map.zarr", chunk=20, device="cpu",
            scheduler=cluster.scheduler_address,
        )  # fmt: skip
    np.testing.assert_array_equal(classes_of(tmp_path / "map.zarr"), classes_of(zarr_map))


def test_a_killed_worker_costs_no_chunk_of_the_map(tiny, model, tmp_path):
    from distributed import LocalCluster

    # an untrained network that takes a moment for each of 16 chunks
    _, card = load_checkpoint(model)
    network = build_model("hyperloopnet", 9, 3)
    save_checkpoint(
        tmp_path / "slow.safetensors", network, replace(card, architecture="hyperloopnet", halo=37)
    )
    scene = write_scene(tmp_path / "large.tif", np.tile(tiny.pixels, (1, 4, 4)))
    arguments = {"chunk": 48, "device": "cpu"}
    killed = []

    def kill_one(cluster, ledger):
        limit = time.monotonic() + 60
        while time.monotonic() < limit and not killed:
            if any(ledger.glob("*/done.zarr/[0-9]*")):
                worker = next(iter(cluster.workers.values()))
                killed.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
            time.sleep(0.01)

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        ledger = tmp_path / ".map.zarr.unfinished"
        watcher = threading.Thread(target=kill_one, args=(cluster, ledger))
        watcher.start()
        classify(
            scene, tmp_path / "slow.safetensors", tmp_path / "map.zarr",
            scheduler=cluster.scheduler_address, **arguments,
        )  # fmt: skip
        watcher.join()
    assert killed, "the map was done before a worker could be killed"
    classify(scene, tmp_path / "slow.safetensors", tmp_path / "whole.zarr", **arguments)
    with (
        xr.open_zarr(tmp_path / "map.zarr") as found,
        xr.open_zarr(tmp_path / "whole.zarr") as whole,
    ):
        np.testing.assert_array_equal(found["class"], whole["class"])
        np.testing.assert_allclose(found["confidence"], whole["confidence"], atol=1e-5)


# --- evaluate -----------------------------------------------------------------------------------


def test_scores_are_those_of_scikit_learn(cli, tiny, model, zarr_map, tmp_path):
    # labels of which some are wrong, so that the scores are not all 1
    frame = gpd.read_file(tiny.labels)
    frame.loc[::4, ["code", "name"]] = [3, "tree"]
    frame.to_file(tmp_path / "labels.gpkg")
    out = tmp_path / "accuracy.json"
    arguments = ("evaluate", tiny.path, tmp_path / "labels.gpkg", model, *COLUMNS, "--out", out)
    code, text, err = cli(*arguments)
    assert code == 0
    assert "labelled pixels are nodata in the scene and left out" in err
    reference = rasterio.features.rasterize(
        zip(frame.geometry, frame["code"], strict=True), tiny.valid.shape, transform=TRANSFORM
    )
    known = (reference > 0) & tiny.valid
    pair = reference[known], classes_of(zarr_map)[known]
    figures = json.loads(
        out.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    assert figures["pixels"] == known.sum()
    assert figures["overall_accuracy"] == pytest.approx(accuracy_score(*pair))
    assert figures["kappa"] == pytest.approx(cohen_kappa_score(*pair))
    assert figures["mean_f1"] == pytest.approx(f1_score(*pair, average="macro"))
    assert figures["confusion_matrix"] == confusion_matrix(*pair).tolist()
    assert [c["f1"] for c in figures["classes"]] == pytest.approx(f1_score(*pair, average=None))
    assert [(c["code"], c["name"]) for c in figures["classes"]] == [
        (1, "water"), (3, "tree"), (7, "roof"),
    ]  # fmt: skip
    assert f"overall accuracy {accuracy_score(*pair):.4f}" in text
    assert "water" in text
    quiet = cli(*arguments, "--quiet", "--overwrite", "--chunk", "9")
    assert quiet == (0, text, "")  # results are shown all the same, and chunks change nothing


def test_a_class_without_reference_has_no_scores_in_valid_json(cli, tiny, model, tmp_path):
    frame = gpd.read_file(tiny.labels)
    frame[frame["code"] != 3].to_file(tmp_path / "labels.gpkg")
    out = tmp_path / "accuracy.json"
    code, _, _ = cli("evaluate", tiny.path, tmp_path / "labels.gpkg", model, *COLUMNS, "--out", out)
    assert code == 0
    assert "NaN" not in out.read_text()
    tree = json.loads(out.read_text())["classes"][1]
    assert tree["name"] == "tree"
    assert tree["pixels"] == 0
    assert tree["producers_accuracy"] is None


def test_a_class_may_be_called_nan(tiny, tmp_path):
    """A text replacement of NaN once changed names, too."""
    frame = gpd.read_file(tiny.labels)
    frame["name"] = frame["name"].replace("tree", "NaN & NaNcy")
    frame.to_file(tmp_path / "labels.gpkg")
    model, out = tmp_path / "model.safetensors", tmp_path / "accuracy.json"
    options = {"label_column": "code", "name_column": "name", "device": "cpu"}
    labels = tmp_path / "labels.gpkg"
    train(tiny.path, labels, model, model="spectral", epochs=1, **options)
    evaluate(tiny.path, labels, model, out=out, **options)
    assert json.loads(out.read_text())["classes"][1]["name"] == "NaN & NaNcy"


# --- run ----------------------------------------------------------------------------------------


def write_workflow(tiny, folder, **sections):
    labels = {"path": str(tiny.labels), "label_column": "code", "name_column": "name"}
    values = {
        "scene": os.path.relpath(tiny.path, folder),
        "out": "results",
        "device": "cpu",
        "train": {
            "labels": labels,
            "settings": {"width": 4, "kernels": [3], "window": 3},
            "epochs": 1,
            "guard": 1,
        },
        "evaluate": {"labels": labels},
        "classify": {"formats": ["zarr", "tif"], "chunk": 16, "probabilities": True},
        "assess": {"labels": labels},
        "polygonize": {"min_area": 1800, "formats": ["geojson", "parquet"]},
        "report": {"title": "Fields"},
        **sections,
    }
    path = folder / "workflow.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    return path


def test_a_workflow_writes_everything(cli, tiny, tmp_path):
    workflow = write_workflow(tiny, tmp_path)
    code, text, _ = cli("run", workflow)
    assert code == 0
    results = tmp_path / "results"
    written = [results / name for name in (
        "model.safetensors", "accuracy.json", "map.zarr", "map.tif", "map_confidence.tif",
        "map_probability.tif", "map_confidence.qml", "landcover.geojson",
        "landcover.parquet", "assessment.json", "report.html", "report.json", "item.json",
    )]  # fmt: skip
    for path in written:
        assert path.exists()
        assert str(path) in text
    assert {p.name for p in results.iterdir()} == {
        *(p.name for p in written), "map.qml", "map.sld", "map.tif.aux.xml",
        "landcover.qml", "landcover.sld",
    }  # fmt: skip
    item = json.loads((results / "item.json").read_text())
    assert set(item["assets"]) == {
        "class", "class_zarr", "confidence", "probability", "landcover", "landcover_parquet",
        "model", "assessment", "report", "report_json",
    }  # fmt: skip
    # what the assessment found is with the map, in both formats, in the item and in the report
    found = json.loads((results / "assessment.json").read_text())
    for name in ("map.zarr", "map.tif"):
        accuracy = open_class_map(results / name).attrs["accuracy"]
        assert accuracy["overall_accuracy"] == found["overall_accuracy"]
    assert item["properties"]["hsi:accuracy"] == accuracy
    assert "<title>Fields" in (results / "report.html").read_text()
    _, card = load_checkpoint(results / "model.safetensors")
    assert card.architecture == "hyperloopnet-fusion"
    assert card.settings == {"width": 4, "kernels": [3], "window": 3}
    np.testing.assert_array_equal(classes_of(results / "map.zarr"), classes_of(results / "map.tif"))
    # what was made from the Zarr map is what classify makes
    alone = tmp_path / "alone.tif"
    classify(
        tiny.path, results / "model.safetensors", alone, probabilities=True, device="cpu", chunk=16
    )  # fmt: skip
    for name in ("", "_confidence", "_probability"):
        with (
            rasterio.open(tmp_path / f"alone{name}.tif") as one,
            rasterio.open(results / f"map{name}.tif") as other,
        ):
            np.testing.assert_array_equal(one.read(), other.read())
            assert one.tags() == {k: v for k, v in other.tags().items() if k != "accuracy"}
            assert one.tags(1) == other.tags(1)

    code, _, err = cli("run", workflow)
    assert code == 2
    assert err == f"error: {results / 'model.safetensors'} exists; choose another name or pass " \
        "--overwrite\n"  # fmt: skip
    code, text, err = cli("run", workflow, "--overwrite", "--quiet")
    assert code == 0
    assert all(line.startswith("warning: ") for line in err.splitlines())
    assert "trained on this very reference" in err
    assert "overall accuracy" in text


def test_parcels_that_are_missing_are_known_before_the_first_step(cli, tiny, tmp_path):
    workflow = write_workflow(tiny, tmp_path, polygonize={"by": "none.gpkg"})
    code, _, err = cli("run", workflow)
    assert code == 2
    assert "there is no such parcel file" in err
    assert list((tmp_path / "results").iterdir()) == []


def test_a_workflow_summarises_parcels_too(cli, tiny, model, tmp_path):
    workflow = write_workflow(
        tiny, tmp_path, train=None, evaluate=None, model=str(model), classify={"formats": "tif"},
        polygonize={"by": str(tiny.labels), "simplify": 45, "formats": ["gpkg", "fgb"]},
    )  # fmt: skip
    code, text, _ = cli("run", workflow, "--quiet")
    assert code == 0
    for name in ("landcover.gpkg", "landcover.fgb", "parcels.gpkg", "parcels.fgb"):
        assert f"results/{name}" in text
    parcels = gpd.read_file(tmp_path / "results" / "parcels.gpkg", layer="parcels")
    labels = gpd.read_file(tiny.labels)
    assert parcels["code"].tolist() == labels["code"].tolist()
    assert (parcels["majority"] == parcels["code"]).mean() > 0.9


def test_a_workflow_with_a_trained_model_leaves_out_what_it_does_not_name(tiny, model, tmp_path):
    workflow = write_workflow(
        tiny, tmp_path, train=None, evaluate=None, assess=None, polygonize=None, report=None,
        model=str(model),
        classify={"formats": "tif"},
    )  # fmt: skip
    written = run(workflow)
    assert [path.name for path in written] == [
        "map.tif", "map.qml", "map.sld", "map.tif.aux.xml", "map_confidence.qml",
        "map_confidence.tif", "item.json",
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == sorted(
        path.name for path in written
    )


# --- pixel coordinates --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mat", ".npy"])
def test_arrays_in_pixel_coordinates_from_scene_to_polygons(cli, tmp_path, suffix):
    classes = class_field(32, 40)
    cube = make_pixels(classes).transpose(1, 2, 0)
    scene, labels = tmp_path / f"scene{suffix}", tmp_path / f"labels{suffix}"
    for path, array in ((scene, cube), (labels, classes)):
        if suffix == ".npy":
            np.save(path, array)
        else:
            scipy.io.savemat(path, {"array": array})
    model, out, polygons = (
        tmp_path / name for name in ("model.safetensors", "map.tif", "landcover.gpkg")
    )
    common = ("--pixel-coordinates", "--device", "cpu")
    code, _, err = cli(
        "train", scene, labels, "--out", model, "--model", "spectral", "--epochs", 4, *common
    )
    assert code == 0, err
    assert "without wavelengths" in err
    assert cli("info", scene, "--pixel-coordinates")[0] == 0
    assert cli("classify", scene, model, "--out", out, *common)[0] == 0
    assert (classes_of(out) == classes).mean() > 0.9
    code, _, err = cli("polygonize", out, "--out", polygons)
    assert code == 0, err
    frame = gpd.read_file(polygons, layer=0)
    assert frame.crs is None
    assert frame["area_m2"].sum() == classes.size
    assert cli("evaluate", scene, labels, model, *common)[0] == 0
    for command in (("info", scene), ("classify", scene, model, "--out", tmp_path / "b.tif")):
        code, _, err = cli(*command)
        assert code == 2
        assert err.startswith(f"error: {scene}")
        assert "--pixel-coordinates" in err


# --- unusual but right --------------------------------------------------------------------------


def test_a_scene_smaller_than_a_window_trains_and_maps(cli, tmp_path):
    classes = class_field(16, 24)
    scene = write_scene(tmp_path / "scene.tif", make_pixels(classes))
    field_polygons(classes).to_file(tmp_path / "labels.gpkg")
    model, out = tmp_path / "model.safetensors", tmp_path / "map.tif"
    labels = tmp_path / "labels.gpkg"
    code, _, err = cli("train", scene, labels, "--out", model, *COLUMNS, "--epochs", 1,
                       "--model", "spectral", "--device", "cpu")  # fmt: skip
    assert code == 0, err
    assert cli("classify", scene, model, "--out", out)[0] == 0
    assert classes_of(out).shape == (16, 24)
    assert (classes_of(out) > 0).all()


@pytest.mark.slow
def test_the_published_network_trains_on_a_scene_smaller_than_its_reach(cli, tmp_path):
    classes = class_field(16, 24)
    scene = write_scene(tmp_path / "scene.tif", make_pixels(classes))
    field_polygons(classes).to_file(tmp_path / "labels.gpkg")
    model = tmp_path / "model.safetensors"
    code, _, err = cli("train", scene, tmp_path / "labels.gpkg", "--out", model, *COLUMNS,
                       "--model", "hyperloopnet", "--epochs", 1, "--device", "cpu")  # fmt: skip
    assert code == 0, err
    assert "wanted 37" in err
    assert cli("classify", scene, model, "--out", tmp_path / "map.tif")[0] == 0


def test_a_class_raster_serves_as_labels(cli, tiny, tmp_path):
    labels = tmp_path / "labels.tif"
    with rasterio.open(labels, "w", driver="GTiff", dtype="uint8", count=1, height=48, width=40,
                       crs="EPSG:32633", transform=TRANSFORM, nodata=0) as raster:  # fmt: skip
        raster.write(tiny.labelled, 1)
    code, _, err = cli("train", tiny.path, labels, "--out", tmp_path / "model.safetensors",
                       "--model", "spectral", "--epochs", 1, "--device", "cpu")  # fmt: skip
    assert code == 0, err
    _, card = load_checkpoint(tmp_path / "model.safetensors")
    assert card.classes.codes == (1, 3, 7)


# --- Ctrl-C -------------------------------------------------------------------------------------


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", "from hsi_pipeline.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def wait_for(process, happened, seconds=60):
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never began"
        time.sleep(0.02)


def test_after_ctrl_c_the_same_command_goes_on_and_no_other(cli, tiny, model, tmp_path):
    # an untrained network that takes about half a second for each of 35 chunks
    _, card = load_checkpoint(model)
    slow = replace(card, architecture="hyperloopnet", halo=37)
    for name in ("slow", "other"):
        network = build_model("hyperloopnet", 9, 3)
        save_checkpoint(tmp_path / f"{name}.safetensors", network, slow)
    scene = write_scene(tmp_path / "large.tif", np.tile(tiny.pixels, (1, 5, 8)))
    out = tmp_path / "out"
    out.mkdir()

    def classify(network, name, *more, chunk=48):
        return (
            "classify", scene, tmp_path / f"{network}.safetensors", "--out", out / name,
            "--chunk", chunk, "--device", "cpu", *more,
        )  # fmt: skip

    process = start(*classify("slow", "map.zarr"))
    wait_for(process, lambda: any(out.glob(".map.*/**/class/[0-9]*")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "what is done is kept: the same command goes on, --restart begins anew" in err
    assert "stopped; nothing unfinished stands under its final name" in err
    assert "Traceback" not in err
    assert [file.name for file in out.iterdir()] == [".map.zarr.unfinished"]

    for command, words in (
        (classify("other", "map.zarr"), "its model was "),
        (classify("slow", "map.zarr", chunk=40), "its chunk was 48 x 48, now 40 x 40; --restart"),
        (classify("slow", "map.zarr", "--probabilities"), "its variables was class, confidence, "),
    ):
        code, _, err = cli(*command)
        assert code == 2
        assert words in err, err
        assert "the same command goes on" not in err
    code, _, err = cli(*classify("slow", "map.zarr"))
    assert code == 0, err
    code, _, err = cli(*classify("slow", "whole.zarr"))
    assert code == 0, err
    assert [file.name for file in sorted(out.iterdir())] == ["map.zarr", "whole.zarr"]
    first, second = (
        {
            str(file.relative_to(out / name)): file.read_bytes()
            for file in (out / name).rglob("*")
            if file.is_file()
        }
        for name in ("map.zarr", "whole.zarr")
    )
    assert first == second


@pytest.fixture
def torn(tiny, tmp_path):
    """A compressed scene one of whose blocks does not decode, and which pixels it holds."""
    path = write_scene(
        tmp_path / "torn.tif", np.tile(tiny.pixels, (1, 2, 2)), compress="deflate",
        interleave="pixel",
    )  # fmt: skip
    with rasterio.open(path) as raster:
        offset = int(raster.get_tag_item("BLOCK_OFFSET_2_3", "TIFF", bidx=1))
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 40)
    return path, (slice(48, 64), slice(32, 48))


def test_a_block_that_does_not_decode_is_named_or_skipped(cli, torn, model, tmp_path):
    scene, (rows, columns) = torn
    out = tmp_path / "map.zarr"
    command = ("classify", scene, model, "--out", out, "--device", "cpu", "--chunk", "32")
    code, _, err = cli(*command)
    assert code == 2
    assert "rows 32 to 63, columns 32 to 63 cannot be read, tried 3 times: " in err
    assert "Traceback" not in err
    assert not out.exists()
    code, _, err = cli(*command, "--skip-failed")
    assert code == 0, err
    told = "rows 32 to 63, columns 32 to 63 are nodata, since "
    assert told in err
    codes = classes_of(out)
    assert (codes[32:64, 32:64] == 0).all()
    assert (codes[rows, columns] == 0).all()
    codes[32:64, 32:64] = 1
    assert (codes > 0).mean() > 0.8, "only that chunk is nodata"
    assert [text[: len(told)] for text in xr.open_zarr(out).attrs["failed_chunks"]] == [told]


def test_a_memory_instead_of_a_chunk_gives_the_same_map(cli, tiny, model, tmp_path, zarr_map):
    out = tmp_path / "map.zarr"
    command = ("classify", tiny.path, model, "--out", out, "--device", "cpu")
    for more, words in (
        (("--memory", "much"), "--memory much is no size such as 4GB"),
        (("--memory", "100MB"), "a memory of 95.37 MiB is too small for a chunk of 64 pixels"),
        (("--memory", "4GB", "--chunk", "64"), "give --chunk or --memory, not both"),
        (("--memory", "4GB", "--scheduler", "tcp://127.0.0.1:1"), "start the workers with a"),
    ):
        code, _, err = cli(*command, *more)
        assert code == 2
        assert words in err, err
    code, _, err = cli(*command, "--memory", "4GB")
    assert code == 0, err
    assert "chunks of 2048 x 2048 pixels, the largest that 4GB allow" in err
    np.testing.assert_array_equal(classes_of(out), classes_of(zarr_map))


def test_a_memory_that_makes_no_sense_is_known_before_training(cli, tiny, tmp_path):
    workflow = tmp_path / "workflow.yaml"
    for section, words in (
        ({"memory": "much"}, "--memory much is no size"),
        ({"memory": "4GB", "chunk": 64}, "give --chunk or --memory, not both"),
    ):
        workflow.write_text(yaml.safe_dump({
            "scene": str(tiny.path), "out": "out", "classify": section,
            "train": {"labels": {"path": str(tiny.labels), "label_column": "code"}},
        }))  # fmt: skip
        code, _, err = cli("run", workflow)
        assert code == 2
        assert words in err
    assert not (tmp_path / "out").exists()


def test_the_map_says_which_number_type_was_used(cli, tiny, model, tmp_path):
    code, _, err = cli(
        "classify", tiny.path, model, "--out", tmp_path / "map.zarr", "--precision", "auto"
    )
    assert code == 0, err
    assert xr.open_zarr(tmp_path / "map.zarr").attrs["precision"] in ("float32", "bfloat16")


def test_progress_for_programs_is_one_object_a_line(cli, tiny, model, tmp_path):
    out = tmp_path / "map.zarr"
    code, lines, err = cli(
        "classify", tiny.path, model, "--out", out, "--chunk", "8", "--progress", "json"
    )
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in lines.splitlines()]
    progress = [event for event in events if event["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == 30
    assert progress[-1]["label"] == "classifying"
    assert any("map of" in event["text"] for event in events if event["event"] == "message")
    code, lines, err = cli(
        "evaluate", tiny.path, tiny.labels, model, *COLUMNS, "--progress", "json"
    )
    assert (code, err) == (0, "")
    events = {event["event"]: event for event in map(json.loads, lines.splitlines())}
    assert events["table"]["columns"][0] == "class"
    assert events["result"]["text"].startswith("overall accuracy ")
    code, _, err = cli("classify", tiny.path, model, "--out", out, "--progress", "dots")
    assert code == 2
    assert "--progress dots is not one of bar, json" in err


def test_a_program_hears_that_a_long_step_is_alive(monkeypatch, capsys):
    monkeypatch.setattr(commands_terminal, "_PAUSE_S", 0.01)
    monkeypatch.setattr(commands_terminal, "_HEARTBEAT_S", 0.05)
    with commands_terminal.JsonTerminal().progress("reading") as update:
        update(1, 4)
        time.sleep(0.4)
        update(4, 4)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("progress", "progress")
    assert kinds.count("alive") >= 3
    assert events[0]["seconds_left"] is None
    assert events[-1]["seconds_left"] == 0


def test_a_scene_that_changes_while_it_is_read_gives_no_map(
    cli, tiny, model, tmp_path, monkeypatch
):
    scene = shutil.copy(tiny.path, tmp_path / "scene.tif")

    def read_and_change(*arguments, **options):
        Path(scene).touch()
        return fill_store(*arguments, **options)

    monkeypatch.setattr(unfinished, "fill_store", read_and_change)
    command = ("classify", scene, model, "--out", tmp_path / "map.zarr", "--device", "cpu")
    code, _, err = cli(*command)
    assert code == 2
    assert f"{scene} changed while it was read" in err
    assert "what is done is kept" not in err
    assert not list(tmp_path.glob("*map.zarr*"))
    monkeypatch.undo()
    code, _, err = cli(*command)
    assert code == 0, err


def test_ctrl_c_while_training_leaves_nothing_behind(tiny, tmp_path):
    process = start("train", tiny.path, tiny.labels, "--out", tmp_path / "model.safetensors",
                    *COLUMNS, "--epochs", 500, "--device", "cpu")  # fmt: skip
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "training hyperloopnet" in line:
            break
    time.sleep(2)  # so that Lightning is in its loop
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    err = "".join(lines) + err
    assert process.returncode == 130, err
    assert "stopped" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


# --- the real scene -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="no EnMAP scene in ../shared/data")
def test_the_enmap_workflow_maps_the_real_mosaic(cli, tmp_path):
    source = Path(__file__).parents[1] / "workflows" / "enmap_potsdam.yaml"
    values = yaml.safe_load(source.read_text())

    def absolute(path):
        return str((source.parent / path).resolve())

    values["scene"], values["out"] = absolute(values["scene"]), str(tmp_path / "results")
    values["train"]["epochs"] = 5
    for section in ("train", "evaluate", "assess"):
        values[section]["labels"]["path"] = absolute(values[section]["labels"]["path"])
    workflow = tmp_path / "enmap.yaml"
    workflow.write_text(yaml.safe_dump(values))
    code, text, err = cli("run", workflow)
    assert code == 0, err
    results = tmp_path / "results"
    with rasterio.open(values["scene"]) as mosaic:
        empty = mosaic.read(1) == mosaic.nodata
        transform, crs = mosaic.transform, mosaic.crs
    codes = classes_of(results / "map.tif")
    np.testing.assert_array_equal(codes == 0, empty)
    assert set(np.unique(codes)) <= {0, 1, 2, 3, 4, 5, 6}
    np.testing.assert_array_equal(codes, classes_of(results / "map.zarr"))
    with rasterio.open(results / "map.tif") as raster:
        assert (raster.transform, raster.crs) == (transform, crs)
    _, card = load_checkpoint(results / "model.safetensors")
    assert card.bands == 218  # six bands are nodata everywhere and marked bad
    assert card.classes.names[0] == "roof"
    figures = json.loads((results / "accuracy.json").read_text())
    assert 0 < figures["pixels"] < 32 * 32
    assert all(np.isfinite(figures[name]) for name in ("overall_accuracy", "kappa", "mean_iou"))
    assert figures["overall_accuracy"] > 0.4  # far above chance after five epochs
    frame = gpd.read_file(results / "landcover.gpkg", layer=0)
    assert frame["area_m2"].min() >= values["polygonize"]["min_area"]
    polygonize(results / "map.tif", tmp_path / "all.gpkg")
    everything = gpd.read_file(tmp_path / "all.gpkg", layer=0)
    back = rasterio.features.rasterize(
        zip(everything.geometry, everything["code"], strict=True), codes.shape, transform=transform
    )
    np.testing.assert_array_equal(back, codes)
    assert "overall accuracy" in text
    found = json.loads((results / "assessment.json").read_text())
    # imagery was interpreted at places that somebody chose
    assert (found["design"], found["probability_sample"]) == ("none", False)
    assert found["confusion_matrix"]["classes"][0] == "impervious"
    assert 0 < found["sample_units"] <= 45
    assert (results / "report.html").stat().st_size < 5e6
    assert (results / "figures").is_dir()
    shutil.rmtree(results)
