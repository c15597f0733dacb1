"""Parcels, polygons of the user's own that a map is summarised by, from any vector file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio

from hsi_pipeline.errors import InputError, did_you_mean
from hsi_pipeline.ground_truth.vectors import vector_layers


def read_parcels(path: str | PathLike[str], layer: str | None = None) -> gpd.GeoDataFrame:
    """Read a layer of polygons with all its columns, as they are.

    Args:
        path: Any vector file.
        layer: Layer to read; None: the only one with geometry.

    Returns:
        The features in the file's order. Columns of integers and booleans stay so where values are
        missing. A key that the format keeps apart from the columns, as `fid` of GeoPackage, becomes
        the first column, by which results can be joined.

    Raises:
        InputError: The file cannot be read as vectors, or which layer is meant is not clear.
    """
    name = str(path)
    if "://" not in name and not name.startswith("/vsi") and not Path(path).exists():
        raise InputError(f"{name}: there is no such parcel file{did_you_mean(name)}")
    if name.lower().endswith((".parquet", ".geoparquet")):  # the wheels' GDAL cannot read it
        return _read_parquet(name)
    layer = _choose_layer(name, layer)
    info = pyogrio.read_info(name, layer=layer)
    parcels = pyogrio.read_dataframe(name, layer=layer, fid_as_index=True)
    for column, dtype in zip(info["fields"], info["dtypes"], strict=True):
        whole = dtype.startswith(("int", "bool")) and '"' not in column  # drivers quote unlike
        if whole and parcels[column].dtype != dtype:
            parcels[column] = _read_whole(name, layer, column, dtype).reindex(parcels.index)
    key = info["fid_column"]
    if key and key not in parcels:
        parcels.insert(0, key, parcels.index)
    return parcels.reset_index(drop=True)


def _read_parquet(path: str) -> gpd.GeoDataFrame:
    try:
        return gpd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not GeoParquet that can be read ({error})") from error


def _choose_layer(path: str, layer: str | None) -> str:
    """Return the layer to read: the one named, or the only one with geometry."""
    layers = vector_layers(path)
    if not layers:
        raise InputError(f"{path}: not a vector file that can be read; parcels are polygons")
    listed = ", ".join(layers)
    if layer is not None and layer not in layers:
        raise InputError(f"{path}: there is no layer {layer!r}; its layers are {listed}")
    found = [layer] if layer else [name for name, kind in layers.items() if kind is not None]
    if not found or layers[found[0]] is None:
        raise InputError(f"{path}: there is no geometry in layer {layer or listed}; give polygons")
    if len(found) > 1:
        raise InputError(
            f"{path}: there are several layers ({listed}); name the one with parcels (--by-layer)"
        )
    return found[0]


def _read_whole(path: str, layer: str, column: str, dtype: str) -> pd.Series:
    """Read the values of a column of integers or booleans, by key, that are not missing.

    Read with the missing ones they come as floats, and keys of over 15 digits would be rounded.
    """
    known = pyogrio.read_dataframe(
        path,
        layer=layer,
        columns=[column],
        where=f'"{column}" IS NOT NULL',
        read_geometry=False,
        fid_as_index=True,
    )
    return known[column].astype("boolean" if dtype == "bool" else dtype.capitalize())
