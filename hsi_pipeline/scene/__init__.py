"""Scene files to cubes: one reader per kind of file, all with the same two functions.

A reader is a module with `recognises(path)` and `open_source(path, *, pixel_coordinates)`;
a new one is a file in this folder and an entry in `READERS`.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from hsi_pipeline.cube import make_cube
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import arrays, cf, desis, emit, enmap, envi, geotiff, neon, prisma, tanager
from hsi_pipeline.scene.files import file_stamp, shown
from hsi_pipeline.scene.places import archive_kind
from hsi_pipeline.scene.quality import (
    MASKS,
    MaskedPixels,
    QualityPlane,
    bit,
    check_flags,
    flags_of_mask,
    mask_value,
)
from hsi_pipeline.scene.source import SceneSource

READERS: tuple[ModuleType, ...] = (
    enmap,
    desis,
    emit,
    prisma,
    neon,
    tanager,
    cf,
    arrays,
    envi,
    geotiff,
)
"""Asked in this order; the last one takes what no other recognises."""

_SENSORS = (enmap, desis, emit, prisma)  # whose products may lie in a folder or archive

# What parsers raise over files that are damaged in ways that no reader thought of.
_SURPRISES = (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError,
              ArithmeticError, RuntimeError, MemoryError, RecursionError)  # fmt: skip
_CHUNK_BYTES = 64 * 2**20
_LARGEST_CHUNK_BYTES = 256 * 2**20


def open_source(
    path: str | PathLike[str], *, pixel_coordinates: bool = False, mask: str = "none"
) -> SceneSource:
    """Open a scene file with the reader that recognises it.

    Args:
        path: Scene file, a product's folder or archive, or an address of any of these.
        pixel_coordinates: Permits a scene without georeference, in pixel coordinates. One that
            has a georeference keeps it.
        mask: Which flags of the product's quality layers become nodata: a name of
            `quality.MASKS`, of which flags that the product does not have mask nothing, or flags
            of the product with commas between.

    Returns:
        The scene's source; pixels are not read.

    Raises:
        InputError: The file is missing or not a scene, or has no georeference.
    """
    text = fspath(path)
    flags = flags_of_mask(mask)
    try:
        reader = _reader(text)
        source: SceneSource = reader.open_source(text, pixel_coordinates=pixel_coordinates)
    except InputError:
        raise
    except _SURPRISES as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{text} cannot be understood, it is damaged ({said})") from error
    _check_source(source)
    if mask not in MASKS:
        check_flags(text, source.quality, flags)
    return _masked(source, flags)


def reader_of(path: str | PathLike[str]) -> str:
    """Return the name of the reader that recognises a scene, such as "enmap"."""
    return _reader(fspath(path)).__name__.rpartition(".")[2]


def _reader(path: str) -> ModuleType:
    first = next(reader for reader in READERS if reader.recognises(path))
    if first in _SENSORS and (os.path.isdir(path) or archive_kind(path)):
        others = [r for r in _SENSORS if r is not first and r.recognises(path)]
        if others:
            names = ", ".join(r.__name__.rpartition(".")[2] for r in (first, *others))
            raise InputError(
                f"{path} holds products of several sensors ({names}); give one of them"
            )
    return first


def _check_source(source: SceneSource) -> None:
    """Check what all readers take from their files.

    Raises:
        InputError: There are no pixels, or scale or offset make no values of digital numbers.
    """
    if 0 in source.pixels.shape:
        raise InputError(f"{shown(source.path)} is empty: (band, y, x) are {source.pixels.shape}")
    scale, offset = np.asarray(source.scale), np.asarray(source.offset)
    if not (np.isfinite(scale) & (scale != 0)).all() or not np.isfinite(offset).all():
        raise InputError(
            f"{shown(source.path)}: scale and offset of its values must be finite and the scale "
            f"not 0, found scale {source.scale} and offset {source.offset}; correct the file"
        )


def _masked(source: SceneSource, flags: tuple[str, ...]) -> SceneSource:
    """Return a scene with the pixels of some flags as nodata."""
    quality = source.quality
    known = [name for name in flags if quality is not None and name in quality.flags]
    if quality is None or not known:
        return source
    nodata = mask_value(source.pixels.dtype, source.nodata)
    pixels = MaskedPixels(source.pixels, quality, sum(map(bit, known)), nodata)
    attrs = {**source.attrs, "mask": ", ".join(known)}
    return replace(source, pixels=pixels, nodata=nodata, attrs=attrs)


def open_scene(
    path: str | PathLike[str], *, pixel_coordinates: bool = False, mask: str = "none"
) -> xr.DataArray:
    """Open a scene file as a lazy cube.

    Chunks hold all bands and whole blocks of the file, so that no block is decoded twice. The
    Dask name follows from path, time and size of the file.

    Args:
        path: As for `open_source`.
        pixel_coordinates: As for `open_source`.
        mask: As for `open_source`.

    Returns:
        The cube; see `hsi_pipeline.cube`. Errors while reading pixels are `InputError`, too. A
        product's quality layers are its coordinate `quality`, uint16 bits (y, x).

    Raises:
        InputError: As `open_source`.
    """
    return cube_of(open_source(path, pixel_coordinates=pixel_coordinates, mask=mask))


def cube_of(source: SceneSource) -> xr.DataArray:
    """Return the lazy cube of an open scene; see `open_scene`."""
    chunks = chunks_of(source)
    stamp = tokenize(file_stamp(source.path), source.pixels)
    pixels = da.from_array(
        source.pixels,
        chunks=chunks,
        name=f"scene-{stamp}",
        asarray=False,
        meta=np.empty((0, 0, 0), source.pixels.dtype),
    )
    cube = make_cube(
        pixels,
        source.grid,
        wavelengths=source.wavelengths,
        good=source.good,
        band_names=source.band_names,
        scale=source.scale,
        offset=source.offset,
        nodata=source.nodata,
        attrs={**source.attrs, "source": Path(shown(source.path)).name},
    )
    if source.quality is not None:
        bits = da.from_array(
            QualityPlane(source.quality),
            chunks=chunks[1:],
            name=f"quality-{stamp}",
            asarray=False,
            meta=np.empty((0, 0), np.uint16),
        )
        meaning = {
            "long_name": "quality flags",
            "flag_masks": [bit(name) for name in source.quality.flags],
            "flag_meanings": " ".join(source.quality.flags),
        }
        cube = cube.assign_coords(quality=(("y", "x"), bits, meaning))
    return cube


def chunks_of(source: SceneSource) -> tuple[int, int, int]:
    """Choose a chunk shape that suits the layout of the file.

    Args:
        source: The scene.

    Returns:
        Chunk shape (band, y, x): all bands, a multiple of the file's block, as square as blocks
        allow, of 32 to 64 MB where the blocks permit.
    """
    bands, rows, columns = source.pixels.shape
    pixel_bytes = bands * source.pixels.dtype.itemsize
    height, width = min(source.block[0], rows), min(source.block[1], columns)
    # A file stored as one huge block is cut all the same: memory goes before speed.
    while height * width * pixel_bytes > _LARGEST_CHUNK_BYTES and max(height, width) > 1:
        height, width = (-(-height // 2), width) if height >= width else (height, -(-width // 2))
    count = max(1, _CHUNK_BYTES // (height * width * pixel_bytes))
    most_down, most_across = -(-rows // height), -(-columns // width)
    across = min(max(1, round(math.sqrt(count * height * width) / width)), most_across)
    down = min(max(1, count // across), most_down)
    across = min(max(across, count // down), most_across)
    return bands, min(down * height, rows), min(across * width, columns)
