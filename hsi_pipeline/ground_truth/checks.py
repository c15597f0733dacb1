"""What polygons and class rasters are both held to: codes, class names, and place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import ClassScheme, make_scheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth.truth import MAX_CODE


def checked_codes(values: np.ndarray, where: str) -> np.ndarray:
    """Return class codes as uint8, NaN as 0.

    Args:
        values: Numbers of any shape.
        where: File, and column if any, for the message.

    Raises:
        InputError: Not all are whole numbers from 0 to 255.
    """
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), 0, values)
    wrong = (values < 0) | (values > MAX_CODE) | (values != np.floor(values))
    if wrong.any():
        listed = ", ".join(f"{value:g}" for value in np.unique(values[wrong])[:5])
        raise InputError(
            f"{where} holds {listed}; class codes are whole numbers from 1 to 255, "
            "and 0, null or nodata where there is no label"
        )
    return values.astype(np.uint8)


def scheme_of_file(
    path: str, codes: np.ndarray, names: Mapping[int, str], colors: Mapping[int, str]
) -> ClassScheme:
    """Return the classes of a file; code 0 and repeats are left out.

    Raises:
        InputError: Two classes have the same name.
    """
    try:
        return make_scheme(np.unique(codes[codes > 0]).tolist(), names, colors)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def nothing_on_scene(path: str, extent: Sequence[float] | None, grid: GeoBox) -> InputError:
    """Return the error that says where labels and scene are.

    Args:
        path: The label file.
        extent: Left, bottom, right, top of the labels in the grid's CRS; None where unknown.
        grid: The scene's grid.
    """
    spans = [
        f"{who} x {left:.8g} to {right:.8g}, y {bottom:.8g} to {top:.8g}"
        for who, (left, bottom, right, top) in (
            ("the labels span", extent or (np.nan,) * 4),
            ("the scene", grid.boundingbox.bbox),
        )
        if np.isfinite(left)
    ]
    return InputError(
        f"{path}: labels no pixel of the scene; {', '.join(spans)} ({_crs_name(grid)})"
    )


def check_both_have_crs(path: str, crs: object | None, grid: GeoBox) -> None:
    """Check that labels and scene both have a CRS or both have none.

    Raises:
        InputError: Says which side has none.
    """
    if crs is None and grid.crs is not None:
        raise InputError(
            f"{path}: the labels have no CRS but the scene has {_crs_name(grid)}; "
            "assign the labels their CRS (for a shapefile, add the .prj)"
        )
    if crs is not None and grid.crs is None:
        raise InputError(
            f"{path}: the labels have a CRS but the scene has none; georeference the scene, or "
            "give labels in its coordinates without a CRS (not GeoJSON, which always has one)"
        )


def _crs_name(grid: GeoBox) -> str:
    """Return a short name of a grid's CRS, whose text may be a page of WKT."""
    if grid.crs is None:
        return "no CRS"
    return f"EPSG:{grid.crs.epsg}" if grid.crs.epsg else str(grid.crs.proj.name)
