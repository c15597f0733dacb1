"""Scene and model to a class map."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import xarray as xr
from dask.base import tokenize

from hsi_pipeline import __version__
from hsi_pipeline.checkpoint import checkpoint_hash, load_checkpoint
from hsi_pipeline.commands.messages import about, describe_wavelengths
from hsi_pipeline.commands.scheduling import choose_device, computing
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of, wavelengths_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.inference import classify_cube
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.publish import MAP_WRITERS, check_target, open_class_map, write_class_map
from hsi_pipeline.scene import open_scene
from hsi_pipeline.scene.files import file_stamp
from hsi_pipeline.spectra import bands_for_model

_FULL = (errno.ENOSPC, errno.EDQUOT)


def classify(
    scene: str | os.PathLike[str],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    chunk: int | None = None,
    precision: str = "float32",
    probabilities: bool = False,
    device: str = "auto",
    scheduler: str | None = None,
    tolerance_nm: float | None = None,
    pixel_coordinates: bool = False,
    overwrite: bool = False,
    restart: bool = False,
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
        precision: "float32", "bfloat16" or "auto".
        probabilities: Whether to write the probability of each class.
        device: Torch device or "auto".
        scheduler: Address of a running Dask scheduler; None computes in this process.
        tolerance_nm: How far a band may lie from the model's; None: what its card says.
        pixel_coordinates: Accept a scene without georeference.
        overwrite: Replace an existing map.
        restart: Throw away what an interrupted call for the same map has done.
        terminal: Where to report.

    Returns:
        The files written, the class map first.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    check_target(out, overwrite=overwrite, suffixes=MAP_WRITERS)
    chosen_device = choose_device(device)
    class_map, _, reading = open_and_classify(
        scene,
        model,
        chunk=chunk,
        precision=precision,
        probabilities=probabilities,
        device=chosen_device,
        tolerance_nm=tolerance_nm,
        pixel_coordinates=pixel_coordinates,
        terminal=terminal,
    )
    stamp = file_stamp(os.fspath(scene))

    def check_source() -> None:
        try:
            same = file_stamp(os.fspath(scene)) == stamp
        except OSError:
            same = False
        if not same:
            raise InputError(
                f"{scene} changed or went while it was read; a map would mix two scenes, so "
                "nothing was kept: run again when the scene is complete"
            )

    with computing(terminal, "classifying", scheduler):
        try:
            written = write_class_map(
                class_map,
                out,
                overwrite=overwrite,
                job=_job(class_map, stamp, reading, device=chosen_device),
                restart=restart,
                check_source=check_source,
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
    report_map(terminal, written[0])
    return written


def _job(class_map: xr.Dataset, stamp: str, reading: str, *, device: str) -> dict[str, str]:
    """Return what the bytes of a class map depend on, by names that a user understands."""
    path, time_ns, size = stamp.rsplit(":", 2) if stamp.count(":") > 1 else (stamp, "", "")
    return {
        "scene": path,
        "scene's time": time_ns,
        "scene's size": size,
        "model": str(class_map.attrs["model_sha256"]),
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
    precision: str,
    probabilities: bool,
    device: str,
    tolerance_nm: float | None,
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
    cube = open_scene(scene, pixel_coordinates=pixel_coordinates)
    terminal.say(describe_wavelengths(cube))
    tolerance = card.tolerance_nm if tolerance_nm is None else tolerance_nm
    with about(scene):
        bands = bands_for_model(cube, card.wavelengths, card.bands, tolerance)
    if card.wavelengths is not None:
        off = _largest_shift(cube, bands, card)
        terminal.say(f"{len(bands)} bands matched by wavelength, at most {off:.2f} nm off")
    class_map = classify_cube(
        cube,
        network,
        card.classes,
        bands=bands,
        chunk=chunk,
        precision=precision,
        device=device,
        probabilities=probabilities,
    )
    class_map.attrs |= {
        "software": f"hsi_pipeline {__version__}",
        "model": Path(model).name,
        "model_sha256": checkpoint_hash(model),
        "model_architecture": card.architecture,
        "precision": precision,
        "band_matching": "wavelength" if card.wavelengths else "file order, no wavelengths",
    }
    grid = grid_of(cube)
    read = [cube.attrs[key] for key in ("scene_id", "scale", "offset", "nodata")]
    reading = tokenize(bands, read, cube.shape, str(cube.dtype), tuple(grid.affine), str(grid.crs))
    return class_map, card, reading


def report_map(terminal: Terminal, path: Path) -> None:
    """Say how the classes share a written map, and what is nodata."""
    codes = open_class_map(path)["class"]
    counts = np.zeros(256, np.int64)
    for block in codes.data.blocks.ravel():  # block by block: the map is never whole in memory
        counts += np.bincount(block.compute().ravel(), minlength=256)
    total = int(counts.sum())
    names = dict(zip(codes.attrs["flag_values"], codes.attrs["class_names"], strict=True))
    shares = ", ".join(
        f"{name} {counts[code] / total:.1%}" for code, name in names.items() if counts[code]
    )
    terminal.say(f"map of {total} pixels in {path}: {shares}; nodata {counts[0] / total:.1%}")


def _largest_shift(cube: xr.DataArray, bands: tuple[int, ...], card: ModelCard) -> float:
    found = wavelengths_of(cube)
    assert found is not None  # bands_for_model has matched by wavelength
    assert card.wavelengths is not None
    wanted = np.array(card.wavelengths.center_nm)
    return float(np.abs(np.array(found.select(bands).center_nm) - wanted).max())
