"""Class map and reference to accuracy and areas."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from .algorithm import CommandAlgorithm
from .arguments import raster_argument, vector_argument
from .conversation import Conversation, Stages
from .options import add_choice, add_columns, add_map, add_model, add_vector


class AssessAlgorithm(CommandAlgorithm):
    """Estimates how good a class map is."""

    COMMAND = "assess"
    TITLE = "Assess accuracy and areas"
    TAGS = "accuracy,validation,confusion matrix,area estimation,sample,olofsson"
    STAGES: ClassVar[Stages] = {"comparing": (10, 90), "strata": (5, 10)}
    HELP = """
    Estimates overall, user's and producer's accuracy and the area of each class, with 95 %
    intervals, from points or polygons whose class is known. Tables are in the log, all figures
    in the file.

    Points that hsi-pipeline sample has drawn carry their design, and give estimates of the
    map. Other labels, which nobody has drawn at random, tell of themselves alone; so does a
    selection of them.

    Labels that the model has learnt from say nothing. Where they are, it warns.
    """

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Define the parameters."""
        add_map(self)
        add_vector(
            self, "REFERENCE", "Points or polygons whose class is known",
            text="Edits have to be saved first.",
        )  # fmt: skip
        add_columns(self, "REFERENCE")
        add_choice(
            self, "DESIGN", "How they were drawn", "--design",
            ("auto", "stratified", "simple", "none"), is_advanced=False,
            text="auto: what the file says. stratified, simple: at random, within the classes of "
            "the map or all over it. none: not at random.",
        )  # fmt: skip
        add_model(
            self, "--model", optional=True,
            text="That made the map, to warn if it was trained on these very labels; not needed "
            "where it lies beside the map.",
        )  # fmt: skip
        strata = QgsProcessingParameterRasterLayer("STRATA", "Strata", optional=True)
        text = "Raster whose classes are the strata, where they are not the map's."
        self.add(strata, "--strata", text=text, is_advanced=True)
        merge = QgsProcessingParameterString("MERGE", "Classes to join before", optional=True)
        text = "Such as impervious=roof,pavement; several with semicolons between."
        self.add(merge, text=text, is_advanced=True)
        record = QgsProcessingParameterBoolean("RECORD", "Write figures into the map, too", False)
        self.add(record, "--record", is_advanced=True)
        figures = QgsProcessingParameterFileDestination(
            "OUTPUT", "Figures", fileFilter="JSON files (*.json)"
        )
        self.add(figures, "--out", text="'Report on a class map' shows them.")
        for name, title in (
            ("OVERALL_ACCURACY", "Overall accuracy"),
            ("HALF_WIDTH", "Half of its 95 % interval"),
            ("KAPPA", "Kappa"),
        ):
            self.addOutput(QgsProcessingOutputNumber(name, title))

    def inputs(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback | None,
    ) -> tuple[list[str], dict[str, str]]:
        """Return map and reference."""
        class_map = raster_argument(self, "MAP", parameters, context, is_map=True)
        # the file of a sample also says how it was drawn
        reference, layer = vector_argument(
            self, "REFERENCE", parameters, context, feedback, keep_file=True
        )
        arguments = [class_map, reference]
        if layer:
            arguments += ["--layer", layer]
        merges = self.parameterAsString(parameters, "MERGE", context).split(";")
        for merge in filter(None, map(str.strip, merges)):
            arguments += ["--merge", merge]
        return arguments, {"the class map": class_map, "the reference": reference}

    def results(
        self, outputs: dict[str, str], said: Conversation, context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return the figures that models and scripts go on with."""
        with open(outputs["OUTPUT"], encoding="utf-8") as file:
            figures = json.load(file)
        overall = figures["overall_accuracy"]
        low, high = overall["low"], overall["high"]
        return {
            "OVERALL_ACCURACY": overall["value"],
            "HALF_WIDTH": None if low is None or high is None else (high - low) / 2,
            "KAPPA": figures["kappa"]["value"],
        }
