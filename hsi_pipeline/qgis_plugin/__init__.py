"""A Processing provider for QGIS that runs the command line of an environment of its own.

QGIS loads a copy of this folder as the plugin `hsi_pipeline`, with a Python that knows nothing of
this package and may be as old as 3.9: the modules here import qgis, the standard library and each
other, and nothing else.
"""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plugin; QGIS calls this.

    Args:
        iface: QGIS's window; None where there is none, as in qgis_process.
    """
    from .plugin import HsiPipelinePlugin

    return HsiPipelinePlugin(iface)
