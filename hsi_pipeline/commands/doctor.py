"""Checks the installation: Python, packages, and by further modules PyTorch, GDAL and the machine.

Nothing that may be broken is imported before its check.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import hsi_pipeline
from hsi_pipeline.commands.checks import Check, Finding, run_checks
from hsi_pipeline.commands.doctor_gdal import check_gdal, check_postgis, check_proj
from hsi_pipeline.commands.doctor_machine import check_disk, check_machine
from hsi_pipeline.commands.doctor_torch import check_torch, check_torchvision

if TYPE_CHECKING:
    from hsi_pipeline.commands.terminal import Terminal

_DISTRIBUTION = "hsi-pipeline"
_OPTIONS = {
    "pygeoapi": "serve (pip install pygeoapi)",
    "gcsfs": "HDF5, netCDF and Zarr at gs:// (pip install gcsfs)",
    "dask-cuda": "several GPUs (pip install dask-cuda)",
}


def doctor(terminal: Terminal | None) -> bool:
    """Check the installation, and say how to mend what is wrong.

    Args:
        terminal: Where to say it; None prints, for where what the terminal needs is missing.

    Returns:
        Whether nothing is wrong.
    """
    try:
        Path.cwd()
    except OSError as error:  # Torch does not load there, and ends the program
        gone = Finding("wrong", f"the current folder is gone ({error.strerror})", "cd to another")
        return run_checks([("folder", lambda: iter([gone]))], terminal, "doctor")
    checks: list[tuple[str, Check]] = [
        ("Python", check_python),
        ("packages", check_packages),
        ("PyTorch", check_torch),
        ("torchvision", check_torchvision),
        ("GDAL", check_gdal),
        ("PROJ", check_proj),
        ("PostGIS", check_postgis),
        ("machine", check_machine),
        ("disk", check_disk),
        ("optional parts", check_options),
    ]
    return run_checks(checks, terminal, "doctor")


def check_python() -> Iterator[Finding]:
    """Look at Python's version, and at this package's."""
    from packaging.specifiers import SpecifierSet

    asked = metadata.metadata(_DISTRIBUTION)["Requires-Python"]
    text = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if SpecifierSet(asked).contains(platform.python_version(), prereleases=True):
        yield Finding("ok", f"{text}: {sys.executable}")
    else:
        mend = f"make an environment with Python {asked} and install hsi-pipeline there"
        yield Finding("wrong", f"{text}, but {asked} is needed", mend)
    own, installed = hsi_pipeline.__version__, metadata.version(_DISTRIBUTION)
    place = Path(hsi_pipeline.__file__).parent
    if own == installed:
        yield Finding("ok", f"hsi-pipeline {own}: {place}")
    else:
        wrong = f"hsi-pipeline {own} runs from {place}, but {installed} is installed"
        mend = "install it anew (pip install .), or start it from another folder"
        yield Finding("wrong", wrong, mend)


def check_packages() -> Iterator[Finding]:
    """Look whether all packages that are needed are there, in versions that are."""
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in metadata.requires(_DISTRIBUTION) or []]
    needed = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    faults = []
    for one in needed:
        found = _version(one.name)
        if found is None:
            yield Finding("wrong", f"{one.name} is not installed, {one} is needed")
        elif not one.specifier.contains(found, prereleases=True):
            yield Finding("wrong", f"{one.name} {found} is installed, {one} is needed")
        else:
            continue
        faults.append(f'"{one}"')
    if faults:
        yield Finding("note", f"to mend these: pip install {' '.join(faults)}")
    else:
        yield Finding("ok", f"all {len(needed)} packages that are needed are there")


def check_options() -> Iterator[Finding]:
    """Name parts that not everybody needs."""
    for name, purpose in _OPTIONS.items():
        found = _version(name)
        if found is None:
            yield Finding("note", f"{name} is not installed; only needed for {purpose}")
        else:
            yield Finding("ok", f"{name} {found}")
    from hsi_pipeline.commands.qgis_profiles import find_profiles

    tied = [str(one.folder) for one in find_profiles(None) if one.plugin.is_dir()]
    if tied:
        yield Finding("ok", f"plugin for QGIS in {', '.join(tied)} (hsi-pipeline qgis doctor)")
    else:
        yield Finding("note", "the plugin is not in QGIS; hsi-pipeline qgis install puts it there")


def _version(name: str) -> str | None:
    """Return the version of a package that is installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
