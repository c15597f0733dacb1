"""Class map and what was made of it to a STAC item that describes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hsi_pipeline.checkpoint import load_card
from hsi_pipeline.commands.messages import check_no_input
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish import open_class_map
from hsi_pipeline.publish.stac import write_stac_item
from hsi_pipeline.publish.zarr import NUMBERS


def stac(
    class_map: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    products: Sequence[str | os.PathLike[str]] = (),
    model: str | os.PathLike[str] | None = None,
    derived_from: str | None = None,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Write a STAC item beside a class map.

    Args:
        class_map: `.zarr` or raster file; rasters of its confidence and probabilities are found.
        out: Target, `.json`.
        products: Other files made of the map.
        model: Model that made the map.
        derived_from: STAC item of the scene, or the scene: URL or file.
        overwrite: Replace an existing item.
        terminal: Where to report.

    Returns:
        The item.

    Raises:
        InputError: A file is missing or does not belong to the map.
    """
    terminal = terminal or Terminal(quiet=True)
    class_map = Path(class_map)
    check_no_input(out, class_map, derived_from, *products)
    dataset = open_class_map(class_map, say=terminal.say)
    card = None if model is None else load_card(model)
    item = write_stac_item(
        out,
        dataset,
        _assets(class_map, [Path(product) for product in products]),
        model_file=None if model is None else Path(model),
        card=card,
        derived_from=derived_from,
        overwrite=overwrite,
    )
    terminal.say(f"STAC item in {item}")
    terminal.made("stac", [item])
    return [item]


def _assets(class_map: Path, products: list[Path]) -> dict[str, Path]:
    """Name the files of an item: variables of the map, other files after their stems.

    Raises:
        InputError: Two files of the same name.
    """
    assets = {"class": class_map}
    if class_map.suffix.lower() != ".zarr":
        for name in (*NUMBERS, "probability"):
            sibling = class_map.with_name(f"{class_map.stem}_{name}{class_map.suffix}")
            if sibling.exists():
                assets[name] = sibling
    for product in products:
        stem = "class" if product.stem == class_map.stem else product.stem
        name = f"{stem}_{product.suffix[1:]}" if stem in assets else stem
        if name in assets:
            raise InputError(f"{product} and {assets[name]} would both be the asset {name!r}")
        assets[name] = product
    return assets
