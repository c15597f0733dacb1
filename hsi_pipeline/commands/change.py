"""Two class maps of one place to what became what: a map, a matrix and polygons."""

from __future__ import annotations

import csv
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from hsi_pipeline import __version__
from hsi_pipeline.change import (
    change_map,
    is_reversed,
    only_changes,
    transition_counts,
)
from hsi_pipeline.classes import scheme_from_attrs
from hsi_pipeline.commands.mosaic import check_not_source, job_of, map_stamp, write_resumably
from hsi_pipeline.commands.scheduling import computing
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons import check_cutting, polygonize
from hsi_pipeline.polygons.minimum_area import apply_minimum_area, check_minimum_area
from hsi_pipeline.publish import (
    MAP_WRITERS,
    POLYGON_WRITERS,
    Layer,
    check_target,
    open_class_map,
    staged,
    write_polygons,
)

_COLUMNS = ("from_code", "from_name", "to_code", "to_name", "pixels", "area_m2")
_UNITS = ((1e8, 1e6, "km2"), (1e4, 1e4, "ha"), (0.0, 1.0, "m2"))  # from which area on, m2, name


def change(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    polygons: str | os.PathLike[str] | None = None,
    matrix: str | os.PathLike[str] | None = None,
    min_area: float = 0.0,
    chunk: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    restart: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Compare two class maps and write what became what.

    Args:
        before: Class map; the result lies on its grid.
        after: Class map of a later time, on any grid that overlaps.
        out: Target of the map of change, `.zarr` or `.tif`.
        polygons: Target of polygons of what changed, any vector file; None writes none.
        matrix: Target of the matrix, `.csv`, a line for each transition; None writes none.
        min_area: Minimum mapping unit of the polygons in m2 (pixels for maps without CRS): smaller
            regions join a neighbour, be that another change or what is unchanged.
        chunk: Side of a chunk in pixels; the result does not depend on it.
        scheduler: Address of a running Dask scheduler; None computes in this process.
        overwrite: Replace existing files.
        restart: Throw away what an interrupted call for the same map has done.
        terminal: Where to report.

    Returns:
        The files written, the map of change first.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    check_cutting(4, chunk)
    check_minimum_area(min_area, "border")
    if min_area and polygons is None:
        raise InputError("--min-area is that of the polygons; give --polygons too")
    target = Path(out)
    table = None if matrix is None else Path(matrix)
    # a Shapefile's suffix is written in small letters, whatever is asked
    outlines = None if polygons is None else Path(polygons)
    outlines = outlines and outlines.with_suffix(outlines.suffix.lower())
    _check_targets(target, outlines, table, overwrite=overwrite)
    # workers of a cluster may have other working folders
    paths = [Path(path).resolve() for path in (before, after)]
    one, other = (open_class_map(path, say=terminal.say) for path in paths)
    check_not_source(target, paths)
    stamps = [map_stamp(path) for path in paths]
    _report_maps(one, other, terminal)
    if grid_of(one).crs is None and outlines is not None and outlines.suffix == ".geojson":
        raise InputError(f"{outlines}: GeoJSON is in WGS 84, and the map has no CRS; write .gpkg")
    names = str(paths[0]), str(paths[1])
    lazy = transition_counts(one, other, chunk=chunk, names=names)
    with computing(terminal, "transitions", scheduler):
        counts = lazy.compute()
    changed = change_map(one, other, counts, chunk=chunk, names=names)
    changed.attrs |= {"software": f"hsi_pipeline {__version__}"}
    job = {"before": stamps[0], "after": stamps[1], **job_of(changed)}
    written = write_resumably(
        changed, target, "comparing", job, [*zip(paths, stamps, strict=True)], terminal,
        scheduler=scheduler, overwrite=overwrite, restart=restart,
    )  # fmt: skip
    if outlines is not None:
        written += _write_polygons(
            target, outlines, min_area, terminal,
            chunk=chunk, scheduler=scheduler, overwrite=overwrite,
        )  # fmt: skip
    if table is not None:
        _write_matrix(counts, table)
        written.append(table)
    terminal.made("change", written, **_report_matrix(counts, terminal))
    return written


def _check_targets(
    out: Path, polygons: Path | None, matrix: Path | None, *, overwrite: bool
) -> None:
    """Refuse targets that cannot be written.

    Raises:
        InputError: As `publish.check_target`; or the styles of two of them have the same name.
    """
    check_target(out, overwrite=overwrite, suffixes=MAP_WRITERS)
    if matrix is not None:
        check_target(matrix, overwrite=overwrite, suffixes=(".csv",))
    if polygons is None:
        return
    check_target(polygons, overwrite=overwrite, suffixes=POLYGON_WRITERS)
    styled = out.suffix.lower() != ".zarr" and polygons.suffix != ".gpkg"
    if styled and polygons.resolve().with_suffix("") == out.resolve().with_suffix(""):
        raise InputError(
            f"{polygons.name} and {out.name} would need two styles of the same name; give the "
            "polygons another stem"
        )


def _report_maps(one: xr.Dataset, other: xr.Dataset, terminal: Terminal) -> None:
    """Say what may not be as meant."""
    if is_reversed(one, other):
        terminal.say(
            f"the second map is of {_acquired(other)} and older than the first, of "
            f"{_acquired(one)}: what became what is told backwards"
        )
    models = {m.attrs["model_sha256"] for m in (one, other) if m.attrs.get("model_sha256")}
    if len(models) > 1:
        terminal.say("the maps were made by two models: some of the change may be theirs alone")
    if grid_of(one).crs is None:
        terminal.say("the maps have no CRS: areas are in pixels")


def _acquired(one: xr.Dataset) -> str:
    return str(one.attrs.get("acquired", one.attrs.get("acquired_to")))


def _write_polygons(
    change: Path,
    out: Path,
    min_area: float,
    terminal: Terminal,
    *,
    chunk: int | None,
    scheduler: str | None,
    overwrite: bool,
) -> list[Path]:
    """Outline what changed.

    The minimum area goes before: small regions amid what is unchanged are to become that.
    """
    dataset = open_class_map(change.resolve())
    scheme = scheme_from_attrs(dataset["class"].attrs)
    place = out.resolve().parent
    with (
        computing(terminal, "polygons", scheduler, bar=False) as executor,
        tempfile.TemporaryDirectory(prefix=f".{out.name}.minimum-area-", dir=place) as folder,
    ):
        if min_area:
            with terminal.chunk_progress("minimum area", dataset["class"].size) as progress:
                dataset, report = apply_minimum_area(
                    dataset, min_area, Path(folder) / "classes.zarr",
                    chunk=chunk, executor=executor, progress=progress,
                )  # fmt: skip
            unit = "pixels" if grid_of(dataset).crs is None else "m2"
            terminal.say(
                f"{report.merged} regions joined a neighbour by the minimum of {min_area:g} {unit}"
            )
        changes, fewer = only_changes(dataset, scheme)
        with terminal.chunk_progress("polygons", dataset["class"].size) as progress:
            batches = polygonize(
                # sides that GeoJSON takes to WGS 84 bend by their vertices
                changes, nodes=out.suffix == ".geojson",
                chunk=None if out.suffix == ".geojson" else chunk,
                executor=executor, progress=progress,
            )  # fmt: skip
            written = write_polygons(batches, out, Layer(fewer, "change"), overwrite=overwrite)
    terminal.say(f"polygons of change in {out}")
    return written


def _write_matrix(counts: xr.Dataset, out: Path) -> None:
    """Write transitions that occur, a line each."""
    area = counts.get("area_m2")
    with staged(out) as target, target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for i, j in np.argwhere(counts["pixels"].values > 0).tolist():
            writer.writerow(
                (
                    int(counts["before_code"][i]),
                    str(counts["before"].values[i]),
                    int(counts["after_code"][j]),
                    str(counts["after"].values[j]),
                    int(counts["pixels"][i, j]),
                    "" if area is None else f"{float(area[i, j]):.6f}",
                )
            )


def _report_matrix(counts: xr.Dataset, terminal: Terminal) -> dict[str, Any]:
    """Print the matrix and how much changed; return that as figures."""
    pixels = counts["pixels"].values
    values, unit = pixels.astype(float), "pixels"
    if "area_m2" in counts:
        area = counts["area_m2"].values
        divisor, unit = next((d, name) for least, d, name in _UNITS if area.sum() >= least)
        values = area / divisor
    digits = 0 if unit in ("pixels", "m2") else 2
    rows_of, columns_of = (counts[side].values.astype(str).tolist() for side in ("before", "after"))
    rows = [
        [name, *(f"{value:.{digits}f}" if value else "-" for value in [*line, line.sum()])]
        for name, line in zip(rows_of, values, strict=True)
    ]
    rows.append(["total", *(f"{value:.{digits}f}" for value in [*values.sum(0), values.sum()])])
    terminal.table(f"from (lines) to (columns), {unit}", ["", *columns_of, "total"], rows)
    same = np.array(rows_of, object)[:, None] == np.array(columns_of, object)[None]
    share = values[~same].sum() / values.sum()
    terminal.say(
        f"{share:.1%} changed, of {values.sum():.{digits}f} {unit} where both maps have a class"
    )
    return {
        "before": rows_of,
        "after": columns_of,
        "pixels": pixels,
        "changed_share": share,
        **({"area_m2": counts["area_m2"].values} if "area_m2" in counts else {}),
    }
