"""The command line: help at once, and what a user is told who got something wrong."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
import yaml
from conftest import NM, TRANSFORM, class_field, field_polygons, make_pixels, write_scene
from distributed import Client, LocalCluster
from safetensors.torch import save_file

from hsi_pipeline import __version__
from hsi_pipeline.commands import scheduling

COMMANDS = (
    "demo", "info", "ingest", "train", "crossval", "evaluate", "classify", "sample", "assess",
    "importance", "report", "polygonize", "stac", "mosaic", "change", "run", "doctor", "serve",
)  # fmt: skip
LABELS = ("--label-column", "code", "--name-column", "name")
FAST = ("--model", "spectral", "--epochs", "1", "--device", "cpu")
HEAVY = ("torch", "numpy", "xarray", "dask", "rasterio", "geopandas", "pandas", "yaml")


@pytest.fixture
def out(tmp_path):
    """An empty folder for results."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def refused(cli, out):
    """Return a function that runs a command and checks how it fails."""

    def run(*arguments, left=()):
        code, text, err = cli(*arguments)
        assert code not in (0, None), f"it went well: {text}{err}"
        lines = err.splitlines()
        errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
        assert len(errors) == 1, err
        message = lines[errors[0] :]  # what was said before is how the work went
        assert len(message) <= 2, err
        assert "Traceback" not in err
        assert sorted(p.name for p in out.rglob("*")) == sorted(left)
        return " ".join(message)

    return run


def says(message, *parts):
    for part in parts:
        assert str(part) in message, message


def program(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", "from hsi_pipeline.cli import main; main()", *map(str, arguments)],
        **{"capture_output": True, "text": True, "timeout": 120, "check": False} | options,
    )  # fmt: skip


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_explains_every_option(cli, command):
    code, text, err = cli(*([command] if command else []), "--help")
    assert (code, err) == (0, "")
    assert "Usage:" in text
    listed = re.findall(r"(--[a-z][a-z-]+)", text)
    promised = {
        "": ["--version"],
        "train": ["--label-column", "--name-column", "--seed", "--epochs", "--model", "--device"],
        "classify": ["--chunk", "--precision", "--probabilities", "--overwrite", "--scheduler"],
        "polygonize": ["--min-area", "--chunk", "--simplify", "--by", "--append"],
        "stac": ["--model", "--product"],
        "run": ["--overwrite", "--scheduler"],
    }
    assert set(promised.get(command, [])) <= set(listed)


def test_help_loads_nothing_heavy():
    program_text = (
        "import sys; from hsi_pipeline.cli import main\n"
        f"sys.argv = ['hsi-pipeline', sys.argv[1], '--help']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"found = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not found, found"
    )
    for command in COMMANDS:
        subprocess.run([sys.executable, "-c", program_text, command], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip


def test_no_command_replaces_what_it_reads(cli, tiny, model, tmp_path):
    scene, labels = tmp_path / "scene.tif", tmp_path / "labels.json"
    shutil.copy(tiny.path, scene)
    gpd.read_file(tiny.labels).to_crs(4326).to_file(labels, driver="GeoJSON")
    link = tmp_path / "link.tif"
    link.symlink_to(scene)
    before = {path: path.read_bytes() for path in (scene, labels)}
    for command in (
        ("classify", scene, model, "--out", scene),
        ("classify", link, model, "--out", scene),
        ("evaluate", scene, labels, model, *LABELS, "--out", labels),
    ):
        code, _, err = cli(*command, "--overwrite")
        assert code == 2, command
        assert "write the result elsewhere" in err
    assert {path: path.read_bytes() for path in before} == before


def test_commands_that_need_no_network_do_without_torch(tiny, model, tmp_path):
    """In one process, since each would take seconds to start."""
    class_map, labels = tmp_path / "map.tif", ("--label-column", "code")
    program("classify", tiny.path, model, "--out", class_map, "--device", "cpu", check=True)
    commands = [
        ("info", tiny.path),
        ("ingest", tiny.path, "--out", tmp_path / "scene.zarr"),
        ("polygonize", class_map, "--out", tmp_path / "landcover.gpkg"),
        ("polygonize", class_map, "--by", tiny.labels, "--out", tmp_path / "parcels.gpkg"),
        ("sample", class_map, "--out", tmp_path / "sample.gpkg"),
        ("assess", class_map, tiny.labels, *labels, "--model", model),
        ("report", class_map, "--scene", tiny.path, "--model", model, "--out", tmp_path / "r.html"),
        ("mosaic", class_map, class_map, "--out", tmp_path / "mosaic.tif"),
        ("change", class_map, class_map, "--out", tmp_path / "change.tif"),
        ("archive", "list", tmp_path / "absent.yaml"),
        ("run", tmp_path / "absent.yaml"),
    ]
    program_text = (
        "import json, sys\nfrom hsi_pipeline.cli import main\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['hsi-pipeline', *command]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert bool(end.code) == ('absent' in command[-1])\n"
        "    assert 'torch' not in sys.modules, command\n"
    )
    told = json.dumps([[str(part) for part in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", program_text, told], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_installed_command_tells_its_version():
    command = shutil.which("hsi-pipeline", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the package is not installed as a command")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == f"hsi-pipeline {__version__}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clasify"], "no such command 'clasify'"),
        (["train", "scene.tif"], "missing argument 'labels'"),
        (["train", "scene.tif", "labels.gpkg"], "missing option '--out'"),
        (["train", "a", "b", "--out", "c", "--epoch", "3"], "no such option"),
        (["train", "a", "b", "--out", "c", "--epochs", "many"], "invalid value for '--epochs'"),
        (["polygonize", "a", "--out", "b", "--min-area", "much"], "invalid value for '--min-area'"),
    ],
)
def test_usage_errors_name_what_is_wrong(cli, arguments, words):
    code, _, err = cli(*arguments)
    assert code == 2
    assert words in " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split()).lower()
    assert "Traceback" not in err


# --- scenes that will not do --------------------------------------------------------------------


def scene_commands(scene, tiny, model, out):
    yield "info", scene
    yield "train", scene, tiny.labels, "--out", out / "m.safetensors", *LABELS, *FAST
    yield "classify", scene, model, "--out", out / "map.zarr"
    yield "evaluate", scene, tiny.labels, model, *LABELS, "--out", out / "accuracy.json"


def make_bad_scene(kind, folder, tiny):
    """Write a scene that cannot be used and return its path and what must be said of it."""
    path = folder / "bad.tif"
    if kind == "missing":
        return path, ["no such file"]
    if kind == "text":
        path.write_text("no raster at all")
        return path, ["not"]
    if kind == "empty file":
        path.write_bytes(b"")
        return path, [""]
    if kind == "folder":
        path.mkdir()
        return path, [""]
    if kind == "no CRS":
        write_scene(path, tiny.pixels, crs=None)
        return path, ["CRS", "--pixel-coordinates"]
    if kind == "no geotransform":
        write_scene(path, tiny.pixels, transform=rasterio.Affine.identity())
        return path, ["geo", "--pixel-coordinates"]
    if kind == "cut off":
        write_scene(path, np.tile(tiny.pixels, (1, 3, 3)))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        return path, [""]
    raise AssertionError(kind)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "kind",
    ["missing", "text", "empty file", "folder", "no CRS", "no geotransform", "cut off"],
)
def test_scenes_that_cannot_be_opened(refused, tiny, model, tmp_path, out, kind):
    scene, words = make_bad_scene(kind, tmp_path, tiny)
    for command in scene_commands(scene, tiny, model, out):
        says(refused(*command), scene, *words)


def test_a_scene_that_is_all_nodata(refused, cli, tiny, model, tmp_path, out):
    scene = write_scene(tmp_path / "empty.tif", np.full_like(tiny.pixels, -32768))
    _, train, _, evaluate = scene_commands(scene, tiny, model, out)
    says(refused(*train), scene, "no labelled pixel holds a value in any band")
    says(refused(*evaluate), scene, tiny.labels, "nodata")
    # a map of nothing is a map all the same
    assert cli("classify", scene, model, "--out", out / "map.tif")[0] == 0
    with rasterio.open(out / "map.tif") as raster:
        assert not raster.read().any()


def test_a_scene_whose_labelled_pixels_are_nodata(refused, tiny, tmp_path, out):
    pixels = np.where(tiny.labelled > 0, -32768, tiny.pixels).astype(np.int16)
    scene = write_scene(tmp_path / "holes.tif", pixels)
    message = refused("train", scene, tiny.labels, "--out", out / "m.safetensors", *LABELS, *FAST)
    says(message, scene)


# --- labels that will not do --------------------------------------------------------------------


def make_bad_labels(kind, folder, tiny):
    path = folder / "bad.gpkg"
    frame = gpd.read_file(tiny.labels)
    words = []
    if kind == "missing":
        return path, ["there is no such label file"]
    if kind == "text":
        path.write_text("no polygons at all")
        return path, []
    if kind == "no column":
        frame, words = frame[["name", "geometry"]], ["code", "name"]
    if kind == "no CRS":
        frame, words = frame.set_crs(None, allow_override=True), ["CRS"]
    if kind == "empty":
        frame = frame.iloc[:0]
    if kind == "elsewhere":
        frame.geometry = frame.geometry.translate(1e5)
        words = ["scene"]
    if kind == "one class":
        frame, words = frame[frame["code"] == 3], ["'tree'", "two classes"]
    if kind == "few pixels":
        frame.geometry = [
            geometry.centroid.buffer(25) if code == 7 else geometry
            for geometry, code in zip(frame.geometry, frame["code"], strict=True)
        ]
        frame = frame.drop(frame.index[frame["code"] == 7][1:])
        words = ["too few labelled pixels", "'roof'"]
    if kind == "codes too large":
        frame["code"], words = frame["code"] + 300, ["255"]
    if frame.crs is None:
        with pytest.warns(UserWarning, match="crs"):
            frame.to_file(path)
    else:
        frame.to_file(path)
    return path, words


@pytest.mark.parametrize(
    "kind",
    ["missing", "text", "no column", "no CRS", "empty", "elsewhere", "one class", "few pixels",
     "codes too large"],
)  # fmt: skip
def test_labels_that_cannot_be_used(refused, tiny, model, tmp_path, out, kind):
    labels, words = make_bad_labels(kind, tmp_path, tiny)
    train = ("train", tiny.path, labels, "--out", out / "m.safetensors", *LABELS, *FAST)
    says(refused(*train), labels, *words)
    if kind not in ("one class", "few pixels"):  # which will do to evaluate
        says(refused("evaluate", tiny.path, labels, model, *LABELS), labels, *words)


def test_labels_of_classes_that_the_model_does_not_know(refused, tiny, model, tmp_path):
    frame = gpd.read_file(tiny.labels)
    frame["name"] = frame["name"].replace("tree", "meadow")
    frame.to_file(tmp_path / "other.gpkg")
    message = refused("evaluate", tiny.path, tmp_path / "other.gpkg", model, *LABELS)
    says(message, tmp_path / "other.gpkg", "'meadow'", "1 water, 3 tree, 7 roof")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name-column", "nam"], "nam"),
        (["--split-column", "part"], "part"),
        (["--layer", "fields"], "fields"),
        (["--class-table", "none.csv"], "none.csv"),
        (["--where", "code ="], "code ="),
    ],
)
def test_options_of_labels_that_do_not_fit_the_file(refused, tiny, out, options, words):
    message = refused(
        "train", tiny.path, tiny.labels, "--label-column", "code",
        "--out", out / "m.safetensors", *FAST, *options,
    )  # fmt: skip
    says(message, words)


# --- models that will not do --------------------------------------------------------------------


def make_bad_model(kind, path, model):
    if kind == "missing":
        return "no such model file"
    if kind == "cut off":
        path.write_bytes(model.read_bytes()[:-100])
        return "truncated"
    if kind == "text":
        path.write_text("no model at all, but long enough for a header")
        return "not a readable .safetensors file"
    if kind == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
        return "without an hsi_pipeline model card"
    if kind == "pickle":
        torch.save({"weight": torch.zeros(3)}, path)
        return "not a readable .safetensors file"
    return ""


@pytest.mark.parametrize("kind", ["missing", "cut off", "text", "foreign", "pickle"])
def test_models_that_cannot_be_loaded(refused, tiny, model, tmp_path, out, kind):
    path = tmp_path / "bad.safetensors"
    words = make_bad_model(kind, path, model)
    says(refused("classify", tiny.path, path, "--out", out / "map.tif"), path, words)
    says(refused("evaluate", tiny.path, tiny.labels, path, *LABELS), path, words)


@pytest.mark.parametrize(
    ("wavelengths", "words"),
    [
        ([nm + 40 for nm in NM], "no usable band within"),
        (NM[:5], "no usable band within"),
        (None, "the scene has no wavelengths"),
    ],
    ids=["other wavelengths", "other band count", "no wavelengths"],
)
def test_scenes_that_a_model_was_not_made_for(refused, tiny, model, tmp_path, out, wavelengths,
                                              words):  # fmt: skip
    pixels = tiny.pixels[: len(wavelengths or NM)]
    scene = write_scene(tmp_path / "other.tif", pixels, wavelengths=wavelengths)
    for suffix in (".zarr", ".tif"):
        message = refused("classify", scene, model, "--out", out / f"map{suffix}")
        says(message, scene, words)


def test_another_number_of_bands_without_wavelengths(refused, cli, tiny, tmp_path, out):
    scene = write_scene(tmp_path / "scene.tif", tiny.pixels, wavelengths=None)
    path = tmp_path / "model.safetensors"
    assert cli("train", scene, tiny.labels, "--out", path, *LABELS, *FAST)[0] == 0
    other = write_scene(tmp_path / "other.tif", tiny.pixels[:7], wavelengths=None)
    message = refused("classify", other, path, "--out", out / "map.tif")
    says(message, other, "trained on 10 bands without wavelengths, the scene has 7")


# --- options out of range -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "0"], "epochs is 0"),
        (["--epochs", "-3"], "epochs is -3"),
        (["--model", "hyperlopnet"], "model 'hyperlopnet' is not known; use one of hyperloopnet"),
        (["--guard", "-1"], "guard is -1"),
        (["--validation-share", "1.5"], "validation share is 1.5"),
        (["--validation-share", "0"], "validation share is 0"),
        (["--device", "cuda:77"], "device 'cuda:77' cannot be used here"),
        (["--device", "toaster"], "device 'toaster' cannot be used here"),
    ],
)
def test_options_of_train_out_of_range(refused, tiny, out, options, words):
    message = refused("train", tiny.path, tiny.labels, "--out", out / "m.safetensors", *LABELS,
                      *FAST, *options)  # fmt: skip
    says(message, words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--chunk", "0"], "chunk is 0"),
        (["--chunk", "-5"], "chunk is -5"),
        (["--precision", "float16"], "precision 'float16' is not one of float32, bfloat16, auto"),
        (["--tolerance-nm", "-1"], "tolerance is -1"),
        (["--tolerance-nm", "nan"], "tolerance is nan"),
        (["--device", "cuda:77"], "device 'cuda:77' cannot be used here"),
    ],
)
def test_options_of_classify_out_of_range(refused, tiny, model, out, options, words):
    says(refused("classify", tiny.path, model, "--out", out / "map.zarr", *options), words)
    says(refused("evaluate", tiny.path, tiny.labels, model, *LABELS, *options), words)


@pytest.fixture
def class_map(cli, tiny, model, tmp_path):
    path = tmp_path / "map.zarr"
    assert cli("classify", tiny.path, model, "--out", path)[0] == 0
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--min-area", "-1"], "minimum area is -1"),
        (["--min-area", "nan"], "minimum area is nan"),
        (["--chunk", "0"], "chunk size is 0"),
    ],
)
def test_options_of_polygonize_out_of_range(refused, class_map, out, options, words):
    says(refused("polygonize", class_map, "--out", out / "p.gpkg", *options), words)


def test_what_is_no_class_map(refused, tiny, tmp_path, out):
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "text.tif").write_text("no raster")
    for path, words in (
        (tmp_path / "none.tif", "no such file"),
        (tmp_path / "none.zarr", "no such file"),
        (tmp_path / "store.zarr", "not a Zarr store"),
        (tmp_path / "text.tif", "not a raster"),
        (tiny.path, "one band of whole numbers"),
    ):
        says(refused("polygonize", path, "--out", out / "p.gpkg"), path, words)


@pytest.mark.parametrize("wanted", ["cuda", "cuda:0"])
def test_a_device_that_is_absent(refused, tiny, model, out, wanted):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    message = refused("classify", tiny.path, model, "--out", out / "map.tif", "--device", wanted)
    says(message, f"device {wanted!r} cannot be used here", "use --device cpu or auto")


def test_a_scheduler_that_does_not_answer(refused, tiny, model, out, monkeypatch):
    monkeypatch.setattr(scheduling, "_CONNECT_TIMEOUT", "1s")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        message = refused("classify", tiny.path, model, "--out", out / "map.zarr",
                          "--scheduler", address)  # fmt: skip
    says(message, f"no Dask scheduler answers at {address}", "--scheduler")


def test_workers_of_another_version_are_refused(refused, tiny, model, out, tmp_path):
    older = tmp_path / "packages" / "hsi_pipeline-0.0.1.dist-info" / "METADATA"
    older.parent.mkdir(parents=True)
    older.write_text("Metadata-Version: 2.1\nName: hsi-pipeline\nVersion: 0.0.1\n")
    options = {"n_workers": 0, "processes": False, "protocol": "tcp", "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny",
             "--no-dashboard"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(older.parents[1])},
        )  # fmt: skip
        try:
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
            message = refused("classify", tiny.path, model, "--out", out / "map.zarr",
                              "--scheduler", address)  # fmt: skip
        finally:
            process.terminate()
            process.wait()
    words = f"has hsi_pipeline 0.0.1, this program {__version__}"
    says(message, words, "start the workers in the same environment")


def test_the_wait_for_a_scheduler_is_short():
    assert re.fullmatch(r"(\d|1\d)s", scheduling._CONNECT_TIMEOUT)


@pytest.mark.parametrize(
    "address",
    ["nonsense", "foo://1.2.3.4:5", "tcp://127.0.0.1:port", "tcp://127.0.0.1", "host:99999", ""],
)
def test_an_address_that_is_none(refused, tiny, model, out, address):
    """Dask's client would wait for half a minute and end with a traceback."""
    message = refused("classify", tiny.path, model, "--out", out / "map.zarr",
                      "--scheduler", address)  # fmt: skip
    says(message, f"--scheduler {address} is not the address", "tcp://127.0.0.1:8786")


# --- results that cannot be written -------------------------------------------------------------


def writers(tiny, model, class_map, folder):
    """Each command with a target in a folder."""
    yield "model.safetensors", ("train", tiny.path, tiny.labels, *LABELS, *FAST)
    yield "map.zarr", ("classify", tiny.path, model)
    yield "map.tif", ("classify", tiny.path, model)
    yield "accuracy.json", ("evaluate", tiny.path, tiny.labels, model, *LABELS)
    yield "landcover.gpkg", ("polygonize", class_map)


def test_existing_results_stay_unless_overwrite_is_said(refused, cli, tiny, model, class_map, out):
    for name, command in writers(tiny, model, class_map, out):
        target = out / name
        if target.suffix == ".zarr":
            shutil.copytree(class_map, target)
        else:
            target.write_text("precious")
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        message = refused(*command, "--out", target, left=[p.name for p in out.rglob("*")])
        says(message, f"{target} exists; choose another name or pass --overwrite")
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
        code, _, err = cli(*command, "--out", target, "--overwrite")
        assert code == 0, err
        if target.is_file():
            assert target.read_bytes()[:8] != b"precious"
        assert not [p for p in out.iterdir() if p.name.startswith(".")]
        shutil.rmtree(out)
        out.mkdir()


def test_a_failure_with_overwrite_leaves_the_old_result(refused, tiny, model, tmp_path, out):
    """The scene breaks off in its last blocks, which is noticed in the middle of the work."""
    scene = write_scene(tmp_path / "cut.tif", np.tile(tiny.pixels, (1, 3, 3)))
    scene.write_bytes(scene.read_bytes()[: -scene.stat().st_size // 3])
    for name in ("map.zarr", "map.tif"):
        target = out / name
        if name == "map.zarr":
            target.mkdir()
            (target / ".zgroup").write_text('{"zarr_format": 2}')
        else:
            target.write_text("precious")
        left = sorted(p.name for p in out.rglob("*"))
        message = refused(
            "classify", scene, model, "--out", target, "--overwrite", "--chunk", 40, left=left
        )
        says(message, scene)
    assert target.read_text() == "precious"


def test_targets_that_cannot_be_written(refused, tiny, model, class_map, tmp_path, out):
    (tmp_path / "file").write_text("no folder")
    for name, command in writers(tiny, model, class_map, out):
        for folder in (tmp_path / "none", tmp_path / "file"):
            says(refused(*command, "--out", folder / name), folder / name)
        wrong = out / f"{name}.xyz"
        says(refused(*command, "--out", wrong), wrong, "suffix", Path(name).suffix)
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_folder_that_is_no_store_is_not_thrown_away(refused, tiny, model, out):
    (out / "map.zarr").mkdir()
    (out / "map.zarr" / "thesis.txt").write_text("precious")
    message = refused("classify", tiny.path, model, "--out", out / "map.zarr", "--overwrite",
                      left=["map.zarr", "thesis.txt"])  # fmt: skip
    says(message, "no Zarr store")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(refused, tiny, model, out):
    out.chmod(0o555)
    says(refused("classify", tiny.path, model, "--out", out / "map.tif"), out, "permission")


# --- workflow files -----------------------------------------------------------------------------


def write_workflow(path, tiny, out, **changes):
    labels = {"path": str(tiny.labels), "label_column": "code", "name_column": "name"}
    values = {
        "scene": str(tiny.path),
        "out": str(out),
        "device": "cpu",
        "train": {"labels": labels, "model": "spectral", "epochs": 1},
        "classify": {},
        **changes,
    }
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"polygonise": {}}, "unknown key 'polygonise'; did you mean 'polygonize'"),
        ({"classify": {"formats": "png"}}, "classify.formats.0"),
        ({"train": None}, "train.labels"),
        ({"evaluate": {"labels": {"path": "none.gpkg"}}}, "none.gpkg"),
        ({"device": "cuda:77"}, "device 'cuda:77'"),
        ({"scene": "none.tif"}, "none.tif"),
    ],
)
def test_workflows_that_cannot_run(refused, tiny, tmp_path, out, changes, words):
    """Found out before the training, so that nothing is left."""
    workflow = write_workflow(tmp_path / "workflow.yaml", tiny, out, **changes)
    says(refused("run", workflow), words)


def test_a_workflow_whose_folder_cannot_be_made(refused, tiny, tmp_path, out):
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        workflow = write_workflow(tmp_path / "workflow.yaml", tiny, folder)
        says(refused("run", workflow), folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "out", "workflow.yaml"]


def test_no_workflow(refused, tmp_path):
    says(refused("run", tmp_path / "none.yaml"), tmp_path / "none.yaml", "no such workflow file")


# --- as a program -------------------------------------------------------------------------------


def test_as_a_program_errors_go_to_stderr_with_exit_code_2(tiny, tmp_path):
    done = program("info", tmp_path / "none.tif")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path / 'none.tif'}")
    assert done.stderr.count("\n") == 1


def test_as_a_program_quiet_is_quiet_about_warnings_too(tmp_path):
    classes = class_field(24, 24)
    scene = write_scene(tmp_path / "scene.tif", make_pixels(classes))
    field_polygons(classes, TRANSFORM).to_file(tmp_path / "labels.gpkg")
    model, labels = tmp_path / "m.safetensors", tmp_path / "labels.gpkg"
    done = program("train", scene, labels, "--out", model, *LABELS, *FAST, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = program("evaluate", scene, labels, model, *LABELS, "--quiet",
                   "--out", tmp_path / "accuracy.json")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "overall accuracy" in done.stdout
    assert json.loads((tmp_path / "accuracy.json").read_text())["pixels"] > 0


def test_labels_that_differ_only_in_case_are_warned_of(cli, tiny, tmp_path):
    frame = gpd.read_file(tiny.labels)
    frame.loc[frame.index[frame["name"] == "tree"][:4], "name"] = "Tree"
    frame.to_file(tmp_path / "labels.gpkg")
    code, _, err = cli(
        "train", tiny.path, tmp_path / "labels.gpkg", "--label-column", "name", *FAST,
        "--no-baselines", "--out", tmp_path / "model.safetensors",
    )  # fmt: skip
    assert code == 0
    assert "warning: 'Tree', 'tree' differ only in case, and are classes of their own" in err


def test_numbers_without_their_scale_are_warned_of(cli, tiny, tmp_path):
    assert "warning" not in cli("info", tiny.path)[2]
    scene = tmp_path / "scene.tif"
    shutil.copy(tiny.path, scene)
    with rasterio.open(scene, "r+") as raster:
        raster.scales = [1.0] * raster.count
    code, _, err = cli("info", scene)
    assert code == 0
    assert "warning: values reach " in err
    assert "the scale lacks" in err
