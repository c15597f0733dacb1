"""Model file and card -> what a STAC item says of the model (mlm extension)."""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path
from typing import Any

from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.publish.stac_assets import SAFETENSORS, describe_classes, href_from, identifier


def model_properties(model_file: Path, card: ModelCard) -> dict[str, Any]:
    """Return what the model reads and writes."""
    from hsi_pipeline.estimators import is_estimator  # Torch, and it takes seconds

    tasks = ["semantic-segmentation"]
    # the extension wants three characters, the first a letter
    name = identifier(model_file.stem, "model")
    fits = re.fullmatch(r"[A-Za-z][\w.-]+[A-Za-z0-9]", name, re.ASCII)
    return {
        "mlm:name": name if fits else f"model_{name}_{card.architecture}",
        "mlm:architecture": card.architecture,
        "mlm:framework": "scikit-learn" if is_estimator(card.architecture) else "PyTorch",
        "mlm:tasks": tasks,
        "mlm:hyperparameters": {
            **card.settings, "seed": card.seed, "halo": card.halo,
            "tolerance_nm": card.tolerance_nm, "temperature": card.temperature,
        },
        "mlm:input": [
            {
                "name": "reflectance",
                "description": "Reflectance, 1 = all light; the model scales it by itself.",
                "bands": [band["name"] for band in _model_bands(card)],
                "input": _tensor("channel", card.bands),
            }
        ],
        "mlm:output": [
            {
                "name": "class scores",
                "description": "Scores of each class, by its place; the map holds the codes "
                f"{', '.join(map(str, card.classes.codes))} in this order.",
                "tasks": tasks,
                "result": _tensor("class", len(card.classes)),
                "classification:classes": describe_classes(card.classes, range(len(card.classes))),
            }
        ],
    }  # fmt: skip


def _tensor(axis: str, length: int) -> dict[str, Any]:
    return {
        "shape": [-1, length, -1, -1],
        "dim_order": ["batch", axis, "height", "width"],
        "data_type": "float32",
    }


def _model_bands(card: ModelCard) -> list[dict[str, Any]]:
    """Return the model's input bands; wavelengths in micrometres, as the eo extension has them."""
    bands: list[dict[str, Any]] = [{"name": f"band_{n}"} for n in range(1, card.bands + 1)]
    if card.wavelengths is not None:
        for band, center, fwhm in zip(
            bands, card.wavelengths.center_nm, card.wavelengths.fwhm_nm, strict=True
        ):
            band["center_wavelength"] = round(center / 1000, 9)
            if fwhm is not None:
                band["full_width_half_max"] = round(fwhm / 1000, 9)
    return bands


def model_asset(model_file: Path, folder: Path, card: ModelCard, sha256: str) -> dict[str, Any]:
    """Return the model file, its input bands and where it comes from."""
    return {
        "href": href_from(model_file, folder),
        "title": model_file.name,
        "type": SAFETENSORS,
        "roles": ["mlm:model"],
        "version": card.version,
        "mlm:artifact_type": "safetensors.torch.save_file",
        "eo:bands": _model_bands(card),
        "file:size": model_file.stat().st_size,
        "file:checksum": f"1220{sha256}",  # multihash: SHA-256, 32 bytes
        "processing:software": {"hsi_pipeline": card.version},
        "processing:lineage": f"trained on {', '.join(card.scenes)} with seed {card.seed}",
        "hsi:scores": {name: value for name, value in card.scores.items() if isfinite(value)}
        | {k: card.calibration[k] for k in ("ece_before", "ece_after") if k in card.calibration},
    }
