"""Class map and what was made of it -> a STAC item beside them.

The versions of the extensions are those that programs in use can read. GDAL opens items (STACIT)
by `proj:epsg`, of projection 1.x, from 3.6, which QGIS 3.22 has, to 3.12; `proj:code`, of 2.0.0,
3.6 does not know, and 2.0.0 forbids the two beside one another. Likewise `raster:bands` and
`eo:bands`, of 1.1.0, are what pystac 1.15 reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox

from hsi_pipeline import __version__
from hsi_pipeline.classes import scheme_from_attrs
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.publish import check_target, staged
from hsi_pipeline.publish.record import ACCURACY
from hsi_pipeline.publish.stac_assets import describe_asset, href_from, identifier
from hsi_pipeline.publish.stac_model import model_asset, model_properties
from hsi_pipeline.publish.stac_place import footprint, projection
from hsi_pipeline.publish.stac_schemas import validate_item as validate_item

_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
_FOR_ALL = (
    "projection/v1.0.0",
    "raster/v1.1.0",
    "classification/v2.0.0",
    "processing/v1.1.0",
    "file/v2.1.0",
)
_FOR_MODELS = ("mlm/v1.4.0", "eo/v1.1.0", "version/v1.2.0")

_EARLIEST = "1970-01-01T00:00:00Z"  # long before the first imaging spectrometer flew


def write_stac_item(
    path: str | os.PathLike[str],
    class_map: xr.Dataset,
    products: Mapping[str, Path],
    *,
    model_file: Path | None = None,
    card: ModelCard | None = None,
    derived_from: str | None = None,
    item_id: str | None = None,
    properties: Mapping[str, Any] | None = None,
    links: Sequence[Mapping[str, str]] = (),
    overwrite: bool = False,
) -> Path:
    """Write a STAC 1.1 item that describes a class map and what was made of it.

    Where the map's `acquired` is missing or no date, the item says so in the only way that STAC
    allows: `datetime` null, and an interval from 1970 to now. A date without a time of day becomes
    the start of that day, with the day as interval. Times without a zone are taken as UTC.

    What an assessment has recorded with the map becomes the property `hsi:accuracy`; no extension
    of STAC has fields for it.

    A grid without CRS, or whose CRS does not lead to WGS 84, has no footprint: geometry null.

    Args:
        path: Target, `.json`.
        class_map: As `publish.open_class_map` returns it.
        products: Files of the item by asset name. `class` must be among them; it, `confidence` and
            `probability` are the rasters of these variables, in a GeoTIFF or a Zarr store.
        model_file: Model file that made the map; becomes the asset `model`.
        card: Its card; one is given with the other.
        derived_from: The source's STAC item, or the scene where it has none: URL or file.
        item_id: Identifier; None makes one of the file's name and the scene's.
        properties: Further properties.
        links: Further links, such as that to the catalog.
        overwrite: Replace an existing item.

    Returns:
        The file written.

    Raises:
        InputError: As `publish.check_target`; a product is missing; the model is not the one that
            made the map.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite, suffixes=(".json",))
    _check_files(products, model_file, card)
    scheme, grid = scheme_from_attrs(class_map["class"].attrs), grid_of(class_map)
    item = _item(path.stem, class_map.attrs, grid)
    item["id"] = item_id or item["id"]
    item["properties"] |= properties or {}
    item["links"] += map(dict, links)
    item["assets"] = {
        name: describe_asset(name, Path(product), path.parent, scheme, grid)
        for name, product in products.items()
    }
    if model_file is not None and card is not None:
        item["stac_extensions"] += [_EXTENSION.format(name) for name in _FOR_MODELS]
        item["properties"] |= model_properties(Path(model_file), card)
        sha256 = _model_sha256(Path(model_file), class_map.attrs)
        item["assets"]["model"] = model_asset(Path(model_file), path.parent, card, sha256)
    if derived_from is not None:
        item["links"].append(_source_link(derived_from, path.parent))
    validate_item(item)
    with staged(path) as target:
        target.write_text(json.dumps(item, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _check_files(
    products: Mapping[str, Path], model_file: Path | None, card: ModelCard | None
) -> None:
    """Refuse products and models that cannot be described."""
    if "class" not in products:
        raise InputError(
            f"a STAC item needs the class map as product 'class', found "
            f"{', '.join(map(repr, products)) or 'none'}"
        )
    for name, product in products.items():
        if not Path(product).exists():
            raise InputError(f"{product}: no such file for the product {name!r}; write it first")
    if (model_file is None) != (card is None):
        raise InputError("a STAC item needs the model file and its card, or neither of them")
    if model_file is not None and not Path(model_file).is_file():
        raise InputError(f"{model_file}: no such model file")


def _model_sha256(model_file: Path, attrs: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the model file; refuse another file than made the map."""
    with model_file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    wanted = str(attrs.get("model_sha256", found))
    if wanted != found:
        raise InputError(
            f"{model_file} (SHA-256 {found[:12]}) is not the model that made the class map "
            f"({wanted[:12]}); name that one"
        )
    return found


def _item(stem: str, attrs: Mapping[str, Any], grid: GeoBox) -> dict[str, Any]:
    """Return an item without assets and links."""
    scene = str(attrs.get("scene_id", ""))
    created = datetime.now(UTC)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [_EXTENSION.format(name) for name in _FOR_ALL],
        "id": identifier(stem if scene in stem else f"{scene}_{stem}"),
        **footprint(grid),
        "properties": {
            "title": f"Land cover of {scene or stem}",
            **_times(str(attrs.get("acquired", "")), created),
            "created": _text(created),
            **projection(grid),
            **_processing(attrs),
            **({"hsi:accuracy": attrs[ACCURACY]} if isinstance(attrs.get(ACCURACY), dict) else {}),
        },
        "links": [],
        "assets": {},
    }


def _times(acquired: str, created: datetime) -> dict[str, str | None]:
    """Return when the scene was taken, as far as it is known."""
    iso = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", acquired.strip())  # as TIFF writes it
    iso = re.sub(r" *(UTC|GMT)$", "Z", iso)
    try:
        moment = datetime.fromisoformat(iso)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return {"datetime": None, "start_datetime": _EARLIEST, "end_datetime": _text(created)}
    if len(iso) > len("2022-07-24"):
        return {"datetime": _text(moment)}
    end = moment + timedelta(days=1, seconds=-1)
    return {"datetime": _text(moment), "start_datetime": _text(moment), "end_datetime": _text(end)}


def _processing(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what made the map, as far as it says so."""
    parts = {
        "scene": "scene_id",
        "acquired": "acquired",
        "model": "model",
        "SHA-256": "model_sha256",
        "architecture": "model_architecture",
        "computed in": "precision",
        "bands matched by": "band_matching",
    }
    known = [f"{label} {attrs[key]}" for label, key in parts.items() if key in attrs]
    lineage = ", ".join(["land-cover classes of each pixel", *known])
    found: dict[str, Any] = {"processing:level": "L4", "processing:lineage": lineage}
    name, _, number = str(attrs.get("software", "")).partition(" ")
    if number:
        found["processing:software"] = {name: number}
        # what is installed now made the map only if the program is still the same
        if (name, number) == ("hsi_pipeline", __version__):
            from hsi_pipeline.estimators import is_estimator  # Torch, and it takes seconds

            baseline = is_estimator(str(attrs.get("model_architecture", "")))
            for library in ("torch", "rasterio", *(["scikit-learn"] if baseline else [])):
                found["processing:software"][library] = version(library)
            found["processing:software"]["GDAL"] = rasterio.__gdal_version__
    return found


def _source_link(source: str, folder: Path) -> dict[str, str]:
    """Return the link to what the map is derived from."""
    is_address = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source) is not None  # C: is a drive
    if not is_address and not Path(source).exists():
        raise InputError(f"{source}: neither a URL nor a file that the map can be derived from")
    href = source if is_address else href_from(Path(source), folder)
    is_item = Path(source).suffix.lower() in (".json", ".geojson")
    media_type = {"type": "application/geo+json"} if is_item else {}
    return {"rel": "derived_from", "href": href, **media_type}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
