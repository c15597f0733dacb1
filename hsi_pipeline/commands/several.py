"""Several scenes with labels, of whatever sensors, as one to learn from."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from odc.geo.geobox import GeoBox
from scipy.ndimage import maximum_filter

from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.commands.messages import about
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import GroundTruth, align_labels, join_schemes
from hsi_pipeline.resampling import (
    common_wavelengths,
    listed_nm,
    resample,
    supported_by_all,
)
from hsi_pipeline.scene import cube_of
from hsi_pipeline.scene.block_cache import cached
from hsi_pipeline.scene.resampled import resampled
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.scene.stacked import stack_rasters, stacked
from hsi_pipeline.spectra import band_statistics, bands_to_learn_from
from hsi_pipeline.splits import Split, make_split
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


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedScenes:
    """Scenes one below the other, as one to learn from."""

    source: SceneSource
    """All of them, on common bands."""
    truth: GroundTruth
    """Their labels, in one scheme."""
    grids: tuple[GeoBox, ...]
    """Grid of each."""
    tops: tuple[int, ...]
    """First row of each."""

    def place(self, i: int) -> tuple[slice, slice]:
        """Return the rows and columns of a scene."""
        height, width = self.grids[i].shape
        return slice(self.tops[i], self.tops[i] + height), slice(0, width)


def on_common_bands(
    scenes: Sequence[SceneWithLabels],
    wavelengths: Wavelengths | None,
    tolerance_nm: float,
    gap: int,
    terminal: Terminal,
) -> JoinedScenes:
    """Return several scenes as one with the same bands, or one scene with other bands.

    Args:
        scenes: Scenes with labels; those without a usable label are left out.
        wavelengths: Bands to bring them to, as far as all can give them; None: those that all have.
        tolerance_nm: How far bands may lie off, in nm.
        gap: Rows of nodata between scenes: the reach of the network.
        terminal: Where to report.

    Returns:
        The scenes one below the other in reflectance, their labels in one scheme.

    Raises:
        InputError: A scene has no wavelengths or is given twice, or they do not fit: bands, or
            reflectance and radiance; or only some of the label files have a column for splits.
    """
    _check_together(scenes)
    used, sensors = [], []
    for scene in scenes:
        found = scene.source.wavelengths
        assert found is not None  # _check_together has looked
        try:
            usable = _telling(scene)
        except InputError as error:
            if len(scenes) == 1:
                raise
            terminal.say(f"  left out: {error}")
            continue
        used.append(scene)
        sensors.append((found, usable))
    if not used:
        raise InputError("none of the scenes has a labelled pixel that holds values")
    wanted = common_wavelengths(sensors, tolerance_nm)
    if wavelengths is not None:
        wanted = supported_by_all(wavelengths, sensors, tolerance_nm)
        lost = sorted({*wavelengths.center_nm} - {*wanted.center_nm})
        if lost:
            terminal.say(f"  left out, not all scenes have them: {listed_nm(lost)} nm")
    low, high = min(wanted.center_nm), max(wanted.center_nm)
    terminal.say(f"common bands: {len(wanted)}, {low:.0f} to {high:.0f} nm")
    parts = []
    for scene, (found, usable) in zip(used, sensors, strict=True):
        with about(scene.source.path):
            operator = resample(wanted, found, usable, tolerance_nm)
        terminal.say(
            f"  {scene.source.attrs['scene_id']}: {operator.method}, from {len(operator.bands)} "
            f"bands, at most {operator.shift_nm:.2f} nm off"
        )
        # decoded blocks are kept as stored, half the size of what is made of them
        kept = replace(scene.source, pixels=cached(scene.source))
        parts.append(resampled(kept, wanted, operator))
    source, tops = stacked(parts, gap)
    return JoinedScenes(
        source=source,
        truth=_joined(used, tops, source.pixels.shape[1:]),
        grids=tuple(scene.source.grid for scene in used),
        tops=tops,
    )


def apart_on_the_ground(split: Split, labels: np.ndarray, joined: JoinedScenes) -> Split:
    """Take from training what shows the ground of another scene's validation pixels.

    Far apart in the stack, they may be the same place seen twice: a model would be scored on what
    it has learnt.

    Args:
        split: Split of the stacked labels.
        labels: The stacked labels (y, x).
        joined: The scenes.

    Returns:
        The split, as far apart on the ground as it is within each scene.
    """
    near = np.zeros_like(split.train)
    for i, grid in enumerate(joined.grids):
        for j, other in enumerate(joined.grids):
            if i == j or grid.crs is None or other.crs is None:
                continue
            seen = _seen_from(grid, other, split.validation[joined.place(j)], split.guard_px)
            near[joined.place(i)] |= seen
    if not (near & split.train).any():
        return split
    apart = make_split(labels, split.train & ~near, split.validation, split.guard_wanted)
    return replace(apart, guard_px=split.guard_px, cut=split.cut)


def _seen_from(grid: GeoBox, other: GeoBox, pixels: np.ndarray, guard: int) -> np.ndarray:
    """Return which pixels of a grid lie at, or within the guard of, some pixels of another grid."""
    found = np.zeros(tuple(grid.shape), bool)
    rows, columns = np.nonzero(pixels)
    if not rows.size:
        return found
    x, y = other.affine @ (columns + 0.5, rows + 0.5)
    if grid.crs != other.crs:
        x, y = other.crs.transformer_to_crs(grid.crs)(x, y)
    column, row = ~grid.affine @ (np.asarray(x), np.asarray(y))
    # A pixel of the other grid may be several of this one wide.
    half = np.ceil(abs(other.affine.determinant / grid.affine.determinant) ** 0.5 / 2)
    reach = int(guard + half)
    inside = (column > -reach) & (column < found.shape[1] + reach)
    inside &= (row > -reach) & (row < found.shape[0] + reach)
    padded = np.pad(found, reach)
    padded[
        np.floor(row[inside]).astype(int) + reach, np.floor(column[inside]).astype(int) + reach
    ] = True
    near = maximum_filter(padded, size=2 * reach + 1)
    return np.asarray(near[reach : reach + found.shape[0], reach : reach + found.shape[1]])


def _check_together(scenes: Sequence[SceneWithLabels]) -> None:
    """Refuse scenes that cannot be learnt from together."""
    paths = [os.fspath(scene.source.path) for scene in scenes]
    for i, scene in enumerate(scenes):
        if paths[i] in paths[:i]:
            raise InputError(f"{paths[i]} is given twice; leave one of them out")
        if scene.source.wavelengths is None:
            raise InputError(
                f"{paths[i]}: the scene has no wavelengths, so that its bands cannot be "
                "brought to those of others; add band tags 'wavelength' and 'wavelength_units'"
            )
    quantities = {str(scene.source.attrs["quantity"]): scene.source.path
                  for scene in scenes if scene.source.attrs.get("quantity")}  # fmt: skip
    if len(quantities) > 1:
        told = ", ".join(f"{name} in {path}" for name, path in quantities.items())
        raise InputError(f"the scenes hold different quantities ({told}); use products of one")


def _telling(scene: SceneWithLabels) -> list[bool]:
    """Return which bands of a scene have values that vary among its labelled pixels."""
    cube = cube_of(scene.source)
    labelled = scene.truth.labels != UNLABELLED
    with about(scene.source.path):
        chosen = bands_to_learn_from(cube, band_statistics(cube, labelled))
    return np.isin(np.arange(cube.sizes["band"]), chosen).tolist()


def _joined(
    scenes: Sequence[SceneWithLabels], tops: Sequence[int], shape: Sequence[int]
) -> GroundTruth:
    """Return ground truth of several scenes, placed as `stacked` places the scenes."""
    truths = [scene.truth for scene in scenes]
    scheme = join_schemes([truth.scheme for truth in truths])
    size = (shape[0], shape[1])
    with_splits = [truth.splits for truth in truths if truth.splits is not None]
    if with_splits and len(with_splits) < len(truths):
        raise InputError(
            "only some of the label files say which labels are for validation; give all of them "
            "the column of --split-column, or leave the option out"
        )
    # A feature of one file is one unit in every scene: it must not stand on both sides of a split.
    units, first, firsts = [], 0, dict[str, int]()
    for scene in scenes:
        offset = firsts.setdefault(os.fspath(scene.labels), first)
        units.append(np.where(scene.truth.units > 0, scene.truth.units + offset, 0))
        first = max(first, int(units[-1].max(initial=0)))
    return GroundTruth(
        labels=stack_rasters([align_labels(truth, scheme) for truth in truths], tops, size),
        scheme=scheme,
        units=stack_rasters(units, tops, size),
        splits=stack_rasters(with_splits, tops, size) if with_splits else None,
        report=truths[0].report,
    )
