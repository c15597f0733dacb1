"""Planet's Tanager scenes, in small.

Written from the Tanager Product Specification of November 2025: cube (band, row, column) float32,
what bands are in its attributes, the grid in the structural metadata.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from products import Example, spectra_like

SHAPE = (8, 23, 17)  # bands, rows, columns
NM = (376.44, 381.45, 386.45, 1345.2, 1395.2, 1655.3, 2250.1, 2499.0)
FWHM = (5.37, 5.4, 5.38, 5.6, 5.7, 5.75, 6.1, 6.3)
GOOD = (True, True, True, False, False, True, True, True)
WEST, NORTH, EPSG = 570300.0, 3555450.0, 32613
NAMES = {"sr": "surface_reflectance", "radiance": "toa_radiance"}

STRUCTURE = """GROUP=SwathStructure
END_GROUP=SwathStructure
GROUP=GridStructure
\tGROUP=GRID_1
\t\tGridName="HYP"
\t\tBand=8
\t\tXDim=17
\t\tYDim=23
\t\tUpperLeftPointMtrs=(570300.00,3555450.00)
\t\tLowerRightMtrs=(570810.00,3554760.00)
\t\tProjection=HE5_GCTP_UTM
\t\tZoneCode=13
\t\tSphereCode=12
\t\tCompressionType=HE5_HDFE_COMP_DEFLATE
\t\tDeflateLevel=4
\t\tPixelRegistration=HE5_HDFE_CORNER
\t\tGridOrigin=HE5_HDFE_GD_UL
\t\tGROUP=Dimension
\t\t\tOBJECT=Dimension_1
\t\t\t\tDimensionName="Band"
\t\t\t\tSize=8
\t\t\tEND_OBJECT=Dimension_1
\t\tEND_GROUP=Dimension
\tEND_GROUP=GRID_1
END_GROUP=GridStructure
END
"""


def image(content: str) -> np.ndarray:
    """Return reflectance or radiance as stored, with pixels of no data."""
    cube = spectra_like(SHAPE, 11) * (1 if content == "sr" else 80)
    cube[:, nodata()] = -9999
    return cube.astype("<f4")


def nodata() -> np.ndarray:
    """Return the pixels outside the strip, bool (y, x)."""
    return np.add.outer(np.arange(SHAPE[1]), np.arange(SHAPE[2])) < 7


def masks() -> dict[str, np.ndarray]:
    """Return the usable data masks as stored."""
    rng = np.random.default_rng(12)
    return {
        "beta_cloud_mask": (rng.random(SHAPE[1:]) < 0.2).astype("u1"),
        "beta_cirrus_mask": (rng.random(SHAPE[1:]) < 0.3).astype("u1"),
        "nodata_pixels": nodata().astype("u1"),
    }


def write(path: Path, kind: str, content: str) -> Path:
    """Write a scene, "ortho" or "basic", of "sr" or "radiance"."""
    with h5py.File(path, "w") as file:
        hyp = file.create_group("HDFEOS/GRIDS/HYP" if kind == "ortho" else "HDFEOS/SWATHS/HYP")
        hyp.attrs["strip_id"] = "20250926_092059_95"
        fields = hyp.create_group("Data Fields")
        cube = fields.create_dataset(
            NAMES[content], data=image(content), chunks=(3, 10, 11), compression="gzip"
        )
        cube.attrs["wavelengths"] = np.array(NM)
        cube.attrs["fwhm"] = np.array(FWHM)
        cube.attrs["_FillValue"] = np.float32(-9999)
        if content == "sr":
            cube.attrs["good_wavelengths"] = np.array(GOOD, "u1")
        for name, plane in masks().items():
            fields[name] = plane
        fields["sun_zenith"] = np.full(SHAPE[1:], 31.5, "<f4")
        structure = file.create_dataset(
            "HDFEOS INFORMATION/StructMetadata.0", data=np.bytes_(STRUCTURE)
        )
        assert structure.shape == ()
        if kind == "ortho":
            hyp.attrs["epsg_code"] = np.int64(EPSG)
        else:
            places = hyp.create_group("Geolocation Fields")
            framing = {
                "epsg_code": EPSG,
                "rows": 25,
                "cols": 26,
                "geotransform": [0, 30, 0, 0, 0, -30],
            }
            places.attrs["Planet_Ortho_Framing"] = json.dumps(framing)
            rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
            places["Latitude"] = 32.1 - rows * 2.7e-4 - columns * 2e-5
            places["Longitude"] = -104.2 + columns * 3.1e-4 - rows * 2e-5
    return path


def example(path: Path, kind: str, content: str) -> Example:
    """Write a scene and say what is true of it."""
    write(path, kind, content)
    cube = image(content).astype(float)
    flags = {"beta_cloud_mask": "cloud", "beta_cirrus_mask": "cirrus", "nodata_pixels": "invalid"}
    return Example(
        path=path,
        reader="tanager",
        reflectance=np.where(cube == -9999, np.nan, cube),
        grid=GeoBox(SHAPE[1:], Affine(30, 0, WEST, 0, -30, NORTH), f"EPSG:{EPSG}"),
        center_nm=NM,
        fwhm_nm=FWHM,
        good=GOOD if content == "sr" else (),
        attrs={
            "scene_id": path.stem,
            "sensor": "Tanager",
            "level": f"{kind}_{content}",
            "quantity": "reflectance" if content == "sr" else "radiance",
            "strip_id": "20250926_092059_95",
            "acquired": "2025-09-26T09:20:59.95Z",
        },
        flags={flag: masks()[name] == 1 for name, flag in flags.items()},
    )


def reflectance(folder: Path) -> Example:
    """An ortho scene of surface reflectance."""
    return example(folder / "20250926_092059_95_4001_ortho_sr_hdf5.h5", "ortho", "sr")


def radiance(folder: Path) -> Example:
    """An ortho scene of radiance at the sensor."""
    return example(folder / "20250926_092059_95_4001_ortho_radiance.h5", "ortho", "radiance")


EXAMPLES = {"ortho reflectance": reflectance, "ortho radiance": radiance}
