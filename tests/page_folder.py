"""The folder that the commands of the pages run in: a tiny scene with all that pages speak of."""

import shutil
import sqlite3

import geopandas as gpd
import numpy as np
import rasterio
from conftest import FIELD, NAMES, TRANSFORM, make_tiny_scene, write_scene
from pages import ROOT
from shapely.geometry import box

from hsi_pipeline.commands.assess import assess
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.commands.sample import sample
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.commands.train import train

_COLUMNS = {"code": "class_id", "name": "class_name"}
_TABLE = "code,name,color\n1,water,#2b83ba\n3,tree,#1b7837\n7,roof,#c0392b\n"
_ARCHIVE = """\
archive: {scenes: "scenes/*.tif"}
out: out
model: model.safetensors
polygonize: {min_area: 2700}
"""


def make_page_folder(folder):
    """Make the folder; returns the class codes (y, x) that are really there."""
    tiny = make_tiny_scene(folder)
    labels = gpd.read_file(tiny.labels).rename(columns=_COLUMNS)
    tiny.labels.unlink()
    labels.iloc[::2].to_file(folder / "polygons.gpkg")
    labels.iloc[1::2].to_file(folder / "other_polygons.gpkg")
    labels.to_file(folder / "polygons2.gpkg")
    _make_parcels(tiny).to_file(folder / "parcels.gpkg")
    (folder / "classes.csv").write_text(_TABLE)
    write_scene(folder / "scene2.tif", tiny.pixels[:, ::-1].copy())
    talk = Terminal(quiet=True)
    train(
        folder / "scene.tif",
        folder / "polygons.gpkg",
        folder / "model.safetensors",
        label_column="class_id",
        name_column="class_name",
        class_table=folder / "classes.csv",
        model="spectral",
        epochs=3,
        device="cpu",
        baselines=False,
        terminal=talk,
    )
    for name in ("map.tif", "map.zarr"):
        _classify(folder, "scene.tif", name, talk)
    polygonize(folder / "map.tif", folder / "landcover.gpkg", terminal=talk)
    sample(folder / "map.tif", folder / "sample.gpkg", size=30, min_per_class=5, terminal=talk)
    interpret(folder / "sample.gpkg", tiny.classes)
    assess(
        folder / "map.tif", folder / "sample.gpkg", out=folder / "assessment.json", terminal=talk
    )
    _make_years(folder, tiny, talk)
    (folder / "archive.yaml").write_text(_ARCHIVE)
    shutil.copytree(ROOT / "workflows", folder / "workflows")
    _make_sample_data(folder)
    return tiny.classes


def interpret(path, classes):
    """Fill in the column `reference` of a sample, as a person would who knows the ground."""
    points = gpd.read_file(path, layer="sample")
    columns, rows = ~TRANSFORM @ (points.geometry.x.to_numpy(), points.geometry.y.to_numpy())
    codes = classes[np.floor(rows).astype(int), np.floor(columns).astype(int)]
    base = sqlite3.connect(path)
    with base:
        # they need functions that only GDAL has, and are about geometry, which stays as it is
        for (name,) in base.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            base.execute(f'DROP TRIGGER "{name}"')
        for name, code in zip(points["sample_id"].tolist(), codes.tolist(), strict=True):
            base.execute("UPDATE sample SET reference = ? WHERE sample_id = ?", (NAMES[code], name))
    base.close()


def _make_parcels(tiny):
    """Return parcels a little larger than a field each."""
    boxes = []
    for row in range(4, 36, 12):
        for column in range(4, 28, 12):
            west, north = TRANSFORM @ (column, row)
            boxes.append(box(west, north - 30 * (FIELD + 2), west + 30 * (FIELD + 2), north))
    return gpd.GeoDataFrame({"field": range(len(boxes))}, geometry=boxes, crs=tiny.grid.crs.proj)


def _make_years(folder, tiny, talk):
    """Write the scenes of two years, and their maps, where some fields have changed."""
    (folder / "scenes").mkdir()
    for year, pixels in (("2023", tiny.pixels), ("2024", np.roll(tiny.pixels, FIELD, axis=2))):
        path = write_scene(folder / "scenes" / f"scene_{year}.tif", pixels)
        with rasterio.open(path, "r+") as raster:
            raster.update_tags(start_time=f"{year}-06-01T10:00:00Z")
        _classify(folder, f"scenes/scene_{year}.tif", f"{year}.tif", talk)


def _make_sample_data(folder):
    """Give the tiny scene the names of sample_data/, so that workflows on it take seconds."""
    place = folder / "sample_data"
    place.mkdir()
    for name, source in (
        ("scene.tif", "scene.tif"),
        ("train.gpkg", "polygons.gpkg"),
        ("test.gpkg", "other_polygons.gpkg"),
        ("classes.csv", "classes.csv"),
    ):
        shutil.copy(folder / source, place / name)


def _classify(folder, scene, out, talk):
    classify(
        folder / scene,
        folder / "model.safetensors",
        folder / out,
        probabilities=True,
        device="cpu",
        terminal=talk,
    )
