"""Files of one class map: rasters of numbers lie beside that of its classes."""

from __future__ import annotations

from pathlib import Path

from hsi_pipeline.map_layers import NUMBER_LAYERS

_LAYERS = (*(layer.name for layer in NUMBER_LAYERS), "probability")


def layers_of(path: Path) -> list[Path]:
    """Return the rasters of numbers that lie beside a class map and are read with it."""
    if path.suffix.lower() == ".zarr":
        return []
    return [file for file in layer_files(path) if file.exists()]


def layer_files(path: Path) -> list[Path]:
    """Return where rasters of numbers would lie beside a class map."""
    return [path.with_name(f"{path.stem}_{layer}{path.suffix}") for layer in _LAYERS]
