"""What several commands say about scenes and labels, and errors that name their file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import xarray as xr

from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import wavelengths_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import GroundTruth
from hsi_pipeline.resampling import SpectralOperator
from hsi_pipeline.scene.quality import flag_shares
from hsi_pipeline.scene.source import SceneSource


@contextmanager
def about(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put a file's name before the errors of rooms that know arrays and no files.

    Raises:
        InputError: As the block, with the name.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from error


def describe_wavelengths(cube: xr.DataArray) -> str:
    """Return one line on the bands of a scene."""
    bad = int((~cube["good"].values).sum())
    found = wavelengths_of(cube)
    text = f"{cube.attrs['scene_id']}: {cube.sizes['band']} bands"
    if found is None:
        return f"{text} without wavelengths: they are taken in the file's order; {bad} marked bad"
    low, high = min(found.center_nm), max(found.center_nm)
    return f"{text}, {low:.0f} to {high:.0f} nm, {bad} marked bad"


def report_bands(
    terminal: Terminal, operator: SpectralOperator, provenance: Mapping[str, str]
) -> None:
    """Say how a model's bands are made of a scene's, and which of them the scene lacks."""
    how = "matched by wavelength"
    if operator.matrix is not None:
        how = f"made of {len(operator.bands)} by wavelength ({operator.method})"
    terminal.say(f"{operator.count} bands {how}, at most {operator.shift_nm:.2f} nm off")
    for name, text in (
        ("bands_interpolated", "interpolated across a gap in the scene"),
        ("bands_absent", "absent from the scene, set to the training mean"),
    ):
        if name in provenance:
            terminal.say(f"  {text}: {provenance[name]} nm")


def report_mask(terminal: Terminal, source: SceneSource) -> None:
    """Say which share of a scene its quality layers turn to nodata, flag by flag."""
    flags = [name for name in source.attrs.get("mask", "").split(", ") if name]
    if not flags or source.quality is None:
        return
    shares = flag_shares(source.quality, flags)
    told = ", ".join(f"{name.replace('_', ' ')} {shares[name]:.1%}" for name in flags)
    terminal.say(f"  masked as nodata: {told}; {shares['any']:.1%} of the pixels in all")


def report_labels(terminal: Terminal, truth: GroundTruth) -> None:
    """Say what the labels hold and what was left out."""
    for count in truth.report.classes:
        area = "" if count.area_m2 is None else f", {count.area_m2 / 1e4:.2f} ha"
        terminal.say(
            f"  {count.code:3d} {count.name}: {count.features} features, "
            f"{count.pixels} pixels{area}"
        )
    report = truth.report
    for number, text in (
        (report.conflicts, "pixels left unlabelled where features of different class overlap"),
        (report.without_class, "features without class"),
        (report.without_geometry, "features without geometry"),
        (report.repaired, "invalid geometries repaired"),
        (report.outside, "features outside the scene"),
        (report.without_pixel, "features that hold no pixel centre"),
    ):
        if number:
            terminal.say(f"  {number} {text}")
