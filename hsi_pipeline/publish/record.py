"""What an assessment found of a class map -> the map's own attributes, its pixels untouched.

A Zarr store gets an attribute. Of a GeoTIFF the side file of GDAL (`.aux.xml`) does, which GDAL,
rasterio and QGIS read as tags of the file: writing into a COG would undo its order.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import zarr
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse
from zarr.errors import ZarrUserWarning
from zarr.storage import LocalStore

from hsi_pipeline.errors import InputError
from hsi_pipeline.publish import staged

ACCURACY = "accuracy"
"""Name of the attribute and of the tag."""


def record_accuracy(path: str | os.PathLike[str], found: Mapping[str, Any]) -> Path:
    """Write what an assessment found into a class map's attributes, in place of an older one.

    Args:
        path: `.zarr` store, or raster file that GDAL reads.
        found: Values for JSON, without NaN.

    Returns:
        The file that holds it now: the store itself, or the raster's `.aux.xml`.

    Raises:
        InputError: It cannot be written.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".zarr":
            _into_store(path, found)
            return path
        return _into_side_file(path, found)
    except (OSError, ET.ParseError, DefusedXmlException) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: the accuracy cannot be recorded with it ({reason}); write it to a file of "
            "its own by --out"
        ) from error


def accuracy_summary(assessment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an assessment that maps and STAC items carry.

    Args:
        assessment: As `assess` writes it as JSON.
    """
    whole = (
        "reference", "design", "probability_sample", "confidence_level", "sample_units", "unit",
        "overall_accuracy", "kappa", "mean_f1", "mean_iou",
    )  # fmt: skip
    of_class = ("code", "name", "users_accuracy", "producers_accuracy", "f1", "iou", "area_m2")
    return {
        **{key: assessment[key] for key in whole if key in assessment},
        "classes": [
            {key: row[key] for key in of_class if key in row}
            for row in assessment.get("classes", [])
        ],
    }


def _into_store(path: Path, found: Mapping[str, Any]) -> None:
    group = zarr.open_group(LocalStore(path), mode="r+", use_consolidated=False)
    known = zarr.open_group(LocalStore(path), mode="r").metadata
    group.attrs[ACCURACY] = dict(found)
    if known.consolidated_metadata is None:
        return
    with warnings.catch_warnings():  # that version 3 knows no such thing; but the store has it
        warnings.simplefilter("ignore", ZarrUserWarning)
        # else programs would go on reading the old attributes
        zarr.consolidate_metadata(LocalStore(path), zarr_format=known.zarr_format)


def _into_side_file(path: Path, found: Mapping[str, Any]) -> Path:
    side = path.with_name(f"{path.name}.aux.xml")
    root = parse(side).getroot() if side.exists() else ET.Element("PAMDataset")
    if root.tag != "PAMDataset":
        raise InputError(
            f"{side} is no side file of GDAL (it begins with <{root.tag}>); move it away, or write "
            "the accuracy to a file of its own by --out"
        )
    tags = next((node for node in root.findall("Metadata") if not node.get("domain")), None)
    if tags is None:
        tags = ET.Element("Metadata")
        root.insert(0, tags)
    for old in [node for node in tags.findall("MDI") if node.get("key") == ACCURACY]:
        tags.remove(old)
    ET.SubElement(tags, "MDI", key=ACCURACY).text = json.dumps(found, ensure_ascii=False)
    ET.indent(root)
    with staged(side) as target:
        target.write_text(ET.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
    return side
