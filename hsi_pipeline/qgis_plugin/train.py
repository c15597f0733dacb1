"""Scene and labels to a model."""

from __future__ import annotations

from typing import Any, ClassVar

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
    QgsProcessingUtils,
)

from .algorithm import CommandAlgorithm
from .arguments import scene_argument, vector_argument
from .conversation import Conversation, Stages
from .options import (
    add_choice,
    add_columns,
    add_device,
    add_mask,
    add_pixel_coordinates,
    add_scene,
    add_seed,
    add_vector,
)

MODELS = (
    "hyperloopnet-fusion",
    "hyperloopnet",
    "hyperloopnet-no-attention",
    "spectral",
    "random_forest",
    "svm",
    "logistic_regression",
)


class TrainAlgorithm(CommandAlgorithm):
    """Trains a model."""

    COMMAND = "train"
    TITLE = "Train a model"
    TAGS = "learn,deep learning,random forest,svm,neural network,labels,ground truth"
    STAGES: ClassVar[Stages] = {"training": (5, 55), "on all labels": (60, 95)}
    HELP = """
    Learns from a scene and from polygons or points of known land cover, and writes a model
    that 'Classify a scene' uses: on this scene, and on others, of other sensors too.

    A fifth of the labels, set apart in space, tells how good the model is; then it learns from
    all of them. It says so where a simpler model does better. Selected features only, filters
    and unsaved edits of the layer are honoured.

    Draw labels well inside of their fields, in many places, ten or more for each class.
    """

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Define the parameters."""
        add_scene(self)
        add_vector(
            self, "LABELS", "Polygons or points of known land cover",
            text="In any CRS. Pixels are labelled by their centre.",
        )  # fmt: skip
        add_columns(self, "LABELS")
        add_choice(
            self, "MODEL_KIND", "Kind of model", "", MODELS,
            text="Networks look at the neighbourhood of a pixel, except 'spectral'. 'hyperloopnet' "
            "is of the published size, and slow without a GPU.", is_advanced=False,
        )  # fmt: skip
        epochs = QgsProcessingParameterNumber("EPOCHS", "Epochs", optional=True, minValue=1)
        self.add(epochs, "--epochs", text="Rounds of training; 10 if nothing is given.")
        self._add_rare()
        model = QgsProcessingParameterFileDestination(
            "OUTPUT", "Model", fileFilter="Models (*.safetensors)"
        )
        self.add(model, "--out", text="Keep it: scenes of other sensors and dates can use it, too.")
        accuracy = "Overall accuracy on the validation labels"
        self.addOutput(QgsProcessingOutputNumber("VALIDATION_ACCURACY", accuracy))

    def _add_rare(self) -> None:
        """Define what is rarely needed."""
        real = QgsProcessingParameterNumber.Type.Double
        self.add(
            QgsProcessingParameterMultipleLayers(
                "ALSO", "Further scenes to learn from", QgsProcessing.SourceType.TypeFile,
                optional=True,
            ),
            text="Of any sensor; the labels hold for them, too.", is_advanced=True,
        )  # fmt: skip
        self.add(
            QgsProcessingParameterString("WAVELENGTHS", "Bands to learn on", optional=True),
            "--wavelengths",
            text="START:STOP:STEP in nm, such as 420:2450:10; else those of the scenes in common.",
            is_advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber(
                "BAND_DROPOUT", "Largest share of bands hidden at random", real, 0.0,
                minValue=0, maxValue=0.95,
            ),
            "--band-dropout",
            text="So that bands which other scenes lack do less harm.", is_advanced=True,
        )  # fmt: skip
        self.add(
            QgsProcessingParameterNumber(
                "VALIDATION_SHARE", "Share of the labels for validation", real, 0.2,
                minValue=0.01, maxValue=0.9,
            ),
            "--validation-share", is_advanced=True,
        )  # fmt: skip
        self.add(
            QgsProcessingParameterNumber(
                "GUARD", "Pixels between training and validation", optional=True, minValue=0
            ),
            "--guard",
            text="As far as the network reaches, if nothing is given.",
            is_advanced=True,
        )
        self.add(
            QgsProcessingParameterNumber(
                "TOLERANCE_NM", "Distance of matching bands in nm", real, 5.0, minValue=0
            ),
            "--tolerance-nm",
            text="How far bands of other scenes may lie off.",
            is_advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean(
                "BASELINES", "Compare a network with simpler classifiers", True
            ),
            "--no-baselines",
            is_advanced=True,
        )
        self.add(
            QgsProcessingParameterString(
                "OTHER_MODEL", "Another classifier of scikit-learn, by its name", optional=True
            ),
            text="Instead of the kind above, such as ExtraTreesClassifier.",
            is_advanced=True,
        )
        add_seed(self)
        add_device(self)
        add_mask(self)
        add_pixel_coordinates(self)

    def inputs(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback | None,
    ) -> tuple[list[str], dict[str, str]]:
        """Return scene and labels."""
        scene = scene_argument(self, parameters, context)
        target = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        if feedback is not None and target.startswith(QgsProcessingUtils.tempFolder()):
            feedback.pushWarning("The model is temporary: QGIS removes it when it is closed.")
        labels, layer = vector_argument(self, "LABELS", parameters, context, feedback)
        arguments = [scene, labels]
        if layer:
            arguments += ["--layer", layer]
        further = self.parameterAsFileList(parameters, "ALSO", context)
        for one in filter(None, further):
            arguments += ["--also", one]
        other = self.parameterAsString(parameters, "OTHER_MODEL", context).strip()
        kind = other or self.parameterAsEnumString(parameters, "MODEL_KIND", context)
        if kind != MODELS[0]:
            arguments += ["--model", kind]
        return arguments, {"the scene": scene, "the labels": labels}

    def results(
        self, outputs: dict[str, str], said: Conversation, context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return how good the model is."""
        validation = said.results.get("train", {}).get("validation", {})
        return {"VALIDATION_ACCURACY": validation.get("overall_accuracy")}
