"""Run by QGIS's own Python: opens results as a user would and reports what QGIS made of them.

    python3 qgis_opens.py '{"NAME": {"vector": PATH}, "OTHER": {"raster": SOURCE}}'

A layer may have "sld": PATH beside, a style that is loaded once the layer is open. Prints JSON: for
each layer its CRS, its renderer, its legend, and how many rendered pixels have each colour.
"""

import json
import os
import sys
from collections import Counter

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

SIDE = 200


def rendered(layer):
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setBackgroundColor(QColor("#ffffff"))
    settings.setOutputSize(QSize(SIDE, SIDE))
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    return Counter(image.pixelColor(x, y).name() for y in range(SIDE) for x in range(SIDE))


def legend(layer):
    """Return [code, name, colour] of each class; of renderers without classes nothing."""
    renderer = layer.renderer()
    kind = renderer.type()
    if kind == "categorizedSymbol":
        return [[c.value(), c.label(), c.symbol().color().name()] for c in renderer.categories()]
    if kind == "RuleRenderer":  # what QGIS makes of an SLD, with filters like: code = 7
        rules = renderer.rootRule().children()
        return [
            [r.filterExpression().split(" = ")[1], r.label(), r.symbol().color().name()]
            for r in rules
        ]
    if kind == "paletted":
        return [[int(c.value), c.label, c.color.name()] for c in renderer.classes()]
    return []


def opened(name, vector=None, raster=None, sld=None):
    """Open a layer and say what it looks like."""
    layer = QgsVectorLayer(vector, name, "ogr") if vector else QgsRasterLayer(raster, name)
    if sld:
        message, succeeded = layer.loadSldStyle(sld)
        if not succeeded:
            raise RuntimeError(message)
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "renderer": layer.renderer().type(),
        "legend": legend(layer),
        "colors": rendered(layer),
    }


def main():
    QgsApplication.setPrefixPath("/usr", True)
    app = QgsApplication([], False)
    app.initQgis()
    layers = json.loads(sys.argv[1])
    print(json.dumps({name: opened(name, **source) for name, source in layers.items()}))
    app.exitQgis()


if __name__ == "__main__":
    main()
