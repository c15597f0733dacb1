"""Where to take windows: around labels and balanced by class, or tile by tile with context."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
from odc.geo.geobox import GeoBox
from torchgeo.datasets import GeoDataset
from torchgeo.samplers import SpatialSampler

from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.errors import InputError

Query = tuple[slice, slice]


def window_query(grid: GeoBox, rows: slice, columns: slice) -> Query:
    """Return a pixel window as TorchGeo's (x, y) slices in units of the CRS.

    Args:
        grid: North-up grid.
        rows: Rows; may reach beyond the grid.
        columns: Columns; may reach beyond the grid.
    """
    a = grid.affine
    return (
        slice(a.c + a.a * columns.start, a.c + a.a * columns.stop),
        slice(a.f + a.e * rows.stop, a.f + a.e * rows.start),
    )


class LabelledWindowSampler(SpatialSampler):
    """Random windows around labelled pixels, each class drawn equally often.

    A class is drawn, then one of its pixels, then where in the window that pixel stands.
    Windows stay inside the grid where it is large enough for them.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        labels: np.ndarray,
        grid: GeoBox,
        *,
        size: int,
        length: int,
        generator: int | np.random.Generator | None = None,
    ) -> None:
        """Index the labelled pixels.

        Args:
            dataset: The dataset that will be queried.
            labels: Labels (y, x), 0 where unlabelled.
            grid: Grid of the labels.
            size: Side of a window in pixels.
            length: Windows per epoch.
            generator: Seed or generator; a seed gives the same windows in every run.

        Raises:
            InputError: Nothing is labelled.
        """
        super().__init__(dataset)
        self._places = [np.argwhere(labels == c) for c in np.unique(labels) if c != UNLABELLED]
        if not self._places:
            raise InputError("no pixel is labelled; there is nothing to draw windows around")
        self._grid = grid
        self._size = size
        self._length = length
        self._generator = np.random.default_rng(generator)

    @property
    def strategy(self) -> Literal["random", "sequential"]:
        """TorchGeo's word for samplers with a fixed number of random places."""
        return "random"

    def __iter__(self) -> Iterator[Query]:
        """Yield the windows of an epoch."""
        for _ in range(len(self)):
            places = self._places[self._generator.integers(len(self._places))]
            pixel = places[self._generator.integers(len(places))]
            shift = self._generator.integers(0, self._size, 2)
            rows, columns = (
                self._inside(int(p - s), extent)
                for p, s, extent in zip(pixel, shift, self._grid.shape, strict=True)
            )
            yield window_query(self._grid, rows, columns)

    def _inside(self, start: int, extent: int) -> slice:
        start = min(max(start, 0), max(extent - self._size, 0))
        return slice(start, start + self._size)


def label_tiles(
    labels: np.ndarray, *, tile: int, halo: int
) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """List the tiles of a label raster that hold labels.

    Args:
        labels: Labels (y, x), 0 where unlabelled.
        tile: Side of a tile in pixels.
        halo: Context around a tile in pixels, cut off at the raster's edge.

    Returns:
        For each tile in row-major order, so that reads follow the file: its window with halo
        in the raster, and the tile's own window within that.
    """
    tiles = []
    for i in range(math.ceil(labels.shape[0] / tile)):
        for j in range(math.ceil(labels.shape[1] / tile)):
            core = slice(i * tile, (i + 1) * tile), slice(j * tile, (j + 1) * tile)
            if not labels[core].any():
                continue
            window = tuple(
                slice(max(c.start - halo, 0), min(c.stop + halo, extent))
                for c, extent in zip(core, labels.shape, strict=True)
            )
            inner = tuple(
                slice(c.start - w.start, min(c.stop, extent) - w.start)
                for c, w, extent in zip(core, window, labels.shape, strict=True)
            )
            tiles.append((window, inner))
    return tiles  # type: ignore[return-value]
