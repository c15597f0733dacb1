"""Several scenes with labels, of whatever sensors, as one to learn from."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.commands.messages import about
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import GroundTruth, align_labels, join_schemes
from hsi_pipeline.resampling import common_wavelengths, resample
from hsi_pipeline.scene import cube_of
from hsi_pipeline.scene.resampled import resampled
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.scene.stacked import stack_rasters, stacked
from hsi_pipeline.spectra import band_statistics, bands_to_learn_from
from hsi_pipeline.wavelengths import Wavelengths


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneWithLabels:
    """A scene and its ground truth."""

    source: SceneSource
    """The scene."""
    truth: GroundTruth
    """Labels on its grid."""
    labels: str | os.PathLike[str]
    """Their file."""


def parse_wavelengths(text: str) -> Wavelengths:
    """Return the wavelengths "START:STOP:STEP" in nm, each as wide as the step.

    Raises:
        InputError: The text is no such range.
    """
    try:
        start, stop, step = (float(part) for part in text.split(":"))
    except ValueError:
        start = stop = step = math.nan
    if not (0 < start <= stop < math.inf and 0 < step < math.inf):
        raise InputError(f"wavelengths {text!r} are no range START:STOP:STEP in nm, as 420:2450:10")
    count = math.floor((stop - start) / step + 1e-9) + 1
    if count > 10_000:
        raise InputError(f"wavelengths {text!r} are {count} bands; take a larger step")
    centers = tuple(start + i * step for i in range(count))
    return Wavelengths(centers, (step,) * count)


def on_common_bands(
    scenes: Sequence[SceneWithLabels],
    wavelengths: Wavelengths | None,
    tolerance_nm: float,
    gap: int,
    terminal: Terminal,
) -> SceneWithLabels:
    """Return several scenes as one with the same bands, or one scene with other bands.

    Args:
        scenes: Scenes with labels.
        wavelengths: Bands to bring them to; None: those that all of them can give.
        tolerance_nm: How far bands may lie off, in nm.
        gap: Rows of nodata between scenes: the reach of the network.
        terminal: Where to report.

    Returns:
        The scenes one below the other in reflectance, their labels in one scheme.

    Raises:
        InputError: A scene has no wavelengths, or they do not fit; or only some of the label files
            say which labels are for validation.
    """
    sensors = []
    for scene in scenes:
        found = scene.source.wavelengths
        if found is None:
            raise InputError(
                f"{scene.source.path}: the scene has no wavelengths, so that its bands cannot be "
                "brought to those of others; add band tags 'wavelength' and 'wavelength_units'"
            )
        sensors.append((found, _telling(scene)))
    wanted = wavelengths or common_wavelengths(sensors, tolerance_nm)
    low, high = min(wanted.center_nm), max(wanted.center_nm)
    terminal.say(f"common bands: {len(wanted)}, {low:.0f} to {high:.0f} nm")
    parts = []
    for scene, (found, usable) in zip(scenes, sensors, strict=True):
        with about(scene.source.path):
            operator = resample(wanted, found, usable, tolerance_nm)
        terminal.say(
            f"  {scene.source.attrs['scene_id']}: {operator.method}, from {len(operator.bands)} "
            f"bands, at most {operator.shift_nm:.2f} nm off"
        )
        parts.append(resampled(scene.source, wanted, operator))
    source, tops = stacked(parts, gap)
    return SceneWithLabels(
        source=source,
        truth=_joined([scene.truth for scene in scenes], tops, source.pixels.shape[1:]),
        labels=scenes[0].labels,
    )


def _telling(scene: SceneWithLabels) -> list[bool]:
    """Return which bands of a scene have values that vary among its labelled pixels."""
    cube = cube_of(scene.source)
    labelled = scene.truth.labels != UNLABELLED
    with about(scene.source.path):
        chosen = bands_to_learn_from(cube, band_statistics(cube, labelled))
    return np.isin(np.arange(cube.sizes["band"]), chosen).tolist()


def _joined(
    truths: Sequence[GroundTruth], tops: Sequence[int], shape: Sequence[int]
) -> GroundTruth:
    """Return ground truth of several scenes, placed as `stacked` places the scenes."""
    scheme = join_schemes([truth.scheme for truth in truths])
    size = (shape[0], shape[1])
    with_splits = [truth.splits for truth in truths if truth.splits is not None]
    if with_splits and len(with_splits) < len(truths):
        raise InputError(
            "only some of the label files say which labels are for validation; give all of them "
            "the column of --split-column, or leave the option out"
        )
    units, first = [], 0
    for truth in truths:
        units.append(np.where(truth.units > 0, truth.units + first, 0))
        first += int(truth.units.max(initial=0))
    return GroundTruth(
        labels=stack_rasters([align_labels(truth, scheme) for truth in truths], tops, size),
        scheme=scheme,
        units=stack_rasters(units, tops, size),
        splits=stack_rasters(with_splits, tops, size) if with_splits else None,
        report=truths[0].report,
    )
