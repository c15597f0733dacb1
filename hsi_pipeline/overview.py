"""What a map and its scene look like as a whole: counts of all pixels, pictures of some.

Everything is read window by window, so memory does not grow with the scene: counts, areas and
means are those of every pixel, pictures take every `step`-th one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

from hsi_pipeline.areas import Measure
from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.cube import WindowReader, grid_of, read_window, scale_offset
from hsi_pipeline.map_layers import NUMBER_LAYERS

LAYERS = tuple(layer.name for layer in NUMBER_LAYERS)
"""Layers of numbers that a class map may have beside its classes."""
LONGEST = 1200
"""Most pixels of a picture along its longer side."""

_SIDE = 2048  # of a window of a map
_BLOCK = 256  # of a window that spectra are read from
_MOST_BLOCKS = 64
_FAR_NM = 40.0


@dataclass(frozen=True, kw_only=True, eq=False)
class MapOverview:
    """A class map as a whole."""

    codes: np.ndarray
    """Class codes of every `step`-th pixel, uint8 (y, x), 0 unclassified."""
    layers: Mapping[str, np.ndarray]
    """Those of `LAYERS` that the map has, at the same pixels, float32 (y, x), NaN unknown."""
    rows: np.ndarray
    """Rows of the map that the pictures show (y,)."""
    columns: np.ndarray
    """Columns of the map that the pictures show (x,)."""
    step: int
    """Pixels of the map for each pixel of a picture, along each side."""
    grid: GeoBox
    """Grid of the map."""
    pixels: np.ndarray
    """Pixels of each class code (256,), all counted."""
    areas_m2: np.ndarray
    """Their area (256,); in pixels where there is no CRS."""
    means: Mapping[str, np.ndarray]
    """Mean of each layer by class code (256,), NaN where there is no pixel."""
    outside: np.ndarray | None
    """Pixels of each class code that lie outside the area of applicability (256,)."""

    @property
    def classified(self) -> int:
        """Number of pixels with a class."""
        return int(self.pixels.sum() - self.pixels[UNLABELLED])

    def mean(self, layer: str) -> float:
        """Return the mean of a layer over all pixels with a class, NaN if there are none."""
        weights = self.pixels[1:] * np.isfinite(self.means[layer][1:])
        total = weights.sum()
        return float(np.nansum(self.means[layer][1:] * weights) / total) if total else np.nan


def north_up(array: xr.Dataset) -> xr.Dataset:
    """Return a class map whose first row is the northern one, as pictures have it."""
    grid = grid_of(array)
    return array.isel(y=slice(None, None, -1)) if _is_south_up(grid) else array


def overview_of(
    class_map: xr.Dataset,
    *,
    longest: int = LONGEST,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> MapOverview:
    """Look at a whole class map, a window at a time.

    Args:
        class_map: As `publish.open_class_map` returns it.
        longest: Most pixels of the pictures along their longer side.
        progress: Called with the number of windows read and of all.

    Returns:
        What there is.

    Raises:
        InputError: A window cannot be read.
    """
    grid = grid_of(class_map)
    measure = Measure(grid)
    step = max(1, -(-max(grid.shape) // longest))
    rows, columns = (_every(step, size) for size in grid.shape)
    names = [name for name in LAYERS if name in class_map]
    codes = np.zeros((len(rows), len(columns)), np.uint8)
    layers = {name: np.full(codes.shape, np.nan, np.float32) for name in names}
    pixels, areas, outside = np.zeros(256, np.int64), np.zeros(256), np.zeros(256, np.int64)
    sums = {name: np.zeros(256) for name in names}
    counts = {name: np.zeros(256, np.int64) for name in names}
    windows = list(_windows(grid.shape, _SIDE))
    for number, window in enumerate(windows, start=1):
        found = read_window(class_map["class"].data[window], *window)
        flat = found.ravel()
        pixels += np.bincount(flat, minlength=256)
        pixel_areas = np.broadcast_to(measure.pixel_areas(*window), found.shape).ravel()
        areas += np.bincount(flat, weights=pixel_areas, minlength=256)
        shown, kept = _within(window, rows, columns)
        codes[shown] = found[kept]
        for name in names:
            values = read_window(class_map[name].data[window], *window)
            known = np.isfinite(values) & (found != UNLABELLED)
            sums[name] += np.bincount(found[known], weights=values[known], minlength=256)
            counts[name] += np.bincount(found[known], minlength=256)
            layers[name][shown] = np.where(known, values, np.nan)[kept]
            if name == "dissimilarity":
                outside += np.bincount(found[known & (values > 1)], minlength=256)
        progress(number, len(windows))
    with np.errstate(invalid="ignore"):
        means = {name: sums[name] / counts[name] for name in names}
    return MapOverview(
        codes=codes, layers=layers, rows=rows, columns=columns, step=step, grid=grid, pixels=pixels,
        areas_m2=areas, means=means, outside=outside if "dissimilarity" in names else None,
    )  # fmt: skip


def bands_near(cube: xr.DataArray, wanted_nm: Sequence[float]) -> tuple[int, ...] | None:
    """Return the good bands next to some wavelengths, None where one of them has none near."""
    centers = np.where(cube["good"].values, cube["wavelength"].values, np.nan)
    away = np.abs(centers[None] - np.array(wanted_nm)[:, None])
    away = np.where(np.isnan(away), np.inf, away)
    if not away.size or (away.min(axis=1) > _FAR_NM).any():
        return None
    return tuple(int(band) for band in away.argmin(axis=1))


def read_bands(cube: xr.DataArray, bands: Sequence[int], overview: MapOverview) -> np.ndarray:
    """Read some bands of a scene at the pixels that an overview shows.

    Args:
        cube: Scene by the cube contract, on the grid of the map.
        bands: Zero-based bands.
        overview: Says which pixels.

    Returns:
        Values, such as reflectance, float32 (band, y, x), NaN where there are none.

    Raises:
        InputError: The scene cannot be read.
    """
    rows = overview.rows
    if _is_south_up(grid_of(cube)):
        rows = cube.sizes["y"] - 1 - rows
    order = np.argsort(rows)
    values = np.full((len(bands), len(rows), len(overview.columns)), np.nan, np.float32)
    reader = WindowReader(cube.data, tuple(bands))
    for window in _windows(cube.shape[1:], *cube.data.chunksize[1:]):
        (down, right), (row, column) = _within(window, rows[order], overview.columns)
        if down.stop > down.start and right.stop > right.start:
            raw = reader(*window)[:, row, column]
            values[:, order[down], right] = _as_values(cube, raw, bands)
    return values


def stretched(values: np.ndarray) -> np.ndarray:
    """Return three bands as a picture whose brightness suits the eye.

    All bands are stretched alike, so that colours stay what they are: from the first percentile
    of each to the 99th of all, with a gamma of 1.6 as scenes of the ground are dark.

    Args:
        values: Red, green and blue (3, y, x), NaN where there are none.

    Returns:
        Red, green, blue and opacity, uint8 (y, x, 4).
    """
    known = np.isfinite(values).all(axis=0)
    picture = np.zeros((*known.shape, 4), np.uint8)
    if known.any():
        inside = values[:, known]
        low = np.percentile(inside, 1, axis=1, keepdims=True)
        high = np.percentile(inside - low, 99)
        bright = np.clip((inside - low) / (high if high > 0 else 1.0), 0, 1) ** (1 / 1.6)
        picture[known, :3] = np.rint(bright * 255).T
        picture[known, 3] = 255
    return picture


def class_spectra(
    cube: xr.DataArray, overview: MapOverview, *, most: int = 2000, seed: int = 0
) -> dict[int, np.ndarray]:
    """Read spectra of pixels of each class, drawn from its more confident half.

    Args:
        cube: Scene by the cube contract, on the grid of the map.
        overview: The map; without `confidence` all its pixels may be drawn.
        most: Most pixels of a class. Of a scene of over 4 million pixels only some blocks are read.
        seed: Of the draw.

    Returns:
        By class code, values such as reflectance, float32 (pixel, band), NaN where there are none.

    Raises:
        InputError: The scene cannot be read.
    """
    random = np.random.default_rng(seed)
    places = {
        code: random.permutation(_confident(overview, code))
        for code in np.unique(overview.codes[overview.codes != UNLABELLED]).tolist()
    }
    if _is_south_up(grid_of(cube)):
        places = {
            code: [cube.sizes["y"] - 1, 0] - found * [1, -1] for code, found in places.items()
        }
    read = _blocks_to_read(places, most, random)
    chosen = {
        code: found[[tuple(block) in read for block in found // _BLOCK]][:most]
        for code, found in places.items()
    }
    bands = range(cube.sizes["band"])
    spectra = {
        code: np.empty((len(found), len(bands)), np.float32) for code, found in chosen.items()
    }
    reader = WindowReader(cube.data, tuple(bands))
    for block in sorted(read):
        start = np.array(block) * _BLOCK
        raw = reader(*(slice(first, first + _BLOCK) for first in start.tolist()))
        for code, found in chosen.items():
            inside = (found // _BLOCK == block).all(axis=1)
            row, column = (found[inside] - start).T
            spectra[code][inside] = _as_values(cube, raw[:, row, column], bands).T
    return {code: found for code, found in spectra.items() if len(found)}


def pixel_m(grid: GeoBox) -> float | None:
    """Return how long a row's step is on the ground in the middle of a grid, in m.

    None where there is no CRS, or one that does not lead to the ellipsoid.
    """
    if grid.crs is None:
        return None
    crs = CRS(grid.crs.to_wkt())
    row, column = grid.shape[0] / 2, grid.shape[1] / 2
    try:
        if crs.geodetic_crs is None:
            return None
        to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
        ends = [grid.transform @ (column + side, row) for side in (-0.5, 0.5)]
        longitudes, latitudes = to_degrees.transform(*np.transpose(ends))
        ellipsoid = crs.ellipsoid
        geod = Geod(a=ellipsoid.semi_major_metre, b=ellipsoid.semi_minor_metre)
        length = geod.line_length(longitudes, latitudes)
    except ProjError:
        return None
    return float(length) if np.isfinite(length) and length > 0 else None


def _confident(overview: MapOverview, code: int) -> np.ndarray:
    """Return row and column in the map of pixels of a class (pixel, 2), the surer half of them."""
    inside = overview.codes == code
    if "confidence" in overview.layers:
        sure = np.nan_to_num(overview.layers["confidence"])
        inside &= sure >= np.median(sure[inside])
    row, column = inside.nonzero()
    return np.column_stack((overview.rows[row], overview.columns[column]))


def _blocks_to_read(
    places: Mapping[int, np.ndarray], most: int, random: np.random.Generator
) -> set[tuple[int, int]]:
    """Choose the blocks that spectra are read from, rare classes first."""
    chosen: set[tuple[int, int]] = set()
    for found in sorted(places.values(), key=len):
        blocks, counts = np.unique(found // _BLOCK, axis=0, return_counts=True)
        have = sum(n for block, n in zip(blocks, counts, strict=True) if tuple(block) in chosen)
        for i in random.permutation(len(blocks)):
            if have >= most or len(chosen) >= _MOST_BLOCKS:
                break
            block = (int(blocks[i][0]), int(blocks[i][1]))
            have += 0 if block in chosen else int(counts[i])
            chosen.add(block)
    return chosen


def _as_values(cube: xr.DataArray, raw: np.ndarray, bands: Sequence[int]) -> np.ndarray:
    """Return digital numbers (band, ...) as what they mean, float32, NaN for nodata."""
    shape = (-1, *[1] * (raw.ndim - 1))
    scale, offset = (numbers[list(bands)].reshape(shape) for numbers in scale_offset(cube))
    values = raw.astype(np.float32) * scale + offset
    nodata = cube.attrs["nodata"]
    known = np.isfinite(raw) if nodata is None else np.isfinite(raw) & (raw != nodata)
    return np.where(known, values, np.float32(np.nan))


def _is_south_up(grid: GeoBox) -> bool:
    return bool(grid.axis_aligned and grid.transform.e > 0)


def _every(step: int, size: int) -> np.ndarray:
    """Return the middle of every full step, and of a last one that is at least half."""
    return np.arange(min(step // 2, size - 1), size, step)


def _windows(
    shape: tuple[int, ...], height: int, width: int | None = None
) -> Iterator[tuple[slice, slice]]:
    sides = (height, width or height)
    parts = (range(0, size, side) for size, side in zip(shape, sides, strict=True))
    for start in itertools.product(*parts):
        yield tuple(  # type: ignore[misc]
            slice(first, min(first + side, size))
            for first, side, size in zip(start, sides, shape, strict=True)
        )


def _within(
    window: tuple[slice, slice], rows: np.ndarray, columns: np.ndarray
) -> tuple[tuple[slice, slice], tuple[np.ndarray, np.ndarray]]:
    """Return where a window's part of ascending rows and columns lies, and which they are in it."""
    shown, kept = [], []
    for part, places in zip(window, (rows, columns), strict=True):
        first, last = np.searchsorted(places, (part.start, part.stop))
        shown.append(slice(int(first), int(last)))
        kept.append(places[first:last] - part.start)
    return (shown[0], shown[1]), np.ix_(*kept)  # type: ignore[return-value]
