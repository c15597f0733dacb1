"""A cube and a model give a class map, chunk by chunk, the same for every chunking.

The scene has a grid of compute tiles of its own; a Dask chunk groups whole tiles. Each tile is
predicted from its window plus the model's halo, cut off at the scene's edge and read straight
from the source. Since a score depends on the halo and nothing beyond, and nodata acts like the
world outside the scene, tiles give what one pass over the whole scene gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
import torch
import xarray as xr
from dask.utils import format_bytes
from odc.geo.xr import xr_coords
from torch import nn

from hsi_pipeline.chunk_tasks import ChunkTasks, SharedNetwork, passes_at_once
from hsi_pipeline.classes import ClassScheme, scheme_to_attrs
from hsi_pipeline.cube import WindowReader, check_cube, grid_of, scale_offset
from hsi_pipeline.errors import InputError
from hsi_pipeline.map_layers import NUMBER_LAYERS, OPTIONAL_LAYERS
from hsi_pipeline.models.applicability import Applicability
from hsi_pipeline.models.outputs import MapOutputs, PreparedApplicability
from hsi_pipeline.models.prepared import prepare
from hsi_pipeline.resampling import SpectralOperator, operator_of

TILE = 256
"""Side of a compute tile in pixels. Larger ones compute less halo, but fall out of the processor's
cache: with 512, the published network takes nearly twice as long (benchmarks/inference)."""
CHUNK = 512
"""Side of a chunk unless the user says otherwise."""
PRECISIONS = ("float32", "bfloat16", "auto")

# Chunks to choose from; larger ones read less halo, but the last ones leave threads idle.
_SIDES = (*range(8 * TILE, 0, -TILE), TILE // 2, TILE // 4)
_PROGRAM_BYTES = 1.2e9  # libraries, GDAL's cache, what allocators keep
_STEP_BYTES = 2**27  # that a message rounds up to
_NETWORK_BYTES = 10_000  # for each pixel of a tile with its halo


def classify_cube(
    cube: xr.DataArray,
    model: nn.Module,
    scheme: ClassScheme,
    *,
    bands: Sequence[int] | SpectralOperator,
    chunk: int | None = None,
    precision: str = "float32",
    device: str = "cpu",
    probabilities: bool = False,
    layers: Sequence[str] = (),
    temperature: float = 1.0,
    applicability: Applicability | None = None,
) -> xr.Dataset:
    """Classify every valid pixel of a cube, lazily.

    Args:
        cube: Scene by the cube contract.
        model: A network of `models.MODELS` in its dense form.
        scheme: The model's classes in output order.
        bands: How the model's input is made of the cube's bands: zero-based bands in its order, or
            what `spectra.bands_for_model` finds.
        chunk: Side of an output chunk in pixels. Above 256 it is rounded up to whole tiles of 256;
            below, tiles get this size. None: 512.
        precision: "float32"; "bfloat16", which is faster on processors that have it and may
            change a class where two are nearly equal; "auto" takes bfloat16 where there is
            hardware for it.
        device: Torch device, such as "cpu" or "cuda".
        probabilities: Whether to return the probability of each class too.
        layers: What else to return of `map_layers.OPTIONAL_LAYERS`: "entropy", "margin",
            "dissimilarity".
        temperature: What scores are divided by before they become probabilities; the model card's.
        applicability: What the layer "dissimilarity" needs; the model file's.

    Returns:
        Dataset (y, x) on the cube's grid: `class` uint8 with 0 where invalid, `confidence`
        float32 (the highest probability, NaN where invalid) and, if asked, the layers, float32
        like it, and `probability` (category, y, x) float32, NaN where invalid.

    Raises:
        InputError: chunk or precision cannot be, a layer is not known or cannot be made, or the
            model cannot do without a band.
    """
    check_cube(cube)
    check_layers(layers)
    if "dissimilarity" in layers and applicability is None:
        raise InputError(
            "this model does not know the area that it is applicable in, which the layer "
            "'dissimilarity' needs; train it again"
        )
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk is {chunk}; it must be at least 1 pixel")
    tile = min(chunk or TILE, TILE)
    side = math.ceil((chunk or CHUNK) / tile) * tile
    operator = operator_of(bands)
    read = operator.bands
    if "dissimilarity" in layers and operator.absent:
        raise InputError(
            f"the layer 'dissimilarity' compares all bands of the model, and the scene lacks "
            f"{len(operator.absent)} of them; leave it out, or use --fill-missing interpolate"
        )
    if operator.absent and not hasattr(model, "band_mean"):
        raise InputError(
            "this model does not keep the mean of its training pixels, so that missing bands "
            "cannot be set to it; use --fill-missing interpolate"
        )
    scale, offset = (torch.from_numpy(values[list(read)]) for values in scale_offset(cube))
    matrix = None if operator.matrix is None else torch.from_numpy(operator.matrix)
    wanted = [layer.name for layer in NUMBER_LAYERS if layer.name in ("confidence", *layers)]
    outputs = MapOutputs(
        prepare(model.eval(), scale, offset, resolve_precision(precision, device), matrix=matrix),
        temperature=temperature,
        layers=wanted,
        probabilities=probabilities,
        applicability=None
        if applicability is None or "dissimilarity" not in layers
        else PreparedApplicability(applicability, scale, offset, matrix),
    )
    tasks = ChunkTasks(
        reader=WindowReader(cube.data, read),
        nodata=cube.attrs["nodata"],
        codes=np.array(scheme.codes, dtype=np.float32),
        shape=(cube.sizes["y"], cube.sizes["x"]),
        side=side,
        tile=tile,
        halo=int(model.halo),  # type: ignore[arg-type]
        planes=1 + len(wanted) + (len(scheme) if probabilities else 0),
    )
    chunks = tuple(_cut(size, side) for size in tasks.shape)
    # Dask fuses both into one task a chunk; while one thread predicts, the others read, so no
    # more chunks are in memory than there are threads.
    raw = da.map_blocks(
        tasks.read,
        chunks=((len(read),), *(tasks.padded(axis) for axis in (0, 1))),
        dtype=cube.dtype,
        meta=np.empty((0, 0, 0), cube.dtype),
    )
    planes = da.map_blocks(
        tasks.predict,
        raw,
        # A graph node that all chunks share, so that a worker receives the network once.
        network=dask.delayed(SharedNetwork(outputs, device), pure=False, traverse=False),
        chunks=((tasks.planes,), *chunks),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return _as_dataset(planes, cube, scheme, wanted)


def check_layers(layers: Sequence[str]) -> None:
    """Refuse names of layers that there are not.

    Raises:
        InputError: Names one, and those that there are.
    """
    for name in layers:
        if name not in OPTIONAL_LAYERS:
            raise InputError(
                f"there is no layer {name!r}; layers are {', '.join(OPTIONAL_LAYERS)} "
                "(confidence is always there)"
            )


def chunk_for_memory(
    memory: int,
    cube: xr.DataArray,
    model: nn.Module,
    *,
    bands: Sequence[int] | SpectralOperator,
    classes: int = 0,
    threads: int = 2,
) -> int:
    """Return the largest chunk with which a process keeps within some memory.

    The figures behind it were measured with the networks of this package
    (`benchmarks/inference/mapping.py`); a network of several times their width needs more.

    Args:
        memory: Bytes for the whole process.
        cube: Scene by the cube contract.
        model: The network.
        bands: As for `classify_cube`.
        classes: Classes whose probabilities are asked for, and further layers.
        threads: Dask threads in the process; each holds a chunk.

    Returns:
        Side of a chunk in pixels, 64 to 2048; no larger than the scene needs.

    Raises:
        InputError: Not even the smallest chunk fits; says how much would do.
    """
    halo = int(model.halo)  # type: ignore[arg-type]
    bands = operator_of(bands).bands
    read = max(bands) - min(bands) + 1
    passes = min(passes_at_once("cpu", torch.get_num_threads()), threads)
    need = 0.0
    for side in _SIDES:
        window = math.prod(min(side + 2 * halo, cube.sizes[axis]) for axis in "yx")
        tile = math.prod(min(min(side, TILE) + 2 * halo, cube.sizes[axis]) for axis in "yx")
        chunk = window * (read + len(bands)) * cube.dtype.itemsize + side**2 * (2 + classes) * 8
        need = _PROGRAM_BYTES + passes * tile * _NETWORK_BYTES + threads * chunk
        if need <= memory:
            return side
    raise InputError(
        f"a memory of {format_bytes(memory)} is too small for a chunk of {_SIDES[-1]} pixels with "
        f"{halo} around it; {format_bytes(math.ceil(need / _STEP_BYTES) * _STEP_BYTES)} would do"
    )


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


def _cut(size: int, side: int) -> tuple[int, ...]:
    """Cut an axis into chunks; the last one may be smaller."""
    return tuple(min(side, size - start) for start in range(0, size, side))


def _taken(planes: da.Array, which: int | slice, dtype: type) -> da.Array:
    """Return some of the predicted planes.

    By blocks, which Dask joins with whatever stores them into one task a chunk; slices it would
    leave as tasks of their own.
    """
    options: dict[str, Any] = {"which": which, "number_type": dtype, "dtype": dtype}
    if isinstance(which, int):
        return da.blockwise(_take, "yx", planes, "zyx", meta=np.empty((0, 0), dtype), **options)
    count = len(range(*which.indices(planes.shape[0])))
    return da.blockwise(
        _take, "zyx", planes, "zyx", meta=np.empty((0, 0, 0), dtype),
        adjust_chunks={"z": lambda _: count}, **options,
    )  # fmt: skip


def _take(
    planes: np.ndarray | list[np.ndarray], *, which: int | slice, number_type: type
) -> np.ndarray:
    """Return some planes of a chunk, which comes in a list where they are all of an axis."""
    (chunk,) = planes if isinstance(planes, list) else [planes]
    return chunk[which].astype(number_type)


def _as_dataset(
    planes: da.Array, cube: xr.DataArray, scheme: ClassScheme, layers: Sequence[str]
) -> xr.Dataset:
    """Name the predicted planes and put them on the cube's grid."""
    grid = grid_of(cube)
    common = {"grid_mapping": "spatial_ref"} if grid.crs is not None else {}
    variables: dict[str, Any] = {
        "class": (
            ("y", "x"),
            _taken(planes, 0, np.uint8),
            {"long_name": "land-cover class", **scheme_to_attrs(scheme), **common},
        ),
    }
    titles = {layer.name: layer.long_name for layer in NUMBER_LAYERS}
    for place, name in enumerate(layers, start=1):
        variables[name] = (
            ("y", "x"),
            _taken(planes, place, np.float32),
            {"long_name": titles[name], "units": "1", **common},
        )
    coords = dict(xr_coords(grid, dims=("y", "x")))
    if planes.shape[0] > 1 + len(layers):
        coords["category"] = ("category", list(scheme.names))
        variables["probability"] = (
            ("category", "y", "x"),
            _taken(planes, slice(1 + len(layers), None), np.float32),
            {"long_name": "probability of each class", "units": "1", **common},
        )
    kept = {
        k: cube.attrs[k] for k in ("scene_id", "acquired", "sensor", "level") if k in cube.attrs
    }
    return xr.Dataset(variables, coords, attrs=kept)
