"""The first minute: what to do next, the demo, versions, completion, and what is mistyped."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import rasterio
import torch
import yaml
from typer.main import get_command

from hsi_pipeline import __version__, config
from hsi_pipeline.cli import _PANELS, app
from hsi_pipeline.commands import choices, demo, designs, versions
from hsi_pipeline.commands.first_steps import FIRST_STEPS
from hsi_pipeline.commands.terminal import TERMINALS
from hsi_pipeline.errors import InputError, did_you_mean
from hsi_pipeline.estimators import BASELINES
from hsi_pipeline.inference import PRECISIONS
from hsi_pipeline.map_layers import OPTIONAL_LAYERS
from hsi_pipeline.models import MODELS
from hsi_pipeline.mosaic import Rule
from hsi_pipeline.polygons.minimum_area import Join
from hsi_pipeline.reference_sample import ALLOCATIONS, DESIGNS
from hsi_pipeline.resampling import FILLS, METHODS
from hsi_pipeline.scene.quality import FLAGS, MASKS

ROOT = Path(__file__).parents[1]
PROGRAM = Path(sys.executable).with_name("hsi-pipeline")
HEAVY = ("torch", "numpy", "pandas", "xarray", "dask", "rasterio", "pyogrio", "yaml", "pydantic")
SAMPLE_FILES = {f"input/{name}" for name in ("scene.tif", "train.gpkg", "test.gpkg", "classes.csv")}


def program(*arguments, code="from hsi_pipeline.cli import main; main()", **options):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


def files_of(folder):
    """Return content and time of each file of a folder, by its name in it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in paths
    }


def words(text):
    """Return a text without the frames that Typer draws."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


# --- without a command, and help ------------------------------------------------------------------


def test_without_a_command_it_says_what_to_do_next(cli):
    code, out, err = cli()
    assert (code, out, err) == (0, f"{FIRST_STEPS}\n", "")
    assert out.startswith(f"hsi-pipeline {__version__}: ")
    assert max(map(len, out.splitlines())) <= 100


def test_the_commands_that_it_names_are_there_with_their_options():
    shown = re.findall(r"^  hsi-pipeline (\S+)(.*)$", FIRST_STEPS, re.M)
    group = get_command(app)
    commands = {name for name, _ in shown}
    assert {"demo", "info", "train", "classify", "polygonize", "doctor"} <= commands
    for name, rest in shown:
        if name == "--help":
            continue
        options = {option for param in group.commands[name].params for option in param.opts}
        options.add("--help")
        assert {word for word in shlex.split(rest) if word.startswith("--")} <= options


@pytest.mark.parametrize("group", ["archive", "qgis"])
def test_groups_without_a_command_show_their_help(cli, group):
    code, out, err = cli(group)
    assert code == 2
    assert "Commands" in out + err
    for name in get_command(app).commands[group].commands:
        assert name in out + err


def test_help_lists_every_command_under_a_heading_in_order(cli):
    _, out, _ = cli("--help")
    headings = [line.strip("╭─╮ ") for line in out.splitlines() if line.startswith("╭")]
    assert headings == ["Options", *_PANELS]
    listed = re.findall(r"^│ ([a-z]+)  ", out, re.M)
    assert listed[0] == "demo"
    assert set(listed) == set(get_command(app).commands)


@pytest.mark.parametrize("command", ["train", "classify", "polygonize", "assess", "run"])
def test_options_without_a_value_do_not_look_as_if_they_took_one(cli, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = cli(command, "--help")
    assert "--overwrite" in out
    assert "bool" not in out
    assert not re.search(r"--[a-z-]+…", out)  # all names are whole


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clasify"], "No such command 'clasify'. Did you mean 'classify'?"),
        (["polygonise", "map.tif"], "Did you mean 'polygonize'?"),
        (["archive", "lst"], "Did you mean 'list'?"),
        (["classify", "a", "b", "--out", "c", "--precison", "auto"], "--precision"),
        (["--versoin"], "--version"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_is_like_it(cli, arguments, said):
    code, _, err = cli(*arguments)
    assert code == 2
    assert said in words(err)


# --- paths typed wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["info", "scen.tif"], "scen.tif: no such file; did you mean scene.tif?"),
        (["info", "SCENE.TIF"], "SCENE.TIF: no such file; did you mean scene.tif?"),
        (["run", "./workflow.yml"], "no such workflow file; did you mean workflow.yaml?"),
        (["polygonize", "maps.tif", "--out", "p.gpkg"], "map.tif?"),
        (["mosaic", "maps.tif", "--out", "m.tif"], "maps.tif: no such file; did you mean map.tif?"),
        (["info", "other.tif"], "error: other.tif: no such file\n"),
    ],
)
def test_a_path_typed_wrong_is_answered_with_what_is_like_it(
    cli, tmp_path, monkeypatch, command, said
):
    for name in ("scene.tif", "workflow.yaml", "map.tif", ".scan.tif"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(*command)
    assert code == 2
    assert said in err
    assert err.count("error: ") == 1


def test_the_folder_is_named_that_is_not_there(tmp_path):
    (tmp_path / "data" / "2024").mkdir(parents=True)
    given = tmp_path / "dta" / "2024" / "scene.tif"
    assert did_you_mean(given) == (
        f"; there is no folder {tmp_path / 'dta'}, did you mean {tmp_path / 'data'}?"
    )
    other = tmp_path / "elsewhere" / "scene.tif"
    assert did_you_mean(other) == f"; there is no folder {tmp_path / 'elsewhere'}"


def test_addresses_and_full_folders_are_not_searched(tmp_path, monkeypatch):
    assert did_you_mean("s3://bucket/scene.tif") == ""
    assert did_you_mean("/vsizip/scene.zip/scene.tif") == ""
    (tmp_path / "scene.tif").touch()
    monkeypatch.setattr("hsi_pipeline.errors._MOST_NAMES", 0)
    assert did_you_mean(tmp_path / "scen.tif") == ""


# --- versions -------------------------------------------------------------------------------------


def test_versions_are_those_at_work(cli):
    code, out, err = cli("--version")
    lines = out.splitlines()
    assert (code, err, lines[0]) == (0, "", f"hsi-pipeline {__version__}")
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}." in lines[1]
    cuda = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for processors"
    assert lines[2].startswith(f"torch {torch.__version__}, {cuda}")
    assert lines[3] == f"GDAL {rasterio.__gdal_version__} of rasterio {rasterio.__version__}"
    assert "pyogrio" in lines[4]
    assert len(lines) == 6


def test_versions_do_not_import_torch():
    code = (
        "import sys\nfrom hsi_pipeline.commands.versions import describe_versions\n"
        "describe_versions()\nassert 'torch' not in sys.modules\n"
    )
    assert program(code=code).returncode == 0


def test_versions_are_told_where_torch_is_broken_or_missing(tmp_path):
    broken = tmp_path / "broken" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libtorch.so: cannot open')")
    (broken.parent / "rasterio.py").write_text("raise ImportError('libgdal.so: cannot open')")
    run = [sys.executable, "-m", "hsi_pipeline", "--version"]
    options = {"capture_output": True, "text": True, "check": True, "timeout": 60}
    there = subprocess.run(run, env=os.environ | {"PYTHONPATH": str(broken.parent)}, **options)
    assert there.stdout.startswith(f"hsi-pipeline {__version__}\n")
    assert "of which no more can be read" in there.stdout
    assert "rasterio cannot be imported (libgdal.so: cannot open)" in there.stdout
    # an interpreter that has typer alone, and this package
    import typer

    alone = tmp_path / "alone"
    alone.mkdir()
    for module in ("typer", "rich", "markdown_it", "mdurl", "pygments", "shellingham", "click"):
        place = Path(typer.__file__).parents[1] / module
        if place.exists():
            (alone / module).symlink_to(place)
    for name in ("typing_extensions.py", "annotated_doc", "pydantic", "pydantic_core",
                 "annotated_types", "typing_inspection"):  # fmt: skip
        place = Path(typer.__file__).parents[1] / name
        if place.exists():
            (alone / name).symlink_to(place)
    without = subprocess.run(
        [sys.executable, "-S", *run[1:]],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(alone)])}, **options,
    )  # fmt: skip
    assert without.stdout.startswith(f"hsi-pipeline {__version__}\n")
    assert "torch is not installed" in without.stdout
    assert "rasterio cannot be imported (No module named 'rasterio')" in without.stdout


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return FAILS; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDriverGetVersion(int *version) { *version = 13010; return 0; }
int cuDeviceGet(int *device, int number) { *device = number + 7; return 0; }
int cuDeviceGetName(char *name, int size, int device)
{ strncpy(name, device == 7 ? "Model A" : "Model B", size); return 0; }
"""


@pytest.mark.parametrize(
    ("fails", "count", "said"),
    [
        (0, 2, "GPU Model A, Model B; driver for CUDA up to 13.1"),
        (0, 0, "NVIDIA driver without a GPU (CUDA error 0)"),
        (999, 1, "NVIDIA driver without a GPU (CUDA error 999)"),
    ],
)
def test_gpus_are_asked_of_the_driver(tmp_path, monkeypatch, fails, count, said):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, to make a driver with")
    source, library = tmp_path / "driver.c", tmp_path / "driver.so"
    source.write_text(DRIVER.replace("FAILS", str(fails)).replace("COUNT", str(count)))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setattr(versions, "_DRIVER", str(library))
    assert versions.describe_versions()[-1] == said


# --- the demo -------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Let the sample's workflow train for a moment only, and leave out what takes long."""
    file = demo.sample_file
    text = file("workflows/landcover.yaml").read_text()
    steps = yaml.safe_load(text)
    lines = [line for line in text.splitlines() if not line.startswith("  layers")]
    fast = "\n".join(lines).replace("  seed: 0", "  seed: 0\n  model: spectral\n  epochs: 1")
    assert yaml.safe_load(fast)["train"] == steps["train"] | {"model": "spectral", "epochs": 1}
    (tmp_path / "quick.yaml").write_text(fast)
    monkeypatch.setattr(
        demo,
        "sample_file",
        lambda name: tmp_path / "quick.yaml" if name.startswith("workflows") else file(name),
    )
    one = {"logistic_regression": BASELINES["logistic_regression"]}
    monkeypatch.setattr("hsi_pipeline.commands.judging.BASELINES", one)


def test_the_demo_makes_what_it_says(cli, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_of(ROOT / "sample_data"), files_of(ROOT / "workflows")
    code, out, err = cli("demo")
    assert code == 0, err
    results = tmp_path / "results" / "sample"
    made = {line for line in out.splitlines() if line.startswith("results/sample/")}
    assert {f"results/sample/{name}" for name in ("report.html", "map.tif", "item.json")} <= made
    assert all((tmp_path / name).exists() for name in made)
    assert (files_of(ROOT / "sample_data"), files_of(ROOT / "workflows")) == before
    assert set(files_of(results / "input")) == {Path(name).name for name in SAMPLE_FILES}
    end = err[err.index("look at") :]
    assert "look at report.html first" in end
    assert "results/sample/landcover.yaml is what was run" in end
    assert "hsi-pipeline train scene.tif polygons.gpkg" in end
    # a second run refuses before it does anything
    there = files_of(results)
    code, _, err = cli("demo")
    assert code == 2
    assert err == (
        "error: results/sample holds files that the demo writes (" + ", ".join(demo.RESULTS) + "), "
        "of an earlier run or your own; --out FOLDER keeps them, --overwrite replaces them\n"
    )
    assert files_of(results) == there
    # the folder stands for itself: it may be moved, and its workflow run again
    moved = tmp_path / "moved to Wälder"
    results.rename(moved)
    settings = config.load(moved / "landcover.yaml")
    assert Path(settings.scene).exists()
    assert settings.out.samefile(moved)


def test_the_workflow_of_the_demo_is_that_of_the_checkout(tmp_path):
    ours = config.load(ROOT / "workflows" / "landcover.yaml").model_dump()
    copy = config.load(demo._copy_sample(tmp_path, overwrite=False)).model_dump()

    def named(part):
        if isinstance(part, dict):
            return {key: named(value) for key, value in part.items()}
        return Path(part).name if isinstance(part, Path) or "/" in str(part) else part

    assert named(copy) == named(ours) | {"out": tmp_path.name}
    text = (tmp_path / "landcover.yaml").read_text()
    assert ".." not in text.replace("...", "")
    for path in (copy["scene"], copy["train"]["labels"]["path"], copy["assess"]["labels"]["path"]):
        assert Path(path).parent == tmp_path / "input"
        assert Path(path).exists()


def test_the_demo_does_not_replace_files_of_others(cli, tmp_path):
    (tmp_path / "landcover.yaml").write_text("scene: mine.tif\n")
    code, _, err = cli("demo", "--out", tmp_path)
    assert code == 2
    assert f"{tmp_path / 'landcover.yaml'} exists and is another file; --overwrite" in err
    assert (tmp_path / "landcover.yaml").read_text() == "scene: mine.tif\n"
    assert not list(tmp_path.rglob(".*"))


def test_the_demo_says_when_it_cannot_write(cli, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = cli("demo", "--out", tmp_path / "file" / "results")
    assert code == 2
    assert "cannot be written (Not a directory); give another folder by --out" in err


def test_the_demo_says_when_its_sample_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(demo.hsi_pipeline, "__file__", str(tmp_path / "a" / "__init__.py"))
    with pytest.raises(InputError, match=r"scene\.tif of the sample is not in this installation"):
        demo.sample_file("sample_data/scene.tif")


def test_interrupted_before_any_result_the_demo_begins_again(tmp_path):
    first = demo._copy_sample(tmp_path, overwrite=False)
    times = files_of(tmp_path)
    (tmp_path / "input" / "test.gpkg").unlink()  # as if it had stopped there
    assert demo._copy_sample(tmp_path, overwrite=False) == first
    again = files_of(tmp_path)
    assert set(again) == SAMPLE_FILES | {"landcover.yaml"}
    del times["input/test.gpkg"], again["input/test.gpkg"]
    assert again == times  # what was there was not written anew


# --- wheels and source distributions hold the sample ----------------------------------------------


def copied_project(folder):
    """Copy what a build needs."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("hsi_pipeline", "sample_data", "workflows"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def build(kind, source, target):
    """Build a distribution without a network; returns its file."""
    target.mkdir(exist_ok=True)
    code = (
        f"from setuptools import build_meta as b; print('built', b.build_{kind}({str(target)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return target / done.stdout.split("built ")[-1].strip()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Return a wheel, and one that was made from a source distribution."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "source").mkdir()
    source = copied_project(folder / "source")
    wheel = build("wheel", source, folder / "dist")
    with tarfile.open(build("sdist", source, folder / "dist")) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.glob("hsi_pipeline-*")
    return wheel, build("wheel", unpacked, folder / "again")


def test_wheels_hold_the_sample_and_are_those_of_the_source_distribution(distributions):
    first, second = (zipfile.ZipFile(wheel) for wheel in distributions)
    with first, second:
        assert sorted(first.namelist()) == sorted(second.namelist())
        for name in (*demo._SAMPLE, "README.md"):
            file = ROOT / "sample_data" / name
            assert first.read(f"hsi_pipeline/sample_data/{name}") == file.read_bytes()
        workflow = first.read("hsi_pipeline/workflows/landcover.yaml")
        assert workflow == (ROOT / "workflows" / "landcover.yaml").read_bytes()
        tops = {name.split("/")[0] for name in first.namelist()}
        assert tops == {"hsi_pipeline", f"hsi_pipeline-{__version__}.dist-info"}
        code = {name for name in first.namelist() if name.endswith(".py")}
        ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "hsi_pipeline").rglob("*.py")}
        assert code == ours


def test_an_installed_wheel_runs_the_demo_from_what_it_holds(distributions, tmp_path):
    with zipfile.ZipFile(distributions[0]) as wheel:
        wheel.extractall(tmp_path / "site")
    before = files_of(tmp_path / "site")
    code = (
        "from hsi_pipeline.commands import demo; import sys\n"
        "print(demo.sample_file('workflows/landcover.yaml'))\n"
        "print(demo._copy_sample(demo.Path(sys.argv[1]), overwrite=False))\n"
    )
    done = program(
        tmp_path / "out", code=code, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(tmp_path / "site"))
    assert set(files_of(tmp_path / "out")) == SAMPLE_FILES | {"landcover.yaml"}
    assert files_of(tmp_path / "site") == before


# --- completion in shells -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """Return a function that has a real bash complete a line: (its answers)."""
    shell = shutil.which("bash")
    if shell is None or not PROGRAM.exists():
        pytest.skip("no bash, or the package is not installed as a command")
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {
        "HOME": str(home), "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    }  # fmt: skip
    run = {"env": environment, "capture_output": True, "text": True, "timeout": 60, "cwd": home}
    # Typer asks which shell started it
    done = subprocess.run([shell, "-c", "hsi-pipeline --install-completion; :"], **run)
    assert done.returncode == 0, done.stderr
    assert "bash completion installed" in done.stdout

    def complete(*words):
        script = (
            'source "$HOME/.bashrc"\n'
            "how=$(complete -p hsi-pipeline); function=${how##*-F }; function=${function%% *}\n"
            f"COMP_WORDS=({' '.join(map(shlex.quote, ['hsi-pipeline', *words]))})\n"
            f"COMP_CWORD={len(words)}\n"
            "$function hsi-pipeline\n"
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run([shell, "--norc", "-c", script], **run)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["cla"], ["classify"]),
        (["archive", ""], ["list"]),
        (["classify", "--over"], ["--overwrite"]),
        (["classify", "a.tif", "m", "--precision", ""], ["float32", "bfloat16", "auto"]),
        (["classify", "a.tif", "m", "--layers", "entropy,m"], ["entropy,margin"]),
        (["info", "a.tif", "--mask", "cloud,s"], ["cloud,snow", "cloud,saturated"]),
        (["info", "sce"], []),  # bash itself offers files then
    ],
)
def test_bash_completes_commands_options_and_values(bash, typed, offered):
    assert bash(*typed) == offered


@pytest.mark.parametrize(
    ("shell", "variables", "expected"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "hsi-pipeline mosaic a --rule "},
         ["confident", "newest", "majority"]),
        ("fish", {"_TYPER_COMPLETE_ARGS": "hsi-pipeline mosaic a --rule ",
                  "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, ["confident", "newest", "majority"]),
        ("powershell", {"_TYPER_COMPLETE_ARGS": "hsi-pipeline mosaic a --rule n",
                        "_TYPER_COMPLETE_WORD_TO_COMPLETE": "n"}, ["newest"]),
    ],
)  # fmt: skip
def test_other_shells_are_answered_as_they_ask(cli, monkeypatch, shell, variables, expected):
    for name, value in {"_HSI_PIPELINE_COMPLETE": f"complete_{shell}", **variables}.items():
        monkeypatch.setenv(name, value)
    code, out, err = cli()
    assert (code, err) == (0, "")
    assert re.findall(r"confident|newest|majority", out) == expected
    monkeypatch.setenv("_HSI_PIPELINE_COMPLETE", f"source_{shell}")
    code, out, _ = cli()
    assert code == 0
    assert f"complete_{shell}" in out


def test_nothing_heavy_is_imported_to_complete_or_to_say_what_to_do_next():
    code = (
        "import sys\nfrom hsi_pipeline.cli import main\nsys.argv = ['hsi-pipeline']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        f"found = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not [name for name in found if name != 'pydantic'], found\n"
    )
    asked = {"COMP_WORDS": "hsi-pipeline classify a m --precision ", "COMP_CWORD": "5"}
    done = program(code=code, env=os.environ | asked | {"_HSI_PIPELINE_COMPLETE": "complete_bash"})
    assert (done.returncode, done.stdout.split()) == (0, ["float32", "bfloat16", "auto"])
    assert program(code=code).stdout == f"{FIRST_STEPS}\n"


def test_the_values_offered_are_those_accepted():
    assert (*MODELS, *BASELINES) == choices.MODELS
    assert choices.LAYERS == OPTIONAL_LAYERS
    assert set(choices.MASKS) == set(MASKS)
    assert tuple(FLAGS) == choices.FLAGS
    assert (choices.RESAMPLING, choices.FILLS) == (METHODS, FILLS)
    assert choices.PRECISIONS == PRECISIONS
    assert choices.PROGRESS == TERMINALS
    assert Join.__args__ == choices.JOINS
    assert Rule.__args__ == choices.RULES
    assert (choices.DESIGNS, choices.ALLOCATIONS) == (DESIGNS, ALLOCATIONS)
    assert choices.STATED_DESIGNS == designs.STATED_DESIGNS


def test_wrong_values_are_still_refused_in_our_words(cli, tiny, model, tmp_path):
    out = tmp_path / "map.tif"
    code, _, err = cli("classify", tiny.path, model, "--out", out, "--resampling", "cubic")
    assert code == 2
    assert "resampling 'cubic' is not one of auto, nearest, linear, gaussian" in err


def test_every_command_has_its_help_in_plain_words():
    group = get_command(app)
    for name in group.list_commands(None):
        command = group.commands[name]
        assert command.help, name
        for param in command.params:
            assert param.help, f"{name}: {param.name}"


def test_the_demo_leaves_a_folder_alone_that_has_a_map_of_its_users(cli, tmp_path):
    (tmp_path / "map.tif").write_text("mine")
    code, _, err = cli("demo", "--out", tmp_path)
    assert code == 2
    assert "(map.tif), of an earlier run or your own" in err
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
    assert (tmp_path / "map.tif").read_text() == "mine"
