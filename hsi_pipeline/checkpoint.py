"""A trained model as one .safetensors file: weights, statistics, and its card in the header.

Nothing in the file is executed when it is loaded. Torch is imported where tensors are needed: a
card or a hash is read without it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from hsi_pipeline.errors import InputError, did_you_mean
from hsi_pipeline.model_card import ModelCard

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hsi_pipeline.models.applicability import Applicability

HEADER_KEY = "hsi_pipeline"
_AREA = "applicability."  # begins the names of its tensors


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    card: ModelCard,
    applicability: Applicability | None = None,
) -> None:
    """Write a model; the file appears under its name only when it is complete.

    Args:
        path: Target, by custom ending in `.safetensors`. An existing file is replaced.
        model: The network that the card describes.
        card: Its card.
        applicability: The area that it is applicable in.

    Raises:
        InputError: The file cannot be written; one that was there stays as it was.
    """
    from safetensors.torch import save_file

    target = Path(path)
    tensors = dict(model.state_dict())
    if applicability is not None:
        tensors |= {_AREA + name: value for name, value in applicability.state_dict().items()}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        handle, partial = tempfile.mkstemp(
            prefix=f".{target.name}.partial-", dir=target.parent or Path()
        )
        os.close(handle)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        save_file(state, partial, metadata={HEADER_KEY: card.to_json()})
        # mkstemp makes files private; give it the permissions of any new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(partial, 0o666 & ~mask)
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", error)
        raise InputError(f"{target}: cannot be written ({reason})") from error
    finally:
        Path(partial).unlink(missing_ok=True)


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[nn.Module, ModelCard]:
    """Read a model.

    Args:
        path: A file that `save_checkpoint` wrote.

    Returns:
        The network in evaluation mode on the CPU, and its card.

    Raises:
        InputError: The file is missing, truncated, corrupt, or not a model of this program.
    """
    import torch

    from hsi_pipeline.estimators import PixelClassifier, is_estimator
    from hsi_pipeline.models import build_model

    file = Path(path)
    tensors, text = _read(file)
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith(_AREA)}
    try:
        card = ModelCard.from_json(text)
        if is_estimator(card.architecture):
            return PixelClassifier.from_state(state, card.bands, len(card.classes)).eval(), card
        # On the meta device no memory is taken before the shapes are known to be right.
        with torch.device("meta"):
            model = build_model(card.architecture, card.bands, len(card.classes), **card.settings)
        types = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        # Copies: these tensors are mapped to the file, and would change with it.
        state = {
            name: tensor.to(types.get(name, tensor.dtype), copy=True)
            for name, tensor in state.items()
        }
        model.load_state_dict(state, assign=True)
    except (InputError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{file}: the model cannot be used: {reason}") from error
    return model.eval(), card


def load_card(path: str | os.PathLike[str]) -> ModelCard:
    """Read the card of a model, without its weights.

    Args:
        path: A file that `save_checkpoint` wrote.

    Returns:
        The card.

    Raises:
        InputError: The file is missing, truncated, or not a model of this program.
    """
    file = Path(path)
    with _opened(file, "numpy") as (_, text):
        pass
    try:
        return ModelCard.from_json(text)
    except InputError as error:
        raise InputError(f"{file}: the model cannot be used: {error}") from error


def load_applicability(path: str | os.PathLike[str]) -> Applicability | None:
    """Read the area that a model is applicable in.

    Args:
        path: A file that `save_checkpoint` wrote.

    Returns:
        The area, on the CPU; None if the file has none.

    Raises:
        InputError: As `load_checkpoint`.
    """
    from hsi_pipeline.models.applicability import Applicability

    file = Path(path)
    tensors, text = _read(file)
    state = {
        name.removeprefix(_AREA): tensor.clone()  # else mapped to the file
        for name, tensor in tensors.items()
        if name.startswith(_AREA)
    }
    if not state:
        return None
    try:
        return Applicability.from_state(state, ModelCard.from_json(text).bands)
    except (ValueError, RuntimeError, InputError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{file}: the model cannot be used: {reason}") from error


def _read(file: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Return the tensors of a model file, mapped to it, and the text of its card."""
    with _opened(file, "pt") as (opened, text):
        return {name: opened.get_tensor(name) for name in opened.keys()}, text  # noqa: SIM118


@contextmanager
def _opened(file: Path, framework: str) -> Iterator[tuple[Any, str]]:
    """Open a model file: its tensors, and the text of its card.

    Raises:
        InputError: It is missing, cannot be read, or has no card.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such model file{did_you_mean(file)}")
    try:
        with safe_open(file, framework=framework) as opened:
            metadata = opened.metadata() or {}
            if HEADER_KEY in metadata:
                yield opened, metadata[HEADER_KEY]
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file}: not a readable .safetensors file ({error}); it may be truncated, "
            "train or copy it again"
        ) from error
    if HEADER_KEY not in metadata:
        raise InputError(
            f"{file}: a .safetensors file, but without an hsi_pipeline model card; "
            "use a model made by 'hsi-pipeline train'"
        )


def checkpoint_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a model file, the name by which results refer to it."""
    with Path(path).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
