"""Profiles of QGIS: where they are, and which plugins they have enabled."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hsi_pipeline.errors import InputError

PLUGIN = "hsi_pipeline"
"""Name of the plugin's folder, by which QGIS knows it."""

_SECTION = b"[PythonPlugins]"
_FLATPAK = Path(".var", "app", "org.qgis.qgis")
_VERSIONS = ("QGIS4", "QGIS3")  # names of a QGIS's folder, and of the file of settings in it
_BY_DEFAULT = "1"  # QGIS starts with its default profile, not with the last one


@dataclass(frozen=True)
class Profile:
    """A profile of QGIS: a folder with settings and plugins."""

    folder: Path

    @property
    def plugin(self) -> Path:
        """Folder of our plugin, whether it is there or not."""
        return self.folder / "python" / "plugins" / PLUGIN

    @property
    def settings(self) -> list[Path]:
        """Files of settings that it has; if none, the one that QGIS will make."""
        places = ("QGIS", "qgis.org")  # the second on macOS
        files = [self.folder / place / f"{name}.ini" for place in places for name in _VERSIONS]
        version = "QGIS4" if "QGIS4" in self.folder.parts else "QGIS3"
        made = self.folder / places[sys.platform == "darwin"] / f"{version}.ini"
        return [file for file in files if file.is_file()] or [made]

    @property
    def is_there(self) -> bool:
        """Whether QGIS, or this program, has begun it."""
        return (self.folder / "qgis.db").is_file() or self.settings[0].is_file()

    @property
    def is_flatpak(self) -> bool:
        """Whether it is of a QGIS that runs in a sandbox."""
        return str(_FLATPAK) in str(self.folder)

    def has_enabled(self) -> bool:
        """Say whether our plugin is enabled in all of its settings."""
        enabled = PLUGIN.encode() + b"=true"
        return all(
            file.is_file() and enabled in _section(file.read_bytes()) for file in self.settings
        )

    def enable(self, enabled: bool) -> None:
        """Enable our plugin, or forget it; all else in the settings stays as it is, to the byte."""
        for file in self.settings:
            before = file.read_bytes() if file.is_file() else b""
            after = _with_plugin(before, enabled)
            if after != before:
                _replace(file, after)


def find_profiles(asked: str | None) -> list[Profile]:
    """Return profiles; of each QGIS on this machine the one that it starts with.

    Args:
        asked: A name, of which each QGIS may have a profile; or the folder of a profile. None for
            those that QGIS starts with, or, where no QGIS has been started yet, for the one that it
            will make.

    Raises:
        InputError: There is no such profile; names those that there are.
    """
    if asked is not None and ("/" in asked or os.sep in asked or asked in (".", "..", "~")):
        return [_profile_at(Path(asked).expanduser().absolute())]
    roots = [root for root in _roots() if root.is_dir()]
    if asked is None:
        return [Profile(root / _start_name(root)) for root in roots] or [
            Profile(_roots()[-1] / "default")
        ]
    found = [Profile(root / asked) for root in roots if asked and (root / asked).is_dir()]
    if not found:
        raise InputError(f"QGIS has no profile {asked!r} here; {_those_of(roots)}")
    return found


def _roots() -> list[Path]:
    """Return the folders that profiles may be in, at last that of this platform's QGIS 3."""
    custom = os.environ.get("QGIS_CUSTOM_CONFIG_PATH")
    if custom:
        return [Path(custom) / "profiles"]
    home = Path.home()
    if sys.platform == "win32":
        bases = [Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")]
    elif sys.platform == "darwin":
        bases = [home / "Library" / "Application Support"]
    else:
        share = os.environ.get("XDG_DATA_HOME") or home / ".local" / "share"
        bases = [home / _FLATPAK / "data", Path(share)]
    return [base / "QGIS" / version / "profiles" for base in bases for version in _VERSIONS]


def _start_name(root: Path) -> str:
    """Return the name of the profile that QGIS starts with."""
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        settings.read_string((root / "profiles.ini").read_text("utf-8", "replace"))
    except (OSError, configparser.Error):
        return "default"
    core: Mapping[str, str] = settings["core"] if settings.has_section("core") else {}
    names = [core.get("lastProfile", ""), core.get("defaultProfile", "")]
    if core.get("selectionPolicy") == _BY_DEFAULT:
        names.reverse()
    named = (_unescaped(name) for name in names)
    return next((name for name in named if name and (root / name).is_dir()), "default")


def _unescaped(value: str) -> str:
    r"""Return a value as Qt means it, which quotes some and writes other than ASCII as \x."""
    return re.sub(r"\\x([0-9a-f]{1,4})", lambda code: chr(int(code[1], 16)), value.strip('"'))


def _profile_at(folder: Path) -> Profile:
    """Return the profile at a folder.

    Raises:
        InputError: It is no profile.
    """
    profile = Profile(folder)
    if folder.is_dir() and (profile.is_there or not any(folder.iterdir())):
        return profile
    what = f"{folder} is no profile of QGIS" if folder.exists() else f"there is no folder {folder}"
    around = [folder / "profiles", folder, folder.parent]
    raise InputError(f"{what}; {_those_of([*around, *_roots()])}")


def _those_of(roots: list[Path]) -> str:
    """Say which profiles there are."""
    folders = [folder for root in roots if root.is_dir() for folder in sorted(root.iterdir())]
    found = dict.fromkeys(str(folder) for folder in folders if Profile(folder).is_there)
    if not found:
        return "there is none; start QGIS once, or leave out --profile to have one made"
    return f"there are: {', '.join(found)}"


def _section(content: bytes) -> list[bytes]:
    """Return the lines of the settings that tell which plugins are enabled."""
    lines, inside = [], False
    for line in content.splitlines():
        if line.startswith(b"["):
            inside = line.strip() == _SECTION
        elif inside:
            lines.append(line.strip())
    return lines


def _with_plugin(content: bytes, enabled: bool) -> bytes:
    """Return settings with our plugin enabled, or without a word of it."""
    end = b"\r\n" if b"\r\n" in content else b"\n"
    entry = PLUGIN.encode() + b"=true" + end
    lines, inside, placed = [], False, not enabled
    for line in content.splitlines(keepends=True):
        if line.startswith(b"["):
            inside = line.strip() == _SECTION
        elif inside and line.partition(b"=")[0].strip() == PLUGIN.encode():
            if placed or line.strip() != entry.strip():
                continue  # of another value, or once more
            placed = True
        lines.append(line)
    if not placed:
        heads = [place for place, line in enumerate(lines) if line.strip() == _SECTION]
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += end
        if heads:
            lines.insert(heads[0] + 1, entry)
        else:
            lines += [end] * bool(lines) + [_SECTION + end, entry]
    return b"".join(lines)


def _replace(path: Path, content: bytes) -> None:
    """Write a file anew, beside it first; a link to it stays one."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if path.exists():
            shutil.copymode(path, draft)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
