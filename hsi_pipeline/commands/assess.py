"""Class map and reference to accuracy and areas with their uncertainty."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hsi_pipeline.classes import UNLABELLED, scheme_from_attrs
from hsi_pipeline.commands.assessment import (
    Assessment,
    assessment_json,
    show_assessment,
    write_assessment,
)
from hsi_pipeline.commands.comparing import (
    ComparedClasses,
    join_classes,
    nearest_name,
    parse_merge,
)
from hsi_pipeline.commands.designs import (
    STATED_DESIGNS,
    about_drawn,
    choose_design,
    estimate_by_design,
    find_strata,
)
from hsi_pipeline.commands.learnt import about_training
from hsi_pipeline.commands.messages import check_no_input
from hsi_pipeline.commands.reference_units import (
    ComparedUnits,
    compare_pixels,
    compare_points,
    tell_left_out,
)
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimation import LEAST, Estimates
from hsi_pipeline.ground_truth.points import (
    SampleDesign,
    read_design,
    read_points,
)
from hsi_pipeline.publish import check_target, open_class_map
from hsi_pipeline.publish.record import accuracy_summary, record_accuracy

_FEW_CLUSTERS = 20  # polygons below which intervals are rough (benchmarks/intervals.py)
_UNLIKE = 0.01  # share by which areas may differ before it is said


def assess(
    class_map: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    *,
    design: str = "auto",
    label_column: str | None = None,
    name_column: str | None = None,
    class_table: str | os.PathLike[str] | None = None,
    split_column: str | None = None,
    layer: str | None = None,
    where: str | None = None,
    strata: str | os.PathLike[str] | None = None,
    merge: Sequence[str] = (),
    model: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    record: bool = False,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> Assessment:
    """Estimate how good a class map is and how large its classes are.

    Args:
        class_map: `.zarr` or raster file.
        reference: Points, each a unit; polygons, which are clusters of pixels; or a class raster.
        design: How the reference was drawn, one of `designs.STATED_DESIGNS`.
        label_column: Column of class codes or names.
        name_column: Column that names the codes.
        class_table: CSV or YAML of code, name, color.
        split_column: Column that says train, validation or test: only test units count, or
            validation units, with a warning, where none are marked test.
        layer: Layer of the reference.
        where: SQL condition on the features.
        strata: Raster whose classes are the strata of a stratified sample, where they are neither
            in the file (then it is refused) nor the classes of the map.
        merge: Classes to join before, each "impervious=roof,pavement".
        model: Model that made the map, to see whether it was trained on this very reference; None:
            the one that the map names, if it lies beside it. Some of its labels, or more than
            those, go unnoticed.
        out: JSON file for the figures.
        record: Whether the figures are written into the map's attributes too, where an older
            record is replaced; pixels stay as they are.
        overwrite: Replace an existing JSON file.
        terminal: Where to report.

    Returns:
        The figures.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    if out is not None:
        check_target(out, overwrite=overwrite, suffixes=(".json",))
        check_no_input(out, class_map, reference, class_table, strata, model)
    if design not in STATED_DESIGNS:
        raise InputError(f"--design {design} is not one of {', '.join(STATED_DESIGNS)}")
    merges = [parse_merge(text) for text in merge]
    dataset = open_class_map(Path(class_map).resolve(), say=terminal.say)
    options: dict[str, Any] = {
        "label_column": label_column,
        "name_column": name_column,
        "class_table": class_table,
        "split_column": split_column,
        "layer": layer,
        "where": where,
    }
    drawn = read_design(reference)
    points = read_points(reference, **options, classes=scheme_from_attrs(dataset["class"].attrs))
    if points is not None:
        units = compare_points(points, dataset, terminal, drawn=drawn is not None)
    else:
        units = compare_pixels(reference, options, dataset, terminal)
    design = choose_design(design, drawn, strata, units.unit)
    stratified, missing = None, []
    if points is not None and drawn is not None and design != "none" and strata is None:
        missing = about_drawn(points, drawn)
    if design == "stratified":
        assert points is not None
        stratified = find_strata(points, units, drawn, strata, dataset, terminal)
        units = stratified.units
    if units.count.sum() < LEAST:
        raise InputError(
            f"{reference}: one {units.unit} is left to compare with, an estimate with its "
            f"uncertainty needs {LEAST} or more; left out: {tell_left_out(units.left_out) or '-'}"
        )
    classes = join_classes(
        scheme_from_attrs(dataset["class"].attrs), units.scheme, merges, has_codes=units.has_codes
    )
    has_crs = grid_of(dataset).crs is not None
    found = estimate_by_design(design, classes, units, stratified, has_crs=has_crs)
    areas = classes.sum_of_map(units.map.areas)
    sampled = None if stratified is None else sum(one.area_m2 for one in stratified.strata)
    lost_design = points is not None and points.stratum is not None and drawn is None
    denied = drawn is not None and design == "none"
    assessment = Assessment(
        map=Path(class_map).name,
        reference=Path(reference).name,
        design=design,
        unit=units.unit,
        sample_units=units.draws,
        left_out=units.left_out,
        scheme=classes.scheme,
        mapped_area=areas,
        total_area_m2=(float(areas.sum()) if sampled is None else sampled) if has_crs else math.nan,
        estimates=found.estimates,
        strata=found.strata,
        warnings=(
            *_about_design(design, units, lost_design=lost_design, denied=denied),
            *missing,
            *_about_areas(design, drawn, units, has_crs=has_crs),
            *found.warnings,
            *_about_classes(design, classes, units, found.estimates),
            *about_training(dataset, Path(class_map), reference, model, units, points, options),
        ),
    )
    for text in assessment.warnings:
        terminal.warn(text)
    show_assessment(terminal, assessment)
    if out is not None:
        write_assessment(Path(out), assessment, overwrite=overwrite)
    if record:
        summary = accuracy_summary(assessment_json(assessment))
        terminal.say(f"accuracy recorded in {record_accuracy(class_map, summary)}")
    terminal.made("assess", [] if out is None else [out], **assessment_json(assessment))
    return assessment


def _about_design(
    design: str, units: ComparedUnits, *, lost_design: bool, denied: bool
) -> list[str]:
    """Return what to know about the sample."""
    warnings = []
    if denied:
        warnings.append(
            "--design none: the sample that the file says it is, is not taken for one, so the "
            "figures are those of these labels, and no interval is design-based"
        )
    elif design == "none":
        lost = "It looks like one that lost its table 'design': keep the GeoPackage as drawn. "
        warnings.append(
            "the reference is no probability sample as far as is known, so the figures are those "
            "of these labels, and no interval is design-based. "
            + (lost if lost_design else "")
            + "'hsi-pipeline sample' draws a sample; one drawn otherwise is stated by --design "
            "simple or stratified"
        )
    elif lost := tell_left_out(units.left_out):
        warnings.append(f"units of the sample are left out ({lost}): the others stand for them")
    if units.disagreeing:
        warnings.append(
            f"{units.disagreeing} points are left out: they share a pixel and disagree on its class"
        )
    if units.draws < LEAST:
        warnings.append("all pixels are of one polygon, so nothing tells how uncertain figures are")
    elif units.unit == "polygon" and units.draws < _FEW_CLUSTERS:
        warnings.append(
            f"intervals rest on {units.draws} polygons: below {_FEW_CLUSTERS} they are rough, and "
            "too narrow where errors come in whole polygons"
        )
    if units.is_validation:
        warnings.append("nothing is marked test, so the labels marked validation are taken")
    return warnings


def _about_areas(
    design: str, drawn: SampleDesign | None, units: ComparedUnits, *, has_crs: bool
) -> list[str]:
    """Return what to know where areas of map, pixels and sample are unlike."""
    warnings = []
    unlike = units.map.largest_to_smallest - 1
    if unlike > _UNLIKE:
        warnings.append(
            f"pixels of the map differ in area by {unlike:.0%}, and units count alike within a "
            "stratum: figures are a little off where small and large pixels differ in accuracy; "
            "a map in an equal-area CRS has no such pixels"
        )
    if design == "simple" and drawn is not None:
        held = np.arange(len(units.map.pixels)) != UNLABELLED
        area, unit = sum(one.area_m2 for one in drawn.strata), "m2"
        mapped = float(units.map.areas[held].sum())
        if not has_crs or math.isnan(area):
            area, unit = sum(one.pixels for one in drawn.strata), "pixels"
            mapped = float(units.map.pixels[held].sum())
        if abs(mapped / area - 1) > _UNLIKE:
            warnings.append(
                f"the sample was drawn from {area:.0f} {unit}, this map has {mapped:.0f}: figures "
                "are those of this map, of which the sample tells nothing where it was not drawn"
            )
    return warnings


def _about_classes(
    design: str, classes: ComparedClasses, units: ComparedUnits, estimates: Estimates
) -> list[str]:
    """Return what to know about classes that only one side has, and few units."""
    names = classes.scheme.names
    warnings = []
    for name in classes.only_in_reference:
        near = nearest_name(name, [other for other in names if other != name])
        hint = f"; is it {near!r}?" if near else ""
        warnings.append(
            f"the map has no class {name!r}, where the reference says so it is wrong{hint}"
        )
    mapped = np.flatnonzero(classes.sum_of_map(units.map.pixels))
    lacking = [names[i] for i in mapped if not estimates.counts[:, i].any()]
    if lacking:
        warnings.append(f"no reference is of class {', '.join(map(repr, lacking))}")
    thin = [names[i] for i, few in enumerate(estimates.is_thinly_sampled) if few]
    if thin:
        # without a design only areas are of strata
        what = "area" if design == "none" else "area and the producer's accuracy"
        warnings.append(
            f"intervals of the {what} of {', '.join(map(repr, thin))} "
            "are too narrow: there are so few units where the map says otherwise that none of the "
            "class may be found there by chance; interpret more"
        )
    if units.draws < len(names):
        warnings.append(
            f"there are fewer {units.unit}s ({units.draws}) than classes ({len(names)}): figures "
            "of single classes mean little"
        )
    return warnings
