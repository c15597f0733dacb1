"""Sampling designs: the strata of a reference, and the estimates that follow from them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import UNLABELLED, ClassScheme, scheme_from_attrs
from hsi_pipeline.commands.comparing import ComparedClasses
from hsi_pipeline.commands.map_pixels import MapFacts, read_map
from hsi_pipeline.commands.reference_units import ComparedUnits
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimation import (
    LEAST,
    Estimate,
    Estimates,
    estimate,
    poststratify,
    tally_units,
)
from hsi_pipeline.ground_truth.points import ReferencePoints, SampleDesign
from hsi_pipeline.publish import open_class_map

STATED_DESIGNS = ("auto", "stratified", "simple", "none")
"""Sampling designs that a user may state; auto: what the file says, else none."""

_UNDEFINED = Estimate(*(math.nan,) * 5)


@dataclass(frozen=True)
class UsedStratum:
    """Part of a map that was sampled by itself, or is taken as if."""

    name: str
    """Its name."""
    pixels: int
    """Number of its pixels."""
    area_m2: float
    """Their area; NaN where there is no CRS."""
    weight: float
    """Its share of all strata."""
    units: int
    """Units in it."""


@dataclass(frozen=True, eq=False)
class StratifiedPoints:
    """The points of a stratified sample."""

    units: ComparedUnits
    """Those that lie in a stratum."""
    stratum: np.ndarray
    """Place of the stratum of each (unit,)."""
    strata: tuple[UsedStratum, ...]
    """The strata."""
    complete: np.ndarray
    """Strata all of whose pixels are units (stratum,)."""


@dataclass(frozen=True, eq=False)
class DesignEstimates:
    """What follows from a design."""

    estimates: Estimates
    """The scores."""
    strata: tuple[UsedStratum, ...]
    """The strata; none without a design, or where a simple sample is not post-stratified."""
    warnings: tuple[str, ...] = ()
    """What could not be done."""


def choose_design(
    design: str, drawn: SampleDesign | None, strata: str | os.PathLike[str] | None, unit: str
) -> str:
    """Return the design: that which is stated, or else that of the file.

    Args:
        design: One of `STATED_DESIGNS`.
        drawn: What the file says of itself.
        strata: Raster of strata.
        unit: `point`, `polygon` or `pixel`.

    Raises:
        InputError: What is stated cannot be.
    """
    told = None if drawn is None else drawn.design
    if told is not None and told not in STATED_DESIGNS[1:]:
        raise InputError(
            f"the file says that its sample is {told!r}; designs are "
            f"{', '.join(STATED_DESIGNS[1:])}"
        )
    if strata is not None and told == "stratified":
        raise InputError(
            f"--strata {strata}, but the file has its own strata, which its points were drawn in; "
            "leave out --strata"
        )
    if design == "auto":
        design = "stratified" if strata is not None else told or "none"
    if strata is not None and design != "stratified":
        raise InputError(f"--strata is for a stratified design, this one is {design}")
    if told not in (None, design) and design != "none" and strata is None:
        raise InputError(
            f"--design {design}, but the file says that its sample is {told}; leave out --design"
        )
    if design == "stratified" and unit != "point":
        raise InputError(
            f"a stratified sample is one of points, the reference holds {unit}s; with --design "
            f"simple they are taken for a simple random sample of {unit}s"
        )
    return design


def find_strata(
    points: ReferencePoints,
    units: ComparedUnits,
    drawn: SampleDesign | None,
    strata: str | os.PathLike[str] | None,
    dataset: xr.Dataset,
    terminal: Terminal,
) -> StratifiedPoints:
    """Find the strata of points: of a raster, of the sample's own table, or classes of the map.

    Args:
        points: All points.
        units: Those that are compared.
        drawn: What the file says of itself.
        strata: Raster of strata, where the file has none.
        dataset: The class map.
        terminal: Where to report.

    Raises:
        InputError: Some point or stratum has not what it needs.
    """
    assert units.place is not None
    if strata is not None:
        return _strata_of_raster(points, units, strata, terminal)
    if drawn is None:
        scheme, grid = scheme_from_attrs(dataset["class"].attrs), grid_of(dataset)
        return _stratified(points, units, units.mapped, _classes_as_strata(scheme, units.map, grid))
    if points.stratum is None:
        raise InputError(
            f"{points.path}: its points have no column 'stratum', which tells where they were "
            "drawn; draw the sample again"
        )
    sampled = {one.code: (one.name, one.pixels, one.area_m2) for one in drawn.strata if one.pixels}
    return _stratified(points, units, points.stratum[units.place], sampled)


def about_drawn(points: ReferencePoints, drawn: SampleDesign) -> list[str]:
    """Return a warning where points that were drawn are missing.

    Raises:
        InputError: There are more points than were drawn, or than there are pixels.
    """
    for one in drawn.strata:
        found = len(points.codes)
        if points.stratum is not None:
            found = int((points.stratum == one.code).sum())
        if one.points is not None and found > one.points:
            raise InputError(
                f"{points.path}: stratum {one.name!r} has {found} points, {one.points} were drawn; "
                "those added by hand are no random sample: leave them out, or take --design none"
            )
        if found > one.pixels:
            raise InputError(
                f"{points.path}: stratum {one.name!r} has {found} points, but {one.pixels} pixels "
                "by the table 'design'; draw the sample again"
            )
    number = sum(one.points or 0 for one in drawn.strata)
    lacking = number - len(points.codes) - points.without_geometry
    if lacking <= 0:
        return []
    return [
        f"{lacking} of {number} drawn points are missing from the file, or left out by --where: "
        "the others stand for them"
    ]


def estimate_by_design(
    design: str,
    classes: ComparedClasses,
    units: ComparedUnits,
    stratified: StratifiedPoints | None,
    *,
    has_crs: bool,
) -> DesignEstimates:
    """Estimate as the design demands.

    A simple random sample is post-stratified by the classes of the map if each has two units. What
    is no probability sample is counted as it is; its areas, and whether they are thinly sampled,
    are those of such a post-stratification or none, as the shares of labels say nothing of a map.

    Args:
        design: `stratified`, `simple` or `none`.
        classes: Classes of map and reference.
        units: The units.
        stratified: Their strata.
        has_crs: Whether the map has a CRS, and areas are in m2.
    """
    mapped, reference = classes.of_map[units.mapped], classes.of_reference[units.reference]
    count = len(classes.scheme)
    if stratified is not None:
        used = stratified.strata
        sample = tally_units(
            mapped,
            reference,
            stratum=stratified.stratum,
            weights=np.array([one.weight for one in used]),
            complete=stratified.complete,
        )
        return DesignEstimates(estimate(sample, count), used)
    sample = tally_units(mapped, reference, cluster=units.cluster, units=units.count)
    areas, pixels = (classes.sum_of_map(one) for one in (units.map.areas, units.map.pixels))
    by_class = poststratify(sample, areas)
    if design == "none":
        post = None if by_class is None else estimate(by_class, count)
        found = replace(
            estimate(sample, count),
            area_share=(_UNDEFINED,) * count if post is None else post.area_share,
            is_thinly_sampled=(False,) * count if post is None else post.is_thinly_sampled,
        )
        kind = "polygons" if units.unit == "polygon" else "pixels"
        text = f"areas are not estimated: some class of the map has fewer than two labelled {kind}"
        return DesignEstimates(found, (), (text,) if post is None else ())
    if by_class is None:
        return DesignEstimates(
            estimate(sample, count),
            (),
            (
                f"some class of the map has fewer than {LEAST} units of reference, so that the "
                "areas of classes in the map are not made use of, and intervals are wider",
            ),
        )
    held = by_class.units_of_stratum
    strata = [
        UsedStratum(
            name=name,
            pixels=int(pixels[i]),
            area_m2=float(areas[i]) if has_crs else math.nan,
            weight=float(by_class.weights[i]),
            units=int(held[i]),
        )
        for i, name in enumerate(classes.scheme.names)
        if areas[i] > 0
    ]
    return DesignEstimates(estimate(by_class, count), tuple(strata))


def _strata_of_raster(
    points: ReferencePoints,
    units: ComparedUnits,
    strata: str | os.PathLike[str],
    terminal: Terminal,
) -> StratifiedPoints:
    """Look up strata in a raster.

    Raises:
        InputError: It cannot be read, or holds none of the points.
    """
    other = open_class_map(Path(strata).resolve(), say=terminal.say)
    scheme, grid = scheme_from_attrs(other["class"].attrs), grid_of(other)
    rows, columns, inside = (part[units.place] for part in points.pixels(grid))
    with terminal.chunk_progress("strata", other["class"].size) as progress:
        facts, codes = read_map(other, rows, columns, progress=progress)
    known = inside & (codes != UNLABELLED)
    if not known.any():
        raise InputError(f"{strata}: no point lies in one of its classes; is it of this place?")
    left = units.keep(known, "outside")
    named = _classes_as_strata(scheme, facts, grid)
    # its pixels are not those that points are in: none of its strata is known to be complete
    return _stratified(points, left, codes[known], named, of_units=False)


def _classes_as_strata(
    scheme: ClassScheme, facts: MapFacts, grid: GeoBox
) -> dict[int, tuple[str, int, float]]:
    """Return the classes of a map as strata: name, pixels and area by code."""
    return {
        c.code: (
            c.name,
            int(facts.pixels[c.code]),
            float(facts.areas[c.code]) if grid.crs is not None else math.nan,
        )
        for c in scheme.categories
        if facts.pixels[c.code]
    }


def _stratified(
    points: ReferencePoints,
    units: ComparedUnits,
    codes: np.ndarray,
    named: Mapping[int, tuple[str, int, float]],
    *,
    of_units: bool = True,
) -> StratifiedPoints:
    """Put units into strata.

    Args:
        points: Where they come from, for messages.
        units: The units.
        codes: Code of the stratum of each (unit,).
        named: Name, pixels and area of each stratum by code.
        of_units: Whether a unit is one of these pixels, so that as many of them are all.

    Raises:
        InputError: A code is of no stratum, or a stratum has too few units for a variance.
    """
    if blank := int((codes < 0).sum()):
        raise InputError(
            f"{points.path}: {blank} {'point has' if blank == 1 else 'points have'} no stratum; "
            "leave them out or fill it in"
        )
    unknown = set(np.unique(codes).tolist()) - set(named)
    if unknown:
        raise InputError(
            f"{points.path}: a point is of stratum {min(unknown)}, which its table 'design' lacks"
        )
    order = list(named)
    stratum = np.array([order.index(code) for code in codes.tolist()], np.int64)
    held = np.bincount(stratum, minlength=len(named)).tolist()
    sizes = np.array([pixels if math.isnan(area) else area for _, pixels, area in named.values()])
    for (name, pixels, _), number in zip(named.values(), held, strict=True):
        if number < (min(LEAST, pixels) if of_units else LEAST):
            raise InputError(
                f"{points.path}: stratum {name!r} has {number} interpreted "
                f"{'point' if number == 1 else 'points'} on the map, {LEAST} are needed in each; "
                "interpret more points there"
            )
    used = [
        UsedStratum(*one, weight, number)
        for one, weight, number in zip(
            named.values(), (sizes / sizes.sum()).tolist(), held, strict=True
        )
    ]
    complete = np.array([of_units and one.units >= one.pixels for one in used])
    return StratifiedPoints(units, stratum, tuple(used), complete)
