"""Reflectance files of NEON's Airborne Observation Platform, in small.

Names, types and attributes as NEON's tutorials print them: cube (row, column, band) int16 in
chunks, numbers as arrays of one, texts as bytes.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from products import Example, spectra_like

SHAPE = (23, 17, 9)  # rows, columns, bands
NM = (383.8842, 388.8928, 1339.9, 1342.4, 1440.1, 1450.1, 1792.3, 1960.0, 2510.9507)
FWHM = (5.8, 5.81, 5.85, 5.86, 5.9, 5.92, 6.0, 6.01, 6.4291)
WINDOWS = ((1340, 1445), (1790, 1955))
GOOD = (True, True, True, False, False, True, False, True, True)
WEST, NORTH, EPSG = 257000.0, 4112000.0, 32611
MAP_INFO = (
    "UTM,  1.000,  1.000,       257000.00,       4112000.0,       1.0000000,       1.0000000,  11,"
    "  North,  WGS-84,  units=Meters, 0"
)
CLASSES = {
    "invalid": (0,),
    "low_quality": (1, 21),
    "cirrus": (2, 3, 4, 8, 9, 10, 18, 19),
    "saturated": (6,),
    "snow": (7,),
    "haze": (11, 12, 13, 14),
    "cloud": (15, 16),
    "water": (17,),
    "cloud_shadow": (22,),
}


def digital_numbers() -> np.ndarray:
    """Return the image as stored, with pixels of no data."""
    cube = (spectra_like(SHAPE, 3) * 10_000).astype("<i2")
    cube[..., ~np.array(GOOD)] = -100
    cube[:4, :3] = -9999
    return cube


def classes() -> np.ndarray:
    """Return the map of haze, cloud and water, with all 23 classes."""
    return (
        np.random.default_rng(4).permutation(np.arange(23 * 17) % 23).reshape(23, 17).astype("u1")
    )


def write(path: Path, site: str, cube: np.ndarray, *, map_info: str, weather: np.ndarray) -> Path:
    """Write a file."""
    rows, columns, _ = cube.shape
    with h5py.File(path, "w") as file:
        group = file.create_group(f"{site}/Reflectance")
        for number, window in enumerate(WINDOWS, 1):
            group.attrs[f"Band_Window_{number}_Nanometers"] = np.array(window, "<i4")
        group.attrs["Sensor"] = np.bytes_("NIS1")
        image = group.create_dataset(
            "Reflectance_Data", data=cube, chunks=(7, 5, 4), compression="gzip"
        )
        image.attrs.update(
            {
                "Cloud_conditions": np.bytes_("See Weather Quality Index dataset."),
                "Data_Ignore_Value": np.array([-9999.0]),
                "Description": np.bytes_("Atmospherically corrected reflectance."),
                "Dimension_Labels": np.bytes_("Line, Sample, Wavelength"),
                "Dimensions": np.array(cube.shape, "<i4"),
                "Interleave": np.bytes_("BSQ"),
                "Scale_Factor": np.array([10000.0]),
                "Spatial_Extent_meters": np.array([WEST, WEST + columns, NORTH - rows, NORTH]),
                "Spatial_Resolution_X_Y": np.array([1.0, 1.0]),
                "Units": np.bytes_("Unitless."),
            }
        )
        spectral = group.create_group("Metadata/Spectral_Data")
        for name, values in (("Wavelength", NM), ("FWHM", FWHM)):
            spectral[name] = np.array(values)
            spectral[name].attrs["Units"] = np.bytes_("nanometers")
        places = group.create_group("Metadata/Coordinate_System")
        places["Map_Info"] = np.bytes_(map_info)
        places["EPSG Code"] = np.bytes_(str(EPSG))
        places["Proj4"] = np.bytes_("+proj=utm +zone=11 +datum=WGS84 +units=m +no_defs")
        ancillary = group.create_group("Metadata/Ancillary_Imagery")
        ancillary["Haze_Cloud_Water_Map"] = classes()
        ancillary["Cast_Shadow"] = np.ones(SHAPE[:2], "u1")
        ancillary["Weather_Quality_Indicator"] = weather
    return path


def example(
    path: Path, site: str, *, map_info: str, affine: Affine, weather: np.ndarray
) -> Example:
    """Write a file and say what is true of it."""
    cube = digital_numbers()
    write(path, site, cube, map_info=map_info, weather=weather)
    flags = {name: np.isin(classes(), codes) for name, codes in CLASSES.items()}
    if weather.ndim == 2:
        flags["low_quality"] |= weather > 1
    return Example(
        path=path,
        reader="neon",
        reflectance=np.where(cube == -9999, np.nan, cube / 10_000).transpose(2, 0, 1),
        grid=GeoBox(SHAPE[:2], affine, f"EPSG:{EPSG}"),
        center_nm=NM,
        fwhm_nm=FWHM,
        good=GOOD,
        attrs={"sensor": "NEON AOP", "quantity": "reflectance", "site": site},
        flags=flags,
    )


def tile(folder: Path) -> Example:
    """A mosaic tile of 2024: one plane of weather classes."""
    path = folder / "NEON_D17_SJER_DP3_257000_4112000_bidirectional_reflectance.h5"
    weather = np.random.default_rng(6).integers(1, 4, SHAPE[:2]).astype("u1")
    north_up = Affine(1, 0, WEST, 0, -1, NORTH)
    made = example(path, "SJER", map_info=MAP_INFO, affine=north_up, weather=weather)
    return Example(**{**vars(made), "attrs": {**made.attrs, "level": "DP3"}})


def flight_line(folder: Path) -> Example:
    """A flight line of before: weather as a colour picture, which is not read."""
    path = folder / "NEON_D01_BART_DP1_20190825_145110_reflectance.h5"
    weather = np.zeros((*SHAPE[:2], 3), "u1")
    north_up = Affine(1, 0, WEST, 0, -1, NORTH)
    made = example(path, "BART", map_info=MAP_INFO, affine=north_up, weather=weather)
    attrs = {**made.attrs, "level": "DP1", "acquired": "2019-08-25T14:51:10Z"}
    return Example(**{**vars(made), "attrs": attrs})


EXAMPLES = {"tile": tile, "flight line": flight_line}
