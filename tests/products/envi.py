"""ENVI images as AVIRIS flight lines and others come, and rasters in archives.

Names and headers follow the distribution documents of the Jet Propulsion Laboratory for AVIRIS-NG,
AVIRIS-Classic and AVIRIS-3.
"""

from __future__ import annotations

import io
import math
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from products import Example, spectra_like

STORED = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}
TYPES = {"int16": 2, "float32": 4}
NODATA = -9999
ROWS, COLUMNS = 21, 26
NM = (376.86, 476.98, 577.10, 677.22, 777.34, 877.46, 977.58, 1378.05, 1658.4, 1858.6, 2199.0)
FWHM = (5.57, 5.58, 5.6, 5.61, 5.62, 5.66, 5.7, 5.81, 5.9, 6.01, 6.04)
GOOD = tuple(not 1300 < nm < 1450 and not 1800 < nm < 1950 for nm in NM)
SIZE = 5.2
WKT_34S = (
    'PROJCS["WGS_1984_UTM_Zone_34S",GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984",'
    'SPHEROID["WGS_1984",6378137.0,298.257223563]],PRIMEM["Greenwich",0.0],'
    'UNIT["Degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["False_Easting",500000.0],PARAMETER["False_Northing",10000000.0],'
    'PARAMETER["Central_Meridian",21.0],PARAMETER["Scale_Factor",0.9996],'
    'PARAMETER["Latitude_Of_Origin",0.0],UNIT["Meter",1.0]]'
)


def listed(values) -> str:
    """Return an ENVI list over several lines, as the agencies write it."""
    return "{\n " + " ,\n ".join(str(value) for value in values) + " }"


def header_text(shape, dtype: str, interleave: str, big: bool, **fields) -> str:
    """Return the text of a header."""
    count, height, width = shape
    all_fields = {
        "samples": width,
        "lines": height,
        "bands": count,
        "header offset": 0,
        "file type": "ENVI Standard",
        "data type": TYPES[dtype],
        "interleave": interleave,
        "byte order": int(big),
        "wavelength units": "Nanometers",
        "wavelength": listed(NM),
        "fwhm": listed(FWHM),
        **{name.replace("_", " "): value for name, value in fields.items()},
    }
    return "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in all_fields.items())


def stored_bytes(numbers: np.ndarray, interleave: str, big: bool) -> bytes:
    """Return digital numbers (band, y, x) as the file holds them."""
    ordered = numbers.astype(numbers.dtype.newbyteorder(">" if big else "<"))
    return ordered.transpose(STORED[interleave]).tobytes()


def image(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return reflectance (band, y, x) with a nodata wedge, and where that is (y, x)."""
    reflectance = spectra_like((len(NM), ROWS, COLUMNS), seed)
    rows, columns = np.indices((ROWS, COLUMNS))
    outside = columns * 2 < rows - 6
    reflectance[:, outside] = np.nan
    return reflectance, outside


def turned(degrees: float, east: float, north: float) -> Affine:
    """Return the grid of a flight line whose first pixel's corner is at east, north.

    Columns run `degrees` to the left of east, rows the same from south, as worked out on paper.
    """
    angle = math.radians(degrees)
    along, across = SIZE * math.cos(angle), SIZE * math.sin(angle)
    return Affine(along, across, east, across, -along, north)


def aviris_ng(folder: Path) -> Example:
    """Write a rotated flight line of AVIRIS-NG: float32, BIL."""
    reflectance, outside = image(1)
    numbers = np.where(outside, NODATA, reflectance).astype("float32")
    path = folder / "ang20190802t183054_rfl_v2x1_img"
    path.write_bytes(stored_bytes(numbers, "bil", big=False))
    header = folder / f"{path.name}.hdr"
    header.write_text(
        header_text(
            numbers.shape,
            "float32",
            "bil",
            big=False,
            description="{AVIRIS-NG Measured Radiances, corrected for the atmosphere}",
            bbl=listed(map(int, GOOD)),
            data_ignore_value=NODATA,
            map_info="{ UTM , 1.000 , 1.000 , 581226.667 , 7916192.564 , 5.2000000000e+00 , "
            "5.2000000000e+00 , 4 , North , WGS-84 , units=Meters , rotation=42.00000000 }",
        )
    )
    return Example(
        path=path,
        reader="envi",
        reflectance=reflectance,
        grid=GeoBox((ROWS, COLUMNS), turned(42, 581226.667, 7916192.564), "EPSG:32604"),
        center_nm=NM,
        fwhm_nm=FWHM,
        good=GOOD,
        attrs={
            "scene_id": "ang20190802t183054_rfl_v2x1_img",
            "sensor": "AVIRIS-NG",
            "acquired": "2019-08-02T18:30:54Z",
            "level": "L2",
            "quantity": "reflectance",
        },
        damage=(path, header),
    )


def aviris_classic(folder: Path) -> Example:
    """Write a flight line of AVIRIS-Classic: big-endian int16, BIP, placed by a centre."""
    reflectance, outside = image(2)
    numbers = np.where(outside, NODATA, np.round(reflectance * 10_000)).astype("int16")
    path = folder / "f110729t01p00r08_refl"
    path.write_bytes(stored_bytes(numbers, "bip", big=True))
    header = folder / "f110729t01p00r08_refl.hdr"
    header.write_text(
        header_text(
            numbers.shape,
            "int16",
            "bip",
            big=True,
            sensor_type="AVIRIS",
            data_ignore_value=NODATA,
            reflectance_scale_factor=10000,
            map_info="{UTM, 1.5, 1.5, 724522.1, 4074620.7, 5.2, 5.2, 11, North, WGS-84, "
            "units=Meters, rotation=-86.0}",
        )
    )
    grid = turned(-86, 724522.1, 4074620.7)
    return Example(
        path=header,
        reader="envi",
        reflectance=reflectance,
        grid=GeoBox((ROWS, COLUMNS), grid @ Affine.translation(-0.5, -0.5), "EPSG:32611"),
        center_nm=NM,
        fwhm_nm=FWHM,
        attrs={
            "sensor": "AVIRIS-Classic",
            "acquired": "2011-07-29",
            "level": "L2",
            "quantity": "reflectance",
        },
        damage=(path, header),
    )


def band_sequential(folder: Path) -> Example:
    """Write an image of a sensor that its header names: BSQ, UTM South by its WKT."""
    reflectance, outside = image(3)
    numbers = np.where(outside, NODATA, np.round(reflectance * 10_000)).astype("int16")
    path = folder / "karoo.dat"
    path.write_bytes(stored_bytes(numbers, "bsq", big=False))
    header = folder / "karoo.hdr"
    header.write_text(
        header_text(
            numbers.shape,
            "int16",
            "bsq",
            big=False,
            sensor_type="HyMap",
            bbl=listed(map(int, GOOD)),
            data_ignore_value=NODATA,
            reflectance_scale_factor=10000,
            acquisition_time="2023-10-28T10:11:12Z",
            map_info="{UTM, 1, 1, 265000, 6210000, 5.2, 5.2, 34, South, WGS-84, units=Meters}",
            coordinate_system_string=f"{{{WKT_34S}}}",
        )
    )
    return Example(
        path=path,
        reader="envi",
        reflectance=reflectance,
        grid=GeoBox((ROWS, COLUMNS), turned(0, 265000, 6210000), "EPSG:32734"),
        center_nm=NM,
        fwhm_nm=FWHM,
        good=GOOD,
        attrs={
            "sensor": "HyMap",
            "acquired": "2023-10-28T10:11:12Z",
            "quantity": "reflectance",
            "advice": "stored band by band (BSQ): windows are slow; "
            "`hsi-pipeline ingest SCENE --out scene.zarr` rewrites it",
        },
        damage=(path, header),
    )


def zipped_geotiff(folder: Path) -> Example:
    """Write a zip with one GeoTIFF, beside files that are no scene."""
    reflectance, outside = image(4)
    numbers = np.where(outside, NODATA, np.round(reflectance * 10_000)).astype("int16")
    grid = GeoBox((ROWS, COLUMNS), turned(0, 364095, 5809965), "EPSG:32633")
    profile = {"driver": "GTiff", "crs": "EPSG:32633", "transform": grid.affine, "nodata": NODATA}
    profile |= {"count": len(NM), "height": ROWS, "width": COLUMNS, "dtype": "int16"}
    with rasterio.open(folder / "scene.tif", "w", tiled=True, **_TILES, **profile) as raster:
        raster.write(numbers)
        raster.scales = [1e-4] * len(NM)
        for band, (nm, width) in enumerate(zip(NM, FWHM, strict=True), start=1):
            raster.update_tags(band, wavelength=nm, wavelength_units="Nanometers", fwhm=width)
    path = folder / "delivery.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "scene.tif", "delivery/images/scene.tif")
        archive.writestr("delivery/readme.txt", "Reflectance times 10000.\n")
        archive.writestr("__MACOSX/delivery/images/._scene.tif", b"\0\5\26\7")
    (folder / "scene.tif").unlink()
    return Example(
        path=path,
        reader="geotiff",
        reflectance=reflectance,
        grid=grid,
        center_nm=NM,
        fwhm_nm=FWHM,
        attrs={"scene_id": "scene"},
    )


_TILES = {"blockxsize": 16, "blockysize": 16, "compress": "deflate"}


def delivered_flight_line(folder: Path) -> Example:
    """Write a .tar.gz of AVIRIS-NG: the reflectance beside water vapour."""
    inner = folder / "inner"
    inner.mkdir()
    example = aviris_ng(inner)
    path = folder / "ang20190802t183054rfl.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(inner.iterdir()):
            archive.add(file, f"./ang20190802t183054_rfl_v2x1/{file.name}")
            water = file.name.replace("_rfl_", "_h2o_")
            entry = tarfile.TarInfo(f"./ang20190802t183054_rfl_v2x1/{water}")
            entry.size = file.stat().st_size
            archive.addfile(entry, io.BytesIO(file.read_bytes()))
    for file in inner.iterdir():
        file.unlink()
    inner.rmdir()
    return Example(
        **{name: getattr(example, name) for name in _SAME},
        path=path,
        attrs={**example.attrs, "advice": _COMPRESSED},
    )


_SAME = ("reader", "reflectance", "grid", "center_nm", "fwhm_nm", "good")
_COMPRESSED = (
    "compressed as a whole: windows are slow; "
    "`hsi-pipeline ingest SCENE --out scene.zarr` rewrites it"
)

EXAMPLES = {
    "AVIRIS-NG, BIL, rotated": aviris_ng,
    "AVIRIS-Classic, BIP, rotated about a centre": aviris_classic,
    "BSQ, UTM South": band_sequential,
    "GeoTIFF in a zip": zipped_geotiff,
    "AVIRIS-NG in a tar.gz": delivered_flight_line,
}
