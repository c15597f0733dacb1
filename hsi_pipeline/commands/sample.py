"""Class map to a random sample of its pixels, for people to say what they really are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import ClassScheme, scheme_from_attrs
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimation import LEAST, QUANTILE
from hsi_pipeline.publish import check_target, open_class_map
from hsi_pipeline.publish.sample_form import write_sample
from hsi_pipeline.reference_sample import (
    ALLOCATIONS,
    DESIGNS,
    DrawnPixels,
    Stratum,
    allocate,
    count_classes,
    draw_pixels,
    expected_error,
    sample_size,
    strata_of,
)

STANDARD_ERROR = 0.02
"""Of overall accuracy, unless the user says otherwise: a 95 % interval of +/- 0.04."""
EXPECTED = 0.8
"""User's accuracy that is expected of a class, unless the user says otherwise."""
MIN_PER_CLASS = 50
"""Fewest points of a class in the balanced allocation, unless the user says otherwise."""

_NAMED = 3  # strata that a message names


def sample(
    class_map: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    design: str = "stratified",
    size: int | None = None,
    standard_error: float | None = None,
    expected: Sequence[str] = (),
    allocation: str | None = None,
    min_per_class: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Draw pixels of a class map and write them as a layer to fill in.

    Args:
        class_map: `.zarr` or raster file.
        out: Target, `.gpkg`.
        design: "stratified" by the classes of the map, or "simple".
        size: Number of points; None: as many as the standard error needs.
        standard_error: Of overall accuracy, to reach with the accuracies expected; None: 0.02.
        expected: Expected user's accuracies: "0.9" for all classes, "water=0.95" for one; 0.8 for
            those not named.
        allocation: How points are shared among classes, one of `reference_sample.ALLOCATIONS`;
            None: balanced.
        min_per_class: Fewest points of a class in the balanced allocation; None: 50.
        seed: Seed of the draw.
        overwrite: Replace an existing file.
        terminal: Where to report.

    Returns:
        The file written.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    _check_options(design, size, standard_error, allocation, min_per_class, seed)
    check_target(out, overwrite=overwrite, suffixes=(".gpkg",))
    dataset = open_class_map(class_map, say=terminal.say)
    if Path(out).exists() and Path(out).samefile(class_map):
        raise InputError(f"{out} is the map itself; write the sample elsewhere")
    scheme, grid = scheme_from_attrs(dataset["class"].attrs), grid_of(dataset)
    rates = _rates(expected, scheme)
    with terminal.chunk_progress("counting", dataset["class"].size) as progress:
        counts = count_classes(dataset, progress=progress)
    strata = _renumber(strata_of(counts, design), seed)
    pixels = np.array([one.pixels for one in strata])
    by_class = counts.by_row.sum(0)
    right = by_class * [rates[code] for code in counts.codes]
    shares = np.array([right[list(one.columns)].sum() for one in strata]) / pixels
    allocation = allocation or "balanced"
    least = min_per_class or (MIN_PER_CLASS if allocation == "balanced" else LEAST)
    least = least if design == "stratified" else LEAST
    size = _size(size, standard_error, pixels, shares, least, terminal)
    points = allocate(size, pixels, allocation=allocation, expected=shares, least=least)
    with terminal.chunk_progress("drawing", dataset["class"].size) as progress:
        drawn = draw_pixels(dataset, counts, strata, points.tolist(), seed=seed, progress=progress)
    table = _design(strata, points, design, seed, Path(class_map).name, dataset)
    path = write_sample(_points(drawn, grid), table, out, scheme, grid.affine, overwrite=overwrite)
    _report(strata, points, expected_error(pixels, shares, points), terminal)
    terminal.say(f"{size} points in {path}: fill in the column 'reference', in QGIS or elsewhere")
    terminal.made(
        "sample", [path], points=int(points.sum()), design=design, seed=seed,
        strata=[
            {"name": one.name, "pixels": one.pixels, "points": number}
            for one, number in zip(strata, points.tolist(), strict=True)
        ],
    )  # fmt: skip
    return [path]


def _check_options(
    design: str,
    size: int | None,
    standard_error: float | None,
    allocation: str | None,
    min_per_class: int | None,
    seed: int,
) -> None:
    """Refuse options that make no sense, alone or together.

    Raises:
        InputError: Says which.
    """
    if design not in DESIGNS:
        raise InputError(f"--design {design} is not one of {', '.join(DESIGNS)}")
    if allocation is not None and allocation not in ALLOCATIONS:
        raise InputError(f"--allocation {allocation} is not one of {', '.join(ALLOCATIONS)}")
    if size is not None and standard_error is not None:
        raise InputError("give --size or --standard-error, not both: the one follows of the other")
    if standard_error is not None and not 0 < standard_error < 0.5:
        raise InputError(f"--standard-error {standard_error:g} is not between 0 and 0.5")
    if design == "simple" and (allocation or min_per_class):
        raise InputError("a simple design has no strata to share points among; leave that out")
    if min_per_class is not None and allocation not in (None, "balanced"):
        raise InputError(
            f"--min-per-class is that of the balanced allocation, not of the {allocation} one"
        )
    if min_per_class is not None and min_per_class < LEAST:
        raise InputError(
            f"--min-per-class {min_per_class} is below {LEAST}, which a variance needs"
        )
    if seed < 0:
        raise InputError(f"--seed {seed} is negative")


def _rates(expected: Sequence[str], scheme: ClassScheme) -> dict[int, float]:
    """Return the expected user's accuracy of each class by its code.

    Raises:
        InputError: A class is not known, or an accuracy is no number between 0 and 1.
    """
    rates = dict.fromkeys(scheme.codes, EXPECTED)
    # what is said of one class wins over what is said of all
    for text in sorted(expected, key=lambda text: "=" in text):
        name, _, number = text.rpartition("=")
        if name and name not in scheme.names:
            raise InputError(
                f"--expected {text}: the map has no class {name!r}, only {', '.join(scheme.names)}"
            )
        try:
            rate = float(number)
        except ValueError as error:
            raise InputError(
                f"--expected {text} is neither a number such as 0.8 nor a class with one, such as "
                f'"{scheme.names[0]}=0.8"'
            ) from error
        if not 0 < rate < 1:
            raise InputError(f"--expected {text}: an accuracy lies between 0 and 1, both excluded")
        named = [code for code, own in zip(scheme.codes, scheme.names, strict=True) if own == name]
        rates |= dict.fromkeys(named if name else scheme.codes, rate)
    return rates


def _size(
    size: int | None,
    standard_error: float | None,
    pixels: np.ndarray,
    shares: np.ndarray,
    least: int,
    terminal: Terminal,
) -> int:
    """Return the number of points.

    Raises:
        InputError: The size does not fit the map.
    """
    few = int(np.minimum(least, pixels).sum())
    each = f"{least} for each of {len(pixels)} classes" if len(pixels) > 1 else f"{least} points"
    if size is None:
        aim = STANDARD_ERROR if standard_error is None else standard_error
        size = sample_size(pixels, shares, aim)
        if size < few:
            terminal.say(
                f"{size} points would do for a standard error of {aim:g}; {each} make {few}"
            )
        return max(size, few)
    if size > pixels.sum():
        raise InputError(f"--size {size} is more than the map's {pixels.sum()} classified pixels")
    if size < few:
        lower = ", or lower --min-per-class" if least > LEAST else ""
        raise InputError(f"--size {size} is fewer than {each}; take {few} or more{lower}")
    return size


def _renumber(strata: Sequence[Stratum], seed: int) -> tuple[Stratum, ...]:
    """Number several strata from 1 in random order, so that a number does not tell the class."""
    if len(strata) == 1:
        return tuple(strata)
    numbers = np.random.default_rng(seed).permutation(len(strata)) + 1
    return tuple(
        replace(one, code=number) for one, number in zip(strata, numbers.tolist(), strict=True)
    )


def _points(drawn: DrawnPixels, grid: GeoBox) -> gpd.GeoDataFrame:
    """Return the centres of pixels, numbered in their random order."""
    x, y = grid.affine @ (drawn.column + 0.5, drawn.row + 0.5)
    crs = None if grid.crs is None else grid.crs.to_wkt()
    return gpd.GeoDataFrame(
        {"sample_id": np.arange(1, len(x) + 1), "stratum": drawn.stratum},
        geometry=gpd.points_from_xy(x, y),
        crs=crs,
    )


def _design(
    strata: Sequence[Stratum],
    points: np.ndarray,
    design: str,
    seed: int,
    name: str,
    dataset: xr.Dataset,
) -> pd.DataFrame:
    """Return how the points were drawn, a line for each stratum."""
    return pd.DataFrame(
        {
            "design": design,
            "stratum": [one.code for one in strata],
            "name": [one.name for one in strata],
            "pixels": [one.pixels for one in strata],
            "area_m2": [one.area_m2 for one in strata],
            "points": points,
            "seed": seed,
            "map": name,
            "model_sha256": str(dataset.attrs.get("model_sha256", "")),
        }
    )


def _report(
    strata: Sequence[Stratum], points: np.ndarray, standard_error: float, terminal: Terminal
) -> None:
    """Print the points of each stratum, and how exact the estimate will be."""
    total = sum(one.pixels for one in strata)
    pairs = list(zip(strata, points.tolist(), strict=True))
    rows = [
        (one.name, str(one.pixels), f"{one.pixels / total:.2%}", str(number))
        for one, number in pairs
    ]
    terminal.table("Sample", ("stratum", "pixels", "share", "points"), rows)
    whole = [one for one, number in pairs if number == one.pixels]
    if len(whole) == 1:
        number = whole[0].pixels
        text = "its only pixel is" if number == 1 else f"all {number} pixels are"
        terminal.say(f"{whole[0].name}: {text} in the sample")
    elif whole:
        names = ", ".join(one.name for one in whole[:_NAMED])
        names += ", ..." if len(whole) > _NAMED else ""
        terminal.say(f"{len(whole)} strata ({names}): all of their pixels are in the sample")
    terminal.say(
        f"overall accuracy will have a standard error of about {standard_error:.4f} "
        f"(95 % interval +/- {QUANTILE * standard_error:.3f}) if the map is as accurate as expected"
    )
