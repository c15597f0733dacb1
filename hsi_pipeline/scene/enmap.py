"""EnMAP L2A and L1C as DLR delivers them: METADATA.XML, spectral image, quality layers.

Source: EnMAP HSI Level 1B / Level 1C / Level 2A Product Specification, EN-PCV-ICD-2009-2, DLR;
element names and codes from a product's own XML (schema 00.02.00) and from the values that the
Sentinel Toolboxes' reader is tested with (schema 00.06.00). L2A is surface reflectance, of one gain
of 0.0001. L1C is radiance at the sensor in W/(m2 sr nm), of a gain and an offset for each band.
Detectors overlap: bands of both lie between 900 and 1000 nm, whose order the XML tells.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.dlr.bands import (
    Bands,
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
from hsi_pipeline.scene.xml import text_of

_PREFIX = "ENMAP"
_ROOT = "level_X"
_LEVELS = (
    Level("L2A", "reflectance", "1", -32768),
    Level("L1C", "radiance", "W/(m2 sr nm)", 0),
)
_TAGS = BandTags("wavelengthCenterOfBand", "FWHMOfBand", "GainOfBand", "OffsetOfBand")
_DETECTORS = ("vnirProductQuality", "swirProductQuality")
# Mean of a band that holds nothing (the bands in the water vapour band at 1.4 um of later
# processors), which then has no deviation.
_EMPTY_MEAN = -1_000_000
_LARGEST_SHIFT_NM = 1.0  # between the two places where the XML has wavelengths

# Bits of the test flags: 0 and 1 the overall quality (0 nominal, 1 reduced, 2 low, 3 not
# produced), then SWIR and VNIR in turn: 2, 3 interpolated, 4, 5 saturated, 6, 7 artefact.
_TEST_FLAGS = ((0b0011_0000, "saturated"), (0b1100_1110, "low_quality"))
_LAYERS = (
    LayerMeaning("QL_QUALITY_CLASSES", values=((2, "water"), (3, "invalid"))),
    LayerMeaning("QL_QUALITY_CLOUD", values=((1, "cloud"),)),
    LayerMeaning("QL_QUALITY_CLOUDSHADOW", values=((1, "cloud_shadow"),)),
    LayerMeaning("QL_QUALITY_HAZE", values=((1, "haze"),)),
    LayerMeaning("QL_QUALITY_CIRRUS", values=((1, "cirrus"), (2, "cirrus"), (3, "cirrus"))),
    LayerMeaning("QL_QUALITY_SNOW", values=((1, "snow"),)),
    LayerMeaning("QL_QUALITY_TESTFLAGS", bits=_TEST_FLAGS),
    LayerMeaning("QL_QUALITY_TESTFLAGS_VNIR", bits=_TEST_FLAGS),
    LayerMeaning("QL_QUALITY_TESTFLAGS_SWIR", bits=_TEST_FLAGS),
)


def recognises(path: str) -> bool:
    """Tell whether a path is, or holds, an EnMAP product, or is the image of one."""
    return recognises_product(path, _PREFIX, _ROOT)


def open_source(path: str, *, pixel_coordinates: bool = False) -> SceneSource:
    """Find out what an EnMAP product holds, without reading pixels.

    Args:
        path: The product's folder or a folder above it, its `.zip` or `.tar.gz`, its
            METADATA.XML, its spectral image, or an address of any of these but a folder.
        pixel_coordinates: Permits an image without georeference.

    Returns:
        The scene's source. The band-wise pixel mask is not among its flags.

    Raises:
        InputError: Files are missing, damaged or contradict each other, the level is not L2A or
            L1C, or there are several products.
    """
    product = find_product(path, "EnMAP")
    root = product.read(_ROOT)
    facts = read_facts(root, product)
    return open_product(path, product, root, facts, _LAYERS, pixel_coordinates=pixel_coordinates)


def read_facts(root: Element, product: Product) -> Facts:
    """Read what an EnMAP XML says about its image.

    Args:
        root: The XML.
        product: Where it is.

    Raises:
        InputError: Something is missing or contradicts itself, or the level is not supported.
    """
    name = product.name
    level = level_of(text_of(root, "base/level", name), _LEVELS, product, "EnMAP")
    elements = root.findall("specific/bandCharacterisation/bandID")
    bands = read_bands(
        in_order([(element.get("number"), element) for element in elements], name), _TAGS, name
    )
    if level.quantity == "reflectance":
        check_uniform(bands, name)
    _check_wavelengths(root, bands, name)
    merged = "product/image/merge"
    detectors = numbers_at(root, ("specific/numberOfVNIRBands", "specific/numberOfSWIRBands"), name)
    sizes = (
        numbers_at(root, ("specific/heightOfOrthoScene", "specific/widthOfOrthoScene"), name),
        numbers_at(root, (f"{merged}/dimension/rows", f"{merged}/dimension/columns"), name),
    )
    return Facts(
        level=level,
        bands=bands,
        good=_good(root, len(elements), name),
        counts=(
            *numbers_at(root, (f"{merged}/channels",), name),
            *((sum(detectors),) if len(detectors) == 2 else ()),
        ),
        sizes=tuple((size[0], size[1]) for size in sizes if len(size) == 2),
        corners=corners_of(root, "base/spatialCoverage", name),
        projection=root.findtext("product/ortho/projection") or "",
        pixel_size=optional_number(root, "product/ortho/resolution", name),
        background=optional_number(root, "specific/backgroundValue", name),
        attrs={
            "sensor": "EnMAP",
            **level_attrs(level),
            **common_attrs(
                product,
                root.findtext("metadata/name") or "",
                root.findtext("base/temporalCoverage/startTime") or "",
                optional_number(root, "specific/qualityFlag/cloudCover", name),
            ),
        },
    )


def _check_wavelengths(root: Element, bands: Bands, name: str) -> None:
    """Check wavelengths against each other and where the XML has them once more."""
    center_nm = bands.wavelengths.center_nm
    statistics = root.findall("product/bandStatistics/bandID")
    if len(statistics) == len(center_nm):
        for i, (element, center) in enumerate(zip(statistics, center_nm, strict=True), 1):
            again = optional_number(element, "waveLength", name)
            if again is not None and abs(again - center) > _LARGEST_SHIFT_NM:
                raise InputError(
                    f"{name}: band {i} is at {center:g} nm, its statistics say {again:g} nm; it "
                    "is damaged, download it again"
                )
    detectors = _detectors(root, len(center_nm))
    if not detectors:  # one detector after the other, or all by wavelength
        falls = [i for i in range(1, len(center_nm)) if not center_nm[i - 1] < center_nm[i]]
        split = falls[0] if falls else len(center_nm)
        detectors = (tuple(range(split)), tuple(range(split, len(center_nm))))
    check_ascending(center_nm, detectors, name)


def _detectors(root: Element, count: int) -> tuple[tuple[int, ...], ...]:
    """Return the zero-based bands of each detector, nothing where the XML does not tell them.

    Other processors (EnPT) copy the lists of another level's XML, which do not fit.
    """
    found = []
    for detector in _DETECTORS:
        bands = _listed(root, f"specific/{detector}/expectedChannelsList")
        expected = (root.findtext(f"specific/{detector}/numChannelsExpected") or "").strip()
        if not bands or expected not in ("", str(len(bands))):
            return ()
        found.append(tuple(band - 1 for band in bands))
    numbers = [band for bands in found for band in bands]
    fit = len(set(numbers)) == len(numbers) and all(0 <= band < count for band in numbers)
    return tuple(found) if fit else ()


def _good(root: Element, count: int, name: str) -> tuple[bool, ...]:
    """Return False for bands that were not delivered or hold nothing."""
    good = [True] * count
    if detectors := _detectors(root, count):
        listed = {band for bands in detectors for band in bands}
        missing = {
            band - 1
            for detector in _DETECTORS
            for band in _listed(root, f"specific/{detector}/missingChannelsList")
        }
        good = [band in listed - missing for band in range(count)]
    statistics = root.findall("product/bandStatistics/bandID")
    if len(statistics) == count:
        for i, element in enumerate(statistics):
            mean = optional_number(element, "mean", name)
            good[i] &= mean != _EMPTY_MEAN or optional_number(element, "stdDeviation", name) != 0
    return tuple(good)


def _listed(root: Element, path: str) -> tuple[int, ...]:
    """Return the numbers of a list with commas, nothing where it is no such list."""
    try:
        return tuple(int(text) for text in (root.findtext(path) or "").split(","))
    except ValueError:
        return ()
