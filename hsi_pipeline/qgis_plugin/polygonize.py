"""Class map to polygons."""

from __future__ import annotations

from typing import Any, ClassVar

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDistance,
    QgsProcessingParameterNumber,
    QgsProcessingParameterVectorDestination,
)

from .algorithm import CommandAlgorithm
from .arguments import raster_argument, vector_argument
from .conversation import Stages
from .options import add_choice, add_chunk, add_map, add_scheduler, add_vector


class PolygonizeAlgorithm(CommandAlgorithm):
    """Makes polygons of a class map."""

    COMMAND = "polygonize"
    TITLE = "Make polygons of a class map"
    TAGS = "polygonize,vectorize,land cover,minimum mapping unit,generalize,parcels,zonal"
    STAGES: ClassVar[Stages] = {"minimum area": (5, 45), "polygons": (45, 95)}
    HELP = """
    Makes a polygon of each connected region of a class, with its class, area, perimeter and
    confidence. The layer comes with classes by name and colour.

    Regions below the minimum area join the neighbour with the longest common border; nothing
    is dropped. Simplified and smoothed neighbours still share their sides: no gaps, no
    overlaps. A tolerance of 1.5 to 2 pixels takes out the stairs.

    With polygons of your own, such as parcels, the result is these instead, with the majority,
    and area and share of each class.
    """

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Define the parameters."""
        add_map(self)
        area = QgsProcessingParameterNumber(
            "MIN_AREA", "Minimum area in m²", QgsProcessingParameterNumber.Type.Double, 0.0,
            minValue=0,
        )  # fmt: skip
        self.add(area, "--min-area", text="Minimum mapping unit; 0 keeps all.")
        tolerance = QgsProcessingParameterDistance(
            "SIMPLIFY", "Tolerance of simplification", 0.0, "MAP", minValue=0
        )
        self.add(tolerance, "--simplify", text="In units of the map; 0 leaves pixels' sides.")
        smooth = QgsProcessingParameterBoolean("SMOOTH", "Smooth: cut corners", False)
        self.add(smooth, "--smooth")
        add_vector(
            self, "BY", "Polygons of your own, to be summarised instead", with_points=False,
            optional=True, text="They keep their columns and CRS.",
        )  # fmt: skip
        add_choice(
            self, "JOIN", "Small regions join by", "--join", ("border", "probability"),
            text="border: the neighbour with the longest common one; probability: that of the most "
            "probable class, of maps that have probabilities.",
        )  # fmt: skip
        add_choice(
            self, "CONNECTIVITY", "Connectivity", "--connectivity", ("4", "8"),
            text="8 joins pixels that touch at a corner.",
        )  # fmt: skip
        add_chunk(self)
        add_scheduler(self)
        output = QgsProcessingParameterVectorDestination(
            "OUTPUT", "Polygons", QgsProcessing.SourceType.TypeVectorPolygon
        )
        self.add(output, "--out", text="GeoPackage with its style inside, or another format.")

    def inputs(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback | None,
    ) -> tuple[list[str], dict[str, str]]:
        """Return the map, and the user's own polygons."""
        class_map = raster_argument(self, "MAP", parameters, context, is_map=True)
        by, layer = vector_argument(self, "BY", parameters, context, feedback)
        arguments = [class_map]
        if by:
            arguments += ["--by", by]
        if layer:
            arguments += ["--by-layer", layer]
        return arguments, {"the class map": class_map, "your own polygons": by}
