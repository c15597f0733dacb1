"""What a scene file holds."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.cube import WindowReader, scale_offset, valid_pixels, wavelengths_of
from hsi_pipeline.scene import cube_of, open_source
from hsi_pipeline.scene.quality import flag_shares
from hsi_pipeline.scene.source import SceneSource

_SAMPLES = 16  # windows that quick statistics read
_SIDE = 64


def info(
    scene: str | os.PathLike[str],
    *,
    mask: str = "none",
    pixel_coordinates: bool = False,
    bands: bool = False,
    terminal: Terminal | None = None,
) -> None:
    """Show grid, CRS, bands, bad bands, nodata share and quick statistics of a scene.

    Nodata and statistics come from up to 16 windows spread over the scene, so that it takes no
    longer on a large one.

    Args:
        scene: Scene file.
        mask: Flags that count as nodata; shares of all flags are shown anyway.
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
    _show_statistics(terminal, cube, bands)


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
        shares = flag_shares(source.quality, source.quality.flags)
        told = ", ".join(
            f"{name.replace('_', ' ')} {shares[name]:.1%}" for name in source.quality.flags
        )
        terminal.show(f"quality   {told}")
    if attrs.get("advice"):
        terminal.show(f"layout    {attrs['advice']}")


def _show_spectrum(terminal: Terminal, cube: xr.DataArray) -> None:
    found = wavelengths_of(cube)
    if found is None:
        terminal.show("spectrum  no wavelengths in the file")
    else:
        centers = np.array(found.center_nm)
        order = "ascending" if (np.diff(centers) > 0).all() else "not ascending (kept as stored)"
        terminal.show(f"spectrum  {centers.min():.2f} to {centers.max():.2f} nm, {order}")
    bad = cube["band"].values[~cube["good"].values]
    terminal.show(f"bad bands {len(bad)}" + (f": {_ranges(bad)}" if len(bad) else ""))


def _show_statistics(terminal: Terminal, cube: xr.DataArray, every_band: bool) -> None:
    values, valid_share = _sample(cube)
    terminal.show(f"nodata    {1 - valid_share:.1%} of the sampled pixels")
    if not values.size:
        terminal.show("statistics: no valid pixel was sampled")
        return
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
    terminal.table(f"Reflectance, {values.shape[1]} sampled pixels{note}", columns, rows)


def _sample(cube: xr.DataArray) -> tuple[np.ndarray, float]:
    """Return reflectance (band, pixel) of valid pixels in windows over the scene, and their share.

    Bands marked bad may be nodata everywhere and do not make a pixel invalid.
    """
    good = np.flatnonzero(cube["good"].values)
    good = good if good.size else np.arange(cube.sizes["band"])
    reader = WindowReader(cube.data, tuple(range(cube.sizes["band"])))
    scale, offset = scale_offset(cube)
    per_axis = round(_SAMPLES**0.5)
    found, seen, valid_count = [], 0, 0
    for row in _spread(cube.sizes["y"], per_axis):
        for column in _spread(cube.sizes["x"], per_axis):
            raw = reader(slice(row, row + _SIDE), slice(column, column + _SIDE))
            valid = valid_pixels(raw[good], cube.attrs["nodata"])
            seen += valid.size
            valid_count += int(valid.sum())
            found.append(raw[:, valid] * scale[:, None] + offset[:, None])
    return np.concatenate(found, axis=1), valid_count / seen


def _spread(size: int, count: int) -> list[int]:
    """Return up to `count` distinct window starts that do not overlap more than they must."""
    last = max(size - _SIDE, 0)
    return sorted(
        {round(i * last / max(count - 1, 1)) for i in range(min(count, 1 + last // _SIDE + 1))}
    )


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
