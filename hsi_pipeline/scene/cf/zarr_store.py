"""Zarr stores, version 2 or 3: opening them, and windows of their arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.addresses import share_settings
from hsi_pipeline.scene.files import full_path, is_remote, one_line, shown
from hsi_pipeline.scene.windows import Key, read_key

_MARKS = (".zgroup", ".zmetadata", "zarr.json", ".zarray")


def is_zarr(path: str) -> bool:
    """Tell whether a path is a Zarr store: by its name, or by what lies in the folder."""
    if is_remote(path):
        return shown(path).rstrip("/").lower().endswith(".zarr")
    return os.path.isdir(path) and any(os.path.isfile(os.path.join(path, mark)) for mark in _MARKS)


def check_consolidated(path: str, group: zarr.Group, arrays: Mapping[str, zarr.Array]) -> None:
    """Hold what a store says in one place against what it says in each array's own file.

    Raises:
        InputError: They differ: one of them is damaged, or out of date.
    """
    if group.metadata.consolidated_metadata is None:
        return
    alone = open_group(full_path(path), False)
    own = dict(alone.arrays())
    said = dict(group.attrs)
    if group.metadata.zarr_format == 2:  # zarr takes those of the store itself from its own file
        with open(os.path.join(path, ".zmetadata"), encoding="utf-8") as file:
            said = json.load(file)["metadata"].get(".zattrs", {})
    one = {name: array.metadata.to_dict() for name, array in arrays.items()}
    other = {name: array.metadata.to_dict() for name, array in own.items()}
    if _as_text([said, one]) != _as_text([dict(alone.attrs), other]):
        raise InputError(
            f"{path}: its consolidated metadata and the metadata of its arrays differ; copy the "
            "store again, or consolidate it (zarr.consolidate_metadata)"
        )


def _as_text(metadata: object) -> str:
    """Return metadata as text, by which NaN equals NaN."""
    return json.dumps(metadata, default=repr, sort_keys=True)


def open_group(path: str, consolidated: bool | None = None) -> zarr.Group:
    """Open a store; its consolidated metadata are used where there are any, or as it is told."""
    store: Store
    if is_remote(path):
        share_settings()
        store = FsspecStore.from_url(path, read_only=True)
    else:
        # not the path: what follows a # in it would be cut off
        store = LocalStore(path, read_only=True)
    return zarr.open_group(WholeChunks(store), mode="r", use_consolidated=consolidated)


class ChunkError(ValueError):
    """A chunk that is not whole, and which one."""


class WholeChunks(WrapperStore[Store]):
    """A store that refuses Blosc chunks that are not as long as they say.

    Blosc reads on beyond the end of a chunk that was cut off, and gives whatever lies there.
    """

    names: tuple[str, ...] = ()
    """Arrays whose chunks are Blosc's."""

    def watch(self, arrays: Mapping[str, zarr.Array]) -> None:
        """Look at the chunks of these arrays from now on, where they are Blosc's."""
        self.names = tuple(name for name, array in arrays.items() if _has_blosc(array))

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a file of the store.

        Raises:
            ChunkError: It is a chunk that is not whole.
        """
        content = await super().get(key, prototype, byte_range)
        array, _, chunk = key.partition("/")
        metadata = chunk.startswith(".z") or chunk == "zarr.json"
        if content is None or byte_range is not None or metadata or array not in self.names:
            return content
        head = content[:16].to_bytes() if len(content) >= 16 else b""
        if not head or int.from_bytes(head[12:16], "little") != len(content):
            raise ChunkError(f"its chunk {key} is damaged or cut off; copy the store again")
        return content


def watch_chunks(group: zarr.Group, arrays: Mapping[str, zarr.Array]) -> None:
    """Refuse chunks of a group's arrays that are cut off; see `WholeChunks`."""
    assert isinstance(group.store, WholeChunks)  # as open_group opened it
    group.store.watch(arrays)


def _has_blosc(array: zarr.Array) -> bool:
    codecs = [*getattr(array.metadata, "codecs", ()), getattr(array.metadata, "compressor", None)]
    return any("blosc" in type(codec).__name__.lower() for codec in codecs)


@contextmanager
def zarr_errors(path: str) -> Iterator[None]:
    """Let whatever goes wrong in the block be an `InputError`."""
    try:
        yield
    except ChunkError as error:
        raise InputError(f"{shown(path)}: {error}") from error
    except InputError:
        raise
    except Exception as error:  # zarr, codecs and file systems raise nearly anything
        raise InputError(
            f"{shown(path)} cannot be read as a Zarr store, it is damaged, incomplete or of "
            f"another kind ({one_line(error)})"
        ) from error


@dataclass(frozen=True)
class ZarrPixels:
    """Windows of a Zarr array; see `Pixels`."""

    path: str
    """Full path or address of the store."""
    stamp: str
    """Changes when the store is written again."""
    name: str
    """Of the array."""
    axes: str
    """Order of its axes, such as "byx"; "yx" for a plane, a single band."""
    shape: tuple[int, int, int]
    """(band, y, x)."""
    dtype: np.dtype
    """Type of the digital numbers, in this machine's byte order."""

    @property
    def ndim(self) -> int:
        """Return 3."""
        return 3

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a window: unmasked digital numbers (band, y, x). Missing chunks are fill values.

        Raises:
            InputError: A chunk is damaged or cut off, or the server failed.
        """
        return read_key(key, self.shape, self.dtype, self._read)

    def _read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        low = min(bands)
        wanted = {"b": slice(low, max(bands) + 1), "y": rows, "x": columns}
        with zarr_errors(self.path):
            array = _array(self.path, self.stamp, self.name, os.getpid())
            block = np.asarray(array[tuple(wanted[axis] for axis in self.axes)], self.dtype)
        if "b" not in self.axes:
            return block.transpose([self.axes.index(axis) for axis in "yx"])[None]
        block = block.transpose([self.axes.index(axis) for axis in "byx"])
        order = [band - low for band in bands]
        return block if order == list(range(len(block))) else block[order]


@lru_cache(maxsize=64)
def _array(path: str, stamp: str, name: str, process: int) -> zarr.Array:
    """Return the array for this process; it holds no open file."""
    group = open_group(path)
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise InputError(f"{shown(path)}: {name} is no array any more")
    watch_chunks(group, {name: array})
    return array
