"""Cross-validation: every label scored once, nothing learnt from what is scored."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rasterio
from conftest import NODATA, write_scene

from hsi_pipeline.commands import train as train_command
from hsi_pipeline.commands.crossval import crossval, try_model
from hsi_pipeline.commands.judging import spread_of_difference
from hsi_pipeline.commands.labelled import LabelledScene, labelled_scene
from hsi_pipeline.commands.trials import summarise
from hsi_pipeline.folds import spatial_folds
from hsi_pipeline.ground_truth import read_labels
from hsi_pipeline.scene import open_source
from hsi_pipeline.training import TrainingSettings

LABELS = {"label_column": "code", "name_column": "name"}
FAST = {"folds": 2, "guard": 1, "models": ["spectral"], "epochs": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def tables(tiny, tmp_path_factory):
    """Trials of two folds and two seeds, and where their tables are."""
    out = tmp_path_factory.mktemp("crossval") / "table.csv"
    trials = crossval(tiny.path, tiny.labels, seeds=2, out=out, **FAST, **LABELS)
    return trials, out


@pytest.fixture(scope="module")
def data(tiny) -> LabelledScene:
    source = open_source(tiny.path)
    truth = read_labels(tiny.labels, source.grid, **LABELS)
    return truth.scheme, labelled_scene(source, truth.labels, truth.units)


def test_every_model_is_scored_on_every_fold_and_seed(tables, tiny):
    trials, _ = tables
    found = {(trial.model, trial.fold, trial.seed) for trial in trials}
    names = ("spectral", "random_forest", "svm", "logistic_regression")
    assert len(trials) == 16
    assert {name for name, _, _ in found} == set(names)
    labelled = int(((tiny.labelled > 0) & tiny.valid).sum())
    for name in names:
        for seed in (0, 1):
            pixels = [t.accuracy.pixels for t in trials if t.model == name and t.seed == seed]
            assert sum(pixels) == labelled


def test_the_tables_hold_every_trial_and_its_mean(tables):
    trials, out = tables
    frame = pd.read_csv(out)
    assert len(frame) == len(trials)
    of_forest = frame[frame.model == "random_forest"]
    text = out.with_suffix(".md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| random_forest"))
    mean, spread = of_forest.overall_accuracy.mean(), of_forest.overall_accuracy.std(ddof=0)
    assert f"{mean:.3f} ± {spread:.3f}" in row
    assert "best by overall accuracy" in text
    assert frame.settings[frame.model == "svm"].str.contains("C=").all()
    assert frame.settings[frame.model == "spectral"].str.contains("epochs=1").all()


def test_pooled_scores_count_all_pixels_together(tables):
    trials, _ = tables
    summary = summarise(trials)
    of_forest = [t for t in trials if t.model == "random_forest" and t.seed == 0]
    right = sum(np.trace(t.accuracy.matrix) for t in of_forest)
    pixels = sum(t.accuracy.pixels for t in of_forest)
    others = [t for t in trials if t.model == "random_forest" and t.seed == 1]
    right2 = sum(np.trace(t.accuracy.matrix) for t in others)
    expected = (right / pixels + right2 / pixels) / 2
    assert summary.loc["random_forest", "pooled_overall_accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["hyperloopnet-fusion", "svm"])
def test_labels_of_the_fold_change_nothing_of_its_predictions(name, data):
    scheme, scene = data
    split = spatial_folds(scene.labels, scene.units, folds=2, guard=1, seed=0)[0]
    swapped = scene.labels.copy()
    codes = np.array([0, 3, 0, 7, 0, 0, 0, 1])  # 1 -> 3 -> 7 -> 1
    swapped[split.validation] = codes[swapped[split.validation]]
    predicted = []
    for labels in (scene.labels, swapped):
        trial = try_model(
            replace(scene, labels=labels), scheme, split, name,
            {"width": 4} if "hyper" in name else {},
            fold=1, seed=0, epochs=2, device="cpu", share=0.2,
        )  # fmt: skip
        predicted.append(trial.accuracy.matrix.sum(0))
    np.testing.assert_array_equal(*predicted)


def test_a_class_in_one_place_is_reported_and_counts_as_wrong(cli, tiny, tmp_path):
    import geopandas as gpd

    frame = gpd.read_file(tiny.labels)
    water = frame[frame.code == 1].index
    frame = frame.drop(water[1:])
    frame.to_file(tmp_path / "labels.gpkg")
    code, text, err = cli(
        "crossval", tiny.path, tmp_path / "labels.gpkg", "--label-column", "code",
        "--name-column", "name", "--folds", 2, "--guard", 1, "--model", "spectral",
        "--epochs", 1, "--device", "cpu", "--out", tmp_path / "t.csv",
    )  # fmt: skip
    assert code == 0, err
    assert "water is missing; scores are over the classes present" in err
    assert "water cannot be learnt outside this fold; it counts as wrong" in err
    assert "best by mean IoU" in text
    assert "water is missing" in (tmp_path / "t.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--folds", "1"), "folds is 1"),
        (("--seeds", "0"), "seeds is 0"),
        (("--epochs", "0"), "epochs is 0"),
        (("--model", "forest"), "'forest' is not known"),
        (("--out", "table.xlsx"), "table.xlsx"),
        (("--folds", "400"), "too few places for 400 folds"),
    ],
)
def test_bad_options_are_refused_at_once(options, message, cli, tiny):
    code, _, err = cli(
        "crossval", tiny.path, tiny.labels, "--label-column", "code", "--device", "cpu", *options
    )
    assert code == 2
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in err


def test_existing_tables_are_kept(cli, tiny, tmp_path):
    (tmp_path / "t.md").write_text("mine")
    code, _, err = cli(
        "crossval", tiny.path, tiny.labels, "--label-column", "code", "--out", tmp_path / "t.csv"
    )
    assert (code, (tmp_path / "t.md").read_text()) == (2, "mine")
    assert "--overwrite" in err


def test_the_spread_of_a_difference_is_that_of_whole_polygons(data):
    """Two models that differ in one polygon of n: the variance is that of drawing it."""
    scheme, scene = data
    pixels = scene.labels > 0
    right = scene.indices(scheme)
    units = np.unique(scene.units[pixels])
    wrong = right.copy()
    wrong[scene.units == units[3]] = right[scene.units == units[3]] % 3 + 1
    assert spread_of_difference(scene, scheme, right, right, pixels, seed=0) == 0
    found = spread_of_difference(scene, scheme, right, wrong, pixels, seed=0, draws=2000)
    # the share of wrong pixels: a Poisson-like count of one polygon among all, mean 1, variance 1
    expected = 1 / len(units)
    assert found == pytest.approx(expected, rel=0.2)


def test_missing_values_in_training_data_are_left_out_and_said(cli, tiny, tmp_path):
    pixels = tiny.pixels.astype(np.float32)
    pixels[:, tiny.pixels[0] == NODATA] = np.nan
    pixels[2, 10:13, 10:13] = np.nan
    pixels[5, 34, 10] = np.inf
    path = write_scene(tmp_path / "scene.tif", pixels, nodata=None)
    code, _, err = cli(
        "train", path, tiny.labels, "--label-column", "code", "--out", tmp_path / "m.safetensors",
        "--epochs", 1, "--guard", 1, "--device", "cpu", "--no-baselines",
    )  # fmt: skip
    assert code == 0, err
    with rasterio.open(path) as opened:
        values = opened.read()[[i for i in range(10) if i != 4]]
    expected = int(((tiny.labelled > 0) & ~np.isfinite(values).all(0)).sum())
    assert expected > 5
    assert f"{expected} labelled pixels hold no value in some band, left out" in err


def test_train_warns_where_a_baseline_is_better(cli, tiny, tmp_path, monkeypatch):
    # a network that does not learn
    monkeypatch.setattr(
        train_command,
        "training_settings",
        lambda *_: TrainingSettings(epochs=1, learning_rate=1e-9),
    )
    code, _, err = cli(
        "train", tiny.path, tiny.labels, "--label-column", "code", "--model", "spectral",
        "--epochs", 1, "--guard", 1, "--device", "cpu", "--out", tmp_path / "m.safetensors",
    )  # fmt: skip
    assert code == 0, err
    line = next(line for line in err.splitlines() if line.startswith("mean of overall"))
    scores = dict(part.rsplit(" ", 1) for part in line.split(": ")[1].split(", "))
    assert set(scores) == {"spectral", "random_forest", "svm", "logistic_regression"}
    best = max(scores, key=lambda key: float(scores[key]))
    assert best != "spectral", "the network won without learning"
    warning = next(line for line in err.splitlines() if line.startswith("warning:"))
    tied = [name for name in scores if scores[name] == scores[best]]
    assert any(f"--model {name} " in warning for name in tied)
    assert "hsi-pipeline crossval" in warning
