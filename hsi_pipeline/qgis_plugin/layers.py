"""Layers of QGIS and files of the command line: which file a layer is, and results as layers."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from qgis.core import (
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingUtils,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt import sip

VECTOR_SUFFIXES = ("gpkg", "shp", "geojson", "json", "fgb")
"""What the command line reads as it is; layers of other kinds are copied to a GeoPackage."""

# A part of a product, as GDAL names it: the whole product is what the command line opens.
_PART = re.compile(
    r'(?:HDF5|HDF5Image|NETCDF|ZARR):(?:"([^"]+)"|([^":]{2,}|[A-Za-z]:[^":]+))(?::.*)?'
)
_OUR_LAYERS = {"landcover", "parcels", "change", "layer_styles"}
_OTHER_PART = re.compile(r"[A-Za-z][A-Za-z0-9_]+:(?!//)")
_PICTURES = ("wms", "arcgismapserver", "wcs")


class _DefaultStyle(QgsProcessingLayerPostProcessorInterface):
    """Gives a result the style that its file comes with, which Processing does not look for."""

    def __init__(self, *, is_hidden: bool = False) -> None:
        """With `is_hidden`, the layer is not ticked, so that it covers no other."""
        super().__init__()
        self._is_hidden = is_hidden

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Style a layer that has just been loaded."""
        layer.loadDefaultStyle()
        layer.triggerRepaint()
        project = context.project()
        node = project and project.layerTreeRoot().findLayer(layer.id())
        if self._is_hidden and node:
            node.setItemVisibilityChecked(False)


# QGIS deletes each of them itself, but does not keep what Python knows of it.
_styles: list[_DefaultStyle] = []


def _default_style(*, is_hidden: bool = False) -> _DefaultStyle:
    """Return a new one, which lives until QGIS deletes it."""
    _styles[:] = [style for style in _styles if not sip.isdeleted(style)]
    _styles.append(_DefaultStyle(is_hidden=is_hidden))
    return _styles[-1]


def raster_file(layer: QgsRasterLayer, *, is_map: bool = False) -> str:
    """Return the file of a raster layer, as the command line opens it.

    Args:
        layer: The layer.
        is_map: It is a class map, which has to be a file on disk.

    Raises:
        QgsProcessingException: It has none; says what to do.
    """
    name, source = layer.name(), layer.source()
    if layer.providerType() in _PICTURES:
        raise QgsProcessingException(
            f"the layer {name!r} comes from a web service (WMS, XYZ or the like): a picture, whose "
            "pixels are no measurements; choose a file"
        )
    if layer.providerType() != "gdal":
        raise QgsProcessingException(
            f"the layer {name!r} is no file ({layer.providerType()}); export it to GeoTIFF first, "
            "and choose that"
        )
    path = source.partition("|")[0]
    part = _PART.fullmatch(path)
    if part:
        path = part[1] or part[2]
    elif _OTHER_PART.match(path):
        raise QgsProcessingException(
            f"the layer {name!r} is a part of a file ({path}), which cannot be named outside QGIS; "
            "choose the product itself, or export the layer to GeoTIFF"
        )
    if is_map and path.startswith("/vsi"):
        raise QgsProcessingException(
            f"the layer {name!r} lies in an archive or on a server ({path}); a class map has to be "
            "a file on this machine: unpack or download it, and choose that"
        )
    return path


def copy_of_edits(layer: QgsVectorLayer, *, keep_file: bool) -> bool:
    """Tell whether a layer holds what its file does not: unsaved edits, joined or virtual fields.

    Args:
        layer: The layer.
        keep_file: Its file is needed as it is.

    Raises:
        QgsProcessingException: It has unsaved edits, and its file is needed.
    """
    if keep_file and layer.isModified():
        raise QgsProcessingException(
            f"the layer {layer.name()!r} has edits that are not saved; save them first"
        )
    return layer.isModified() or len(layer.fields()) != len(layer.dataProvider().fields())


def layers_of_file(project: QgsProject | None, path: str) -> list[QgsMapLayer]:
    """Return the layers of a project that show a file."""
    if project is None:
        return []
    wanted = _full(path)
    return [
        layer
        for layer in project.mapLayers().values()
        if _full(layer.source().partition("|")[0]) == wanted
    ]


def check_target(path: str, inputs: Mapping[str, str], project: QgsProject | None) -> None:
    """Refuse to overwrite what is read, what is being edited, or layers of others.

    Args:
        path: File to write; "" for none.
        inputs: Files that are read, by what they are.
        project: The project, whose layers may show the file.

    Raises:
        QgsProcessingException: Names the other use of the file, or what else it holds.
    """
    if not path:
        return
    for what, source in inputs.items():
        if source and _full(source) == _full(path):
            raise QgsProcessingException(
                f"{path} would be overwritten while it is read ({what}); choose another output file"
            )
    others = sorted(_layers_in_geopackage(path) - _OUR_LAYERS)
    if others:
        raise QgsProcessingException(
            f"{path} holds other layers ({', '.join(others)}), which would be lost, as the whole "
            "file is replaced; choose a new file"
        )
    for layer in layers_of_file(project, path):
        if isinstance(layer, QgsVectorLayer) and layer.isEditable():
            raise QgsProcessingException(
                f"{path} is being edited as layer {layer.name()!r}; end that first, or choose "
                "another output file"
            )
        if os.name == "nt":
            # Windows replaces no file that is open
            raise QgsProcessingException(
                f"{path} is open as layer {layer.name()!r}; remove the layer from the project "
                "first, or choose another output file"
            )


def _layers_in_geopackage(path: str) -> set[str]:
    """Return the names of all layers and tables; none where the file is no GeoPackage."""
    if not path.lower().endswith(".gpkg") or not os.path.isfile(path):
        return set()
    try:
        uri = f"{Path(path).absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            found = database.execute("SELECT table_name FROM gpkg_contents").fetchall()
    except sqlite3.Error:
        return set()
    return {str(name) for (name,) in found}


def reload_layers(project: QgsProject | None, paths: Iterable[str]) -> None:
    """Show the new content of files that layers of the project had open."""
    for path in paths:
        for layer in layers_of_file(project, path):
            layer.dataProvider().reloadData()
            layer.triggerRepaint()


def load_styled(context: QgsProcessingContext, path: str, like: str = "", name: str = "") -> None:
    """Have a result loaded with its style, if it is loaded at all.

    Args:
        context: Where results to be loaded are noted.
        path: The file.
        like: Another result, with which this one is loaded; "" for the file itself.
        name: How the layer is called, where it is loaded with another one.
    """
    if not context.willLoadLayerOnCompletion(like or path):
        return
    if like:
        shown = context.layerToLoadOnCompletionDetails(like)
        details = QgsProcessingContext.LayerDetails(name, shown.project, name)
        details.layerTypeHint = QgsProcessingUtils.LayerHint.Raster
        details.layerSortKey = -1  # below the other one, from QGIS 3.36 on
        context.addLayerToLoadOnCompletion(path, details)
    style = _default_style(is_hidden=bool(like))
    context.layerToLoadOnCompletionDetails(path).setPostProcessor(style)


def load_new(context: QgsProcessingContext, path: str, name: str) -> None:
    """Have a file loaded with its style into the project, of which no parameter says so."""
    project = context.project()
    if project is None:
        return
    details = QgsProcessingContext.LayerDetails(name, project, name)
    details.setPostProcessor(_default_style())
    context.addLayerToLoadOnCompletion(path, details)


def _full(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))
