"""The spectral side of CF variables: which of them is the cube, and its band table."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.band_table import PLAUSIBLE_NM, in_nm
from hsi_pipeline.scene.cf.variables import Variable, Variables
from hsi_pipeline.wavelengths import Wavelengths, to_nm

_WAVELENGTHS = ("wavelength", "wavelengths", "center_wavelength", "central_wavelength",
                "band_wavelength", "wavelength_nm", "wavelength_um", "wl", "lambda")  # fmt: skip
_STANDARD_NAMES = ("radiation_wavelength", "sensor_band_central_radiation_wavelength")
_WIDTHS = ("fwhm", "fwhm_nm", "fwhm_um", "bandwidth", "full_width_half_max")
_GOOD = ("good", "good_wavelengths", "good_bands", "bbl")
_NAMES = ("band_name", "band_names")
_AXES = {
    "y": ("y", "lat", "latitude", "northing", "row", "rows", "line", "lines", "downtrack"),
    "x": ("x", "lon", "longitude", "easting", "column", "columns", "col", "sample", "samples",
          "crosstrack"),
}  # fmt: skip
_STANDARD_AXES = {
    "y": ("projection_y_coordinate", "latitude", "grid_latitude"),
    "x": ("projection_x_coordinate", "longitude", "grid_longitude"),
}


def find_cube(variables: Variables) -> tuple[Variable, str, Variable]:
    """Find the variable that is a cube.

    Args:
        variables: All of a file's.

    Returns:
        The cube, the order of its axes such as "yxb", and its coordinate of wavelengths.

    Raises:
        InputError: There is none, or there are several.
    """
    solid = [v for v in variables.by_name.values() if len(v.dims) == 3 and v.dtype.kind in "iufb"]
    found = [
        (variable, dim, centers)
        for variable in solid
        for dim in variable.dims
        if (centers := _along(variables, dim, _are_wavelengths))
    ]
    if len(found) > 1:
        listed = ", ".join(sorted({variable.name for variable, *_ in found}))
        raise InputError(f"it holds several cubes ({listed}); write one to a file of its own")
    if not found:
        held = ", ".join(f"{v.name} {v.dims}" for v in list(variables.by_name.values())[:8])
        lack = "no variable of three dimensions"
        if solid:
            lack = f"no wavelength coordinate along a dimension of {solid[0].name} {solid[0].dims}"
        raise InputError(f"it has {lack}; it holds {held or 'nothing'}")
    cube, band, centers = found[0]
    return cube, _axes(variables, cube, band), centers


def stored_wavelengths(variables: Variables, centers: Variable, band: str) -> Wavelengths | None:
    """Return the wavelengths of a store that `publish.cube_zarr` made, NaN where unknown."""
    values = _floats(centers)
    if all(map(math.isnan, values)):
        return None
    widths = _along(variables, band, lambda v: v.name == "fwhm")
    return Wavelengths(tuple(values), _known(_floats(widths)) if widths else ())


def plausible_wavelengths(variables: Variables, centers: Variable, band: str) -> Wavelengths:
    """Return the wavelengths of any file, and widths where it has some.

    Raises:
        InputError: The unit is not known, or values are none of an imaging spectrometer.
    """
    unit = _unit(centers)
    values = _floats(centers)
    found = in_nm(values, [], unit)
    low, high = PLAUSIBLE_NM
    if found is None or not all(low <= value <= high for value in found.center_nm):
        raise InputError(
            f"{centers.name} (unit {unit!r}) holds values beyond {low:g} to {high:g} nm, which are "
            "no wavelengths; correct it or its attribute units"
        )
    widths = _along(variables, band, lambda v: v.name in _WIDTHS)
    if widths is None:
        return found
    width_unit = _unit(widths) or unit
    if width_unit == unit:
        return in_nm(values, _known(_floats(widths)), unit) or found
    known = tuple(to_nm([value], width_unit)[0] for value in _floats(widths))
    plausible = all(0 < width < high or math.isnan(width) for width in known)
    if not plausible or "cm" in str(width_unit):
        raise InputError(
            f"{widths.name} (unit {width_unit!r}) holds no widths of bands up to {high:g} nm; "
            f"give them in the unit of {centers.name}"
        )
    return Wavelengths(found.center_nm, _known(known))


def good_bands(variables: Variables, band: str, count: int) -> tuple[bool, ...]:
    """Return False for bands marked bad.

    Raises:
        InputError: The marks are not 0 or 1.
    """
    found = _along(variables, band, lambda v: v.name in _GOOD)
    if found is None:
        return (True,) * count
    values = found.values()
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"{found.name} is neither 0 nor 1 for each band; damaged")
    return tuple(bool(value) for value in values)


def band_names(variables: Variables, band: str, count: int) -> tuple[str, ...]:
    """Return one name per band, made up where the file has none."""
    for name in _NAMES:
        variable = variables.by_name.get(name)
        if variable is not None and variable.dims[:1] == (band,):
            found = variable.values()
            if found.ndim == 2:  # a character each, as older netCDF has texts
                found = np.array([b"".join(row.tolist()).rstrip(b"\0 ") for row in found])
            return tuple(_text(value) for value in found.tolist())
    return tuple(f"band {i}" for i in range(1, count + 1))


def per_band(variables: Variables, name: str, band: str) -> tuple[float, ...]:
    """Return a number for each band, nothing where the file has none of that name."""
    found = _along(variables, band, lambda v: v.name == name)
    if found is None:
        return ()
    values = tuple(_floats(found))
    if not all(map(math.isfinite, values)):
        raise InputError(f"{name} is not a number for each band; damaged")
    return values


def _axes(variables: Variables, cube: Variable, band: str) -> str:
    """Return the order of a cube's axes."""
    others = [dim for dim in cube.dims if dim != band]
    said = [_axis_of(variables, dim) for dim in others]
    if "".join(said) in ("x", "y"):  # the other one is what is left
        said = [axis or "xy".replace("".join(said), "") for axis in said]
    if sorted(said) != ["x", "y"]:
        raise InputError(f"which of its dimensions {others} are rows (y), which columns (x)?")
    order = dict(zip(others, said, strict=True))
    return "".join("b" if dim == band else order[dim] for dim in cube.dims)


def _axis_of(variables: Variables, dim: str) -> str:
    """Return whether a dimension is y or x, "" where nothing tells."""
    coordinate = variables.by_name.get(dim)
    attrs = coordinate.attrs if coordinate is not None else {}
    for axis, names in _AXES.items():
        if attrs.get("standard_name") in _STANDARD_AXES[axis] or attrs.get("axis") == axis.upper():
            return axis
        if dim.lower() in names:
            return axis
    return ""


def _along(variables: Variables, dim: str, fits: Callable[[Variable], bool]) -> Variable | None:
    """Return the first variable over one dimension that fits."""
    found = (v for v in variables.by_name.values() if v.dims == (dim,) and v.dtype.kind in "iufb")
    return next((variable for variable in found if fits(variable)), None)


def _are_wavelengths(variable: Variable) -> bool:
    named = variable.name.lower() in _WAVELENGTHS
    return named or variable.attrs.get("standard_name") in _STANDARD_NAMES


def _unit(variable: Variable) -> str | None:
    unit = variable.attrs.get("units")
    return unit if isinstance(unit, str) else None


def _floats(variable: Variable) -> list[float]:
    return [float(value) for value in variable.values().tolist()]


def _known(widths: list[float] | tuple[float, ...]) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(width) else width for width in widths)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
