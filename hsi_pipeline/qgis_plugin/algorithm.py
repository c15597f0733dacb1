"""What all algorithms share: parameters that are options of a command, and how it is run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsSettings,
)
from qgis.PyQt.QtGui import QIcon

from .arguments import option
from .conversation import Conversation, Stages
from .environment import PYTHON_SETTING, MissingEnvironmentError, find_python
from .layers import check_target, load_styled, reload_layers
from .running import run_command

ICONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "icons")


class CommandAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that runs a command of hsi-pipeline."""

    COMMAND: ClassVar[str]
    """Its name, which is also the algorithm's."""
    TITLE: ClassVar[str]
    """Name in the toolbox."""
    HELP: ClassVar[str]
    """What it does, in paragraphs with blank lines between."""
    TAGS: ClassVar[str] = ""
    """Words to search by, with commas between."""
    STAGES: ClassVar[Stages] = {}
    """How far the bar goes; see `Conversation`."""
    HINTS: ClassVar[Mapping[str, str]] = {}
    """What to add to an error that has some words in it."""

    def __init__(self) -> None:
        """The parameters come with `initAlgorithm`."""
        super().__init__()
        self._flags: dict[str, str] = {}
        self._python = ""
        self._arguments: list[str] = []
        self._written: list[str] = []
        self.copied: dict[str, str] = {}
        """What to call copies of layers, which the user does not know."""

    # What a command says of itself

    def inputs(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback | None,
    ) -> tuple[list[str], dict[str, str]]:
        """Return the arguments that are no plain options, and the files that they name.

        Args:
            parameters: As QGIS gives them.
            context: Likewise.
            feedback: Told of layers that are copied; None only checks, and copies nothing.

        Returns:
            Arguments, and by what it is each file that is read.

        Raises:
            QgsProcessingException: An input cannot be used.
        """
        raise NotImplementedError

    def results(
        self, outputs: dict[str, str], said: Conversation, context: QgsProcessingContext
    ) -> dict[str, Any]:
        """Return outputs that no parameter stands for, and have results loaded.

        Args:
            outputs: Files written, by parameter.
            said: What the command said.
            context: Where results to be loaded are noted.
        """
        return {}

    # What QGIS asks

    def name(self) -> str:
        """Return the id without the provider's."""
        return self.COMMAND

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return self.TITLE

    def shortHelpString(self) -> str:
        """Return what the dialog shows beside the parameters."""
        # QGIS makes a paragraph of each line
        paragraphs = self.HELP.split("\n\n")
        return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

    def tags(self) -> list[str]:
        """Return words to search by."""
        return [tag.strip() for tag in f"hyperspectral,{self.TAGS}".split(",") if tag.strip()]

    def icon(self) -> QIcon:
        """Return the icon."""
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        """Return the icon's file."""
        return os.path.join(ICONS, f"{self.COMMAND}.svg")

    def createInstance(self) -> CommandAlgorithm:
        """Return a new one."""
        return type(self)()

    def canExecute(self) -> tuple[bool, str]:
        """Tell whether the environment is there; it is not started for that."""
        try:
            find_python(_chosen_python())
        except MissingEnvironmentError as error:
            return False, str(error)
        return True, ""

    def checkParameterValues(
        self, parameters: dict[str, Any], context: QgsProcessingContext
    ) -> tuple[bool, str]:
        """Check what can be known before the run."""
        fits, message = super().checkParameterValues(parameters, context)
        if not fits:
            scene = parameters.get("SCENE")
            if isinstance(scene, str) and os.path.exists(scene) and scene in message:
                message += ", as a raster layer; give it as a product (PRODUCT)"
            return fits, message
        try:
            _, read = self.inputs(parameters, context, None)
            self._check_targets(read, parameters, context)
        except QgsProcessingException as error:
            return False, str(error)
        return True, ""

    def prepareAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> bool:
        """Make files and options of the parameters, in the thread that may touch layers."""
        try:
            self._python = find_python(_chosen_python())
        except MissingEnvironmentError as error:
            raise QgsProcessingException(str(error)) from error
        positional, read = self.inputs(parameters, context, feedback)
        self._arguments = [self.COMMAND, *positional]
        for name, flag in self._flags.items():
            self._arguments += option(self, name, flag, parameters, context)
        self._check_targets(read, parameters, context)
        return True

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Run the command."""
        outputs = self._targets(parameters, context)
        named = [part for name, path in outputs.items() for part in (self._flags[name], path)]
        overwrite = ["--overwrite"] if outputs else []  # QGIS has asked
        said = run_command(
            self._python,
            [*self._arguments, *named, *overwrite],
            feedback,
            stages=self.STAGES,
            targets=outputs.values(),
            hints={**self.HINTS, **self._words_for_flags()},
            names=self.copied,
        )
        if feedback.isCanceled():
            return {}
        lacking = [path for path in outputs.values() if not os.path.exists(path)]
        if lacking or not said.is_finished:
            reason = f"there is no {lacking[0]}" if lacking else "it did not say that it is done"
            raise QgsProcessingException(
                f"the command ended without a result; {reason}: check the environment in a "
                "terminal with hsi-pipeline doctor"
            )
        self._written = said.outputs
        for path in outputs.values():
            load_styled(context, path)
        return {**outputs, **self.results(outputs, said, context)}

    def postProcessAlgorithm(
        self, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        """Show the new content of files that were open."""
        reload_layers(context.project(), self._written)
        return {}

    # How parameters become options

    def add(
        self,
        parameter: QgsProcessingParameterDefinition,
        flag: str = "",
        *,
        text: str = "",
        is_advanced: bool = False,
    ) -> None:
        """Add a parameter.

        Args:
            parameter: The parameter.
            flag: Option of the command that it stands for; "" where `inputs` looks after it.
            text: Help.
            is_advanced: Rarely used.
        """
        parameter.setHelp(text)
        if is_advanced:
            advanced = QgsProcessingParameterDefinition.Flag.FlagAdvanced
            parameter.setFlags(parameter.flags() | advanced)
        if flag:
            self._flags[parameter.name()] = flag
        self.addParameter(parameter)

    def _check_targets(
        self, read: Mapping[str, str], parameters: dict[str, Any], context: QgsProcessingContext
    ) -> None:
        """Refuse to write what is in use.

        Raises:
            QgsProcessingException: Names file and use.
        """
        for target in self.destinationParameterDefinitions():
            # unlike `parameterAsOutputLayer` this notes no layer to be loaded
            path = self.parameterAsFileOutput(parameters, target.name(), context)
            check_target(path, read, context.project())

    def _targets(self, parameters: dict[str, Any], context: QgsProcessingContext) -> dict[str, str]:
        """Return the files to write, by parameter."""
        ways = {
            "rasterDestination": self.parameterAsOutputLayer,
            "vectorDestination": self.parameterAsOutputLayer,
            "fileDestination": self.parameterAsFileOutput,
            "folderDestination": self.parameterAsString,
        }
        found = {
            one.name(): ways[one.type()](parameters, one.name(), context)
            for one in self.destinationParameterDefinitions()
        }
        return {name: path for name, path in found.items() if path}

    def _words_for_flags(self) -> dict[str, str]:
        """Return what options that errors name are called in the dialog."""
        return {
            flag: f"({flag} is {self.parameterDefinition(name).description()!r} here)"
            for name, flag in self._flags.items()
        }


def _chosen_python() -> str:
    """Return the interpreter that QGIS's options name, or ""."""
    return str(QgsSettings().value(f"Processing/Configuration/{PYTHON_SETTING}", "") or "").strip()
