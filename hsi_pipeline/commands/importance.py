"""Scene, labels and model to the wavelengths that the model relies on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from hsi_pipeline.checkpoint import load_checkpoint
from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.commands.learnt import is_learnt_from
from hsi_pipeline.commands.messages import (
    about,
    check_no_input,
    check_quantity,
    describe_wavelengths,
    report_bands,
    report_labels,
    report_mask,
)
from hsi_pipeline.commands.scheduling import choose_device
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.datasets import GroundTruthDataset, HyperspectralDataset
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import align_labels, labels_sha256, read_labels
from hsi_pipeline.importance import (
    LabelledBatch,
    PermutationResult,
    gather_batches,
    mean_spectrum,
    permute_regions,
    score_gradients,
    some_labels,
    spectral_regions,
)
from hsi_pipeline.loaders import ValidationTiles
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.plots import plot_importance
from hsi_pipeline.publish import check_target, staged
from hsi_pipeline.scene import cube_of, open_source
from hsi_pipeline.scene.block_cache import cached
from hsi_pipeline.scene.resampled import resampled
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.spectra import bands_for_model, valid_among

FIGURE_SUFFIXES = (".png", ".svg", ".pdf")

_BLOCK = 16  # side of the blocks of labels that a network with context sees
_PIXELS = 30_000  # with context: a model sees them hundreds of times
_SHOWN = 10  # regions in the report


def importance(
    scene: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    figure: str | os.PathLike[str] | None = None,
    region_nm: float = 50.0,
    repeats: int = 5,
    label_column: str | None = None,
    name_column: str | None = None,
    class_table: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    where: str | None = None,
    seed: int = 0,
    device: str = "auto",
    tolerance_nm: float | None = None,
    resampling: str = "auto",
    mask: str = "default",
    pixel_coordinates: bool = False,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> pd.DataFrame:
    """Measure which wavelengths a model relies on, and write a line for each of its bands.

    Args:
        scene: Scene file, of any sensor that can give the model's bands.
        labels: Vector file or class raster; best labels that the model has not seen, as what it
            learnt by heart may rely on more. A warning tells if it was trained on these.
        model: Model file.
        out: Target, `.csv`.
        figure: Target of a picture, `.png`, `.svg` or `.pdf`; None draws none.
        region_nm: Width of the regions whose bands are permuted together, in nm.
        repeats: Permutations of each region.
        label_column: Column of class codes or names.
        name_column: Column that names the codes.
        class_table: CSV or YAML of code, name, color.
        layer: Layer of the vector file.
        where: SQL condition on the features.
        seed: Seed of the permutations, and of the choice of labels where there are many.
        device: Torch device or "auto".
        tolerance_nm: How far a band may lie from the model's; None: what its card says.
        resampling: How the model's bands are made; see `resampling.resample`.
        mask: Flags that become nodata; see `scene.quality`.
        pixel_coordinates: Accept a scene without georeference.
        overwrite: Replace existing files.
        terminal: Where to report.

    Returns:
        What was written: for each band, by wavelength, its number in the model and its region; of
        the region the drop of overall accuracy and of mean F1 when it is permuted, mean and
        standard deviation over the repeats; the gradient of the band, NaN for classifiers of
        scikit-learn; and the mean reflectance of the labelled pixels.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    if not 0 < region_nm < np.inf:
        raise InputError(f"--region is {region_nm:g} nm; it must be above 0")
    if repeats < 1:
        raise InputError(f"--repeats is {repeats}; it must be at least 1")
    if seed < 0:
        raise InputError(f"--seed {seed} is negative")
    check_target(out, overwrite=overwrite, suffixes=(".csv",))
    if figure is not None:
        check_target(figure, overwrite=overwrite, suffixes=FIGURE_SUFFIXES)
    for target in (out, figure):
        if target is not None:
            check_no_input(target, scene, labels, model, class_table)
    chosen_device = choose_device(device)
    network, card = load_checkpoint(model)
    source, bands = _open(
        scene, card, terminal, tolerance_nm=tolerance_nm, resampling=resampling, mask=mask,
        pixel_coordinates=pixel_coordinates,
    )  # fmt: skip
    truth = read_labels(
        labels, source.grid, label_column=label_column, name_column=name_column,
        class_table=class_table, layer=layer, where=where,
    )  # fmt: skip
    report_labels(terminal, truth)
    pixels_sha256 = labels_sha256(truth.labels, source.grid)
    narrowed = layer is not None or where is not None
    if is_learnt_from(card, labels, pixels_sha256, narrowed=narrowed):
        terminal.warn(
            f"{Path(model).name} was trained on these very labels: what it relies on there may be "
            "what it learnt by heart; labels that were held out tell what it relies on elsewhere"
        )
    with about(labels):
        codes = align_labels(truth, card.classes)
    known = valid_among(cube_of(source), codes != UNLABELLED, bands)
    if not known.any():
        raise InputError(f"{labels}: all labelled pixels are nodata in {scene}")
    table = np.zeros(256, np.uint8)
    for code, index in card.classes.index_of_code.items():
        table[code] = index + 1
    batches = _read(source, bands, table[np.where(known, codes, UNLABELLED)], card, seed, terminal,
                    device=chosen_device)  # fmt: skip
    regions = spectral_regions(card.wavelengths, card.bands, region_nm)
    network = network.to(chosen_device)
    with terminal.progress("permuting regions") as update:
        result = permute_regions(
            network, batches, regions, len(card.classes),
            repeats=repeats, seed=seed, progress=update,
        )  # fmt: skip
    frame = _frame(card, regions, result, network, batches, terminal)
    with staged(Path(out)) as target:
        frame.to_csv(target, index=False, float_format="%.6g")
    if figure is not None:
        title = f"{Path(model).name} ({card.architecture}) on {source.attrs['scene_id']}"
        with staged(Path(figure)) as target:
            plot_importance(frame, title).savefig(target, dpi=150)
    _report(frame, result, terminal)
    terminal.say(f"{len(frame)} bands in {out}")
    terminal.made(
        "importance",
        [out] if figure is None else [out, figure],
        overall_accuracy=result.accuracy.overall,
        mean_f1=result.accuracy.mean_f1,
        pixels=result.accuracy.pixels,
        bands=frame.to_dict("records"),
    )
    return frame


def _open(
    scene: str | os.PathLike[str],
    card: ModelCard,
    terminal: Terminal,
    *,
    tolerance_nm: float | None,
    resampling: str,
    mask: str,
    pixel_coordinates: bool,
) -> tuple[SceneSource, tuple[int, ...]]:
    """Open a scene, and return it with its bands that are the model's, in the model's order."""
    source = open_source(scene, pixel_coordinates=pixel_coordinates, mask=mask)
    cube = cube_of(source)
    terminal.say(describe_wavelengths(cube))
    report_mask(terminal, source)
    tolerance = card.tolerance_nm if tolerance_nm is None else tolerance_nm
    with about(scene):
        operator = bands_for_model(cube, card.wavelengths, card.bands, tolerance, method=resampling)
        check_quantity(source, card)
    if card.wavelengths is not None:
        report_bands(terminal, operator, operator.provenance(card.wavelengths))
    if operator.matrix is None:
        return source, operator.bands
    kept = replace(source, pixels=cached(source))
    return resampled(kept, card.wavelengths, operator), tuple(range(operator.count))


def _read(
    source: SceneSource,
    bands: tuple[int, ...],
    labels: np.ndarray,
    card: ModelCard,
    seed: int,
    terminal: Terminal,
    *,
    device: str,
) -> list[LabelledBatch]:
    """Read labelled pixels with their surroundings, of many only some."""
    side = _BLOCK if card.halo else 1
    most = max(_PIXELS // (side + 2 * card.halo) ** 2, 1)
    chosen = some_labels(labels, side=side, most=most, seed=seed)
    used, found = np.count_nonzero(chosen), np.count_nonzero(labels)
    some = "" if used == found else f", drawn from {found}"
    terminal.say(f"importance by {used} labelled pixels{some}")
    with about(source.path):
        dataset = HyperspectralDataset(source, bands=bands)
    tiles = ValidationTiles(
        dataset & GroundTruthDataset(chosen, source.grid), chosen, source.grid,
        halo=card.halo, tile=_BLOCK if card.halo else 256,
    )  # fmt: skip
    samples = (tiles[i] for i in range(len(tiles)))
    return gather_batches(samples, context=card.halo > 0, device=device)


def _frame(
    card: ModelCard,
    regions: np.ndarray,
    result: PermutationResult,
    network: nn.Module,
    batches: list[LabelledBatch],
    terminal: Terminal,
) -> pd.DataFrame:
    """Return a line for each band, by wavelength."""
    gradient = np.full(card.bands, np.nan)
    if hasattr(network, "band_std"):
        gradient = score_gradients(network, batches)
    else:
        terminal.say(f"{card.architecture} has no gradients: that column is empty")
    nm = np.full(card.bands, np.nan)
    if card.wavelengths is not None:
        nm = np.array(card.wavelengths.center_nm)
    columns: dict[str, Any] = {
        "band": np.arange(1, card.bands + 1),
        "wavelength_nm": nm,
        "region": regions + 1,
    }
    for name, drops in (("overall_accuracy", result.overall), ("mean_f1", result.mean_f1)):
        columns[f"{name}_drop"] = drops.mean(1)[regions]
        spread = drops.std(1, ddof=1) if drops.shape[1] > 1 else np.full(len(drops), np.nan)
        columns[f"{name}_drop_std"] = spread[regions]
    columns |= {"gradient": gradient, "mean_reflectance": mean_spectrum(batches)}
    order = np.lexsort((columns["band"], nm))
    return pd.DataFrame(columns).iloc[order].reset_index(drop=True)


def _report(frame: pd.DataFrame, result: PermutationResult, terminal: Terminal) -> None:
    """Print the regions that matter most."""
    accuracy = result.accuracy
    terminal.say(
        f"overall accuracy {accuracy.overall:.3f}, mean F1 {accuracy.mean_f1:.3f} on "
        f"{accuracy.pixels} pixels; without a region it drops by"
    )
    place = "band" if frame["wavelength_nm"].isna().any() else "wavelength_nm"
    groups = frame.groupby("region")
    drops = groups.first().assign(start=groups[place].min(), stop=groups[place].max())
    drops["bands"] = groups.size()
    top = drops.sort_values("overall_accuracy_drop", ascending=False).head(_SHOWN)
    unit = "" if place == "band" else " nm"
    terminal.table(
        "Regions that matter most",
        ("region", "bands", "overall accuracy", "mean F1"),
        [
            (
                f"{row.start:.0f} to {row.stop:.0f}{unit}",
                str(row.bands),
                f"{row.overall_accuracy_drop:.3f}",
                f"{row.mean_f1_drop:.3f}",
            )
            for row in top.itertuples()
        ],
    )
