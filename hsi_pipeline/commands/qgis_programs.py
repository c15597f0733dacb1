"""The QGIS that is installed: its programs, and how they are run without a window."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hsi_pipeline.qgis_plugin.environment import NO_WINDOW, child_environment

_LIMIT_S = 60
_VERSION = re.compile(r"QGIS (\d+\.\d+(?:\.\d+)?)")
_PLACES = {  # besides the search path
    "darwin": ("/Applications", "QGIS*.app/Contents/MacOS/**/qgis_process"),
    "win32": (os.environ.get("PROGRAMFILES", "C:/Program Files"), "QGIS*/bin/qgis_process*.bat"),
}
_OSGEO4W = ("C:/OSGeo4W", "bin/qgis_process*.bat")


@dataclass(frozen=True)
class Program:
    """A program of QGIS's."""

    path: Path
    version: str | None
    """Such as 3.22.16; None where it does not run."""
    said: str = ""
    """What it said instead."""
    mend: str = ""

    @property
    def runs_algorithms(self) -> bool:
        """Whether it is `qgis_process`, under whatever name."""
        return self.path.name.startswith("qgis_process")


def find_programs() -> list[Program]:
    """Return the programs of QGIS's that are found, each asked for its version."""
    with tempfile.TemporaryDirectory(prefix="hsi-pipeline-qgis-") as folder:
        return [_asked(path, folder) for path in dict.fromkeys(_paths())]


def run_qgis(arguments: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    """Run a program of QGIS's without a window, and without what is meant for our own libraries.

    Args:
        arguments: The program and its arguments.
        folder: Where it has its profiles, so that it leaves those of the user alone.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: It did not end.
    """
    # what the two kinds of programs must not share, less what the plugin adds for ours
    kept = {name: os.environ[name] for name in child_environment() if name in os.environ}
    ours = ("PYTHON", "HSI_PIPELINE")
    environment = {name: value for name, value in kept.items() if not name.startswith(ours)}
    return subprocess.run(
        arguments,
        env={
            **environment,
            "PATH": os.pathsep.join(_path_outside()),
            "QGIS_CUSTOM_CONFIG_PATH": folder,
            "QT_QPA_PLATFORM": "offscreen",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_LIMIT_S,
        check=False,
        creationflags=NO_WINDOW,
    )


def is_activated() -> bool:
    """Say whether a virtual environment is on the search path."""
    return _path_outside() != _search_path()


def _search_path() -> list[str]:
    return os.environ.get("PATH", os.defpath).split(os.pathsep)


def _path_outside() -> list[str]:
    """Return the search path without virtual environments.

    On Linux QGIS's Python takes the first python3 on it for its own, and then finds no qgis.
    """
    return [one for one in _search_path() if not Path(one, os.pardir, "pyvenv.cfg").is_file()]


def _paths() -> Iterator[Path]:
    """Yield the places of QGIS's programs."""
    for name in ("qgis", "qgis_process", "qgis_process.bin"):
        found = shutil.which(name)
        if found:
            yield Path(found)
    places = [_PLACES[sys.platform]] if sys.platform in _PLACES else []
    for folder, pattern in places + [_OSGEO4W] * (sys.platform == "win32"):
        yield from sorted(Path(folder).glob(pattern))


def _asked(path: Path, folder: str) -> Program:
    """Ask a program for its version."""
    try:
        answer = run_qgis([str(path), "--version"], folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Program(path, None, str(error))
    found = _VERSION.search(answer.stdout) or _VERSION.search(answer.stderr)
    if found and not answer.returncode:
        return Program(path, found[1])
    said = (answer.stderr.strip() or answer.stdout.strip() or "no word").splitlines()[-1]
    binary = path.with_name("qgis_process.bin")
    mend = ""
    # Debian's start script adds an option for the window (qgis/QGIS issue 57683)
    if path.name == "qgis_process" and binary.is_file():
        mend = f"call {binary} instead"
    return Program(path, None, said, mend)
