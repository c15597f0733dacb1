"""The environment that does the work: where its Python is, and what it is given."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import time
from collections.abc import Callable

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
PROBE = """
import os, threading
def watch():
    while os.read(0, 4096):
        pass
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
import hsi_pipeline
print(hsi_pipeline.__version__, flush=True)
os._exit(0)
"""
"""Says the version, or ends with its standard input, also where the import hangs."""

_PROBE_S = 60
_LONGEST_VERSION = 60  # characters, as what another program says may be anything
_LONGEST_REASON = 200


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


def check_environment(python: str, is_canceled: Callable[[], bool] = lambda: False) -> None:
    """Check that an interpreter has the hsi_pipeline that this plugin belongs to.

    Args:
        python: The interpreter; it is started, which takes a moment.
        is_canceled: Asked ten times a second; once it returns True the check ends with no result.

    Raises:
        MissingEnvironmentError: It cannot be started, has no hsi_pipeline, or another version.
    """
    exit_code, said = _probe(python, is_canceled)
    if is_canceled():
        return
    if exit_code:
        reason = said["err"][:_LONGEST_REASON] or f"exit code {exit_code}"
        raise MissingEnvironmentError(f"{python} cannot import hsi_pipeline ({reason}); {_INSTALL}")
    found, own = said["out"][:_LONGEST_VERSION] or "of no version", plugin_version()
    if found != own:
        raise MissingEnvironmentError(
            f"the environment of {python} has hsi-pipeline {found}, this plugin is of {own}; "
            f"{_AGAIN}, then start QGIS again"
        )


def _probe(python: str, is_canceled: Callable[[], bool]) -> tuple[int | None, dict[str, str]]:
    """Return the exit code of an interpreter, and the last line of each of its streams."""
    from .child import Child  # which needs this module

    end = time.monotonic() + _PROBE_S
    said = {"out": "", "err": ""}
    try:
        child = Child([python, "-c", PROBE])
    except OSError as error:
        raise MissingEnvironmentError(
            f"{python} cannot be started ({error}); {_INSTALL}"
        ) from error
    for stream, line in child.lines(lambda: is_canceled() or time.monotonic() > end):
        said[stream] = line.strip() or said[stream]
    if time.monotonic() > end and not is_canceled():
        raise MissingEnvironmentError(
            f"{python} cannot be started (no answer in {_PROBE_S} s); {_INSTALL}"
        )
    return child.exit_code, said


def child_environment() -> dict[str, str]:
    """Return the variables for the environment's programs: QGIS's without what is for QGIS."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) and name not in _FOREIGN_NAMES
    }
    return {**kept, **_OURS}
