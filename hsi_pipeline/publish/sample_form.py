"""A reference sample as a GeoPackage that opens in QGIS ready to be interpreted.

The layer `sample` has a point at the centre of each pixel, and a form where the class is chosen
from those of the map. Who interprets must not know what the map says there: strata are numbered at
random, and the form in QGIS hides the number. Other programs show it, and it is the table `design`
that says which class a number is. That table tells how the points were drawn, too, which estimates
of accuracy and area need.
"""

from __future__ import annotations

import os
import sqlite3
import warnings
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import pandas as pd
import pyogrio
from affine import Affine

from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish import check_target, staged
from hsi_pipeline.publish.vector import add_style

SAMPLE, DESIGN = "sample", "design"
"""Names of the layer and of the table."""
DESIGN_COLUMNS = (
    "design", "stratum", "name", "pixels", "area_m2", "points", "seed", "map", "model_sha256",
)  # fmt: skip
"""Columns of the table, which has a line for each stratum."""

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_OPTIONS = {"driver": "GPKG", "dataset_options": {"VERSION": "1.2"}}  # as for polygons
_CANNOT_WRITE = (
    pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError,
    pyogrio.errors.GeometryError,
)  # fmt: skip
_NO_VALUE = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"  # what QGIS takes for NULL in a list
_COLOR = "255,255,0,255"  # seen on vegetation, soil and water
_EDGE = "0,0,0,255"


def write_sample(
    points: gpd.GeoDataFrame,
    design: pd.DataFrame,
    path: str | os.PathLike[str],
    scheme: ClassScheme,
    transform: Affine,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a sample with its design and its form.

    Args:
        points: Points with the columns `sample_id` from 1 and `stratum`; without CRS they are in
            pixel coordinates.
        design: A line for each stratum, with `DESIGN_COLUMNS`.
        path: Target, `.gpkg`.
        scheme: Classes to choose from.
        transform: Of the map's grid, for the outline of a pixel.
        overwrite: Replace an existing file.

    Returns:
        The file.

    Raises:
        InputError: As `check_target`, or the file cannot be written, as on a full disk.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite, suffixes=(".gpkg",))
    empty = pd.Series(None, index=points.index, dtype="string")
    filled = points[["sample_id", "stratum", "geometry"]].copy()
    filled.insert(2, "reference", empty)
    filled.insert(3, "note", empty)
    try:
        with staged(path) as target, warnings.catch_warnings():
            # pixel coordinates have no CRS, and that is right
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            pyogrio.write_dataframe(
                filled, target, layer=SAMPLE, geometry_type="Point", geometry_name="geometry",
                **_OPTIONS,
            )  # fmt: skip
            pyogrio.write_dataframe(design[list(DESIGN_COLUMNS)], target, layer=DESIGN, **_OPTIONS)
            add_style(target, SAMPLE, form_qml(scheme, transform), "", "form for interpretation")
    except (*_CANNOT_WRITE, sqlite3.Error) as error:
        raise InputError(
            f"{path} cannot be written, is there no room left? {str(error).splitlines()[0]}"
        ) from error
    return path


def form_qml(scheme: ClassScheme, transform: Affine) -> str:
    """Return the style for QGIS 3.22 and later: symbol, form and columns of the table.

    Args:
        scheme: Classes to choose from.
        transform: Of the map's grid, for the outline of a pixel.
    """
    root = ET.Element(
        "qgis",
        version="3.22.0-Białowieża",
        styleCategories="Symbology|Fields|Forms|AttributeTable",
    )
    renderer = ET.SubElement(root, "renderer-v2", type="singleSymbol", symbollevels="0")
    symbols = ET.SubElement(renderer, "symbols")
    symbol = ET.SubElement(symbols, "symbol", name="0", type="marker", alpha="1")
    _add_footprint(symbol, transform)
    _add_rings(symbol)
    _add_fields(root, scheme)
    _add_columns(root)
    ET.SubElement(root, "previewExpression").text = '"sample_id"'
    ET.SubElement(root, "layerGeometryType").text = "0"  # points
    ET.indent(root)
    return _HEAD + ET.tostring(root, encoding="unicode") + "\n"


def _add_footprint(symbol: ET.Element, transform: Affine) -> None:
    """Draw the pixel around its centre, in the map's coordinates whatever the project's are."""
    corners = []
    for column, row in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
        x = transform.a * column + transform.b * row
        y = transform.d * column + transform.e * row
        corners.append(f"make_point($x + ({x!r}), $y + ({y!r}))")
    ring = ", ".join([*corners, corners[0]])
    settings = {
        "SymbolType": "Fill",
        "geometryModifier": f"make_polygon(make_line({ring}))",
        "units": "MapUnit",
    }
    layer = _symbol_layer(symbol, "GeometryGenerator", settings)
    outline = ET.SubElement(layer, "symbol", name="@0@0", type="fill", alpha="1")
    for color, width in ((_EDGE, "0.7"), (_COLOR, "0.3")):
        _symbol_layer(
            outline,
            "SimpleFill",
            {
                "style": "no",
                "outline_style": "solid",
                "outline_color": color,
                "outline_width": width,
                "outline_width_unit": "MM",
            },
        )


def _add_rings(symbol: ET.Element) -> None:
    """Draw a ring that leaves what lies in it free, seen at every scale."""
    for color, width in ((_EDGE, "1"), (_COLOR, "0.5")):
        _symbol_layer(
            symbol,
            "SimpleMarker",
            {
                "name": "circle",
                "color": "0,0,0,0",
                "size": "6",
                "size_unit": "MM",
                "outline_style": "solid",
                "outline_color": color,
                "outline_width": width,
                "outline_width_unit": "MM",
            },
        )


def _symbol_layer(symbol: ET.Element, kind: str, properties: dict[str, str]) -> ET.Element:
    """Add a layer; properties in the form of QGIS 3.18 and later, and in the older."""
    layer = ET.SubElement(
        symbol, "layer", {"class": kind, "enabled": "1", "locked": "0", "pass": "0"}
    )
    options = ET.SubElement(layer, "Option", type="Map")
    for key, value in properties.items():
        ET.SubElement(options, "Option", name=key, type="QString", value=value)
        ET.SubElement(layer, "prop", k=key, v=value)
    return layer


def _add_fields(root: ET.Element, scheme: ClassScheme) -> None:
    """Say how fields are filled in: the class from a list, the note freely, others not at all."""
    fields = ET.SubElement(root, "fieldConfiguration")
    for name, kind in (
        ("fid", "Hidden"),
        ("sample_id", "TextEdit"),
        ("stratum", "Hidden"),
        ("reference", "ValueMap"),
        ("note", "TextEdit"),
    ):
        field = ET.SubElement(fields, "field", name=name, configurationFlags="None")
        config = ET.SubElement(ET.SubElement(field, "editWidget", type=kind), "config")
        options = ET.SubElement(config, "Option", type="Map")
        if kind == "ValueMap":
            choices = ET.SubElement(options, "Option", name="map", type="List")
            # a key is what is shown
            for shown, value in [("", _NO_VALUE), *((name, name) for name in scheme.names)]:
                choice = ET.SubElement(choices, "Option", type="Map")
                ET.SubElement(choice, "Option", name=shown, type="QString", value=value)
        if name == "note":
            ET.SubElement(options, "Option", name="IsMultiline", type="bool", value="true")
    editable = ET.SubElement(root, "editable")
    for name in ("fid", "sample_id", "stratum", "reference", "note"):
        changes = str(int(name in ("reference", "note")))
        ET.SubElement(editable, "field", name=name, editable=changes)
    ET.SubElement(root, "editorlayout").text = "generatedlayout"


def _add_columns(root: ET.Element) -> None:
    """Say which columns the attribute table shows, in the order of `sample_id`."""
    table = ET.SubElement(
        root, "attributetableconfig", actionWidgetStyle="dropDown",
        sortExpression='"sample_id"', sortOrder="0",
    )  # fmt: skip
    columns = ET.SubElement(table, "columns")
    for name in ("fid", "sample_id", "stratum", "reference", "note"):
        hidden = str(int(name in ("fid", "stratum")))
        ET.SubElement(columns, "column", type="field", name=name, hidden=hidden, width="-1")
    ET.SubElement(columns, "column", type="actions", hidden="1", width="-1")
