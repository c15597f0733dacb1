"""What scenes say of themselves when they are opened, for selections that ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hsi_pipeline.archive.candidates import Candidate
from hsi_pipeline.archive.dates import in_utc
from hsi_pipeline.archive.footprints import footprint
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import open_source

_THREADS = 4


def open_all(
    candidates: Sequence[Candidate],
    *,
    pixel_coordinates: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Candidate], int]:
    """Open scenes for their date, clouds, sensor and footprint; pixels are not read.

    Args:
        candidates: The scenes.
        pixel_coordinates: As for `scene.open_source`.
        progress: Called with the number of scenes opened and of all.

    Returns:
        The scenes in the same order, and how many could not be opened, which stay as they are.
    """
    opened, failed = [], 0
    with ThreadPoolExecutor(_THREADS) as pool:
        results = pool.map(lambda c: _opened(c, pixel_coordinates=pixel_coordinates), candidates)
        for candidate, found in zip(candidates, results, strict=True):
            opened.append(found or candidate)
            failed += found is None
            if progress is not None:
                progress(len(opened), len(candidates))
    return opened, failed


def _opened(candidate: Candidate, *, pixel_coordinates: bool) -> Candidate | None:
    if candidate.scene.fault:
        return None
    try:
        source = open_source(candidate.scene.path, pixel_coordinates=pixel_coordinates)
    except (InputError, OSError):
        return None
    attrs = source.attrs
    sensor, cloud_share = attrs.get("sensor"), attrs.get("cloud_share")
    known = replace(
        candidate.scene,
        acquired=in_utc(attrs.get("acquired")),
        cloud_share=None if cloud_share is None else float(cloud_share),
        sensor=None if sensor is None else str(sensor),
        geometry=footprint(source.grid),
        shape=(int(source.grid.shape[0]), int(source.grid.shape[1])),
    )
    return replace(candidate, scene=known, sensors=() if sensor is None else (str(sensor),))
