"""One grid for class maps of several grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from affine import Affine
from odc.geo.crs import CRS, CRSError
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError

from hsi_pipeline.errors import InputError
from hsi_pipeline.gather import extent_in, transform

_LARGEST = 2**40  # pixels
_SAME = 1e-9  # of a pixel's size: what equal sizes may differ by
_PHASE = 1e-3  # of a pixel: what maps of one lattice may be apart, as files round
_EDGE = 1e-6  # of a pixel: what a map may reach beyond the grid


def common_grid(
    grids: Sequence[GeoBox], crs: str | None = None, resolution: float | None = None
) -> GeoBox:
    """Return a north-up grid that covers all grids.

    Args:
        grids: The grids.
        crs: Its CRS; None: that of most grids, of equally many the one that comes first.
        resolution: Side of a pixel in units of the CRS; None: that of the grid with the smallest
            pixels among those in the CRS, or, if there is none, what these would have there.

    Returns:
        The grid. Where grids in its CRS have pixels of its size, its pixels are theirs; if these
        lie on several lattices, those of the one that most lie on. If that is not one alone, edges
        of pixels are multiples of the resolution.

    Raises:
        InputError: A grid has no CRS, or no place in this one; the resolution makes no sense; the
            grid would be too large.
    """
    if not grids:
        raise InputError("there are no maps to join")
    if without := sum(grid.crs is None for grid in grids):
        raise InputError(
            f"{without} of {len(grids)} maps have no CRS, so that nobody knows where they lie; "
            "give maps with a georeference"
        )
    if resolution is not None and not 0 < resolution < np.inf:
        raise InputError(f"the resolution is {resolution}, expected more than 0")
    target = _most_frequent_crs(grids) if crs is None else _crs(crs)
    width, height = _pixel(grids, target) if resolution is None else (resolution, resolution)
    try:
        extents = np.array([extent_in(grid, target) for grid in grids])
    except ProjError as error:
        raise InputError(f"maps cannot be brought to {crs_name(target)} ({error})") from error
    if not np.isfinite(extents).all():
        raise InputError(
            f"some maps reach where {crs_name(target)} has no coordinates; choose another CRS"
        )
    x, y = _anchor([grid for grid in grids if grid.crs == target], width, height)
    left = np.floor((extents[:, 0].min() - x) / width + _EDGE)
    right = np.ceil((extents[:, 2].max() - x) / width - _EDGE)
    bottom = np.floor((extents[:, 1].min() - y) / height + _EDGE)
    top = np.ceil((extents[:, 3].max() - y) / height - _EDGE)
    shape = (max(int(top - bottom), 1), max(int(right - left), 1))
    if target.geographic and shape[1] * width > 360 * (1 + _EDGE):
        raise InputError(
            "the maps lie on both sides of the antimeridian, so that a grid in degrees would go "
            "once around the Earth; choose a projected CRS that covers them"
        )
    if shape[0] * shape[1] > _LARGEST:
        raise InputError(
            f"the mosaic would have {shape[0]} x {shape[1]} pixels; choose a coarser resolution, "
            "or maps that lie nearer to one another"
        )
    corner = Affine(width, 0, x + left * width, 0, -height, y + top * height)
    return GeoBox(shape, corner, target)


def crs_name(crs: CRS) -> str:
    """Return what to call a CRS: its EPSG code, or else its name."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.proj.name)


def _crs(text: str) -> CRS:
    try:
        found = CRS(text)
        if not (found.proj.is_projected or found.proj.is_geographic):
            raise ValueError("it has no plane coordinates")
    except (CRSError, ValueError, RuntimeError) as error:
        raise InputError(f"{text} is no CRS that is known, such as EPSG:32632") from error
    return found


def _most_frequent_crs(grids: Sequence[GeoBox]) -> CRS:
    """Return the CRS of most grids, of equally many the first; equal ones may be written twice."""
    found: list[list[CRS]] = []
    for grid in grids:
        same = next((those for those in found if those[0] == grid.crs), None)
        if same is None:
            found.append([grid.crs])
        else:
            same.append(grid.crs)
    return max(found, key=len)[0]


def _pixel(grids: Sequence[GeoBox], crs: CRS) -> tuple[float, float]:
    """Return width and height of the smallest pixels of the grids in a CRS."""
    those = [_sides(grid) for grid in grids if grid.crs == crs]
    return min(
        those or [_sides_in(grid, crs) for grid in grids],
        key=lambda sides: (sides[0] * sides[1], sides),
    )


def _sides_in(grid: GeoBox, crs: CRS) -> tuple[float, float]:
    """Return the side of a square as large as the middle pixel in another CRS, in three digits."""
    rows, columns = grid.shape
    middle = grid[rows // 2 : rows // 2 + 1, columns // 2 : columns // 2 + 1]
    corners = GeoBox((1, 1), middle.affine, crs)
    x, y = transform(grid, corners, *(middle.affine @ (np.array([0, 1, 0]), np.array([0, 0, 1]))))
    area = abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]))
    if not 0 < area < np.inf:
        raise InputError(f"a map has no place in {crs_name(crs)}; choose another CRS")
    side = float(f"{np.sqrt(area):.3g}")
    return side, side


def _sides(grid: GeoBox) -> tuple[float, float]:
    a, b, _, d, e, _ = grid.affine[:6]
    if grid.axis_aligned:
        return abs(a), abs(e)
    side = min(float(np.hypot(a, d)), float(np.hypot(b, e)))
    return side, side


def _anchor(grids: Sequence[GeoBox], width: float, height: float) -> tuple[float, float]:
    """Return a corner of pixels of the lattice that most grids of this pixel size lie on."""
    lattices: list[tuple[float, float]] = []
    counts: list[int] = []
    for grid in grids:
        sides = _sides(grid)
        same = np.allclose(sides, (width, height), rtol=_SAME, atol=0)
        if not (grid.axis_aligned and same):
            continue
        corner = (grid.affine.c, grid.affine.f)
        for i, known in enumerate(lattices):
            apart = [(corner[0] - known[0]) / width, (corner[1] - known[1]) / height]
            if all(abs(step - round(step)) < _PHASE for step in apart):
                counts[i] += 1
                break
        else:
            lattices.append(corner)
            counts.append(1)
    if counts.count(max(counts, default=0)) != 1:
        return 0.0, 0.0
    return lattices[counts.index(max(counts))]
