"""Reference points, each a unit of its own, and the design that a sample was drawn by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.errors import InputError, did_you_mean
from hsi_pipeline.ground_truth.checks import scheme_of_file
from hsi_pipeline.ground_truth.class_table import ClassTable, read_class_table
from hsi_pipeline.ground_truth.columns import (
    check_column,
    codes_of_column,
    names_of_codes,
    obvious_column,
    parts_of_column,
)
from hsi_pipeline.ground_truth.rasters import is_array_file
from hsi_pipeline.ground_truth.vectors import (
    choose_layer,
    columns_of,
    read_features,
    to_grid_crs,
    vector_layers,
)

DESIGN_LAYER = "design"
"""Table of a GeoPackage that says how its points were drawn."""
REFERENCE_COLUMN = "reference"
"""Column of such points that interpreters fill in."""
ID_COLUMN = "sample_id"
"""Column of such points that numbers them."""
STRATUM_COLUMN = "stratum"
"""Column of such points, and of the table, with the code of the stratum."""

_DESIGN_COLUMNS = ("design", STRATUM_COLUMN, "name", "pixels", "area_m2")


@dataclass(frozen=True)
class SampledStratum:
    """Pixels from which points were drawn alike."""

    code: int
    """Its code."""
    name: str
    """Its name."""
    pixels: int
    """Number of its pixels."""
    area_m2: float
    """Their area; NaN where the map had no CRS."""
    points: int | None = None
    """Number of points drawn there; None if the file does not say."""


@dataclass(frozen=True)
class SampleDesign:
    """How points were drawn."""

    design: str
    """`stratified` or `simple`."""
    strata: tuple[SampledStratum, ...]
    """Where they were drawn from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferencePoints:
    """Points with their classes."""

    path: str
    """The file, for messages."""
    geometry: gpd.GeoSeries
    """Points (point,), in the file's CRS if it has one."""
    codes: np.ndarray
    """Class codes (point,) uint8, 0 without class."""
    scheme: ClassScheme
    """All classes of the file."""
    has_codes: bool
    """Whether the codes are those of the file or of a class table; else it gives names alone, and
    codes are made up."""
    without_geometry: int
    """Points that are nowhere, and not among these."""
    parts: np.ndarray | None
    """Part (train, validation, test) of each (point,) uint8; None if the file does not say."""
    stratum: np.ndarray | None
    """Code of the stratum of each (point,) int64; None if the file does not say."""

    def positions(self, grid: GeoBox) -> np.ndarray:
        """Return x and y (point, 2) in the CRS of a grid, which may be infinite far away.

        Raises:
            InputError: Only one of both has a CRS.
        """
        points = to_grid_crs(self.path, self.geometry, grid)
        return np.column_stack((points.x, points.y))

    def pixels(self, grid: GeoBox) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows and columns (point,) int64 on a grid, 0 outside, and which are inside.

        Raises:
            InputError: As `positions`.
        """
        x, y = self.positions(grid).T
        with np.errstate(invalid="ignore"):
            column, row = ~grid.transform * (x, y)
            inside = (row >= 0) & (row < grid.shape[0]) & (column >= 0) & (column < grid.shape[1])
        return *(np.where(inside, part, 0).astype(np.int64) for part in (row, column)), inside


def read_design(path: str | PathLike[str]) -> SampleDesign | None:
    """Read how the points of a GeoPackage were drawn, None if it does not say.

    Raises:
        InputError: There is such a table, but it cannot be used.
    """
    name = str(path)
    if is_array_file(name) or DESIGN_LAYER not in (layers := vector_layers(name)):
        return None
    if layers[DESIGN_LAYER] is not None:
        return None
    table = pyogrio.read_dataframe(name, layer=DESIGN_LAYER, read_geometry=False)
    lacking = [column for column in _DESIGN_COLUMNS if column not in table]
    if lacking or table.empty:
        raise InputError(
            f"{name}: its table {DESIGN_LAYER!r} "
            + (f"has no column {', '.join(lacking)}" if lacking else "is empty")
            + "; draw the sample again, or state the design by --design"
        )
    designs = sorted(set(table["design"].fillna("").astype(str)))
    if designs == [""]:
        raise InputError(
            f"{name}: its table {DESIGN_LAYER!r} has nothing in column 'design'; it is stratified "
            "or simple"
        )
    if len(designs) != 1 or table[STRATUM_COLUMN].duplicated().any():
        raise InputError(
            f"{name}: its table {DESIGN_LAYER!r} needs one line for each stratum, all of one "
            f"design; it has {len(table)} lines of {', '.join(map(str, designs))}"
        )
    codes, pixels = (_whole_numbers(name, table[key]) for key in (STRATUM_COLUMN, "pixels"))
    counts = _whole_numbers(name, table["points"]) if "points" in table else [None] * len(codes)
    areas = _areas(name, table["area_m2"])
    titles = table["name"].astype(str)
    rows = zip(codes, titles, pixels, areas, counts, strict=True)
    return SampleDesign(designs[0], tuple(SampledStratum(*row) for row in rows))


def _whole_numbers(path: str, column: pd.Series) -> list[int]:
    """Return a column of the table of a design, of numbers from 0.

    Raises:
        InputError: Names the line.
    """
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(float)
    good = np.isfinite(numbers) & (numbers >= 0) & (numbers == np.floor(numbers))
    _check_column_of_design(path, column, good, "a whole number from 0")
    return [int(number) for number in numbers]


def _areas(path: str, column: pd.Series) -> list[float]:
    """Return the areas of strata, all NaN where there are none.

    Raises:
        InputError: Names the line.
    """
    areas = pd.to_numeric(column, errors="coerce").to_numpy(float)
    if not column.isna().all():
        good = np.isfinite(areas) & (areas > 0)
        _check_column_of_design(path, column, good, "an area above 0, unless all are empty")
    return [float(area) for area in areas]


def _check_column_of_design(path: str, column: pd.Series, good: np.ndarray, wanted: str) -> None:
    if not good.all():
        line = int(np.argmin(good))
        found = "empty" if pd.isna(column.iloc[line]) else repr(column.tolist()[line])
        raise InputError(
            f"{path}: line {line + 1} of its table {DESIGN_LAYER!r}: {column.name!r} is {found}; "
            f"it must be {wanted}"
        )


def read_points(
    path: str | PathLike[str],
    *,
    label_column: str | None = None,
    name_column: str | None = None,
    class_table: str | PathLike[str] | None = None,
    split_column: str | None = None,
    layer: str | None = None,
    where: str | None = None,
    classes: ClassScheme | None = None,
) -> ReferencePoints | None:
    """Read points, None where a file holds polygons or pixels.

    Args:
        path: Any file of labels.
        label_column: As for `read_labels`, like the others; None: `reference` in a file that says
            how its points were drawn.
        name_column: Column that names the codes.
        class_table: CSV or YAML with code, name and color.
        split_column: Column that says train, validation or test.
        layer: Layer of the file.
        where: SQL condition.
        classes: Those of the map that the points were drawn from: interpreters may write names or
            codes of them.

    Raises:
        InputError: The file cannot be read, or gives no point a class.
    """
    name = str(path)
    if "://" not in name and not name.startswith("/vsi") and not Path(path).exists():
        raise InputError(f"{name}: there is no such reference file{did_you_mean(name)}")
    layers = {} if is_array_file(name) else vector_layers(name)
    if not layers:
        return None
    drawn = layers.get(DESIGN_LAYER, "") is None
    if label_column is None and drawn:
        label_column = REFERENCE_COLUMN
    layer = choose_layer(name, layers, layer, label_column)
    if "Polygon" in (layers[layer] or ""):
        return None
    columns = columns_of(name, layer)
    label_column = label_column or obvious_column(name, columns)
    wanted = [c for c in (label_column, name_column, split_column) if c is not None]
    for column in wanted:
        check_column(name, column, columns)
    if STRATUM_COLUMN in columns and (drawn or ID_COLUMN in columns):
        wanted.append(STRATUM_COLUMN)
    features = read_features(name, layer, list(dict.fromkeys(wanted)), where)
    placed = features[~(features.geometry.isna() | features.geometry.is_empty)]
    is_point = placed.geom_type.isin(["Point", "MultiPoint"])
    is_polygon = placed.geom_type.isin(["Polygon", "MultiPolygon"])
    if is_point.any() and is_polygon.any():
        raise InputError(
            f"{name}: layer {layer!r} mixes {is_polygon.sum()} polygons and {is_point.sum()} "
            "points, which are units of two kinds; choose one by --where or --layer"
        )
    if not len(placed) or not is_point.all():
        return None
    without_geometry = len(features) - len(placed)
    features = placed.explode(ignore_index=True)  # each point of several is a unit
    table = ClassTable() if class_table is None else read_class_table(class_table)
    labels = features[label_column]
    if drawn:
        of_map = {} if classes is None else dict(zip(classes.codes, classes.names, strict=True))
        labels = _filled_in(labels, dict(table.names) or of_map)
    codes, names = codes_of_column(name, labels, table)
    _check_filled_in(name, codes, label_column, drawn=drawn)
    if name_column is not None:
        names = names_of_codes(name, codes, features[name_column])
    return ReferencePoints(
        path=name,
        geometry=features.geometry,
        codes=codes,
        scheme=scheme_of_file(name, codes, {**names, **table.names}, table.colors),
        has_codes=pd.api.types.is_numeric_dtype(labels) or bool(table.names),
        without_geometry=without_geometry,
        parts=None if split_column is None else parts_of_column(name, features[split_column]),
        stratum=_stratum_codes(name, features),
    )


def has_class_codes(
    path: str | PathLike[str], *, label_column: str | None = None, layer: str | None = None
) -> bool:
    """Tell whether the label column of polygons holds codes; else it holds names."""
    name = str(path)
    layers = {} if is_array_file(name) else vector_layers(name)
    if not layers:
        return True
    layer = choose_layer(name, layers, layer, label_column)
    info = pyogrio.read_info(name, layer=layer)
    columns = dict(zip(map(str, info["fields"]), info["dtypes"], strict=True))
    dtype = np.dtype(columns[label_column or obvious_column(name, list(columns))])
    return dtype.kind in "iuf"


def _filled_in(values: pd.Series, names: Mapping[int, str]) -> pd.Series:
    """Return what interpreters wrote in a column of text: codes if all did, else names.

    Args:
        values: The column.
        names: Of classes by code. Digits are the class that is called so, or else has that code.
    """
    texts = values.astype("string").str.strip()
    texts = texts[texts.notna() & (texts != "")]
    coded = texts.str.fullmatch(r"\d+") & ~texts.isin(list(names.values()))
    if coded.empty or not coded.any():
        return values
    numbers = pd.to_numeric(texts[coded])
    if coded.all():
        return pd.Series(numbers.reindex(values.index).to_numpy(float), name=values.name)
    written = values.copy()
    written[numbers.index] = [names.get(int(code), str(code)) for code in numbers]
    return written


def _check_filled_in(path: str, codes: np.ndarray, column: str, *, drawn: bool) -> None:
    """Refuse a file whose points all lack a class.

    Raises:
        InputError: Names the column.
    """
    if not codes.any():
        raise InputError(
            f"{path}: column {column!r} gives no point a class"
            + ("; interpret the points and fill it in" if drawn else "")
        )


def _stratum_codes(path: str, features: Mapping[str, pd.Series]) -> np.ndarray | None:
    """Return the codes of strata, -1 where there is none, or None without such a column.

    Raises:
        InputError: Something there is no code.
    """
    if STRATUM_COLUMN not in features:
        return None
    column = features[STRATUM_COLUMN]
    blank = column.isna() | (column.astype("string").str.strip() == "").fillna(True)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(float)
    wrong = ~blank.to_numpy(bool) & ~((numbers >= 0) & (numbers == np.floor(numbers)))
    if wrong.any():
        raise InputError(
            f"{path}: a point has stratum {column.tolist()[int(np.argmax(wrong))]!r}; strata are "
            f"whole numbers from 0, those of its table {DESIGN_LAYER!r}"
        )
    return np.where(blank, -1, numbers).astype(np.int64)
