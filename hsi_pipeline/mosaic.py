"""Class maps of overlapping scenes, joined on one grid by a rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS, CRSError
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from hsi_pipeline.classes import UNLABELLED, Category, ClassScheme, scheme_to_attrs
from hsi_pipeline.errors import InputError
from hsi_pipeline.gather import (
    CHUNK,
    ChunkSources,
    Layers,
    chunk_array,
    extent_in,
    gather,
    layers_of,
    moment_of,
    plan,
    taken,
    transform,
)

Rule = Literal["confident", "newest", "majority"]
"""Which map decides where several have a class."""

_LARGEST = 2**40  # pixels
_SAME = 1e-9  # of a pixel's size: what equal sizes may differ by
_PHASE = 1e-3  # of a pixel: what maps of one lattice may be apart, as files round
_EDGE = 1e-6  # of a pixel: what a map may reach beyond the grid
_AGREED = ("scene_id", "sensor", "level", "model", "model_sha256", "model_architecture",
           "precision", "mask", "band_matching")  # fmt: skip
_LISTED = 5

Pixels = tuple[np.ndarray, np.ndarray | None]


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
    extents = np.array([extent_in(grid, target) for grid in grids])
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


def mosaic(
    maps: Sequence[xr.Dataset],
    grid: GeoBox,
    *,
    rule: str = "confident",
    chunk: int | None = None,
    names: Sequence[str] | None = None,
) -> xr.Dataset:
    """Join class maps on a grid, lazily.

    A pixel of the grid asks each map for the pixel in which its centre lies. The order of the maps
    makes no difference: ties that are left are broken by the maps' scenes, names and pixels.

    Args:
        maps: Class maps as `publish.open_class_map` returns them.
        grid: The grid, such as `common_grid` finds.
        rule: "confident": the map that is the most confident decides, of equal ones the newest;
            "newest": the newest map that has a class there, of equal ones the most confident;
            "majority": the class that most maps have, of equal ones that with the highest sum of
            confidences (if all maps have them), then that of the newest map, then the lowest code.
        chunk: Side of a chunk in pixels; the result does not depend on it. None: 1024.
        names: What to call the maps in messages; None: after their scenes.

    Returns:
        Dataset (y, x) on the grid, one task for each chunk, which reads what it needs of the maps
        that it overlaps: `class` uint8, 0 where no map has a class; and `confidence` float32 of the
        map that decided, or for "majority" the mean of the maps that have the class. That is left
        out if the maps have none; with "newest" it is NaN where the map that decided has none.

    Raises:
        InputError: Unknown rule; maps that the rule cannot use, since they have no confidence or
            date; maps whose classes contradict each other.
    """
    check_rule(rule)
    sources = _in_order(maps, _names(maps, names))
    scheme = _common_scheme([source.layers for source in sources])
    has_confidence = [source.layers.confidence is not None for source in sources]
    if rule == "confident" and not all(has_confidence):
        raise InputError(
            "the rule 'confident' needs the confidence of every map; "
            f"{_few(sources, has_confidence)} have none; use the rule 'majority' or 'newest'"
        )
    if rule == "newest" and not all(dated := [source.moment is not None for source in sources]):
        raise InputError(
            "the rule 'newest' needs to know when every map's scene was taken; "
            f"{_few(sources, dated)} do not say (attribute 'acquired'); use another rule"
        )
    with_confidence = any(has_confidence) if rule == "newest" else all(has_confidence)
    placed = [(source.layers.grid, source) for source in sources]
    chunks = plan(grid, placed, CHUNK if chunk is None else chunk)
    planes = chunk_array(
        "mosaic", _join_chunk, chunks, 1 + with_confidence,
        dtype=np.float32, grid=grid, rule=rule, with_confidence=with_confidence,
    )  # fmt: skip
    return _as_dataset(planes, grid, scheme, _attrs(maps, sources, rule))


def check_rule(rule: str) -> None:
    """Refuse a rule that there is not.

    Raises:
        InputError: Names those that there are.
    """
    if rule not in get_args(Rule):
        raise InputError(f"the rule is {' or '.join(get_args(Rule))}, not {rule!r}")


@dataclass(frozen=True)
class _Source:
    """A map among others."""

    layers: Layers
    moment: datetime | None
    scene: str
    age: int
    """0 for the newest maps, 1 for the next, ..."""

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.layers.__dask_tokenize__(), self.age)


def _names(maps: Sequence[xr.Dataset], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        return list(names)
    return [str(one.attrs.get("scene_id", f"map {i}")) for i, one in enumerate(maps, start=1)]


def _in_order(maps: Sequence[xr.Dataset], names: Sequence[str]) -> list[_Source]:
    """Return the maps, the newest first, in an order that does not depend on that given."""
    if not maps:
        raise InputError("there are no maps to join")
    moments = [moment_of(one.attrs) for one in maps]
    ages = {m: i for i, m in enumerate(sorted({m for m in moments if m is not None})[::-1])}
    sources = [
        _Source(
            layers_of(one, name),
            moment,
            str(one.attrs.get("scene_id", "")),
            len(ages) if moment is None else ages[moment],
        )
        for one, name, moment in zip(maps, names, moments, strict=True)
    ]
    return sorted(
        sources,
        key=lambda source: (
            source.age, source.scene, tuple(source.layers.grid.affine), source.layers.codes.name,
            source.layers.name,
        ),
    )  # fmt: skip


def _few(sources: Sequence[_Source], fits: Sequence[bool]) -> str:
    """Name some of the maps that do not fit."""
    missing = [s.layers.name for s, fine in zip(sources, fits, strict=True) if not fine]
    more = len(missing) - _LISTED
    return ", ".join(missing[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _common_scheme(maps: Sequence[Layers]) -> ClassScheme:
    """Return the classes of all maps.

    Raises:
        InputError: Two maps contradict each other; names both.
    """
    known: dict[int | str, tuple[Category, str]] = {}
    for one in maps:
        for category in one.scheme.categories:
            for key in (category.code, category.name):
                other, name = known.setdefault(key, (category, one.name))
                if (other.code, other.name) != (category.code, category.name):
                    raise InputError(
                        f"the classes of {name} and {one.name} contradict each other: "
                        f"{other.code} is {other.name!r} in the one, {category.code} "
                        f"{category.name!r} in the other; recode one of them"
                    )
    categories = {category.code: category for category, _ in known.values()}
    return ClassScheme(tuple(categories[code] for code in sorted(categories)))


def _join_chunk(
    chunk: ChunkSources, *, grid: GeoBox, rule: str, with_confidence: bool
) -> np.ndarray:
    """Join a chunk; returns its classes and, if asked, confidences as float32 (plane, y, x)."""
    shape = (chunk.rows.stop - chunk.rows.start, chunk.columns.stop - chunk.columns.start)
    join = {"confident": _most_confident, "newest": _newest, "majority": _majority}[rule]
    codes, confidence = join(_Readings(chunk, grid, with_confidence=with_confidence), shape)
    if not with_confidence:
        return codes[None].astype(np.float32)
    return np.stack([codes.astype(np.float32), confidence])


class _Readings:
    """What the maps of a chunk say of it, one after another, the newest first."""

    def __init__(self, chunk: ChunkSources, grid: GeoBox, *, with_confidence: bool) -> None:
        self.chunk, self.grid, self.with_confidence = chunk, grid, with_confidence

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Read them; yields the age of the map, classes and confidences, NaN where unknown."""
        yield from self.until(lambda _: False)

    def until(self, enough: Any) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Read them until enough is known to skip the maps of an age and older ones."""
        for source in self.chunk.sources:
            if enough(source.age):
                return
            found = gather(
                source.layers, self.grid, self.chunk.rows, self.chunk.columns,
                confidence=self.with_confidence,
            )  # fmt: skip
            if found is not None:
                codes, confidence = found
                if confidence is None:
                    confidence = np.full(codes.shape, np.nan, np.float32)
                yield source.age, codes, confidence


def _most_confident(readings: _Readings, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Take the class of the map that is the most confident; of equal ones of the first."""
    best, confidence = np.zeros(shape, np.uint8), np.full(shape, np.nan, np.float32)
    highest = np.full(shape, -np.inf, np.float32)
    for _, codes, values in readings:
        sure = np.where(np.isnan(values), np.float32(-1), values)
        better = (codes != UNLABELLED) & (sure > highest)
        best[better], confidence[better], highest[better] = (
            codes[better], values[better], sure[better],
        )  # fmt: skip
    return best, confidence


def _newest(readings: _Readings, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Take the class of the newest map; of those of one time that of the most confident."""
    best, confidence = np.zeros(shape, np.uint8), np.full(shape, np.nan, np.float32)
    highest = np.full(shape, -np.inf, np.float32)
    chosen = np.full(shape, np.iinfo(np.int64).max)
    for age, codes, values in readings.until(lambda age: bool((chosen < age).all())):
        sure = np.where(np.isnan(values), np.float32(-1), values)
        better = (codes != UNLABELLED) & (
            (best == UNLABELLED) | ((chosen == age) & (sure > highest))
        )
        best[better], confidence[better], highest[better] = (
            codes[better], values[better], sure[better],
        )  # fmt: skip
        chosen[better] = age
    return best, confidence


def _majority(readings: _Readings, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Take the class that most maps have; see `mosaic` for ties."""
    tallies: dict[int, _Tally] = {}
    for age, codes, values in readings:
        sure = np.nan_to_num(values, nan=0.0)
        for code in np.flatnonzero(np.bincount(codes.ravel())).tolist():
            if code != UNLABELLED:
                tallies.setdefault(code, _Tally.none(shape)).add(codes == code, sure, age)
    best, winner = np.zeros(shape, np.uint8), _Tally.none(shape)
    for code in sorted(tallies):
        better = tallies[code].beats(winner)
        best[better] = code
        winner.take(tallies[code], better)
    with np.errstate(invalid="ignore"):
        mean = (winner.confidence / winner.votes).astype(np.float32)
    return best, np.where(best == UNLABELLED, np.float32(np.nan), mean)


@dataclass(frozen=True)
class _Tally:
    """What a class has in each pixel."""

    votes: np.ndarray
    """Maps that have it."""
    confidence: np.ndarray
    """Their sum; 0 without confidences, so that it decides nothing."""
    age: np.ndarray
    """Of the newest of them."""

    @classmethod
    def none(cls, shape: tuple[int, int]) -> _Tally:
        return cls(
            np.zeros(shape, np.uint16),
            np.zeros(shape),
            np.full(shape, np.iinfo(np.int32).max, np.int32),
        )

    def add(self, where: np.ndarray, confidence: np.ndarray, age: int) -> None:
        """Count a map."""
        np.copyto(self.age, age, where=where & (self.votes == 0))  # the newest one comes first
        np.add(self.votes, 1, out=self.votes, where=where)
        np.add(self.confidence, confidence, out=self.confidence, where=where)

    def beats(self, other: _Tally) -> np.ndarray:
        """Tell where it has more than another, which has the lower code."""
        sums = self.confidence - other.confidence
        by_age = (sums == 0) & (self.age < other.age)
        more = self.votes > other.votes
        return more | ((self.votes == other.votes) & ((sums > 0) | by_age))

    def take(self, other: _Tally, where: np.ndarray) -> None:
        """Become another one in some pixels."""
        for own, others in (
            (self.votes, other.votes), (self.confidence, other.confidence), (self.age, other.age),
        ):  # fmt: skip
            np.copyto(own, others, where=where)


def _as_dataset(
    planes: da.Array, grid: GeoBox, scheme: ClassScheme, attrs: dict[str, Any]
) -> xr.Dataset:
    common = {"grid_mapping": "spatial_ref"}
    variables: dict[str, Any] = {
        "class": (
            ("y", "x"),
            taken(planes, 0, np.uint8),
            {"long_name": "land-cover class", **scheme_to_attrs(scheme), **common},
        )
    }
    if planes.shape[0] > 1:
        variables["confidence"] = (
            ("y", "x"),
            taken(planes, 1, np.float32),
            {"long_name": "probability of the class", "units": "1", **common},
        )
    return xr.Dataset(variables, dict(xr_coords(grid, dims=("y", "x"))), attrs=attrs)


def _attrs(maps: Sequence[xr.Dataset], sources: Sequence[_Source], rule: str) -> dict[str, Any]:
    """Return what is known of a mosaic: what its maps agree on, their scenes, and from when."""
    attrs: dict[str, Any] = {"rule": rule}
    for key in _AGREED:
        values = {str(one.attrs.get(key, "")) for one in maps}
        if len(values) == 1 and (value := values.pop()):
            attrs[key] = value
    scenes: set[str] = set()
    for one in maps:
        found = one.attrs.get("scenes", one.attrs.get("scene_id", []))
        scenes.update(map(str, found if isinstance(found, list) else [found]))
    if scenes:
        attrs["scenes"] = sorted(scenes)
    first = [(moment_of({"acquired": text}), str(text)) for one in maps
             if (text := one.attrs.get("acquired_from", one.attrs.get("acquired")))]  # fmt: skip
    last = [(moment_of({"acquired": text}), str(text)) for one in maps
            if (text := one.attrs.get("acquired_to", one.attrs.get("acquired")))]  # fmt: skip
    starts = sorted((moment, text) for moment, text in first if moment is not None)
    ends = sorted((moment, text) for moment, text in last if moment is not None)
    if not starts or not ends:
        return attrs
    if starts[0][0] == ends[-1][0] and all(source.moment for source in sources):
        return attrs | {"acquired": starts[0][1]}
    return attrs | {"acquired_from": starts[0][1], "acquired_to": ends[-1][1]}


def _crs(text: str) -> CRS:
    try:
        return CRS(text)
    except (CRSError, ValueError) as error:
        raise InputError(f"{text} is no CRS that is known, such as EPSG:32632") from error


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
