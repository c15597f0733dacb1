"""Whether labels are those that a model was trained on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from hsi_pipeline.checkpoint import checkpoint_hash, load_card
from hsi_pipeline.commands.reference_units import ComparedUnits, points_sha256
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import labels_sha256
from hsi_pipeline.ground_truth.points import ReferencePoints
from hsi_pipeline.model_card import ModelCard


def is_learnt_from(
    card: ModelCard, path: str | os.PathLike[str], pixels_sha256: str, *, narrowed: bool
) -> bool:
    """Tell whether labels are one of the label files of a model, as a file or by what they label.

    Only the whole is recognised: some of the labels that a model was trained on, or those and
    others, go unnoticed, and so do parts of a file on another scene.

    Args:
        card: What the model says of its training.
        path: Label file.
        pixels_sha256: `ground_truth.labels_sha256` of what is taken of it.
        narrowed: Whether that may be a part of the file (a layer, a condition, a split column), so
            that the file being the same tells nothing.
    """
    known = card.training.get("labels", [])
    if any(one.get("pixels_sha256") == pixels_sha256 for one in known):
        return True
    # nor does it where the model was given a part
    files = {one.get("sha256") for one in known if not {"where", "layer"} & set(one)}
    if narrowed or not files or not Path(path).is_file():
        return False
    with Path(path).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() in files


def about_training(
    dataset: xr.Dataset,
    class_map: Path,
    reference: str | os.PathLike[str],
    model: str | os.PathLike[str] | None,
    units: ComparedUnits,
    points: ReferencePoints | None,
    options: Mapping[str, Any],
) -> list[str]:
    """Return a warning if the model was trained on this reference, or chosen by it.

    Raises:
        InputError: The model cannot be read, or is not the one that made the map.
    """
    made_by = str(dataset.attrs.get("model_sha256", ""))
    beside = class_map.resolve().parent / Path(str(dataset.attrs.get("model", ""))).name
    if model is None and not (made_by and beside.is_file()):
        return []
    if model is None:
        if checkpoint_hash(beside) != made_by:
            return []
        model = beside
    card = load_card(model)
    if made_by and checkpoint_hash(model) != made_by:
        raise InputError(
            f"{model} is not the model that made the map (SHA-256 {made_by[:12]}); name that one"
        )
    if options["split_column"] is not None and card.training.get("split") == "column":
        if not units.is_validation:
            return []
        return [
            f"labels marked validation chose the epoch and the temperature of {Path(model).name}, "
            "so that it looks better than it is; mark a test part that nothing was chosen by"
        ]
    grid = grid_of(dataset)
    if points is not None:
        pixels_sha256 = points_sha256(points, grid)
    else:
        assert units.labels is not None
        pixels_sha256 = labels_sha256(units.labels, grid)
    narrowed = any(options[key] is not None for key in ("where", "layer", "split_column"))
    if not is_learnt_from(card, reference, pixels_sha256, narrowed=narrowed):
        return []
    return [
        f"{Path(model).name} was trained on this very reference: the figures tell what it learnt "
        "by heart, not how good the map is; give labels that it has not seen"
    ]
