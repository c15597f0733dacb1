"""CF netCDF files and Zarr stores: a cube over a spectral dimension, y and x, in any order.

The cube is the only variable of three dimensions of which one has a coordinate of wavelengths.
Digital numbers are read as stored: `scale_factor`, `add_offset` and `_FillValue` become the
scene's scale, offset and nodata. Rows and columns are put north-up. Stores made by
`publish.cube_zarr` hold more than CF has words for, and come back exactly as they were.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import h5py
import numpy as np
from odc.geo.geobox import GeoBox

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.cf.bands import (
    band_names,
    find_cube,
    good_bands,
    per_band,
    plausible_wavelengths,
    stored_wavelengths,
)
from hsi_pipeline.scene.cf.grid import Axis, find_crs, find_grid
from hsi_pipeline.scene.cf.variables import FlippedPixels, Variable, Variables, open_variables
from hsi_pipeline.scene.cf.zarr_store import is_zarr
from hsi_pipeline.scene.files import is_remote, shown
from hsi_pipeline.scene.quality import FLAGS, QualityLayer, QualityLayers
from hsi_pipeline.scene.source import Pixels, SceneSource

CUBE_MARK = "hsi_pipeline_cube"
"""Attribute of stores made by `publish.cube_zarr`: their version, 1."""
RESERVED = (CUBE_MARK, "Conventions")
"""Attributes of such stores that say nothing about the scene."""

_SUFFIXES = (".nc", ".nc4")
_KNOWN_ATTRS = {  # of other files, by our names
    "scene_id": ("scene_id", "id"),
    "acquired": ("acquired", "time_coverage_start"),
    "sensor": ("sensor", "instrument"),
    "level": ("level", "processing_level"),
    "quantity": ("quantity",),
}
_SLOW = 16  # times the bytes of a window that must be decompressed for it
_SIDE = 128  # of such a window


def recognises(path: str) -> bool:
    """Tell whether a path is a Zarr store or a netCDF-4 file."""
    try:
        named = shown(path).lower().endswith(_SUFFIXES)
        return is_zarr(path) or (named and (is_remote(path) or h5py.is_hdf5(path)))
    except (OSError, ValueError):
        return False


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what a cube holds, without reading pixels.

    Args:
        path: netCDF-4 file or Zarr store (version 2 or 3), or an address of one.
        pixel_coordinates: Permits a cube without CRS.

    Returns:
        The scene's source.

    Raises:
        InputError: It cannot be read; it holds no such cube, or several; its wavelengths,
            coordinates or CRS are missing or cannot be right.
    """
    with open_variables(path) as variables, _about(path):
        return _source(path, variables, pixel_coordinates=pixel_coordinates)


def _source(path: str, variables: Variables, *, pixel_coordinates: bool) -> SceneSource:
    ours = variables.attrs.get(CUBE_MARK) == 1
    cube, axes, centers = find_cube(variables)
    _check_sizes(variables, cube)
    band = cube.dims[axes.index("b")]
    count = cube.shape[axes.index("b")]
    grid, flip_y, flip_x = _grid(variables, cube, axes, pixel_coordinates, keep=ours)
    spectrum = stored_wavelengths if ours else plausible_wavelengths

    def placed(variable: Variable, order: str) -> Pixels:
        pixels = variables.pixels(variable, order)
        return FlippedPixels(pixels, flip_y, flip_x) if flip_y or flip_x else pixels

    return SceneSource(
        path=path,
        pixels=placed(cube, axes),
        grid=grid,
        block=_block(cube, axes),
        wavelengths=spectrum(variables, centers, band),
        good=good_bands(variables, band, count),
        band_names=band_names(variables, band, count),
        scale=(ours and per_band(variables, "scale", band)) or _number(cube, "scale_factor", 1.0),
        offset=(ours and per_band(variables, "offset", band)) or _number(cube, "add_offset", 0.0),
        nodata=_nodata(cube, ours),
        attrs=_attrs(path, variables, cube, axes, ours),
        quality=_quality(variables, cube, axes, placed),
    )


@contextmanager
def _about(path: str) -> Iterator[None]:
    """Put the path before what is wrong with a cube."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{shown(path)}: {error}") from error


def _check_sizes(variables: Variables, cube: Variable) -> None:
    """Refuse variables that share a dimension and differ in its size, as Zarr permits."""
    sizes = dict(zip(cube.dims, cube.shape, strict=True))
    if 0 in cube.shape or cube.dtype.kind not in "iuf" or "_Unsigned" in cube.attrs:
        raise InputError(f"{cube.name} is {cube.dtype} of shape {cube.shape}, no cube of numbers")
    for other in variables.by_name.values():
        for dim, size in zip(other.dims, other.shape, strict=True):
            if sizes.get(dim, size) != size:
                raise InputError(
                    f"{cube.name} has {sizes[dim]} along {dim}, but {other.name} {size}; damaged"
                )


def _grid(
    variables: Variables, cube: Variable, axes: str, pixel_coordinates: bool, *, keep: bool
) -> tuple[GeoBox, bool, bool]:
    mapping = _mapping(variables, cube)
    crs = find_crs(mapping, cube.attrs)
    y, x = (_axis(variables, cube.dims[axes.index(axis)]) for axis in "yx")
    height, width = (cube.shape[axes.index(axis)] for axis in "yx")
    return find_grid(
        (height, width),
        (y, x),
        crs,
        mapping.get("GeoTransform"),
        pixel_coordinates=pixel_coordinates,
        keep=keep,
    )


def _mapping(variables: Variables, cube: Variable) -> Mapping[str, Any]:
    """Return the attributes of a cube's grid mapping, none if it has none."""
    named = cube.attrs.get("grid_mapping")
    if not isinstance(named, str) or not named.strip():
        found = (variables.by_name.get(name) for name in ("spatial_ref", "crs"))
        return next((variable.attrs for variable in found if variable is not None), {})
    name = named.split()[0].rstrip(":")  # "crs: x y" names coordinates too
    if name not in variables.by_name:
        raise InputError(f"its grid mapping {name!r} is missing; copy it again")
    return variables.by_name[name].attrs


def _axis(variables: Variables, dim: str) -> Axis | None:
    """Return the coordinate of a dimension, None where there is none."""
    found = variables.by_name.get(dim)
    if found is None or found.dims != (dim,) or found.dtype.kind not in "iuf":
        return None
    scale = _number(found, "scale_factor", 1.0)
    values = found.values().astype(np.float64) * scale + _number(found, "add_offset", 0.0)
    return Axis(values, str(found.attrs.get("units", "")))


def _number(variable: Variable, name: str, default: float) -> float:
    value = variable.attrs.get(name, default)
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"{variable.name}: {name} is {value!r}, not a number")
    return found


def _nodata(cube: Variable, ours: bool) -> float | None:
    """Return the digital number of invalid pixels."""
    if ours:  # texts are those that JSON has no numbers for
        value = cube.attrs.get("nodata")
        return None if value is None else float(value)
    told = {n: cube.attrs[n] for n in ("_FillValue", "missing_value") if n in cube.attrs}
    wrong = {name: value for name, value in told.items() if not isinstance(value, int | float)}
    if wrong:
        raise InputError(f"{cube.name}: nodata must be one number, found {wrong}; correct it")
    found = {float(value) for value in told.values()}
    found = {value for value in found if not math.isnan(value)} or found  # NaN is never valid
    if len(found) > 1:
        raise InputError(
            f"{cube.name} has two values for nodata, _FillValue and missing_value: "
            f"{', '.join(map(str, sorted(found)))}; write it with one"
        )
    return found.pop() if found else None


def _quality(variables: Variables, cube: Variable, axes: str, placed: Any) -> QualityLayers | None:
    """Return the flags of a plane `quality` whose meanings are names of ours."""
    plane = variables.by_name.get("quality")
    rows, columns = (cube.dims[axes.index(axis)] for axis in "yx")
    if plane is None or sorted(plane.dims) != sorted((rows, columns)):
        return None
    masks = plane.attrs.get("flag_masks", [])
    masks = masks if isinstance(masks, list) else [masks]
    names = str(plane.attrs.get("flag_meanings", "")).split()
    if not masks or plane.dtype.kind not in "iu":
        return None
    if len(masks) != len(names) or not all(isinstance(mask, int) and mask > 0 for mask in masks):
        raise InputError(f"quality: flag_masks {masks} do not fit flag_meanings {names}")
    known = tuple((mask, name) for mask, name in zip(masks, names, strict=True) if name in FLAGS)
    order = "".join("y" if dim == rows else "x" for dim in plane.dims)
    return QualityLayers((QualityLayer(placed(plane, order), bits=known),)) if known else None


def _block(cube: Variable, axes: str) -> tuple[int, int]:
    rows, columns = axes.index("y"), axes.index("x")
    if cube.chunks is None:
        return 1, cube.shape[columns]
    return cube.chunks[rows], cube.chunks[columns]


def _attrs(
    path: str, variables: Variables, cube: Variable, axes: str, ours: bool
) -> dict[str, Any]:
    """Return what is known about the scene."""
    if ours:
        return {name: v for name, v in variables.attrs.items() if name not in RESERVED}
    found = {}
    for name, names in _KNOWN_ATTRS.items():
        told = [variables.attrs[known] for known in names if known in variables.attrs]
        if told and isinstance(told[0], str) and told[0]:
            found[name] = told[0]
    standard = str(cube.attrs.get("standard_name", ""))
    for quantity in ("reflectance", "radiance"):
        if quantity in standard:
            found.setdefault("quantity", quantity)
    stem = PurePosixPath(shown(path).rstrip("/").replace(os.sep, "/")).stem
    advice = {"advice": _ADVICE} if _is_slow(cube, axes) else {}
    return {"scene_id": stem, **found, **advice}


_ADVICE = (
    "its blocks suit single bands, so that every window decompresses many times what it needs; "
    "'hsi-pipeline ingest' rewrites it once for fast reading"
)


def _is_slow(cube: Variable, axes: str) -> bool:
    """Tell whether a window of all bands costs many times its own bytes."""
    if cube.chunks is None:
        return False
    most = {"b": math.inf, "y": _SIDE, "x": _SIDE}
    wanted = [int(min(n, most[axis])) for axis, n in zip(axes, cube.shape, strict=True)]
    read = [-(-part // chunk) * chunk for part, chunk in zip(wanted, cube.chunks, strict=True)]
    return math.prod(read) > _SLOW * math.prod(wanted)
