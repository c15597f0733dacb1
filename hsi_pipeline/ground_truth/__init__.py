"""Ground truth: polygons, points or class rasters -> labels on a scene's grid.

A pixel takes the class of the polygon that holds its centre, or of the point inside it. Where
polygons of different classes overlap the pixel stays unlabelled and is counted as a conflict.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from odc.geo.geobox import GeoBox

from hsi_pipeline.errors import InputError, did_you_mean
from hsi_pipeline.ground_truth.class_table import ClassTable, read_class_table
from hsi_pipeline.ground_truth.rasters import is_array_file, read_array, read_raster
from hsi_pipeline.ground_truth.truth import (
    TEST,
    TRAIN,
    VALIDATION,
    GroundTruth,
    LabelCount,
    LabelReport,
    align_labels,
    check_trainable,
    join_schemes,
    labels_sha256,
)
from hsi_pipeline.ground_truth.vectors import read_vector, vector_layers

__all__ = [
    "TEST",
    "TRAIN",
    "VALIDATION",
    "GroundTruth",
    "LabelCount",
    "LabelReport",
    "align_labels",
    "check_trainable",
    "join_schemes",
    "labels_sha256",
    "read_labels",
]


def read_labels(
    path: str | PathLike[str],
    grid: GeoBox,
    *,
    label_column: str | None = None,
    name_column: str | None = None,
    class_table: str | PathLike[str] | None = None,
    split_column: str | None = None,
    layer: str | None = None,
    where: str | None = None,
) -> GroundTruth:
    """Read ground truth onto a scene's grid.

    Args:
        path: Polygons or points in any vector format; a class raster on any grid (taken to the
            scene's by nearest neighbour); or a `.mat` or `.npy` array of the scene's shape.
        grid: The scene's grid.
        label_column: Column of class codes (whole numbers, 0 and null unlabelled) or of class
            names, which are coded from 1 in sorted order. None: the one with an obvious name.
        name_column: Column that names the codes.
        class_table: CSV or YAML with code, name and color; it wins over the file's own names.
        split_column: Column that says train, validation or test.
        layer: Layer of a vector file, or variable of a `.mat` file.
        where: Only features for which this SQL condition holds, such as `"year = 2022"`.

    Returns:
        The labels; at least one pixel is labelled.

    Raises:
        InputError: The file cannot be read as labels, or labels no pixel of the scene.
    """
    table = ClassTable() if class_table is None else read_class_table(class_table)
    name = str(path)
    if "://" not in name and not name.startswith("/vsi") and not Path(path).exists():
        raise InputError(f"{name}: there is no such label file{did_you_mean(name)}")
    is_array = is_array_file(name)
    if not is_array and (layers := vector_layers(name)):
        return read_vector(
            name,
            layers,
            grid,
            table,
            label_column=label_column,
            name_column=name_column,
            split_column=split_column,
            layer=layer,
            where=where,
        )
    for option, given in (
        ("--label-column", label_column),
        ("--name-column", name_column),
        ("--split-column", split_column),
        ("--where", where),
        ("--layer", None if is_array else layer),
    ):
        if given is not None:
            raise InputError(
                f"{name}: a class raster has neither columns nor layers; leave out {option}"
            )
    return read_array(name, grid, table, layer) if is_array else read_raster(name, grid, table)
