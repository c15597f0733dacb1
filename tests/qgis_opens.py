"""Run by QGIS's own Python: opens results as a user would and reports what QGIS made of them.

    python3 qgis_opens.py POLYGONS RASTER STORE

Prints JSON: for each layer its CRS, its legend, and how many rendered pixels have each colour.
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


def describe(layer, legend):
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "renderer": layer.renderer().type(),
        "legend": legend,
        "colors": rendered(layer),
    }


def main():
    polygons, raster, store = sys.argv[1:]
    QgsApplication.setPrefixPath("/usr", True)
    app = QgsApplication([], False)
    app.initQgis()
    vector = QgsVectorLayer(polygons, "polygons", "ogr")
    cog = QgsRasterLayer(raster, "raster")
    zarr = QgsRasterLayer(f'ZARR:"{store}":/class', "store")
    result = {
        "polygons": describe(
            vector,
            [[c.value(), c.label(), c.symbol().color().name()]
             for c in vector.renderer().categories()],
        ),
        "raster": describe(
            cog, [[int(c.value), c.label, c.color.name()] for c in cog.renderer().classes()]
        ),
        "store": describe(zarr, []),
    }  # fmt: skip
    print(json.dumps(result))
    del vector, cog, zarr
    app.exitQgis()


if __name__ == "__main__":
    main()
