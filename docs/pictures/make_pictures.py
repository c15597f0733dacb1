"""The pictures of the documentation, drawn from real runs on the sample scene.

    python docs/pictures/make_pictures.py

trains three models on `sample_data/` (some minutes on two cores; they are kept in
`results/pictures/`, so that a second call only draws) and writes the PNG files beside this program.
Each has a light ground of its own, so that it reads on dark pages too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import matplotlib as mpl
import numpy as np
import rasterio
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image

from hsi_pipeline.checkpoint import load_applicability, load_checkpoint
from hsi_pipeline.classes import ClassScheme
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.commands.train import train
from hsi_pipeline.cube import wavelengths_of
from hsi_pipeline.inference import classify_cube
from hsi_pipeline.publish import write_class_map
from hsi_pipeline.resampling import resample
from hsi_pipeline.scene import open_scene
from hsi_pipeline.spectra import bands_for_model
from hsi_pipeline.wavelengths import Wavelengths

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_data"
HERE = Path(__file__).parent
WORK = ROOT / "results" / "pictures"
RED = "#d7191c"
MAGENTA = "#d100d1"  # no class has it
WATER = 7  # its code
COLOURS = 128  # of the PNG files: a third of the size, and no eye sees it


def main() -> None:
    """Draw what is asked for, else all."""
    drawn = {
        "map": draw_map,
        "halo": draw_halo,
        "seams": draw_seams,
        "bands": draw_bands,
        "uncertainty": draw_uncertainty,
    }
    parser = argparse.ArgumentParser(description="Draw the pictures of the documentation.")
    parser.add_argument("names", nargs="*", help=f"which ones: {', '.join(drawn)}; default all")
    names = parser.parse_args().names or list(drawn)
    WORK.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"font.size": 9, "axes.titlesize": 9, "figure.facecolor": "white"})
    for name in names:
        save(drawn[name](), HERE / f"{name}.png")


def draw_map() -> Figure:
    """Draw the scene, its class map, polygons, and where not to trust it."""
    model = trained("default")
    class_map, scheme = mapped(model, layers=("dissimilarity",))
    store, polygons = WORK / "map.zarr", WORK / "landcover.gpkg"
    write_class_map(class_map, store, overwrite=True)
    polygonize(
        store, polygons, min_area=2700, simplify=45, smooth=True, overwrite=True, terminal=quiet()
    )
    figure, axes = panels(4, height=3.1)
    show_colours(axes[0], "the scene")
    show_classes(axes[1], class_map["class"].values, scheme, "class map")
    show_colours(axes[2], "its polygons")
    frame = gpd.read_file(polygons, layer="landcover")
    colours = dict(zip(scheme.names, (c.color for c in scheme.categories), strict=True))
    to_pixels = ~open_scene(SAMPLE / "scene.tif").odc.geobox.affine
    moved = frame.geometry.affine_transform(
        [to_pixels.a, to_pixels.b, to_pixels.d, to_pixels.e, to_pixels.c - 0.5, to_pixels.f - 0.5]
    )
    moved.set_crs(None, allow_override=True).plot(
        ax=axes[2], color=frame["name"].map(colours), edgecolor="white", linewidth=0.4, alpha=0.8
    )
    axes[2].set(xlabel="", ylabel="")
    show_dissimilarity(axes[3], class_map["dissimilarity"].values)
    legend(figure, scheme)
    return figure


def draw_halo() -> Figure:
    """Draw how far a network looks, and the window that a chunk is computed from."""
    model, card = load_checkpoint(trained("hyperloopnet"))
    halo = int(model.halo)  # type: ignore[arg-type]
    cube = open_scene(SAMPLE / "scene.tif")
    bands = bands_for_model(cube, card.wavelengths, card.bands, card.tolerance_nm)
    side = 160
    x = torch.from_numpy(bands.apply(reflectance(cube)[list(bands.bands)]))[None]
    valid = torch.isfinite(x).all(1, keepdim=True)
    x = torch.where(valid, x, 0).requires_grad_()
    row = column = side // 2
    scores = model(x, valid)[0, :, row, column]
    scores.max().backward()
    influence = x.grad.abs().sum((0, 1)).numpy()
    rows, columns = np.nonzero(influence)
    reach = max(np.abs(rows - row).max(), np.abs(columns - column).max())
    if reach > halo:
        raise SystemExit(f"a pixel {reach} away has influence, the halo is {halo}")
    print(f"halo {halo} pixels; the furthest pixel with influence is {reach} away")

    figure, axes = panels(2, height=4.1)
    shown = np.where(influence > 0, influence / influence.max(), np.nan)
    seen = axes[0].imshow(np.log10(shown), cmap="viridis", vmin=-5, vmax=0)
    axes[0].set_facecolor("#e6e6e6")
    axes[0].add_patch(box(row - halo, column - halo, 2 * halo + 1, RED))
    axes[0].plot(column, row, "+", color="white", markersize=7)
    axes[0].set(xlim=(20, 140), ylim=(140, 20))
    axes[0].set_title(f"influence on one pixel's class: none beyond {halo} pixels")
    bar = figure.colorbar(seen, ax=axes[0], shrink=0.75, ticks=[-4, -2, 0])
    bar.set_ticklabels(["1/10,000", "1/100", "1"])
    show_colours(axes[1], "a chunk (white) is computed from its window (red)")
    for edge in range(0, side, 40):
        axes[1].axhline(edge - 0.5, color="white", linewidth=0.5, alpha=0.6)
        axes[1].axvline(edge - 0.5, color="white", linewidth=0.5, alpha=0.6)
    axes[1].add_patch(box(80, 80, 40, "white"))
    axes[1].add_patch(box(80 - halo, 80 - halo, 40 + 2 * halo, RED))
    return figure


def draw_seams() -> Figure:
    """Draw what tiles without halo do to a map, and what those with halo do."""
    model = trained("hyperloopnet")
    whole, scheme = mapped(model)
    chunks, _ = mapped(model, chunk=32)
    expected = whole["class"].values
    alone = classify_alone(model, 32)
    differ = (alone != expected) & (expected > 0)
    ours = (chunks["class"].values != expected) & (expected > 0)
    share = differ.sum() / (expected > 0).sum()
    print(f"without halo {differ.sum()} pixels differ, with halo {ours.sum()}")

    figure, axes = panels(3, height=3.7)
    show_classes(axes[0], expected, scheme, "the whole scene at once")
    for axis, classes, wrong, title in (
        (axes[1], alone, differ, f"tiles by themselves: {share:.0%} differ"),
        (axes[2], chunks["class"].values, ours, f"chunks with halo: {ours.sum()} pixels differ"),
    ):
        show_classes(axis, classes, scheme, title, pale=True)
        marked = np.where(wrong, 1.0, np.nan)
        axis.imshow(marked, cmap=ListedColormap([MAGENTA]), interpolation="nearest")
        for edge in range(0, 160, 32):
            axis.axhline(edge - 0.5, color="black", linewidth=0.4)
            axis.axvline(edge - 0.5, color="black", linewidth=0.4)
    legend(figure, scheme, Patch(color=MAGENTA, label="differs from the left map"))
    return figure


def draw_bands() -> Figure:
    """Draw how bands of a model are made of those of another sensor."""
    cube = open_scene(SAMPLE / "scene.tif")
    found = wavelengths_of(cube)
    if found is None:
        raise SystemExit("the sample scene has no wavelengths")
    good = cube["good"].values
    pixel = reflectance(cube)[:, *sample_pixel("forest")]
    centers = tuple(np.arange(655.0, 796.0, 20.0).tolist())
    wanted = Wavelengths(centers, (30.0,) * len(centers))
    figure, axes = panels(2, height=3.6, widths=(1.25, 1), bare=False)
    near = [i for i, nm in enumerate(found.center_nm) if 630 < nm < 815 and good[i]]
    nm, values = np.array(found.center_nm)[near], pixel[near]
    widths = np.array([found.fwhm_nm[i] or 0 for i in near])
    axes[0].errorbar(
        nm, values, xerr=widths / 2, fmt="o", markersize=3.5, color="#1b7837", linewidth=1,
        label="bands of the scene, with their widths",
    )  # fmt: skip
    for method, marker, colour in (("nearest", "x", "#888888"), ("gaussian", "s", RED)):
        operator = resample(wanted, found, good.tolist(), 20.0, method=method)
        made = operator.apply(pixel[list(operator.bands)])
        axes[0].plot(
            centers, made, marker, color=colour, markersize=5, markerfacecolor="none",
            label=f"bands of the model, {method}",
        )  # fmt: skip
    axes[0].set(xlabel="wavelength (nm)", ylabel="reflectance", xlim=(632, 813))
    axes[0].set_title("one forest pixel at the red edge")
    axes[0].legend(frameon=False, loc="upper left")
    operator = resample(wanted, found, good.tolist(), 20.0, method="gaussian")
    read = np.array(found.center_nm)[list(operator.bands)]
    order = np.argsort(read)
    for i, center in enumerate(centers[::2]):
        axes[1].plot(
            read[order], operator.matrix[2 * i, order], ".-", linewidth=1, label=f"{center:g} nm"
        )
    axes[1].set(xlabel="bands of the scene (nm)", ylabel="weight", xlim=(620, 825))
    axes[1].set_title("what four of the model's bands are made of")
    axes[1].legend(frameon=False, loc="upper right", title="band of the model")
    axes[1].set_ylim(top=1.65 * float(operator.matrix.max()))
    return figure


def draw_uncertainty() -> Figure:
    """Draw the map of a model that never saw water, and what tells."""
    model = trained("without water")
    class_map, scheme = mapped(model, layers=("entropy", "dissimilarity"))
    figure, axes = panels(4, height=3.3)
    show_colours(axes[0], "the scene, with river and lakes")
    show_classes(axes[1], class_map["class"].values, scheme, "map of a model without water")
    seen = axes[2].imshow(class_map["confidence"].values, cmap="viridis", vmin=0.3, vmax=1)
    axes[2].set_title("confidence")
    figure.colorbar(seen, ax=axes[2], orientation="horizontal", pad=0.03, ticks=[0.4, 0.7, 1])
    show_dissimilarity(axes[3], class_map["dissimilarity"].values, figure)
    legend(figure, scheme, columns=6)
    with rasterio.open(SAMPLE / "truth.tif") as truth:
        with_water = truth.read(1) == WATER
    for name in ("confidence", "dissimilarity"):
        values = class_map[name].values[with_water]
        print(f"water: {name} {np.nanmedian(values):.2f} (median)")
    above = class_map["dissimilarity"].values > 1
    print(f"above 1: {above[with_water].mean():.2f} of water, ", end="")
    print(f"{above[~with_water & (class_map['class'].values > 0)].mean():.2f} of the rest")
    return figure


def trained(name: str) -> Path:
    """Return a model of the sample scene, trained if it is not there yet."""
    options = {
        "default": {},
        "hyperloopnet": {"model": "hyperloopnet", "epochs": 4},
        "without water": {"where": "class_name <> 'water'"},
    }[name]
    path = WORK / f"{name.replace(' ', '_')}.safetensors"
    if not path.exists():
        train(
            SAMPLE / "scene.tif",
            SAMPLE / "train.gpkg",
            path,
            label_column="class_id",
            name_column="class_name",
            class_table=SAMPLE / "classes.csv",
            baselines=False,
            terminal=Terminal(),
            **options,
        )
    return path


def mapped(
    model_file: Path, *, layers: Sequence[str] = (), chunk: int | None = None
) -> tuple[xr.Dataset, ClassScheme]:
    """Return the class map of the sample scene, computed, and its classes."""
    model, card = load_checkpoint(model_file)
    cube = open_scene(SAMPLE / "scene.tif")
    class_map = classify_cube(
        cube,
        model,
        card.classes,
        bands=bands_for_model(cube, card.wavelengths, card.bands, card.tolerance_nm),
        layers=layers,
        chunk=chunk,
        temperature=card.temperature,
        applicability=load_applicability(model_file) if layers else None,
    )
    return class_map.compute(), card.classes


def classify_alone(model_file: Path, side: int) -> np.ndarray:
    """Return class codes (y, x) of tiles that know nothing of their surroundings."""
    model, card = load_checkpoint(model_file)
    cube = open_scene(SAMPLE / "scene.tif")
    bands = bands_for_model(cube, card.wavelengths, card.bands, card.tolerance_nm)
    tiles = []
    for top in range(0, cube.sizes["y"], side):
        line = []
        for left in range(0, cube.sizes["x"], side):
            tile = cube.isel(y=slice(top, top + side), x=slice(left, left + side))
            line.append(classify_cube(tile, model, card.classes, bands=bands)["class"].values)
        tiles.append(np.hstack(line))
    return np.vstack(tiles)


def reflectance(cube: xr.DataArray) -> np.ndarray:
    """Return reflectance float32 (band, y, x), NaN where the scene holds nodata."""
    raw = cube.values
    return np.where(raw == cube.attrs["nodata"], np.nan, raw * 1e-4).astype(np.float32)


def sample_pixel(name: str) -> tuple[int, int]:
    """Return row and column of a pixel amid a training polygon of a class."""
    grid = open_scene(SAMPLE / "scene.tif").odc.geobox
    frame = gpd.read_file(SAMPLE / "train.gpkg")
    largest = frame[frame.class_name == name].to_crs(str(grid.crs)).geometry
    point = largest.loc[largest.area.idxmax()].representative_point()
    column, row = ~grid.affine @ (point.x, point.y)
    return int(row), int(column)


def panels(
    count: int, *, height: float, widths: Sequence[float] | None = None, bare: bool = True
) -> tuple[Figure, np.ndarray]:
    """Return a figure with panels side by side; bare ones have no axes."""
    figure = Figure(figsize=(9.6, height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, count, width_ratios=widths))
    for axis in axes if bare else ():
        axis.set_anchor("N")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure, axes


def show_colours(axis: Axes, title: str) -> None:
    """Show the scene in natural colours, nodata white."""
    cube = open_scene(SAMPLE / "scene.tif")
    found = cube["wavelength"].values
    rgb = [int(abs(found - nm).argmin()) for nm in (650, 560, 470)]
    values = reflectance(cube.isel(band=rgb))
    low, high = np.nanpercentile(values, (1, 98))
    stretched = np.clip((values - low) / (high - low), 0, 1) ** 0.7
    axis.imshow(np.where(np.isnan(stretched), 1, stretched).transpose(1, 2, 0))
    axis.set_title(title)


def show_classes(
    axis: Axes, codes: np.ndarray, scheme: ClassScheme, title: str, *, pale: bool = False
) -> None:
    """Show class codes (y, x) in the classes' colours."""
    bounds = [*(code - 0.5 for code in scheme.codes), scheme.codes[-1] + 0.5]
    colours = ListedColormap([category.color for category in scheme.categories])
    axis.imshow(
        np.ma.masked_equal(codes, 0),
        cmap=colours,
        norm=BoundaryNorm(bounds, len(scheme)),
        interpolation="nearest",
        alpha=0.45 if pale else 1.0,
    )
    axis.set_title(title)


def show_dissimilarity(axis: Axes, values: np.ndarray, figure: Figure | None = None) -> None:
    """Show the distance to the training spectra; white at 1."""
    seen = axis.imshow(values, cmap="RdBu_r", vmin=0, vmax=2)
    axis.set_title("dissimilarity")
    if figure is None:
        axis.set_title("dissimilarity: red above 1")
        return
    bar = figure.colorbar(seen, ax=axis, orientation="horizontal", pad=0.03, ticks=[0, 1, 2])
    bar.set_ticklabels(["known", "1", "unknown"])


def legend(figure: Figure, scheme: ClassScheme, *more: Patch, columns: int = 8) -> None:
    """Name the classes below the panels."""
    patches = [Patch(color=one.color, label=one.name) for one in scheme.categories]
    figure.legend(handles=[*patches, *more], loc="outside lower center", ncols=columns)


def box(top: float, left: float, side: float, colour: str) -> Rectangle:
    """Return the outline of a square of pixels."""
    return Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=colour, linewidth=2)


def quiet() -> Terminal:
    """Return a terminal that tells results and warnings only."""
    return Terminal(quiet=True)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with few colours."""
    figure.savefig(path, dpi=130, bbox_inches="tight", pad_inches=0.08)
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
