"""Scene files to cubes: one reader per kind of file, all with the same two functions.

A reader is a module with `recognises(path)` and `open_source(path, *, pixel_coordinates)`;
a new one is a file in this folder and an entry in `READERS`.
"""

from __future__ import annotations

import math
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from hsi_pipeline.cube import make_cube
from hsi_pipeline.scene import arrays, envi, geotiff
from hsi_pipeline.scene.files import file_stamp
from hsi_pipeline.scene.source import SceneSource

READERS: tuple[ModuleType, ...] = (arrays, envi, geotiff)
"""Asked in this order; the last one takes what no other recognises."""

_CHUNK_BYTES = 64 * 2**20
_LARGEST_CHUNK_BYTES = 256 * 2**20


def open_source(path: str | PathLike[str], *, pixel_coordinates: bool = False) -> SceneSource:
    """Open a scene file with the reader that recognises it.

    Args:
        path: Scene file, or an address that GDAL can follow.
        pixel_coordinates: Permits a scene without georeference, in pixel coordinates. One that
            has a georeference keeps it.

    Returns:
        The scene's source; pixels are not read.

    Raises:
        InputError: The file is missing or not a scene, or has no georeference.
    """
    text = fspath(path)
    reader = next(reader for reader in READERS if reader.recognises(text))
    source: SceneSource = reader.open_source(text, pixel_coordinates=pixel_coordinates)
    return source


def open_scene(path: str | PathLike[str], *, pixel_coordinates: bool = False) -> xr.DataArray:
    """Open a scene file as a lazy cube.

    Chunks hold all bands and whole blocks of the file, so that no block is decoded twice. The
    Dask name follows from path, time and size of the file.

    Args:
        path: As for `open_source`.
        pixel_coordinates: As for `open_source`.

    Returns:
        The cube; see `hsi_pipeline.cube`. Errors while reading pixels are `InputError`, too.

    Raises:
        InputError: As `open_source`.
    """
    source = open_source(path, pixel_coordinates=pixel_coordinates)
    pixels = da.from_array(
        source.pixels,
        chunks=chunks_of(source),
        name=f"scene-{tokenize(file_stamp(source.path))}",
        asarray=False,
        meta=np.empty((0, 0, 0), source.pixels.dtype),
    )
    return make_cube(
        pixels,
        source.grid,
        wavelengths=source.wavelengths,
        good=source.good,
        band_names=source.band_names,
        scale=source.scale,
        offset=source.offset,
        nodata=source.nodata,
        attrs={**source.attrs, "source": Path(source.path).name},
    )


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
