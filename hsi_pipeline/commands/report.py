"""Class map, and what is known of it, to a report that people look at."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr

from hsi_pipeline.checkpoint import checkpoint_hash
from hsi_pipeline.classes import ClassScheme, scheme_from_attrs
from hsi_pipeline.commands.report_inputs import (
    check_areas,
    open_cube,
    read_assessment,
    read_card,
    read_polygons,
)
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import grid_of, wavelengths_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.figures import Spectrum, frame_of
from hsi_pipeline.overview import (
    MapOverview,
    bands_near,
    class_spectra,
    north_up,
    overview_of,
    pixel_m,
    read_bands,
    stretched,
)
from hsi_pipeline.publish import open_class_map
from hsi_pipeline.publish.report import (
    ClassSpectra,
    FileFacts,
    Picture,
    Report,
    check_figures_folder,
    check_report_target,
    older_figures,
    write_figures,
    write_report,
)
from hsi_pipeline.scene.files import is_remote, shown

_MOST_SPECTRA = 2000
_PICTURES = {
    "true_color": ("True colour", (650.0, 560.0, 470.0)),
    "false_color": ("False colour", (860.0, 650.0, 560.0)),
}
_OTHER_PICTURE = ("other_colors", "Other colours")


def report(
    class_map: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scene: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    polygons: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    assessment: str | os.PathLike[str] | None = None,
    figures: str | os.PathLike[str] | None = None,
    title: str | None = None,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> list[Path]:
    """Write a report of a class map as one HTML file, its numbers as JSON beside it.

    What is not given the report does without, and says so.

    Args:
        class_map: `.zarr` or raster file.
        out: Target, `.html`; the numbers go to a `.json` of the same stem.
        scene: The scene that was classified: pictures and spectra.
        model: Model that made the map: calibration and training.
        polygons: Vector file of polygons, in any CRS, to be shown with their attributes.
        layer: Layer of `polygons`; None: the only one with geometry.
        assessment: JSON file that `assess` wrote.
        figures: Folder for figures as PNG; None writes none.
        title: Heading; None makes one of the scene's name.
        overwrite: Replace existing files.
        terminal: Where to report.

    Returns:
        The files written, the report first.

    Raises:
        InputError: A file is missing, cannot be read, or does not belong to the map.
    """
    terminal = terminal or Terminal(quiet=True)
    check_report_target(out, overwrite=overwrite)
    if figures is not None:
        check_figures_folder(figures, overwrite=overwrite)
    if layer is not None and polygons is None:
        raise InputError("--layer names a layer of --polygons; give that too")
    dataset = north_up(open_class_map(class_map, say=terminal.say))
    scheme, grid = scheme_from_attrs(dataset["class"].attrs), grid_of(dataset)
    warnings: list[str] = []
    assessed = None if assessment is None else read_assessment(assessment, scheme, warnings)
    card = None if model is None else read_card(model, dataset, warnings)
    outlines = None if polygons is None else read_polygons(polygons, layer, grid)
    cube = None if scene is None else open_cube(scene, class_map, dataset, warnings)
    for warning in warnings:
        terminal.warn(warning)
    with terminal.progress("reading the map") as progress:
        overview = overview_of(dataset, progress=progress)
    if assessment is not None and assessed is not None and grid.crs is not None:
        check_areas(assessment, assessed, scheme, overview.areas_m2)
    if not overview.classified:
        terminal.warn("the map holds no classified pixel")
    content = Report(
        title=title or _title(dataset, class_map),
        overview=overview,
        scheme=scheme,
        attrs=dict(dataset.attrs),
        frame=frame_of(grid, overview.step, overview.codes.shape, pixel_m(grid)),
        pixel_m=pixel_m(grid),
        files=_facts(class_map, scene, model, polygons, assessment),
        pictures=() if cube is None else _pictures(cube, overview),
        has_scene=cube is not None,
        spectra=None if cube is None else _spectra(cube, overview, scheme),
        polygons=outlines,
        assessment=assessed,
        card=card,
        warnings=tuple(warnings),
    )
    written = write_report(out, content, overwrite=overwrite)
    terminal.say(f"report in {out} ({Path(out).stat().st_size / 1e6:.1f} MB)")
    if figures is not None:
        drawn = write_figures(figures, content, overwrite=overwrite)
        terminal.say(f"{len(drawn)} figures in {figures}")
        for old in older_figures(figures, drawn):
            terminal.warn(f"{old} is of an earlier report; it was not drawn now")
        written += drawn
    terminal.made("report", written)
    return written


def _title(dataset: xr.Dataset, class_map: str | os.PathLike[str]) -> str:
    scene = dataset.attrs.get("scene_id")
    return f"Land cover of {scene}" if scene else f"Land cover map {Path(class_map).stem}"


def _pictures(cube: xr.DataArray, overview: MapOverview) -> tuple[Picture, ...]:
    """Make the pictures that the bands of a scene allow."""
    chosen = {
        name: (title, bands)
        for name, (title, wanted) in _PICTURES.items()
        if (bands := bands_near(cube, wanted)) is not None
    }
    if not chosen:
        good = np.flatnonzero(cube["good"].values)
        if not good.size:
            return ()
        spread = good[np.linspace(len(good) - 1, 0, 5).round().astype(int)[1:4]]
        chosen = {_OTHER_PICTURE[0]: (_OTHER_PICTURE[1], tuple(spread.tolist()))}
    every = sorted({band for _, bands in chosen.values() for band in bands})
    values = dict(zip(every, read_bands(cube, every, overview), strict=True))
    return tuple(
        Picture(
            name=name,
            title=title,
            told=_bands_text(cube, bands),
            pixels=stretched(np.stack([values[band] for band in bands])),
        )
        for name, (title, bands) in chosen.items()
    )


def _bands_text(cube: xr.DataArray, bands: tuple[int, ...]) -> str:
    places = cube["wavelength"].values[list(bands)]
    names = [
        f"band {band + 1}" if np.isnan(nm) else f"{nm:.0f} nm"
        for band, nm in zip(bands, places, strict=True)
    ]
    return f"Red, green and blue are {names[0]}, {names[1]} and {names[2]}."


def _spectra(cube: xr.DataArray, overview: MapOverview, scheme: ClassScheme) -> ClassSpectra | None:
    """Summarise spectra of each class, without bands marked bad."""
    found = class_spectra(cube, overview, most=_MOST_SPECTRA)
    if not found:
        return None
    good = cube["good"].values
    spectra = []
    for category in scheme.categories:
        if category.code not in found:
            continue
        values = np.where(good, found[category.code], np.nan)
        known = np.isfinite(values).any(axis=0)
        low, mean, high = np.full((3, len(good)), np.nan)
        mean[known] = np.nanmean(values[:, known], axis=0)
        low[known], high[known] = np.nanpercentile(values[:, known], (10, 90), axis=0)
        spectra.append(Spectrum(category, mean, low, high, len(values)))
    in_nm = wavelengths_of(cube) is not None
    unit = cube.attrs.get("unit", "1")
    quantity = str(cube.attrs.get("quantity", "reflectance"))
    return ClassSpectra(
        classes=tuple(spectra),
        positions=cube["wavelength"].values if in_nm else cube["band"].values.astype(float),
        in_nm=in_nm,
        quantity=quantity if unit == "1" else f"{quantity} in {unit}",
        most=_MOST_SPECTRA,
    )


def _facts(
    class_map: str | os.PathLike[str],
    scene: str | os.PathLike[str] | None,
    model: str | os.PathLike[str] | None,
    polygons: str | os.PathLike[str] | None,
    assessment: str | os.PathLike[str] | None,
) -> tuple[FileFacts, ...]:
    """Return name, size and, of the model, SHA-256 of the files."""
    given = {
        "map": class_map, "scene": scene, "model": model, "polygons": polygons,
        "assessment": assessment,
    }  # fmt: skip
    return tuple(
        FileFacts(
            role=role,
            name=Path(shown(os.fspath(path))).name,
            size=_size(os.fspath(path)),
            sha256=checkpoint_hash(path) if role == "model" else None,
        )
        for role, path in given.items()
        if path is not None
    )


def _size(path: str) -> int | None:
    """Return the bytes of a file, or of all in a folder; None for an address."""
    if is_remote(path) or not os.path.exists(path):
        return None
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
