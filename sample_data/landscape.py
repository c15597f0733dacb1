"""An invented landscape: a river valley with fields, woods, lakes, a town and villages.

Lengths are in pixels of the scene (30 m). The landscape is drawn on a grid `FINE` times finer,
as patches: a field, a stand of trees, a building, a reach of the river.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter

SIZE = 160
"""Rows and columns of the scene."""
FINE = 5
"""Cells of the fine grid along one pixel: 6 m."""

ROOF, PAVEMENT, GRASS, CROP, FOREST, SOIL, WATER = range(1, 8)

ROOFS = ("clay tile", "clay tile", "concrete tile", "bitumen", "metal sheet", "gravel roof")
PAVEMENTS = ("asphalt", "asphalt", "concrete", "concrete", "paving stone")
CROPS = ("green cereal", "ripening cereal", "row crop", "row crop", "sparse crop")
SOILS = ("loam", "loam", "stubble", "sand")

TOWN = (92.0, 108.0, 17.0)  # row, column, radius
VILLAGES = ((44.0, 62.0, 6.0), (128.0, 110.0, 5.5), (72.0, 22.0, 5.0))
WORKS = (  # industrial areas: row, column, half height, half width, angle in degrees
    (80, 130, 8, 9, 20), (114, 94, 8, 9, 20), (36, 76, 8, 9, -15), (132, 124, 8, 9, 10),
    (82, 26, 8, 9, 35), (54, 138, 8, 9, 5),
)  # fmt: skip
LAKES = (  # row, column, radius
    (62, 112, 7.0), (118, 32, 5.0), (28, 100, 3.2), (146, 78, 3.4), (100, 146, 3.0),
    (52, 32, 2.8), (136, 52, 2.8), (70, 94, 2.4), (122, 138, 2.6), (26, 60, 2.6),
)  # fmt: skip
ROADS = (  # points as (row, column); half width
    (((0, 96), (40, 84), (78, 100), (92, 108), (118, 112), (160, 118)), 0.35),
    (((70, 0), (74, 22), (84, 60), (92, 108), (84, 130), (88, 160)), 0.35),
    (((20, 0), (44, 62), (56, 100), (60, 138), (56, 160)), 0.2),
    (((160, 30), (118, 42), (84, 28), (74, 22), (30, 26), (0, 34)), 0.2),
)


@dataclass(frozen=True)
class Patch:
    """A piece of land with one cover."""

    code: int
    """Class code."""
    kind: str
    """Material, a name of `spectral_models`."""
    parcel: int
    """Patches of one parcel are never divided between training and test."""


class Canvas:
    """The map of patches while it is painted, back to front."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Start with an empty map."""
        self.rng = rng
        self.patches: list[Patch] = []
        self.patch_map = np.full((SIZE * FINE, SIZE * FINE), -1, dtype=np.int32)

    def paint(
        self,
        mask: np.ndarray,
        code: int,
        kinds: Sequence[str],
        cells: np.ndarray | None = None,
        one_parcel: bool = False,
    ) -> None:
        """Cover a mask with patches, one per distinct value of `cells`.

        Args:
            mask: bool (y, x) on the fine grid.
            code: Class code.
            kinds: Materials; each patch draws one.
            cells: Integers (y, x); without them the mask is one patch.
            one_parcel: All patches belong to one parcel.
        """
        if not mask.any():
            return
        values = np.zeros(mask.sum(), dtype=int) if cells is None else cells[mask]
        distinct, index = np.unique(values, return_inverse=True)
        start = len(self.patches)
        self.patch_map[mask] = start + index
        for number in range(start, start + len(distinct)):
            kind = kinds[int(self.rng.integers(len(kinds)))]
            self.patches.append(Patch(code, kind, start if one_parcel else number))

    def code_map(self) -> np.ndarray:
        """Return the class codes, uint8 (y, x) on the fine grid."""
        return np.array([patch.code for patch in self.patches], dtype=np.uint8)[self.patch_map]


def make_landscape(rng: np.random.Generator) -> Canvas:
    """Paint the whole landscape."""
    canvas = Canvas(rng)
    row, col = fine_grid()
    river = np.abs(_river_distance(rng, row, col))
    _paint_fields(canvas, row, col, river)
    _paint_woods(canvas, row, col)
    _paint_settlements(canvas, row, col)
    for area in WORKS:
        _paint_works(canvas, row, col, area)
    _paint_airfield(canvas, row, col)
    _paint_water(canvas, row, col, river)
    for points, half_width in ROADS:
        road = _distance_to_line(row, col, np.array(points, dtype=float)) < half_width
        canvas.paint(road, PAVEMENT, ("asphalt",))
    return canvas


def fine_grid() -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of every fine cell's centre, in pixels of the scene."""
    centers = (np.arange(SIZE * FINE) + 0.5) / FINE
    row, col = np.meshgrid(centers, centers, indexing="ij")
    return row, col


def smooth_noise(rng: np.random.Generator, length: float) -> np.ndarray:
    """Return a random field (y, x) on the fine grid, mean 0, deviation 1.

    Args:
        rng: Source of randomness.
        length: Correlation length in pixels of the scene.
    """
    field = gaussian_filter(rng.standard_normal((SIZE * FINE,) * 2), length * FINE, mode="wrap")
    return (field - field.mean()) / field.std()


def _river_distance(rng: np.random.Generator, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    bend = 13 * np.sin(row / 23 + 0.6) + 4 * np.sin(row / 9.5) + 0.5 * smooth_noise(rng, 3)
    slope = np.abs(13 / 23 * np.cos(row / 23 + 0.6) + 4 / 9.5 * np.cos(row / 9.5))
    return (col - 62 - 0.1 * row - bend) / np.sqrt(1 + slope**2)


def _nearest(rng: np.random.Generator, row: np.ndarray, col: np.ndarray, count: int) -> np.ndarray:
    """Return the number of the nearest of `count` random points: Voronoi cells."""
    best = np.full(row.shape, np.inf)
    nearest = np.zeros(row.shape, dtype=int)
    for number, (r, c) in enumerate(rng.uniform(0, SIZE, (count, 2))):
        distance = (row - r) ** 2 + (col - c) ** 2
        nearest[distance < best] = number
        best = np.minimum(best, distance)
    return nearest


def _turned(
    row: np.ndarray, col: np.ndarray, center: tuple[float, float], degrees: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (v, u) turned about a centre."""
    angle = np.deg2rad(degrees)
    r, c = row - center[0], col - center[1]
    return r * np.cos(angle) - c * np.sin(angle), r * np.sin(angle) + c * np.cos(angle)


def _paint_fields(canvas: Canvas, row: np.ndarray, col: np.ndarray, river: np.ndarray) -> None:
    """Cut regions into strips and strips into fields; tracks run along the regions."""
    rng, count = canvas.rng, 14
    bent_row, bent_col = row + smooth_noise(rng, 6), col + smooth_noise(rng, 6)
    region = _nearest(rng, bent_row, bent_col, count)
    v, u = _turned(bent_row, bent_col, (0, 0), rng.uniform(-40, 40, count)[region])
    strip = np.floor(u / rng.uniform(4.5, 8.0, count)[region]).astype(int)
    length = rng.uniform(7.0, 17.0, (count, 128))[region, strip % 128]
    number = np.floor(v / length).astype(int)
    # Whole numbers that tell fields of one region, strip and position apart.
    _, field = np.unique((region * 1000 + strip + 500) * 1000 + number + 500, return_inverse=True)
    field = field.reshape(row.shape)
    near_river = np.zeros(field.max() + 1, dtype=bool)
    near_river[field[river < 8]] = True
    chance = rng.random(field.max() + 1)
    grass = chance < np.where(near_river, 0.75, 0.24)
    bare = (chance > 0.80) & ~grass
    canvas.paint(grass[field], GRASS, ("meadow", "meadow", "dry pasture"), field)
    canvas.paint(bare[field], SOIL, SOILS, field)
    canvas.paint(~(grass | bare)[field], CROP, CROPS, field)
    track = np.zeros(row.shape, dtype=bool)
    track[:, 1:] |= region[:, 1:] != region[:, :-1]
    track[1:] |= region[1:] != region[:-1]
    canvas.paint(track, PAVEMENT, ("paving stone", "asphalt"), region)


def _paint_woods(canvas: Canvas, row: np.ndarray, col: np.ndarray) -> None:
    """Woods with ragged edges, in stands of broadleaved or needle trees; clearings stay open."""
    rng = canvas.rng
    height = smooth_noise(rng, 11) + 0.3 * smooth_noise(rng, 2) + 0.15 * smooth_noise(rng, 0.6)
    for r, c, radius in (TOWN, *VILLAGES):
        height -= 3 * np.exp(-((row - r) ** 2 + (col - c) ** 2) / (1.3 * radius) ** 2)
    stand = _nearest(rng, row + smooth_noise(rng, 4), col + smooth_noise(rng, 4), 110)
    needle = (rng.random(110) < 0.42)[stand]
    wood = height > np.quantile(height, 0.78)
    canvas.paint(wood & needle, FOREST, ("needle",), stand)
    canvas.paint(wood & ~needle, FOREST, ("broadleaf",), stand)
    copse = (smooth_noise(rng, 1.2) > 2.35) & ~wood
    canvas.paint(copse, FOREST, ("broadleaf",), stand)


def _paint_settlements(canvas: Canvas, row: np.ndarray, col: np.ndarray) -> None:
    """Streets and blocks: closed blocks in the middle, houses in gardens around."""
    for r, c, radius in (TOWN, *VILLAGES):
        rng = canvas.rng
        edge = np.hypot(row - r, col - c) + 0.12 * radius * smooth_noise(rng, 3)
        inside = edge < radius
        v, u = _turned(row, col, (r, c), rng.uniform(-35, 35))
        block = np.floor(v / 3.0) * 1000 + np.floor(u / 3.6)
        across, along = v % 3.0, u % 3.6
        street = (across < 0.45) | (along < 0.45)
        dense = edge < 0.45 * radius
        yard = (np.abs(across - 1.72) < 0.45) & (np.abs(along - 2.02) < 0.55)
        house = (((across - 0.45) % 1.27) > 0.67) & (((along - 0.45) % 0.8) > 0.35)
        tree = smooth_noise(rng, 0.35) > 0.9
        garden = inside & ~dense & ~street & ~house
        canvas.paint(garden & ~tree, GRASS, ("meadow", "dry pasture"), block)
        canvas.paint(garden & tree, FOREST, ("broadleaf",), block)
        canvas.paint(inside & ~dense & ~street & house, ROOF, ROOFS, block)
        canvas.paint(inside & dense & ~street & ~yard, ROOF, ROOFS, block)
        canvas.paint(inside & dense & ~street & yard, PAVEMENT, PAVEMENTS, block)
        canvas.paint(inside & street, PAVEMENT, ("asphalt",), np.floor(v / 9) * 99 + u // 9)


def _paint_works(
    canvas: Canvas, row: np.ndarray, col: np.ndarray, area: tuple[float, float, float, float, float]
) -> None:
    """Halls beside yards and car parks, in plots of 9 by 8 pixels."""
    r, c, half_height, half_width, angle = area
    v, u = _turned(row, col, (r, c), angle)
    v, u = v + half_height, u + half_width
    inside = (v > 0) & (u > 0) & (v < 2 * half_height) & (u < 2 * half_width)
    plot = np.floor(v / 8) * 1000 + np.floor(u / 9)
    canvas.paint(inside, GRASS, ("dry pasture",))
    yard = inside & (v % 8 > 0.6) & (u % 9 > 0.6)
    canvas.paint(yard, PAVEMENT, PAVEMENTS, plot)
    hall = inside & (v % 8 > 1.2) & (v % 8 < 7.2) & (u % 9 > 1.0) & (u % 9 < 5.0)
    canvas.paint(hall, ROOF, ("metal sheet", "bitumen", "gravel roof"), plot)


def _paint_airfield(canvas: Canvas, row: np.ndarray, col: np.ndarray) -> None:
    """A small airfield: meadow, runway, apron and two hangars."""
    v, u = _turned(row, col, (104, 72), -24)
    canvas.paint((np.abs(v) < 5) & (np.abs(u) < 17), GRASS, ("meadow",))
    canvas.paint((np.abs(v + 1) < 1.1) & (np.abs(u) < 15), PAVEMENT, ("asphalt",))
    canvas.paint((np.abs(v - 2.6) < 1.8) & (np.abs(u - 2) < 4.5), PAVEMENT, ("concrete",))
    canvas.paint((np.abs(v - 2.8) < 1.5) & (np.abs(u - 8.4) < 1.6), ROOF, ("metal sheet",))


def _paint_water(canvas: Canvas, row: np.ndarray, col: np.ndarray, river: np.ndarray) -> None:
    """Lakes with a sandy or grassy shore, and the river, one parcel in reaches."""
    wobble = smooth_noise(canvas.rng, 2.5)
    for r, c, radius in LAKES:
        edge = np.hypot(row - r, (col - c) * 0.85) - radius * (1 + 0.12 * wobble)
        canvas.paint(edge < 0.7, GRASS, ("meadow", "dry pasture"))
        canvas.paint(edge < 0, WATER, ("lake",) if radius > 4 else ("pond",))
    canvas.paint(river < 2.6, GRASS, ("meadow",), np.floor(row / 20))
    canvas.paint(
        river < 1.7 + 0.15 * wobble, WATER, ("river",), np.floor(row / 20), one_parcel=True
    )


def _distance_to_line(row: np.ndarray, col: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the distance of every cell to a line of points (row, column)."""
    best = np.full(row.shape, np.inf)
    for start, end in pairwise(points):
        step = end - start
        t = ((row - start[0]) * step[0] + (col - start[1]) * step[1]) / (step @ step)
        t = np.clip(t, 0, 1)
        gap = np.hypot(row - start[0] - t * step[0], col - start[1] - t * step[1])
        best = np.minimum(best, gap)
    return best
