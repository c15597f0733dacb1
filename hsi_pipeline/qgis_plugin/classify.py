"""Scene and model to a class map."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputRasterLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterString,
)

from .algorithm import CommandAlgorithm
from .arguments import no_option, scene_argument
from .conversation import Conversation, Stages
from .layers import load_styled
from .options import (
    add_choice,
    add_chunk,
    add_device,
    add_mask,
    add_model,
    add_pixel_coordinates,
    add_scene,
    add_scheduler,
)

LAYERS = ("entropy", "margin", "dissimilarity")
BESIDE = ("confidence", *LAYERS, "probability")
"""What lies beside a map, as a file of its own: the map's name, an underscore, and one of these."""


class ClassifyAlgorithm(CommandAlgorithm):
    """Classifies a scene."""

    COMMAND = "classify"
    TITLE = "Classify a scene"
    TAGS = "class map,land cover,predict,inference,classification"
    STAGES: ClassVar[Stages] = {"classifying": (3, 97)}
    HINTS: ClassVar[Mapping[str, str]] = {
        "the scene has no wavelengths": "(Rasters that QGIS, gdalbuildvrt or rio made have lost "
        "them: choose the file as it was delivered.)",
    }
    HELP = """
    Makes a class map of a scene by a model, chunk by chunk: scenes may be of any size and of
    another sensor than the model's, since bands are matched by wavelength.

    The map comes with its classes by name and colour. Beside it lie its confidence (0 to 1)
    and, if wanted, layers that say where not to trust it: entropy (0 sure, 1 no idea), margin
    (first less second probability) and dissimilarity (above 1: unlike all that the model was
    trained on).

    Cancelled? What was done is kept: run it again with the same settings and the same output
    file, and it goes on where it stopped. 'Begin anew' throws that away.
    """

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Define the parameters."""
        add_scene(self)
        add_model(self, text="A file that 'Train a model' made.")
        self.add(
            QgsProcessingParameterEnum(
                "LAYERS", "Layers that say where not to trust it", LAYERS, allowMultiple=True,
                optional=True, usesStaticStrings=True,
            ),
            "--layers", text="Each is a file beside the map, and is loaded with it. In words: "
            f"{', '.join(LAYERS)}.",
        )  # fmt: skip
        self.add(
            QgsProcessingParameterBoolean(
                "PROBABILITIES", "Write the probability of each class", False
            ),
            "--probabilities",
            text="Polygons then tell their second class, and small ones can join by probability.",
        )
        self._add_rare()
        output = QgsProcessingParameterRasterDestination("OUTPUT", "Class map")
        self.add(output, "--out", text="GeoTIFF (COG), with its style beside it.")
        for name in BESIDE:
            self.addOutput(QgsProcessingOutputRasterLayer(name.upper(), name.capitalize()))

    def _add_rare(self) -> None:
        """Define what is rarely needed."""
        add_choice(
            self, "RESAMPLING", "Making of bands", "--resampling",
            ("auto", "nearest", "linear", "gaussian"),
            text="How the model's bands are made of the scene's.",
        )  # fmt: skip
        add_choice(
            self, "FILL_MISSING", "Bands that the scene lacks", "--fill-missing",
            ("error", "interpolate", "mean"),
            text="error refuses the scene, interpolate goes across the gap, mean takes the "
            "training pixels' mean.",
        )  # fmt: skip
        self.add(
            QgsProcessingParameterNumber(
                "TOLERANCE_NM", "Distance of matching bands in nm",
                QgsProcessingParameterNumber.Type.Double, optional=True, minValue=0,
            ),
            "--tolerance-nm", text="As the model says, if nothing is given.", is_advanced=True,
        )  # fmt: skip
        add_mask(self)
        add_device(self)
        add_choice(
            self, "PRECISION", "Precision", "--precision", ("float32", "bfloat16", "auto"),
            text="bfloat16 is faster where the processor has it.",
        )  # fmt: skip
        add_chunk(self)
        memory = QgsProcessingParameterString("MEMORY", "Memory to use", optional=True)
        text = "Such as 4GB: makes chunks as large as it allows."
        self.add(memory, "--memory", text=text, is_advanced=True)
        add_scheduler(self)
        skip = QgsProcessingParameterBoolean("SKIP_FAILED", "Leave damaged chunks as nodata", False)
        self.add(skip, "--skip-failed", is_advanced=True)
        restart = QgsProcessingParameterBoolean(
            "RESTART", "Begin anew, instead of going on with a run that was cancelled", False
        )
        self.add(restart, "--restart", is_advanced=True)
        add_pixel_coordinates(self)

    def inputs(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback | None,
    ) -> tuple[list[str], dict[str, str]]:
        """Return scene and model."""
        scene = scene_argument(self, parameters, context)
        model = no_option(self.parameterAsFile(parameters, "MODEL", context))
        return [scene, model], {"the scene": scene, "the model": model}

    def results(
        self, outputs: dict[str, str], said: Conversation, context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return the files beside the map, and load those that were asked for."""
        stem, suffix = os.path.splitext(outputs["OUTPUT"])
        found = {}
        for name in BESIDE:
            path = f"{stem}_{name}{suffix}"
            if os.path.exists(path):
                found[name.upper()] = path
                if name in LAYERS:
                    load_styled(context, path, outputs["OUTPUT"], name.capitalize())
        return found
