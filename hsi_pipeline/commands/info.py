"""What a scene file holds."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

from hsi_pipeline.commands.sampling import sample_reflectance
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import wavelengths_of
from hsi_pipeline.scene import cube_of, open_source
from hsi_pipeline.scene.quality import flag_shares
from hsi_pipeline.scene.source import SceneSource

_LARGEST = 20.0  # as reflectance: a hundred times and more what there is
_MOST_FLAGS = 2e8  # pixels whose flags are counted


def info(
    scene: str | os.PathLike[str],
    *,
    mask: str = "default",
    pixel_coordinates: bool = False,
    bands: bool = False,
    terminal: Terminal | None = None,
) -> None:
    """Show grid, CRS, bands, bad bands, nodata share and quick statistics of a scene.

    Nodata and statistics come from up to 16 windows spread over the scene, so that it takes no
    longer on a large one.

    Args:
        scene: Scene file.
        mask: Flags that count as nodata, as in `classify`; shares of all flags are shown anyway.
        pixel_coordinates: Accept a scene without georeference.
        bands: Whether to list every band.
        terminal: Where to show it.

    Raises:
        InputError: The scene cannot be opened.
    """
    terminal = terminal or Terminal()
    source = open_source(scene, pixel_coordinates=pixel_coordinates, mask=mask)
    cube = cube_of(source)
    grid = source.grid
    a = grid.affine
    terminal.show(f"scene     {scene}")
    _show_product(terminal, source)
    terminal.show(
        f"size      {grid.shape[0]} rows x {grid.shape[1]} columns x {cube.sizes['band']} bands, "
        f"{cube.dtype}, {cube.nbytes / 1e6:.1f} MB in memory"
    )
    terminal.show(f"CRS       {_crs_name(grid.crs)}")
    rotated = " (rotated)" if a.b or a.d else ""
    terminal.show(
        f"grid      origin {a.c:.10g}, {a.f:.10g}; pixel {a.a:.10g} x {-a.e:.10g}{rotated}"
    )
    terminal.show(
        f"values    scale {_one(cube, 'scale')}, offset {_one(cube, 'offset')}, "
        f"nodata {cube.attrs['nodata']}"
    )
    _show_spectrum(terminal, cube)
    valid_share = _show_statistics(terminal, cube, bands)
    _note(terminal, source, cube, valid_share)


def _note(terminal: Terminal, source: SceneSource, cube: xr.DataArray, valid_share: float) -> None:
    """Note what the scene holds, for programs."""
    told = ("scene_id", "sensor", "level", "quantity", "acquired", "cloud_share", "mask", "advice")
    grid = source.grid
    terminal.made(
        "info",
        (),
        **{name: source.attrs.get(name) for name in told},
        rows=grid.shape[0],
        columns=grid.shape[1],
        bands=cube.sizes["band"],
        dtype=str(cube.dtype),
        crs=grid.crs and (f"EPSG:{grid.crs.epsg}" if grid.crs.epsg else grid.crs.to_wkt()),
        transform=tuple(grid.affine)[:6],
        wavelength_nm=cube["wavelength"].values,
        fwhm_nm=cube["fwhm"].values,
        bad_bands=cube["band"].values[~cube["good"].values],
        sampled_nodata_share=1 - valid_share,
    )


def _show_product(terminal: Terminal, source: SceneSource) -> None:
    """Say what the product tells of itself: sensor, level, time, clouds, layout."""
    attrs = source.attrs
    if attrs.get("sensor"):
        kind = " ".join(str(attrs[key]) for key in ("level", "quantity") if attrs.get(key))
        terminal.show(f"sensor    {attrs['sensor']} {kind}".rstrip())
    if attrs.get("acquired"):
        terminal.show(f"acquired  {attrs['acquired']}")
    if attrs.get("cloud_share") is not None:
        terminal.show(f"clouds    {attrs['cloud_share']:.1%}, as the product says")
    if source.quality is not None:
        shares = flag_shares(source.quality, source.quality.flags, most=_MOST_FLAGS)
        told = ", ".join(
            f"{name.replace('_', ' ')} {shares[name]:.1%}" for name in source.quality.flags
        )
        terminal.show(f"quality   {told}")
        masked = attrs.get("mask", "nothing").replace("_", " ")
        terminal.show(f"masked    {masked}: nodata here and in maps; --mask none takes all")
    if attrs.get("advice"):
        terminal.show(f"layout    {attrs['advice']}")


def _show_spectrum(terminal: Terminal, cube: xr.DataArray) -> None:
    found = wavelengths_of(cube)
    if found is None:
        terminal.show("spectrum  no wavelengths in the file: models that know theirs cannot map it")
    else:
        centers = np.array(found.center_nm)
        order = "ascending" if (np.diff(centers) > 0).all() else "not ascending (kept as stored)"
        terminal.show(f"spectrum  {centers.min():.2f} to {centers.max():.2f} nm, {order}")
    bad = cube["band"].values[~cube["good"].values]
    terminal.show(f"bad bands {len(bad)}" + (f": {_ranges(bad)}" if len(bad) else ""))


def _show_statistics(terminal: Terminal, cube: xr.DataArray, every_band: bool) -> float:
    """Show statistics of sampled pixels, and return the share of valid ones."""
    values, valid_share = sample_reflectance(cube)
    terminal.show(f"nodata    {1 - valid_share:.1%} of the sampled pixels")
    if not values.size:
        terminal.show(
            "statistics: no pixel was sampled that has a value in every band; bands without any "
            "value are to be marked bad (bbl)"
        )
        return valid_share
    count = cube.sizes["band"]
    chosen = range(count) if every_band else sorted({*range(0, count, max(count // 12, 1))})
    rows = [
        (
            str(cube["band"].values[i]),
            "-"
            if np.isnan(cube["wavelength"].values[i])
            else f"{cube['wavelength'].values[i]:.2f}",
            "-" if np.isnan(cube["fwhm"].values[i]) else f"{cube['fwhm'].values[i]:.2f}",
            "yes" if cube["good"].values[i] else "bad",
            *(f"{f(values[i]):.4g}" for f in (np.min, np.mean, np.std, np.max)),
        )
        for i in chosen
    ]
    columns = ("band", "nm", "fwhm", "good", "min", "mean", "std", "max")
    note = "" if every_band else f"; {len(rows)} of {count} bands, --bands shows all"
    quantity = str(cube.attrs.get("quantity", "reflectance")).capitalize()
    unit = cube.attrs.get("unit", "1")
    title = quantity if unit == "1" else f"{quantity} in {unit}"
    most = cube.sizes["y"] * cube.sizes["x"]
    terminal.table(f"{title}, {min(values.shape[1], most)} sampled pixels{note}", columns, rows)
    if quantity == "Reflectance" and float(np.median(values.max(0))) > _LARGEST:
        terminal.warn(
            f"values reach {values.max():.0f}, reflectance is 0 to about 1: the scale lacks "
            "(gdal_edit.py -scale 0.0001 -offset 0 sets it in a GeoTIFF), or it is another quantity"
        )
    return valid_share


def _ranges(numbers: np.ndarray) -> str:
    """Write ascending numbers as `1-3, 7`."""
    parts: list[list[int]] = []
    for number in map(int, numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _one(cube: xr.DataArray, key: str) -> str:
    value = cube.attrs[key]
    return f"{value:g}" if isinstance(value, float) else f"{len(value)} values, one per band"


def _crs_name(crs: object) -> str:
    if crs is None:
        return "none (pixel coordinates)"
    epsg = getattr(crs, "epsg", None)
    return f"EPSG:{epsg}" if epsg else str(crs)[:80]
