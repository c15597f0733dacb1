"""Scenes and labels as TorchGeo GeoDatasets, pixel for pixel.

TorchGeo's stock datasets resample silently where a query is off the pixel grid, share open files
with forked workers, and let samples cross splits. These read integer pixel windows, straight from
the file, and only TorchGeo's public contract is used (`index`, `_res`, `__getitem__`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import torch
from matplotlib.figure import Figure
from odc.geo.geobox import GeoBox
from pyproj import CRS
from torch import Tensor
from torchgeo.datasets import GeoDataset, UnionDataset

from hsi_pipeline.classes import UNLABELLED, ClassScheme
from hsi_pipeline.cube import valid_pixels
from hsi_pipeline.errors import InputError
from hsi_pipeline.plots import plot_sample
from hsi_pipeline.resampling import SpectralOperator, resample
from hsi_pipeline.samplers import window_query
from hsi_pipeline.scene import open_source
from hsi_pipeline.scene.block_cache import cached
from hsi_pipeline.scene.resampled import resampled
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.wavelengths import Wavelengths

Sample = dict[str, Any]
Transform = Callable[[Sample], Sample]
Scene = str | os.PathLike[str] | SceneSource
_RGB_NM = (650.0, 560.0, 470.0)


class PixelDataset(GeoDataset):
    """A GeoDataset over north-up pixel grids that share a CRS and a resolution.

    TorchGeo's splits make copies whose `index` holds some of the scenes, or parts of them; pixels
    outside these parts are not sampled.
    """

    def __init__(self, grids: Sequence[GeoBox], times: Sequence[Any], names: Sequence[str]) -> None:
        """Make the index.

        Raises:
            InputError: A grid is rotated, or CRS or resolution differ.
        """
        first = grids[0]
        for grid, name in zip(grids, names, strict=True):
            a = grid.affine
            if a.b or a.d or a.a <= 0 or a.e >= 0:
                raise InputError(
                    f"{name}: the grid is rotated or flipped; bring it north-up with gdalwarp"
                )
            if grid.crs != first.crs or not np.allclose(
                (a.a, a.e), (first.affine.a, first.affine.e)
            ):
                raise InputError(
                    f"{name}: CRS or pixel size differ from {names[0]}; samples are never "
                    "resampled, warp the scene first or use one dataset for each grid"
                )
        self.grids = list(grids)
        self._place = {name: i for i, name in enumerate(names)}
        self._footprints = [shapely.box(*grid.boundingbox) for grid in grids]
        self._res = (first.affine.a, -first.affine.e)
        intervals = [
            (pd.Timestamp.min, pd.Timestamp.max) if time is None else (_timestamp(time),) * 2
            for time in times
        ]
        self.index = gpd.GeoDataFrame(
            {"filepath": list(names)},
            geometry=self._footprints,
            index=pd.IntervalIndex.from_tuples(intervals, closed="both", name="datetime"),
            crs=None if first.crs is None else CRS.from_wkt(first.crs.to_wkt()),
        )

    @property
    def crs(self) -> CRS:
        """CRS of the index, None for pixel coordinates."""
        return self.index.crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        if new_crs != self.index.crs:
            raise InputError("datasets of another CRS cannot be joined: samples are not resampled")

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size (x, y) in units of the CRS."""
        return self._res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        if not np.allclose(new_res, self._res):
            raise InputError("datasets of another pixel size cannot be joined: no resampling")

    def _window(self, index: Any, grid: GeoBox) -> tuple[slice, slice]:
        """Return the pixel window (rows, columns) of a query, on whole pixels."""
        x, y, _ = self._disambiguate_slice(index)
        a = grid.affine
        row, column = _nearest((y.stop - a.f) / a.e), _nearest((x.start - a.c) / a.a)
        height = max(_nearest((y.stop - y.start) / -a.e), 1)
        width = max(_nearest((x.stop - x.start) / a.a), 1)
        return slice(row, row + height), slice(column, column + width)

    def __or__(self, other: GeoDataset) -> UnionDataset:
        """Join two datasets; where both have a pixel, this one gives it."""
        return PixelUnion(self, other)

    def _hits(self, index: Any) -> list[tuple[int, shapely.Polygon]]:
        """Return the grids that a query touches, in space and time, and their part in the index.

        Raises:
            IndexError: There is none.
        """
        x, y, t = self._disambiguate_slice(index)
        hits = []
        rows = zip(self.index["filepath"], self.index.index, self.index.geometry, strict=True)
        for name, time, part in rows:
            left, bottom, right, top = part.bounds
            if (
                x.start < right
                and x.stop > left
                and y.start < top
                and y.stop > bottom
                and t.start <= time.right
                and t.stop >= time.left
            ):
                hits.append((self._place[name], part))
        if not hits:
            raise IndexError(f"index: {index} not found in dataset with bounds: {self.bounds}")
        return hits

    def _inside(self, hit: tuple[int, shapely.Polygon], window: tuple[slice, slice]) -> np.ndarray:
        """Tell which pixels of a window have their centre in a part of a grid, bool (y, x)."""
        i, part = hit
        rows, columns = (np.arange(w.start, w.stop) + 0.5 for w in window)
        if part == self._footprints[i]:  # what lies beyond the grid is cut off anyway
            return np.ones((len(rows), len(columns)), bool)
        a = self.grids[i].affine
        return shapely.contains_xy(part, a.c + a.a * columns, a.f + a.e * rows[:, None])

    def _georeference(self, index: Any, grid: GeoBox) -> Sample:
        """Return TorchGeo's `bounds` and `transform`, of the window really read, in float64."""
        a = grid.affine
        x, y = window_query(grid, *self._window(index, grid))
        _, _, t = self._disambiguate_slice(index)
        bounds = [x.start, x.stop, a.a, y.start, y.stop, -a.e]
        bounds += [t.start.timestamp(), t.stop.timestamp(), t.step]
        transform = [a.a, 0.0, x.start, 0.0, a.e, y.stop, 0.0, 0.0, 1.0]
        return {
            "bounds": torch.tensor(bounds, dtype=torch.float64),
            "transform": torch.tensor(transform, dtype=torch.float64),
        }


class PixelUnion(UnionDataset):
    """The union of two datasets, pixel by pixel from the first that has it.

    TorchGeo's own takes the maximum of each band, which mixes the spectra of scenes that overlap,
    and gives zero for negative reflectance where they touch.
    """

    def __init__(self, dataset1: GeoDataset, dataset2: GeoDataset) -> None:
        """Join two datasets of one CRS and pixel size."""
        super().__init__(dataset1, dataset2, collate_fn=_first_given)

    def __or__(self, other: GeoDataset) -> UnionDataset:
        """Join another dataset below these."""
        return PixelUnion(self, other)


class HyperspectralDataset(PixelDataset):
    """Windows of hyperspectral scenes.

    Samples hold `image` float32 (band, y, x) in reflectance, zero where invalid; `valid` bool
    (y, x); `bounds` and `transform` as TorchGeo has them. Where scenes overlap, the first in
    the list that is valid at a pixel gives it.
    """

    def __init__(
        self,
        paths: Scene | Iterable[Scene],
        *,
        bands: Sequence[int] | None = None,
        wavelengths: Wavelengths | None = None,
        tolerance_nm: float = 5.0,
        resampling: str = "auto",
        mask: str = "none",
        pixel_coordinates: bool = False,
        transforms: Transform | None = None,
    ) -> None:
        """Open scenes; no pixel is read.

        Args:
            paths: One scene or several of one CRS and pixel size: files, products, or sources that
                `open_source` has opened.
            bands: Zero-based bands of the first scene; None: all that are not marked bad. In
                the other scenes they are found by wavelength, or made by `resampling.resample`.
            wavelengths: Bands that all scenes are resampled to, instead of those of the first.
            tolerance_nm: How far bands may lie off, in nm.
            resampling: How bands are made of others; see `resampling.resample`.
            mask: Flags that become invalid; see `open_source`.
            pixel_coordinates: Whether scenes without georeference are accepted.
            transforms: Applied to each sample.

        Raises:
            InputError: A scene cannot be opened, or bands or grids do not fit.
        """
        if bands is not None and wavelengths is not None:
            raise InputError("give bands of the first scene or wavelengths for all, not both")
        given = [paths] if isinstance(paths, str | os.PathLike | SceneSource) else list(paths)
        sources = [
            scene
            if isinstance(scene, SceneSource)
            else open_source(scene, pixel_coordinates=pixel_coordinates, mask=mask)
            for scene in given
        ]
        self.paths = [source.path for source in sources]
        first = sources[0]
        chosen = tuple(int(b) for b in (np.flatnonzero(first.good) if bands is None else bands))
        self.wavelengths = wavelengths or (first.wavelengths and first.wavelengths.select(chosen))
        self.sources, self._bands = [], []
        for source in sources:
            operator = (
                SpectralOperator(chosen)
                if source is first and wavelengths is None
                else _operator(self.wavelengths, source, tolerance_nm, resampling)
            )
            plain = operator.matrix is None
            if not plain and wavelengths is None:
                warnings.warn(
                    f"{source.path}: its bands are resampled to those of {first.path} "
                    f"({operator.method}, up to {operator.shift_nm:.2f} nm off); give wavelengths "
                    "to ask for that, or resampling='nearest'",
                    stacklevel=2,
                )
            self._bands.append(operator.bands if plain else tuple(range(operator.count)))
            self.sources.append(source if plain else resampled(source, self.wavelengths, operator))
        self._pixels = [cached(source) for source in self.sources]
        self.transforms = transforms
        super().__init__(
            [source.grid for source in self.sources],
            [source.attrs.get("acquired") for source in self.sources],
            [source.path for source in self.sources],
        )

    def __getitem__(self, index: Any) -> Sample:
        """Read the window of a query [xmin:xmax, ymin:ymax, tmin:tmax], snapped to pixels."""
        hits = self._hits(index)
        image, valid = self._read(hits[0], index)
        for hit in hits[1:]:
            below, seen = self._read(hit, index)
            image = torch.where(valid, image, below)
            valid = valid | seen
        place = self._georeference(index, self.grids[hits[0][0]])
        sample = {**place, "image": image, "valid": valid}
        return self.transforms(sample) if self.transforms else sample

    def plot(self, sample: Sample, suptitle: str | None = None) -> Figure:
        """Show a sample in natural colours (by wavelength), its labels beside it if it has any."""
        return plot_sample(sample, self._rgb_bands(), suptitle)

    def _read(self, hit: tuple[int, shapely.Polygon], index: Any) -> tuple[Tensor, Tensor]:
        """Read a query from one scene; beyond its part of it pixels are zero and invalid."""
        i = hit[0]
        source, bands = self.sources[i], self._bands[i]
        window = self._window(index, self.grids[i])
        image = np.zeros((len(bands), *(w.stop - w.start for w in window)), np.float32)
        valid = np.zeros(image.shape[1:], bool)
        inner, place = _overlap(window, source.pixels.shape[1:])
        part, first = image[:, *place], min(bands)
        if part.size:
            raw = self._pixels[i][(slice(first, max(bands) + 1), *inner)]
            order = [band - first for band in bands]
            if order != list(range(len(raw))):
                raw = raw[order]
            fine = valid[place] = (
                valid_pixels(raw, source.nodata) & self._inside(hit, window)[place]
            )
            np.copyto(part, raw, casting="unsafe")
            _to_reflectance(part, source, bands)
            if not fine.all():
                part[:, ~fine] = 0
        return torch.from_numpy(image), torch.from_numpy(valid)

    def _rgb_bands(self) -> list[int]:
        count = len(self._bands[0])
        if self.wavelengths is None:
            return [0, count // 2, count - 1]
        centers = np.array(self.wavelengths.center_nm)
        return [int(np.abs(centers - nm).argmin()) for nm in _RGB_NM]


class GroundTruthDataset(PixelDataset):
    """Windows of a label raster.

    Samples hold `mask` int64 (y, x), 0 where unlabelled or beyond the raster, and, if asked
    for, `hidden` bool (y, x): pixels of another split, which a training must not see.
    """

    def __init__(
        self,
        labels: np.ndarray,
        grid: GeoBox,
        *,
        hidden: np.ndarray | None = None,
        scheme: ClassScheme | None = None,
        transforms: Transform | None = None,
    ) -> None:
        """Keep the labels.

        Args:
            labels: Labels (y, x), 0 where unlabelled.
            grid: Their grid, usually the scene's.
            hidden: Pixels of another split (y, x) bool.
            scheme: Names and colours for plots.
            transforms: Applied to each sample.

        Raises:
            InputError: Labels and grid differ in shape.
        """
        if labels.shape != tuple(grid.shape):
            raise InputError(f"labels have shape {labels.shape}, the grid {tuple(grid.shape)}")
        self.labels = labels
        self.hidden = hidden
        self.scheme = scheme
        self.transforms = transforms
        self.paths: list[str] = []  # type: ignore[assignment]
        super().__init__([grid], [None], ["labels"])

    def __getitem__(self, index: Any) -> Sample:
        """Return the labels of a query [xmin:xmax, ymin:ymax, tmin:tmax], snapped to pixels."""
        hits = self._hits(index)
        window = self._window(index, self.grids[0])
        sample = self._georeference(index, self.grids[0])
        mask = _cut(self.labels, window).astype(np.int64)
        inside = np.any([self._inside(hit, window) for hit in hits], axis=0)
        mask[~inside] = UNLABELLED
        sample["mask"] = torch.from_numpy(mask)
        if self.hidden is not None:
            sample["hidden"] = torch.from_numpy(_cut(self.hidden, window))
        return self.transforms(sample) if self.transforms else sample

    def plot(self, sample: Sample, suptitle: str | None = None) -> Figure:
        """Show the labels of a sample."""
        return plot_sample(sample, None, suptitle, self.scheme)


def _first_given(samples: Sequence[Sample]) -> Sample:
    """Merge samples of one place: images where the first is valid, labels where it has one."""
    merged = dict(samples[0])
    for sample in samples[1:]:
        if "valid" in sample:
            merged["image"] = torch.where(merged["valid"], merged["image"], sample["image"])
            merged["valid"] = merged["valid"] | sample["valid"]
        if "mask" in sample:
            merged["mask"] = torch.where(merged["mask"] > 0, merged["mask"], sample["mask"])
        if "hidden" in sample:
            merged["hidden"] = merged["hidden"] | sample["hidden"]
    return merged


def _operator(
    wanted: Wavelengths | None, source: SceneSource, tolerance_nm: float, method: str
) -> SpectralOperator:
    """Return how wanted bands are made of a scene's."""
    if wanted is None or source.wavelengths is None:
        raise InputError(
            f"{source.path}: several scenes can be joined only where all have wavelengths"
        )
    try:
        return resample(wanted, source.wavelengths, source.good, tolerance_nm, method=method)
    except InputError as error:
        raise InputError(f"{source.path}: {error}") from error


def _to_reflectance(part: np.ndarray, source: SceneSource, bands: Sequence[int]) -> None:
    """Scale digital numbers (band, y, x) to reflectance in place."""
    for values, name in ((source.scale, "scale"), (source.offset, "offset")):
        column = np.asarray(values, np.float32)
        column = column[list(bands), None, None] if column.ndim else column
        if name == "scale" and np.any(column != 1):
            part *= column
        elif name == "offset" and np.any(column != 0):
            part += column


def _cut(raster: np.ndarray, window: tuple[slice, slice]) -> np.ndarray:
    """Cut a window that may reach beyond the raster, zero there."""
    result = np.zeros([w.stop - w.start for w in window], raster.dtype)
    inner, place = _overlap(window, raster.shape)
    result[place] = raster[inner]
    return result


def _overlap(
    window: tuple[slice, slice], shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of a window that lies in a raster: there, and within the window."""
    inner = [
        slice(min(max(w.start, 0), n), max(min(w.stop, n), min(max(w.start, 0), n)))
        for w, n in zip(window, shape, strict=True)
    ]
    place = [slice(i.start - w.start, i.stop - w.start) for i, w in zip(inner, window, strict=True)]
    return (inner[0], inner[1]), (place[0], place[1])


def _timestamp(time: Any) -> pd.Timestamp:
    """Return a time in UTC without its zone, as TorchGeo's index has them."""
    stamp = pd.Timestamp(time)
    return stamp.tz_convert("UTC").tz_localize(None) if stamp.tzinfo else stamp


def _nearest(value: float) -> int:
    """Round half up, so that equal offsets snap equally on both sides of zero."""
    return int(np.floor(value + 0.5))
