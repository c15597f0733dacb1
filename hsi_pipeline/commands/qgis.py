"""Into QGIS and out of it: the plugin's folder in a profile, and the note of this environment."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import sys
from pathlib import Path

import psutil

from hsi_pipeline import __version__
from hsi_pipeline.commands.qgis_profiles import PLUGIN, Profile, find_profiles
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.qgis_plugin.environment import NOTE

SOURCE = Path(__file__).parents[1] / "qgis_plugin"
"""The plugin as this package brings it."""

_FRESH, _OLD = f".{PLUGIN}.new", f".{PLUGIN}.old"  # QGIS looks at no hidden folders


def install(profile: str | None, *, terminal: Terminal) -> None:
    """Put the plugin into profiles of QGIS, enable it, and tie it to this environment.

    Args:
        profile: Name or folder; None for the one that each QGIS starts with.
        terminal: Where to say what was done.

    Raises:
        InputError: There is no such profile, or something else has the plugin's name.
    """
    for one in find_profiles(profile):
        if not one.folder.is_dir():
            terminal.say(f"QGIS has not been started here yet: its profile {one.folder} is made")
        _check_place(one)
        _place(one)
        one.enable(True)
        terminal.show(f"The plugin {__version__} is in {one.folder}, and enabled.")
        terminal.made("qgis install", [one.plugin], version=__version__, python=sys.executable)
        # a sandbox has other files below /usr than this machine
        if one.is_flatpak and Path(sys.executable).resolve().is_relative_to("/usr"):
            terminal.warn(
                f"QGIS from Flatpak may not be able to start {sys.executable}, a Python of the "
                "system; if so, make the environment with one in your home folder (conda, uv)"
            )
    _say_what_follows(terminal)


def uninstall(profile: str | None, *, terminal: Terminal) -> None:
    """Take the plugin out of profiles of QGIS.

    Args:
        profile: Name or folder; None for the one that each QGIS starts with.
        terminal: Where to say what was done.

    Raises:
        InputError: There is no such profile, or something else has the plugin's name.
    """
    for one in find_profiles(profile):
        if not os.path.lexists(one.plugin):
            terminal.show(f"The plugin is not in {one.folder}.")
            continue
        _check_place(one)
        _remove(one.plugin)
        one.enable(False)
        terminal.show(f"The plugin is no longer in {one.folder}.")
        terminal.made("qgis uninstall", removed=str(one.plugin))


def is_ours(folder: Path) -> bool:
    """Say whether a folder is our plugin, of whatever version."""
    return plugin_metadata(folder).get("name") == PLUGIN


def plugin_metadata(folder: Path) -> dict[str, str]:
    """Return what a plugin says of itself; nothing if it is none."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(folder / "metadata.txt", encoding="utf-8")
        return dict(parser["general"])
    except (OSError, ValueError, KeyError, configparser.Error):
        return {}


def _check_place(profile: Profile) -> None:
    """Refuse to touch what is not ours.

    Raises:
        InputError: Says what is there.
    """
    if not is_ours(SOURCE):
        raise InputError(f"{SOURCE} is not there or damaged; install hsi-pipeline anew with pip")
    if os.path.lexists(profile.plugin) and not is_ours(profile.plugin):
        raise InputError(
            f"{profile.plugin} is there, and is not this plugin; move it away and say it again"
        )


def _place(profile: Profile) -> None:
    """Copy the plugin beside its place, and put it there when it is whole.

    Raises:
        InputError: A file is held open.
    """
    plugins = profile.plugin.parent
    try:
        plugins.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{plugins} cannot be made a folder ({error.strerror}); mend that, and say it again"
        ) from error
    fresh, old = plugins / _FRESH, plugins / _OLD
    note = {"python": sys.executable, "version": __version__}
    try:
        for left in (fresh, old):  # by a run that was killed
            _remove(left)
        shutil.copytree(SOURCE, fresh, ignore=shutil.ignore_patterns("__pycache__", NOTE))
        (fresh / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    except OSError as error:  # of a tree, all of its errors
        shutil.rmtree(fresh, ignore_errors=True)
        reason = error.strerror or str(error)[-100:]
        raise InputError(
            f"{plugins} cannot be written ({reason}); mend that, and say it again"
        ) from error
    try:
        if os.path.lexists(profile.plugin):
            os.replace(profile.plugin, old)
        os.replace(fresh, profile.plugin)
    except PermissionError as error:  # Windows, where a program works in the folder
        if not os.path.lexists(profile.plugin):
            os.replace(old, profile.plugin)
        _remove(fresh)
        raise InputError(
            f"{profile.plugin} cannot be replaced ({error.strerror}); close QGIS and say it again"
        ) from error
    _remove(old)


def _remove(folder: Path) -> None:
    """Remove a folder; of a link to one, such as a developer's, the link."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _say_what_follows(terminal: Terminal) -> None:
    if _qgis_runs():
        terminal.say("QGIS is running: close it and start it again.")
    terminal.say(
        "In QGIS: Processing > Toolbox > hsi_pipeline. If something does not work: "
        "hsi-pipeline qgis doctor"
    )


def _qgis_runs() -> bool:
    """Say whether a QGIS with a window runs, on Windows qgis-bin.exe or qgis-ltr-bin.exe."""
    names = (process.info["name"] or "" for process in psutil.process_iter(["name"]))
    stems = (name.lower().removesuffix(".exe").replace("-", ".") for name in names)
    return any(stem in ("qgis", "qgis.bin", "qgis.ltr.bin") for stem in stems)
