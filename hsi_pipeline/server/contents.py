"""Files whose content is of the kind that their name says, and that hold all of it themselves.

GDAL knows a file by its content: a `scene.tif` may be a recipe (VRT, WMS ...) that reads any file
of the machine or asks any server. What is looked at here are first bytes and metadata in JSON, so
that the server itself never runs a decoder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hsi_pipeline.server.refused import RefusedError

SCENES = (".tif", ".tiff", ".zarr", ".nc", ".nc4", ".h5", ".he5")
"""Suffixes of scenes. Other products become one of these by 'hsi-pipeline ingest'."""
MAPS = (".tif", ".tiff", ".zarr")
"""Suffixes of class maps."""
MODELS = (".safetensors",)
"""Suffixes of models."""

_HDF5 = (b"\x89HDF\r\n\x1a\n",)
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_BEGINNINGS = {
    **dict.fromkeys((".tif", ".tiff"), _TIFF),
    **dict.fromkeys((".nc", ".nc4", ".h5", ".he5"), _HDF5),
}
_METADATA = (".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json")
_MOST_BYTES = 32 * 2**20  # of metadata
_MOST_FILES = 2_000_000
# Codecs that turn bytes to numbers or texts. Others (pickle) would run what they read.
_CODECS = {
    "adler32", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset",
    "fletcher32", "gzip", "lz4", "lzma", "packbits", "quantize", "sharding_indexed", "shuffle",
    "transpose", "vlen-bytes", "vlen-utf8", "zlib", "zstd",
}  # fmt: skip


def check_content(path: Path, name: str) -> None:
    """Refuse a file whose content is not what its suffix says.

    Args:
        path: The file or Zarr store, which exists.
        name: What answers call it.

    Raises:
        RefusedError: Says what it is not.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".zarr":
            _check_store(path, name)
        elif suffix in MODELS:
            _check_model(path, name)
        else:
            with path.open("rb") as file:
                head = file.read(8)
            if not head.startswith(_BEGINNINGS[suffix]):
                kind = "TIFF" if _BEGINNINGS[suffix] is _TIFF else "HDF5 or netCDF-4"
                raise RefusedError(f"{name} is not a {kind} file, whatever it is called")
    except OSError as error:
        raise RefusedError(f"{name} cannot be read ({error.strerror})") from error


def _check_model(path: Path, name: str) -> None:
    """Check that a file begins as safetensors: the length of a header in JSON, then the header."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] != b"{" or int.from_bytes(head[:8], "little") > path.stat().st_size:
        raise RefusedError(f"{name} is not a model: it is no safetensors file")


def _check_store(path: Path, name: str) -> None:
    """Check that all of a Zarr store lies in its folder, and is made of numbers."""
    metadata = False
    for entry in _files(path, name):
        if entry.name in _METADATA:
            metadata = True
            _check_metadata(Path(entry.path), name)
    if not metadata:
        raise RefusedError(f"{name} is not a Zarr store")


def _files(path: Path, name: str) -> Iterator[os.DirEntry[str]]:
    """Give the files of a store."""
    folders, seen = [os.fspath(path)], 0
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                seen += 1
                if seen > _MOST_FILES:
                    raise RefusedError(f"{name} has more than {_MOST_FILES} files")
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry
                else:
                    raise RefusedError(f"{name} holds {entry.name!r}, which is a link or no file")


def _check_metadata(path: Path, name: str) -> None:
    """Check the codecs that a file of metadata names."""
    if path.stat().st_size > _MOST_BYTES:
        raise RefusedError(f"{name}: its metadata are larger than any")
    try:
        content = json.loads(path.read_bytes())
        unknown = sorted(set(_codecs(content)) - _CODECS)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{name}: its metadata {path.name} cannot be read") from error
    if unknown:
        raise RefusedError(f"{name} is packed by {unknown[0]!r}, which the server does not read")


def _codecs(content: Any) -> Iterator[str]:
    """Give the names of all codecs in metadata of version 2 or 3, at any depth."""
    if isinstance(content, list):
        for part in content:
            yield from _codecs(part)
    elif isinstance(content, dict):
        for key, part in content.items():
            if key in ("compressor", "filters", "codecs", "index_codecs"):
                for codec in part if isinstance(part, list) else [part]:
                    if isinstance(codec, dict):
                        told = str(codec.get("id", codec.get("name", "?")))
                        yield told.removeprefix("numcodecs.")
            yield from _codecs(part)
