"""A product of DLR as a scene: what its XML says, held against its image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from rasterio.io import DatasetReader

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import envi
from hsi_pipeline.scene.dlr.checks import check_corners, check_projection, check_same_place
from hsi_pipeline.scene.dlr.facts import Facts
from hsi_pipeline.scene.dlr.files import (
    ENVI_SUFFIXES,
    TIFF_SUFFIXES,
    Product,
    image_of,
    raster_of,
)
from hsi_pipeline.scene.files import file_stamp
from hsi_pipeline.scene.geotiff import GdalPixels, layout_advice
from hsi_pipeline.scene.places import Place
from hsi_pipeline.scene.quality import QualityLayer, QualityLayers, check_quality_size
from hsi_pipeline.scene.raster import check_pixel_type, open_raster, raster_grid
from hsi_pipeline.scene.source import Pixels, SceneSource

_BSQ_ADVICE = (
    "stored band by band (BSQ): windows are slow; "
    "`hsi-pipeline ingest SCENE --out scene.zarr` rewrites it"
)


@dataclass(frozen=True)
class LayerMeaning:
    """What values of a quality raster mean; see `QualityLayer`."""

    part: str
    """End of its name, such as "QL_QUALITY_CLOUD"."""
    band: int = 0
    """Zero-based band of the raster."""
    values: tuple[tuple[int, str], ...] = ()
    """Values and their flags."""
    bits: tuple[tuple[int, str], ...] = ()
    """Bits and their flags."""


def open_product(
    path: str,
    product: Product,
    root: Element,
    facts: Facts,
    layers: Sequence[LayerMeaning],
    *,
    pixel_coordinates: bool,
) -> SceneSource:
    """Open a product's image and quality layers, without reading pixels.

    Args:
        path: What the user gave.
        product: Its files.
        root: Its XML.
        facts: What that says.
        layers: Quality layers that it may have.
        pixel_coordinates: Permits an image without georeference.

    Returns:
        The scene's source.

    Raises:
        InputError: A file is missing or cannot be opened, or they contradict each other.
    """
    image = image_of(product, root)
    shown = product.place.shown(image)
    with ExitStack() as stack:
        raster = stack.enter_context(_open(product.place, image))
        check_pixel_type(shown, raster)
        _check_sizes(shown, raster, facts, product.name)
        grid = raster_grid(shown, raster, pixel_coordinates=pixel_coordinates)
        check_projection(shown, grid, facts.projection, facts.pixel_size)
        check_corners(shown, grid, facts.corners, facts.slack)
        pixels, block = _pixels(product.place, image, raster)
        advice = layout_advice(product.place, image, raster)
        if image.lower().endswith(".bsq"):
            advice = {"advice": _BSQ_ADVICE, **advice}
        return SceneSource(
            path=path,
            pixels=pixels,
            grid=grid,
            block=block,
            wavelengths=facts.bands.wavelengths,
            good=facts.good,
            band_names=tuple(f"band {i}" for i in raster.indexes),
            scale=_one_or_each(facts.bands.gains),
            offset=_one_or_each(facts.bands.offsets),
            nodata=_nodata(shown, raster, facts),
            attrs={**facts.attrs, **advice},
            quality=_quality(path, product, root, raster, layers),
        )


def _open(place: Place, name: str) -> DatasetReader:
    """Open a raster with the driver of its name: a .TIF that is a VRT might read any file."""
    suffix = os.path.splitext(name)[1].lower()
    driver = "GTiff" if suffix in TIFF_SUFFIXES else "ENVI" if suffix in ENVI_SUFFIXES else None
    try:
        raster = open_raster(place.gdal(name), driver=driver)
    except InputError as error:
        if not place.archive:
            raise
        # GDAL reads no names of over 100 characters in the pax form of tar, and no nested archives.
        raise InputError(
            f"{place.shown(name)} cannot be read inside its archive; unpack it and give the folder "
            f"({error})"
        ) from error
    if driver is None and not raster.driver.startswith("JP2"):
        raster.close()
        raise InputError(f"{place.shown(name)} is not JPEG 2000 but {raster.driver}")
    return raster


def _check_sizes(shown: str, raster: DatasetReader, facts: Facts, metadata: str) -> None:
    described = len(facts.bands.gains)
    for count in (described, *facts.counts):
        if count != raster.count:
            raise InputError(
                f"{shown} has {raster.count} bands, its metadata say {count:g}; the image is cut "
                f"or {metadata} is of another product, download both again"
            )
    for height, width in facts.sizes:
        if (height, width) != (raster.height, raster.width):
            raise InputError(
                f"{shown} has {raster.height} x {raster.width} pixels, its metadata say "
                f"{height:g} x {width:g}; the image is cut or {metadata} is of another product, "
                "download both again"
            )


def _pixels(place: Place, name: str, raster: DatasetReader) -> tuple[Pixels, tuple[int, int]]:
    """Return an image's pixels and its block (rows, columns)."""
    suffix = os.path.splitext(name)[1].lower()
    shown = place.shown(name)
    if suffix in ENVI_SUFFIXES:
        interleave = raster.tags(ns="ENVI").get("interleave", "none").lower()
        if interleave != suffix[1:]:
            raise InputError(
                f"{shown}: its header says interleave {interleave}, its name {suffix[1:]}; the "
                "product is damaged, download it again"
            )
        if place.is_local:
            return _mapped(place.gdal(name))
    return _gdal_pixels(place, name, raster), raster.block_shapes[0]


def _gdal_pixels(place: Place, name: str, raster: DatasetReader) -> GdalPixels:
    file = place.gdal(name)
    shape = (raster.count, raster.height, raster.width)
    dtype = np.dtype(raster.dtypes[0])
    return GdalPixels(file, shape, dtype, file_stamp(file), raster.driver)


def _mapped(image: str) -> tuple[Pixels, tuple[int, int]]:
    source = envi.open_source(image, pixel_coordinates=True)
    pixels = source.pixels
    assert isinstance(pixels, envi.EnviPixels)
    needed = pixels.header_bytes + int(np.prod(pixels.shape)) * pixels.stored.itemsize
    if (found := os.path.getsize(image)) != needed:
        raise InputError(
            f"{image} has {found} bytes, its header says {needed}; one of them is damaged, "
            "download both again"
        )
    return pixels, source.block


def _nodata(shown: str, raster: DatasetReader, facts: Facts) -> float:
    """Return the digital number of invalid pixels.

    The raster's own goes before the XML's, which is not always right (its sign).
    """
    dtype = np.dtype(raster.dtypes[0])
    if dtype.itemsize < 2:
        raise InputError(f"{shown} holds {dtype} numbers, expected 16 bits; it is damaged")
    known = [value for value in (facts.background, facts.level.nodata) if value is not None]
    stored = {value for value in raster.nodatavals if value is not None}
    wrong = stored - {*known, *(-value for value in known)}
    fit = [value for value in (*stored, *known) if _fits(value, dtype)]
    if len(stored) > 1 or wrong or not fit or not stored <= set(fit):
        found = ", ".join(f"{value:g}" for value in sorted(stored)) or "none"
        raise InputError(
            f"{shown}: {dtype} numbers with nodata value {found}, expected {known[0]:g}; it is "
            "damaged or of another product"
        )
    return float(fit[0])


def _fits(value: float, dtype: np.dtype) -> bool:
    if dtype.kind == "f":
        return True
    info = np.iinfo(dtype)
    return bool(info.min <= value <= info.max and value == int(value))


def _quality(
    path: str,
    product: Product,
    root: Element,
    image: DatasetReader,
    layers: Sequence[LayerMeaning],
) -> QualityLayers | None:
    """Return the quality layers that a product has, None if it has none."""
    names = {part: raster_of(product, root, part) for part in {layer.part for layer in layers}}
    pixels = {
        part: _layer_pixels(path, product.place, name, image)
        for part, name in names.items()
        if name
    }
    found = []
    for layer in layers:
        if layer.part in pixels:
            plane = pixels[layer.part]
            if layer.band >= plane.shape[0]:
                raise InputError(
                    f"{path}: the quality layer {names[layer.part]} has {plane.shape[0]} bands, "
                    f"expected {layer.band + 1} or more; download the product again"
                )
            found.append(QualityLayer(plane, layer.band, layer.values, layer.bits))
    return QualityLayers(tuple(found)) if found else None


def _layer_pixels(path: str, place: Place, name: str, image: DatasetReader) -> GdalPixels:
    with _open(place, name) as raster:
        check_quality_size(path, name, raster.shape, image.shape)
        check_same_place(path, name, image, raster)
        if np.dtype(raster.dtypes[0]).kind not in "ui":
            raise InputError(
                f"{path}: the quality layer {name} holds {raster.dtypes[0]}, expected integers"
            )
        return _gdal_pixels(place, name, raster)


def _one_or_each(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(set(values)) == 1 else values
