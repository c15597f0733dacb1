"""Real scenes with labels, and which pixels test: for the accuracy benchmark."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
import rasterio
import scipy.io
from rasterio.features import rasterize

from hsi_pipeline.classes import Category, ClassScheme
from hsi_pipeline.commands.labelled import LabelledScene, labelled_scene
from hsi_pipeline.errors import InputError
from hsi_pipeline.folds import guarded
from hsi_pipeline.ground_truth import TRAIN, VALIDATION, read_labels
from hsi_pipeline.scene import open_source
from hsi_pipeline.splits import Split, make_split

BLOCK = 12  # side of a test block in pixels
GUARD = 2  # pixels between a test block and what is learnt from


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A scene to compare models on."""

    data: LabelledScene
    scheme: ClassScheme
    split: Split
    """Its validation side is the test side here."""
    how: str
    """How training and test pixels were told apart, for the table."""


def enmap_potsdam(data: Path, scratch: Path) -> Scene:
    """EnMAP L2A, Potsdam: 14 published training tiles, tested on the published validation tile."""
    folder = data / "enmap_potsdam"
    path = folder / "enmap_potsdam_mosaic.tif"
    source = open_source(path)
    truth = read_labels(
        folder / "landcover_level3_polygons.gpkg",
        source.grid,
        label_column="class_id",
        name_column="class_name",
        split_column="split",
    )
    found = labelled_scene(source, truth.labels, truth.units)
    sides = ((truth.splits == side) & (found.labels > 0) for side in (TRAIN, VALIDATION))
    split = make_split(found.labels, *sides, 0)
    how = "published tiles: 14 to learn from, 1 to test"
    return Scene(data=found, scheme=truth.scheme, split=split, how=how)


def salinas_a(data: Path, scratch: Path) -> Scene:
    """AVIRIS, Salinas-A, by spatial blocks."""
    folder = data / "salinas_a"
    labels = scipy.io.loadmat(folder / "SalinasA_gt.mat")["salinasA_gt"].astype(np.uint8)
    return _by_blocks(folder / "SalinasA_corrected.mat", labels)


def jasper_ridge(data: Path, scratch: Path) -> Scene:
    """AVIRIS, Jasper Ridge, labelled by the most abundant material, by spatial blocks."""
    folder = data / "jasper_ridge"
    content = scipy.io.loadmat(folder / "_EndJasperRidge2_R198.mat")
    abundance = content["A"].reshape(4, 100, 100, order="F")
    names = [str(name[0]).strip() for name in content["cood"].ravel()]
    labels = (abundance.argmax(0) + 1).astype(np.uint8)
    return _by_blocks(folder / "jasperRidge2_R198.img", labels, names)


def idtrees(data: Path, scratch: Path) -> Scene:
    """NEON AOP, IDTReeS plots: taxa with at least 40 crowns, whole plots tested.

    The plots lie far apart; they are laid side by side on one sheet, with gaps that no network
    here reaches across.
    """
    folder = data / "idtrees"
    crowns = {s: pyogrio.read_dataframe(folder / f"ITC/train_{s}.shp") for s in ("MLBS", "OSBS")}
    rows = pd.read_csv(folder / "Field/train_data.csv", keep_default_na=False)
    taxon = rows.drop_duplicates("indvdID").set_index("indvdID").taxonID
    for frame in crowns.values():
        frame["taxon"] = frame.indvdID.map(taxon)
    counts = pd.concat(frame.taxon for frame in crowns.values()).value_counts()
    kept = sorted(counts.index[counts >= 40])
    plots = {}
    for path in sorted((folder / "HSI").glob("*.tif")):
        with rasterio.open(path) as opened:
            plots.setdefault(opened.read().tobytes(), path)  # two files are the same plot
    side, columns = 20 + 12, 9
    shape = (-(-len(plots) // columns) * side, columns * side)
    labels, unit = np.zeros(shape, np.uint8), np.zeros(shape, np.int32)
    sheet = None
    for index, path in enumerate(plots.values()):
        with rasterio.open(path) as opened:
            values = opened.read()
            transform, bounds = opened.transform, opened.bounds
        if sheet is None:
            sheet = np.full((len(values), *shape), -9999, np.int16)
        top, left = (n * side for n in divmod(index, columns))
        window = np.s_[top : top + values.shape[1], left : left + values.shape[2]]
        sheet[:, *window] = np.where((values > 0).any(0), values, -9999)
        here = crowns[path.name[:4]].cx[bounds.left : bounds.right, bounds.bottom : bounds.top]
        labels[window] = _crowns(here[here.taxon.isin(kept)], kept, values.shape[1:], transform)
        unit[window] = index + 1
    path = scratch / "idtrees.tif"
    profile = {"driver": "GTiff", "dtype": "int16", "nodata": -9999, "count": len(sheet)}
    pixel = rasterio.transform.from_origin(0, shape[0], 1, 1)
    with rasterio.open(
        path, "w", height=shape[0], width=shape[1], transform=pixel, crs="EPSG:32617", **profile
    ) as opened:
        opened.write(sheet)
    found = labelled_scene(open_source(path), labels, unit)
    split = _draw(found.labels, unit, 1 / 4, guard=0)
    how = f"whole plots, a quarter at random to test ({len(plots)} plots, {len(kept)} taxa)"
    return Scene(data=found, scheme=_scheme(kept), split=split, how=how)


def indian_pines(path: Path, data: Path) -> Scene:
    """AVIRIS, Indian Pines (145 x 145 x 200 or 220), fixed split of 695 and 9,671 pixels."""
    folder = data / "label_maps" / "indian_pines"
    sides = []
    for name in ("IndianTR123_temp123.tif", "IndianTE123_temp123.tif"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(folder / name) as opened:
                sides.append(opened.read(1).astype(np.uint8))
    return _fixed(path, *sides, counts=(695, 9_671), bands=(200, 220))


def pavia_university(path: Path, data: Path) -> Scene:
    """ROSIS, Pavia University (610 x 340 x 103), fixed split of 2,774 and 40,002 pixels."""
    folder = data / "label_maps" / "pavia"
    sides = [
        scipy.io.loadmat(folder / f"{name}.mat")[name].astype(np.uint8)
        for name in ("TRpaviaU", "TSpaviaU")
    ]
    return _fixed(path, *sides, counts=(2_774, 40_002), bands=(103,))


def houston_2013(path: Path, data: Path) -> Scene:
    """CASI, Houston 2013 (349 x 1905 x 144), fixed split of 2,832 and 12,197 pixels."""
    content = scipy.io.loadmat(data / "label_maps" / "houston2013" / "houston_gt.mat")
    sides = [content[f"houston_gt_{side}"].astype(np.uint8) for side in ("tr", "te")]
    return _fixed(path, *sides, counts=(2_832, 12_197), bands=(144,))


def salinas(path: Path, data: Path) -> Scene:
    """AVIRIS, Salinas (512 x 217 x 204 or 224), by spatial blocks; Salinas_gt.mat lies beside."""
    truth = path.with_name("Salinas_gt.mat")
    if not truth.is_file():
        raise InputError(f"{truth}: the labels of Salinas must lie beside the scene")
    labels = scipy.io.loadmat(truth)["salinas_gt"].astype(np.uint8)
    _check(path, labels.shape, int((labels > 0).sum()), ((512, 217), 54_129))
    return _by_blocks(path, labels)


OPEN: dict[str, Callable[[Path, Path], Scene]] = {
    "enmap_potsdam": enmap_potsdam,
    "salinas_a": salinas_a,
    "jasper_ridge": jasper_ridge,
    "idtrees": idtrees,
}
"""Scenes in the data folder, made of it and a scratch folder."""

CLASSIC: dict[str, Callable[[Path, Path], Scene]] = {
    "indian_pines": indian_pines,
    "pavia_university": pavia_university,
    "houston_2013": houston_2013,
    "salinas": salinas,
}
"""Scenes that cannot be shipped, made of the user's file and the data folder."""


def _by_blocks(path: Path, labels: np.ndarray, names: list[str] | None = None) -> Scene:
    source = open_source(path, pixel_coordinates=True)
    units = np.zeros(labels.shape, np.int32)
    found = labelled_scene(source, labels, units)
    row, column = np.indices(labels.shape) // BLOCK
    split = _draw(found.labels, row * 1000 + column, 1 / 3, guard=GUARD)
    codes = np.unique(labels[labels > 0]).tolist()
    scheme = _scheme(names or [f"class {code}" for code in codes], codes)
    how = (
        f"{BLOCK} x {BLOCK} pixel blocks, a third at random to test, guard {split.guard_px} pixels"
    )
    return Scene(data=found, scheme=scheme, split=split, how=how)


def _draw(labels: np.ndarray, place: np.ndarray, share: float, *, guard: int) -> Split:
    """Draw some of the places that hold labels for testing, with seed 0.

    The default network's recipe was chosen by cross-validation on the other places.
    """
    places = np.unique(place[labels > 0])
    drawn = np.random.default_rng(0).permutation(places)[: int(len(places) * share)]
    test = np.isin(place, drawn) & (labels > 0)
    return make_split(labels, guarded(labels, test, guard), test, guard)


def _fixed(
    path: Path,
    train: np.ndarray,
    test: np.ndarray,
    *,
    counts: tuple[int, int],
    bands: tuple[int, ...],
) -> Scene:
    """Return a scene with a fixed split.

    Raises:
        InputError: Scene or label maps are not the ones that the split was made for.
    """
    for side, expected in ((train, counts[0]), (test, counts[1])):
        _check(path, side.shape, int((side > 0).sum()), (train.shape, expected))
    if ((train > 0) & (test > 0)).any():
        raise InputError(f"{path}: the fixed split's training and test pixels overlap")
    source = open_source(path, pixel_coordinates=True)
    count, height, width = source.pixels.shape
    if (height, width) != train.shape or count not in bands:
        raise InputError(
            f"{path} has {count} bands of {height} x {width} pixels; the "
            f"split is for {' or '.join(map(str, bands))} bands of "
            f"{train.shape[0]} x {train.shape[1]}"
        )
    labels = np.where(train > 0, train, test)
    units = np.zeros(labels.shape, np.int32)
    found = labelled_scene(source, labels, units)
    sides = [(side > 0) & (found.labels > 0) for side in (train, test)]
    codes = np.unique(labels[labels > 0]).tolist()
    split = make_split(found.labels, *sides, 0)
    how = f"fixed published split, {counts[0]} pixels to learn from"
    return Scene(
        data=found, scheme=_scheme([f"class {c}" for c in codes], codes), split=split, how=how
    )


def _check(path: Path, shape: tuple, count: int, expected: tuple[tuple, int]) -> None:
    if (shape, count) != expected:
        raise InputError(
            f"{path}: the label map has shape {shape} and {count} labelled pixels, "
            f"{expected[0]} and {expected[1]} were expected; is it the published one?"
        )


def _scheme(names: list[str], codes: list[int] | None = None) -> ClassScheme:
    codes = codes or list(range(1, len(names) + 1))
    pairs = zip(codes, names, strict=True)
    return ClassScheme(tuple(Category(c, name, f"#{c * 40503 % 2**24:06x}") for c, name in pairs))


def _crowns(
    frame: pd.DataFrame, kept: list[str], shape: tuple[int, int], transform: rasterio.Affine
) -> np.ndarray:
    """Burn crowns; where crowns of different taxa overlap, nothing."""
    burnt = np.zeros((len(kept), *shape), bool)
    for index, name in enumerate(kept):
        shapes = frame.geometry[frame.taxon == name]
        if len(shapes):
            burnt[index] = rasterize(shapes, shape, transform=transform).astype(bool)
    single = burnt.sum(0) == 1
    return np.where(single, burnt.argmax(0) + 1, 0).astype(np.uint8)
