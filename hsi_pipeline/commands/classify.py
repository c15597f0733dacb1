"""Scene and model to a class map."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.utils import parse_bytes

from hsi_pipeline import __version__
from hsi_pipeline.checkpoint import checkpoint_hash, load_applicability, load_checkpoint
from hsi_pipeline.commands.messages import (
    about,
    check_no_input,
    check_quantity,
    describe_wavelengths,
    report_bands,
    report_map,
    report_mask,
    report_values,
)
from hsi_pipeline.commands.scheduling import check_memory, choose_device, computing
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError, SourceChangedError
from hsi_pipeline.inference import check_layers, chunk_for_memory, classify_cube, resolve_precision
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.publish import (
    MAP_WRITERS,
    check_target,
    write_class_map,
)
from hsi_pipeline.scene import cube_of, open_source
from hsi_pipeline.scene.files import file_stamp
from hsi_pipeline.spectra import bands_for_model

_FULL = (errno.ENOSPC, errno.EDQUOT)


def classify(
    scene: str | os.PathLike[str],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    chunk: int | None = None,
    memory: str | None = None,
    precision: str = "float32",
    probabilities: bool = False,
    layers: Sequence[str] = (),
    device: str = "auto",
    scheduler: str | None = None,
    tolerance_nm: float | None = None,
    resampling: str = "auto",
    fill_missing: str = "error",
    mask: str = "default",
    pixel_coordinates: bool = False,
    overwrite: bool = False,
    restart: bool | None = False,
    skip_failed: bool = False,
    threads: int | None = None,
    scene_id: str | None = None,
    acquired: str | None = None,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Classify a scene and write the class map.

    What is done survives an error, Ctrl-C and a crash: the same call goes on with what is missing,
    and the map is the one that an uninterrupted call gives.

    Args:
        scene: Scene file.
        model: Model file.
        out: Target, `.zarr` or `.tif`.
        chunk: Side of a chunk in pixels; the map does not depend on it.
        memory: Instead of it, memory for this process such as "4GB": the chunk is as large as it
            allows.
        precision: "float32", "bfloat16" or "auto".
        probabilities: Whether to write the probability of each class.
        layers: What else to write: "entropy", "margin", "dissimilarity"; see
            `map_layers.NUMBER_LAYERS`.
        device: Torch device or "auto".
        scheduler: Address of a running Dask scheduler; None computes in this process.
        tolerance_nm: How far a band may lie from the model's; None: what its card says.
        resampling: How the model's bands are made: "auto", "nearest", "linear" or "gaussian"; see
            `resampling.resample`.
        fill_missing: What becomes of bands that the scene lacks: "error", "interpolate", "mean".
        mask: Flags of the product's quality layers that become nodata: "default", "none",
            "strict", or flags with commas between; see `scene.quality`.
        pixel_coordinates: Accept a scene without georeference.
        overwrite: Replace an existing map.
        restart: Throw away what an interrupted call for the same map has done; None: only if it
            was of another scene, model or setting, which otherwise is an error.
        skip_failed: Leave chunks that cannot be read as nodata, listed in the map's attribute
            `failed_chunks`, instead of ending with an error.
        threads: Of this process, each with a chunk; None: as many as keep the device busy.
        scene_id: What the scene is called in map and polygons; None: as its files have it.
        acquired: When the scene was taken (ISO 8601), where its files do not say.
        terminal: Where to report.

    Returns:
        The files written, the class map first.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    check_target(out, overwrite=overwrite, suffixes=MAP_WRITERS)
    check_no_input(out, scene, model)
    check_memory(memory, chunk, scheduler)
    check_layers(layers)
    chosen_device = choose_device(device, scheduler)
    class_map, _, reading = open_and_classify(
        scene,
        model,
        chunk=chunk,
        memory=memory,
        precision=precision,
        probabilities=probabilities,
        layers=layers,
        device=chosen_device,
        tolerance_nm=tolerance_nm,
        resampling=resampling,
        fill_missing=fill_missing,
        mask=mask,
        pixel_coordinates=pixel_coordinates,
        terminal=terminal,
    )
    if scene_id:
        class_map.attrs["scene_id"] = scene_id
    if acquired:
        class_map.attrs.setdefault("acquired", acquired)
    stamp = file_stamp(os.fspath(scene))

    def check_source() -> None:
        try:
            now = file_stamp(os.fspath(scene))
        except OSError as error:
            raise InputError(
                f"{scene} cannot be reached any more ({error.strerror}), so that nobody knows "
                "whether it changed while it was read"
            ) from error
        if now != stamp:
            raise SourceChangedError(
                f"{scene} changed while it was read; a map would mix two scenes, so nothing was "
                "kept: run again when the scene is complete"
            )

    label = "classifying"
    # a GPU has two chunks at a time, and others are to be read meanwhile
    threads = threads or (2 if chosen_device == "cpu" else 4)
    with (
        computing(terminal, label, scheduler, bar=False, threads=threads),
        terminal.chunk_progress(label, class_map["class"].size) as progress,
    ):
        try:
            written = write_class_map(
                class_map,
                out,
                overwrite=overwrite,
                job=_job(class_map, stamp, reading, device=chosen_device),
                restart=restart,
                check_source=check_source,
                skip_failed=skip_failed,
                progress=progress,
            )
        except BaseException as error:
            for note in getattr(error, "__notes__", ()):
                terminal.say(note)
            if isinstance(error, OSError) and error.errno in _FULL:
                raise InputError(
                    f"no room left to write {out} ({error.strerror}); make room and run the same "
                    "command again"
                ) from error
            raise
    terminal.made("classify", written, **report_map(terminal, written[0]))
    return written


def _job(class_map: xr.Dataset, stamp: str, reading: str, *, device: str) -> dict[str, str]:
    """Return what the bytes of a class map depend on, by names that a user understands."""
    path, time_ns, size = stamp.rsplit(":", 2) if stamp.count(":") > 1 else (stamp, "", "")
    return {
        "scene": path,
        "scene's time": time_ns,
        "scene's size": size,
        "model": str(class_map.attrs["model_sha256"]),
        "mask": str(class_map.attrs.get("mask", "none")),
        "making of bands": "; ".join(
            str(class_map.attrs[key])
            for key in ("band_matching", "bands_interpolated", "bands_absent")
            if key in class_map.attrs
        ),
        "precision": str(class_map.attrs["precision"]),
        "device": device.partition(":")[0],
        "chunk": " x ".join(map(str, class_map["class"].data.chunksize)),
        "variables": ", ".join(map(str, class_map.data_vars)),
        "software": str(class_map.attrs["software"]),
        "bands, radiometry or grid": reading,
    }


def open_and_classify(
    scene: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    chunk: int | None,
    memory: str | None = None,
    precision: str,
    probabilities: bool,
    layers: Sequence[str] = (),
    device: str,
    tolerance_nm: float | None,
    resampling: str,
    fill_missing: str,
    mask: str,
    pixel_coordinates: bool,
    terminal: Terminal,
) -> tuple[xr.Dataset, ModelCard, str]:
    """Open a scene and a model and join them to a lazy class map.

    Args: as `classify`, with a device that is there.

    Returns:
        The class map, with the attributes that say where it comes from; the model's card; and a
        text that changes with the bands that are read, their radiometry, and the grid.

    Raises:
        InputError: They do not fit together.
    """
    network, card = load_checkpoint(model)
    source = open_source(scene, pixel_coordinates=pixel_coordinates, mask=mask)
    cube = cube_of(source)
    terminal.say(describe_wavelengths(cube))
    if advice := source.attrs.get("advice"):
        terminal.say(f"  {advice}")
    report_mask(terminal, source)
    tolerance = card.tolerance_nm if tolerance_nm is None else tolerance_nm
    with about(scene):
        bands = bands_for_model(
            cube, card.wavelengths, card.bands, tolerance, method=resampling, fill=fill_missing
        )
        check_quantity(source, card)
        report_values(terminal, cube, bands, network)
    matching = {"band_matching": "file order, no wavelengths"}
    if card.wavelengths is not None:
        matching = bands.provenance(card.wavelengths)
        report_bands(terminal, bands, matching)
        if bands.absent and not card.training.get("band_dropout"):
            terminal.say("  the model was not trained with band dropout: it may do badly without")
    if memory is not None:
        classes = len(layers) + (len(card.classes) if probabilities else 0)
        chunk = chunk_for_memory(parse_bytes(memory), cube, network, bands=bands, classes=classes)
        terminal.say(f"chunks of {chunk} x {chunk} pixels, the largest that {memory} allow")
    class_map = classify_cube(
        cube,
        network,
        card.classes,
        bands=bands,
        chunk=chunk,
        precision=precision,
        device=device,
        probabilities=probabilities,
        layers=layers,
        temperature=card.temperature,
        applicability=load_applicability(model) if "dissimilarity" in layers else None,
    )
    class_map.attrs |= {
        "software": f"hsi_pipeline {__version__}",
        "model": Path(model).name,
        "model_sha256": checkpoint_hash(model),
        "model_architecture": card.architecture,
        **_trust(card),
        "precision": str(resolve_precision(precision, device)).removeprefix("torch."),
        **matching,
        **({"mask": source.attrs["mask"]} if source.attrs.get("mask") else {}),
    }
    grid = grid_of(cube)
    read = [cube.attrs[key] for key in ("scene_id", "scale", "offset", "nodata")]
    reading = tokenize(
        bands.bands, bands.matrix, source.attrs.get("mask"), read, cube.shape, str(cube.dtype),
        tuple(grid.affine), str(grid.crs),
    )  # fmt: skip
    return class_map, card, reading


def _trust(card: ModelCard) -> dict[str, float]:
    """Return what the model's validation says of it, as attributes of its maps."""
    told = {"temperature": card.temperature} if card.calibration else {}
    if "ece_after" in card.calibration:
        told["expected_calibration_error"] = round(card.calibration["ece_after"], 4)
    scores = ("validation_overall_accuracy", "validation_mean_iou")
    return told | {
        name: round(card.scores[name], 4)
        for name in scores
        if np.isfinite(card.scores.get(name, np.nan))
    }
