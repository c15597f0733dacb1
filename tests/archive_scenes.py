"""Small archives for tests: scenes of two sensors over the same kinds of fields, some broken."""

import json
import warnings
from pathlib import Path
from unittest.mock import patch

import geopandas as gpd
import numpy as np
import rasterio
from affine import Affine
from conftest import NM, class_field, make_pixels, write_scene
from products import prisma
from rasterio.errors import NotGeoreferencedWarning

VNIR = tuple(nm for nm in sorted(NM, reverse=True) if nm < 900)
SWIR = tuple(nm for nm in sorted(NM, reverse=True) if nm > 900)
BROKEN = ("cut-off", "empty", "few-bands", "no-crs", "no-wavelengths")


def write_workflow(folder: Path, model, *, scenes="scenes", out="out", extra="") -> Path:
    """Write the workflow of an archive, and return its path."""
    path = Path(folder) / "archive.yaml"
    path.write_text(
        f"archive:\n  scenes: {scenes}\nout: {out}\nmodel: {model}\ndevice: cpu\n{extra}"
    )
    return path


def raster_scene(folder: Path, number: int, rows=40, columns=32) -> Path:
    """Write a GeoTIFF whose time stands in its tags."""
    classes = class_field(rows, columns)
    path = Path(folder) / f"tif-{number:03}.tif"
    place = Affine(30, 0, 364_095 + 600 * number, 0, -30, 5_809_965)
    write_scene(path, make_pixels(classes, number), transform=place)
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(start_time=f"2024-{number % 12 + 1:02}-07T10:00:00Z")
    return path


def prisma_scene(folder: Path, number: int, rows=40, columns=32) -> Path:
    """Write a product of PRISMA with the bands of the tiny model, from long to short."""
    numbers = make_pixels(class_field(rows, columns), 1000 + number).astype(float) / 10_000
    order = {"VNIR": [NM.index(nm) for nm in VNIR], "SWIR": [NM.index(nm) for nm in SWIR]}
    changed = {
        "ROWS": rows, "COLUMNS": columns,
        "VNIR_NM": VNIR, "VNIR_FWHM": (10.0,) * len(VNIR),
        "SWIR_NM": SWIR, "SWIR_FWHM": (10.0,) * len(SWIR),
        "DELIVERED": {"VNIR": slice(0, len(VNIR)), "SWIR": slice(0, len(SWIR))},
        "SCALES": {"VNIR": (0.0, 1.0), "SWIR": (0.0, 1.0)},
        "START": f"2024{number % 12 + 1:02}02102837_2024{number % 12 + 1:02}02102842_{number:04}",
    }  # fmt: skip
    with patch.multiple(prisma, **changed):
        cubes = {
            name: np.clip(numbers[bands].transpose(1, 0, 2) * 65535, 1, 65535).astype("<u2")
            for name, bands in order.items()
        }
        errors = {name: np.zeros(cube.shape, "u1") for name, cube in cubes.items()}
        start = f"2024-{number % 12 + 1:02}-02T10:28:37.932000"
        attrs = prisma.attributes("L2D") | prisma.map_attributes()
        attrs |= {"Product_StartTime": np.bytes_(start), "Epsg_Code": np.uint32(32633)}
        attrs |= {"Projection_Id": np.bytes_("33")}
        path = Path(folder) / f"PRS_L2D_STD_{prisma.START}.he5"
        with patch.object(prisma, "EPSG", 32633):
            prisma.write(path, "L2D", cubes, errors, attrs)
    return path


def broken_scenes(folder: Path) -> list[Path]:
    """Write five scenes that cannot be mapped, each for a reason of its own."""
    classes = class_field(40, 32)
    pixels = make_pixels(classes)
    folder = Path(folder)
    whole = write_scene(folder / "cut-off.tif", pixels, compress="deflate")
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    (folder / "empty.tif").write_bytes(b"")
    write_scene(folder / "few-bands.tif", pixels[:3], wavelengths=NM[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        write_scene(folder / "no-crs.tif", pixels, crs=None, transform=Affine.identity())
    write_scene(folder / "no-wavelengths.tif", pixels, wavelengths=None)
    return [folder / f"{name}.tif" for name in BROKEN]


def write_archive(folder: Path, count: int, *, broken=True, **size) -> Path:
    """Write scenes of both sensors by turns, and broken ones; returns their folder."""
    scenes = Path(folder) / "scenes"
    scenes.mkdir(parents=True)
    for number in range(count):
        (raster_scene if number % 2 else prisma_scene)(scenes, number, **size)
    if broken:
        broken_scenes(scenes)
    return scenes


def content_of(out: Path) -> dict[str, bytes]:
    """Return what an archive holds, without what tells when and how fast it was made.

    Args:
        out: The archive.

    Returns:
        Pixels of rasters, geometries and columns of polygons, and items, by name.
    """
    found: dict[str, object] = {}
    for path in sorted(Path(out).rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".tif":
            with rasterio.open(path) as raster:
                found[name] = (raster.read().tobytes(), raster.tags(), str(raster.transform))
        elif path.suffix == ".gpkg":
            frame = gpd.read_file(path, layer=path.stem.rpartition("_")[2])
            found[name] = (
                frame.geometry.to_wkb().tolist(),
                frame.drop(columns="geometry").to_csv(),
            )
        elif path.suffix == ".json" and path.parent.name == path.stem:
            item = json.loads(path.read_text())
            for key in ("created", "hsi_pipeline:seconds"):
                item["properties"].pop(key)
            found[name] = item
        elif path.name == "catalog.json":
            found[name] = json.loads(path.read_text())
        elif path.parent.name == "failures":
            failure = json.loads(path.read_text())
            failure.pop("time")
            found[name] = failure
    return found
