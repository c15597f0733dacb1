"""Class map, and what is known of it, to a page."""

from __future__ import annotations

from typing import Any, ClassVar

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterString,
)

from .algorithm import CommandAlgorithm
from .arguments import raster_argument, scene_argument, vector_argument
from .conversation import Stages
from .options import add_map, add_model, add_scene, add_vector


class ReportAlgorithm(CommandAlgorithm):
    """Writes a report on a class map."""

    COMMAND = "report"
    TITLE = "Report on a class map"
    TAGS = "html,figures,spectra,accuracy"
    STAGES: ClassVar[Stages] = {"reading the map": (10, 60)}
    HELP = """
    Shows a class map and how good it is in one HTML file that needs no network: pictures, map
    with swipe and layers, areas and accuracy with intervals, calibration, spectra, provenance.
    What is not given the report does without, and says so.

    Its numbers go to a file of the same name that ends in .json.
    """

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Define the parameters."""
        add_map(self)
        add_scene(self, is_needed=False)
        text = "That made the map: calibration and training."
        add_model(self, "--model", optional=True, text=text)
        add_vector(
            self, "POLYGONS", "Polygons to show", with_points=False, optional=True,
            text="With their attributes, in any CRS.",
        )  # fmt: skip
        assessment = QgsProcessingParameterFile(
            "ASSESSMENT", "Figures of 'Assess accuracy and areas'",
            fileFilter="JSON files (*.json)", optional=True,
        )  # fmt: skip
        self.add(assessment, "--assessment")
        title = QgsProcessingParameterString("TITLE", "Heading", optional=True)
        self.add(title, "--title", text="Made of the scene's name, if nothing is given.")
        figures = QgsProcessingParameterFolderDestination(
            "FIGURES", "Folder for figures", optional=True, createByDefault=False
        )
        self.add(figures, "--figures", text="PNG of 300 dpi, for papers.", is_advanced=True)
        page = QgsProcessingParameterFileDestination(
            "OUTPUT", "Report", fileFilter="HTML files (*.html)"
        )
        self.add(page, "--out")

    def inputs(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback | None,
    ) -> tuple[list[str], dict[str, str]]:
        """Return the map, and what there is besides."""
        class_map = raster_argument(self, "MAP", parameters, context, is_map=True)
        scene = scene_argument(self, parameters, context, is_needed=False)
        polygons, layer = vector_argument(self, "POLYGONS", parameters, context, feedback)
        arguments = [class_map]
        for flag, text in (("--scene", scene), ("--polygons", polygons), ("--layer", layer)):
            arguments += [flag, text] if text else []
        read = {"the class map": class_map, "the scene": scene, "the polygons": polygons}
        return arguments, read
