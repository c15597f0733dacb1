"""The tasks of a chunk: read its window, predict it tile by tile.

A tile is predicted from its window plus the model's halo, cut off at the scene's edge.
"""

from __future__ import annotations

import copy
import math
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

import cloudpickle
import numpy as np
import psutil
import torch
from dask.system import CPU_COUNT
from torch import nn

from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.cube import WindowReader, valid_pixels
from hsi_pipeline.errors import InputError, WindowError
from hsi_pipeline.models.prepared import Sides

_PAUSES_S = (0.2, 1.0)  # before a window that could not be read is tried again
# that are there and that this process may use; two threads of one core are no faster than one
_CORES = min(CPU_COUNT, psutil.cpu_count(logical=False) or CPU_COUNT)
_SMALLEST_TILE = 32  # a device that has no memory for this one has none for the network


@dataclass(frozen=True)
class ChunkTasks:
    """The tasks of a chunk and what they must know; pickles to workers."""

    reader: WindowReader
    nodata: float | None
    codes: np.ndarray
    shape: tuple[int, int]
    side: int
    tile: int
    halo: int
    planes: int
    """Layers of a predicted chunk: class code, then what `models.outputs` makes."""

    def padded(self, axis: int) -> tuple[int, ...]:
        """Return the sizes along an axis of the chunks with their halos."""
        sizes = []
        for start in range(0, self.shape[axis], self.side):
            window = self._grown(start, start + self.side, axis)
            sizes.append(window.stop - window.start)
        return tuple(sizes)

    def read(self, *, block_info: dict) -> np.ndarray:
        """Read a chunk with its halo; a fault that passes is waited for.

        Raises:
            WindowError: Names the window that cannot be read.
        """
        place = block_info[None]["chunk-location"][1:]
        starts = [index * self.side for index in place]
        rows, columns = (
            self._grown(start, start + self.side, axis) for axis, start in enumerate(starts)
        )
        for pause in (*_PAUSES_S, None):
            try:
                return self.reader(rows, columns)
            except (InputError, OSError) as error:
                if pause is None:
                    raise WindowError(
                        f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to "
                        f"{columns.stop - 1} cannot be read, tried {len(_PAUSES_S) + 1} times: "
                        f"{error}",
                        tuple(place),
                    ) from error
                time.sleep(pause)
        raise AssertionError  # the last turn returns or raises

    def predict(self, raw: np.ndarray, network: SharedNetwork, *, block_info: dict) -> np.ndarray:
        """Predict a chunk tile by tile; returns (planes, y, x) float32."""
        place = block_info[None]["array-location"][1:]
        valid = valid_pixels(raw, self.nodata)
        device = torch.device(network.device)
        passes = passes_at_once(device.type, torch.get_num_threads())
        work = _network_threads(device.type, passes).submit(
            self._predict, raw, valid, network.ready(), device, place
        )
        return work.result()

    def _predict(
        self,
        raw: np.ndarray,
        valid: np.ndarray,
        network: nn.Module,
        device: torch.device,
        place: tuple[tuple[int, int], tuple[int, int]],
    ) -> np.ndarray:
        """Predict the chunk at rows and columns [start, stop) in this thread."""
        (r0, r1), (c0, c1) = place
        origin = self._grown(r0, r1, 0).start, self._grown(c0, c1, 1).start
        with _own_stream(device):
            window = _Window(
                _sent(raw, device),
                valid,
                _sent(valid, device),
                origin,
                # here, since a GPU would have to end its work to take them in between
                torch.tensor(self.codes, device=device),
            )
            planes = torch.empty((self.planes, r1 - r0, c1 - c0), device=device)
            for rows, columns in self._tiles((r0, r1), (c0, c1), self.tile):
                inside = _shifted(rows, origin[0]), _shifted(columns, origin[1])
                target = planes[:, _shifted(rows, r0), _shifted(columns, c0)]
                if valid[inside].any():
                    self._predict_tile(target, (rows, columns), window, network)
                else:
                    target[0] = UNLABELLED
                    target[1:] = torch.nan
            return planes.cpu().numpy()

    def _tiles(
        self, rows: tuple[int, int], columns: tuple[int, int], side: int
    ) -> Iterator[tuple[slice, slice]]:
        """Cut a window [start, stop) into tiles; the last ones may be smaller."""
        for row in range(*rows, side):
            for column in range(*columns, side):
                yield (
                    slice(row, min(row + side, rows[1])),
                    slice(column, min(column + side, columns[1])),
                )

    def _predict_tile(
        self,
        target: torch.Tensor,
        tile: tuple[slice, slice],
        window: _Window,
        network: nn.Module,
    ) -> None:
        """Write a tile's planes; by parts if the device has no memory for all of it at once."""
        side = getattr(network, "largest_tile", self.tile)
        rows, columns = tile
        parts = list(self._tiles((rows.start, rows.stop), (columns.start, columns.stop), side))
        if parts != [tile]:
            for part in parts:
                place = _shifted(part[0], rows.start), _shifted(part[1], columns.start)
                self._predict_tile(target[:, *place], part, window, network)
            return
        try:
            self._predict_at_once(target, tile, window, network)
        except RuntimeError as error:
            if not _lacks_memory(error):
                raise
            height, width = rows.stop - rows.start, columns.stop - columns.start
            side = math.ceil(max(height, width) / 2)
            if side < _SMALLEST_TILE:
                raise InputError(
                    f"the device {target.device} has no memory for the network, even for a tile "
                    f"of {height} x {width} pixels; free some or use --device cpu"
                ) from error
            # for all tiles to come
            network.largest_tile = min(side, getattr(network, "largest_tile", side))  # type: ignore[assignment]
            warnings.warn(
                f"the device {target.device} ran out of memory; going on with tiles of {side} "
                "pixels, which changes scores by no more than rounding",
                stacklevel=2,
            )
        else:
            return
        # Not in the handler: its error holds on to what the failed pass has made.
        if target.device.type == "cuda":
            torch.cuda.empty_cache()
        self._predict_tile(target, tile, window, network)

    def _predict_at_once(
        self,
        target: torch.Tensor,
        tile: tuple[slice, slice],
        window: _Window,
        network: nn.Module,
    ) -> None:
        """Write a tile's planes."""
        grown = tuple(self._grown(part.start, part.stop, axis) for axis, part in enumerate(tile))
        before = [part.start - whole.start for part, whole in zip(tile, grown, strict=True)]
        after = [whole.stop - part.stop for part, whole in zip(tile, grown, strict=True)]
        # where the scene ends within the halo, there is nothing to leave out
        cut = Sides(*(n == self.halo for n in (before[0], after[0], before[1], after[1])))
        first = [0 if n == self.halo else n for n in before]
        core = tuple(
            slice(n, n + part.stop - part.start) for n, part in zip(first, tile, strict=True)
        )
        raw, valid = window.part(grown, target.device)
        inside = tuple(_shifted(part, whole.start) for part, whole in zip(tile, grown, strict=True))
        with torch.inference_mode(), _exact_convolutions(target.device):
            best, layers = network(raw, valid, cut, inside, core)
        target[0] = window.codes[best]
        for plane, layer in zip(target[1:], layers, strict=True):
            plane.copy_(layer)
        if valid is not None:
            target[0].masked_fill_(~valid[inside], UNLABELLED)
            target[1:].masked_fill_(~valid[inside], torch.nan)

    def _grown(self, start: int, stop: int, axis: int) -> slice:
        """Return [start, stop) with its halo, cut off at the scene's edge."""
        return slice(max(start - self.halo, 0), min(stop + self.halo, self.shape[axis]))


@dataclass(frozen=True)
class _Window:
    """A chunk's digital numbers with halo (band, y, x), and which are valid (y, x)."""

    raw: torch.Tensor
    valid: np.ndarray
    mask: torch.Tensor
    """`valid`, where `raw` is."""
    origin: tuple[int, int]
    """Row and column of its corner in the scene."""
    codes: torch.Tensor
    """Code of each class, float32, on the network's device."""

    def part(
        self, window: tuple[slice, ...], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return a window of the scene on a device; its validity is None if all is valid."""
        inside = tuple(_shifted(w, start) for w, start in zip(window, self.origin, strict=True))
        # asked of the processor's memory, since a GPU would have to finish its work to answer
        mask = None if self.valid[inside].all() else self.mask[inside].to(device)
        return self.raw[:, *inside].to(device), mask


def _shifted(window: slice, origin: int) -> slice:
    """Return a window relative to an origin."""
    return slice(window.start - origin, window.stop - origin)


class SharedNetwork:
    """A prepared network that all chunks share.

    It goes to another process as bytes, once, and onto the device there: the process that asks for
    a map needs no GPU, and Dask's own way of sending a module knows no bfloat16.
    """

    def __init__(self, network: nn.Module, device: str) -> None:
        """Keep the network and the name of the device that it is to run on."""
        self.device = device
        self._network = network
        self._token = uuid4().hex
        self._lock = threading.Lock()

    def ready(self) -> nn.Module:
        """Return the network, on its device."""
        with self._lock:
            self._network = self._network.to(self.device)
            return self._network

    def __getstate__(self) -> dict[str, Any]:
        """Pickle from the processor's memory."""
        with self._lock:
            network = copy.deepcopy(self._network).cpu()
        pickled = cloudpickle.dumps(network)
        return {"device": self.device, "network": pickled, "token": self._token}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle."""
        self.device = state["device"]
        self._network = cloudpickle.loads(state["network"])
        self._token = state["token"]
        self._lock = threading.Lock()

    def __dask_tokenize__(self) -> str:
        """Be another one than all others, without a look at the weights."""
        return self._token


def passes_at_once(device: str, torch_threads: int) -> int:
    """Return how many network passes a process runs side by side.

    A pass uses all the cores that Torch was given: by default one pass at a time, and meanwhile
    the Dask threads read and write; more where Torch was told to use fewer, as Dask tells its
    workers. On a GPU two, so that it copies for one while it computes for the other.
    """
    return max(_CORES // torch_threads, 1) if device == "cpu" else 2


@cache
def _network_threads(device: str, passes: int) -> ThreadPoolExecutor:
    """Return the threads of this process that run the network.

    They are not Dask's, because each thread that has run a network keeps memory for the next one.
    """
    return ThreadPoolExecutor(passes, f"network-{device}")


_launching = threading.Lock()


@contextmanager
def _exact_convolutions(device: torch.device) -> Iterator[None]:
    """Have a GPU convolve float32 in float32.

    By default cuDNN rounds to TF32, which depends on the size of the tile. The setting holds for
    the whole process, hence one thread at a time launches; what is launched runs side by side.
    """
    if device.type != "cuda":
        yield
        return
    with (
        _launching,
        torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False),
    ):
        yield


def _lacks_memory(error: RuntimeError) -> bool:
    """Tell whether a device ran out of memory, in PyTorch's words or in those of a library."""
    return isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)


_thread = threading.local()


def _own_stream(device: torch.device) -> AbstractContextManager:
    """Have a GPU do what this thread asks for beside what another one asks for."""
    if device.type != "cuda":
        return nullcontext()
    streams = _thread.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return torch.cuda.stream(streams[device])


def _sent(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array on a device, or here if the device has no room for it."""
    tensor = torch.from_numpy(_native(array))
    if device.type == "cpu":
        return tensor
    try:
        # only page-locked memory is copied while the processor goes on
        pinned = tensor.pin_memory() if device.type == "cuda" else tensor
        return pinned.to(device, non_blocking=True)
    except RuntimeError as error:
        if not _lacks_memory(error):
            raise
        return tensor


def _native(raw: np.ndarray) -> np.ndarray:
    """Return digital numbers as PyTorch takes them: in this machine's byte order, writable."""
    raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    return raw if raw.flags.writeable else raw.copy()
