"""Class rasters, and label arrays of the scene's shape -> ground truth."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import rasterio
import rasterio.vrt
import rasterio.warp
import scipy.io
import scipy.io.matlab
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth.checks import (
    check_both_have_crs,
    checked_codes,
    nothing_on_scene,
    scheme_of_file,
)
from hsi_pipeline.ground_truth.class_table import ClassTable
from hsi_pipeline.ground_truth.truth import GroundTruth, LabelReport, count_classes


def read_raster(path: str, grid: GeoBox, table: ClassTable) -> GroundTruth:
    """Read a class raster onto the grid, by nearest neighbour where the grids differ.

    Raises:
        InputError: As `read_labels`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path)
        with source:
            if source.count != 1:
                raise InputError(
                    f"{path}: has {source.count} bands, a class raster has one; is it the scene?"
                )
            values = _read_on_grid(path, source, grid)
            palette, extent = _palette(source), _extent(source, grid)
    except RasterioError as error:
        raise InputError(
            f"{path}: neither a vector file nor a raster that can be read ({error}); give "
            "polygons, points, a class raster, .mat or .npy"
        ) from error
    return _truth_of_codes(path, values, grid, table, palette, extent)


def _read_on_grid(path: str, source: rasterio.DatasetReader, grid: GeoBox) -> np.ndarray:
    """Return the raster's values (y, x) on the grid, 0 where nodata."""
    same_shape = source.shape == tuple(grid.shape)
    same_place = source.transform.almost_equals(grid.affine)
    by_pixel = source.transform.is_identity or (grid.crs is None and same_place)
    if source.crs is None and same_shape and by_pixel:
        return _read_band(source)
    check_both_have_crs(path, source.crs, grid)
    if source.crs is None:
        raise InputError(
            f"{path}: has {source.height} x {source.width} pixels and no CRS, the scene "
            f"{grid.shape.y} x {grid.shape.x}; without CRS they must have the same grid"
        )
    if same_shape and same_place and CRS(source.crs.to_wkt()) == grid.crs:
        return _read_band(source)
    # By default positions may be off by an eighth of a pixel.
    with rasterio.vrt.WarpedVRT(
        source,
        crs=str(grid.crs),
        transform=grid.affine,
        height=grid.shape.y,
        width=grid.shape.x,
        resampling=Resampling.nearest,
        tolerance=1e-3,
    ) as warped:
        return _read_band(warped)


def _read_band(source: rasterio.DatasetReader | rasterio.vrt.WarpedVRT) -> np.ndarray:
    """Return the values of the only band, 0 where nodata."""
    return source.read(1, masked=True).filled(0)


def _palette(source: rasterio.DatasetReader) -> dict[int, str]:
    """Return the colours of a raster's colour table, {} without one."""
    try:
        table = source.colormap(1)
    except ValueError:
        return {}
    return {code: "#{:02x}{:02x}{:02x}".format(*color[:3]) for code, color in table.items()}


def _extent(source: rasterio.DatasetReader, grid: GeoBox) -> Sequence[float] | None:
    """Return left, bottom, right, top of a raster in the grid's CRS, None where a CRS lacks."""
    if source.crs is None or grid.crs is None:
        return None
    return rasterio.warp.transform_bounds(source.crs, str(grid.crs), *source.bounds)


def is_array_file(path: str) -> bool:
    """Tell by its name whether a file holds bare arrays."""
    return path.lower().endswith((".mat", ".npy"))


def read_array(path: str, grid: GeoBox, table: ClassTable, variable: str | None) -> GroundTruth:
    """Read the label array of a .mat or .npy file, which has the grid's shape.

    Args:
        path: The file.
        grid: The scene's grid.
        table: Class table.
        variable: Name of the array; None where only one can be labels.

    Raises:
        InputError: As `read_labels`.
    """
    arrays = _load_arrays(path)
    shape = tuple(grid.shape)
    found = {
        name: values
        for name, values in arrays.items()
        if variable in (None, name) and _is_class_array(values)
    }
    if len(found) > 1:  # spectra and tables are 2-D too, but not of the scene's shape
        found = {n: a for n, a in found.items() if a.shape == shape} or found
    if len(found) != 1:
        listed = ", ".join(
            f"{n} {'x'.join(map(str, a.shape))} {a.dtype}" for n, a in arrays.items()
        )
        raise InputError(
            f"{path}: expected one 2-D array of whole numbers"
            + (f" named {variable!r}" if variable else "")
            + f", found {len(found)}; the file holds {listed or 'no arrays'}"
            + ("; choose one with --layer" if len(found) > 1 else "")
        )
    (values,) = found.values()
    if values.shape != shape:
        turned = ", transpose it" if values.shape == shape[::-1] else ""
        raise InputError(
            f"{path}: the labels have {values.shape[0]} x {values.shape[1]} pixels (rows x "
            f"columns), the scene {shape[0]} x {shape[1]}{turned}"
        )
    return _truth_of_codes(path, values, grid, table)


def _load_arrays(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of a .mat or .npy file by name."""
    try:
        if path.lower().endswith(".npy"):
            return {"array": np.load(path, allow_pickle=False)}
        content = scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise InputError(
            f"{path}: is a MATLAB 7.3 file; save it with -v7, or as .npy or GeoTIFF"
        ) from error
    except (ValueError, TypeError, OSError, EOFError, scipy.io.matlab.MatReadError) as error:
        raise InputError(f"{path}: cannot be read as an array file ({error})") from error
    return {n: a for n, a in content.items() if isinstance(a, np.ndarray) and n[:2] != "__"}


def _is_class_array(values: np.ndarray) -> bool:
    """Tell whether an array can be labels; MATLAB's scalars are 2-D, but have one element."""
    if values.ndim != 2 or values.size < 2 or values.dtype.kind not in "biuf":
        return False
    return bool((np.isnan(values) | (values == np.floor(values))).all())


def _truth_of_codes(
    path: str,
    values: np.ndarray,
    grid: GeoBox,
    table: ClassTable,
    palette: Mapping[int, str] | None = None,
    extent: Sequence[float] | None = None,
) -> GroundTruth:
    """Make ground truth of class codes (y, x) on the grid."""
    labels = checked_codes(values, path)
    if not labels.any():
        raise nothing_on_scene(path, extent, grid)
    scheme = scheme_of_file(path, labels, table.names, {**(palette or {}), **table.colors})
    return GroundTruth(
        labels=labels,
        scheme=scheme,
        units=np.zeros(labels.shape, dtype=np.int32),
        splits=None,
        report=LabelReport(classes=count_classes(scheme, labels, grid)),
    )
