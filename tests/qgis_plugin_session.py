"""Run by QGIS's own Python: uses the plugin of a profile as people and scripts do.

    python3 qgis_plugin_session.py PLUGINS STEPS.json

PLUGINS is the folder of plugins, STEPS.json a list of [step, arguments]. Prints a JSON list: what
each step has to say. The log of a run is what QGIS's dialog shows.
"""

import json
import os
import sys
import threading
import time
from collections import Counter

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from qgis.core import (
    QgsApplication,
    QgsFeatureRequest,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingParameterDefinition,
    QgsProject,
    QgsRasterLayer,
    QgsSettings,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QEventLoop, QSize
from qgis.PyQt.QtGui import QColor

SIDE = 200
ADVANCED = QgsProcessingParameterDefinition.Flag.FlagAdvanced


def find(algorithm):
    """Return an algorithm by its id, or a model by its file."""
    if not algorithm.endswith(".model3"):
        return QgsApplication.processingRegistry().createAlgorithmById(algorithm)
    model = QgsProcessingModelAlgorithm()
    assert model.fromFile(algorithm)
    return model


def given(value):
    """Return a parameter's value, of what JSON can say: {"layer": NAME} is one of the project."""
    if not isinstance(value, dict):
        return value
    layer = QgsProject.instance().mapLayersByName(value["layer"])[0]
    if value.get("selected"):
        return QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
    return layer


def outcome(run):
    """Return the results and the log of a run, or its error."""
    feedback = QgsProcessingFeedback(False)
    shares = []
    feedback.progressChanged.connect(shares.append)
    said = {}
    try:
        said["results"] = run(feedback)
    except QgsProcessingException as error:
        said["error"] = str(error)
    said |= {"log": feedback.textLog(), "html": feedback.htmlLog(), "shares": shares}
    return said


def run(algorithm, parameters, load=False):
    """Run an algorithm, and load its results if wanted."""
    import processing

    parameters = {name: given(value) for name, value in parameters.items()}
    way = processing.runAndLoadResults if load else processing.run
    return outcome(lambda feedback: way(find(algorithm), parameters, feedback=feedback))


def inputs(algorithm, parameters):
    """Return the arguments that an algorithm makes of its inputs."""
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    return find(algorithm).inputs(parameters, context, QgsProcessingFeedback(False))[0]


def choose(python):
    """Name another interpreter in QGIS's options; "" for none."""
    QgsSettings().setValue("Processing/Configuration/HSI_PIPELINE_PYTHON", python)


def batch(algorithm, rows):
    """Run one algorithm for several rows of parameters, as QGIS's batch dialog does."""
    from processing.gui.AlgorithmExecutor import execute

    one, context = find(algorithm), QgsProcessingContext()
    context.setProject(QgsProject.instance())
    return outcome(lambda feedback: [execute(one, row, context, feedback) for row in rows])


def describe(provider):
    """Return what the dialogs of a provider's algorithms are made of."""
    return {
        algorithm.name(): {
            "help": algorithm.shortHelpString(),
            "icon": algorithm.icon().isNull(),
            "outputs": [one.name() for one in algorithm.outputDefinitions()],
            "parameters": {
                one.name(): {
                    "title": one.description(),
                    "help": one.help(),
                    "default": one.defaultValue(),
                    "advanced": bool(one.flags() & ADVANCED),
                    "flag": algorithm._flags.get(one.name(), ""),
                }
                for one in algorithm.parameterDefinitions()
            },
        }
        for algorithm in map(
            find,
            (
                one.id()
                for one in QgsApplication.processingRegistry().providerById(provider).algorithms()
            ),
        )
    }


def cancel(algorithm, parameters, meanwhile):
    """Cancel a run in a background thread once its work goes on, after another run has been tried.

    Returns what the other one said, the processes of the first one's group before and how long
    after it was cancelled the last of them was gone, and the log.
    """
    context, feedback = QgsProcessingContext(), QgsProcessingFeedback(False)
    context.setProject(QgsProject.instance())
    work = threading.Event()
    feedback.progressChanged.connect(lambda share: share > 4 and work.set())
    loop = QEventLoop()
    task = QgsProcessingAlgRunnerTask(find(algorithm), parameters, context, feedback)
    ended = []
    task.executed.connect(lambda success, results: (ended.append([success, results]), loop.quit()))
    QgsApplication.taskManager().addTask(task)
    while not work.wait(0.05):
        QgsApplication.processEvents()
    group = children()
    other = run(algorithm, meanwhile)
    started = time.monotonic()
    feedback.cancel()
    while any(map(is_alive, group)):
        QgsApplication.processEvents()
        time.sleep(0.02)
    seconds = time.monotonic() - started
    if not ended:
        loop.exec_()
    return {
        "other": other,
        "children": len(group),
        "seconds": seconds,
        "ended": ended,
        "log": feedback.textLog(),
    }


def children():
    """Return the processes that this one has started."""
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
        own = file.read().split()
    for thread in os.listdir(f"/proc/{os.getpid()}/task"):
        with open(f"/proc/{os.getpid()}/task/{thread}/children") as file:
            own += file.read().split()
    return sorted(set(own))


def is_alive(process):
    """Tell whether a process is there and no zombie."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def add(name, vector=None, raster=None, provider=None):
    """Add a layer to the project."""
    if vector:
        layer = QgsVectorLayer(vector, name, "ogr")
    else:
        layer = QgsRasterLayer(raster, name, provider or "gdal")
    assert layer.isValid()
    QgsProject.instance().addMapLayer(layer)


def add_copy(name, of):
    """Add a copy of a vector layer that lives in memory alone."""
    copy = given({"layer": of}).materialize(QgsFeatureRequest())
    copy.setName(name)
    QgsProject.instance().addMapLayer(copy)


def edit(name, field, value):
    """Change the first feature of a layer, and do not save."""
    layer = given({"layer": name})
    layer.startEditing()
    first = next(layer.getFeatures())
    layer.changeAttributeValue(first.id(), layer.fields().indexOf(field), value)


def give_up(name):
    """Forget unsaved edits."""
    given({"layer": name}).rollBack()


def select(name, expression):
    """Select features."""
    given({"layer": name}).selectByExpression(expression)


def look(name):
    """Return what a layer of the project looks like."""
    layer = given({"layer": name})
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setBackgroundColor(QColor("#ffffff"))
    settings.setOutputSize(QSize(SIDE, SIDE))
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setFlag(QgsMapSettings.Flag.Antialiasing, False)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    tree = QgsProject.instance().layerTreeRoot().findLayer(layer.id())
    return {
        "renderer": layer.renderer().type(),
        "source": layer.source(),
        "ticked": tree.isVisible(),
        "features": layer.featureCount() if isinstance(layer, QgsVectorLayer) else None,
        "colors": Counter(image.pixelColor(x, y).name() for y in range(SIDE) for x in range(SIDE)),
    }


STEPS = {
    step.__name__: step
    for step in (
        run,
        inputs,
        choose,
        batch,
        describe,
        cancel,
        add,
        add_copy,
        edit,
        give_up,
        select,
        look,
    )
}


def main():
    plugins, steps = sys.argv[1:]
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], True)
    application.initQgis()
    sys.path += [os.path.join(QgsApplication.pkgDataPath(), "python", "plugins"), plugins]
    from processing.core.Processing import Processing

    Processing.initialize()
    from hsi_pipeline import classFactory

    plugin = classFactory(None)
    plugin.initGui()
    with open(steps, encoding="utf-8") as file:
        said = [STEPS[step](**arguments) for step, arguments in json.load(file)]
    print(json.dumps(said, default=str))
    sys.stdout.flush()
    QgsProject.instance().clear()
    plugin.unload()
    application.exitQgis()


if __name__ == "__main__":
    main()
