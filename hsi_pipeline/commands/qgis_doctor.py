"""Says whether QGIS can run this environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shutil import copytree

from hsi_pipeline import __version__
from hsi_pipeline.commands.checks import Check, Finding, run_checks
from hsi_pipeline.commands.qgis import SOURCE, is_ours, plugin_metadata
from hsi_pipeline.commands.qgis_profiles import PLUGIN, Profile, find_profiles
from hsi_pipeline.commands.qgis_programs import Program, find_programs, is_activated, run_qgis
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.qgis_plugin.environment import (
    NOTE,
    MissingEnvironmentError,
    check_environment,
)

_INSTALL = "hsi-pipeline qgis install"
_LONGEST = 300  # characters of what QGIS says
_ERROR = re.compile(r"\w+(?:Error|Exception): [^<\n]+")
_ALGORITHM = re.compile(rf"^\s*{PLUGIN}:(\w+)", re.MULTILINE)


def doctor(profile: str | None, *, terminal: Terminal) -> bool:
    """Check plugin, environment and QGIS, and say how to mend what is wrong.

    Args:
        profile: Name or folder; None for the one that each QGIS starts with.
        terminal: Where to say it.

    Returns:
        Whether nothing is wrong.

    Raises:
        InputError: There is no such profile.
    """
    profiles = find_profiles(profile)
    programs = find_programs()
    checks: list[tuple[str, Check]] = []
    for one in profiles:
        checks += [
            (f"plugin in {one.folder}", partial(_check_plugin, one)),
            (f"environment of the plugin in {one.folder}", partial(_check_recorded, one)),
            (f"settings of {one.folder}", partial(_check_enabled, one)),
        ]
    checks.append(("QGIS", partial(_check_programs, programs)))
    runner = next((one for one in programs if one.runs_algorithms and one.version), None)
    if runner is not None:
        checks += [("qgis_process", partial(_check_listed, runner, one)) for one in profiles]
    return run_checks(checks, terminal, "qgis doctor")


def _install(profile: Profile) -> str:
    """Return the command that puts the plugin into a profile."""
    return f'{_INSTALL} --profile "{profile.folder}"' if profile.folder.is_dir() else _INSTALL


def _check_plugin(profile: Profile) -> Iterator[Finding]:
    """Look for the plugin, and at its version."""
    if not os.path.lexists(profile.plugin):
        yield Finding("wrong", f"the plugin is not in {profile.folder}", _install(profile))
        return
    if not is_ours(profile.plugin):
        mend = f"move it away, then: {_install(profile)}"
        yield Finding("wrong", f"{profile.plugin} is not this plugin", mend)
        return
    version = plugin_metadata(profile.plugin).get("version", "unknown")
    if version != __version__:
        yield Finding(
            "wrong",
            f"the plugin in {profile.folder} is of {version}, this is {__version__}",
            f"{_install(profile)}, then start QGIS again",
        )
    else:
        yield Finding("ok", f"plugin {version} in {profile.folder}")


def _check_recorded(profile: Profile) -> Iterator[Finding]:
    """Look at the interpreter that the plugin will start, and start it as the plugin does."""
    if not is_ours(profile.plugin):
        return
    note = profile.plugin / NOTE
    try:
        python = json.loads(note.read_text("utf-8"))["python"]
    except (OSError, ValueError, KeyError, TypeError):
        wrong = f"the plugin does not know which Python to start: {note} is missing or damaged"
        yield Finding("wrong", wrong, _install(profile))
        return
    if not Path(python).is_file():
        wrong = f"hsi-pipeline's environment was moved or removed, there is no {python}"
        yield Finding("wrong", wrong, _install(profile))
        return
    try:
        check_environment(python)
    except MissingEnvironmentError as error:
        yield Finding("wrong", str(error), _install(profile))
        return
    if _same(python, sys.executable):
        yield Finding("ok", f"it starts this environment, {python}")
    else:
        text = f"it starts {python}, which is not this environment ({sys.executable})"
        yield Finding("note", text, f"if it should be this one: {_install(profile)}")


def _same(python: str, other: str) -> bool:
    """Say whether two interpreters are of one environment; links of several are of one file."""
    folders = {os.path.normcase(os.path.realpath(Path(one).parent)) for one in (python, other)}
    return len(folders) == 1


def _check_enabled(profile: Profile) -> Iterator[Finding]:
    """Look whether QGIS will load the plugin."""
    if not is_ours(profile.plugin):
        return
    if profile.has_enabled():
        yield Finding("ok", "it is enabled")
    else:
        mend = f"{_install(profile)}, or tick it in QGIS: Plugins > Manage and Install Plugins"
        yield Finding("wrong", f"it is not enabled in {profile.folder}", mend)


def _check_programs(programs: list[Program]) -> Iterator[Finding]:
    """Name the QGIS that is there, and say if it is too old."""
    oldest = plugin_metadata(SOURCE)["qgisminimumversion"]
    for program in programs:
        if program.version is None:
            yield Finding("note", f"{program.path} does not run: {program.said}", program.mend)
        elif _numbers(program.version) < _numbers(oldest):
            wrong = f"{program.path} is QGIS {program.version}, too old"
            yield Finding("wrong", wrong, f"install QGIS {oldest} or newer")
        else:
            yield Finding("ok", f"QGIS {program.version}: {program.path}")
    if not programs:
        yield Finding(
            "note",
            "no QGIS was found on the search path or in its usual places",
            "none is needed there where it is started from a menu; else install it from qgis.org",
        )
    elif not any(program.runs_algorithms and program.version for program in programs):
        text = "there is no qgis_process that runs, so that the plugin cannot be tried out here"
        yield Finding("note", text)
    elif sys.platform == "linux" and is_activated():
        yield Finding(
            "note",
            "QGIS finds no Python of its own where a virtual environment is activated, as here",
            "start QGIS and qgis_process from another terminal, or say 'deactivate' first",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _check_listed(program: Program, profile: Profile) -> Iterator[Finding]:
    """Have QGIS load a copy of the plugin, and list its algorithms.

    `qgis_process` knows the profile "default" alone and writes into it, hence the copy.
    """
    if not is_ours(profile.plugin):
        return
    with tempfile.TemporaryDirectory(prefix="hsi-pipeline-qgis-") as folder:
        copy = Profile(Path(folder, "profiles", "default"))
        copytree(profile.plugin, copy.plugin)
        copy.enable(True)
        answer = run_qgis([str(program.path), "list"], folder)
    found = sorted(set(_ALGORITHM.findall(answer.stdout)))
    if found:
        yield Finding("ok", f"{program.path.name} has its algorithms: {', '.join(found)}")
    else:
        yield Finding(
            "wrong",
            f"{program.path} does not load the plugin: {_last_words(answer)}",
            f"{_install(profile)}; if that is no help, look at QGIS's View > Panels > Log Messages",
        )
    if profile.folder.name != "default":
        text = f"qgis_process looks at the profile 'default' only, not at {profile.folder.name!r}"
        mend = "to use it on the command line: hsi-pipeline qgis install --profile default"
        yield Finding("note", text, mend)


def _last_words(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the line of a failure that says most: that of an error in Python, or the last."""
    errors = _ERROR.findall(answer.stderr)  # some stand within HTML
    lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    return str((errors or lines or [f"exit code {answer.returncode}"])[-1])[:_LONGEST]
