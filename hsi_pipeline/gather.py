"""Class maps brought onto another grid, window by window: every pixel takes its nearest one.

A pixel of the grid takes the class of the source pixel in which its centre lies, found from its
row and column in the whole grid: however that is cut into windows, the same pixel answers. Centres
are transformed one by one, not interpolated between a few.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.blockwise import BlockwiseDepDict, blockwise
from dask.highlevelgraph import HighLevelGraph
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from hsi_pipeline.classes import UNLABELLED, ClassScheme, scheme_from_attrs
from hsi_pipeline.cube import grid_of, read_window
from hsi_pipeline.errors import InputError

CHUNK = 1024
"""Side of a chunk unless the user says otherwise. With 512 a mosaic takes twice as long, as each
chunk of a map is read for several of them (benchmarks/mosaic.py)."""

_EDGE = 1e-6  # pixels; centres so near to the left or upper edge of a pixel lie in it
_NODES = 33  # along a side, to see how a grid bends in another CRS
_WINDOW = 2**24  # source pixels that are read at once


@dataclass(frozen=True)
class Layers:
    """The lazy rasters of a class map, and what to call it."""

    name: str
    """For messages."""
    grid: GeoBox
    scheme: ClassScheme
    codes: da.Array
    """uint8 (y, x)."""
    confidence: da.Array | None
    """float32 (y, x)."""

    def __dask_tokenize__(self) -> tuple[Hashable, ...]:
        """Stand for what the arrays hold, by the names that Dask gives them."""
        confidence = None if self.confidence is None else self.confidence.name
        return (
            self.name, tuple(self.grid.affine), self.grid.shape, str(self.grid.crs), self.scheme,
            self.codes.name, confidence,
        )  # fmt: skip


def layers_of(class_map: xr.Dataset, name: str) -> Layers:
    """Return the rasters of a class map.

    Args:
        class_map: As `publish.open_class_map` returns it.
        name: What to call it in messages.

    Raises:
        InputError: It is no class map, or lies on no regular grid.
    """
    if "class" not in class_map or class_map["class"].dims != ("y", "x"):
        raise InputError(f"{name}: no variable 'class' (y, x); is it a class map?")
    try:
        scheme, grid = scheme_from_attrs(class_map["class"].attrs), grid_of(class_map)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    confidence = class_map.get("confidence")
    return Layers(
        name,
        grid,
        scheme,
        da.asarray(class_map["class"].data),
        None if confidence is None else da.asarray(confidence.data),
    )


def moment_of(attrs: Mapping[str, Any]) -> datetime | None:
    """Return when the scene of a class map was taken, of several the last one, None if unknown.

    A date without a time of day is the start of that day, a time without a zone UTC.
    """
    text = str(attrs.get("acquired", attrs.get("acquired_to", ""))).strip()
    iso = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text)  # as TIFF writes it
    try:
        moment = datetime.fromisoformat(re.sub(r" *(UTC|GMT)$", "Z", iso))
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def gather(
    source: Layers, grid: GeoBox, rows: slice, columns: slice, *, confidence: bool = False
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Read what a class map says of the pixels of a window of another grid.

    Args:
        source: The class map.
        grid: The other grid.
        rows: Rows of the window.
        columns: Its columns.
        confidence: Whether to read that too.

    Returns:
        Classes uint8 (y, x), 0 where the map has none, and confidences float32 (y, x), NaN where
        it has none; None for them if not asked or there are none. None at all where the window
        holds no pixel of the map.

    Raises:
        InputError: The map cannot be read, or holds a code that its classes lack.
    """
    row, column = locate(source.grid, grid, rows, columns)
    inside = (row >= 0) & (column >= 0)
    if not inside.any():
        return None
    # a row or column of indices is inside or not by itself
    window = tuple(
        _range(index[inside if index.shape == inside.shape else index >= 0])
        for index in (row, column)
    )
    read = (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
    if read > _WINDOW and inside.size > 1:  # of a source with far smaller pixels
        return _gather_halves(source, grid, rows, columns, confidence=confidence)
    place = tuple(
        np.clip(index - part.start, 0, part.stop - part.start - 1)
        for index, part in zip((row, column), window, strict=True)
    )
    codes = _read(source, source.codes, window)
    _check_codes(source, codes)
    found = np.where(inside, codes[place], np.uint8(UNLABELLED))
    if not confidence or source.confidence is None:
        return found, None
    values = _read(source, source.confidence, window).astype(np.float32, copy=False)
    return found, np.where(found != UNLABELLED, values[place], np.float32(np.nan))


def locate(
    source: GeoBox, grid: GeoBox, rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Find the pixels of a source in which the centres of a window of another grid lie.

    Args:
        source: Grid of the source.
        grid: The other grid.
        rows: Rows of the window.
        columns: Its columns.

    Returns:
        Rows and columns of the source, -1 outside it; int64, broadcastable to (y, x).
    """
    column = np.arange(columns.start, columns.stop)[None] + 0.5
    row = np.arange(rows.start, rows.stop)[:, None] + 0.5
    if source.crs == grid.crs:
        step = ~source.affine @ grid.affine
        if step.b == 0 and step.d == 0:
            x, y = step.a * column + step.c, step.e * row + step.f
        else:
            x, y = step @ (column, row)
    else:
        easting, northing = grid.affine @ (column, row)
        shape = np.broadcast_shapes(column.shape, row.shape)
        easting, northing = (np.broadcast_to(axis, shape) for axis in (easting, northing))
        x, y = ~source.affine @ transform(grid, source, easting, northing)
    height, width = source.shape
    return _indices(y, height), _indices(x, width)


def extent_in(source: GeoBox, crs: Any) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of what a grid covers in a CRS.

    Never too small; in another CRS than its own a trifle too large. Infinite where a part of the
    grid has no place in the CRS.
    """
    height, width = source.shape
    nodes = 2 if source.crs == crs else _NODES
    column, row = np.meshgrid(np.linspace(0, width, nodes), np.linspace(0, height, nodes))
    x, y = source.affine @ (column, row)
    if source.crs == crs:
        return x.min(), y.min(), x.max(), y.max()
    placed = transform(source, GeoBox((1, 1), source.affine, crs), x, y)
    if not np.isfinite(placed).all():
        return -np.inf, -np.inf, np.inf, np.inf
    low, high = [], []
    for axis in placed:
        # how far a line bends between two nodes is an eighth of its second difference
        bend = max(np.abs(np.diff(axis, 2, along)).max() for along in (0, 1)) / 4
        low.append(axis.min() - bend)
        high.append(axis.max() + bend)
    return low[0], low[1], high[0], high[1]


def window_of(source: GeoBox, grid: GeoBox) -> tuple[slice, slice] | None:
    """Return rows and columns of a grid outside of which it meets nothing of another; or None."""
    left, bottom, right, top = extent_in(source, grid.crs)
    if not np.isfinite([left, bottom, right, top]).all():
        return slice(0, grid.shape[0]), slice(0, grid.shape[1])
    x, y = ~grid.affine @ (np.array([left, left, right, right]), np.array([bottom, top] * 2))
    parts = []
    for axis, size in ((y, grid.shape[0]), (x, grid.shape[1])):
        start, stop = np.clip([np.floor(axis.min()) - 1, np.ceil(axis.max()) + 1], 0, size)
        parts.append(slice(int(start), int(stop)))
    if any(part.start == part.stop for part in parts):
        return None
    return parts[0], parts[1]


@dataclass(frozen=True)
class ChunkSources:
    """A chunk of a grid, and the class maps that may say something of it."""

    rows: slice
    columns: slice
    sources: tuple[Any, ...]


def plan(
    grid: GeoBox, sources: Sequence[tuple[GeoBox, Any]], side: int
) -> dict[tuple[int, int], ChunkSources]:
    """Cut a grid into chunks and find the sources of each.

    Args:
        grid: The grid.
        sources: Grids of sources, and what stands for each; their order stays.
        side: Side of a chunk.

    Returns:
        The chunks by their place.

    Raises:
        InputError: The side makes no sense.
    """
    if side < 1:
        raise InputError(f"the chunk size is {side} pixels, expected 1 or more")
    counts = [-(-size // side) for size in grid.shape]
    found: dict[tuple[int, int], list[Any]] = {
        (i, j): [] for i in range(counts[0]) for j in range(counts[1])
    }
    for source, standing in sources:
        window = window_of(source, grid)
        if window is None:
            continue
        for i in range(window[0].start // side, -(-window[0].stop // side)):
            for j in range(window[1].start // side, -(-window[1].stop // side)):
                found[i, j].append(standing)
    height, width = grid.shape
    return {
        (i, j): ChunkSources(
            slice(i * side, min((i + 1) * side, height)),
            slice(j * side, min((j + 1) * side, width)),
            tuple(those),
        )
        for (i, j), those in found.items()
    }


def chunk_array(
    label: str,
    task: Callable[..., np.ndarray],
    chunks: Mapping[tuple[int, int], ChunkSources],
    planes: int,
    *,
    dtype: type,
    reduced: bool = False,
    **settings: Any,
) -> da.Array:
    """Return a lazy array (plane, y, x) with one task for each chunk of a plan.

    Args:
        label: Begins its name.
        task: Called with a chunk and the settings; returns (plane, y, x).
        chunks: The plan.
        planes: Number of planes.
        dtype: Of the result.
        reduced: A chunk becomes one pixel.
        **settings: What the task needs of all chunks.
    """
    # an operation of Dask's own kind: it joins those that follow to one task a chunk
    name = f"{label}-{tokenize(task, chunks, settings)}"
    down, across = (max(place[axis] for place in chunks) + 1 for axis in (0, 1))
    jobs = BlockwiseDepDict(
        {(0, *place): chunk for place, chunk in chunks.items()}, numblocks=(1, down, across)
    )
    layer = blockwise(task, name, "zyx", jobs, "zyx", numblocks={}, **settings)
    heights = tuple(_size(chunks[i, 0].rows, reduced=reduced) for i in range(down))
    widths = tuple(_size(chunks[0, j].columns, reduced=reduced) for j in range(across))
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[])
    return da.Array(
        graph, name, ((planes,), heights, widths), dtype=dtype, meta=np.empty((0, 0, 0), dtype)
    )


def taken(planes: da.Array, which: int, dtype: type) -> da.Array:
    """Return one of the planes; by blocks, which Dask joins with the task that makes them."""
    return da.blockwise(
        _take, "yx", planes, "zyx", which=which, number_type=dtype, dtype=dtype,
        meta=np.empty((0, 0), dtype),
    )  # fmt: skip


def _take(block: list[np.ndarray] | np.ndarray, which: int, number_type: type) -> np.ndarray:
    pixels = block[0] if isinstance(block, list) else block
    return pixels[which].astype(number_type)


def _size(part: slice, *, reduced: bool) -> int:
    return 1 if reduced else part.stop - part.start


def _gather_halves(
    source: Layers, grid: GeoBox, rows: slice, columns: slice, *, confidence: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Do the same as `gather` for both halves of a window."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    axis = int(width > height)
    cut = (rows, columns)[axis].start + max(height, width) // 2
    halves = [
        (slice(rows.start, cut), columns) if axis == 0 else (rows, slice(columns.start, cut)),
        (slice(cut, rows.stop), columns) if axis == 0 else (rows, slice(cut, columns.stop)),
    ]
    has_values = confidence and source.confidence is not None
    parts = []
    for half in halves:
        found = gather(source, grid, *half, confidence=confidence)
        if found is None:
            shape = tuple(part.stop - part.start for part in half)
            found = np.zeros(shape, np.uint8), np.full(shape, np.nan, np.float32)
        parts.append(found)
    codes = np.concatenate([part[0] for part in parts], axis)
    if not has_values:
        return codes, None
    return codes, np.concatenate([part[1] for part in parts if part[1] is not None], axis)


def _read(source: Layers, raster: da.Array, window: tuple[slice, ...]) -> np.ndarray:
    """Read a window of a source.

    Raises:
        InputError: Names the source.
    """
    try:
        return read_window(raster[window], *window)
    except (InputError, OSError, RuntimeError) as error:
        raise InputError(f"{source.name}: {error}; is the file damaged?") from error


def _check_codes(source: Layers, codes: np.ndarray) -> None:
    """Refuse codes without a class.

    Raises:
        InputError: Names one.
    """
    known = np.zeros(256, bool)
    known[[UNLABELLED, *source.scheme.codes]] = True
    if not (fits := known[codes]).all():
        raise InputError(
            f"{source.name}: the class map holds code {codes[~fits].min()}, its classes are "
            f"{', '.join(map(str, source.scheme.codes))}"
        )


def _indices(position: np.ndarray, size: int) -> np.ndarray:
    """Return the pixels along an axis in which positions lie, -1 outside."""
    index = np.full(position.shape, -1, np.int64)
    inside = (position >= -_EDGE) & (position < size - _EDGE)  # neither holds for NaN
    index[inside] = np.floor(position[inside] + _EDGE)
    return index


def _range(index: np.ndarray) -> slice:
    return slice(int(index.min()), int(index.max()) + 1)


def transform(
    source: GeoBox, target: GeoBox, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Take coordinates from the CRS of one grid to that of another; inf where there is none.

    Raises:
        InputError: One of them has no CRS.
    """
    known = [None if grid.crs is None else grid.crs.to_wkt() for grid in (source, target)]
    if None in known:
        raise InputError("a grid without CRS cannot be brought onto one with a CRS")
    transformer = _transformer(*known, threading.get_ident())
    return transformer.transform(x, y)


@lru_cache(maxsize=64)
def _transformer(source: str, target: str, thread: int) -> Transformer:
    """Return a transformer, one for each thread, as PROJ wants it."""
    return Transformer.from_crs(source, target, always_xy=True)
