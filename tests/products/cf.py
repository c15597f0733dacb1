"""Cubes in CF netCDF files and Zarr stores, in the layouts that programs write."""

import numpy as np
import pyproj
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from products import Example, spectra_like

BANDS, ROWS, COLUMNS = 6, 19, 13
NM = (442.5, 560.0, 665.25, 864.0, 855.5, 2202.0)  # not ascending
FWHM = (20.0, 36.0, 31.0, 21.0, 20.5, 175.0)
UTM = GeoBox((ROWS, COLUMNS), Affine(30, 0, 364_095, 0, -30, 5_809_965), "EPSG:32633")
DEGREES = GeoBox((ROWS, COLUMNS), Affine(0.002, 0, 13.1, 0, -0.002, 52.4), "EPSG:4326")
_STANDARD = "surface_bidirectional_reflectance"
START = "2024-05-01T10:20:30Z"


def coordinates(grid, ascending=False):
    """Pixel centres of a grid, worked out by hand."""
    a = grid.affine
    x = a.c + a.a * (np.arange(COLUMNS) + 0.5)
    y = a.f + a.e * (np.arange(ROWS) + 0.5)
    return (y[::-1] if ascending else y), x


def cube(dims, values, grid, *, ascending=False, unit="nm", names=("y", "x"), **attrs):
    """Return a dataset as it goes to the file: undecoded numbers, CF attributes."""
    y, x = coordinates(grid, ascending)
    factor = {"nm": 1, "um": 1000, "Nanometers": 1}[unit]
    pixels = values[:, ::-1] if ascending else values
    spectral = next(dim for dim in dims if dim not in names)
    order = [(spectral, *names).index(dim) for dim in dims]
    metres = {"units": "m"} if names == ("y", "x") else {"units": "degrees_north"}
    crs = pyproj.CRS(grid.crs.to_wkt()).to_cf()
    return xr.Dataset(
        {
            "reflectance": (dims, pixels.transpose(order), {"grid_mapping": "crs", **attrs}),
            "crs": ((), np.int32(0), crs),
        },
        {
            "wavelength": (spectral, np.array(NM) / factor, {"units": unit}),
            names[0]: (names[0], y, metres),
            names[1]: (names[1], x, {"units": metres["units"].replace("north", "east")}),
        },
        {"title": "a test", "time_coverage_start": START, "Conventions": "CF-1.11"},
    )


def example_of(path, values, grid, **more):
    return Example(
        path=path,
        reader="cf",
        reflectance=values,
        grid=grid,
        center_nm=NM,
        attrs={"scene_id": path.stem, "acquired": START},
        **{"fwhm_nm": (), **more},
    )


def with_holes(values):
    """Return float32 with a few pixels of NaN, and the same as what is expected."""
    found = values.astype("f4")
    found[:, 4, 3:6] = np.nan
    return found


def write_bands_first(folder):
    """netCDF (band, y, x), float32 with NaN, north-up, deflated."""
    path = folder / "bands_first.nc"
    values = with_holes(spectra_like((BANDS, ROWS, COLUMNS)))
    dataset = cube(
        ("band", "y", "x"), values, UTM, standard_name="surface_bidirectional_reflectance"
    )
    dataset["fwhm"] = "band", np.array(FWHM), {"units": "nm"}
    encoding = {"reflectance": {"zlib": True, "chunksizes": (2, 8, 8), "_FillValue": np.nan}}
    dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return example_of(path, values, UTM, fwhm_nm=FWHM)


def write_pixels_first(folder):
    """netCDF (y, x, wavelength) in um, rows from south to north, whole numbers with a scale."""
    path = folder / "pixels_first.nc"
    values = spectra_like((BANDS, ROWS, COLUMNS), 1)
    stored = np.rint((values - 0.01) / 1e-4).astype("i2")
    stored[2, 5, 6] = stored[0, 1, 1] = -9999
    dims = ("wavelength", "y", "x")
    packed = {"scale_factor": 1e-4, "add_offset": 0.01, "_FillValue": np.int16(-9999)}
    dataset = cube(("y", "x", "wavelength"), stored, UTM, ascending=True, unit="um", **packed)
    dataset["fwhm"] = "wavelength", np.array(FWHM) / 1000, {"units": "um"}
    dataset["good"] = "wavelength", np.array([1, 1, 0, 1, 1, 1], "i1")
    assert set(dims) == set(dataset["reflectance"].dims)
    dataset.to_netcdf(path, engine="h5netcdf")
    expected = np.where(stored == -9999, np.nan, stored * 1e-4 + 0.01)
    good = (True, True, False, True, True, True)
    return example_of(path, expected, UTM, fwhm_nm=FWHM, good=good)


def write_lines(folder):
    """netCDF (lat, band, lon) on geographic coordinates, big-endian."""
    path = folder / "lines.nc"
    values = with_holes(spectra_like((BANDS, ROWS, COLUMNS), 2))
    dataset = cube(("lat", "band", "lon"), values, DEGREES, names=("lat", "lon"), unit="um")
    dataset["reflectance"].encoding = {"dtype": ">f4", "chunksizes": (3, 6, 13), "zlib": True}
    dataset.to_netcdf(path, engine="h5netcdf")
    return example_of(path, values, DEGREES)


def write_zarr_2(folder):
    """Zarr 2 (y, x, band), consolidated, rows from south to north, quality flags."""
    path = folder / "scene.zarr"
    values = spectra_like((BANDS, ROWS, COLUMNS), 3)
    stored = np.rint(values * 10_000).astype("u2")
    stored[:, 7, 2] = 65535
    packed = {"scale_factor": 1e-4, "_FillValue": np.uint16(65535)}
    dataset = cube(("y", "x", "band"), stored, UTM, ascending=True, **packed)
    flags = np.random.default_rng(0).integers(0, 4, (ROWS, COLUMNS)).astype("u1")
    meaning = {"flag_masks": [1, 2], "flag_meanings": "water cloud"}
    dataset["quality"] = ("y", "x"), flags[::-1], meaning
    dataset["band_name"] = "band", np.array([f"B{i} {nm:g}" for i, nm in enumerate(NM)])
    dataset.chunk({"y": 7, "x": 5, "band": 4}).to_zarr(path, zarr_format=2, consolidated=True)
    return example_of(
        path,
        np.where(stored == 65535, np.nan, stored * 1e-4),
        UTM,
        flags={"water": flags & 1 > 0, "cloud": flags & 2 > 0},
        damage=tuple(
            path / name
            for name in (".zmetadata", "reflectance/.zarray", "reflectance/1.1.1", "wavelength/0")
        ),
    )


def write_zarr_3(folder):
    """Zarr 3 (band, lat, lon), in a folder of another name, not consolidated."""
    path = folder / "store"
    values = with_holes(spectra_like((BANDS, ROWS, COLUMNS), 4))
    names = ("lat", "lon")
    dataset = cube(("band", *names), values, DEGREES, names=names, unit="Nanometers")
    dataset.chunk({"lat": 8, "lon": 13, "band": 6}).to_zarr(path, zarr_format=3, consolidated=False)
    damage = tuple(path / name for name in ("reflectance/zarr.json", "reflectance/c/0/1/0"))
    return example_of(path, values, DEGREES, damage=damage)


EXAMPLES = {
    "netCDF, bands first": write_bands_first,
    "netCDF, pixels first": write_pixels_first,
    "netCDF, lines": write_lines,
    "Zarr 2": write_zarr_2,
    "Zarr 3": write_zarr_3,
}
