"""All scenes of an archive to a land-cover archive that other programs can search."""

from __future__ import annotations

import concurrent.futures
import hashlib
import math
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask
import torch

from hsi_pipeline import config
from hsi_pipeline.archive.faults import kind_of, message_of, name_of
from hsi_pipeline.archive.ledger import Done, Failure, failure_name
from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.archive.target import WORK, Target
from hsi_pipeline.commands.archive_log import RunLog
from hsi_pipeline.commands.archive_plan import (
    Work,
    planned,
    report_plan,
    write_catalogs,
    write_items,
)
from hsi_pipeline.commands.archive_scene import (
    TOPIC,
    SceneJob,
    SceneResult,
    map_scene,
)
from hsi_pipeline.commands.classify import check_memory
from hsi_pipeline.commands.scheduling import cluster, cores, workers_here
from hsi_pipeline.commands.terminal import Move, Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish.stac_catalog import INDEX
from hsi_pipeline.scene.files import shown

_PAUSE_S = 2.0  # before a scene is tried again; twice as long each further time
_LOOK_S = 1.0
_CATALOGS_S = 60.0  # between two times that the catalogs are written
_SHOWN = 20  # scenes and failures, unless all are asked for
_NO_WORKERS_S = 30.0  # after which that there are none is said


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
    settings = config.load(workflow)
    if not isinstance(settings, config.Archive):
        raise InputError(f"{workflow} is a workflow of one scene; 'archive: scenes:' names many")
    with planned(settings, force=force, retry_failed=retry_failed, terminal=terminal) as work:
        _show_scenes(work, terminal, every=every)
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
    if workers is not None and workers < 0:
        raise InputError(f"--workers {workers}: give 0 or more")
    check_memory(settings.classify.memory, settings.classify.chunk, scheduler)
    options: dict[str, Any] = {"force": force, "retry_failed": retry_failed, "terminal": terminal}
    with planned(settings, writing=not dry_run, **options) as work:
        count = workers_here() if workers is None else workers
        report_plan(work, settings, max(count, 1), terminal)
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
            return replace(report, left=len(work.plan.todo))
        if not work.target.is_local:
            _check_scratch(settings)
        run = _Run(work, settings, terminal)
        try:
            if work.plan.todo:
                with _own_settings(), cluster(terminal, scheduler, workers) as client:
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
    _summarise(report, run, terminal)
    return report


@dataclass
class _Run:
    """What a run keeps in mind while scenes are mapped."""

    work: Work
    settings: config.Archive
    terminal: Terminal
    mapped: dict[str, SceneResult] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    """Months whose catalogs are to be written."""

    def __post_init__(self) -> None:
        self.target: Target = self.work.target
        self.done: dict[str, Done] = dict(self.work.done)
        self.log = RunLog(self.target)
        self.terminal.say(f"log in {shown(self.log.path)}")
        self.started = self.written = time.monotonic()
        write_catalogs(self.work, self.done)  # what a run that was killed left out
        if self.target.read(f"models/{self.work.model}") is None:
            self.target.put(Path(self.settings.model), f"models/{self.work.model}")
        self.log.write(
            "run started",
            scenes=len(self.work.listing.scenes),
            to_do=len(self.work.plan.todo),
            done=len(self.work.plan.finished),
            set_aside=len(self.work.plan.quarantined),
            archive=shown(str(self.settings.archive.scenes)),
            model=self.work.model,
        )

    def map_all(self, client: Any, *, threads: int, whole: bool) -> None:
        """Map what is to do on a cluster, as many scenes side by side as it has workers.

        Args:
            client: Of the cluster.
            threads: For each scene.
            whole: Map scenes of any size each on one worker.
        """
        for scene in self.work.plan.todo:
            if scene.fault:
                self._fail(scene, "data", "InputError", scene.fault)
        todo = deque(scene for scene in self.work.plan.todo if not scene.fault)
        large: deque[ArchiveScene] = deque()  # to be cut into chunks; led from here, one at a time
        later: list[tuple[float, ArchiveScene]] = []  # when to try again
        running: dict[Future, ArchiveScene] = {}
        led: Future | None = None
        executor = client.get_executor(pure=False)
        looked = self.seen_workers = -math.inf
        workers = 0
        with self.terminal.bars() as bars:
            self.bars = bars
            client.subscribe_topic(TOPIC, lambda event: self._tell(event[1]))
            try:
                while todo or large or later or running:
                    now = time.monotonic()
                    if now - looked > _LOOK_S:
                        workers, looked = len(client.ncores()), now
                        self._check_workers(workers, bool(running), now)
                        if now - self.written > _CATALOGS_S:
                            self._write_catalogs()
                    todo.extend(scene for when, scene in later if when <= now)
                    later = [(when, scene) for when, scene in later if when > now]
                    # more than there are workers, so that none waits for this program
                    while todo and len(running) < workers + max(workers // 2, 1):
                        scene = todo.popleft()
                        self._begin(scene)
                        job = self._job(scene, threads, whole=whole)
                        running[executor.submit(map_scene, job)] = scene
                    if large and led is None:
                        scene = large.popleft()
                        self.log.write("scene in chunks", id=scene.id)
                        led = _lead(
                            map_scene, self._job(scene, threads, whole=True),
                            scheduler=client.scheduler.address, tell=self._teller(scene),
                        )  # fmt: skip
                        running[led] = scene
                    self._show(bars)
                    ended, _ = concurrent.futures.wait(
                        running, timeout=_LOOK_S, return_when=concurrent.futures.FIRST_COMPLETED
                    )
                    for future in ended:
                        scene = running.pop(future)
                        led = None if future is led else led
                        result = self._result(scene, future)
                        bars(scene.id, 0, None)
                        if result.outcome == "large":
                            large.append(scene)
                        elif self._note(scene, result):
                            pause = _PAUSE_S * 2 ** (self.attempts[scene.id] - 1)
                            later.append((time.monotonic() + pause, scene))
                self._show(bars)
            finally:
                for future in running:
                    future.cancel()

    def end(self) -> None:
        """Write what others read: catalogs and index."""
        self._write_catalogs()
        if self.mapped or (self.done and self.target.read(INDEX) is None):
            write_items(self.work, self.done)
        self.log.write(
            "run ended",
            done=len(self.mapped),
            failed=len(self.failures),
            seconds=round(time.monotonic() - self.started, 1),
            peak_mb=round(max((r.peak_bytes for r in self.mapped.values()), default=0) / 1e6),
            open_files=max((r.open_files for r in self.mapped.values()), default=0),
        )
        self.log.close()
        if self.target.is_local:
            self._tidy(Path(self.target.path(WORK)))

    def _job(self, scene: ArchiveScene, threads: int, *, whole: bool) -> SceneJob:
        before = self.work.done.get(scene.id)
        return SceneJob(
            scene=scene,
            fingerprint=self.work.plan.fingerprints[scene.id],
            target=self.target,
            scratch=_scratch(self.target, self.settings),
            model=self.work.model,
            settings=self.settings,
            threads=threads,
            whole=whole,
            replaces=before.folder if before else None,
        )

    def _begin(self, scene: ArchiveScene) -> None:
        self.attempts[scene.id] = self.attempts.get(scene.id, 0) + 1
        self.log.write("scene started", id=scene.id, attempt=self.attempts[scene.id])

    def _result(self, scene: ArchiveScene, future: Future) -> SceneResult:
        """Return what became of a scene, also where its worker died."""
        try:
            result: SceneResult = future.result()
        except Exception as error:
            return SceneResult(
                id=scene.id, outcome=kind_of(error), error=name_of(error), message=message_of(error)
            )
        return result

    def _note(self, scene: ArchiveScene, result: SceneResult) -> bool:
        """Note what became of a scene; tell whether it is to be tried again.

        Raises:
            InputError: No scene would fare better.
        """
        if result.done is not None:
            self.mapped[scene.id] = result
            before = self.done.get(scene.id)
            self.done[scene.id] = result.done
            for one in (result.done, *([before] if before else [])):
                self.changed.add(one.folder.partition("/")[0])
            self.target.remove(failure_name(scene.id))
            self.log.write(
                "scene done", id=scene.id, seconds=round(result.seconds, 2),
                folder=result.done.folder, peak_mb=round(result.peak_bytes / 1e6),
                open_files=result.open_files,
            )  # fmt: skip
            return False
        attempt = self.attempts[scene.id]
        if result.outcome == "passing" and attempt <= self.settings.retries:
            self.log.write(
                "scene to be tried again", id=scene.id, attempt=attempt, error=result.error,
                message=result.message,
            )  # fmt: skip
            return True
        if result.outcome == "stop":
            self.log.write("run stopped", id=scene.id, error=result.error, message=result.message)
            raise InputError(
                f"{result.message}; the run was stopped at {scene.id}, run again when that is "
                "mended"
            )
        self._fail(scene, result.outcome, result.error, result.message, result.details)
        return False

    def _fail(
        self, scene: ArchiveScene, kind: str, error: str, message: str, details: str = ""
    ) -> None:
        failure = Failure(
            id=scene.id,
            scene=shown(scene.path) or scene.item or "",
            kind=kind,
            error=error,
            message=message,
            attempts=self.attempts.get(scene.id, 1),
            fingerprint=self.work.plan.fingerprints[scene.id],
            time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
        failure.write(self.target)
        self.failures[scene.id] = failure
        self.log.write(
            "scene failed", id=scene.id, kind=kind, error=error, message=message, details=details
        )

    def _teller(self, scene: ArchiveScene) -> Any:
        return lambda event: self._tell({"id": scene.id, **event})

    def _tell(self, event: Mapping[str, Any]) -> None:
        """Show and log what a worker tells."""
        if "text" in event:
            self.log.write("message", id=event["id"], text=event["text"])
        elif event["id"] not in self.mapped:
            note = f"{event['stage']} {event['note']}".strip()
            self.bars(event["id"], event["done"], event["total"], note)

    def _show(self, bars: Move) -> None:
        note = f"{len(self.failures)} failed" if self.failures else ""
        bars("archive", len(self.mapped) + len(self.failures), len(self.work.plan.todo), note)

    def _check_workers(self, workers: int, waiting: bool, now: float) -> None:
        """Say so if there is nobody to work."""
        if workers or not waiting or self.seen_workers == -math.inf:
            self.seen_workers = now
        elif now - self.seen_workers > _NO_WORKERS_S:
            self.terminal.say("the cluster has no workers; waiting for some")
            self.seen_workers = now

    def _write_catalogs(self) -> None:
        write_catalogs(self.work, self.done, self.changed)
        self.changed.clear()
        self.written = time.monotonic()

    def _tidy(self, folder: Path) -> None:
        """Remove locks and what is left of scenes that are done or that nobody will go on with."""
        if not folder.is_dir():
            return
        for lock in folder.glob("*.lock"):
            if not lock.with_suffix("").is_dir():
                lock.unlink(missing_ok=True)
        with suppress(OSError):  # scenes that are to be tried again stay
            folder.rmdir()


@contextmanager
def _own_settings() -> Iterator[None]:
    """Take back what a worker in this process sets, when the block ends."""
    threads = torch.get_num_threads()
    with dask.config.set(scheduler=dask.config.get("scheduler", None)):
        yield
    torch.set_num_threads(threads)


def _lead(function: Callable[..., SceneResult], *arguments: Any, **options: Any) -> Future:
    """Call a function in a thread that does not keep this program from ending."""
    future: Future = Future()

    def lead() -> None:
        try:
            future.set_result(function(*arguments, **options))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=lead, daemon=True).start()
    return future


def _scratch(target: Target, settings: config.Archive) -> str:
    """Return where scenes are made: in the archive itself, or near the workers."""
    if target.is_local:
        return target.path(WORK)
    folder = str(settings.scratch or tempfile.gettempdir())
    name = hashlib.sha256(target.root.encode()).hexdigest()[:12]
    return os.path.join(folder, f"hsi-pipeline-{name}", WORK)


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


def _summarise(report: ArchiveReport, run: _Run, terminal: Terminal) -> None:
    """Say how many scenes are done and how many are not, and why."""
    seconds = time.monotonic() - run.started
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
        terminal.say(f"  failed: {_told(failure)}")
    if len(report.failed) > _SHOWN:
        terminal.say(f"  and {len(report.failed) - _SHOWN} more, see the folder failures")
    if passing:
        terminal.say(f"{passing} of them by faults that may pass: the next run tries them again")
    if len(report.failed) > passing or report.quarantined:
        terminal.say("faulty scenes are left alone until they change, or with --retry-failed")
    terminal.show(shown(report.catalog))


def _told(failure: Failure) -> str:
    return f"{failure.id}: {failure.error}: {failure.message[:300]}"
