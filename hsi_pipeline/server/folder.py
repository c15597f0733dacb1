"""The one folder that requests may name files of.

A name is taken letter by letter: nothing in it is decoded, expanded or handed to GDAL as it came.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hsi_pipeline.server.limits import MOST_LETTERS, MOST_PART_BYTES
from hsi_pipeline.server.refused import RefusedError

STATE = ".hsi-pipeline"
"""Folder of the server's own; hidden, so that no request can name it."""

# A colon makes drives, addresses and prefixes of GDAL's drivers (ZARR:, GTIFF_DIR:), a bar begins
# options of a layer, a backslash parts folders on Windows, where the others are in no name.
_FORBIDDEN = '\\:|*?"<>'


@dataclass(frozen=True)
class SharedFolder:
    """A folder, and the only ways from a request to a file in it."""

    root: Path
    """Full path, links resolved."""

    def source(self, name: str, suffixes: Collection[str]) -> Path:
        """Return the file or Zarr store that a request reads.

        Args:
            name: Path relative to the folder, with "/" between folders.
            suffixes: Suffixes that will do, in small letters.

        Returns:
            Full path, links resolved.

        Raises:
            RefusedError: The name is none, leads out of the folder, or there is no such file.
        """
        path = self._path(name, suffixes)
        real = self._resolved(path, name)
        try:
            mode = real.stat().st_mode
        except OSError as error:
            raise RefusedError(
                f"{_quoted(name)}: no such file in the folder of the server"
            ) from error
        is_store = path.suffix.lower() == ".zarr"
        if not (stat.S_ISDIR(mode) if is_store else stat.S_ISREG(mode)):
            kind = "a folder, which a Zarr store is" if is_store else "a file"
            raise RefusedError(f"{_quoted(name)} is not {kind}")
        if not os.access(real, os.R_OK):
            raise RefusedError(f"{_quoted(name)} may not be read by the server")
        for place in {path, real}:
            self._check_neighbours(place, name)
        return real

    def target(self, name: str, suffixes: Collection[str]) -> Path:
        """Return where a request writes; the folder that it lies in must exist.

        Args:
            name: Path relative to the folder, with "/" between folders.
            suffixes: Suffixes that will do, in small letters.

        Returns:
            Full path, links resolved; it may exist, and is no link.

        Raises:
            RefusedError: As for `source`; or the name is that of a link.
        """
        path = self._path(name, suffixes)
        real = self._resolved(path.parent, name) / path.name
        if not real.parent.is_dir():
            raise RefusedError(f"{_quoted(name)}: its folder does not exist; make it first")
        if not os.access(real.parent, os.W_OK | os.X_OK):
            raise RefusedError(f"{_quoted(name)}: the server may not write into its folder")
        if real.is_symlink():
            raise RefusedError(f"{_quoted(name)} is a link; choose another name")
        self._check_neighbours(real, name)
        return real

    def shown(self, path: Path) -> str:
        """Return how answers call a file of the folder."""
        return path.relative_to(self.root).as_posix()

    def scrubbed(self, said: str) -> str:
        """Return a message without the place of the folder on this machine."""
        for place in (f"{self.root}{os.sep}", f"{self.root.as_posix()}/"):
            said = said.replace(place, "")
        return said.replace(str(self.root), "the folder of the server")

    def _path(self, name: str, suffixes: Collection[str]) -> Path:
        """Return a path that is inside by its letters alone."""
        if not name or len(name) > MOST_LETTERS or not name.isprintable():
            raise RefusedError(
                f"{_quoted(name)} is no name of a file: 1 to {MOST_LETTERS} letters that can be "
                "printed"
            )
        if any(letter in _FORBIDDEN for letter in name):
            raise RefusedError(
                f"{_quoted(name)}: a path in the folder of the server has none of "
                f"{' '.join(_FORBIDDEN)}; addresses and GDAL's own names are not opened"
            )
        parts = name.split("/")
        if any(not part or part[0] in ".~" or part[-1] in ". " for part in parts):
            raise RefusedError(
                f"{_quoted(name)}: give a path relative to the folder of the server, without '..', "
                "'.', '~' and hidden files"
            )
        if any(len(part.encode()) > MOST_PART_BYTES for part in parts):
            raise RefusedError(
                f"{_quoted(name)} is too long: names of files and folders have at most "
                f"{MOST_PART_BYTES} bytes"
            )
        if any(part.lower().endswith(".zarr") for part in parts[:-1]):
            raise RefusedError(
                f"{_quoted(name)} lies inside of a Zarr store; give the store, or a file"
            )
        if PurePosixPath(name).suffix.lower() not in suffixes:
            raise RefusedError(f"{_quoted(name)}: the suffix must be one of {', '.join(suffixes)}")
        return self.root.joinpath(*parts)

    def _resolved(self, path: Path, name: str) -> Path:
        """Follow the links of a path, which must end in the folder."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:  # too long for the system, or links in a ring
            raise RefusedError(f"{_quoted(name)} cannot be opened") from error
        if not self._holds(real):
            raise RefusedError(f"{_quoted(name)} leads out of the folder of the server")
        return real

    def _holds(self, real: Path) -> bool:
        """Tell whether a resolved path is in the folder, and not among hidden files."""
        if not real.is_relative_to(self.root):
            return False
        return not any(part.startswith(".") for part in real.relative_to(self.root).parts)

    def _check_neighbours(self, path: Path, name: str) -> None:
        """Refuse links beside a file by which readers and writers of it would leave the folder.

        Metadata and masks of a product lie beside its image, styles and layers beside a map, under
        any name; unfinished work is a folder with the name of its target.
        """
        stem = path.stem.lower()
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if not entry.is_symlink() or (entry.is_dir() and stem not in entry.name.lower()):
                    continue
                if not Path(entry.path).resolve().is_relative_to(self.root):
                    raise RefusedError(
                        f"{_quoted(name)}: beside it lies {_quoted(entry.name)}, a link out of the "
                        "folder of the server; remove it"
                    )


def _quoted(name: str) -> str:
    """Return a name of a request for a message."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
