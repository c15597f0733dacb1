"""Filling a Zarr store chunk by chunk, with a ledger of what is complete."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.base import compute_as_if_collection
from dask.layers import ArrayBlockIdDep

from hsi_pipeline.errors import WindowError
from hsi_pipeline.publish.zarr import as_stored, regular

FAILED_CHUNKS = "failed_chunks"
"""Attribute that lists the chunks that are nodata since they could not be read."""

_WATCH_S = 1.0


def fill_store(
    dataset: xr.Dataset,
    path: Path,
    ledger: Path,
    *,
    skip_failed: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute the chunks that the ledger does not name, and store them, in one Dask compute.

    A chunk is entered in the ledger when its pixels are on disk.

    Args:
        dataset: The class map that the store was created for.
        path: The store.
        ledger: Its ledger.
        skip_failed: Store nodata for chunks that cannot be read, and list them in the attribute
            `failed_chunks`; the next call tries them again.
        progress: Called now and then with the number of complete chunks and of all.

    Raises:
        WindowError: A chunk cannot be read, and is not to be skipped.
        RuntimeError: A chunk is missing though nothing failed.
    """
    for half in path.rglob("*.partial"):  # zarr's name for files that it was about to rename
        half.unlink()
    stored = regular(dataset)
    written = storing(stored, path, ledger)
    failed: dict[tuple[int, int], WindowError] = {}
    # Renamed, each task would leave its old name in the graph as a second one.
    names = dask.config.set({"optimization.fuse.rename-keys": False})
    with names, _watched(ledger, written.shape, progress):
        while missing := [
            (written.name, int(i), int(j))
            for i, j in np.argwhere(~_complete(ledger))
            if (int(i), int(j)) not in failed
        ]:
            try:
                compute_as_if_collection(da.Array, written.dask, missing)
            except WindowError as error:
                if not skip_failed or error.chunk in failed:
                    raise
                # not in the ledger, so that the next run tries again
                _store(
                    error.chunk,
                    {str(name): _blank(v.data, error.chunk) for name, v in stored.items()},
                    path,
                )
                failed[error.chunk] = error
            else:
                break
    lacking = int((~_complete(ledger)).sum()) - len(failed)
    if lacking:
        raise RuntimeError(f"{path}: {lacking} chunks are missing")
    if progress is not None:
        progress(written.size, written.size)
    told = [_told(stored["class"].data, *item) for item in sorted(failed.items())]
    _list_failed(path, [*dataset.attrs.get(FAILED_CHUNKS, []), *told])


def storing(dataset: xr.Dataset, path: Path, ledger: Path) -> da.Array:
    """Return a lazy array, one element a chunk, that stores a chunk when it is computed.

    Args:
        dataset: As `zarr.regular` returns it.
        path: As for `fill_store`.
        ledger: As for `fill_store`.
    """
    layers = [variable.data for variable in dataset.values()]
    indices = [("z" if layer.ndim == 3 else "") + "yx" for layer in layers]
    places = ArrayBlockIdDep(tuple((1,) * count for count in dataset["class"].data.numblocks))
    return da.blockwise(
        _store_chunk,
        "yx",
        places,
        "yx",
        *chain.from_iterable(zip(layers, indices, strict=True)),
        store=str(path),
        ledger=str(ledger),
        names=list(map(str, dataset)),
        align_arrays=False,
        adjust_chunks={"y": lambda _: 1, "x": lambda _: 1},
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
    )


def _complete(ledger: Path) -> np.ndarray:
    """Tell which chunks are complete, bool (rows, columns of chunks)."""
    complete = np.zeros(zarr.open_array(Path(ledger), mode="r").shape, bool)
    for entry in _names_of_entries(ledger):
        complete[tuple(map(int, entry.split(".")))] = True
    return complete


def _names_of_entries(ledger: Path) -> list[str]:
    """List the files of a ledger's elements, such as "4.12": many times faster than to read them.

    They appear under these names when they are complete.
    """
    return [file.name for file in os.scandir(ledger) if file.name.replace(".", "").isdigit()]


@contextmanager
def _watched(
    ledger: Path, shape: Sequence[int], progress: Callable[[int, int], None] | None
) -> Iterator[None]:
    """Report the entries of a ledger while the block runs, whoever makes them."""
    if progress is None:
        yield
        return
    end = threading.Event()
    total = int(np.prod(shape))

    def watch() -> None:
        ended = False
        while not ended:
            progress(len(_names_of_entries(ledger)), total)
            ended = end.wait(_WATCH_S)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        end.set()
        watcher.join()


def _blank(layer: da.Array, chunk: tuple[int, int]) -> np.ndarray:
    """Return a chunk of nodata: class 0, or NaN."""
    sides = [sizes[index] for sizes, index in zip(layer.chunks[-2:], chunk, strict=True)]
    value = np.nan if layer.dtype.kind == "f" else 0
    return np.full((*layer.shape[:-2], *sides), value, layer.dtype)


def _told(pixels: da.Array, chunk: tuple[int, int], error: WindowError) -> str:
    """Return which pixels of the map a failed chunk leaves without a class, and why."""
    starts = [sum(sizes[:index]) for sizes, index in zip(pixels.chunks, chunk, strict=True)]
    ends = [
        start + sizes[index] - 1
        for start, sizes, index in zip(starts, pixels.chunks, chunk, strict=True)
    ]
    return (
        f"rows {starts[0]} to {ends[0]}, columns {starts[1]} to {ends[1]} are nodata, since {error}"
    )


def _list_failed(path: Path, failed: list[str]) -> None:
    """Write the attribute that lists failed chunks; none where none failed."""
    group = zarr.open_group(Path(path), mode="r+", use_consolidated=False)
    if group.attrs.get(FAILED_CHUNKS, []) == failed:
        return
    group.attrs[FAILED_CHUNKS] = failed
    if not failed:
        del group.attrs[FAILED_CHUNKS]
    zarr.consolidate_metadata(Path(path), zarr_format=2)


def _store_chunk(
    place: tuple[int, int],
    *layers: np.ndarray | list[np.ndarray],
    store: str,
    ledger: str,
    names: list[str],
) -> np.ndarray:
    """Store a chunk of every variable, then enter it in the ledger; returns [[1]].

    A layer with a third axis comes as a list of its only block along that.
    """
    blocks = [layer[0] if isinstance(layer, list) else layer for layer in layers]
    _store(place, dict(zip(names, blocks, strict=True)), Path(store))
    done = zarr.open_array(Path(ledger), mode="r+")
    done[place] = 1
    _flush(Path(ledger, done.metadata.encode_chunk_key(place)))
    return np.ones((1, 1), np.uint8)


def _store(place: tuple[int, int], layers: Mapping[str, np.ndarray], store: Path) -> None:
    """Store a chunk of every variable and have it on disk."""
    group = zarr.open_group(Path(store), mode="r+", use_consolidated=False)
    for name, pixels in layers.items():
        array = group[name]
        assert isinstance(array, zarr.Array)  # made by create_store
        sides = array.chunks[-2:]
        where = [
            slice(index * side, index * side + size)
            for index, side, size in zip(place, sides, pixels.shape[-2:], strict=True)
        ]
        array[..., where[0], where[1]] = as_stored(name, pixels)
        key = array.metadata.encode_chunk_key((*[0] * (pixels.ndim - 2), *place))
        _flush(store / name / key)


def _flush(path: Path) -> None:
    """Have the system write a file to the disk, and its name; chunks of fill values have none."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    if os.name == "posix":  # elsewhere folders cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
