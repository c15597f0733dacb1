"""Class map to land-cover polygons."""

from __future__ import annotations

import os
from pathlib import Path

from hsi_pipeline.classes import scheme_from_attrs
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.polygons import polygonize as outline
from hsi_pipeline.publish import POLYGON_SUFFIXES, check_target, open_class_map
from hsi_pipeline.publish.vector import write_polygons


def polygonize(
    class_map: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    min_area: float = 0.0,
    chunk: int | None = None,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Turn a class map into polygons.

    Args:
        class_map: `.zarr` or raster file.
        out: Target vector file.
        min_area: Minimum mapping unit in m2 (pixels for a map without CRS).
        chunk: Pixels read at a time; the polygons do not depend on it.
        overwrite: Replace an existing file.
        terminal: Where to report.

    Returns:
        The files written, the polygons first.

    Raises:
        InputError: Anything about the input or output that cannot work.
    """
    terminal = terminal or Terminal(quiet=True)
    check_target(out, overwrite=overwrite, suffixes=POLYGON_SUFFIXES)
    dataset = open_class_map(Path(class_map))
    polygons, report = outline(dataset, min_area_m2=min_area, chunk=chunk)
    scheme = scheme_from_attrs(dataset["class"].attrs)
    written = write_polygons(polygons, out, scheme, overwrite=overwrite)
    if report.merged:
        terminal.say(f"{report.merged} regions below {min_area:g} m2 joined their neighbours")
    if report.dropped:
        terminal.say(
            f"{report.dropped} regions below {min_area:g} m2 ({report.dropped_pixels} pixels) "
            "lie amid nodata and were left out"
        )
    if polygons.empty:
        terminal.say("the map holds no classified pixel; the file has no polygons")
    terminal.say(f"{len(polygons)} polygons in {written[0]}")
    return written
