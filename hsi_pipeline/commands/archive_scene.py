"""One scene of an archive to its products and its STAC item: what a worker does."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
import psutil
import torch
from filelock import FileLock

from hsi_pipeline import config
from hsi_pipeline.archive.faults import Kind, kind_of, message_of, name_of
from hsi_pipeline.archive.ledger import FINGERPRINT, PIXELS, SECONDS, Done, done_of, finished
from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.archive.target import Target
from hsi_pipeline.checkpoint import checkpoint_hash, load_card
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.commands.scheduling import compute_in_threads
from hsi_pipeline.commands.terminal import Move, Terminal
from hsi_pipeline.errors import TargetError
from hsi_pipeline.publish import open_class_map, write_class_map
from hsi_pipeline.publish.stac import write_stac_item
from hsi_pipeline.publish.stac_catalog import ITEM_LINKS, month_of
from hsi_pipeline.publish.zarr import NUMBERS
from hsi_pipeline.scene import open_source
from hsi_pipeline.scene.files import full_path, is_remote, shown

_TELL_S = 1.0
_ORPHAN_S = 600.0  # that a worker of a run that was killed may still need

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class SceneJob:
    """What a worker must know to map a scene; pickles."""

    scene: ArchiveScene
    fingerprint: str
    target: Target
    scratch: str
    """Folder of scenes in the making, and beside it that of models."""
    model: str
    """Name of the model's file in the archive."""
    settings: config.Archive
    threads: int
    """Of the worker's process."""
    whole: bool
    """Whether the scene is to be mapped here however large it is."""
    topic: str = ""
    """Of Dask's events, under which workers tell how far they are."""
    force: bool = False
    """Whether it is to be mapped though that was done."""
    replaces: str | None = None
    """Folder in the archive of what an earlier run made of the scene."""


@dataclass(frozen=True, kw_only=True)
class SceneResult:
    """What became of a scene."""

    id: str
    outcome: str
    """"done", "large" (to be cut into chunks), or a kind of fault: "data", "passing", "stop"."""
    done: Done | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    """Most memory that the worker's process has had."""
    open_files: int = 0
    """Of the worker's process."""
    error: str = ""
    """Class of the error."""
    message: str = ""
    details: str = ""
    """Traceback."""


class SceneTerminal(Terminal):
    """Passes on what is said, and how far the work is, as events."""

    def __init__(self, tell: Tell) -> None:
        """`tell` gets dictionaries with `text`, or with `stage`, `done`, `total` and `note`."""
        super().__init__(quiet=True)
        self._tell = tell

    def say(self, text: str) -> None:
        """Tell what is going on."""
        self._tell({"text": text})

    show = say

    def warn(self, text: str, scene: str | None = None) -> None:
        """Tell what the user must know."""
        self._tell({"warning": text})

    @contextmanager
    def bars(self) -> Iterator[Move]:
        """Tell how far the work is, at most once a second."""
        last = 0.0

        def move(label: str, done: float, total: float | None, note: str | None = None) -> None:
            nonlocal last
            now = time.monotonic()
            if total is not None and (now - last > _TELL_S or done >= total):
                last = now
                self._tell({"stage": label, "done": done, "total": total, "note": note or ""})

        yield move


def map_scene(
    job: SceneJob, *, scheduler: str | None = None, tell: Tell | None = None
) -> SceneResult:
    """Map a scene: classify, polygonize, describe, and move all into the archive.

    Whatever happens is returned and not raised, since errors lose their causes on their way to
    another process.

    Args:
        job: What to do.
        scheduler: Address of the Dask scheduler whose workers share the chunks; None computes in
            this process.
        tell: Gets what is said meanwhile; None sends it as Dask's events.
    """
    started = time.monotonic()
    tell = tell or _sent_by_dask(job)
    try:
        if scheduler is None:
            _settle(job.threads)
            if not job.whole and _is_large(job):
                return SceneResult(id=job.scene.id, outcome="large")
        done = _made(job, scheduler, SceneTerminal(tell), started)
    except Exception as error:
        return _failed(job, error)
    process = psutil.Process()
    return SceneResult(
        id=job.scene.id,
        outcome="done",
        done=done,
        seconds=time.monotonic() - started,
        peak_bytes=_peak_bytes(process),
        open_files=process.num_fds() if hasattr(process, "num_fds") else 0,
    )


def _settle(threads: int) -> None:
    """Set what holds for the whole process; the same each time.

    One Torch thread a pass, on every worker, so that sums are rounded alike.
    """
    torch.set_num_threads(1)
    dask.config.set(scheduler=partial(compute_in_threads, threads))


def _is_large(job: SceneJob) -> bool:
    rows, columns = job.scene.shape or (0, 0)
    if not rows:
        source = open_source(job.scene.path, pixel_coordinates=job.settings.pixel_coordinates)
        _, rows, columns = source.pixels.shape
    return rows * columns > job.settings.whole_pixels


def _made(job: SceneJob, scheduler: str | None, terminal: Terminal, started: float) -> Done:
    """Make the products of a scene and move them into the archive."""
    name, scratch = job.scene.id, Path(job.scratch)
    if not job.target.is_local:  # where other users may be
        scratch.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{scratch} cannot be made a folder ({error})") from error
    place, mark = scratch / name, scratch / f"{name}.job"
    with FileLock(scratch / f"{name}.lock", timeout=_ORPHAN_S):
        if not job.force and (done := finished(job.target, name, job.fingerprint)):
            return done  # by a worker of a run that was killed, while this one waited
        if not (mark.exists() and mark.read_text(encoding="utf-8") == job.fingerprint):
            shutil.rmtree(place, ignore_errors=True)
            mark.write_text(job.fingerprint, encoding="utf-8")
        place.mkdir(exist_ok=True)
        _sweep(place)
        try:
            item = _products(job, place, scheduler, terminal, started)
            folder = f"{month_of(item)}/{name}"
            if job.replaces not in (None, folder):
                job.target.remove(str(job.replaces))
            job.target.take(place, folder, f"{name}.json")
        except Exception as error:
            if kind_of(error) == "data" and not _has_room(scratch):  # GDAL does not say why
                raise TargetError(f"no room left in {scratch} ({message_of(error)})") from error
            if kind_of(error) == "data":  # of no use to a next run
                shutil.rmtree(place, ignore_errors=True)
                mark.unlink(missing_ok=True)
            raise
        mark.unlink(missing_ok=True)
    return done_of(item, folder)


def _has_room(folder: Path) -> bool:
    """Tell whether a disk takes another megabyte."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(2**20))
            probe.flush()
    except OSError:
        return False
    return True


def _sweep(place: Path) -> None:
    """Remove what writers that were killed left behind; maps in the making are gone on with."""
    for path in place.glob(".*"):
        if not path.name.endswith(".unfinished"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _products(
    job: SceneJob, place: Path, scheduler: str | None, terminal: Terminal, started: float
) -> Mapping[str, Any]:
    """Make what is not there yet of a scene's products, the item last."""
    settings, name = job.settings, job.scene.id
    model = _model(job)
    maps = [place / f"{name}_map.{kind}" for kind in settings.classify.formats]
    if not maps[0].exists():
        classify(
            job.scene.path,
            model,
            maps[0],
            **settings.classify.model_dump(exclude={"formats"}),
            device=settings.device,
            mask=settings.mask,
            pixel_coordinates=settings.pixel_coordinates,
            scheduler=scheduler,
            overwrite=True,  # siblings of a map that was not completed
            restart=None,  # with chunks of another size, say, no map can be gone on with
            threads=job.threads,
            scene_id=name,
            acquired=job.scene.acquired,  # as a catalog knows it
            terminal=terminal,
        )
    for target in maps[1:]:
        if not target.exists():
            write_class_map(open_class_map(maps[0]), target, overwrite=True)
    products = _named(maps, name)
    for stem, target, options in _vectors(settings, place, name):
        if not target.exists():
            polygonize(
                maps[0], target, **options, scheduler=scheduler, overwrite=True, terminal=terminal
            )
        products[stem] = target
    class_map = open_class_map(maps[0])
    path = write_stac_item(
        place / f"{name}.json",
        class_map,
        products,
        model_file=model,
        card=load_card(model),
        derived_from=_derived_from(job),
        item_id=name,
        properties={
            FINGERPRINT: job.fingerprint,
            SECONDS: round(time.monotonic() - started, 2),
            PIXELS: int(class_map["class"].size),
        },
        links=ITEM_LINKS,
        overwrite=True,
    )
    item: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return item


def _vectors(
    settings: config.Archive, place: Path, name: str
) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Yield asset, target and options of the polygons that are asked for."""
    if settings.polygonize is None:
        return
    wanted = settings.polygonize
    stems = {"landcover": wanted.model_dump(exclude={"formats", "by", "by_layer"})}
    if wanted.by:
        kept = {"min_area", "join", "connectivity", "chunk", "by", "by_layer"}
        stems["parcels"] = wanted.model_dump(include=kept)
    for stem, options in stems.items():
        for number, kind in enumerate(wanted.formats):
            asset = f"{stem}_{kind}" if number else stem
            yield asset, place / f"{name}_{stem}.{kind}", options


def _named(maps: list[Path], name: str) -> dict[str, Path]:
    """Return the rasters of a scene by asset; `class` is the COG where there is one."""
    main = next((path for path in maps if path.suffix == ".tif"), maps[0])
    products = {"class": main}
    if main.suffix == ".tif":
        for layer in (*NUMBERS, "probability"):
            sibling = main.with_name(f"{name}_map_{layer}.tif")
            if sibling.exists():
                products[layer] = sibling
    products |= {f"class_{path.suffix[1:]}": path for path in maps if path != main}
    return products


def _derived_from(job: SceneJob) -> str:
    source = job.scene.item or job.scene.path
    if is_remote(source):
        return shown(source)
    source = full_path(source)
    return source if job.target.is_local else Path(source).as_uri()


def _model(job: SceneJob) -> Path:
    """Return the model beside the scratch folder, fetched from the archive where it is remote."""
    here = Path(job.scratch).parent / "models" / job.model
    if not here.exists():
        _fetch_model(job, here)
    if not here.stem.endswith(checkpoint_hash(here)[:12]):
        raise TargetError(f"{here} is not the model that it was; remove it and run again")
    return here


def _fetch_model(job: SceneJob, here: Path) -> None:
    here.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(here.with_suffix(".lock")):
        if not here.exists():
            content = job.target.read(f"models/{job.model}")
            if content is None:
                raise TargetError(
                    f"{shown(job.target.root)} lost its models/{job.model}; run again"
                )
            draft = here.with_suffix(".partial")
            draft.write_bytes(content)
            os.replace(draft, here)


def _failed(job: SceneJob, error: Exception) -> SceneResult:
    kind: Kind = kind_of(error)
    return SceneResult(
        id=job.scene.id,
        outcome=kind,
        error=name_of(error),
        message=message_of(error),
        details=_without_secrets("".join(traceback.format_exception(error))),
    )


def _without_secrets(text: str) -> str:
    """Return a text whose addresses have no passwords and signatures."""
    return re.sub(r"\S+://\S+", lambda found: shown(found[0]), text)


def _sent_by_dask(job: SceneJob) -> Tell:
    """Return a function that sends events to the program that asked for the scene."""
    from distributed import get_worker

    worker = get_worker()

    def tell(event: Mapping[str, Any]) -> None:
        worker.log_event(job.topic, {"id": job.scene.id, **event})

    return tell


def _peak_bytes(process: psutil.Process) -> int:
    """Return the most memory that a process has had, or has now where the system does not tell.

    Not by getrusage, which counts what the parent had when it started this process.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return int(process.memory_info().rss)
