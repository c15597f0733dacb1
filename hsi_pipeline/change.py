"""Two class maps of one place: what became what, and where.

Classes are the same if they have the same name; their codes may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from hsi_pipeline.areas import Measure
from hsi_pipeline.classes import UNLABELLED, Category, ClassScheme, scheme_to_attrs
from hsi_pipeline.errors import InputError
from hsi_pipeline.gather import (
    CHUNK,
    ChunkSources,
    Layers,
    chunk_array,
    gather,
    layers_of,
    moment_of,
    plan,
    taken,
    window_of,
)

UNCHANGED = 1
"""Code of pixels whose class is the same in both maps."""

_GREY = "#bdbdbd"
_LARGEST = 255 - UNCHANGED  # transitions


def transition_counts(
    before: xr.Dataset,
    after: xr.Dataset,
    *,
    chunk: int | None = None,
    names: tuple[str, str] = ("before", "after"),
) -> xr.Dataset:
    """Count what became what, lazily.

    Args:
        before: Class map; its pixels are counted.
        after: Class map of a later time; on another grid, each pixel of `before` takes the pixel in
            which its centre lies.
        chunk: Side of a chunk in pixels; makes no difference, but of some millionths to areas that
            are measured on the ellipsoid. None: 1024.
        names: What to call the maps in messages.

    Returns:
        `pixels` int64 and, if the maps have a CRS, `area_m2` float64 (before, after): of the pixels
        where both have a class, those of each class of the one and of the other. Coordinates are
        the names, and `before_code` and `after_code`.

    Raises:
        InputError: The maps do not overlap, or have no class in common.
    """
    one, other = _pair(before, after, names)
    planes = _chunks_of(
        "transitions", _count_chunk, one, other, chunk,
        planes=2 * len(one.scheme) * len(other.scheme), dtype=np.float64, reduced=True,
    )  # fmt: skip
    totals = planes.sum(axis=(1, 2)).reshape(2, len(one.scheme), len(other.scheme))
    dims = ("before", "after")
    variables: dict[str, Any] = {"pixels": (dims, totals[0].astype(np.int64))}
    if one.grid.crs is not None:
        variables["area_m2"] = (dims, totals[1], {"units": "m2"})
    coords = {
        "before": list(one.scheme.names),
        "after": list(other.scheme.names),
        "before_code": ("before", np.array(one.scheme.codes)),
        "after_code": ("after", np.array(other.scheme.codes)),
    }
    return xr.Dataset(variables, coords)


def change_map(
    before: xr.Dataset,
    after: xr.Dataset,
    counts: xr.Dataset,
    *,
    chunk: int | None = None,
    names: tuple[str, str] = ("before", "after"),
) -> xr.Dataset:
    """Return the map of what became what, lazily.

    Args:
        before: Class map; the result lies on its grid.
        after: Class map of a later time, on any grid.
        counts: What `transition_counts` gives for them, computed: it says which transitions occur.
        chunk: Side of a chunk in pixels; the result does not depend on it. None: 1024.
        names: What to call the maps in messages.

    Returns:
        Dataset (y, x): `class` uint8 with the classes "unchanged" (1) and one for each transition
        that occurs, such as "tree to roof", in the colour of what the pixels became; 0 where
        either map has no class. `confidence` float32, the lower one of both, if both have it.

    Raises:
        InputError: As `transition_counts`; no pixel has a class in both maps; there are more
            transitions than a map of one byte a pixel can hold.
    """
    one, other = _pair(before, after, names)
    scheme, codes = _transitions(one.scheme, other.scheme, counts["pixels"].values > 0, names)
    has_confidence = one.confidence is not None and other.confidence is not None
    planes = _chunks_of(
        "change", _map_chunk, one, other, chunk,
        planes=1 + has_confidence, dtype=np.float32, codes=codes, has_confidence=has_confidence,
    )  # fmt: skip
    common = {} if one.grid.crs is None else {"grid_mapping": "spatial_ref"}
    variables: dict[str, Any] = {
        "class": (
            ("y", "x"),
            taken(planes, 0, np.uint8),
            {"long_name": "change of land cover", **scheme_to_attrs(scheme), **common},
        )
    }
    if has_confidence:
        variables["confidence"] = (
            ("y", "x"),
            taken(planes, 1, np.float32),
            {"long_name": "lower confidence of both maps", "units": "1", **common},
        )
    attrs = {
        f"{key}_{when}": str(one.attrs[key])
        for when, one in (("before", before), ("after", after))
        for key in ("scene_id", "acquired", "acquired_from", "acquired_to", "model_sha256")
        if key in one.attrs
    }
    return xr.Dataset(variables, dict(xr_coords(one.grid, dims=("y", "x"))), attrs=attrs)


def is_reversed(before: xr.Dataset, after: xr.Dataset) -> bool:
    """Tell whether the second map is known to be older than the first."""
    first, second = moment_of(before.attrs), moment_of(after.attrs)
    return first is not None and second is not None and second < first


def only_changes(change: xr.Dataset, scheme: ClassScheme) -> tuple[xr.Dataset, ClassScheme]:
    """Return a map of change without what is unchanged, and its classes, none if nothing changed.

    Args:
        change: As `change_map` returns it, or the same from a file.
        scheme: Its classes.
    """
    codes = change["class"]
    kept = tuple(category for category in scheme.categories if category.code != UNCHANGED)
    # a scheme holds a class at least
    fewer = ClassScheme(kept) if kept else scheme
    masked = codes.where(codes != UNCHANGED, np.uint8(UNLABELLED))
    return change.assign(
        {"class": masked.assign_attrs(codes.attrs | scheme_to_attrs(fewer))}
    ), fewer


@dataclass(frozen=True)
class _Pair:
    """Both maps."""

    before: Layers
    after: Layers

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self.before.__dask_tokenize__(), self.after.__dask_tokenize__()


def _pair(before: xr.Dataset, after: xr.Dataset, names: tuple[str, str]) -> tuple[Layers, Layers]:
    """Return the rasters of both maps.

    Raises:
        InputError: They cannot be compared.
    """
    one, other = layers_of(before, names[0]), layers_of(after, names[1])
    _check_places(one, other)
    if not set(one.scheme.names) & set(other.scheme.names):
        raise InputError(
            f"{one.name} and {other.name} have no class in common: {', '.join(one.scheme.names)} "
            f"in the one, {', '.join(other.scheme.names)} in the other; name equal classes alike"
        )
    return one, other


def _check_places(one: Layers, other: Layers) -> None:
    """Refuse maps that lie nowhere, or elsewhere."""
    known = [layers.grid.crs is not None for layers in (one, other)]
    if known == [False, False] and one.grid != other.grid:
        raise InputError(
            f"{one.name} and {other.name} have no CRS, and not the same pixels: {one.grid.shape[0]}"
            f" x {one.grid.shape[1]} and {other.grid.shape[0]} x {other.grid.shape[1]}; give maps "
            "with a georeference"
        )
    if known[0] != known[1]:
        without = other if known[0] else one
        raise InputError(f"{without.name} has no CRS, the other map has one; give both")
    if window_of(other.grid, one.grid) is None:
        raise InputError(f"{one.name} and {other.name} do not overlap")


def _transitions(
    before: ClassScheme, after: ClassScheme, occurs: np.ndarray, names: tuple[str, str]
) -> tuple[ClassScheme, np.ndarray]:
    """Return the classes of change, and the code of each pair of classes (before, after)."""
    if not occurs.any():
        raise InputError(f"nowhere do both {names[0]} and {names[1]} have a class")
    codes = np.zeros(occurs.shape, np.uint8)
    categories = [Category(UNCHANGED, "unchanged", _GREY)]
    pairs = [
        (i, j)
        for i, j in np.argwhere(occurs).tolist()
        if before.names[i] != after.names[j]
    ]  # fmt: skip
    if len(pairs) > _LARGEST:
        raise InputError(
            f"{len(pairs)} transitions occur, and a map holds {_LARGEST} at most; join classes of "
            "both maps first, or compare only those that matter"
        )
    called = [f"{before.names[i]} to {after.names[j]}" for i, j in pairs]
    for (i, j), name in zip(pairs, called, strict=True):
        code = len(categories) + UNCHANGED
        # "a to b" may become "c", and "a" become "b to c"
        unique = name if called.count(name) == 1 else f"{name} ({before.codes[i]})"
        categories.append(Category(code, unique, after.colors[j]))
        codes[i, j] = code
    same = np.array(before.names, object)[:, None] == np.array(after.names, object)[None]
    codes[same] = UNCHANGED
    return ClassScheme(tuple(categories)), codes


def _chunks_of(
    label: str, task: Any, one: Layers, other: Layers, chunk: int | None, **options: Any
) -> Any:
    """Return a lazy array with one task for each chunk of the first map."""
    chunks = plan(one.grid, [(one.grid, _Pair(one, other))], CHUNK if chunk is None else chunk)
    return chunk_array(label, task, chunks, **options)


def _read_pair(
    chunk: ChunkSources, *, confidence: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None] | None:
    """Read both maps.

    Returns:
        Where both have a class (y, x); there the positions of both classes (pixel,), and the lower
        confidence if asked. None where the maps have nothing in common.
    """
    (pair,) = chunk.sources
    grid = pair.before.grid
    found = []
    for layers in (pair.after, pair.before):
        read = gather(layers, grid, chunk.rows, chunk.columns, confidence=confidence)
        if read is None:
            return None
        found.append((layers, *read))
    both = (found[0][1] != UNLABELLED) & (found[1][1] != UNLABELLED)
    after, before = (_positions(layers.scheme)[codes[both]] for layers, codes, _ in found)
    sure = None
    if confidence:
        values = [values[both] for _, _, values in found if values is not None]
        sure = np.minimum(*values)
    return both, before, after, sure


def _positions(scheme: ClassScheme) -> np.ndarray:
    """Return the position of each code in a scheme."""
    positions = np.zeros(256, np.int64)
    positions[list(scheme.codes)] = np.arange(len(scheme))
    return positions


def _count_chunk(chunk: ChunkSources) -> np.ndarray:
    """Return pixels, then areas, of each pair of classes, float64 (plane, 1, 1)."""
    (pair,) = chunk.sources
    grid: GeoBox = pair.before.grid
    size = len(pair.before.scheme) * len(pair.after.scheme)
    read = _read_pair(chunk, confidence=False)
    if read is None:
        return np.zeros((2 * size, 1, 1))
    both, before, after, _ = read
    index = before * len(pair.after.scheme) + after
    # one for each chunk: PROJ's objects are not for several threads
    areas = np.broadcast_to(Measure(grid).pixel_areas(chunk.rows, chunk.columns), both.shape)
    pixels = np.bincount(index, minlength=size)
    area = np.bincount(index, weights=areas[both], minlength=size)
    return np.concatenate([pixels, area])[:, None, None]


def _map_chunk(chunk: ChunkSources, *, codes: np.ndarray, has_confidence: bool) -> np.ndarray:
    """Return the classes of change and, if there are any, confidences, float32 (plane, y, x)."""
    shape = (chunk.rows.stop - chunk.rows.start, chunk.columns.stop - chunk.columns.start)
    planes = np.zeros((1 + has_confidence, *shape), np.float32)
    planes[1:] = np.nan
    read = _read_pair(chunk, confidence=has_confidence)
    if read is not None:
        both, before, after, sure = read
        planes[0][both] = codes[before, after]
        if sure is not None:
            planes[1][both] = sure
    return planes
