"""What QGIS loads: it adds the provider, and takes it away."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication

from .provider import HsiPipelineProvider


class HsiPipelinePlugin:
    """The plugin, with or without a window."""

    def __init__(self, iface: Any) -> None:
        """Nothing is done before QGIS asks."""
        self._provider: HsiPipelineProvider | None = None

    def initProcessing(self) -> None:
        """Add the algorithms; all that qgis_process asks of a plugin."""
        self._provider = HsiPipelineProvider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Add the algorithms to the toolbox."""
        self.initProcessing()

    def unload(self) -> None:
        """Take the algorithms away."""
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
