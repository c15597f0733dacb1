"""A cube and a model give a class map, chunk by chunk, the same for every chunking.

The scene has a grid of compute tiles of its own; a Dask chunk groups whole tiles. Each tile is
predicted from its window plus the model's halo, cut off at the scene's edge and read straight
from the source. Since a score depends on the halo and nothing beyond, and nodata acts like the
world outside the scene, tiles give what one pass over the whole scene gives.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from itertools import chain
from typing import Any

import dask
import dask.array as da
import numpy as np
import torch
import xarray as xr
from odc.geo.xr import xr_coords
from torch import nn

from hsi_pipeline.classes import UNLABELLED, ClassScheme, scheme_to_attrs
from hsi_pipeline.cube import WindowReader, grid_of, scale_offset, valid_pixels
from hsi_pipeline.errors import InputError
from hsi_pipeline.models.prepared import prepare

TILE = 256
"""Side of a compute tile in pixels. Larger ones compute less halo, but fall out of the processor's
cache: with 512, the published network takes twice as long (benchmarks/inference)."""
CHUNK = 512
"""Side of a chunk unless the user says otherwise."""
PRECISIONS = ("float32", "bfloat16", "auto")

_PAUSES_S = (0.2, 1.0)  # before a window that could not be read is tried again

# One network pass at a time in a process: it uses all cores or the whole GPU by itself, and
# meanwhile the other Dask threads read and write.
_NETWORK = threading.Lock()


def classify_cube(
    cube: xr.DataArray,
    model: nn.Module,
    scheme: ClassScheme,
    *,
    bands: tuple[int, ...],
    chunk: int | None = None,
    precision: str = "float32",
    device: str = "cpu",
    probabilities: bool = False,
) -> xr.Dataset:
    """Classify every valid pixel of a cube, lazily.

    Args:
        cube: Scene by the cube contract.
        model: A network of `models.MODELS` in its dense form.
        scheme: The model's classes in output order.
        bands: Zero-based bands of the cube, in the order of the model's input.
        chunk: Side of an output chunk in pixels. Above 256 it is rounded up to whole tiles of 256;
            below, tiles get this size. None: 512.
        precision: "float32"; "bfloat16", which is faster on processors that have it and may
            change a class where two are nearly equal; "auto" takes bfloat16 where there is
            hardware for it.
        device: Torch device, such as "cpu" or "cuda".
        probabilities: Whether to return the probability of each class too.

    Returns:
        Dataset (y, x) on the cube's grid: `class` uint8 with 0 where invalid, `confidence`
        float32 (the highest probability, NaN where invalid) and, if asked, `probability`
        (category, y, x) float32, NaN where invalid.

    Raises:
        InputError: chunk or precision cannot be.
    """
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk is {chunk}; it must be at least 1 pixel")
    tile = min(chunk or TILE, TILE)
    side = math.ceil((chunk or CHUNK) / tile) * tile
    scale, offset = (torch.from_numpy(values[list(bands)]) for values in scale_offset(cube))
    network = prepare(model.eval(), scale, offset, resolve_precision(precision, device))
    tasks = _ChunkTasks(
        reader=WindowReader(cube.data, bands),
        nodata=cube.attrs["nodata"],
        codes=np.array(scheme.codes, dtype=np.float32),
        shape=(cube.sizes["y"], cube.sizes["x"]),
        side=side,
        tile=tile,
        halo=int(model.halo),  # type: ignore[arg-type]
        probabilities=probabilities,
    )
    chunks = tuple(_cut(size, side) for size in tasks.shape)
    # Dask fuses both into one task a chunk; while one thread predicts, the others read, so no
    # more chunks are in memory than there are threads.
    raw = da.map_blocks(
        tasks.read,
        chunks=((len(bands),), *(tasks.padded(axis) for axis in (0, 1))),
        dtype=cube.dtype,
        meta=np.empty((0, 0, 0), cube.dtype),
    )
    planes = da.map_blocks(
        tasks.predict,
        raw,
        # A graph node that all chunks share, so that a worker receives the network once.
        network=dask.delayed(network.to(device), pure=False, traverse=False),
        chunks=((tasks.planes,), *chunks),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return _as_dataset(planes, cube, scheme)


def resolve_precision(precision: str, device: str) -> torch.dtype:
    """Return the number type for a precision option on a device.

    Raises:
        InputError: The option is not known.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        fast = (
            torch.cuda.is_bf16_supported()
            if device.startswith("cuda")
            else torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def predict_window(
    raw: np.ndarray, network: nn.Module, nodata: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Run a prepared network over one window.

    Args:
        raw: Digital numbers (band, y, x) of the model's bands.
        network: What `models.prepared.prepare` returned, on its device.
        nodata: Digital number of invalid pixels.

    Returns:
        Probabilities (class, y, x) float32, and validity (y, x) bool.
    """
    valid = valid_pixels(raw, nodata)
    device = next(chain(network.parameters(), network.buffers())).device
    x = torch.from_numpy(_native(raw)).to(device)
    mask = None if valid.all() else torch.from_numpy(valid).to(device)
    # By default cuDNN rounds float32 to TF32, which depends on the size of the tile.
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False)
    with torch.inference_mode(), exact:
        probabilities = network(x, mask).softmax(0)
    return probabilities.float().cpu().numpy(), valid


def _native(raw: np.ndarray) -> np.ndarray:
    """Return digital numbers as PyTorch takes them: in this machine's byte order, writable."""
    raw = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    return raw if raw.flags.writeable else raw.copy()


@dataclass(frozen=True)
class _ChunkTasks:
    """The tasks of a chunk and what they must know; pickles to workers."""

    reader: WindowReader
    nodata: float | None
    codes: np.ndarray
    shape: tuple[int, int]
    side: int
    tile: int
    halo: int
    probabilities: bool

    @property
    def planes(self) -> int:
        """Layers of a predicted chunk: class code, confidence, probabilities."""
        return 2 + (len(self.codes) if self.probabilities else 0)

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
            InputError: Names the window that cannot be read.
        """
        starts = [index * self.side for index in block_info[None]["chunk-location"][1:]]
        rows, columns = (
            self._grown(start, start + self.side, axis) for axis, start in enumerate(starts)
        )
        for pause in (*_PAUSES_S, None):
            try:
                return self.reader(rows, columns)
            except (InputError, OSError) as error:
                if pause is None:
                    raise InputError(
                        f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to "
                        f"{columns.stop - 1} cannot be read, tried {len(_PAUSES_S) + 1} times: "
                        f"{error}"
                    ) from error
                time.sleep(pause)
        raise AssertionError  # the last turn returns or raises

    def predict(self, raw: np.ndarray, network: nn.Module, *, block_info: dict) -> np.ndarray:
        """Predict a chunk tile by tile; returns (planes, y, x) float32."""
        (r0, r1), (c0, c1) = block_info[None]["array-location"][1:]
        top, left = self._grown(r0, r1, 0).start, self._grown(c0, c1, 1).start
        result = np.empty((self.planes, r1 - r0, c1 - c0), np.float32)
        for row in range(r0, r1, self.tile):
            for column in range(c0, c1, self.tile):
                rows = slice(row, min(row + self.tile, r1))
                columns = slice(column, min(column + self.tile, c1))
                context = (
                    _shifted(self._grown(rows.start, rows.stop, 0), top),
                    _shifted(self._grown(columns.start, columns.stop, 1), left),
                )
                core = (
                    _shifted(rows, top + context[0].start),
                    _shifted(columns, left + context[1].start),
                )
                result[:, _shifted(rows, r0), _shifted(columns, c0)] = self._predict_tile(
                    raw[:, *context], core, network
                )
        return result

    def _predict_tile(
        self, raw: np.ndarray, core: tuple[slice, slice], network: nn.Module
    ) -> np.ndarray:
        """Return the planes of a tile's core, given its window with halo."""
        if not valid_pixels(raw[:, *core], self.nodata).any():
            shape = raw[0][core].shape
            return np.stack([np.full(shape, v) for v in [0, *[np.nan] * (self.planes - 1)]])
        with _NETWORK:
            probabilities, valid = predict_window(raw, network, self.nodata)
        probabilities = probabilities[:, *core]
        probabilities[:, ~valid[core]] = np.nan
        best = np.where(valid[core], self.codes[probabilities.argmax(0)], float(UNLABELLED))
        planes = [best[None], probabilities.max(0)[None]]
        return np.concatenate([*planes, probabilities] if self.probabilities else planes)

    def _grown(self, start: int, stop: int, axis: int) -> slice:
        """Return [start, stop) with its halo, cut off at the scene's edge."""
        return slice(max(start - self.halo, 0), min(stop + self.halo, self.shape[axis]))


def _cut(size: int, side: int) -> tuple[int, ...]:
    """Cut an axis into chunks; the last one may be smaller."""
    return tuple(min(side, size - start) for start in range(0, size, side))


def _shifted(window: slice, origin: int) -> slice:
    """Return a window relative to an origin."""
    return slice(window.start - origin, window.stop - origin)


def _column(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return one value per band, ready to broadcast over (band, y, x)."""
    return torch.tensor(values, device=device)[:, None, None]


def _as_dataset(planes: da.Array, cube: xr.DataArray, scheme: ClassScheme) -> xr.Dataset:
    """Name the predicted planes and put them on the cube's grid."""
    grid = grid_of(cube)
    common = {"grid_mapping": "spatial_ref"} if grid.crs is not None else {}
    variables: dict[str, Any] = {
        "class": (
            ("y", "x"),
            planes[0].astype(np.uint8),
            {"long_name": "land-cover class", **scheme_to_attrs(scheme), **common},
        ),
        "confidence": (
            ("y", "x"),
            planes[1],
            {"long_name": "probability of the class", "units": "1", **common},
        ),
    }
    coords = dict(xr_coords(grid, dims=("y", "x")))
    if planes.shape[0] > 2:
        coords["category"] = ("category", list(scheme.names))
        variables["probability"] = (
            ("category", "y", "x"),
            planes[2:],
            {"long_name": "probability of each class", "units": "1", **common},
        )
    kept = {k: cube.attrs[k] for k in ("scene_id", "acquired") if k in cube.attrs}
    return xr.Dataset(variables, coords, attrs=kept)
