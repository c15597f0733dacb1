"""What a report is given beside its map: read, and held to the map."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from hsi_pipeline.checkpoint import checkpoint_hash, load_card
from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.commands.assessment import FORMAT
from hsi_pipeline.cube import grid_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth.parcels import read_parcels
from hsi_pipeline.ground_truth.vectors import vector_layers
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.mosaic import crs_name
from hsi_pipeline.publish import open_class_map
from hsi_pipeline.scene import cube_of, open_source
from hsi_pipeline.scene.files import shown

_SAME_PIXEL = 1e-3  # of a pixel, that the corners of equal grids may lie apart


_SAME_AREA = 1e-3  # of the whole, that mapped areas may differ by


def read_assessment(
    path: str | os.PathLike[str], scheme: ClassScheme, warnings: list[str]
) -> Mapping[str, Any]:
    """Read what `assess` wrote.

    Raises:
        InputError: It is another file.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: no JSON; give the file that 'assess' wrote") from error
    kind = found.get("format") if isinstance(found, dict) else None
    if kind != FORMAT:
        raise InputError(
            f"{path}: its format is {kind!r}, not {FORMAT!r}; give what 'assess' wrote"
        )
    try:
        names = {one["name"] for one in found["classes"]}
        matrix = found["confusion_matrix"]
        is_square = np.shape(matrix["counts"]) == (len(matrix["classes"]),) * 2
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: has not all that 'assess' writes (classes, confusion matrix); assess anew"
        ) from error
    if not is_square:
        raise InputError(f"{path}: the confusion matrix does not fit its classes; assess anew")
    lacking, added = sorted(set(scheme.names) - names), sorted(names - set(scheme.names))
    if lacking:
        other = f"were they joined to {', '.join(added)}" if added else "is it of another map"
        warnings.append(f"Classes that the assessment has not: {', '.join(lacking)}; {other}?")
    return found


def check_areas(
    path: str | os.PathLike[str],
    assessment: Mapping[str, Any],
    scheme: ClassScheme,
    areas: np.ndarray,
) -> None:
    """Refuse an assessment whose mapped areas are not those of the map.

    Args:
        path: Its file.
        assessment: What `assess` wrote.
        scheme: Classes of the map.
        areas: Area of each class code (256,), m2.

    Raises:
        InputError: It is of another map, or of what the map was before.
    """
    told = {one["name"]: one.get("mapped_area_m2") for one in assessment["classes"]}
    total = float(areas[1:].sum())
    for name, code in zip(scheme.names, scheme.codes, strict=True):
        area = told.get(name)
        if area is not None and abs(area - areas[code]) > _SAME_AREA * total:
            raise InputError(
                f"{path} is the assessment of another map: of {name!r} it has {area:,.0f} m2, this "
                f"map {areas[code]:,.0f} m2; assess this one"
            )


def read_card(path: str | os.PathLike[str], dataset: xr.Dataset, warnings: list[str]) -> ModelCard:
    """Read the card of the model that made a map.

    Raises:
        InputError: It is another model.
    """
    card = load_card(path)
    wanted, found = dataset.attrs.get("model_sha256"), checkpoint_hash(path)
    if wanted is None:
        warnings.append(
            f"The map does not say which model made it; {Path(path).name} may not be it."
        )
    elif wanted != found:
        raise InputError(
            f"{path} (SHA-256 {found[:12]}) is not the model that made the class map "
            f"({wanted[:12]}); name that one"
        )
    return card


def read_polygons(
    path: str | os.PathLike[str], layer: str | None, grid: GeoBox
) -> gpd.GeoDataFrame:
    """Read polygons, and bring them to the CRS of a grid.

    Raises:
        InputError: There are none, or only one of file and grid has a CRS.
    """
    layers = vector_layers(str(path))
    listed = [name for name, kind in layers.items() if kind is not None]
    if layer is None and len(listed) > 1:
        raise InputError(
            f"{path}: there are several layers ({', '.join(listed)}); name one (--layer)"
        )
    frame = read_parcels(path, layer)
    areal = frame[frame.geom_type.isin(["Polygon", "MultiPolygon"])]
    if areal.empty:
        kinds = ", ".join(sorted(set(frame.geom_type.dropna()))) or "no geometry"
        raise InputError(f"{path}: holds no polygons ({kinds}); --polygons shows polygons")
    crs = None if areal.crs is None or areal.crs.is_engineering else areal.crs
    if (crs is None) != (grid.crs is None):
        one, other = ("polygons have", "map has") if crs is None else ("map has", "polygons have")
        raise InputError(
            f"{path}: the {one} no CRS, but the {other} one; they cannot be laid together"
        )
    return areal if crs is None else areal.to_crs(grid.crs.proj)


def open_cube(
    scene: str | os.PathLike[str],
    class_map: str | os.PathLike[str],
    dataset: xr.Dataset,
    warnings: list[str],
) -> xr.DataArray:
    """Open the scene of a map.

    Raises:
        InputError: It lies on another grid.
    """
    # as it lies in its file, which need not be north up
    grid = grid_of(open_class_map(class_map))
    source = open_source(scene, pixel_coordinates=grid.crs is None)
    if not _same_grid(source.grid, grid):
        raise InputError(
            f"{shown(os.fspath(scene))} lies on another grid ({_grid_text(source.grid)}) than "
            f"{class_map} ({_grid_text(grid)}); give the scene that was classified"
        )
    made_of, found = dataset.attrs.get("scene_id"), source.attrs.get("scene_id")
    if made_of and found and made_of != found:
        warnings.append(
            f"The map was made of the scene {made_of}; pictures and spectra are of {found}."
        )
    return cube_of(source)


def _same_grid(one: GeoBox, other: GeoBox) -> bool:
    if one.shape != other.shape or one.crs != other.crs:
        return False
    rows, columns = one.shape
    corners = np.array([(0, 0), (columns, 0), (0, rows)], float)
    inverse = ~one.transform
    moved = [inverse @ (other.transform @ tuple(corner)) for corner in corners]
    return bool(np.abs(np.array(moved) - corners).max() < _SAME_PIXEL)


def _grid_text(grid: GeoBox) -> str:
    a = grid.transform
    return (
        f"{grid.shape[0]} x {grid.shape[1]} pixels of {abs(a.a):.6g}, origin {a.c:.10g}, "
        f"{a.f:.10g}, {'no CRS' if grid.crs is None else crs_name(grid.crs)}"
    )
