"""Where a catalog may lead: its own folder, folders that the user named, and addresses.

A catalog is written by others. Without a guard it could have any file of this machine read, and
its content published in maps and messages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pystac.utils import make_absolute_href

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import is_remote, shown

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Guard:
    """Follows links and assets of one catalog."""

    folders: tuple[str, ...]
    """Real paths of folders that it may lead to; none for a catalog behind an address."""
    schemes: tuple[str, ...]
    """Of addresses that it may lead to."""
    _real: dict[str, str] = field(default_factory=dict, compare=False)
    """Real paths of folders, which are looked up once, for catalogs of many files."""

    def follow(self, href: object, base: str) -> str:
        """Return the path or address that a link or asset leads to.

        Args:
            href: As the document has it.
            base: Path or address of the document.

        Returns:
            A real path, without symbolic links, or an address.

        Raises:
            InputError: It leads to where it may not; the message goes on from "leads to".
        """
        if not isinstance(href, str) or not href or any(ord(sign) < 32 for sign in href):
            raise InputError(f"{href!r}, which is no path or address")
        scheme = _SCHEME.match(href)
        if scheme and scheme[1].lower() != "file":
            return self._address(href)
        if "://" in base:
            if scheme:
                raise InputError(
                    f"{href}, a file of this machine; an address may not, it is refused"
                )
            return self._address(make_absolute_href(href, base))
        return self._local(_path_of(href) if scheme else href, base)

    def _address(self, address: str) -> str:
        scheme = _SCHEME.match(address)
        # fsspec takes "a::b" for one address behind another, which may be a file
        if scheme is None or scheme[1].lower() not in self.schemes or "::" in address:
            raise InputError(
                f"{shown(address)}, an address of another kind than {', '.join(self.schemes)}; if "
                "you trust the catalog, add it to `schemes`"
            )
        return scheme[1].lower() + address[len(scheme[1]) :]

    def _local(self, href: str, base: str) -> str:
        path = self._real_path(os.path.join(os.path.dirname(base), href.replace("\\", "/")))
        if is_remote(path) or not any(_is_inside(path, folder) for folder in self.folders):
            raise InputError(
                f"{href}, outside of {' and '.join(self.folders)}; if you trust the catalog, add "
                f"the folder to `roots`"
            )
        return path

    def _real_path(self, path: str) -> str:
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            return os.path.realpath(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        found = os.path.join(self._real[folder], name)
        return os.path.realpath(found) if os.path.islink(found) else found


def local_guard(file: str, roots: Iterable[os.PathLike[str]], schemes: tuple[str, ...]) -> Guard:
    """Return the guard of a catalog on disk, whose folder is its own."""
    folders = (os.path.dirname(os.path.realpath(file)), *map(os.path.realpath, roots))
    return Guard(folders, tuple(scheme.lower() for scheme in schemes))


def remote_guard(schemes: tuple[str, ...]) -> Guard:
    """Return the guard of a catalog behind an address."""
    return Guard((), tuple(scheme.lower() for scheme in schemes))


def _path_of(href: str) -> str:
    """Return the path of a `file://` address."""
    parts = urlsplit(href)
    if parts.netloc not in ("", "localhost"):
        raise InputError(f"{href}, a file of another machine; it is refused")
    return url2pathname(parts.path)


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
