"""The plugin in the real QGIS: by qgis_process, by scripts, from a model, in a batch.

What it gives is what the command line gives, to the pixel and the polygon. The session with QGIS's
own Python is one process for most tests, since each start of QGIS and of the command line costs
seconds.
"""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import typer
from conftest import NAMES, make_tiny_scene, write_scene
from geopandas.testing import assert_geodataframe_equal
from system_programs import clean_environment
from test_qgis import SYSTEM_PYTHON, has_qgis

import hsi_pipeline
from hsi_pipeline.classes import make_scheme
from hsi_pipeline.cli import app
from hsi_pipeline.commands.qgis import SOURCE, install
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.qgis_plugin.child import Child
from hsi_pipeline.qgis_plugin.conversation import Conversation
from hsi_pipeline.qgis_plugin.drafts import remove_drafts
from hsi_pipeline.qgis_plugin.environment import (
    PROBE,
    MissingEnvironmentError,
    check_environment,
    child_environment,
)

QGIS_PROCESS = "qgis_process.bin"  # Debian's wrapper of it fails
MODEL3 = Path(__file__).parents[1] / "workflows/qgis/landcover.model3"
PROFILE = Path(".local/share/QGIS/QGIS3/profiles/default")
COMMANDS = ("train", "classify", "polygonize", "assess", "report", "run")
MODULES = sorted(SOURCE.glob("*.py"))
COLORS = dict(zip(NAMES, make_scheme(sorted(NAMES), NAMES, {}).colors, strict=True))
CHUNKS = {"CHUNK": 16}  # many of them, so that a run takes long enough to be cancelled


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_the_plugin_needs_qgis_and_the_standard_library_of_python_3_9_alone(module):
    tree = ast.parse(module.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(node.module.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1  # the folder is copied elsewhere
    assert imported <= {*sys.stdlib_module_names, "qgis", "processing"}


def test_the_plugin_is_of_the_packages_version():
    metadata = (SOURCE / "metadata.txt").read_text(encoding="utf-8")
    assert f"\nversion={hsi_pipeline.__version__}\n" in metadata
    assert "\nhasProcessingProvider=yes\n" in metadata


def test_a_program_and_what_it_started_end_though_they_ignore_the_signal(tmp_path):
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen(['sleep', '60'])\n"
        "print(other.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = Child([sys.executable, "-c", code])
    heard, started = [], 0.0
    for stream, line in child.lines(lambda: bool(heard)):
        heard.append((stream, line))
        started = time.monotonic()
    assert time.monotonic() - started < 3
    assert child.was_killed
    assert child.exit_code == -signal.SIGKILL
    other = Path("/proc") / heard[0][1] / "stat"
    assert wait_until(lambda: not other.exists() or " Z " in other.read_text(), 1)


def test_all_that_a_program_says_is_heard_and_its_exit_code_is_its_own():
    code = "import sys; print('ä'); print('error: ö', file=sys.stderr); sys.exit(3)"
    child = Child([sys.executable, "-c", code])
    assert sorted(child.lines(lambda: False)) == [("err", "error: ö"), ("out", "ä")]
    assert child.exit_code == 3
    assert not child.was_killed


def test_programs_of_the_environment_see_nothing_of_qgis(monkeypatch):
    foreign = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "GDAL_DATA", "GDAL_DRIVER_PATH",
               "PROJ_LIB", "PROJ_DATA", "QT_PLUGIN_PATH", "VIRTUAL_ENV")  # fmt: skip
    for name in (*foreign, "AWS_REGION"):
        monkeypatch.setenv(name, "x")
    given = child_environment()
    assert not set(foreign) & set(given)
    assert given["AWS_REGION"] == "x"
    assert given["HSI_PIPELINE_STOP_ON_EOF"] == "1"


def make_program(file, script):
    """Write a program for the shell, and return it as text."""
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)
    return str(file)


def test_the_check_of_an_environment_can_be_cancelled(tmp_path):
    started = tmp_path / "started"
    python = make_program(tmp_path / "python", f"echo $$ > '{started}'\nexec sleep 60")
    check_environment(python, lambda: started.exists() and bool(started.read_text().strip()))
    assert not Path("/proc", started.read_text().strip()).exists()


def test_the_check_of_an_environment_ends_with_the_program_that_started_it(tmp_path):
    (tmp_path / "hsi_pipeline.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(60)\n", encoding="utf-8"
    )
    with subprocess.Popen(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as probe:
        assert probe.stdout.readline() == b"importing\n"
        probe.stdin.close()
        assert probe.wait(10) == 1


def test_an_environment_is_checked_by_its_version():
    check_environment(sys.executable)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "echo a; echo b; head -c 3000000 /dev/zero | tr '\\0' x",
            f"hsi-pipeline {60 * 'x'}, this",
        ),
        ("true", "hsi-pipeline of no version, this"),
        ("echo a >&2; head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 3", f"({200 * 'x'});"),
    ],
)
def test_little_is_shown_of_what_a_wrong_interpreter_prints(tmp_path, script, words):
    python = make_program(tmp_path / "python", script)
    with pytest.raises(MissingEnvironmentError) as caught:
        check_environment(python)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class Heard:
    """Notes what QGIS would show."""

    def __init__(self):
        self.shown = []

    def __getattr__(self, name):
        return lambda text: self.shown.append((name, text))


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "progress"}',
        '{"event": "progress", "label": "x", "done": "1", "total": 2}',
        '{"event": "message"}',
        '{"event": "table", "title": "x", "columns": 3, "rows": []}',
        '{"event": "finished"}',
        '{"event": "finished", "outputs": null, "results": {}}',
        '["event"]',
        "Segmentation fault",
    ],
)
def test_what_is_no_event_is_shown_as_it_is(line):
    heard = Heard()
    said = Conversation(heard, {"x": (0, 100)})
    said.hear("out", line)
    assert ("pushConsoleInfo", line) in heard.shown
    assert not said.is_finished


def test_a_conversation_is_finished_by_its_last_event():
    said = Conversation(Heard(), {})
    said.hear("out", '{"event": "finished", "outputs": ["/m.tif"], "results": {"train": 1}}')
    assert said.is_finished
    assert said.outputs == ["/m.tif"]
    assert said.results == {"train": 1}


def test_drafts_of_a_killed_command_go_and_those_of_others_stay(tmp_path):
    names = (".map [1].tif.partial-a", ".map [1].tif.unfinished", ".other.tif.partial-b")
    for name in (*names, ".map [1].tif.partial-old"):
        make(tmp_path / name)
    os.utime(tmp_path / ".map [1].tif.partial-old", (1, 1))
    (tmp_path / ".map [1].tif.partial-file").write_text("")
    make(tmp_path / ".map [1].tif.minimum-area-c")
    make(tmp_path / ".other.tif.minimum-area-d")  # of a run that may be at work
    remove_drafts([str(tmp_path / "map [1].tif")], 1000)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[1:], ".map [1].tif.partial-old", ".other.tif.minimum-area-d"}


def install_plugin(home):
    """Put the plugin into the profile of a home, as a user does, and return its folder."""
    (home / PROFILE).mkdir(parents=True)
    install(str(home / PROFILE), terminal=Terminal(quiet=True))
    return home / PROFILE / "python/plugins/hsi_pipeline"


def environment(home):
    """Return the variables for QGIS, whose Python must not find that of an environment by PATH."""
    return clean_environment(home) | {"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin:/bin"}


def qgis_process(home, *arguments):
    """Run QGIS's own command line and return its exit code and what it said."""
    result = subprocess.run(
        [QGIS_PROCESS, *map(str, arguments)],
        env=environment(home),
        cwd=home,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def run_in_qgis(home, *steps):
    """Run steps of `qgis_plugin_session.py` and return what each says."""
    file = home / "steps.json"
    file.write_text(json.dumps(steps), encoding="utf-8")
    script = Path(__file__).with_name("qgis_plugin_session.py")
    plugins = home / PROFILE / "python/plugins"
    result = subprocess.run(
        [SYSTEM_PYTHON, script, plugins, file],
        env=environment(home),
        cwd=home,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, (result.stdout[-2000:], result.stderr[-2000:])
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home with the plugin in its profile, in a folder with blank and umlaut."""
    folder = tmp_path_factory.mktemp("Zuhause für QGIS")
    if not has_qgis(folder) or shutil.which(QGIS_PROCESS) is None:
        pytest.skip("QGIS is not installed (Debian: qgis python3-qgis qgis-providers)")
    folder.chmod(0o700)
    install_plugin(folder)
    return folder


@pytest.fixture(scope="module")
def files(home, model):
    """Return scenes, labels and a model in the same folder, each under a name with an umlaut."""
    folder = home / "Daten äöü"
    folder.mkdir()
    tiny = make_tiny_scene(folder)
    paths = {"folder": folder, "labels": tiny.labels, "scene": folder / "scene ä.tif"}
    tiny.path.rename(paths["scene"])
    paths["other"] = make_tiny_scene(make(folder / "other"), 24, 32, seed=1).path
    paths["large"] = make_tiny_scene(make(folder / "large"), 480, 480).path
    paths["plain"] = write_scene(folder / "plain.tif", tiny.pixels, wavelengths=None)
    paths["model"] = shutil.copy(model, folder / "model ß.safetensors")
    workflow = folder / "workflow.yaml"
    workflow.write_text(
        f"scene: {paths['scene']}\nout: Ergebnis\nmodel: {paths['model']}\n"
        "classify: {formats: [tif]}\npolygonize: {}\nreport: {}\n",
        encoding="utf-8",
    )
    return paths | {"workflow": workflow}


def make(folder):
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def session(home, files):
    """Return by label what QGIS says of each step of one session."""
    data = files["folder"]
    scene, model = str(files["scene"]), str(files["model"])
    classify = {"SCENE": scene, "MODEL": model}
    large = {"SCENE": str(files["large"]), "MODEL": model, "OUTPUT": str(data / "large.tif")}
    train = {
        "SCENE": scene, "LABEL_COLUMN": "code", "NAME_COLUMN": "name", "MODEL_KIND": "spectral",
        "EPOCHS": 1, "BASELINES": False,
    }  # fmt: skip
    web = "type=xyz&url=http://127.0.0.1:9/%7Bz%7D/%7Bx%7D/%7By%7D.png&zmax=1&zmin=0"
    x = str(data / "x.tif")
    failing = {
        "no scene": ("classify", {"MODEL": model, "OUTPUT": x}),
        "two scenes": ("classify", classify | {"PRODUCT": scene, "OUTPUT": x}),
        "picture": ("classify", classify | {"SCENE": {"layer": "web"}, "OUTPUT": x}),
        "overwriting": ("classify", classify | {"OUTPUT": scene}),
        "parcels": ("polygonize", {
            "MAP": scene, "BY": {"layer": "labels"}, "OUTPUT": str(files["labels"])}),
        "archived": ("polygonize", {"MAP": {"layer": "zipped"}, "OUTPUT": str(data / "x.gpkg")}),
        "unsaved": ("assess", {
            "MAP": scene, "REFERENCE": {"layer": "labels"}, "OUTPUT": str(data / "x.json")}),
        "product": ("classify", classify | {"SCENE": str(data / "product.zip"), "OUTPUT": x}),
        "plain": ("classify", classify | {"SCENE": str(files["plain"]), "OUTPUT": x}),
    }  # fmt: skip
    several, trained = data / "several.gpkg", str(data / "x.safetensors")
    for name in ("first", "second"):
        gpd.read_file(files["labels"]).to_file(several, layer=name)
    failing |= {
        "other layers": ("polygonize", {"MAP": scene, "OUTPUT": str(several)}),
        "empty": ("train", train | {"LABELS": {"layer": "filtered"}, "OUTPUT": trained}),
        "none selected": ("train", train | {
            "LABELS": {"layer": "memory", "selected": True}, "OUTPUT": trained}),
        "copied": ("train", train | {
            "LABELS": {"layer": "memory"}, "LABEL_COLUMN": "name", "NAME_COLUMN": "nowhere",
            "OUTPUT": trained}),
    }  # fmt: skip
    silent = make_program(
        data / "silent", f'[ "$1" = -c ] && echo {hsi_pipeline.__version__}; exit 0'
    )
    shutil.make_archive(str(data / "zipped"), "zip", data, files["plain"].name)
    (data / "product.zip").write_bytes(b"no zip")
    zipped = f"/vsizip/{data / 'zipped.zip'}/{files['plain'].name}"
    steps = {
        "describe": ("describe", {"provider": "hsi_pipeline"}),
        "labels": ("add", {"name": "labels", "vector": str(files["labels"])}),
        "memory": ("add_copy", {"name": "memory", "of": "labels"}),
        "filtered": ("add", {"name": "filtered", "vector": f"{files['labels']}|subset=code = 99"}),
        "web": ("add", {"name": "web", "raster": web, "provider": "wms"}),
        "zipped": ("add", {"name": "zipped", "raster": zipped}),
        "edit": ("edit", {"name": "labels", "field": "code", "value": 5}),
        **{
            label: ("run", {"algorithm": f"hsi_pipeline:{command}", "parameters": parameters})
            for label, (command, parameters) in failing.items()
        },
        "choose": ("choose", {"python": silent}),
        "no result": ("run", {"algorithm": "hsi_pipeline:classify", "parameters":
            classify | {"OUTPUT": x}}),
        "choose again": ("choose", {"python": ""}),
        "dashes": ("inputs", {"algorithm": "hsi_pipeline:classify", "parameters": {
            "PRODUCT": "-x.h5", "MODEL": "-m.safetensors"}}),
        **{
            f"layer {place}": ("inputs", {"algorithm": "hsi_pipeline:train",
                "parameters": train | {"LABELS": f"{several}{part}"}})
            for place, part in enumerate(("", "|layerid=1", "|layername=second"))
        },
        "give up": ("give_up", {"name": "labels"}),
        "select": ("select", {"name": "memory", "expression": "code <> 7"}),
        "train": ("run", {"algorithm": "hsi_pipeline:train", "parameters": train | {
            "LABELS": {"layer": "memory", "selected": True},
            "OUTPUT": str(data / "trained.safetensors")}}),
        "batch": ("batch", {"algorithm": "hsi_pipeline:classify", "rows": [
            classify | {"OUTPUT": str(data / "one.tif")},
            classify | {"SCENE": str(files["other"]), "OUTPUT": str(data / "two.tif")}]}),
        "load": ("run", {"algorithm": "hsi_pipeline:classify", "load": True, "parameters": classify
            | {"LAYERS": ["dissimilarity"], "OUTPUT": "TEMPORARY_OUTPUT"}}),
        "map": ("look", {"name": "Class map"}),
        "doubt": ("look", {"name": "Dissimilarity"}),
        "polygons": ("run", {"algorithm": "hsi_pipeline:polygonize", "load": True, "parameters": {
            "MAP": str(data / "one.tif"), "OUTPUT": str(data / "polygons.gpkg")}}),
        "drawn": ("look", {"name": "Polygons"}),
        "again": ("run", {"algorithm": "hsi_pipeline:polygonize", "parameters": {
            "MAP": str(data / "two.tif"), "OUTPUT": str(data / "polygons.gpkg")}}),
        "reloaded": ("look", {"name": "Polygons"}),
        "assess": ("run", {"algorithm": "hsi_pipeline:assess", "parameters": {
            "MAP": str(data / "one.tif"), "REFERENCE": {"layer": "labels"}, "LABEL_COLUMN": "code",
            "OUTPUT": str(data / "assessment.json")}}),
        "run": ("run", {"algorithm": "hsi_pipeline:run", "parameters": {
            "WORKFLOW": str(files["workflow"])}}),
        "report": ("run", {"algorithm": "hsi_pipeline:report", "parameters": {
            "MAP": str(data / "one.tif"), "ASSESSMENT": str(data / "assessment.json"),
            "OUTPUT": "TEMPORARY_OUTPUT"}}),
        "cancel": ("cancel", {"algorithm": "hsi_pipeline:classify",
            "parameters": large | CHUNKS, "meanwhile": large}),
    }  # fmt: skip
    said = dict(zip(steps, run_in_qgis(home, *steps.values()), strict=True))
    said["left"] = sorted(path.name for path in data.iterdir() if "large" in path.name)
    return said


def read_polygons(path):
    return gpd.read_file(path, layer="landcover")


def pixels(path):
    with rasterio.open(path) as raster:
        return raster.read()


# The toolbox


def test_qgis_process_lists_the_algorithms_and_explains_them(home):
    code, said = qgis_process(home, "list")
    assert code == 0
    assert all(f"hsi_pipeline:{command}" in said for command in COMMANDS)
    code, said = qgis_process(home, "help", "hsi_pipeline:classify")
    assert code == 0
    assert "Cancelled? What was done is kept" in said


def test_algorithms_have_help_and_icons(session):
    assert sorted(session["describe"]) == sorted(COMMANDS)
    for command, described in session["describe"].items():
        assert not described["icon"]
        assert described["help"]
        assert "<" not in described["help"]  # qgis_process shows it as it is
        assert (SOURCE / "icons" / f"{command}.svg").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_those_of_the_command_line(session, command):
    commands = typer.main.get_command(app).commands
    options = {flag: option for option in commands[command].params for flag in option.opts}
    flags = {
        one["flag"]: one["default"]
        for one in session["describe"][command]["parameters"].values()
        if one["flag"]
    }
    assert flags
    assert set(flags) <= set(options)
    for flag, default in flags.items():
        expected = options[flag].default
        if flag.startswith("--no-"):
            expected = not expected
        assert default == expected or str(default) == str(expected or None)


# What comes out


def test_qgis_process_gives_the_map_of_the_command_line(home, files, cli, tmp_path):
    out = files["folder"] / "Karte ü.tif"
    arguments = {"SCENE": files["scene"], "MODEL": files["model"], "LAYERS": "entropy"}
    pairs = [f"{name}={value}" for name, value in arguments.items()]
    code, said = qgis_process(home, "run", "hsi_pipeline:classify", "--", *pairs, f"OUTPUT={out}")
    assert code == 0, said
    options = ("--layers", "entropy", "--out", tmp_path / "map.tif")
    assert cli("classify", files["scene"], files["model"], *options)[0] == 0
    for beside in ("", "_entropy", "_confidence"):
        ours = out.with_name(f"{out.stem}{beside}.tif")
        assert str(ours) in said
        np.testing.assert_array_equal(pixels(ours), pixels(tmp_path / f"map{beside}.tif"))


def test_a_model_chains_our_algorithms_and_those_of_qgis(home, files, cli, tmp_path):
    named = {"classify:Class map": "map.tif", "polygonize:Polygons": "polygons.gpkg"}
    named["sure:Sure polygons"] = "sure.gpkg"
    outputs = {name: tmp_path / file for name, file in named.items()}
    inputs = {"scene": files["scene"], "model": files["model"]}
    values = inputs | {"min_confidence": 0.6} | outputs  # the area is the model's own
    pairs = [f"{name}={value}" for name, value in values.items()]
    code, said = qgis_process(home, "run", MODEL3, "--", *pairs)
    assert code == 0, said
    code, *_ = cli(
        "polygonize", tmp_path / "map.tif", "--min-area", 2700, "--out", tmp_path / "cli.gpkg"
    )
    assert code == 0
    polygons, expected = (read_polygons(tmp_path / f"{n}.gpkg") for n in ("polygons", "cli"))
    assert_geodataframe_equal(polygons, expected)
    sure = gpd.read_file(tmp_path / "sure.gpkg")
    assert len(sure) == (expected["confidence"] >= 0.6).sum()


def test_a_memory_layer_and_its_selection_are_learnt_from(session, files):
    said = session["train"]
    assert "error" not in said
    assert 0 <= said["results"]["VALIDATION_ACCURACY"] <= 1
    assert (files["folder"] / "trained.safetensors").is_file()
    assert "water" in said["log"]
    assert "roof" not in said["log"]  # not selected


def test_a_batch_maps_one_scene_after_the_other(session, files, cli, tmp_path):
    assert [success for success, _ in session["batch"]["results"]] == [True, True]
    for name, scene in (("one", "scene"), ("two", "other")):
        target = tmp_path / f"{name}.tif"
        assert cli("classify", files[scene], files["model"], "--out", target)[0] == 0
        found = pixels(files["folder"] / f"{name}.tif")
        np.testing.assert_array_equal(found, pixels(target))


def test_the_bar_moves_forward_to_its_end(session):
    for label in ("train", "load", "run"):
        shares = session[label]["shares"]
        assert shares == sorted(shares)
        assert shares[-1] > 90


def test_results_load_with_their_classes_and_colors(session, files):
    shown = session["map"]
    assert shown["renderer"] == "paletted"
    assert shown["ticked"]
    codes = pixels(files["folder"] / "one.tif")[0]  # the same, and not temporary
    drawn = sum(shown["colors"][color] for color in COLORS.values())
    assert drawn > 20_000
    for code, color in COLORS.items():
        share = (codes == code).sum() / (codes > 0).sum()
        assert shown["colors"][color] / drawn == pytest.approx(share, abs=0.01)
    assert session["doubt"]["renderer"] == "singlebandpseudocolor"
    assert not session["doubt"]["ticked"]  # it would cover the map
    drawn = session["drawn"]
    assert drawn["renderer"] == "categorizedSymbol"
    assert all(drawn["colors"][color] > 2000 for color in COLORS.values())


def test_an_open_layer_shows_what_has_overwritten_its_file(session, files):
    assert "error" not in session["again"]
    expected = len(read_polygons(files["folder"] / "polygons.gpkg"))
    assert session["reloaded"]["features"] == expected
    assert session["drawn"]["features"] != expected


def test_an_assessment_gives_its_figures(session, files):
    figures = json.loads((files["folder"] / "assessment.json").read_text(encoding="utf-8"))
    overall, results = figures["overall_accuracy"], session["assess"]["results"]
    assert results["OVERALL_ACCURACY"] == overall["value"]
    assert results["HALF_WIDTH"] == pytest.approx((overall["high"] - overall["low"]) / 2)
    assert "Confusion matrix" in session["assess"]["log"]
    assert "no probability sample" in session["assess"]["log"]


def test_a_report_is_a_page(session):
    page = Path(session["report"]["results"]["OUTPUT"])
    assert page.suffix == ".html"
    assert "report in" in session["report"]["log"]


def test_a_workflow_gives_folder_map_polygons_and_report(session, files):
    results, folder = session["run"]["results"], files["folder"] / "Ergebnis"
    names = {"MAP": "map.tif", "POLYGONS": "landcover.gpkg", "REPORT": "report.html"}
    assert results == {"FOLDER": str(folder)} | {key: str(folder / n) for key, n in names.items()}
    assert all((folder / name).is_file() for name in names.values())


# What goes wrong

WORDS = {
    "no scene": "choose a scene: a raster layer, or a product",
    "two scenes": "not both",
    "picture": "the layer 'web' comes from a web service",
    "overwriting": "would be overwritten while it is read (the scene)",
    "parcels": "would be overwritten while it is read (your own polygons)",
    "archived": "a class map has to be a file on this machine",
    "unsaved": "the layer 'labels' has edits that are not saved",
    "product": "give it as a product (PRODUCT)",
    "plain": "the scene has no wavelengths",
    "other layers": "holds other layers (first, second), which would be lost",
    "empty": "the layer 'filtered' is empty",
    "none selected": "no feature of the layer 'memory' is selected",
    "copied": "the layer 'memory'",
    "no result": "the command ended without a result; there is no ",
}


@pytest.mark.parametrize("label", WORDS)
def test_errors_reach_the_user_in_plain_words(session, files, label):
    error = session[label]["error"]
    assert WORDS[label] in error
    assert len(error.splitlines()) <= 3  # the first one is QGIS's own
    assert "Traceback" not in session[label]["log"]
    assert not (files["folder"] / "x.tif").exists()


def test_other_layers_of_a_geopackage_survive(session, files):
    for name in ("first", "second"):
        assert len(gpd.read_file(files["folder"] / "several.gpkg", layer=name)) > 0


def test_of_several_layers_the_one_that_qgis_shows_is_learnt_from(session, files):
    several = str(files["folder"] / "several.gpkg")
    for place, name in enumerate(("first", "second", "second")):
        assert session[f"layer {place}"][1:4] == [several, "--layer", name]


def test_files_whose_name_begins_as_an_option_does_are_files(session, home):
    assert session["dashes"] == [str(home / "-x.h5"), str(home / "-m.safetensors")]


def test_a_hint_says_why_wavelengths_are_missing(session):
    assert "choose the file as it was delivered" in session["plain"]["error"]


def test_cancelling_ends_all_processes_at_once_and_leaves_nothing_half_written(session):
    said = session["cancel"]
    assert said["children"] > 0
    assert said["seconds"] < 3
    assert said["ended"] == [[True, {}]] or said["ended"] == [[False, {}]]
    assert session["left"] == [".large.tif.unfinished", "large"]  # what the next run goes on with
    assert "goes on" in said["log"]


def test_a_second_run_of_the_same_output_is_refused(session):
    assert "is being written by another process" in session["cancel"]["other"]["error"]


def test_a_cancelled_run_goes_on(session, home, files, cli, tmp_path):
    large = files["folder"] / "large.tif"
    arguments = {"SCENE": files["large"], "MODEL": files["model"], "OUTPUT": large} | CHUNKS
    pairs = [f"{name}={value}" for name, value in arguments.items()]
    code, said = qgis_process(home, "run", "hsi_pipeline:classify", "--", *pairs)
    assert code == 0, said
    assert "classifying: 0 of" not in said  # some chunks are there
    assert cli("classify", files["large"], files["model"], "--out", tmp_path / "map.tif")[0] == 0
    np.testing.assert_array_equal(pixels(large), pixels(tmp_path / "map.tif"))
    assert not (files["folder"] / ".large.tif.unfinished").exists()


def children_of(parent):
    """Return the numbers of the processes that another one has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def wait_until(condition, seconds):
    """Return whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def test_the_command_line_ends_with_a_qgis_that_dies(home, files, tmp_path):
    arguments = {"SCENE": files["large"], "MODEL": files["model"], "OUTPUT": tmp_path / "m.tif"}
    pairs = [f"{name}={value}" for name, value in (arguments | CHUNKS).items()]
    qgis = subprocess.Popen(
        [QGIS_PROCESS, "run", "hsi_pipeline:classify", "--", *pairs],
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=home,
    )
    try:
        unfinished = tmp_path / ".m.tif.unfinished"
        assert wait_until(unfinished.exists, 60)
        started = children_of(qgis.pid)
        assert started
    finally:
        os.kill(qgis.pid, signal.SIGKILL)
        qgis.wait()
    gone = [Path(f"/proc/{pid}/stat") for pid in started]
    assert wait_until(lambda: not any(path.exists() for path in gone), 10)
    assert not (tmp_path / "m.tif").exists()


@pytest.mark.parametrize(
    ("note", "words"),
    [
        (None, "this plugin does not know where hsi-pipeline is installed; install it as its "
               "README says, then say in a terminal: hsi-pipeline qgis install"),
        ({"python": "/nowhere/python"}, "was moved or removed, there is no /nowhere/python"),
        ({"python": SYSTEM_PYTHON}, "cannot import hsi_pipeline"),
    ],
)  # fmt: skip
def test_a_missing_environment_is_told_with_how_to_make_it(home, files, tmp_path, note, words):
    shutil.copytree(home / PROFILE, tmp_path / PROFILE)
    tmp_path.chmod(0o700)
    file = tmp_path / PROFILE / "python/plugins/hsi_pipeline/environment.json"
    file.unlink()
    if note is not None:
        file.write_text(json.dumps(note), encoding="utf-8")
    pairs = (f"SCENE={files['scene']}", f"MODEL={files['model']}", f"OUTPUT={tmp_path / 'm.tif'}")
    code, said = qgis_process(tmp_path, "run", "hsi_pipeline:classify", "--", *pairs)
    assert code == 1
    assert words in said
    assert not (tmp_path / "m.tif").exists()


def test_another_interpreter_may_be_named_in_the_options(home, tmp_path):
    shutil.copytree(home / PROFILE, tmp_path / PROFILE)
    tmp_path.chmod(0o700)
    (tmp_path / PROFILE / "python/plugins/hsi_pipeline/environment.json").unlink()
    workflow = tmp_path / "none.yaml"
    run = ("run", "hsi_pipeline:run", "--", f"WORKFLOW={workflow}")
    for python, words in (
        ("/nowhere/python", "there is no /nowhere/python, the Python that QGIS's options name"),
        (sys.executable, f"{workflow}: no such workflow file"),
    ):
        with (tmp_path / PROFILE / "QGIS/QGIS3.ini").open("a") as settings:
            settings.write(f"\n[Processing]\nConfiguration\\HSI_PIPELINE_PYTHON={python}\n")
        code, said = qgis_process(tmp_path, *run)
        assert code == 1
        assert words in said


def test_a_plugin_of_another_version_asks_to_be_installed_again(home, files, tmp_path):
    shutil.copytree(home / PROFILE, tmp_path / PROFILE)
    tmp_path.chmod(0o700)
    metadata = tmp_path / PROFILE / "python/plugins/hsi_pipeline/metadata.txt"
    old = metadata.read_text(encoding="utf-8")
    metadata.write_text(
        old.replace(f"version={hsi_pipeline.__version__}", "version=0.0.9"), encoding="utf-8"
    )
    code, said = qgis_process(
        tmp_path, "run", "hsi_pipeline:run", "--", f"WORKFLOW={files['workflow']}"
    )
    assert code == 1
    assert f"has hsi-pipeline {hsi_pipeline.__version__}, this plugin is of 0.0.9" in said
    assert "hsi-pipeline qgis install" in said
