"""Class maps of overlapping scenes, joined on one grid by a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from hsi_pipeline.classes import Category, ClassScheme, scheme_to_attrs
from hsi_pipeline.errors import InputError
from hsi_pipeline.gather import (
    CHUNK,
    Layers,
    chunk_array,
    layers_of,
    moment_of,
    plan,
    taken,
)
from hsi_pipeline.mosaic.grids import common_grid as common_grid
from hsi_pipeline.mosaic.grids import crs_name as crs_name
from hsi_pipeline.mosaic.rules import join_chunk

Rule = Literal["confident", "newest", "majority"]
"""Which map decides where several have a class."""

_AGREED = ("scene_id", "sensor", "level", "model", "model_sha256", "model_architecture",
           "precision", "mask", "band_matching")  # fmt: skip
_LISTED = 5


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
        "mosaic", join_chunk, chunks, 1 + with_confidence,
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
