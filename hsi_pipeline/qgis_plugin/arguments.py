"""Values of parameters as arguments of the command line."""

from __future__ import annotations

import os
from typing import Any

from qgis.core import (
    QgsFeatureRequest,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingParameterNumber,
    QgsProcessingUtils,
    QgsProperty,
    QgsVectorLayer,
)

from .layers import VECTOR_SUFFIXES, copy_of_edits, raster_file


def scene_argument(
    algorithm: QgsProcessingAlgorithm,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
    *,
    is_needed: bool = True,
) -> str:
    """Return the scene, given in one of two ways; "" for none.

    Raises:
        QgsProcessingException: None is given where one is needed, or both are, or the layer
            cannot be used.
    """
    product = algorithm.parameterAsFile(parameters, "PRODUCT", context)
    has_layer = parameters.get("SCENE") not in (None, "")
    if has_layer and product:
        raise QgsProcessingException(
            "choose the scene as a layer or as a product, not both: clear one of them"
        )
    if not has_layer and not product and is_needed:
        raise QgsProcessingException("choose a scene: a raster layer, or a product")
    if has_layer:
        return raster_argument(algorithm, "SCENE", parameters, context)
    return no_option(product)


def raster_argument(
    algorithm: QgsProcessingAlgorithm,
    name: str,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
    *,
    is_map: bool = False,
) -> str:
    """Return the file of a raster parameter; "" for none.

    Raises:
        QgsProcessingException: It cannot be used.
    """
    if parameters.get(name) in (None, ""):
        return ""
    layer = algorithm.parameterAsRasterLayer(parameters, name, context)
    if layer is None:
        raise QgsProcessingException(algorithm.invalidRasterError(parameters, name))
    return no_option(raster_file(layer, is_map=is_map))


def no_option(path: str) -> str:
    """Return a path such that the command line takes it for no option, though it begins with -."""
    return os.path.abspath(path) if path.startswith("-") else path


def vector_argument(
    algorithm: QgsProcessingAlgorithm,
    name: str,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
    feedback: QgsProcessingFeedback | None,
    *,
    keep_file: bool = False,
) -> tuple[str, str]:
    """Return the file of a vector parameter and the layer in it.

    What is no file that the command opens, or not all of it (a filter, a selection), is copied
    to a temporary GeoPackage.

    Args:
        algorithm: Whose parameter it is; its `copied` is told of the copy.
        name: Of the parameter.
        parameters: As QGIS gives them.
        context: Likewise.
        feedback: Told of a copy; None copies nothing.
        keep_file: Whether the file holds more than its features, so that unsaved edits are to
            be saved first.

    Returns:
        File and layer, either may be "".

    Raises:
        QgsProcessingException: It cannot be used.
    """
    if parameters.get(name) in (None, ""):
        return "", ""
    layer = _vector_layer(parameters[name], context)
    if layer is None:
        raise QgsProcessingException(algorithm.invalidSourceError(parameters, name))
    _refuse_empty(layer, parameters[name])
    copies = copy_of_edits(layer, keep_file=keep_file)
    source = layer.source().partition("|")[0]
    if feedback is None:
        return no_option(source), ""
    path, inner = algorithm.parameterAsCompatibleSourceLayerPathAndLayerName(
        parameters, name, context, [] if copies else VECTOR_SUFFIXES, "gpkg", feedback
    )
    if path != source:
        algorithm.copied[path] = f"the layer {layer.name()!r}"
    return no_option(path), inner or (_opened_layer(layer) if path == source else "")


def _refuse_empty(layer: QgsVectorLayer, value: Any) -> None:
    """Refuse a layer with no features, or a selection of none."""
    is_selection = getattr(value, "selectedFeaturesOnly", False)
    if is_selection and not layer.selectedFeatureCount():
        raise QgsProcessingException(
            f"no feature of the layer {layer.name()!r} is selected; select some, or clear "
            "'Selected features only'"
        )
    # QGIS's count of features may be unknown or stale
    if next(layer.getFeatures(QgsFeatureRequest().setLimit(1)), None) is None:
        raise QgsProcessingException(
            f"the layer {layer.name()!r} is empty, as it is filtered or edited; choose another one"
            if layer.subsetString() or layer.isModified()
            else f"the layer {layer.name()!r} is empty; choose another one"
        )


def _opened_layer(layer: QgsVectorLayer) -> str:
    """Return which layer of its file QGIS has opened, where there are several; else ""."""
    provider = layer.dataProvider()
    parts = [text.split(provider.sublayerSeparator()) for text in provider.subLayers()]
    names = [part[1] for part in parts if len(part) > 1]
    has_choice = len(set(names)) > 1 or "|layerid=" in layer.source()
    return names[0] if names and has_choice else ""


def _vector_layer(value: Any, context: QgsProcessingContext) -> QgsVectorLayer | None:
    """Return the layer of a feature source, which QGIS 3.22 does not for "selected features"."""
    if isinstance(value, QgsProcessingFeatureSourceDefinition):
        value = value.source
    if isinstance(value, QgsProperty):
        value, _ = value.valueAsString(context.expressionContext())
    if isinstance(value, str):
        hint = QgsProcessingUtils.LayerHint.Vector
        value = QgsProcessingUtils.mapLayerFromString(value, context, True, hint)
    return value if isinstance(value, QgsVectorLayer) else None


def option(
    algorithm: QgsProcessingAlgorithm,
    name: str,
    flag: str,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
) -> list[str]:
    """Return the arguments of a parameter; none where it is as the command has it anyway."""
    parameter = algorithm.parameterDefinition(name)
    if parameter.isDestination():
        return []
    kind, default = parameter.type(), parameter.defaultValue()
    if kind == "boolean":
        changed = algorithm.parameterAsBool(parameters, name, context) != bool(default)
        return [flag] if changed else []
    if kind == "raster":
        text = raster_argument(algorithm, name, parameters, context, is_map=True)
    elif kind == "enum" and parameter.allowMultiple():
        text = ",".join(algorithm.parameterAsEnumStrings(parameters, name, context))
    elif kind == "enum":
        text = algorithm.parameterAsEnumString(parameters, name, context)
    elif isinstance(parameter, QgsProcessingParameterNumber):
        text = _number(algorithm, parameter, parameters, context)
    elif kind == "file":
        text = algorithm.parameterAsFile(parameters, name, context)
    else:
        text = algorithm.parameterAsString(parameters, name, context).strip()
    return [] if text in ("", str(default)) else [flag, text]


def _number(
    algorithm: QgsProcessingAlgorithm,
    parameter: QgsProcessingParameterNumber,
    parameters: dict[str, Any],
    context: QgsProcessingContext,
) -> str:
    name, default = parameter.name(), parameter.defaultValue()
    if parameters.get(name) is None and default is None:
        return ""
    if parameter.dataType() == QgsProcessingParameterNumber.Type.Integer:
        return str(algorithm.parameterAsInt(parameters, name, context))
    return repr(algorithm.parameterAsDouble(parameters, name, context))
