"""Class map -> Zarr store, and back.

Zarr v2, because GDAL 3.6 and QGIS 3.22 do not recognise v3, with the CRS said twice: as CF
`grid_mapping` (xarray, GDAL since 3.9) and as GDAL's own attribute `_CRS` (all versions).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from zarr.storage import LocalStore

from hsi_pipeline.classes import scheme_to_attrs
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.map_layers import NUMBER_LAYERS
from hsi_pipeline.publish.foreign import check_codes, find_codes, find_scheme

PROBABILITY_STEPS = 254
"""Probabilities are stored as whole numbers from 0 to this; 255 is unclassified."""

NUMBERS = tuple(layer.name for layer in NUMBER_LAYERS)
"""Names of the layers that are float32, NaN where there is no class."""

_FILL = 255


def create_store(dataset: xr.Dataset, path: Path, ledger: Path) -> None:
    """Make a store without pixels, and the ledger of its chunks.

    Stored chunks are the Dask chunks, so no two tasks write to the same one.

    A rotated grid comes back exactly in xarray and odc-geo. GDAL knows no rotated grid in Zarr and
    reads pixel coordinates: `_CRS` is left out then, and a GeoTIFF is the better choice.

    Args:
        dataset: Class map as described at `publish.write_class_map`.
        path: Folder to make.
        ledger: Zarr array to make: uint8, one element for each chunk, 1 where it is complete.
    """
    grid = grid_of(dataset)
    stored = regular(dataset).drop_encoding()
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in stored.data_vars.items():
        variable = variable.copy()
        variable.attrs.pop("_CRS", None)
        if grid.crs is not None:
            # in the attributes: what stands in the encoding alone, xarray may drop
            variable.attrs["grid_mapping"] = "spatial_ref"
            if grid.axis_aligned:
                variable.attrs["_CRS"] = {"wkt": grid.crs.to_wkt()}
        stored[name] = variable
        encoding[str(name)] = {"chunks": variable.data.chunksize, **_number_format(str(name))}
    # not the path: xarray takes a # in it for the end
    stored.to_zarr(
        LocalStore(path),
        mode="w-",
        zarr_format=2,
        consolidated=True,
        encoding=encoding,
        compute=False,
    )
    shape = stored["class"].data.numblocks
    zarr.create_array(
        ledger, shape=shape, chunks=(1, 1), dtype="uint8", fill_value=0, zarr_format=2
    )


def open_store(
    path: Path, *, raw: bool = False, say: Callable[[str], None] = lambda _: None
) -> xr.Dataset:
    """Open a class map lazily.

    Args:
        path: The store.
        raw: Give the numbers as stored, without Dask.
        say: Told what names and colours are made up, if another program made the store.

    Raises:
        InputError: The folder is no Zarr store, or holds no class map.
    """
    try:
        dataset = xr.open_dataset(
            LocalStore(path, read_only=True),  # type: ignore[arg-type]
            engine="zarr",
            chunks=None if raw else {},
            mask_and_scale=not raw,
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
    if not raw:
        dataset["class"] = _as_classes(path, dataset["class"], say)
    if "probability" in dataset and not raw:  # float64, as xarray unscales
        dataset["probability"] = dataset["probability"].astype(np.float32)
    return dataset


def _as_classes(path: Path, codes: xr.DataArray, say: Callable[[str], None]) -> xr.DataArray:
    """Return codes as uint8 with the attributes of a scheme, as a map of ours has them already."""
    if "flag_values" in codes.attrs and codes.dtype == np.uint8:
        return codes
    check_codes(path, codes.data)
    if "flag_values" not in codes.attrs:
        codes = codes.assign_attrs(scheme_to_attrs(find_scheme(path, codes.data, {}, {}, say)))
    elif codes.dtype != np.uint8:
        find_codes(path, codes.data)  # would wrap around
    return codes.astype(np.uint8)


def _number_format(name: str) -> dict[str, Any]:
    """Return how the numbers of a variable are stored.

    `class` has no fill value, though 0 means unclassified: xarray would turn it to floats.
    """
    if name in NUMBERS:
        return {"dtype": "float32", "_FillValue": np.float32(np.nan)}
    if name == "probability":
        return {"dtype": "uint8", "scale_factor": 1 / PROBABILITY_STEPS, "_FillValue": _FILL}
    return {"_FillValue": None}


def as_stored(name: str, pixels: np.ndarray) -> np.ndarray:
    """Return the numbers of a variable as they are stored: see `_number_format`."""
    if name != "probability":
        return pixels
    steps = np.where(np.isnan(pixels), _FILL, np.rint(pixels * np.float32(PROBABILITY_STEPS)))
    return steps.astype(np.uint8)


def regular(dataset: xr.Dataset) -> xr.Dataset:
    """Return a class map whose variables share Dask chunks of one size, as Zarr stores them."""
    rows, columns = da.asarray(dataset["class"].data).chunksize
    return dataset.chunk(
        {"y": rows, "x": columns} | ({"category": -1} if "category" in dataset.dims else {})
    )
