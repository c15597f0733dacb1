"""EnMAP L2A and L1C, after the XML of a product (schema 00.02.00) and the product specification.

Element names, file names and codes are real; sizes, wavelengths and values are few.
"""

from __future__ import annotations

import tarfile
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from products import Example, Writer, spectra_like

SHAPE = (11, 23, 17)  # band, y, x
CRS = "EPSG:32632"
TRANSFORM = Affine(30, 0, 628_785, 0, -30, 5_294_265)
VNIR = ((423.03, 6.93), (550.69, 7.02), (700.12, 8.41), (902.26, 9.9), (950.17, 9.6), (993.08, 9.4))
SWIR = ((902.3, 11.1), (955.09, 11.4), (1250.7, 13.2), (1381.5, 13.9), (2438.6, 7.1))
EMPTY = 1381.5  # the band that holds nothing
# Bands of both detectors by wavelength, as processors did before 2022; later VNIR, then SWIR.
INTERLEAVED = (0, 1, 2, 3, 6, 4, 7, 5, 8, 9, 10)
FLAG_ROWS = {  # row of the quality raster, its value, and the flags that it means
    "QL_QUALITY_CLOUD": {4: (1, ("cloud",))},
    "QL_QUALITY_CLOUDSHADOW": {5: (1, ("cloud_shadow",))},
    "QL_QUALITY_HAZE": {6: (1, ("haze",))},
    "QL_QUALITY_CIRRUS": {7: (1, ("cirrus",)), 8: (2, ("cirrus",)), 9: (3, ("cirrus",))},
    "QL_QUALITY_SNOW": {10: (1, ("snow",))},
    "QL_QUALITY_TESTFLAGS": {
        11: (0b01, ()),
        12: (0b10, ("low_quality",)),
        13: (0b100, ("low_quality",)),
        14: (0b1000, ("low_quality",)),
        15: (0b10000, ("saturated",)),
        16: (0b100000, ("saturated",)),
        17: (0b1000000, ("low_quality",)),
        18: (0b10100000, ("low_quality", "saturated")),
    },
}


def outside() -> np.ndarray:
    """Return the pixels beyond the rotated swath, bool (y, x)."""
    y, x = np.indices(SHAPE[1:])
    return (x + y < 5) | (x - y > 12) | (y - x > 18)


def footprint(transform: Affine = TRANSFORM, crs: str = CRS) -> list[tuple[str, float, float]]:
    """Return frame, latitude and longitude of the corners of the rotated swath."""
    _, rows, columns = SHAPE
    to_degrees = Transformer.from_crs(crs, 4326)
    corners = {
        "upper_left": (5, 0),
        "lower_left": (0, rows - 4),
        "lower_right": (columns - 5, rows),
        "upper_right": (columns, 4),
    }
    return [
        (frame, *to_degrees.transform(*(transform @ corner))) for frame, corner in corners.items()
    ]


def write_raster(path: Path, array: np.ndarray, **profile) -> None:
    """Write (band, y, x)."""
    bands, rows, columns = array.shape
    with rasterio.open(
        path,
        "w",
        count=bands,
        height=rows,
        width=columns,
        dtype=array.dtype,
        **({"crs": CRS, "transform": TRANSFORM} | profile),
    ) as raster:
        raster.write(array)


def bands_xml(bands, gains, offsets) -> str:
    return "".join(
        f"""<bandID number="{i}">
        <wavelengthCenterOfBand>{center}</wavelengthCenterOfBand>
        <FWHMOfBand>{width}</FWHMOfBand>
        <GainOfBand>{gain}</GainOfBand>
        <OffsetOfBand>{offset}</OffsetOfBand>
      </bandID>"""
        for i, ((center, width), gain, offset) in enumerate(
            zip(bands, gains, offsets, strict=True), 1
        )
    )


def metadata_xml(name, level, bands, gains, offsets, background, files, image) -> str:
    """Return the parts of METADATA.XML that say something about the image, and some that do not."""
    _, rows, columns = SHAPE
    lists = [
        ",".join(str(i) for i, band in enumerate(bands, 1) if band in detector)
        for detector in (VNIR, SWIR)
    ]
    points = "".join(
        f"""<point><frame>{frame}</frame><latitude unit="DEG">{latitude:.7f}</latitude>
        <longitude unit="DEG">{longitude:.7f}</longitude>
        <utcTime>2022-06-12T10:57:35.160668Z</utcTime></point>"""
        for frame, latitude, longitude in footprint()
    )
    statistics = "".join(
        f"""<bandID number="{i}"><waveLength>{center}</waveLength>
        <mean>{-1000000 if center == EMPTY else 0.1}</mean>
        <stdDeviation>{0 if center == EMPTY else 0.01}</stdDeviation></bandID>"""
        for i, (center, _) in enumerate(bands, 1)
    )
    listed = "".join(
        f"""<file number="{i}"><name>{file}</name><size unit="Kbyte">10</size>
        <version>01.03.02</version><format>binary</format></file>"""
        for i, file in enumerate(files, 1)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<level_X xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:noNamespaceSchemaLocation="metadata_Lx_00-06-00.xsd">
  <metadata>
    <schema><copyright>(c) DLR EnMAP</copyright><versionSchema>00.06.00</versionSchema>
      <processingLevel>{level}</processingLevel></schema>
    <name>{name}-METADATA.XML</name>
    <comment>EnMAP Level {level[1:]} Product of datatake 1049, tile 1</comment>
  </metadata>
  <processing><productFormat>GeoTIFF+Metadata</productFormat>
    <mapProjection>UTM_Zone_of_Scene_Center</mapProjection></processing>
  <base>
    <spatialCoverage><boundingPolygon>{points}</boundingPolygon></spatialCoverage>
    <temporalCoverage><startTime>2022-06-12T10:57:35.160668Z</startTime>
      <stopTime>2022-06-12T10:57:39.695369Z</stopTime></temporalCoverage>
    <format>ENMAP_{level}</format>
    <level>{level}</level>
  </base>
  <specific>
    <qualityFlag><cloudCover>12</cloudCover><hazeCover>3</hazeCover></qualityFlag>
    <vnirProductQuality><numChannelsExpected>{len(VNIR)}</numChannelsExpected>
      <expectedChannelsList>{lists[0]}</expectedChannelsList>
      <numChannelsMissing>0</numChannelsMissing><missingChannelsList/></vnirProductQuality>
    <swirProductQuality><numChannelsExpected>{len(SWIR)}</numChannelsExpected>
      <expectedChannelsList>{lists[1]}</expectedChannelsList>
      <numChannelsMissing>0</numChannelsMissing><missingChannelsList/></swirProductQuality>
    <mission>EnMAP</mission><sensor>HSI</sensor>
    <numberOfSWIRBands>{len(SWIR)}</numberOfSWIRBands>
    <numberOfVNIRBands>{len(VNIR)}</numberOfVNIRBands>
    <backgroundValue>{background}</backgroundValue>
    <widthOfScene unit="pixel">1000</widthOfScene>
    <heightOfScene unit="pixel">1024</heightOfScene>
    <code>{level}</code>
    <bandCharacterisation>{bands_xml(bands, gains, offsets)}</bandCharacterisation>
    <pixelSizeOfOrthoScene>30</pixelSizeOfOrthoScene>
    <widthOfOrthoScene>{columns}</widthOfOrthoScene>
    <heightOfOrthoScene>{rows}</heightOfOrthoScene>
  </specific>
  <product>
    <image><merge><channels>{len(bands)}</channels><name>{image}</name>
      <dimension><columns>{columns}</columns><rows>{rows}</rows></dimension></merge></image>
    <navigation><RPC><bandID number="1"><ROW_OFF>512.0</ROW_OFF></bandID></RPC></navigation>
    <ortho><projection>UTM_Zone32_North</projection><resolution>30</resolution></ortho>
    <productFileInformation>{listed}</productFileInformation>
    <bandStatistics>{statistics}</bandStatistics>
  </product>
</level_X>
"""


def write_quality(stem: str, form: str, layers: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Write quality rasters of the names `stem`-QL_..., and return the pixels of each flag."""
    _, rows, columns = SHAPE
    flags: dict[str, np.ndarray] = {}

    def mark(flag, where):
        flags[flag] = flags.get(flag, np.zeros((rows, columns), bool)) | where

    y, x = np.indices((rows, columns))
    for layer in layers:
        raster = np.zeros((1, rows, columns), np.uint8)
        if layer == "QL_QUALITY_CLASSES":
            raster[0] = np.where(outside(), 3, np.where(y < 12, 1, 2))
            mark("water", raster[0] == 2)
            mark("invalid", raster[0] == 3)
        elif layer == "QL_PIXELMASK":
            raster = np.where(outside(), 255, np.ones(SHAPE)).astype(np.uint8)
        else:
            for row, (value, meant) in FLAG_ROWS[layer].items():
                where = (y == row) & (x >= 3) & (x < 9)
                raster[0, where] = value
                for flag in meant:
                    mark(flag, where)
        write_raster(Path(f"{stem}-{layer}{form}"), raster, driver="GTiff")
    return flags


ALL_LAYERS = ("QL_QUALITY_CLASSES", *FLAG_ROWS, "QL_PIXELMASK")


def write_image(path: Path, numbers: np.ndarray, nodata: int) -> None:
    """Write the spectral image in the form that its name says."""
    suffix = path.suffix.lower()
    if suffix in (".bsq", ".bil", ".bip"):
        write_raster(path, numbers, driver="ENVI", interleave=suffix[1:], nodata=nodata)
        path.with_suffix(".hdr").rename(path.with_suffix(".HDR"))
    elif suffix == ".jp2":
        lossless = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
        write_raster(path, numbers, driver="JP2OpenJPEG", **lossless)
    elif "_COG" in path.name:
        write_raster(path, numbers, driver="COG", nodata=nodata, compress="deflate")
    else:
        write_raster(path, numbers, driver="GTiff", nodata=nodata, interleave="band", blockysize=7)
    for extra in path.parent.glob("*.aux.xml"):
        extra.unlink()


def write_product(
    folder: Path,
    *,
    level: str = "L2A",
    image: str = "SPECTRAL_IMAGE.TIF",
    order: tuple[int, ...] = tuple(range(SHAPE[0])),
    layers: tuple[str, ...] = ALL_LAYERS,
    number: str = "0000001049",
) -> Example:
    """Write a product's folder and return it as an example that gives the folder."""
    name = f"ENMAP01-____{level}-DT{number}_20220612T105735Z_028_V010302_20230628T165614Z"
    product = folder / name
    product.mkdir(parents=True)
    bands = [(*VNIR, *SWIR)[i] for i in order]
    rng = np.random.default_rng(len(order) + len(image))
    if level == "L2A":
        gains, offsets, nodata, dtype = [0.0001] * SHAPE[0], [0] * SHAPE[0], -32768, "int16"
    else:
        gains = [float(f"{value:.6e}") for value in rng.uniform(1e-6, 3e-5, SHAPE[0])]
        offsets = [float(f"{value:.6e}") for value in rng.uniform(1e-5, 5e-4, SHAPE[0])]
        nodata, dtype = 0, "uint16"
    gain, offset = (np.array(values)[:, None, None] for values in (gains, offsets))
    if level == "L2A":
        numbers = np.round((spectra_like(SHAPE) - offset) / gain).astype(dtype)
    else:
        numbers = np.round(spectra_like(SHAPE) * 100_000).astype(dtype)
    empty = np.array([center == EMPTY for center, _ in bands])
    nothing = outside() | empty[:, None, None]
    numbers[nothing] = nodata
    write_image(product / f"{name}-{image}", numbers, nodata)
    form = "_COG.tiff" if "_COG" in image else ".TIF"
    flags = write_quality(str(product / name), form, layers)
    files = [f"{name}-{layer}.TIF" for layer in layers]
    listed = f"{name}-{image.replace('_COG.tiff', '.TIF')}"  # the server's copies have the same XML
    (product / f"{name}-METADATA.XML").write_text(
        metadata_xml(name, level, bands, gains, offsets, nodata, [*files, listed], listed)
    )
    values = np.where(nothing, np.nan, numbers * gain + offset)
    return Example(
        path=product,
        reader="enmap",
        reflectance=values,
        grid=GeoBox(SHAPE[1:], TRANSFORM, CRS),
        center_nm=tuple(center for center, _ in bands),
        fwhm_nm=tuple(width for _, width in bands),
        good=tuple(not value for value in empty),
        attrs={
            "scene_id": name,
            "acquired": "2022-06-12T10:57:35.160668Z",
            "sensor": "EnMAP",
            "level": level,
            "quantity": "reflectance" if level == "L2A" else "radiance",
            "cloud_share": 0.12,
        },
        flags=flags,
        damage=tuple(
            file
            for file in sorted(product.iterdir())
            if "METADATA" in file.name
            or "SPECTRAL" in file.name
            or "CLASSES" in file.name
            or "TESTFLAGS" in file.name
        ),
    )


def pack(example: Example, archive: Path, **options) -> Example:
    """Pack a product's folder into an archive and return the example that gives that."""
    folder = example.path
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", **options) as packed:
            for file in sorted(folder.iterdir()):
                packed.write(file, f"{folder.name}/{file.name}")
    else:
        with tarfile.open(archive, "w:gz", format=tarfile.GNU_FORMAT) as packed:
            packed.add(folder, f"./{folder.name}")
    return replace(example, path=archive, damage=())


def in_zip(folder: Path) -> Example:
    example = write_product(folder / "made")
    return pack(example, folder / f"{example.path.name}.zip")


def in_deflated_zip(folder: Path) -> Example:
    example = write_product(folder / "made", image="SPECTRAL_IMAGE.BIL")
    return pack(example, folder / "delivery.zip", compression=zipfile.ZIP_DEFLATED)


def in_tar_gz(folder: Path) -> Example:
    return pack(write_product(folder / "made"), folder / "dims_op_oc_oc-en_700341844_1.tar.gz")


def metadata_given(folder: Path) -> Example:
    example = write_product(folder, image="SPECTRAL_IMAGE_COG.tiff")
    return replace(example, path=next(example.path.glob("*METADATA.XML")))


def image_given(folder: Path) -> Example:
    example = write_product(folder, order=INTERLEAVED)
    return replace(example, path=next(example.path.glob("*SPECTRAL_IMAGE.TIF")))


def folder_above(folder: Path) -> Example:
    write = partial(write_product, folder / "ENMAP.HSI.L2A", image="SPECTRAL_IMAGE.BSQ")
    return replace(write(layers=("QL_QUALITY_CLASSES", "QL_QUALITY_TESTFLAGS")), path=folder)


EXAMPLES: dict[str, Writer] = {
    "L2A, folder of TIFFs": write_product,
    "L2A, METADATA.XML beside COGs": metadata_given,
    "L2A, image by wavelength": image_given,
    "L2A, zip": in_zip,
    "L2A BIL, deflated zip": in_deflated_zip,
    "L2A, tar.gz": in_tar_gz,
    "L2A BSQ, folder above": folder_above,
    "L2A BIP": partial(write_product, image="SPECTRAL_IMAGE.BIP", layers=()),
    "L2A JPEG 2000": partial(write_product, image="SPECTRAL_IMAGE.JP2"),
    "L1C": partial(write_product, level="L1C"),
    "L1C BIL, few layers": partial(
        write_product, level="L1C", image="SPECTRAL_IMAGE.BIL", layers=("QL_QUALITY_TESTFLAGS",)
    ),
}
