"""Class map to land-cover polygons, or to what it says of the user's own polygons."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import xarray as xr

from hsi_pipeline.classes import scheme_from_attrs
from hsi_pipeline.commands.messages import about, check_no_input
from hsi_pipeline.commands.scheduling import computing
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth.parcels import read_parcels
from hsi_pipeline.parcels import ParcelReport, summarise_parcels
from hsi_pipeline.polygons import check_cutting, check_tolerance, no_polygons
from hsi_pipeline.polygons import polygonize as outline
from hsi_pipeline.polygons.minimum_area import Join, apply_minimum_area, check_minimum_area
from hsi_pipeline.publish import (
    POLYGON_WRITERS,
    Layer,
    check_target,
    open_class_map,
    write_polygons,
)
from hsi_pipeline.publish.postgis import (
    check_database,
    is_database,
    without_password,
    write_to_database,
)
from hsi_pipeline.publish.vector import shortened


def polygonize(
    class_map: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    min_area: float = 0.0,
    join: Join = "border",
    connectivity: Literal[4, 8] = 4,
    simplify: float = 0.0,
    smooth: bool = False,
    by: str | os.PathLike[str] | None = None,
    by_layer: str | None = None,
    chunk: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    append: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Turn a class map into polygons.

    Args:
        class_map: `.zarr` or raster file.
        out: Target vector file, or the address of a PostGIS database.
        min_area: Minimum mapping unit in m2 (pixels for a map without CRS).
        join: Which neighbour smaller regions join: "border", that with the longest common border,
            or "probability", that with the most probable class.
        connectivity: 4, or 8 to join pixels that touch at a corner.
        simplify: Tolerance of simplification in units of the map's CRS.
        smooth: Cut corners.
        by: Polygons of the user's own; the result are these with the area and share of each class.
        by_layer: Layer of `by`.
        chunk: Side of a chunk in pixels; the polygons do not depend on it.
        scheduler: Address of a running Dask scheduler; None computes in this process.
        overwrite: Replace an existing file or table.
        append: Add to an existing table of a database.
        terminal: Where to report.

    Returns:
        The files written, the polygons first; none for a database.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    check_cutting(connectivity, chunk)
    check_minimum_area(min_area, join)
    check_tolerance(simplify)
    _check_options(min_area, join, by, by_layer, changed=bool(simplify or smooth))
    if not is_database(out):
        if append:
            raise InputError(f"--append adds to a table of a database; {out} is a file")
        out = Path(out).with_suffix(Path(out).suffix.lower())  # as it will be written
        check_target(out, overwrite=overwrite, suffixes=POLYGON_WRITERS)
        check_no_input(out, class_map, by)
    parcels = None if by is None else read_parcels(by, by_layer)
    # workers of a cluster may have other working folders
    dataset = open_class_map(Path(class_map).resolve(), say=terminal.say)
    if grid_of(dataset).crs is None:
        if Path(out).suffix == ".geojson" and by is None and not is_database(out):
            raise InputError(f"{out}: GeoJSON is in WGS 84, and the map has no CRS; write .gpkg")
        terminal.say("the map has no CRS: areas are in pixels, lengths in its coordinates")
    if is_database(out):
        like = None if parcels is not None else no_polygons(dataset)
        check_database(str(out), overwrite=overwrite, append=append, like=like)
    scheme = scheme_from_attrs(dataset["class"].attrs)
    layer = Layer(scheme, multi=connectivity == 8)
    with ExitStack() as stack:
        executor = stack.enter_context(computing(terminal, "polygons", scheduler, bar=False))
        if min_area:
            folder = stack.enter_context(_scratch(Path(class_map).resolve(), out))
            dataset = _with_minimum_area(
                dataset, min_area, folder / "classes.zarr", terminal, join=join,
                connectivity=connectivity, chunk=chunk, executor=executor,
            )  # fmt: skip
        with terminal.chunk_progress("polygons", dataset["class"].size) as progress:
            if parcels is not None:
                with about(str(by)):
                    frame, report = summarise_parcels(
                        dataset, parcels, chunk=chunk, progress=progress
                    )
                layer = Layer(scheme, "parcels", f"majority{report.suffix}", multi=True)
                _report_parcels(report, terminal)
                batches: Iterable[gpd.GeoDataFrame] = [frame]
            else:
                # sides that GeoJSON takes to WGS 84 bend by their vertices
                bends = not is_database(out) and Path(out).suffix == ".geojson"
                batches = outline(
                    dataset, connectivity=connectivity, simplify=simplify, smooth=smooth,
                    nodes=bends,
                    # lines are simplified in chunks of one size, whatever is read at a time
                    chunk=None if simplify or smooth or bends else chunk,
                    executor=executor, progress=progress,
                )  # fmt: skip
            counted = _Counted(batches, min_area)
            written = _write(counted, out, layer, overwrite=overwrite, append=append)
    if not counted.rows and by is None:
        terminal.say("the map holds no classified pixel; the layer is valid and has no polygons")
    if by is None and "probability" not in dataset:
        terminal.say(
            "the map has no probabilities, so second_name and second_share are empty"
            + ("; 'classify --probabilities' writes them" if "model" in dataset.attrs else "")
        )
    if counted.small and (simplify or smooth):
        terminal.say(
            f"{counted.small} polygons are below {min_area:g} m2 now that their lines are simpler; "
            "'pixels' are those of the map"
        )
    if (
        not is_database(out)
        and Path(out).suffix.lower() == ".shp"
        and (names := shortened(counted.columns))
    ):
        listed = ", ".join(f"{long} is {short}" for long, short in names.items())
        terminal.say(f"names in a Shapefile have ten letters at most: {listed}")
    shown = without_password(str(out)) if is_database(out) else out
    what = "parcels" if by else "polygons"
    terminal.say(f"{counted.rows} {what} in {shown}")
    terminal.made("polygonize", written or [shown], **{what: counted.rows})
    return written


def _check_options(
    min_area: float,
    join: str,
    by: str | os.PathLike[str] | None,
    by_layer: str | None,
    *,
    changed: bool,
) -> None:
    """Refuse options that would do nothing.

    Raises:
        InputError: Says what they need.
    """
    if by is None and by_layer is not None:
        raise InputError("--by-layer names a layer of --by; give that too")
    if join != "border" and not min_area:
        raise InputError("--join says where regions below --min-area go; give that too")
    if by is not None and changed:
        raise InputError("--simplify and --smooth change polygons of the map; leave out --by")


def _with_minimum_area(
    dataset: xr.Dataset, min_area: float, scratch: Path, terminal: Terminal, **options: Any
) -> xr.Dataset:
    """Apply the minimum area and say what it did."""
    with terminal.chunk_progress("minimum area", dataset["class"].size) as progress:
        result, report = apply_minimum_area(
            dataset, min_area, scratch, progress=progress, **options
        )
    unit = "pixels" if grid_of(dataset).crs is None else "m2"
    terminal.say(
        f"{report.before} regions became {report.after} by the minimum of {min_area:g} {unit}"
    )
    if report.kept:
        terminal.say(
            f"{report.kept} regions below {min_area:g} {unit} lie amid nodata and stay as they are"
        )
    return result


@contextmanager
def _scratch(class_map: Path, out: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a folder that workers of a cluster see too, and remove it.

    Beside the result, or where that is a database beside the map.
    """
    beside = class_map.parent if is_database(out) else Path(out).resolve().parent
    place = beside if os.access(beside, os.W_OK) else None
    name = class_map.name if is_database(out) else Path(out).name
    with tempfile.TemporaryDirectory(prefix=f".{name}.minimum-area-", dir=place) as folder:
        yield Path(folder)


class _Counted:
    """A stream of frames that is counted as it passes."""

    def __init__(self, frames: Iterable[gpd.GeoDataFrame], min_area: float) -> None:
        self._frames, self._min_area = frames, min_area
        self.rows = self.small = 0
        self.columns: list[str] = []

    def __iter__(self) -> Iterator[gpd.GeoDataFrame]:
        for frame in self._frames:
            self.rows += len(frame)
            if "area_m2" in frame:
                self.small += int((frame["area_m2"] < self._min_area * (1 - 1e-6)).sum())
            self.columns = list(frame.columns)
            yield frame


def _write(
    batches: Iterable[gpd.GeoDataFrame],
    out: str | os.PathLike[str],
    layer: Layer,
    *,
    overwrite: bool,
    append: bool,
) -> list[Path]:
    if is_database(out):
        write_to_database(batches, str(out), layer, overwrite=overwrite, append=append)
        return []
    return write_polygons(batches, out, layer, overwrite=overwrite)


def _report_parcels(report: ParcelReport, terminal: Terminal) -> None:
    """Say what became of the parcels, where it is not what one would expect."""
    for count, what in (
        (report.repaired, "had an invalid geometry, which was repaired"),
        (report.without_geometry, "have no area"),
        (report.outside, "lie outside the map"),
        (report.partly_outside, "reach beyond the map"),
        (report.unclassified, "hold no classified pixel"),
        (report.partly_unclassified, "hold pixels without a class; shares are of the others"),
    ):
        if count:
            terminal.say(f"{count} of {report.parcels} parcels {what}")
    if report.suffix:
        terminal.say(f"the parcels have columns of these names, so new ones end in {report.suffix}")
