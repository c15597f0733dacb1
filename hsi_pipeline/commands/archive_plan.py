"""A workflow for an archive to what there is to do, and what that will take."""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.utils import format_bytes

from hsi_pipeline import config
from hsi_pipeline.archive.candidates import ids_of
from hsi_pipeline.archive.ledger import (
    ARCHIVE,
    Done,
    Failure,
    Plan,
    fingerprint_of,
    months,
    plan,
    read_done,
    read_failures,
)
from hsi_pipeline.archive.listing import Listing, list_scenes
from hsi_pipeline.archive.lock import locked
from hsi_pipeline.archive.scenes import ArchiveScene, Selection
from hsi_pipeline.archive.target import CATALOG, Target, target_of
from hsi_pipeline.checkpoint import checkpoint_hash, load_checkpoint
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import make_cube, pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish.stac_catalog import (
    FOOTPRINTS,
    INDEX,
    month_catalog,
    root_catalog,
    write_footprints,
    write_index,
)
from hsi_pipeline.scene import open_source
from hsi_pipeline.scene.files import full_path, is_remote, shown
from hsi_pipeline.scene.quality import flags_of_mask

INDEXED = "hsi_pipeline:indexed"
"""Field of the root catalog: what the index held when it was written."""
_SAMPLE = 5  # scenes that are opened to learn their size
_SIDE = 256  # of the tile that a rate is measured with


@dataclass(frozen=True)
class Work:
    """An archive, and what there is to do."""

    target: Target
    listing: Listing
    plan: Plan
    done: Mapping[str, Done]
    facts: Mapping[str, Any]
    """Field `ARCHIVE` of the root catalog."""
    model: str
    """Name of the model's file in the archive."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """Of earlier runs, by id."""
    forced: bool = False
    """Whether all scenes are to be done, those that are done too."""
    check_lock: Callable[[], None] = field(default=lambda: None, repr=False)
    """Raises InputError if another run took the archive over."""


@contextmanager
def planned(
    settings: config.Archive,
    *,
    force: bool = False,
    retry_failed: bool = False,
    writing: bool = False,
    terminal: Terminal,
) -> Iterator[Work]:
    """Find the scenes of a workflow, and which of them are left to do.

    Args:
        settings: The workflow.
        force: Do all of them.
        retry_failed: Do those too that failed by their own fault.
        writing: Keep other runs from the archive while the block runs, and make it if missing.
        terminal: Where to report.

    Raises:
        InputError: Scenes, model or archive cannot be used; another archive is there; or another
            run is at work.
    """
    target = target_of(settings.out)
    _check_products(settings)
    scenes = re.split(r"[*?\[]", settings.archive.scenes, maxsplit=1)[0].rstrip("/")
    if is_remote(scenes) and f"{target.root}/".startswith(f"{scenes}/"):
        raise InputError(
            f"out: {shown(target.root)} lies among the scenes in {shown(scenes)}; choose a folder "
            "beside them"
        )
    load_checkpoint(settings.model)  # or says what is wrong with it
    sha256 = checkpoint_hash(settings.model)
    model = f"{Path(settings.model).stem}-{sha256[:12]}.safetensors"
    facts = {"model": model, "model_sha256": sha256, "settings": _settings(settings)}
    if writing:
        target.check()
        with locked(target) as check_lock:
            _check_archive(target, facts, force=force)
            work = _work(settings, target, facts, model, force, retry_failed, terminal)
            yield replace(work, check_lock=check_lock)
        return
    _check_archive(target, facts, force=force)
    yield _work(settings, target, facts, model, force, retry_failed, terminal)


def _work(
    settings: config.Archive,
    target: Target,
    facts: Mapping[str, Any],
    model: str,
    force: bool,
    retry_failed: bool,
    terminal: Terminal,
) -> Work:
    wanted = settings.archive
    fields = wanted.model_dump(exclude={"scenes"})
    fields |= {key: tuple(fields[key]) for key in ("sensors", "collections", "schemes", "roots")}
    with terminal.progress("looking at scenes") as progress:
        listing = list_scenes(
            full_path(wanted.scenes),  # workers may have other working folders
            Selection(**fields),
            pixel_coordinates=settings.pixel_coordinates,
            progress=progress,
        )
    for note in listing.notes:
        terminal.say(note)
    if all(scene.fault for scene in listing.scenes):
        raise InputError(
            f"none of {len(listing.scenes)} scenes can be used; the first one: "
            f"{listing.scenes[0].fault}"
        )
    if listing.left_out:
        told = ", ".join(f"{count} {why}" for why, count in listing.left_out.items())
        terminal.say(f"left out: {told}")
    sha256, options = facts["model_sha256"], facts["settings"]
    done = read_done(target)
    known = [_known(scene, done, sha256, options) for scene in listing.scenes]
    claims = Counter(scene.id for scene in known)
    scenes = [
        one if claims[one.id] == 1 else scene
        for one, scene in zip(known, listing.scenes, strict=True)
    ]
    listing = replace(listing, scenes=tuple(sorted(scenes, key=lambda scene: scene.id)))
    fingerprints = {s.id: fingerprint_of(s, sha256, options) for s in listing.scenes}
    if force:
        _check_others(target, facts, done, fingerprints)
    if others := len(set(done) - {scene.id for scene in listing.scenes}):
        terminal.say(
            f"{others} maps of the archive are of scenes that are not among these; they stay"
        )
    failures = read_failures(target)
    found = plan(
        listing.scenes,
        fingerprints,
        done,
        failures,
        settings=settings.model_dump(mode="json"),
        force=force,
        retry_failed=retry_failed,
    )
    return Work(target, listing, found, done, facts, model, failures, force)


def _known(
    scene: ArchiveScene, done: Mapping[str, Done], model_sha256: str, settings: Mapping[str, Any]
) -> ArchiveScene:
    """Return a scene by the id under which it is done.

    The id of a scene has a suffix as long as there are others of the same name; when one comes or
    goes, those that are done keep theirs.
    """
    for name in ids_of(scene):
        other = replace(scene, id=name)
        print_ = fingerprint_of(other, model_sha256, settings)
        if name in done and done[name].fingerprint == print_:
            return other
    return scene


def _check_others(
    target: Target,
    facts: Mapping[str, Any],
    done: Mapping[str, Done],
    fingerprints: Mapping[str, str],
) -> None:
    """Refuse to make some maps by another model or other settings, beside those of before.

    Raises:
        InputError: Some scenes that are done are not among those to be made anew.
    """
    before = _json(target.read(CATALOG)).get(ARCHIVE)
    before = before if isinstance(before, dict) else facts
    changed = any(before.get(key) != facts[key] for key in ("model_sha256", "settings"))
    others = sorted(set(done) - set(fingerprints))
    if changed and others:
        raise InputError(
            f"--force would make {len(fingerprints)} maps anew, and leave {len(others)} of other "
            f"scenes as they were made before ({', '.join(others[:3])}); choose another folder for "
            "'out', or select these scenes too"
        )


def report_plan(
    work: Work, settings: config.Archive, workers: int | None, terminal: Terminal
) -> None:
    """Say how much there is to do, and how long it will take; None where workers are not known."""
    todo = work.plan.todo
    terminal.say(
        f"{len(work.listing.scenes)} scenes: {len(work.plan.finished)} done, "
        f"{len(work.plan.quarantined)} set aside as faulty, {len(todo)} to do"
    )
    if not todo:
        return
    sizes = [scene.size_bytes for scene in todo if scene.size_bytes]
    pixels, opened = _pixels(todo, settings)
    rate, source = _rate(work, settings)
    size = format_bytes(sum(sizes)) if sizes else "unknown size"
    about = f"about {pixels / 1e6:.3g} Mpx" + (f" (by {opened} of them)" if opened else "")
    if not pixels:
        terminal.say(f"to do: {size}; none of {opened} scenes could be opened to tell their pixels")
        return
    seconds = pixels / rate
    shared = "" if workers is None else f", {_duration(seconds / workers)} with {workers} workers"
    terminal.say(
        f"to do: {size}, {about}; at {rate / 1e6:.3f} Mpx/s a worker ({source}) that is "
        f"{_duration(seconds)} of work{shared}"
    )


def _pixels(scenes: tuple[ArchiveScene, ...], settings: config.Archive) -> tuple[float, int]:
    """Return the pixels of scenes, and how many were opened to estimate them."""
    known = [scene.shape[0] * scene.shape[1] for scene in scenes if scene.shape]
    unknown = [scene for scene in scenes if not scene.shape and not scene.fault]
    step = max(len(unknown) // _SAMPLE, 1)
    found, opened = [], 0
    for scene in unknown[::step][:_SAMPLE]:
        opened += 1
        try:
            source = open_source(scene.path, pixel_coordinates=settings.pixel_coordinates)
        except InputError:
            continue
        found.append(source.pixels.shape[1] * source.pixels.shape[2])
    return sum(known) + (statistics.mean(found) if found else 0) * len(unknown), opened


def _rate(work: Work, settings: config.Archive) -> tuple[float, str]:
    """Return pixels a second of a worker, and how that is known."""
    seen = [one for one in work.done.values() if one.pixels and one.seconds]
    if seen:
        rate = sum(one.pixels for one in seen) / sum(one.seconds for one in seen)
        return rate, f"measured on {len(seen)} scenes of this archive"
    return _network_rate(settings), "of the network alone, measured now"


def _network_rate(settings: config.Archive) -> float:
    import torch

    from hsi_pipeline.inference import classify_cube

    network, card = load_checkpoint(settings.model)
    grid = pixel_grid(_SIDE, _SIDE)
    spectra = np.random.default_rng(0).integers(0, 5000, (card.bands, _SIDE, _SIDE), np.int16)
    cube = make_cube(
        da.from_array(spectra, chunks=-1), grid, wavelengths=None, good=(True,) * card.bands,
        band_names=tuple(map(str, range(card.bands))), scale=1e-4, offset=0.0, nodata=None,
        attrs={"scene_id": "rate"},
    )  # fmt: skip
    lazy = classify_cube(cube, network, card.classes, bands=range(card.bands))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with dask.config.set(scheduler="synchronous"):
            lazy["class"].compute()
            started = time.perf_counter()
            lazy["class"].compute()
            return _SIDE**2 / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)


def _duration(seconds: float) -> str:
    hours, rest = divmod(math.ceil(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _settings(settings: config.Archive) -> dict[str, Any]:
    """Return what products depend on, beside scene and model."""
    chosen: dict[str, Any] = settings.model_dump(
        mode="json",
        include={"mask": True, "pixel_coordinates": True, "classify": True, "polygonize": True},
        exclude_defaults=True,  # so that a new key of a later version changes nothing
    )
    for section in ("classify", "polygonize"):  # the result does not depend on these
        for key in ("chunk", "memory"):
            chosen.get(section, {}).pop(key, None)
    if not chosen.get("classify", True):
        del chosen["classify"]
    parcels = settings.polygonize.by if settings.polygonize else None
    if parcels and not is_remote(parcels):
        chosen["polygonize"]["by"] = _content_hash(Path(parcels))
    return chosen


def _content_hash(path: Path) -> str:
    """Return a text that changes with the content of a file, or of the files in a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as opened:
                whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()


def _check_products(settings: config.Archive) -> None:
    """Refuse what no scene could be done with.

    Raises:
        InputError: Says what.
    """
    flags_of_mask(settings.mask)
    if settings.polygonize and settings.polygonize.by:
        from hsi_pipeline.ground_truth.parcels import read_parcels  # half a second, seldom needed

        read_parcels(settings.polygonize.by, settings.polygonize.by_layer)


def _check_archive(target: Target, facts: Mapping[str, Any], *, force: bool) -> None:
    """Refuse a folder with an archive that this one would get among.

    Raises:
        InputError: Says what is there.
    """
    content = target.read(CATALOG)
    if content is None:
        strange = [*target.files(""), *(name for name in target.folders() if name != "models")]
        if strange:
            raise InputError(
                f"{shown(target.root)} holds other files ({', '.join(strange[:3])}) and no archive "
                "of hsi-pipeline; choose an empty folder for 'out'"
            )
        return
    try:
        before = json.loads(content).get(ARCHIVE)
    except (ValueError, AttributeError, RecursionError):
        before = None
    if not isinstance(before, dict) and "models" in target.folders() and read_done(target):
        return  # damaged; the fingerprints of the items tell what they are of
    if not isinstance(before, dict):
        raise InputError(
            f"{shown(target.root)} holds another STAC catalog, which this run would replace; "
            "choose an empty folder for 'out'"
        )
    if (
        force
        or not read_done(target)
        or all(before.get(key) == facts[key] for key in ("model_sha256", "settings"))
    ):
        return
    if before.get("model_sha256") != facts["model_sha256"]:
        said = f"by the model {before.get('model')}, now it is {facts['model']}"
    else:
        said = _difference(before.get("settings") or {}, facts["settings"])
    raise InputError(
        f"{shown(target.root)} holds an archive made {said}; choose another folder for 'out', or "
        "--force to make all anew"
    )


def _difference(before: Any, now: Mapping[str, Any]) -> str:
    """Name the first setting that differs."""
    before = before if isinstance(before, dict) else {}
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old or {}, dict) and isinstance(new or {}, dict) and (old or new):
            if old == new:
                continue
            return _difference(old or {}, new or {}).replace("with ", f"with {key}.", 1)
        if old != new:
            then, at_present = ("the default" if v is None else repr(v) for v in (old, new))
            return f"with {key} {then}, now {at_present}"
    return "with other settings"


def write_catalogs(
    work: Work, done: Mapping[str, Done], changed: set[str] | None = None, *, indexed: str
) -> None:
    """Write the catalogs that lead to items.

    Args:
        work: The archive.
        done: All finished scenes.
        changed: Months whose catalog has to be written; None for all.
        indexed: What the index holds, as `state_of` has it.
    """
    by_month: dict[str, dict[str, str]] = {}
    for one in done.values():
        by_month.setdefault(one.folder.partition("/")[0], {})[one.id] = one.title
    for month in set(months(work.target)) - set(by_month):
        work.target.remove(f"{month}/{CATALOG}")
    for month, items in by_month.items():
        if changed is None or month in changed:
            work.target.write(f"{month}/{CATALOG}", month_catalog(month, items))
    title = f"Land cover by {work.facts['model']}"
    fields = {ARCHIVE: dict(work.facts), INDEXED: indexed}
    work.target.write(CATALOG, root_catalog(title, by_month, fields))


def state_of(done: Mapping[str, Done]) -> str:
    """Return a text that changes with what is done."""
    pairs = sorted((one.id, one.fingerprint, one.folder) for one in done.values())
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def indexed_state(target: Target) -> str:
    """Return what the index of an archive holds, "" if it has none."""
    if FOOTPRINTS not in target.files(""):  # with it, the other one may be gone
        return ""
    return str(_json(target.read(CATALOG)).get(INDEXED, ""))


def _json(content: bytes | None) -> dict[str, Any]:
    """Return a JSON object, an empty one where it cannot be read."""
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_items(work: Work, done: Mapping[str, Done]) -> None:
    """Write the indexes of all items, in the order of their ids; none where there are none."""
    if not done:
        return
    folders = {done[name].item: done[name].folder for name in sorted(done)}

    def items() -> Iterator[tuple[Any, str]]:
        for name, content in work.target.read_all(folders):
            if content:
                yield json.loads(content), folders[name]

    def placed() -> Iterator[tuple[Any, str]]:  # GeoParquet wants to know where
        return (pair for pair in items() if pair[0]["geometry"])

    with tempfile.TemporaryDirectory() as scratch:
        for name, write, found in (
            (FOOTPRINTS, write_footprints, items), (INDEX, write_index, placed),
        ):  # fmt: skip
            if next(found(), None) is None:
                continue
            write(Path(scratch, name), found())
            work.target.put(Path(scratch, name), name)
