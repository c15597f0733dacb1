"""A workflow file to all its results."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hsi_pipeline import config
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.evaluate import evaluate
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.commands.scheduling import check_memory, computing
from hsi_pipeline.commands.stac import stac
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.commands.train import train
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import read_labels
from hsi_pipeline.ground_truth.parcels import read_parcels
from hsi_pipeline.publish import check_target, open_class_map, write_class_map
from hsi_pipeline.scene import open_source


def run(
    workflow: str | os.PathLike[str],
    *,
    scheduler: str | None = None,
    overwrite: bool = False,
    restart: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Run the steps of a workflow file: train, evaluate, classify, polygonize, describe by STAC.

    Args:
        workflow: YAML file; see `config.Workflow`.
        scheduler: Address of a running Dask scheduler; None computes in this process.
        overwrite: Replace results of an earlier run.
        restart: Classify anew, though an interrupted run has begun; with a new model that goes
            without saying.
        terminal: Where to report.

    Returns:
        The files written.

    Raises:
        InputError: Anything about the input or output that cannot work, before the first step
            where it can be known.
    """
    terminal = terminal or Terminal(quiet=True)
    settings = config.load(workflow)
    if isinstance(settings, config.Archive):
        raise InputError(f"{workflow} is a workflow of an archive; 'workflow.run_workflow' runs it")
    started = time.monotonic()
    if settings.classify:
        check_memory(settings.classify.memory, settings.classify.chunk, scheduler)
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{settings.out}: cannot be made a folder ({error.strerror})") from error
    model = settings.model or settings.out / "model.safetensors"
    figures = settings.out / "accuracy.json"
    maps = (
        [settings.out / f"map.{kind}" for kind in settings.classify.formats]
        if settings.classify
        else []
    )
    polygons = settings.polygonize.formats if settings.polygonize else []
    vectors = [settings.out / f"landcover.{kind}" for kind in polygons]
    parcels = (
        [settings.out / f"parcels.{kind}" for kind in polygons]
        if settings.polygonize and settings.polygonize.by
        else []
    )
    item = [settings.out / "item.json"] if settings.classify else []
    for target in [
        *([model] if settings.train else []),
        *([figures] if settings.evaluate else []),
        *maps,
        *vectors,
        *parcels,
        *item,
    ]:
        check_target(target, overwrite=overwrite, suffixes=(target.suffix,))
    if settings.polygonize and settings.polygonize.by:
        # known now, though needed after the map
        read_parcels(settings.polygonize.by, settings.polygonize.by_layer)
    written: list[Path] = []
    common: dict[str, Any] = {
        "device": settings.device,
        "mask": settings.mask,
        "pixel_coordinates": settings.pixel_coordinates,
        "overwrite": overwrite,
        "terminal": terminal,
    }
    if settings.train:
        options = settings.train.model_dump(exclude={"labels", "also"})
        also = [
            (one.scene, one.labels or settings.train.labels.path) for one in settings.train.also
        ]
        labels = settings.train.labels.model_dump(exclude={"path"})
        _check_reference(settings)
        train(
            settings.scene, settings.train.labels.path, model, also=also,
            **options, **labels, **common,
        )  # fmt: skip
        written.append(model)
    if settings.evaluate:
        labels = settings.evaluate.labels.model_dump(exclude={"path"})
        bands = ("tolerance_nm", "resampling", "fill_missing")
        matching = settings.classify.model_dump(include=set(bands)) if settings.classify else {}
        evaluate(
            settings.scene,
            settings.evaluate.labels.path,
            model,
            out=figures,
            scheduler=scheduler,
            **matching,
            **labels,
            **common,
        )
        written.append(figures)
    if settings.classify:
        options = settings.classify.model_dump(exclude={"formats"})
        written += classify(
            settings.scene,
            model,
            maps[0],
            scheduler=scheduler,
            restart=restart or settings.train is not None,
            **options,
            **common,
        )
        for target in maps[1:]:  # the same map in another format, not computed again
            with computing(terminal, f"writing {target.name}", None):
                written += write_class_map(open_class_map(maps[0]), target, overwrite=overwrite)
    if settings.polygonize:
        of_map = settings.polygonize.model_dump(exclude={"formats", "by", "by_layer"})
        of_parcels = settings.polygonize.model_dump(
            include={"min_area", "join", "connectivity", "chunk", "by", "by_layer"}
        )
        for targets, options in ((vectors, of_map), (parcels, of_parcels)):
            for target in targets:
                written += polygonize(
                    maps[0], target, **options, scheduler=scheduler, overwrite=overwrite,
                    terminal=terminal,
                )  # fmt: skip
    if settings.classify:
        written += stac(
            maps[-1], item[0], products=[*maps[:-1], *vectors, *parcels], model=model,
            derived_from=settings.scene, overwrite=overwrite, terminal=terminal,
        )  # fmt: skip
    terminal.say(f"done in {time.monotonic() - started:.0f} s:")
    for path in written:
        terminal.show(os.path.normpath(path))
    return written


def _check_reference(settings: config.Workflow) -> None:
    """Read the labels to compare with, so that what is wrong with them is known before training.

    Raises:
        InputError: They cannot be used.
    """
    if settings.evaluate:
        source = open_source(settings.scene, pixel_coordinates=settings.pixel_coordinates)
        options = settings.evaluate.labels.model_dump(exclude={"path"})
        read_labels(settings.evaluate.labels.path, source.grid, **options)
