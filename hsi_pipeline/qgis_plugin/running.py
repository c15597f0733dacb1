"""Runs one command of the environment, from its start to its result, its error or its end."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping

from qgis.core import QgsProcessingException, QgsProcessingFeedback

from .child import Child
from .conversation import Conversation, Stages
from .drafts import remove_drafts
from .environment import MissingEnvironmentError, check_environment


def run_command(
    python: str,
    arguments: list[str],
    feedback: QgsProcessingFeedback,
    *,
    stages: Stages,
    targets: Iterable[str],
    hints: Mapping[str, str],
    names: Mapping[str, str],
) -> Conversation:
    """Run a command, show what it says, and end it where the user cancels.

    Args:
        python: The environment's interpreter.
        arguments: Of `hsi-pipeline`.
        feedback: QGIS's.
        stages: As for `Conversation`.
        targets: Files that it writes.
        hints: What to add to an error that has some words in it.
        names: What to call files that the user does not know, in an error.

    Returns:
        What it said; if `feedback` is cancelled by then, it did not finish.

    Raises:
        QgsProcessingException: The environment cannot be used, or the command failed; the message
            has one or two lines.
    """
    said = Conversation(feedback, stages)
    try:
        check_environment(python, feedback.isCanceled)
        if feedback.isCanceled():
            return said
        feedback.pushCommandInfo(f"hsi-pipeline {_shown(arguments)}")
        started = time.time()
        child = Child([python, "-m", "hsi_pipeline", *arguments, "--progress", "json"])
    except MissingEnvironmentError as error:
        raise QgsProcessingException(str(error)) from error
    except OSError as error:
        raise QgsProcessingException(f"{python} cannot be started ({error})") from error
    for stream, line in child.lines(feedback.isCanceled):
        said.hear(stream, line)
    if child.was_killed:
        remove_drafts(targets, started)
    if not feedback.isCanceled() and child.exit_code:
        message = _failure(said, child.exit_code, hints)
        for path, name in names.items():
            # the command line says it with the slashes of the system
            message = message.replace(path, name).replace(os.path.normpath(path), name)
        raise QgsProcessingException(message)
    return said


def _shown(arguments: list[str]) -> str:
    """Return arguments as one would type them."""
    return subprocess.list2cmdline(arguments) if os.name == "nt" else shlex.join(arguments)


def _failure(said: Conversation, exit_code: int, hints: Mapping[str, str]) -> str:
    """Return what went wrong, in one or two lines."""
    message = said.error
    if not message and exit_code < 0:
        message = (
            f"hsi-pipeline was ended by the system (signal {-exit_code}), as it does where memory "
            "runs out"
        )
    elif not message:
        message = f"hsi-pipeline failed: {said.last_words or f'exit code {exit_code}'}"
    found = [hint for words, hint in hints.items() if words in message]
    return "\n".join([message, *found[:1]])
