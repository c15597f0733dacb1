"""The scenes of an archive on a Dask cluster, until none is left to do."""

from __future__ import annotations

import concurrent.futures
import getpass
import hashlib
import math
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hsi_pipeline import config
from hsi_pipeline.archive.faults import kind_of, kind_of_text, message_of, name_of
from hsi_pipeline.archive.ledger import Done, Failure, failure_name, failure_print
from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.archive.target import WORK, Target
from hsi_pipeline.commands.archive_log import RunLog
from hsi_pipeline.commands.archive_plan import (
    Work,
    indexed_state,
    state_of,
    write_catalogs,
    write_items,
)
from hsi_pipeline.commands.archive_scene import SceneJob, SceneResult, map_scene
from hsi_pipeline.commands.terminal import Move, Terminal
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import one_line, shown

_PAUSE_S = 2.0  # before a scene is tried again; twice as long each further time
_LONGEST_PAUSE_S = 300.0
_LOOK_S = 1.0
_CATALOGS_S = 60.0  # between two times that the catalogs are written
_NO_WORKERS_S = 30.0  # after which that there are none is said


class ArchiveRun:
    """What a run keeps in mind while scenes are mapped."""

    def __init__(self, work: Work, settings: config.Archive, terminal: Terminal) -> None:
        """Begin a run: its log, the model in the archive, and what a killed run left out."""
        self.work, self.settings, self.terminal = work, settings, terminal
        self.target: Target = work.target
        self.done: dict[str, Done] = dict(work.done)
        self.mapped: dict[str, SceneResult] = {}
        self.failures: dict[str, Failure] = {}
        self.attempts: dict[str, int] = {}
        self.topic = f"hsi_pipeline-{secrets.token_hex(4)}"  # other runs may be on the cluster
        self.warned: set[str] = set()
        self.active: set[str] = set()  # scenes that are being mapped
        self.changed: set[str] = set()  # months whose catalogs are to be written
        self.started = self.written = time.monotonic()
        write_catalogs(work, self.done, indexed=indexed_state(self.target))
        self.log = RunLog(self.target)
        self.terminal.say(f"log in {shown(self.log.path)}")
        for name in work.plan.finished:  # of a run that was killed in between
            if name in work.failures:
                self.target.remove(failure_name(name))
        held = self.target.read(f"models/{self.work.model}") or b""
        if hashlib.sha256(held).hexdigest() != work.facts["model_sha256"]:
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
                self._fail(scene, kind_of_text(scene.fault), "InputError", scene.fault)
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
            client.subscribe_topic(self.topic, lambda event: self._tell(event[1]))
            try:
                while todo or large or later or running:
                    now = time.monotonic()
                    if now - looked > _LOOK_S:
                        workers, looked = _workers_of(client), now
                        self.work.check_lock()
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
                        self.active.add(scene.id)
                        self.log.write("scene in chunks", id=scene.id)
                        led = _lead(
                            map_scene, self._job(scene, threads, whole=True),
                            scheduler=client.scheduler.address, tell=self._teller(scene),
                        )  # fmt: skip
                        running[led] = scene
                    self._show(bars)
                    for future in _ended(running):
                        scene = running.pop(future)
                        led = None if future is led else led
                        result = self._result(scene, future)
                        self.active.discard(scene.id)
                        bars(scene.id, 0, None)
                        if result.outcome == "large":
                            large.append(scene)
                        elif self._note(scene, result):
                            pause = _PAUSE_S * 2 ** (self.attempts[scene.id] - 1)
                            pause = min(pause, _LONGEST_PAUSE_S)
                            later.append((time.monotonic() + pause, scene))
                self._show(bars)
            except BaseException:
                self.terminal.say("stopping; what is done is kept, the same command goes on")
                raise
            finally:
                for future in running:
                    future.cancel()

    def end(self) -> None:
        """Write what others read: catalogs and index."""
        self._write_catalogs()
        if state_of(self.done) != indexed_state(self.target):
            try:
                write_items(self.work, self.done)
            except (ValueError, TypeError, KeyError, AttributeError) as error:  # by an odd item
                self.terminal.say(f"the index could not be written ({one_line(error)})")
                self.log.write("no index", error=type(error).__name__, message=str(error))
            else:
                write_catalogs(self.work, self.done, set(), indexed=state_of(self.done))
        self.log.write(
            "run ended",
            done=len(self.mapped),
            failed=len(self.failures),
            seconds=round(time.monotonic() - self.started, 1),
            peak_mb=round(max((r.peak_bytes for r in self.mapped.values()), default=0) / 1e6),
            open_files=max((r.open_files for r in self.mapped.values()), default=0),
        )
        self.log.close()
        self._tidy(Path(_scratch(self.target, self.settings)))

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
            topic=self.topic,
            force=self.work.forced,
            replaces=before.folder if before else None,
        )

    def _begin(self, scene: ArchiveScene) -> None:
        self.active.add(scene.id)
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
            scene=shown(scene.path or scene.item or ""),
            kind=kind,
            error=error,
            message=message,
            attempts=self.attempts.get(scene.id, 1),
            fingerprint=failure_print(
                self.work.plan.fingerprints[scene.id], self.settings.model_dump(mode="json")
            ),
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
        if "warning" in event:
            self.warned.add(event["id"])
            self.log.write("warning", id=event["id"], text=event["warning"])
            self.terminal.warn(event["warning"], event["id"])
        elif "text" in event:
            self.log.write("message", id=event["id"], text=event["text"])
        elif event["id"] in self.active:
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
        indexed = indexed_state(self.target)
        write_catalogs(self.work, self.done, self.changed, indexed=indexed)
        self.changed.clear()
        self.written = time.monotonic()

    def _tidy(self, folder: Path) -> None:
        """Remove locks and what is left of scenes that are done or that nobody will go on with."""
        if not folder.is_dir():
            return
        kept = {name for name, failure in self.failures.items() if failure.kind == "passing"}
        kept |= {scene.id for scene in self.work.plan.todo} - set(self.mapped) - set(self.failures)
        for path in folder.iterdir():
            if path.name.rpartition(".")[0] in kept or path.name in kept:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        with suppress(OSError):  # scenes that are to be tried again stay
            folder.rmdir()
            if not self.target.is_local:  # with the model
                shutil.rmtree(folder.parent)


def _workers_of(client: Any) -> int:
    """Return how many workers a cluster has.

    Raises:
        InputError: It is gone.
    """
    try:
        return len(client.ncores())
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the Dask scheduler at {client.scheduler.address} is gone ({one_line(error)}); what "
            "is done is kept: start it again and run the same command"
        ) from error


def _ended(running: Mapping[Future, ArchiveScene]) -> set[Future]:
    """Wait a while for any scene to end, and return those that did."""
    if not running:
        time.sleep(_LOOK_S / 10)
    first = concurrent.futures.FIRST_COMPLETED
    return concurrent.futures.wait(running, timeout=_LOOK_S, return_when=first).done


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
    name = hashlib.sha256(f"{getpass.getuser()} {target.root}".encode()).hexdigest()[:12]
    return os.path.join(folder, f"hsi-pipeline-{name}", WORK)
