"""A workflow file to all its results."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputFolder,
    QgsProcessingOutputHtml,
    QgsProcessingOutputRasterLayer,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
)

from .algorithm import CommandAlgorithm
from .conversation import Conversation, Stages
from .layers import load_new
from .options import add_scheduler

_RESULTS = {
    "map.tif": ("MAP", "Class map"),
    "landcover.gpkg": ("POLYGONS", "Polygons"),
    "report.html": ("REPORT", "Report"),
}


class RunAlgorithm(CommandAlgorithm):
    """Runs a workflow file."""

    COMMAND = "run"
    TITLE = "Run a workflow file"
    TAGS = "workflow,yaml,batch,archive"
    STAGES: ClassVar[Stages] = {
        "training": (3, 25), "on all labels": (25, 40), "evaluating": (40, 45),
        "classifying": (45, 75), "writing": (75, 78), "comparing": (78, 82),
        "minimum area": (82, 86), "polygons": (86, 92), "reading the map": (92, 97),
    }  # fmt: skip
    HELP = """
    Runs all steps of a workflow file (YAML): from training, or a trained model, to class map,
    assessment, polygons, report and STAC item, or the maps of a whole archive of scenes. The
    file says where results go.

    The map is loaded if classify.formats names tif, polygons if polygonize.formats has gpkg,
    which is the default.
    """

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Define the parameters."""
        workflow = QgsProcessingParameterFile(
            "WORKFLOW", "Workflow", fileFilter="Workflows (*.yaml *.yml)"
        )
        self.add(workflow, text="Relative paths in it are relative to its own folder.")
        for name, title, flag, is_advanced in (
            ("OVERWRITE", "Replace results of an earlier run", "--overwrite", False),
            ("RESTART", "Classify anew, instead of going on with a run that was cancelled",
             "--restart", True),
            ("FORCE", "Archive: map all scenes anew", "--force", True),
            ("RETRY_FAILED", "Archive: try faulty scenes again", "--retry-failed", True),
            ("DRY_RUN", "Archive: only say what there is to do", "--dry-run", True),
        ):  # fmt: skip
            switch = QgsProcessingParameterBoolean(name, title, False)
            self.add(switch, flag, is_advanced=is_advanced)
        workers = QgsProcessingParameterNumber(
            "WORKERS", "Archive: processes", optional=True, minValue=0
        )
        self.add(workers, "--workers", text="One a core, if nothing is given.", is_advanced=True)
        add_scheduler(self)
        load = QgsProcessingParameterBoolean("LOAD", "Load map and polygons", True)
        self.add(load)
        self.addOutput(QgsProcessingOutputFolder("FOLDER", "Folder of the results"))
        self.addOutput(QgsProcessingOutputRasterLayer("MAP", "Class map"))
        self.addOutput(QgsProcessingOutputVectorLayer("POLYGONS", "Polygons"))
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))

    def inputs(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback | None,
    ) -> tuple[list[str], dict[str, str]]:
        """Return the workflow."""
        self._load = self.parameterAsBool(parameters, "LOAD", context)
        workflow = os.path.abspath(self.parameterAsFile(parameters, "WORKFLOW", context))
        return [workflow], {}

    def results(
        self, outputs: dict[str, str], said: Conversation, context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return what was written, and have it loaded."""
        written = {os.path.basename(path): path for path in said.outputs}
        found: dict[str, Any] = {}
        for file, (name, title) in _RESULTS.items():
            if file not in written:
                continue
            found[name] = written[file]
            if self._load and name != "REPORT":
                load_new(context, written[file], title)
        if said.outputs:
            found["FOLDER"] = os.path.dirname(said.outputs[0])
        return found
