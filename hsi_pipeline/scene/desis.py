"""DESIS L2A and L1C as DLR and Teledyne deliver them: METADATA.xml, spectral image, quality.

Source: DESIS Product Specification, PAV-DLR-ICD-003, DLR 2019, and what open readers find in
products (ACOLITE, EnMAP-Box, hyperproc, krttdkit). L2A is surface reflectance, of one gain of
0.0001. L1C is radiance at the sensor in mW/(cm2 sr um), of a gain and an offset for each band.
The image is a TIFF stored pixel by pixel, with an ENVI header of the same stem that only repeats
what the XML says; that header is not read.
"""

from __future__ import annotations

import os
import re
from xml.etree.ElementTree import Element

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.dlr.bands import (
    BandTags,
    check_ascending,
    check_uniform,
    in_order,
    read_bands,
)
from hsi_pipeline.scene.dlr.facts import (
    Facts,
    Level,
    common_attrs,
    corners_of,
    level_attrs,
    level_of,
    numbers_at,
    optional_number,
)
from hsi_pipeline.scene.dlr.files import Product, find_product
from hsi_pipeline.scene.dlr.files import recognises as recognises_product
from hsi_pipeline.scene.dlr.product import LayerMeaning, open_product
from hsi_pipeline.scene.source import SceneSource

_PREFIX = "DESIS"
_ROOT = "hsi_doc"
_LEVELS = (
    Level("L2A", "reflectance", "1", -32768),
    Level("L1C", "radiance", "mW/(cm2 sr um)", -32768),
)
_TAGS = BandTags("wavelengthCenterOfBand", "wavelengthWidthOfBand", "gainOfBand", "offsetOfBand")
_LEVEL_IN_NAME = re.compile(r"DESIS-HSI-(L\d\w)-", re.IGNORECASE)
# The instrument points with less certainty than EnMAP; its footprint may be that before matching.
_SLACK = 0.1
_PIXEL_M = 30.0  # of images in UTM; the XML of others does not say

# Bands of the second quality raster of L2A: shadow, clear land, snow, haze over land, haze over
# water, cloud over land, cloud over water, clear water; then aerosol and water vapour, no flags.
_ANY_BIT = 0xFF
_QUALITY = ("cloud_shadow", "", "snow", "haze", "haze", "cloud", "cloud", "water")
_LAYERS = tuple(
    LayerMeaning("QL_QUALITY-2", band, bits=((_ANY_BIT, flag),))
    for band, flag in enumerate(_QUALITY)
    if flag
)


def recognises(path: str) -> bool:
    """Tell whether a path is, or holds, a DESIS product, or is the image of one."""
    return recognises_product(path, _PREFIX, _ROOT)


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what a DESIS product holds, without reading pixels.

    Args:
        path: The product's folder or a folder above it, its `.zip` or `.tar.gz`, its
            METADATA.xml, its spectral image, or an address of any of these but a folder.
        pixel_coordinates: Permits an image without georeference.

    Returns:
        The scene's source. Flags are those of QL_QUALITY-2, which L2A has; the band-wise
        QL_QUALITY is not among them. Shadow is any shadow, also of mountains.

    Raises:
        InputError: Files are missing, damaged or contradict each other, the level is not L2A or
            L1C, or there are several products.
    """
    product = find_product(path, "DESIS")
    root = product.read(_ROOT)
    facts = read_facts(root, product)
    return open_product(path, product, root, facts, _LAYERS, pixel_coordinates=pixel_coordinates)


def read_facts(root: Element, product: Product) -> Facts:
    """Read what a DESIS XML says about its image.

    Args:
        root: The XML.
        product: Where it is.

    Raises:
        InputError: Something is missing or contradicts itself, or the level is not supported.
    """
    name = product.name
    level = level_of(_level(root, product), _LEVELS, product, "DESIS")
    # Elements of this name are elsewhere in the XML too.
    elements = root.findall("specific/bandCharacterisation/band")
    in_file = in_order([(element.findtext("bandNumber"), element) for element in elements], name)
    bands = read_bands(in_file, _TAGS, name)
    if level.quantity == "reflectance":
        check_uniform(bands, name)
    center_nm = bands.wavelengths.center_nm
    check_ascending(center_nm, [range(len(center_nm))], name)
    for i, element in enumerate(in_file):
        _check_response(element, center_nm[i], f"{name}: band {i + 1}")
    return Facts(
        level=level,
        bands=bands,
        good=(True,) * len(center_nm),
        counts=numbers_at(root, ("specific/numberOfBands",), name),
        corners=corners_of(root, "base/spatialCoverage", name),
        slack=_SLACK,
        projection="UTM",
        pixel_size=_PIXEL_M,
        background=optional_number(root, "specific/backgroundValue", name),
        attrs={
            "sensor": "DESIS",
            **level_attrs(level),
            **common_attrs(
                product,
                root.findtext("metadata/name") or "",
                root.findtext("base/temporalCoverage/startTime") or "",
                optional_number(root, "specific/clouds/percentageClouds", name),
            ),
        },
    )


def _level(root: Element, product: Product) -> str:
    """Return the level that the XML, or else its name, says."""
    for path in ("base/level", "metadata/schema/processingLevel"):
        if said := (root.findtext(path) or "").strip():
            return said
    named = _LEVEL_IN_NAME.match(os.path.basename(product.metadata))
    return named[1].upper() if named else ""


def _check_response(band: Element, center_nm: float, name: str) -> None:
    """Check that a band's centre lies in its response curve, where it has one."""
    text = (band.findtext("wavelengths") or "").strip()
    try:
        curve = [float(value) for value in text.split(",")] if text else [center_nm]
    except ValueError as error:
        raise InputError(f"{name}: its response curve is not numbers ({error})") from error
    if not min(curve) <= center_nm <= max(curve):
        raise InputError(
            f"{name} is at {center_nm:g} nm, outside of its response curve from {min(curve):g} to "
            f"{max(curve):g} nm; the XML is damaged, download it again"
        )
