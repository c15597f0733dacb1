"""Any scene -> a Zarr store of its digital numbers, chunked for windows of all bands.

Zarr v2, which GDAL 3.6 and QGIS 3.22 open too (they show one band at a time), with the CRS said
twice as in `publish.zarr`. Codecs that these programs know were tried on EnMAP digital numbers and
on float32 like them; ratio, and seconds to read 512 x 512 pixels of 224 bands on two shared cores:

- Zstandard: 2.6 and 0.06 s, float32 1.5 and 0.16 s;
- Blosc, bits shuffled, Zstandard: 2.9 and 0.07 s, float32 1.75 and 0.15 s;
- Blosc, bits shuffled, LZ4: 2.0 and 0.12 s, float32 1.4 and 0.10 s.

Plain Zstandard was chosen for its checksum: damage is an error and not other pixels, which Blosc
has no means to tell. A shuffle before it would gain as much, but GDAL 3.6 knows no such filter.

`scene.cf` reads all of it back exactly.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import zarr
from numcodecs import Zstd  # type: ignore[import-untyped]
from odc.geo.xr import xr_coords
from zarr.storage import LocalStore

from hsi_pipeline.errors import InputError, SourceChangedError
from hsi_pipeline.publish import check_target, staged
from hsi_pipeline.scene import chunks_of, cube_of
from hsi_pipeline.scene.cf import CUBE_MARK
from hsi_pipeline.scene.files import file_stamp
from hsi_pipeline.scene.quality import FLAGS, bit
from hsi_pipeline.scene.source import SceneSource

CHUNK = 128
"""Rows and columns of a chunk if nothing else is asked for."""

_CODEC = Zstd(3, checksum=True)
_MOST_CHUNK_BYTES = 2**30
_MOST_WINDOW_BYTES = 192 * 2**20  # two are in work at a time


def write_cube(
    source: SceneSource,
    path: str | os.PathLike[str],
    *,
    chunk: int = CHUNK,
    overwrite: bool = False,
) -> Path:
    """Write a scene's digital numbers, band table, quality flags, grid and attributes.

    Its `advice` is left out, since the store is laid out well.

    Args:
        source: The scene.
        path: Target, `.zarr`.
        chunk: Rows and columns of a chunk, which holds all bands.
        overwrite: Replace an existing target, which stays until the new one is complete.

    Returns:
        The store.

    Raises:
        InputError: As `check_target`; the chunk is too small or too large; pixels cannot be read;
            the scene was written to while it was read.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite, suffixes=(".zarr",))
    check_chunk(source, chunk)
    cube_of(source)  # keeps the contract, or raises
    stamp = _stamp(source)
    with staged(path) as target:
        height, width = window_of(source, chunk)
        _create(source, target, chunk, (height, width))
        copy = dask.delayed(partial(_copy, source, str(target)), pure=False, traverse=False)
        _, rows, columns = source.pixels.shape
        dask.compute(
            *(
                copy((top, min(top + height, rows)), (left, min(left + width, columns)))
                for top in range(0, rows, height)
                for left in range(0, columns, width)
            )
        )
        zarr.consolidate_metadata(LocalStore(target), zarr_format=2)
        if _stamp(source) != stamp:
            raise SourceChangedError(f"{source.path} was written to while it was read; try again")
    return path


def _stamp(source: SceneSource) -> str:
    """Return what changes when a scene's file is written again; a folder may get the store."""
    return "" if os.path.isdir(source.path) else file_stamp(source.path)


def check_chunk(source: SceneSource, chunk: int) -> None:
    """Refuse chunks that no program could work with.

    Raises:
        InputError: The side is below 16 pixels, or a chunk above 1 GB.
    """
    pixel_bytes = source.pixels.shape[0] * source.pixels.dtype.itemsize
    largest = math.isqrt(_MOST_CHUNK_BYTES // pixel_bytes)
    if not 16 <= chunk <= largest:
        raise InputError(f"--chunk {chunk} is not between 16 and {largest} pixels; 128 suits most")


def window_of(source: SceneSource, chunk: int) -> tuple[int, int]:
    """Choose the rows and columns that are read and written together.

    Returns:
        Multiples of the chunk, so that no chunk is written twice, near the scene's own blocks, so
        that few are read twice, and of 192 MB at most unless one chunk has more.
    """
    bands, height, width = chunks_of(source)
    height, width = (max(side // chunk, 1) * chunk for side in (height, width))
    pixel_bytes = bands * source.pixels.dtype.itemsize
    while height * width * pixel_bytes > _MOST_WINDOW_BYTES and max(height, width) > chunk:
        if height >= width:
            height = max(height // 2 // chunk, 1) * chunk
        else:
            width = max(width // 2 // chunk, 1) * chunk
    return height, width


def _create(source: SceneSource, target: Path, chunk: int, window: tuple[int, int]) -> None:
    """Make the store without pixels."""
    bands, rows, columns = source.pixels.shape
    attrs = {name: _plain(v) for name, v in source.attrs.items() if name != "advice"}
    group = zarr.create_group(
        LocalStore(target),
        zarr_format=2,
        attributes={**attrs, "Conventions": "CF-1.11", CUBE_MARK: 1},
    )
    coordinates = ["wavelength", "fwhm", "good", "band_name"]  # by xarray's reading of CF
    if source.grid.crs is not None:
        coordinates.append("spatial_ref")
    if source.quality is not None:
        coordinates.append("quality")
        group.create_array(
            "quality",
            shape=(rows, columns),
            chunks=_within(window, (rows, columns)),
            dtype="uint16",
            fill_value=None,  # 0 are good pixels: as a fill value, xarray would make them NaN
            compressors=[_CODEC],
            attributes=_quality_attrs(source.quality.flags),
        )
    attributes = _cube_attrs(source) | {"coordinates": " ".join(coordinates)}
    group.create_array(
        "cube",
        shape=(bands, rows, columns),
        chunks=(bands, *_within((chunk, chunk), (rows, columns))),
        dtype=source.pixels.dtype,
        fill_value=_fill_value(source),
        compressors=[_CODEC],
        attributes=attributes,
    )
    _write_band_table(group, source)
    for name, coordinate in xr_coords(source.grid, dims=("y", "x")).items():
        values = np.asarray(coordinate.values)
        _write(group, str(name), values, coordinate.dims, _plain_all(coordinate.attrs))


def _cube_attrs(source: SceneSource) -> dict[str, Any]:
    """Return the attributes of the pixels, with GDAL's for the CRS."""
    attrs: dict[str, Any] = {"_ARRAY_DIMENSIONS": ["band", "y", "x"]}
    for name, value in (("scale_factor", source.scale), ("add_offset", source.offset)):
        if not isinstance(value, tuple):
            attrs[name] = float(value)
    nodata = source.nodata
    # JSON has no words for what is not finite
    attrs["nodata"] = nodata if nodata is None or math.isfinite(nodata) else str(nodata)
    if quantity := source.attrs.get("quantity"):
        attrs["long_name"] = quantity
    crs = source.grid.crs
    if crs is not None:
        attrs["grid_mapping"] = "spatial_ref"
        if source.grid.axis_aligned:
            attrs["_CRS"] = {"wkt": crs.to_wkt()}
    return attrs


def _quality_attrs(flags: Iterable[str]) -> dict[str, Any]:
    names = tuple(flags)
    return {
        "_ARRAY_DIMENSIONS": ["y", "x"],
        "long_name": "quality flags",
        "flag_masks": [bit(name) for name in names],
        "flag_meanings": " ".join(names),
        "comment": "; ".join(f"{name}: {FLAGS[name]}" for name in names),
    }


def _write_band_table(group: zarr.Group, source: SceneSource) -> None:
    """Write what is known about each band; NaN where something is not."""
    count = source.pixels.shape[0]
    centers, widths = np.full(count, np.nan), np.full(count, np.nan)
    if source.wavelengths is not None:
        centers = np.array(source.wavelengths.center_nm)
        widths = np.array([np.nan if w is None else w for w in source.wavelengths.fwhm_nm])
    named = {"units": "nm", "standard_name": "radiation_wavelength"}
    table: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "band": (np.arange(1, count + 1, dtype=np.int32), {}),
        "wavelength": (centers, named),
        "fwhm": (widths, {"units": "nm", "long_name": "full width at half maximum"}),
        "good": (np.array(source.good, np.uint8), {"long_name": "0: bad band"}),
        "band_name": (np.array(source.band_names, dtype=str), {}),
    }
    for name, value in (("scale", source.scale), ("offset", source.offset)):
        if isinstance(value, tuple):
            table[name] = np.array(value, np.float64), {}
    for name, (values, attrs) in table.items():
        _write(group, name, values, ("band",), attrs)


def _write(
    group: zarr.Group, name: str, values: np.ndarray, dims: Iterable[Any], attrs: dict[str, Any]
) -> None:
    """Write a coordinate whole."""
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        fill_value=None,
        compressors=[_CODEC],
        attributes={"_ARRAY_DIMENSIONS": [str(dim) for dim in dims], **attrs},
    )
    array[...] = values


def _copy(
    source: SceneSource, target: str, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """Copy a window, which no other call touches."""
    where = slice(*rows), slice(*columns)
    group = zarr.open_group(LocalStore(target), mode="r+", use_consolidated=False)
    layers: dict[str, Any] = {"cube": (slice(None), *where)}
    if source.quality is not None:
        layers["quality"] = where
    for name, window in layers.items():
        array = group[name]
        assert isinstance(array, zarr.Array)  # made by _create
        if name == "cube":
            array[window] = source.pixels[slice(0, source.pixels.shape[0]), *where]
        elif source.quality is not None:
            array[window] = source.quality.read(*where)


def _fill_value(source: SceneSource) -> float | int | None:
    """Return the nodata value if the type of the pixels has it, else None."""
    nodata, dtype = source.nodata, source.pixels.dtype
    if nodata is None:
        return None
    if dtype.kind == "f":
        exact = math.isnan(nodata) or float(dtype.type(nodata)) == nodata
        return nodata if exact else None
    info = np.iinfo(dtype)
    fits = float(nodata).is_integer() and info.min <= nodata <= info.max
    return int(nodata) if fits else None


def _within(wanted: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    return min(wanted[0], size[0]), min(wanted[1], size[1])


def _plain(value: Any) -> Any:
    """Return a number as one that JSON has."""
    return value.item() if isinstance(value, np.generic) else value


def _plain_all(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): _plain(value) for name, value in attrs.items()}
