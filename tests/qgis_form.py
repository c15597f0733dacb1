"""Run by QGIS's own Python: opens a sample as an interpreter would and reports what QGIS shows.

    python3 qgis_form.py SAMPLE.gpkg PICTURE.png

Prints JSON: the fields and how they are edited, the form as QGIS builds it, the columns of the
attribute table, the columns of the table of the design; and of a picture of the first point, one
and a half pixels of 30 m wide, how many of its pixels have each colour, and where it is yellow on
the row in the middle.
"""

import json
import sys

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.gui import QgsAttributeForm, QgsGui
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
from qgis.PyQt.QtWidgets import QComboBox, QLabel
from qgis_opens import Counter

SIDE = 300
METRES = 45


def picture(layer, path):
    """Draw the first point at the side of `METRES` and count its colours."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setBackgroundColor(QColor("#ffffff"))
    settings.setOutputSize(QSize(SIDE, SIDE))
    settings.setDestinationCrs(layer.crs())
    point = next(layer.getFeatures()).geometry().asPoint()
    half = METRES / 2
    settings.setExtent(
        QgsRectangle(point.x() - half, point.y() - half, point.x() + half, point.y() + half)
    )
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    image.save(path)
    middle = [image.pixelColor(x, SIDE // 2).name() for x in range(SIDE)]
    colors = Counter(image.pixelColor(x, y).name() for y in range(SIDE) for x in range(SIDE))
    yellow = [x for x, color in enumerate(middle) if color == "#ffff00"]
    return {"colors": colors, "yellow_on_middle_row": yellow}


def form(layer):
    """Return what the form shows: its labels, and the choices of its list."""
    layer.startEditing()
    widget = QgsAttributeForm(layer, next(layer.getFeatures()))
    lists = widget.findChildren(QComboBox)
    return {
        "labels": [label.text() for label in widget.findChildren(QLabel) if label.text()],
        "lists": [[box.itemText(i) for i in range(box.count())] for box in lists],
        "chosen": [box.currentText() for box in lists],
    }


def main():
    path, image = sys.argv[1:]
    QgsApplication.setPrefixPath("/usr", True)
    app = QgsApplication([], True)
    app.initQgis()
    QgsGui.editorWidgetRegistry().initEditors()
    layer = QgsVectorLayer(f"{path}|layername=sample", "sample", "ogr")
    design = QgsVectorLayer(f"{path}|layername=design", "design", "ogr")
    fields = layer.fields()
    names = [field.name() for field in fields]
    widgets = {field.name(): field.editorWidgetSetup() for field in fields}
    config = layer.editFormConfig()
    seen = {
        "valid": layer.isValid() and design.isValid(),
        "crs": layer.crs().authid(),
        "count": layer.featureCount(),
        "fields": names,
        "widgets": {name: setup.type() for name, setup in widgets.items()},
        "choices": widgets["reference"].config().get("map"),
        "read_only": [name for i, name in enumerate(names) if config.readOnly(i)],
        "columns": [c.name for c in layer.attributeTableConfig().columns() if not c.hidden],
        "design": [field.name() for field in design.fields()],
        "picture": picture(layer, image),
        "form": form(layer),
    }
    print(json.dumps(seen))
    layer.rollBack()
    del layer, design
    app.exitQgis()


if __name__ == "__main__":
    main()
