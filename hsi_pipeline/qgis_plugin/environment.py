"""The environment that does the work: where its Python is, and what it is given."""

from __future__ import annotations

import configparser
import json
import os
import subprocess

NOTE = "environment.json"
"""What `hsi-pipeline qgis install` leaves in this folder: the keys `python` and `version`."""

PYTHON_SETTING = "HSI_PIPELINE_PYTHON"
"""Setting of QGIS's that names another interpreter."""

NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows opens a console otherwise

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_INSTALL = "install it as its README says, then say in a terminal: hsi-pipeline qgis install"
_AGAIN = "activate the environment in a terminal and say: hsi-pipeline qgis install"
_OPTIONS = "Settings > Options > Processing > Providers > hsi_pipeline"

# QGIS's own GDAL, PROJ, Qt and Python are not those of the environment.
_FOREIGN = ("PYTHON", "QT_", "DYLD_")
_FOREIGN_NAMES = (
    "LD_LIBRARY_PATH",
    "GDAL_DATA",
    "GDAL_DRIVER_PATH",
    "PROJ_LIB",
    "PROJ_DATA",
    "VIRTUAL_ENV",
)
_OURS = {
    "HSI_PIPELINE_STOP_ON_EOF": "1",  # it ends when QGIS does
    "PYTHONSAFEPATH": "1",  # QGIS's working folder is no place to import from
    "PYTHONUTF8": "1",  # messages with paths, on Windows too
}
_PROBE = "import hsi_pipeline; print(hsi_pipeline.__version__)"
_PROBE_S = 60


class MissingEnvironmentError(Exception):
    """The environment cannot be used; the message says how to mend that."""


def plugin_version() -> str:
    """Return the version of this plugin, which is that of the package it came with."""
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(os.path.join(_FOLDER, "metadata.txt"), encoding="utf-8")
    return metadata["general"]["version"]


def find_python(chosen: str = "") -> str:
    """Return the interpreter, without starting it.

    Args:
        chosen: The one that the user names in QGIS's options; "" for that of the note.

    Raises:
        MissingEnvironmentError: It is not known or not there.
    """
    if chosen:
        if not os.path.isfile(chosen):
            raise MissingEnvironmentError(
                f"there is no {chosen}, the Python that QGIS's options name ({_OPTIONS}); correct "
                "it, or leave it empty to use the environment that installed the plugin"
            )
        return chosen
    try:
        with open(os.path.join(_FOLDER, NOTE), encoding="utf-8") as note:
            python = json.load(note)["python"]
    except FileNotFoundError:
        python = None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingEnvironmentError(
            f"{os.path.join(_FOLDER, NOTE)} cannot be understood ({error}); {_AGAIN}"
        ) from error
    if not isinstance(python, str):
        raise MissingEnvironmentError(
            f"this plugin does not know where hsi-pipeline is installed; {_INSTALL}"
        )
    if not os.path.isfile(python):
        raise MissingEnvironmentError(
            f"hsi-pipeline's environment was moved or removed, there is no {python}; {_AGAIN}, or, "
            f"where it is gone, {_INSTALL}"
        )
    return python


def check_environment(python: str) -> None:
    """Check that an interpreter has the hsi_pipeline that this plugin belongs to.

    Args:
        python: The interpreter; it is started, which takes a moment.

    Raises:
        MissingEnvironmentError: It cannot be started, has no hsi_pipeline, or another version.
    """
    try:
        probe = subprocess.run(
            [python, "-c", _PROBE],
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PROBE_S,
            check=False,
            creationflags=NO_WINDOW,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingEnvironmentError(
            f"{python} cannot be started ({error}); {_INSTALL}"
        ) from error
    if probe.returncode:
        said = probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"]
        raise MissingEnvironmentError(
            f"{python} cannot import hsi_pipeline ({said[-1].strip()}); {_INSTALL}"
        )
    found, own = probe.stdout.strip(), plugin_version()
    if found != own:
        raise MissingEnvironmentError(
            f"the environment of {python} has hsi-pipeline {found}, this plugin is of {own}; "
            f"{_AGAIN}, then start QGIS again"
        )


def child_environment() -> dict[str, str]:
    """Return the variables for the environment's programs: QGIS's without what is for QGIS."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and name not in _FOREIGN_NAMES
    }
    return {**kept, **_OURS}
