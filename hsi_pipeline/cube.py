"""The cube contract: what a hyperspectral scene looks like in memory.

A cube is an `xr.DataArray` with dims (band, y, x) over a lazy Dask array:

- values: digital numbers as stored; reflectance = value * attrs["scale"] + attrs["offset"];
- attrs: `scale` and `offset` (a float, or one per band), `nodata` (a number or None), and free
  strings such as `scene_id` or `acquired`;
- coords on `band`: `band` 1..n, `wavelength` nm (NaN where unknown), `fwhm` nm (NaN where
  unknown), `good` bool, `band_name`;
- coords of the grid as odc-geo makes them, `spatial_ref` included where there is a CRS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np
import odc.geo.xr  # noqa: F401  registers .odc on DataArray
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from hsi_pipeline.errors import InputError
from hsi_pipeline.wavelengths import Wavelengths

DIMS = ("band", "y", "x")
BAND_COORDS = ("wavelength", "fwhm", "good", "band_name")


def make_cube(
    pixels: da.Array,
    grid: GeoBox,
    *,
    wavelengths: Wavelengths | None,
    good: tuple[bool, ...],
    band_names: tuple[str, ...],
    scale: float | tuple[float, ...] = 1.0,
    offset: float | tuple[float, ...] = 0.0,
    nodata: float | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Join pixels, grid and band table to a cube and check it.

    Args:
        pixels: Digital numbers, dims (band, y, x), lazy.
        grid: Grid of the (y, x) dims.
        wavelengths: Band positions, or None where the file does not say.
        good: False for bands that are marked bad.
        band_names: One name per band.
        scale: Factor from digital numbers to reflectance, one or one per band.
        offset: Added after scaling.
        nodata: Digital number of invalid pixels, None where there is none.
        attrs: Further attributes, strings and numbers only.

    Returns:
        The cube, lazily.

    Raises:
        InputError: As `check_cube`.
    """
    count = pixels.shape[0]
    nan = np.full(count, np.nan)
    centers = np.array(wavelengths.center_nm) if wavelengths else nan
    widths = [np.nan if w is None else w for w in wavelengths.fwhm_nm] if wavelengths else nan
    cube = xr.DataArray(
        pixels,
        dims=DIMS,
        coords={
            "band": np.arange(1, count + 1),
            "wavelength": ("band", centers, {"units": "nm"}),
            "fwhm": ("band", np.array(widths, dtype=float), {"units": "nm"}),
            "good": ("band", np.array(good, dtype=bool)),
            "band_name": ("band", np.array(band_names, dtype=str)),
            **xr_coords(grid, dims=("y", "x")),
        },
        attrs={
            **(attrs or {}),
            "scale": list(scale) if isinstance(scale, tuple) else float(scale),
            "offset": list(offset) if isinstance(offset, tuple) else float(offset),
            "nodata": nodata,
        },
        name="cube",
    )
    if grid.crs is not None:
        cube.attrs["grid_mapping"] = "spatial_ref"
    check_cube(cube)
    return cube


def check_cube(cube: xr.DataArray) -> None:
    """Check that an array keeps the cube contract.

    Raises:
        InputError: Says which part of the contract does not hold.
    """
    if cube.dims != DIMS:
        raise InputError(f"a cube has dims {DIMS}, this array has {cube.dims}; transpose it")
    if 0 in cube.shape:
        raise InputError(f"the cube is empty: shape {cube.shape}")
    missing = [name for name in BAND_COORDS if name not in cube.coords]
    if missing:
        raise InputError(f"the cube lacks the band coordinate {missing[0]!r}")
    for key in ("scale", "offset", "nodata"):
        if key not in cube.attrs:
            raise InputError(f"the cube lacks the attribute {key!r}")
    for key in ("scale", "offset"):
        size = np.size(cube.attrs[key])
        if size not in (1, cube.sizes["band"]):
            raise InputError(f"{key} has {size} values, the cube {cube.sizes['band']} bands")
    if cube.dtype.kind not in "iuf":
        raise InputError(f"a cube holds numbers, this one {cube.dtype}")


def grid_of(cube: xr.DataArray | xr.Dataset) -> GeoBox:
    """Return the grid of a cube or class map.

    Raises:
        InputError: The coordinates do not form a regular grid.
    """
    if 1 in (cube.sizes["y"], cube.sizes["x"]):
        # A single row or column does not tell its size.
        x, y = float(cube["x"][0]), float(cube["y"][0])
        if "spatial_ref" not in cube.coords:  # without CRS a pixel's is 1
            grid = pixel_grid(cube.sizes["y"], cube.sizes["x"])
            return grid.translate_pix(x - 0.5, -y - 0.5)
        if cube["x"].attrs.get("units") == "pixel":  # rotated: coordinates count pixels
            transform = map(float, cube["spatial_ref"].attrs["GeoTransform"].split())
            grid = GeoBox(
                (cube.sizes["y"], cube.sizes["x"]), Affine.from_gdal(*transform), cube.odc.crs
            )
            return grid.translate_pix(x - 0.5, y - 0.5)
    grid = cube.odc.geobox
    if not isinstance(grid, GeoBox) or not all(_is_regular(cube[axis].values) for axis in "yx"):
        raise InputError("the y and x coordinates do not form a regular grid")
    return grid


def _is_regular(coordinates: np.ndarray) -> bool:
    """Tell whether coordinates lie within a tenth of a step of equal steps."""
    even, step = np.linspace(coordinates[0], coordinates[-1], len(coordinates), retstep=True)
    return bool((np.abs(coordinates - even) <= abs(step) / 10).all()) or len(coordinates) == 1


def pixel_grid(rows: int, columns: int) -> GeoBox:
    """Return the grid of a scene without georeference: x = column, y = -row, no CRS.

    Row 0 is on top, as QGIS draws rasters without georeference.
    """
    return GeoBox((rows, columns), Affine(1, 0, 0, 0, -1, 0), None)


def wavelengths_of(cube: xr.DataArray) -> Wavelengths | None:
    """Return the wavelengths of a cube, None where the file does not say."""
    centers = cube["wavelength"].values
    if not np.isfinite(centers).all():
        return None
    return Wavelengths(
        tuple(float(v) for v in centers),
        tuple(None if np.isnan(v) else float(v) for v in cube["fwhm"].values),
    )


def scale_offset(cube: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and offset as float32 arrays of shape (band,)."""
    shape = (cube.sizes["band"],)
    scale = np.broadcast_to(np.asarray(cube.attrs["scale"], np.float32), shape)
    offset = np.broadcast_to(np.asarray(cube.attrs["offset"], np.float32), shape)
    return scale, offset


def valid_pixels(raw: np.ndarray, nodata: float | None) -> np.ndarray:
    """Tell which pixels of raw digital numbers are valid.

    A pixel is invalid where any band holds the nodata value or is not finite. Bands that hold
    nodata everywhere must have been left out before.

    Args:
        raw: Digital numbers (band, y, x).
        nodata: The nodata value, NaN, or None.

    Returns:
        Booleans (y, x).
    """
    valid = np.ones(raw.shape[1:], dtype=bool)
    mark = None if nodata is None or np.isnan(nodata) else nodata
    if mark is not None and raw.dtype.kind in "iu":
        # As an integer it is compared twice as fast; one that the type cannot hold marks nothing.
        info = np.iinfo(raw.dtype)
        fits = float(mark).is_integer() and info.min <= mark <= info.max
        mark = int(mark) if fits else None
    for band in raw:  # band by band, so that no mask of the cube's size is made
        if raw.dtype.kind == "f":
            valid &= np.isfinite(band)
        if mark is not None:
            valid &= band != mark
    return valid


def read_window(array: da.Array, rows: slice, columns: slice) -> np.ndarray:
    """Read a lazy window in this thread.

    Args:
        array: The window.
        rows: Where it lies, for messages.
        columns: Likewise.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return np.asarray(array.compute(scheduler="synchronous"))
    except (OSError, RuntimeError, ValueError) as error:
        cause = " ".join(str(error.__cause__ or error).split())
        raise InputError(
            f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1} "
            f"of the map cannot be read ({cause}); is the file damaged?"
        ) from error


class WindowReader:
    """Reads pixel windows of a lazy array, each on its own, without the array's scheduler.

    Dask fuses the slice into the source's own read, so a window costs one read of that window
    and nothing of its neighbours. The reader pickles, which is how it reaches workers.
    """

    def __init__(self, pixels: da.Array, bands: tuple[int, ...]) -> None:
        """Keep the lazy array, dims (band, y, x), and which bands to read, in which order."""
        self._pixels = pixels
        self._range = slice(min(bands), max(bands) + 1)
        order = [band - self._range.start for band in bands]
        whole = list(range(self._range.stop - self._range.start))
        self._order = None if order == whole else order

    def __call__(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the window's digital numbers (band, rows, columns)."""
        # One slice for all axes: Dask fuses only one into the read.
        window = self._pixels[self._range, rows, columns].compute(scheduler="synchronous")
        return np.asarray(window if self._order is None else window[self._order])
