"""The algorithms as a group of the Processing toolbox."""

from __future__ import annotations

import os

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithm import ICONS
from .assess import AssessAlgorithm
from .classify import ClassifyAlgorithm
from .environment import PYTHON_SETTING, plugin_version
from .polygonize import PolygonizeAlgorithm
from .report import ReportAlgorithm
from .train import TrainAlgorithm
from .workflow import RunAlgorithm

ALGORITHMS = (
    TrainAlgorithm,
    ClassifyAlgorithm,
    PolygonizeAlgorithm,
    AssessAlgorithm,
    ReportAlgorithm,
    RunAlgorithm,
)


class HsiPipelineProvider(QgsProcessingProvider):
    """All algorithms, and what they can write."""

    def id(self) -> str:
        """Return what the ids of the algorithms begin with."""
        return "hsi_pipeline"

    def name(self) -> str:
        """Return the name in the toolbox."""
        return "hsi_pipeline"

    def longName(self) -> str:
        """Return the name with a word on what it is for."""
        return "hsi_pipeline: land cover from hyperspectral scenes"

    def versionInfo(self) -> str:
        """Return the version."""
        return plugin_version()

    def icon(self) -> QIcon:
        """Return the icon."""
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        """Return the icon's file."""
        return os.path.join(ICONS, "hsi_pipeline.svg")

    def load(self) -> bool:
        """Add the algorithms, and the interpreter to QGIS's options."""
        # of QGIS, and found once its Processing plugin is loaded, as it is by now
        from processing.core.ProcessingConfig import ProcessingConfig, Setting

        ProcessingConfig.settingIcons[self.name()] = self.icon()
        chosen = Setting(
            self.name(),
            PYTHON_SETTING,
            "Python of the environment with hsi-pipeline, where it is not the one that installed "
            "this plugin",
            "",
            valuetype=Setting.FILE,
        )
        chosen.read()
        ProcessingConfig.addSetting(chosen)
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Take the interpreter out of QGIS's options."""
        from processing.core.ProcessingConfig import ProcessingConfig

        ProcessingConfig.settings.pop(PYTHON_SETTING, None)

    def loadAlgorithms(self) -> None:
        """Add the algorithms."""
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        """Return what class maps are written as, of what QGIS opens styled."""
        return ["tif"]

    def defaultRasterFileExtension(self) -> str:
        """Return GeoTIFF's suffix, whatever the user's default is."""
        return "tif"

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        """Return what polygons are written as, of what every QGIS opens."""
        return ["gpkg", "fgb", "geojson", "shp"]

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:
        """Return GeoPackage's suffix, whatever the user's default is."""
        return "gpkg"

    def supportsNonFileBasedOutput(self) -> bool:
        """Return False: outputs are files."""
        return False
