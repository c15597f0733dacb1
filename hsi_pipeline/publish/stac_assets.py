"""Files -> assets of a STAC item: where they are, of what kind, and what their bands hold."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from hsi_pipeline.classes import UNLABELLED, ClassScheme
from hsi_pipeline.publish.stac_place import pixels
from hsi_pipeline.publish.zarr import NUMBERS, PROBABILITY_STEPS

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
SAFETENSORS = "application/octet-stream; application=safetensors"
KINDS = {
    ".tif": (_COG, "data"),
    ".tiff": (_COG, "data"),
    ".zarr": ("application/vnd+zarr", "data"),
    ".gpkg": ("application/geopackage+sqlite3", "data"),
    ".fgb": ("application/vnd.flatgeobuf", "data"),
    ".geojson": ("application/geo+json", "data"),
    ".parquet": ("application/vnd.apache.parquet", "data"),
    ".shp": ("application/vnd.shp", "data"),
    ".csv": ("text/csv", "data"),
    ".png": ("image/png", "thumbnail"),
    ".html": ("text/html", "overview"),
    ".json": ("application/json", "metadata"),
    ".qml": ("application/xml", "metadata"),
    ".sld": ("application/vnd.ogc.sld+xml", "metadata"),
    ".xml": ("application/xml", "metadata"),
    ".safetensors": (SAFETENSORS, "data"),
}
"""Media type and role of a product, by suffix."""

_NODATA_CLASS = {
    "value": UNLABELLED,
    "name": "unclassified",
    "title": "unclassified",
    "description": "no data, or no class",
    "nodata": True,
}


def describe_asset(
    name: str, product: Path, folder: Path, scheme: ClassScheme, grid: GeoBox
) -> dict[str, Any]:
    """Return the asset of a product.

    Args:
        name: Name of the asset; `class`, `probability` and the names of `map_layers` are
            rasters of the grid.
        product: The file.
        folder: Where the item will be.
        scheme: Classes of the map.
        grid: Its grid.
    """
    media_type, role = KINDS.get(product.suffix.lower(), (None, "data"))
    asset: dict[str, Any] = {
        "href": href_from(product, folder),
        "title": product.name,
        "roles": [role],
    }
    if media_type is not None:
        asset["type"] = media_type
    if product.is_file():
        asset["file:size"] = product.stat().st_size
    bands = _bands(name, scheme, product)
    if bands:
        # not of the whole item: GDAL would take polygons and models on the grid for rasters
        asset |= {"raster:bands": bands, **pixels(grid)}
    return asset


def _bands(name: str, scheme: ClassScheme, product: Path) -> list[dict[str, Any]]:
    """Return the bands of a variable of the class map: as `publish` stores it, or as it is."""
    if name == "class":
        data_type, nodata = _stored(product)
        classes = [_NODATA_CLASS | {"value": nodata}, *describe_classes(scheme, scheme.codes)]
        return [{"name": "class", "data_type": data_type, "nodata": nodata,
                 "classification:classes": classes}]  # fmt: skip
    if name in NUMBERS:
        return [{"name": name, "data_type": "float32", "nodata": "nan"}]
    if name == "probability":
        stored = {"data_type": "uint8", "nodata": 255, "scale": 1 / PROBABILITY_STEPS}
        return [{"name": category, **stored} for category in scheme.names]
    return []


def _stored(product: Path) -> tuple[str, int]:
    """Return the data type and the nodata value of a class map, which may be another program's."""
    if product.suffix.lower() == ".zarr":
        return "uint8", UNLABELLED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(product) as raster:
            nodata = UNLABELLED if raster.nodata is None else int(raster.nodata)
            return raster.dtypes[0], nodata


def describe_classes(scheme: ClassScheme, values: Iterable[int]) -> list[dict[str, Any]]:
    """Return the classes of a scheme, with the values that stand for them."""
    return [
        {
            "value": value,
            "name": identifier(category.name, f"class_{category.code}"),
            "title": category.name,
            "description": category.name,
            "color_hint": category.color.removeprefix("#"),
        }
        for value, category in zip(values, scheme.categories, strict=True)
    ]


def href_from(file: Path, folder: Path) -> str:
    """Return a file's address from a folder, so that both can be moved together.

    Letters stay as they are, as STAC has IRIs: GDAL takes the address for a file name and opens
    `Wälder.tif`, but neither `W%C3%A4lder.tif` nor, though that is right, `a%20blank.tif`.
    """
    try:
        # links to folders resolved: .. leads out of what they point to
        relative = os.path.relpath(file.parent.resolve() / file.name, folder.resolve())
    except ValueError:  # on another drive
        return file.absolute().as_uri()
    address = Path(relative).as_posix()
    address = address if address.startswith("../") else f"./{address}"
    return re.sub(r"[^\w./~-]", lambda match: quote(match[0]), address)


def identifier(text: str, default: str = "item") -> str:
    """Return a text in the letters that identifiers of STAC allow, without accents."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^0-9A-Za-z_-]+", "_", plain).strip("_") or default
