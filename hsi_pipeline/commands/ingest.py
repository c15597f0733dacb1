"""A scene of any format to a Zarr store that windows are read from fast."""

from __future__ import annotations

import os
from pathlib import Path

from hsi_pipeline.commands.scheduling import computing
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.publish import check_target
from hsi_pipeline.publish.cube_zarr import CHUNK, check_chunk, write_cube
from hsi_pipeline.scene import open_source


def ingest(
    scene: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    chunk: int = CHUNK,
    pixel_coordinates: bool = False,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Rewrite a scene as chunked, compressed Zarr, with all that is known about it.

    Digital numbers, bands, quality flags, grid and attributes stay as they are; the result is a
    scene for every other command. Until it is complete, nothing stands under its name.

    Args:
        scene: Scene file, product or address.
        out: Target, `.zarr`.
        chunk: Rows and columns of a chunk, which holds all bands.
        pixel_coordinates: Accept a scene without georeference.
        overwrite: Replace an existing target.
        terminal: Where to report.

    Returns:
        The store.

    Raises:
        InputError: The scene cannot be read, or the target cannot be written.
    """
    terminal = terminal or Terminal(quiet=True)
    check_target(out, overwrite=overwrite, suffixes=(".zarr",))
    source = open_source(scene, pixel_coordinates=pixel_coordinates)
    check_chunk(source, chunk)
    bands, rows, columns = source.pixels.shape
    size = bands * rows * columns * source.pixels.dtype.itemsize
    terminal.say(
        f"{source.attrs['scene_id']}: {rows} rows x {columns} columns x {bands} bands, "
        f"{source.pixels.dtype}, {size / 1e6:.1f} MB"
    )
    with computing(terminal, "ingesting", None):
        store = write_cube(source, out, chunk=chunk, overwrite=overwrite)
    stored = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    terminal.say(f"scene in {store}, {stored / 1e6:.1f} MB")
    terminal.made(
        "ingest", [store], rows=rows, columns=columns, bands=bands, bytes=stored,
    )  # fmt: skip
    return [store]
