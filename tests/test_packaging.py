"""The three lists of dependencies name the same packages, and the pins lie in the ranges."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def requirements(lines):
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


# what conda-forge calls otherwise
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def test_conda_environment_names_the_packages_of_pyproject_with_the_same_ranges():
    file = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = {CONDA_NAMES.get(n, n): r for n, r in requirements(file["dependencies"]).items()}
    python = conda.pop("python")
    build = requirements(PYPROJECT["build-system"]["requires"])
    assert conda.pop("setuptools").specifier == build["setuptools"].specifier
    wanted = requirements(PROJECT["dependencies"])
    # to install this package, and a part of GDAL that PyPI's wheels have inside
    assert conda.keys() - wanted.keys() == {"pip", "libgdal-jp2openjpeg"}
    assert wanted.keys() <= conda.keys()
    assert {n: conda[n].specifier for n in wanted} == {n: r.specifier for n, r in wanted.items()}
    assert str(python.specifier) == PROJECT["requires-python"]
    assert file["channels"] == ["conda-forge", "nodefaults"]


def test_constraints_pin_every_direct_dependency_inside_its_range():
    pins = {canonicalize_name(name): pin for name, pin in constraints().items()}
    for extra in (PROJECT["dependencies"], PROJECT["optional-dependencies"]["dev"]):
        for name, requirement in requirements(extra).items():
            assert name in pins, f"{name} is not pinned; run 'make constraints'"
            assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]}"


def test_constraints_hold_exact_versions_and_nothing_else():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line), (
            line
        )


def test_torch_is_not_the_version_whose_torchvision_does_not_fit():
    torch = requirements(PROJECT["dependencies"])["torch"]
    assert not torch.specifier.contains("2.13.0")


@pytest.mark.parametrize("name", ["torch", "torchvision", "torchgeo", "rasterio", "zarr", "dask"])
def test_what_runs_here_is_what_the_constraints_say(name):
    assert version(name).split("+")[0] == constraints()[name].split("+")[0]
