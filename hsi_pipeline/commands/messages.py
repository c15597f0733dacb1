"""What several commands say about scenes, labels and maps, and errors that name their file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

from hsi_pipeline.commands.sampling import sample_reflectance
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import wavelengths_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import GroundTruth
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.publish import FAILED_CHUNKS, open_class_map
from hsi_pipeline.resampling import SpectralOperator
from hsi_pipeline.scene.quality import flag_shares
from hsi_pipeline.scene.source import SceneSource

_UNLIKE = 20  # times as large or small as what was learnt


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


def check_no_input(target: str | os.PathLike[str], *inputs: str | os.PathLike[str] | None) -> None:
    """Refuse to write a file over one that is read.

    Raises:
        InputError: The target is one of the inputs.
    """
    for path in inputs:
        if path is None or not (Path(target).exists() and Path(path).exists()):
            continue
        if Path(target).samefile(path):
            raise InputError(f"{target} is read as {path}; write the result elsewhere")


def describe_wavelengths(cube: xr.DataArray) -> str:
    """Return one line on the bands of a scene."""
    bad = int((~cube["good"].values).sum())
    found = wavelengths_of(cube)
    text = f"{cube.attrs['scene_id']}: {cube.sizes['band']} bands"
    if found is None:
        return f"{text} without wavelengths: they are taken in the file's order; {bad} marked bad"
    low, high = min(found.center_nm), max(found.center_nm)
    return f"{text}, {low:.0f} to {high:.0f} nm, {bad} marked bad"


def check_quantity(source: SceneSource, card: ModelCard) -> None:
    """Refuse a scene of radiance for a model of reflectance, and the other way round.

    Raises:
        InputError: Both are known, and differ.
    """
    found, learnt = source.attrs.get("quantity"), card.training.get("quantity")
    if found and learnt and found != learnt:
        raise InputError(
            f"the scene holds {found}, the model was trained on {learnt}; give it the product of "
            f"{learnt}"
        )


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
            few = provenance[name].split(", ")
            more = f" and {len(few) - 6} more" if len(few) > 6 else ""
            terminal.say(f"  {text}: {', '.join(few[:6])}{more} nm")


def report_values(
    terminal: Terminal, cube: xr.DataArray, operator: SpectralOperator, model: Any
) -> None:
    """Warn of a scene whose values are nothing like those that a model has learnt from.

    A missing scale makes them thousands of times as large, and any map of them nonsense.
    """
    learnt = getattr(model, "band_mean", None)
    if learnt is None:
        return
    try:
        values, _ = sample_reflectance(cube, windows=4)
    except InputError:  # said by what needs that window, if anything does
        return
    if not values.size:
        return
    found = operator.apply(values[list(operator.bands)]).mean(1)
    there = [i for i in range(operator.count) if i not in operator.absent]
    typical, known = float(np.median(found[there])), float(np.median(learnt.numpy()[there]))
    if known > 0 and not 1 / _UNLIKE < typical / known < _UNLIKE:
        terminal.warn(
            f"its values are about {typical:.3g}, those of the training pixels "
            f"{known:.3g}; does its scale to reflectance lack, or is it another quantity?"
        )


def report_mask(terminal: Terminal, source: SceneSource) -> None:
    """Say which share of a scene its quality layers turn to nodata, flag by flag."""
    if source.quality is None and source.attrs.get("sensor"):
        terminal.say("  it has no quality layers: clouds and shadows are not masked")
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
    spelt: dict[str, list[str]] = {}
    for name in truth.scheme.names:
        spelt.setdefault(name.casefold(), []).append(name)
    for same in (names for names in spelt.values() if len(names) > 1):
        terminal.warn(
            f"{', '.join(map(repr, same))} differ only in case, and are classes of their own"
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


def report_map(terminal: Terminal, path: Path) -> dict[str, Any]:
    """Say how the classes share a written map, and what is nodata; return that as figures."""
    class_map = open_class_map(path)
    codes = class_map["class"]
    layers = [codes.data]
    if "dissimilarity" in class_map:
        layers.append(class_map["dissimilarity"].data)
    counts, outside = np.zeros(256, np.int64), 0
    # block by block: the map is never whole in memory
    for parts in zip(*(layer.blocks.ravel() for layer in layers), strict=True):
        block, *unlike = dask.compute(*parts)
        counts += np.bincount(block.ravel(), minlength=256)
        outside += sum(int((part > 1).sum()) for part in unlike)
    total = int(counts.sum())
    names = dict(zip(codes.attrs["flag_values"], codes.attrs["class_names"], strict=True))
    shares = ", ".join(
        f"{name} {counts[code] / total:.1%}" for code, name in names.items() if counts[code]
    )
    terminal.say(f"map of {total} pixels in {path}: {shares}; nodata {counts[0] / total:.1%}")
    if "dissimilarity" in class_map and counts[0] < total:
        terminal.say(
            f"  {outside / (total - counts[0]):.1%} of the classified pixels are outside the area "
            "of applicability: their spectra are unlike all that the model was trained on"
        )
    chunks = list(class_map.attrs.get(FAILED_CHUNKS, []))
    for failed in chunks:
        terminal.say(f"  {failed}")
    return {
        "pixels": total,
        "nodata_pixels": int(counts[0]),
        "classes": [
            {"code": code, "name": name, "pixels": int(counts[code])}
            for code, name in names.items()
        ],
        "failed_chunks": chunks,
    }
