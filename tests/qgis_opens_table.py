"""Run by QGIS's own Python: opens a table of PostGIS as a user would and reports what it sees.

    python3 qgis_opens_table.py FOLDER_OF_SOCKET PORT DATABASE SCHEMA TABLE

Prints JSON: its CRS, number of features, legend, and how many rendered pixels have each colour.
"""

import json
import sys

from qgis.core import QgsApplication, QgsDataSourceUri, QgsVectorLayer
from qgis_opens import legend, rendered


def main():
    folder, port, database, schema, table = sys.argv[1:]
    QgsApplication.setPrefixPath("/usr", True)
    app = QgsApplication([], False)
    app.initQgis()
    uri = QgsDataSourceUri()
    uri.setConnection(folder, port, database, "postgres", "")
    uri.setDataSource(schema, table, "geometry")
    layer = QgsVectorLayer(uri.uri(False), "polygons", "postgres")
    seen = {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "count": layer.featureCount(),
        "legend": legend(layer),
        "colors": rendered(layer),
    }
    print(json.dumps(seen))
    del layer
    app.exitQgis()


if __name__ == "__main__":
    main()
