"""A workflow file to all its results."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hsi_pipeline import config
from hsi_pipeline.commands.assess import assess
from hsi_pipeline.commands.assessment import assessment_json
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.evaluate import evaluate
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.commands.report import report
from hsi_pipeline.commands.scheduling import check_memory, computing
from hsi_pipeline.commands.stac import stac
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.commands.train import train
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import read_labels
from hsi_pipeline.ground_truth.parcels import read_parcels
from hsi_pipeline.publish import check_target, open_class_map, write_class_map
from hsi_pipeline.publish.record import accuracy_summary, record_accuracy
from hsi_pipeline.publish.report import check_figures_folder, check_report_target
from hsi_pipeline.scene import open_source


def run(
    workflow: str | os.PathLike[str],
    *,
    scheduler: str | None = None,
    overwrite: bool = False,
    restart: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Run the steps of a workflow file, from training to the report and the STAC item.

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
    assessment = settings.out / "assessment.json"
    page, pictures = settings.out / "report.html", settings.out / "figures"
    item = [settings.out / "item.json"] if settings.classify else []
    for target in [
        *([model] if settings.train else []),
        *([figures] if settings.evaluate else []),
        *maps,
        *vectors,
        *parcels,
        *([assessment] if settings.assess else []),
        *item,
    ]:
        check_target(target, overwrite=overwrite, suffixes=(target.suffix,))
    if settings.report:
        check_report_target(page, overwrite=overwrite)
        if settings.report.figures:
            check_figures_folder(pictures, overwrite=overwrite)
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
    if settings.assess:
        labels = settings.assess.labels.model_dump(exclude={"path"})
        options = settings.assess.model_dump(exclude={"labels"})
        found = assess(
            maps[0], settings.assess.labels.path, model=model, out=assessment, overwrite=overwrite,
            terminal=terminal, **options, **labels,
        )  # fmt: skip
        for target in maps:
            record_accuracy(target, accuracy_summary(assessment_json(found)))
        written.append(assessment)
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
    described: list[Path] = [*maps[:-1], *vectors, *parcels]
    if settings.assess:
        described.append(assessment)
    if settings.report:
        made = report(
            maps[0], page, scene=settings.scene, model=model,
            polygons=vectors[0] if vectors else None,
            assessment=assessment if settings.assess else None,
            figures=pictures if settings.report.figures else None,
            title=settings.report.title, overwrite=overwrite, terminal=terminal,
        )  # fmt: skip
        described += made[:2]  # the page and its numbers
        written += made
    if settings.classify:
        written += stac(
            maps[-1], item[0], products=described, model=model,
            derived_from=settings.scene, overwrite=overwrite, terminal=terminal,
        )  # fmt: skip
    terminal.say(f"done in {time.monotonic() - started:.0f} s:")
    for path in written:
        terminal.show(os.path.normpath(path))
    terminal.made("run", written)
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
