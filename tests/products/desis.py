"""DESIS L2A and L1C, after the product specification and what open readers find in products.

Element names, file names and the order of quality bands are real; sizes and values are few.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from products import Example, Writer, spectra_like
from products.enmap import pack

SHAPE = (11, 19, 26)  # band, y, x
CRS = "EPSG:32719"
TRANSFORM = Affine(30, 0, 499_725, 0, -30, 7_388_325)
NODATA = -32768
CENTERS = (401.88, 450.3, 501.27, 550.6, 600.9, 650.41, 700.24, 760.1, 820.7, 905.3, 999.54)
WIDTHS = (3.53, 3.43, 3.36, 3.41, 3.5, 3.3, 3.44, 3.39, 3.52, 3.61, 3.68)
QUALITY = (  # bands of QL_QUALITY-2 and what they mean
    "cloud_shadow", None, "snow", "haze", "haze", "cloud", "cloud", "water", None, None,
)  # fmt: skip


def outside() -> np.ndarray:
    """Return the pixels beyond the rotated swath, bool (y, x)."""
    y, x = np.indices(SHAPE[1:])
    return (x + y < 6) | (x + y > 39)


def write_raster(path: Path, array: np.ndarray, **profile) -> None:
    """Write (band, y, x)."""
    bands, rows, columns = array.shape
    size = {"count": bands, "height": rows, "width": columns, "dtype": array.dtype}
    place = {"crs": CRS, "transform": TRANSFORM}
    with rasterio.open(path, "w", **({"driver": "GTiff"} | size | place | profile)) as raster:
        raster.write(array)


def metadata_xml(name: str, level: str, gains, offsets) -> str:
    """Return the parts of METADATA.xml that say something about the image, and some that do not."""
    _, rows, columns = SHAPE
    to_degrees = Transformer.from_crs(CRS, 4326)
    corners = ((columns, 0), (0, 6), (0, rows), (columns, rows - 3))
    points = "".join(
        "<point><frame>point_{}</frame><latitude>{:.8f}</latitude>"
        "<longitude>{:.8f}</longitude></point>".format(
            i, *to_degrees.transform(*(TRANSFORM @ corner))
        )
        for i, corner in enumerate((*corners, corners[0]), 1)
    )
    bands = "".join(
        f"""<band>
        <bandNumber>{i}</bandNumber>
        <wavelengthCenterOfBand>{center}</wavelengthCenterOfBand>
        <wavelengthWidthOfBand>{width}</wavelengthWidthOfBand>
        <response>0.01,0.53,1.0,0.49,0.02</response>
        <wavelengths>{center - 5:g},{center - 2:g},{center:g},{center + 2:g},{center + 5:g}
        </wavelengths>
        <gainOfBand>{gain}</gainOfBand>
        <offsetOfBand>{offset}</offsetOfBand>
        <deadPixels>0</deadPixels><suspiciousPixel>1</suspiciousPixel>
      </band>"""
        for i, (center, width, gain, offset) in enumerate(
            zip(CENTERS, WIDTHS, gains, offsets, strict=True), 1
        )
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<hsi_doc xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <metadata><name>{name}-METADATA.xml</name></metadata>
  <processing><ozoneValue>330</ozoneValue>
    <mapProjection>UTM_Zone_of_Scene_Center</mapProjection></processing>
  <base>
    <spatialCoverage><boundingPolygon>{points}</boundingPolygon></spatialCoverage>
    <temporalCoverage><startTime>2020-09-13T14:26:51.284125Z</startTime>
      <endTime>2020-09-13T14:26:55.691007Z</endTime></temporalCoverage>
    <altitudeCoverage>420123.7</altitudeCoverage>
  </base>
  <specific>
    <mission>DESIS</mission><satelliteID>ISS</satelliteID><sensor>HSI</sensor>
    <productType>{level}</productType><tileID>025</tileID>
    <numberOfBands>{len(CENTERS)}</numberOfBands>
    <backgroundValue>{NODATA}</backgroundValue>
    <sunZenithAngle>31.2</sunZenithAngle><sceneAzimuthAngle>307.9</sceneAzimuthAngle>
    <clouds><percentageClouds>7</percentageClouds></clouds>
    <bandCharacterisation>{bands}</bandCharacterisation>
    <interiorOrientation><band><bandNumber>1</bandNumber></band></interiorOrientation>
  </specific>
</hsi_doc>
"""


def header(gains, offsets) -> str:
    """Return the ENVI header that lies beside the TIFF."""
    _, rows, columns = SHAPE

    def listed(values):
        return "{" + ",\n".join(map(str, values)) + "}"

    return (
        f"ENVI\nsamples = {columns}\nlines = {rows}\nbands = {len(CENTERS)}\nheader offset = 0\n"
        "file type = TIFF\ndata type = 2\ninterleave = bip\nbyte order = 0\n"
        f"wavelength units = nanometers\nwavelength = {listed(CENTERS)}\nfwhm = {listed(WIDTHS)}\n"
        f"data gain values = {listed(gains)}\ndata offset values = {listed(offsets)}\n"
    )


def write_quality(stem: str) -> dict[str, np.ndarray]:
    """Write both quality rasters, and return the pixels of each flag."""
    _, rows, columns = SHAPE
    planes = np.zeros((len(QUALITY), rows, columns), np.uint8)
    flags: dict[str, np.ndarray] = {}
    for band, flag in enumerate(QUALITY):
        planes[band, 3 + band, band : band + 7] = 1
        if flag:
            flags[flag] = flags.get(flag, False) | (planes[band] != 0)
    planes[8:] = 23  # aerosol and water vapour of every pixel
    write_raster(Path(f"{stem}-QL_QUALITY-2.tif"), planes, interleave="band")
    write_raster(Path(f"{stem}-QL_QUALITY.tif"), np.ones(SHAPE, np.uint8), interleave="pixel")
    return flags


def write_product(
    folder: Path, *, level: str = "L2A", image: str = "SPECTRAL_IMAGE.tif", quality: bool = True
) -> Example:
    """Write a product's folder and return it as an example that gives the folder."""
    name = f"DESIS-HSI-{level}-DT0490101532_025-20200913T142651-V0213"
    product = folder / name
    product.mkdir(parents=True)
    rng = np.random.default_rng(len(image))
    if level == "L2A":
        gains, offsets = [0.0001] * SHAPE[0], [0] * SHAPE[0]
    else:
        gains = [float(f"{value:.6e}") for value in rng.uniform(2e-4, 2e-3, SHAPE[0])]
        offsets = [float(f"{value:.6e}") for value in rng.uniform(-0.3, 0.7, SHAPE[0])]
    numbers = np.round(spectra_like(SHAPE, 3) * 10_000).astype(np.int16)
    numbers[:, outside()] = NODATA
    file = product / f"{name}-{image}"
    if file.suffix == ".tif":
        packed = {"interleave": "pixel", "compress": "deflate", "nodata": NODATA}
        write_raster(file, numbers, **packed)
        file.with_suffix(".hdr").write_text(header(gains, offsets))
    else:
        write_raster(file, numbers, driver="ENVI", interleave=file.suffix[1:], nodata=NODATA)
        for extra in product.glob("*.aux.xml"):
            extra.unlink()
    flags = write_quality(str(product / name)) if quality else {}
    (product / f"{name}-METADATA.xml").write_text(metadata_xml(name, level, gains, offsets))
    gain, offset = (np.array(values)[:, None, None] for values in (gains, offsets))
    return Example(
        path=product,
        reader="desis",
        reflectance=np.where(outside(), np.nan, numbers * gain + offset),
        grid=GeoBox(SHAPE[1:], TRANSFORM, CRS),
        center_nm=CENTERS,
        fwhm_nm=WIDTHS,
        attrs={
            "scene_id": name,
            "acquired": "2020-09-13T14:26:51.284125Z",
            "sensor": "DESIS",
            "level": level,
            "quantity": "reflectance" if level == "L2A" else "radiance",
            "cloud_share": 0.07,
        },
        flags=flags,
        damage=tuple(
            file
            for file in sorted(product.iterdir())
            if file.name.endswith(("METADATA.xml", image, "QUALITY-2.tif", "bsq", "hdr"))
        ),
    )


def in_zip(folder: Path) -> Example:
    example = write_product(folder / "made")
    return pack(example, folder / f"{example.path.name}.zip")


def in_tar_gz(folder: Path) -> Example:
    return pack(write_product(folder / "made"), folder / "order_4711.tar.gz")


def given(folder: Path, *, part: str) -> Example:
    example = write_product(folder)
    return replace(example, path=next(example.path.glob(f"*{part}")))


EXAMPLES: dict[str, Writer] = {
    "L2A, folder": write_product,
    "L2A, METADATA.xml": partial(given, part="METADATA.xml"),
    "L2A, image": partial(given, part="SPECTRAL_IMAGE.tif"),
    "L2A, header": partial(given, part="SPECTRAL_IMAGE.hdr"),
    "L2A, zip": in_zip,
    "L2A, tar.gz": in_tar_gz,
    "L2A BSQ, no quality": partial(write_product, image="SPECTRAL_IMAGE.bsq", quality=False),
    "L1C": partial(write_product, level="L1C", quality=False),
    "L1C BIL": partial(write_product, level="L1C", image="SPECTRAL_IMAGE.bil", quality=False),
}
