"""Class map -> Zarr store, and back.

Zarr v2, because GDAL 3.6 and QGIS 3.22 do not recognise v3, with the CRS said twice: as CF
`grid_mapping` (xarray, GDAL since 3.9) and as GDAL's own attribute `_CRS` (all versions).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError

PROBABILITY_STEPS = 254
"""Probabilities are stored as whole numbers from 0 to this; 255 is unclassified."""

_FILL = 255


def write_store(dataset: xr.Dataset, path: Path) -> None:
    """Compute a class map and write it to a new store, in one Dask compute.

    Stored chunks are the Dask chunks, so no two tasks write to the same one.

    A rotated grid comes back exactly in xarray and odc-geo. GDAL knows no rotated grid in Zarr and
    reads pixel coordinates: `_CRS` is left out then, and a GeoTIFF is the better choice.

    Args:
        dataset: Class map as described at `publish.write_class_map`.
        path: Folder to make.
    """
    grid = grid_of(dataset)
    stored = dataset.drop_encoding()
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in stored.data_vars.items():
        variable = variable.copy(data=_alive(_regular(variable.data), path))
        variable.attrs.pop("_CRS", None)
        if grid.crs is not None:
            # in the attributes: what stands in the encoding alone, xarray may drop
            variable.attrs["grid_mapping"] = "spatial_ref"
            if grid.axis_aligned:
                variable.attrs["_CRS"] = {"wkt": grid.crs.to_wkt()}
        stored[name] = variable
        encoding[str(name)] = {
            "chunks": variable.data.chunksize,
            **_number_format(str(name)),
        }
    stored.to_zarr(path, mode="w-", zarr_format=2, consolidated=True, encoding=encoding)


def open_store(path: Path, *, raw: bool = False) -> xr.Dataset:
    """Open a class map lazily.

    Args:
        path: The store.
        raw: Give the numbers as stored, without Dask.

    Raises:
        InputError: The folder is no Zarr store, or holds no class map.
    """
    try:
        dataset = xr.open_dataset(
            path, engine="zarr", chunks=None if raw else {}, mask_and_scale=not raw
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a Zarr store that can be read ({error})") from error
    if "class" not in dataset or dataset["class"].dims != ("y", "x"):
        raise InputError(
            f"{path}: no variable 'class' (y, x) in this store, found "
            f"{', '.join(map(str, dataset.data_vars)) or 'nothing'}; was it made by 'classify'?"
        )
    for variable in dataset.data_vars.values():
        variable.attrs.pop("_CRS", None)
    if "probability" in dataset and not raw:  # float64, as xarray unscales
        dataset["probability"] = dataset["probability"].astype(np.float32)
    return dataset


def _number_format(name: str) -> dict[str, Any]:
    """Return how the numbers of a variable are stored.

    `class` has no fill value, though 0 means unclassified: xarray would turn it to floats.
    """
    if name == "confidence":
        return {"dtype": "float32", "_FillValue": np.float32(np.nan)}
    if name == "probability":
        return {"dtype": "uint8", "scale_factor": 1 / PROBABILITY_STEPS, "_FillValue": _FILL}
    return {"_FillValue": None}


def _regular(pixels: Any) -> da.Array:
    """Return the pixels in Dask chunks of one size, the last ones smaller, as Zarr stores them."""
    pixels = da.asarray(pixels)
    return pixels.rechunk(pixels.chunksize)


def _alive(pixels: da.Array, path: Path) -> da.Array:
    """Let chunks that are ready only after another one failed stop before they are written.

    The store is gone by then, and writing them would make its folder again.
    """
    return pixels.map_blocks(_check_folder, path=str(path), dtype=pixels.dtype, meta=pixels._meta)


def _check_folder(block: np.ndarray, path: str) -> np.ndarray:
    if not os.path.isdir(path):
        raise FileNotFoundError(f"{path} is gone, the writing of this class map was given up")
    return block
