"""Whether doctor sees what is broken, names the mend, and goes on: in broken environments."""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import psutil
import pytest
import torch

from hsi_pipeline import __version__
from hsi_pipeline.commands import doctor_machine
from hsi_pipeline.commands.checks import Finding, run_checks
from hsi_pipeline.commands.doctor_torch import check_torch
from hsi_pipeline.commands.terminal import Terminal

ROOT = Path(__file__).parents[1]
MISLEADING = ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA", "GDAL_DRIVER_PATH", "PYTHONPATH")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in MISLEADING:
        monkeypatch.delenv(name, raising=False)


def findings_of(check):
    return [(finding.state, finding.text) for finding in check()]


def run(*command, folder, **variables):
    return subprocess.run(
        [*map(str, command)], cwd=folder, env={**os.environ, **variables},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_all_is_well_here(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("doctor", "--json")
    found = json.loads(out)["results"]["doctor"]
    wrong = [check for check in found["checks"] if check["state"] == "wrong"]
    assert (code, wrong, found["wrong"]) == (0, [], 0)
    texts = "\n".join(check["text"] for check in found["checks"])
    for words in (
        "Python 3.", f"hsi-pipeline {__version__}: {ROOT / 'hsi_pipeline'}",
        "packages that are needed",
        f"PyTorch {torch.__version__}", "fits it", "of rasterio", "JP2OpenJPEG", "of pyogrio",
        "rasterio transforms", "pyproj transforms", "psycopg", "memory", "cores",
        f"free in the current folder ({tmp_path})", "free in the temporary folder", "dask-cuda",
        "the plugin is not in QGIS; hsi-pipeline qgis install puts it there",
    ):  # fmt: skip
        assert words in texts
    assert "all is well" in err
    assert not list(tmp_path.iterdir())  # what was tried out is gone


def test_what_is_broken_is_named_with_its_mend_and_the_rest_is_checked(tmp_path):
    """Another program's PROJ files, a PyTorch that does not load, a package that is too old."""
    broken = tmp_path / "broken"
    (broken / "torch").mkdir(parents=True)
    (broken / "torch" / "__init__.py").write_text(
        "raise OSError('libcudart.so.12: cannot open shared object file')\n"
    )
    (broken / "zarr-1.0.dist-info").mkdir()
    (broken / "zarr-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: zarr\nVersion: 1.0\n"
    )
    result = run(
        sys.executable, "-m", "hsi_pipeline", "doctor",
        folder=tmp_path, PYTHONPATH=str(broken), PROJ_DATA=str(broken),
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stdout.splitlines()
    torch_place = lines.index(
        "wrong  PyTorch does not load: OSError: libcudart.so.12: cannot open shared object file; "
        f"it is in {broken}/torch/__init__.py"
    )
    mend = "       -> pip install --force-reinstall torch torchvision"
    assert lines[torch_place + 1] == mend
    assert "wrong  zarr 1.0 is installed, zarr>=3.1 is needed" in lines
    assert 'note   to mend these: pip install "zarr>=3.1"' in lines
    (proj,) = [line for line in lines if "rasterio knows no coordinate systems" in line]
    assert "Cannot find proj.db" in proj
    assert lines[lines.index(proj) + 1] == (
        f"       -> PROJ_DATA={broken} leads to the files of another program (QGIS, OSGeo4W, "
        "PostGIS, conda); in this terminal: unset PROJ_DATA"
    )
    assert any(line.startswith("ok     pyproj transforms coordinates") for line in lines)
    assert any("free in the temporary folder" in line for line in lines)
    assert lines[-1] == "3 things are wrong"


def test_the_mend_for_proj_works_and_harmless_variables_are_only_named(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("GDAL_DATA", str(tmp_path))
    code, out, _ = cli("doctor")
    assert code == 0
    assert f"note   GDAL_DATA={tmp_path} is set for another program, and does no harm" in out


def test_it_runs_where_what_it_talks_by_is_missing(tmp_path):
    """An environment without dask and numpy: made of links to all else that is installed here."""
    packages = Path(sysconfig.get_paths()["purelib"])
    (tmp_path / "packages").mkdir()
    for path in packages.iterdir():
        if not path.name.lower().startswith(("dask", "numpy", "torch")):
            (tmp_path / "packages" / path.name).symlink_to(path)
    code = (
        "import sys; sys.path += [sys.argv.pop(1), sys.argv.pop(1)]\n"
        "from hsi_pipeline.cli import main\nmain()\n"
    )
    result = run(
        sys.executable, "-I", "-S", "-c", code, tmp_path / "packages", ROOT, "doctor",
        folder=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    for name in ("dask", "numpy", "torch"):
        assert f"wrong  {name} is not installed, {name}" in result.stdout
    assert "PyTorch does not load: ModuleNotFoundError: No module named 'torch'" in result.stdout
    assert 'pip install "dask>=' in result.stdout
    assert "wrong  GDAL: ModuleNotFoundError: No module named 'numpy'" in result.stdout
    assert "free in the current folder" in result.stdout


def test_a_check_that_fails_itself_is_a_finding_and_the_others_go_on(capsys):
    def begun_and_broken():
        yield Finding("ok", "the first half")
        raise RuntimeError("the second\n  half")

    checks = [("half", begun_and_broken), ("rest", lambda: [Finding("note", "rest", "try it")])]
    assert not run_checks(checks, Terminal(), "doctor")
    said = "ok     the first half\nwrong  half: RuntimeError: the second half\nnote   rest\n"
    assert capsys.readouterr().out == f"{said}       -> try it\n1 thing is wrong\n"
    assert run_checks(checks[1:], None, "doctor")
    assert capsys.readouterr().out == "note   rest\n       -> try it\nall is well\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that PyTorch sees")
@pytest.mark.parametrize("answers", [True, False])
def test_a_gpu_that_pytorch_does_not_see_is_named(tmp_path, monkeypatch, answers):
    program = tmp_path / "nvidia-smi"
    said = 'echo "NVIDIA H100 80GB HBM3, 550.54"' if answers else "exit 9"
    program.write_text(f"#!/bin/sh\n{said}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = check_torch()
    if not answers:  # a driver's program that is left over
        assert found.state == "ok"
        assert "no NVIDIA GPU here" in found.text
    elif torch.version.cuda:
        assert found.state == "wrong"
        assert (
            "sees no GPU, though there is one (NVIDIA H100 80GB HBM3; driver 550.54)" in found.text
        )
        assert "update NVIDIA's driver" in found.mend
    else:
        assert found.state == "note"
        assert "though there is an NVIDIA GPU (NVIDIA H100 80GB HBM3; driver 550.54)" in found.text
        assert "for a build with CUDA" in found.mend


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_that_pytorch_sees_is_named():
    (found,) = check_torch()
    assert found.state == "ok"
    assert f"sees {torch.cuda.get_device_name(0)}" in found.text


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(doctor_machine, "_CGROUPS", (str(tmp_path / "none"), str(limit)))
    total = psutil.virtual_memory().total
    for said, state, words in (
        ("max\n", "ok", ""),
        (f"{3 * 2**30}\n", "note", "; this program may use 3.0"),
        (f"{total * 8}\n", "ok", ""),  # no limit, as version 1 says it
    ):
        limit.write_text(said)
        memory, cores = doctor_machine.check_machine()
        assert (memory.state, "may use" in memory.text) == (state, bool(words))
        assert words in memory.text
        assert memory.mend == ("say classify --memory 1.5GiB" if words else "")
        assert cores.text == f"{len(os.sched_getaffinity(0))} cores of {os.cpu_count()}"


def test_folders_that_cannot_be_written_are_named(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    monkeypatch.chdir("/proc")
    here, temporary = doctor_machine.check_disk()
    assert here.state == "note"
    assert here.text.startswith("the current folder (/proc) cannot be written: ")
    assert temporary.state == "wrong"
    assert temporary.text.startswith("the temporary folder (/proc) cannot be written: ")
    assert "TMPDIR" in temporary.mend


def test_a_disk_that_is_nearly_full_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor_machine, "_LITTLE_GIB", 2**30)  # more than there is
    assert [state for state, _ in findings_of(doctor_machine.check_disk)] == ["note", "note"]


def test_a_folder_that_is_gone_is_named_before_torch_ends_the_program(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && {sys.executable} -P -m hsi_pipeline doctor"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "wrong  the current folder is gone" in done.stdout
