"""Class maps of overlapping scenes to one map."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import xarray as xr
from dask.base import tokenize
from odc.geo.geobox import GeoBox

from hsi_pipeline import __version__
from hsi_pipeline.commands.messages import about, report_map
from hsi_pipeline.commands.scheduling import computing
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError, SourceChangedError, did_you_mean
from hsi_pipeline.mosaic import check_rule, common_grid, crs_name
from hsi_pipeline.mosaic import mosaic as join
from hsi_pipeline.publish import MAP_WRITERS, check_target, open_class_map, write_class_map
from hsi_pipeline.scene.files import file_stamp

CATALOG = "catalog.json"

_ASSET = "class"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def mosaic(
    sources: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    rule: str = "confident",
    crs: str | None = None,
    resolution: float | None = None,
    chunk: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    restart: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Join class maps on one grid and write the result.

    What is done survives an error, Ctrl-C and a crash: the same call goes on with what is missing.

    Args:
        sources: Class maps (`.zarr` or raster files), STAC catalogs of class maps on disk, or
            folders with a `catalog.json`. Their order makes no difference to which map decides.
        out: Target, `.zarr` or `.tif`.
        rule: Which map decides where several have a class: "confident", "newest" or "majority";
            see `hsi_pipeline.mosaic.mosaic`.
        crs: CRS of the mosaic, such as "EPSG:32632"; None: that of most maps, of equally many the
            one named first.
        resolution: Side of its pixels in units of the CRS; None: that of the finest map.
        chunk: Side of a chunk in pixels; the mosaic does not depend on it.
        scheduler: Address of a running Dask scheduler; None computes in this process.
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
    check_rule(rule)
    paths = find_maps(sources)
    check_not_source(out, paths)
    stamps = [map_stamp(path) for path in paths]
    maps, grids = _open(paths, terminal)
    grid = common_grid(grids, crs, resolution)
    joined = join(maps, grid, rule=rule, chunk=chunk, names=[str(path) for path in paths])
    joined.attrs |= {"software": f"hsi_pipeline {__version__}"}
    rows, columns = grid.shape
    terminal.say(
        f"{len(maps)} maps on {rows} x {columns} pixels of {grid.affine.a:g} x {-grid.affine.e:g} "
        f"in {crs_name(grid.crs)}, rule {rule!r}"
    )
    _report_models(maps, terminal)
    job = {
        "maps": f"{len(maps)} (of hash {tokenize(sorted(stamps))[:12]})",
        "rule": rule,
        "grid": f"{rows} x {columns} pixels from {tuple(grid.affine)[:6]}",
        "CRS": f"{crs_name(grid.crs)} (of hash {tokenize(grid.crs.to_wkt())[:12]})",
        **job_of(joined),
    }
    written = write_resumably(
        joined, out, "joining", job, [*zip(paths, stamps, strict=True)], terminal,
        scheduler=scheduler, overwrite=overwrite, restart=restart,
    )  # fmt: skip
    terminal.made("mosaic", written, maps=len(maps), **report_map(terminal, written[0]))
    return written


def find_maps(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the class maps that files, catalogs and folders stand for, each once.

    Paths are whole ones: workers of a cluster may have other working folders.

    Raises:
        InputError: One of them stands for none.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if not source.exists():
            raise InputError(f"{source}: no such file{did_you_mean(source)}")
        if source.is_dir() and source.suffix.lower() != ".zarr":
            if not (source / CATALOG).is_file():
                raise InputError(
                    f"{source} is a folder without {CATALOG}; give class maps (.zarr, .tif), or a "
                    "STAC catalog of them"
                )
            source = source / CATALOG
        found += _of_catalog(source) if source.suffix.lower() == ".json" else [source.resolve()]
    if not found:
        raise InputError("there are no maps to join; give class maps, or a STAC catalog of them")
    return list(dict.fromkeys(found))


def map_stamp(path: Path) -> str:
    """Return a text that changes when a class map or what belongs to it is written again."""
    siblings = [path.with_name(f"{path.stem}_confidence{path.suffix}")]
    return "; ".join(file_stamp(str(file)) for file in [path, *siblings] if file.exists())


def check_not_source(out: str | os.PathLike[str], paths: Sequence[Path]) -> None:
    """Refuse to write over what is read.

    Raises:
        InputError: The target is one of the maps.
    """
    if any(Path(out).exists() and path.samefile(out) for path in paths):
        raise InputError(f"{out} is one of the maps themselves; write the result elsewhere")


def job_of(dataset: xr.Dataset) -> dict[str, str]:
    """Return what the bytes of any lazy class map depend on."""
    return {
        "chunk": " x ".join(map(str, dataset["class"].data.chunksize)),
        "variables": ", ".join(map(str, dataset.data_vars)),
        "software": str(dataset.attrs["software"]),
    }


def write_resumably(
    dataset: xr.Dataset,
    out: str | os.PathLike[str],
    label: str,
    job: dict[str, str],
    stamps: Sequence[tuple[Path, str]],
    terminal: Terminal,
    *,
    scheduler: str | None,
    overwrite: bool,
    restart: bool,
) -> list[Path]:
    """Write a map that is made of other maps.

    Args:
        dataset: The map, lazy.
        out: Target.
        label: What is being done.
        job: All that the map depends on.
        stamps: The maps that it is made of, each with what `map_stamp` said before.
        terminal: Where to report.
        scheduler: Address of a running Dask scheduler; None computes in this process.
        overwrite: Replace an existing map.
        restart: Throw away what an interrupted call has done.

    Raises:
        InputError: As `publish.write_class_map`; the disk is full.
    """
    with (
        computing(terminal, label, scheduler, bar=False),
        terminal.chunk_progress(label, dataset["class"].size) as progress,
        _noted(terminal, out),
    ):
        return write_class_map(
            dataset, out, overwrite=overwrite, job=job, restart=restart,
            check_source=_checks(stamps), progress=progress,
        )  # fmt: skip


def _checks(stamps: Sequence[tuple[Path, str]]) -> Callable[[], None]:
    """Return what refuses maps that were written again while they were read."""

    def check() -> None:
        for path, stamp in stamps:
            if not path.exists() or map_stamp(path) != stamp:
                raise SourceChangedError(
                    f"{path} changed while it was read, so nothing was kept: run again when it is "
                    "complete"
                )

    return check


@contextmanager
def _noted(terminal: Terminal, out: str | os.PathLike[str]) -> Iterator[None]:
    """Say what an error leaves behind, and that a disk is full."""
    try:
        yield
    except BaseException as error:
        for note in getattr(error, "__notes__", ()):
            terminal.say(note)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise InputError(
                f"no room left to write {out} ({error.strerror}); make room and run the same "
                "command again"
            ) from error
        raise


def _open(paths: Sequence[Path], terminal: Terminal) -> tuple[list[xr.Dataset], list[GeoBox]]:
    """Open maps lazily: none of them keeps its file open."""
    maps, grids = [], []
    with terminal.progress("opening") as progress:
        for done, path in enumerate(paths, start=1):
            opened = open_class_map(path, say=terminal.say)
            with about(path):
                grids.append(grid_of(opened))
            maps.append(opened)
            progress(done, len(paths))
    return maps, grids


def _report_models(maps: Sequence[xr.Dataset], terminal: Terminal) -> None:
    """Say that maps were made by different models, which may mean different things by a class."""
    known = [one.attrs for one in maps if one.attrs.get("model_sha256")]
    models = Counter(
        f"{attrs.get('model', 'unnamed')} ({str(attrs['model_sha256'])[:8]})" for attrs in known
    )
    if len(models) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in models.most_common(5))
        terminal.say(
            f"  the maps were made by {len(models)} different models, whose confidences need not "
            f"be comparable: {listed}{' ...' if len(models) > 5 else ''}"
        )


def _of_catalog(catalog: Path) -> list[Path]:
    """Return the class maps of a static STAC catalog on disk, in the order of its links.

    Raises:
        InputError: It is no catalog, holds no maps, or leads out of its folder: one that others
            wrote could have any file of this machine read.
    """
    catalog = catalog.resolve()
    waiting, seen, paths, items = [catalog], {catalog}, [], 0
    while waiting:
        file = waiting.pop(0)
        document = _read_document(file)
        if document["type"] == "Feature":
            items += 1
            if asset := document["assets"].get(_ASSET):
                paths.append(_place(asset["href"], file, catalog))
            continue
        for link in document["links"]:
            if link["rel"] in ("child", "item"):
                place = _place(link["href"], file, catalog)
                if place not in seen:
                    seen.add(place)
                    waiting.append(place)
    if not paths:
        raise InputError(
            f"{catalog}: none of its {items} items has an asset {_ASSET!r}; is it a catalog of "
            "class maps?"
        )
    return paths


def _read_document(file: Path) -> dict[str, Any]:
    """Read a catalog, collection or item.

    Raises:
        InputError: The file is none.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as a STAC catalog or item ({error})") from error
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "Feature":
        parts = document.get("assets")
        named = isinstance(parts, dict) and (
            _ASSET not in parts or _has_text(parts[_ASSET], "href")
        )
    else:
        links = document.get("links") if kind in ("Catalog", "Collection") else None
        named = isinstance(links, list) and all(_has_text(one, "rel", "href") for one in links)
    if not named:
        raise InputError(f"{file}: not a STAC catalog or item")
    return document


def _has_text(part: Any, *keys: str) -> bool:
    return isinstance(part, dict) and all(isinstance(part.get(key), str) for key in keys)


def _place(href: str, file: Path, catalog: Path) -> Path:
    """Return the file that a link or asset leads to; letters may be written as %20.

    Raises:
        InputError: There is none, or it lies outside the catalog's folder.
    """
    text = href.removeprefix("file://")
    plain, decoded = ((file.parent / part).resolve() for part in (text, url2pathname(text)))
    place = plain if plain.exists() else decoded
    if "://" in text or not place.is_relative_to(catalog.parent):
        raise InputError(
            f"{file}: leads to {href}, outside of the folder of {catalog.name}; name the maps "
            "there themselves"
        )
    if not place.exists():
        raise InputError(f"{file}: leads to {place}, where there is no file")
    return place
