"""All scenes of an archive to a land-cover archive that other programs can search."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import dask

from hsi_pipeline import config
from hsi_pipeline.archive.ledger import Failure
from hsi_pipeline.commands.archive_plan import Work, planned, report_plan
from hsi_pipeline.commands.scheduling import check_memory, cluster, cores, workers_here
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import shown

_SCENE_MODULE = "hsi_pipeline.commands.archive_scene"
_LONGEST = 300  # of a message
_SHOWN = 20  # scenes and failures, unless all are asked for


@dataclass(frozen=True)
class ArchiveReport:
    """How a run ended."""

    catalog: str
    done: int
    """In this run."""
    finished: int
    """In earlier runs."""
    failed: tuple[Failure, ...]
    """In this run."""
    quarantined: tuple[Failure, ...]
    """In earlier runs, by their own fault, and left alone in this one."""
    left: int = 0
    """Not looked at, since the run was only planned."""

    @property
    def is_complete(self) -> bool:
        """Whether all scenes are done."""
        return not (self.failed or self.quarantined or self.left)


def list_archive(
    workflow: str | os.PathLike[str],
    *,
    every: bool = False,
    retry_failed: bool = False,
    force: bool = False,
    workers: int | None = None,
    terminal: Terminal | None = None,
) -> None:
    """Show what a run of an archive's workflow would do, and what that would take.

    Args:
        workflow: YAML file with the key `archive`.
        every: Show all scenes, not only the first.
        retry_failed: As for `run_archive`.
        force: As for `run_archive`.
        workers: That would share the work; None: as `run_archive` would start.
        terminal: Where to report.

    Raises:
        InputError: As `run_archive`, and the workflow is of one scene.
    """
    terminal = terminal or Terminal(quiet=True)
    _check_workers(workers)
    settings = config.load(workflow)
    if not isinstance(settings, config.Archive):
        raise InputError(f"{workflow} is a workflow of one scene; 'archive: scenes:' names many")
    with planned(settings, force=force, retry_failed=retry_failed, terminal=terminal) as work:
        _show_scenes(work, terminal, every=every)
        plan = work.plan
        terminal.made(
            "archive", scenes=len(work.listing.scenes), finished=len(plan.finished),
            todo=[scene.id for scene in plan.todo],
            set_aside=[asdict(one) for one in plan.quarantined],
        )  # fmt: skip
        report_plan(work, settings, workers or workers_here(), terminal)


def run_archive(
    settings: config.Archive,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    force: bool = False,
    retry_failed: bool = False,
    dry_run: bool = False,
    terminal: Terminal | None = None,
) -> ArchiveReport:
    """Map all scenes of an archive that are not mapped yet.

    A scene that fails is noted and does not stop the others. What is done survives any crash: the
    same call does the rest.

    Args:
        settings: The workflow.
        scheduler: Address of a running Dask scheduler; None starts workers on this machine.
        workers: Processes to start; 0 for a worker in this process, None for one a core.
        force: Map all scenes anew.
        retry_failed: Try those again too that failed by their own fault.
        dry_run: Only say what there is to do.
        terminal: Where to report.

    Returns:
        What became of the scenes.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    _check_workers(workers)
    check_memory(settings.classify.memory, settings.classify.chunk, scheduler)
    options: dict[str, Any] = {"force": force, "retry_failed": retry_failed, "terminal": terminal}
    with planned(settings, writing=not dry_run, **options) as work:
        here = workers_here() if workers is None else max(workers, 1)
        report_plan(work, settings, here if scheduler is None else None, terminal)
        for failure in work.plan.quarantined[:_SHOWN]:
            terminal.say(f"  set aside: {_told(failure)}")
        report = ArchiveReport(
            catalog=work.target.path("catalog.json"),
            done=0,
            finished=len(work.plan.finished),
            failed=(),
            quarantined=work.plan.quarantined,
        )
        if dry_run:
            report = replace(report, left=len(work.plan.todo))
            _note(report, terminal)
            return report
        if not work.target.is_local:
            _check_scratch(settings)
        from hsi_pipeline.commands.archive_run import ArchiveRun  # seconds, of no use to plans

        run = ArchiveRun(work, settings, terminal)
        try:
            if work.plan.todo:
                place = cluster(terminal, scheduler, workers, imports=_SCENE_MODULE)
                with _own_settings(), place as client:
                    in_process = workers == 0 and scheduler is None
                    # hosts of a cluster share the folder of the archive, or one that is named
                    apart = scheduler is not None and not work.target.is_local
                    whole = in_process or (apart and settings.scratch is None)
                    run.map_all(client, threads=cores() if in_process else 1, whole=whole)
        except BaseException:
            with suppress(InputError, OSError):  # what stopped the run is what is to be told
                run.end()
            raise
        run.end()
    report = replace(report, done=len(run.mapped), failed=tuple(run.failures.values()))
    if run.warned:
        terminal.warn(f"{len(run.warned)} of the maps made now may be wrong, see above")
    _summarise(report, time.monotonic() - run.started, terminal)
    _note(report, terminal)
    return report


@contextmanager
def _own_settings() -> Iterator[None]:
    """Take back what a worker in this process sets, when the block ends."""
    import torch

    threads = torch.get_num_threads()
    try:
        with dask.config.set(scheduler=dask.config.get("scheduler", None)):
            yield
    finally:
        torch.set_num_threads(threads)


def _check_workers(workers: int | None) -> None:
    if workers is not None and workers < 0:
        raise InputError(f"--workers {workers}: give 0 or more")


def _check_scratch(settings: config.Archive) -> None:
    if settings.scratch is not None and not settings.scratch.is_dir():
        raise InputError(f"scratch: {settings.scratch}: no such folder")


def _show_scenes(work: Work, terminal: Terminal, *, every: bool) -> None:
    """Show the scenes of an archive and what is known of them."""
    left = {scene.id for scene in work.plan.todo}
    aside = {failure.id: failure for failure in work.plan.quarantined}
    rows = []
    scenes = work.listing.scenes
    for scene in scenes if every else scenes[:_SHOWN]:
        state = "to do" if scene.id in left else "done"
        if scene.id in aside:
            state = f"set aside: {aside[scene.id].error}"
        if scene.fault:
            state = "faulty"
        size = f"{scene.size_bytes / 1e6:.1f} MB" if scene.size_bytes else ""
        cloud = "" if scene.cloud_share is None else f"{scene.cloud_share:.0%}"
        rows.append((scene.id, (scene.acquired or "")[:10], scene.sensor or "", cloud, size, state))
    more = f", the first {_SHOWN} (--all shows every one)" if len(scenes) > len(rows) else ""
    title = f"{len(scenes)} scenes{more}"
    terminal.table(title, ("scene", "acquired", "sensor", "cloud", "size", "state"), rows)


def _summarise(report: ArchiveReport, seconds: float, terminal: Terminal) -> None:
    """Say how many scenes are done and how many are not, and why."""
    passing = sum(failure.kind == "passing" for failure in report.failed)
    parts = [f"{report.done} scenes done in {seconds:.0f} s"]
    if report.finished:
        parts.append(f"{report.finished} done before")
    if report.failed:
        parts.append(f"{len(report.failed)} failed")
    if report.quarantined:
        parts.append(f"{len(report.quarantined)} set aside since they failed before")
    terminal.say(", ".join(parts))
    for failure in report.failed[:_SHOWN]:
        terminal.warn(f"failed: {failure.error}: {failure.message[:_LONGEST]}", failure.id)
    if len(report.failed) > _SHOWN:
        terminal.say(f"  and {len(report.failed) - _SHOWN} more, see the folder failures")
    if passing:
        terminal.say(f"{passing} of them by faults that may pass: the next run tries them again")
    if len(report.failed) > passing or report.quarantined:
        terminal.say("faulty scenes are left alone until they change, or with --retry-failed")
    terminal.show(shown(report.catalog))


def _note(report: ArchiveReport, terminal: Terminal) -> None:
    """Note how a run ended, for programs."""
    terminal.made(
        "archive",
        [] if report.left else [shown(report.catalog)],
        done=report.done,
        finished=report.finished,
        left=report.left,
        failed=[asdict(one) for one in report.failed],
        set_aside=[asdict(one) for one in report.quarantined],
    )


def _told(failure: Failure) -> str:
    return f"{failure.id}: {failure.error}: {failure.message[:_LONGEST]}"
