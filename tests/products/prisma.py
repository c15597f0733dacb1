"""PRISMA products as the Italian Space Agency delivers them, in small.

Layout, names, types and attributes as in real products: cubes (rows, bands, columns) uint16 without
chunks, wavelengths from long to short, 0 for bands that were not delivered, corners of L2D as
centres of the corner pixels.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from products import Example, spectra_like

ROWS, COLUMNS = 23, 17
START = "20240402102837_20240402102842_0001"
VNIR_NM = (0.0, 0.0, 977.3654, 967.0267, 956.2715, 500.5)
VNIR_FWHM = (0.0, 0.0, 12.912796, 12.94441, 13.463784, 9.25)
SWIR_NM = (2497.1155, 2490.2192, 1500.75, 959.974, 951.4014, 943.3579, 0.0)
SWIR_FWHM = (9.728999, 9.218007, 14.3, 12.200682, 11.012961, 10.941308, 0.0)
NAMES = tuple(f"VNIR {i}" for i in (3, 4, 5, 6)) + tuple(f"SWIR {i}" for i in range(1, 7))
DELIVERED = {"VNIR": slice(2, 6), "SWIR": slice(0, 6)}
EPSG = 32632
WEST, NORTH = 547452.5, 5953067.5  # outer corner, as in the product of 2 April 2024
SCALES = {"VNIR": (0.0, 1.0), "SWIR": (0.0, 0.9)}
NAN = np.float32(np.nan)


def counts(seed: int = 0) -> dict[str, np.ndarray]:
    """Return digital numbers of both detectors as stored (rows, bands, columns)."""
    rng = np.random.default_rng(seed)
    cubes = {}
    for name, wavelengths in (("VNIR", VNIR_NM), ("SWIR", SWIR_NM)):
        cube = (spectra_like((ROWS, len(wavelengths), COLUMNS), seed + len(name)) * 65535).astype(
            "<u2"
        )
        cube[:, np.array(wavelengths) == 0] = 0
        cube[rng.random(cube.shape) < 0.001] = 65535
        cubes[name] = cube
    return cubes


def error_matrices(seed: int = 0) -> dict[str, np.ndarray]:
    """Return error codes of both detectors as stored, all four kinds of them."""
    matrices = {}
    for name, wavelengths in (("VNIR", VNIR_NM), ("SWIR", SWIR_NM)):
        errors = np.zeros((ROWS, len(wavelengths), COLUMNS), "u1")
        errors[:, np.array(wavelengths) == 0] = 1  # of bands that do not count
        matrices[name] = errors
    matrices["VNIR"][4, 3, 5] = 1
    matrices["VNIR"][7, 2, 1] = 3
    matrices["SWIR"][7, 5, 1] = 2
    matrices["SWIR"][9, 0, 11:14] = 2
    matrices["SWIR"][20, 4, 16] = 3
    return matrices


def flags_of(matrices: dict[str, np.ndarray], codes: dict[str, tuple[int, ...]]) -> dict:
    """Return where any delivered band has one of some codes, bool (y, x)."""
    joined = np.concatenate([matrices[name][:, DELIVERED[name]] for name in DELIVERED], axis=1)
    return {flag: np.isin(joined, wanted).any(axis=1) for flag, wanted in codes.items()}


def attributes(level: str) -> dict:
    """Return the root's attributes."""
    found = {
        "Processing_Level": np.bytes_(level.removeprefix("L")),
        "Product_Name": np.bytes_(f"PRS_{level}_STD_{START}.he5"),
        "Product_StartTime": np.bytes_("2024-04-02T10:28:37.932000"),
        "Product_StopTime": np.bytes_("2024-04-02T10:28:42.237689"),
        "Cloudy_pixels_percentage": np.float32(12.5),
        "List_Cw_Vnir": np.array(VNIR_NM, "<f4"),
        "List_Fwhm_Vnir": np.array(VNIR_FWHM, "<f4"),
        "List_Cw_Swir": np.array(SWIR_NM, "<f4"),
        "List_Fwhm_Swir": np.array(SWIR_FWHM, "<f4"),
        "List_Cw_Vnir_Flags": np.array(VNIR_NM, "<f4").astype(bool).astype("u1"),
        "List_Cw_Swir_Flags": np.array(SWIR_NM, "<f4").astype(bool).astype("u1"),
        "Sun_zenith_angle": np.float32(50.1),
    }
    for name in ("Vnir", "Swir"):
        low, high = SCALES[name.upper()]
        if level == "L1":
            found |= {f"ScaleFactor_{name}": np.float32(100.0), f"Offset_{name}": np.float32(0.5)}
        else:
            found |= {f"L2Scale{name}Min": np.float32(low), f"L2Scale{name}Max": np.float32(high)}
    return found


def map_attributes() -> dict:
    """Return what only L2D has: the corners of the map, centres of its corner pixels."""
    west, north = WEST + 15, NORTH - 15
    east, south = west + 30 * (COLUMNS - 1), north - 30 * (ROWS - 1)
    corners = {"UL": (west, north), "UR": (east, north), "LL": (west, south), "LR": (east, south)}
    found = {
        "Epsg_Code": np.uint32(EPSG),
        "Projection_Name": np.bytes_("UTM"),
        "Projection_Id": np.bytes_("32"),
        "Reference_Ellipsoid": np.bytes_("WGS84"),
        "Product_center_easting": np.float32((west + east) / 2),
        "Product_center_northing": np.float32((north + south) / 2),
    }
    for name, (x, y) in corners.items():
        found |= {
            f"Product_{name}corner_easting": np.float32(x),
            f"Product_{name}corner_northing": np.float32(y),
        }
    return found


def latitude_longitude() -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of L2D's pixels in degrees (y, x)."""
    x, y = np.meshgrid(WEST + 15 + 30 * np.arange(COLUMNS), NORTH - 15 - 30 * np.arange(ROWS))
    longitude, latitude = Transformer.from_crs(EPSG, 4326, always_xy=True).transform(x, y)
    return latitude, longitude


def write(path: Path, level: str, cubes: dict, matrices: dict, attrs: dict) -> Path:
    """Write a product."""
    latitude, longitude = latitude_longitude()
    kind, end = ("SAT", "_VNIR") if level == "L1" else ("L2", "")
    with h5py.File(path, "w") as file:
        file.attrs.update(attrs)
        swath = file.create_group(f"HDFEOS/SWATHS/PRS_{level}_HCO")
        for name, cube in cubes.items():
            swath[f"Data Fields/{name}_Cube"] = cube
            swath[f"Data Fields/{name}_PIXEL_{kind}_ERR_MATRIX"] = matrices[name]
        if level == "L1":
            for mask in ("Cloud_Mask", "LandCover_Mask", "SunGlint_Mask"):
                swath[f"Data Fields/{mask}"] = masks()[mask]
        swath[f"Geolocation Fields/Latitude{end}"] = latitude.astype("<f4")
        swath[f"Geolocation Fields/Longitude{end}"] = longitude.astype("<f4")
        swath["Geolocation Fields/Time"] = np.linspace(8858.4365, 8858.4366, ROWS)
        pan = file.create_group(f"HDFEOS/SWATHS/PRS_{level}_PCO/Data Fields")
        pan["Cube"] = np.ones((6 * ROWS, 6 * COLUMNS), "<u2")
        text = "GROUP=SwathStructure\nEND_GROUP=SwathStructure\nEND\n"
        file["HDFEOS INFORMATION/StructMetadata.0"] = np.bytes_(text)
    return path


def masks() -> dict[str, np.ndarray]:
    """Return the masks of L1: 10 is not classified, 255 an error."""
    rng = np.random.default_rng(5)
    return {
        "Cloud_Mask": rng.choice(np.array([0, 1, 10, 255], "u1"), (ROWS, COLUMNS)),
        "SunGlint_Mask": rng.choice(np.array([0, 0, 1, 10], "u1"), (ROWS, COLUMNS)),
        "LandCover_Mask": rng.choice(np.array([0, 1, 2, 4, 10, 255], "u1"), (ROWS, COLUMNS)),
    }


def physical(cubes: dict[str, np.ndarray]) -> np.ndarray:
    """Return reflectance (band, y, x) of L2 as its specification computes it; of 0 that of 1."""
    parts = []
    for name, cube in cubes.items():
        low, high = SCALES[name]
        values = (
            low + np.maximum(cube, 1).astype(float) * (np.float32(high).astype(float) - low) / 65535
        )
        parts.append(values[:, DELIVERED[name]].transpose(1, 0, 2))
    return np.concatenate(parts)


def delivered(values: tuple[float, ...], name: str) -> tuple[float, ...]:
    """Return the values of delivered bands as single precision keeps them."""
    return tuple(float(np.float32(value)) for value in values[DELIVERED[name]])


def example(path: Path, *, background: bool) -> Example:
    """Write L2D and say what is true of it."""
    cubes, matrices = counts(), error_matrices()
    outside = np.zeros((ROWS, COLUMNS), bool)
    cubes["SWIR"][ROWS - 4 :, :, 2:6] = 0  # a lake: dark, not nodata
    if background:  # the swath lies aslant on the map
        outside = np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) < 9
        for cube in cubes.values():
            cube[np.broadcast_to(outside[:, None], cube.shape)] = 0
    write(path, "L2D", cubes, matrices, attributes("L2D") | map_attributes())
    return Example(
        path=path,
        reader="prisma",
        reflectance=np.where(outside, np.nan, physical(cubes)),
        grid=GeoBox((ROWS, COLUMNS), Affine(30, 0, WEST, 0, -30, NORTH), f"EPSG:{EPSG}"),
        center_nm=delivered(VNIR_NM, "VNIR") + delivered(SWIR_NM, "SWIR"),
        fwhm_nm=delivered(VNIR_FWHM, "VNIR") + delivered(SWIR_FWHM, "SWIR"),
        attrs={
            "scene_id": f"PRS_L2D_STD_{START}",
            "sensor": "PRISMA",
            "level": "L2D",
            "quantity": "reflectance",
            "acquired": "2024-04-02T10:28:37.932000Z",
            "cloud_share": 0.125,
        },
        flags=flags_of(matrices, {"invalid": (1,), "low_quality": (2,), "saturated": (3,)}),
    )


def l2d(folder: Path) -> Example:
    """A product on the map, with background around the swath."""
    return example(folder / f"PRS_L2D_STD_{START}.he5", background=True)


def zipped(folder: Path) -> Example:
    """A product in its zip, as it is downloaded."""
    plain = example(folder / f"PRS_L2D_STD_{START}.he5", background=False)
    path = folder / f"PRS_L2D_STD_{START}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(plain.path, plain.path.name)
    plain.path.unlink()
    return Example(**{**vars(plain), "path": path})


def renamed(folder: Path) -> Example:
    """A product that goes by another name."""
    plain = example(folder / "elbe.he5", background=True)
    return Example(**{**vars(plain), "attrs": {**plain.attrs, "scene_id": "elbe"}})


EXAMPLES = {"L2D": l2d, "zip": zipped, "renamed": renamed}
