"""Class map -> cloud-optimised GeoTIFFs with colours, names and a QGIS style, and back."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import dask.array as da
import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from hsi_pipeline.classes import (
    UNLABELLED,
    ClassScheme,
    scheme_from_attrs,
    scheme_to_attrs,
)
from hsi_pipeline.cube import grid_of, pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish.foreign import check_codes, find_scheme
from hsi_pipeline.publish.style import number_qml, raster_qml, raster_sld
from hsi_pipeline.publish.zarr import NUMBERS, PROBABILITY_STEPS, open_store

_TILE = 512
_CHUNK = 2048
_COG = {
    "driver": "COG",
    "compress": "DEFLATE",
    "blocksize": _TILE,
    "bigtiff": "IF_SAFER",
    "num_threads": "ALL_CPUS",
}


def write_cog(store: Path, path: Path) -> None:
    """Write a finished Zarr store as GeoTIFFs.

    Chunks always go to a Zarr store first: one GeoTIFF cannot be written by the processes of a Dask
    cluster, nor half of it be kept, and GDAL's COG driver copies from a finished raster anyway.

    Args:
        store: Class map as `publish.zarr` stores it.
        path: The class map's file. Beside it, with its stem as NAME: `NAME_confidence.tif`
            and the like, each with its `.qml`, `NAME_probability.tif` (254 = 1.0),
            `NAME.tif.aux.xml` (category names), `NAME.qml`, `NAME.sld`.
    """
    stored = open_store(store, raw=True)
    grid = grid_of(stored)
    scheme = scheme_from_attrs(stored["class"].attrs)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, _pixel_grids_allowed():
        for name in (*NUMBERS, "probability", "class"):
            if name not in stored:
                continue
            plain = Path(folder) / f"{name}.tif"
            _write_plain(stored[name], plain, grid, scheme, stored.attrs)
            target = path if name == "class" else _beside(path, name)
            # the most frequent class of 2 x 2 pixels, the mean of numbers
            resampling = "MODE" if name == "class" else "AVERAGE"
            predictor = "YES" if name in NUMBERS else "NO"
            rasterio.shutil.copy(
                plain, target, overview_resampling=resampling, predictor=predictor, **_COG
            )
            plain.unlink()
            if name in NUMBERS:
                target.with_suffix(".qml").write_text(number_qml(name), encoding="utf-8")
    path.with_name(f"{path.name}.aux.xml").write_text(_category_names(scheme), encoding="utf-8")
    path.with_suffix(".qml").write_text(raster_qml(scheme), encoding="utf-8")
    path.with_suffix(".sld").write_text(raster_sld(scheme, path.stem), encoding="utf-8")


def open_raster(path: Path, say: Callable[[str], None]) -> xr.Dataset:
    """Open a raster of class codes lazily, with the confidence and probabilities beside it.

    Args:
        path: The raster.
        say: Told what names and colours are made up.

    Raises:
        InputError: The file is no raster of one integer band with codes 0 to 255, or a sibling
            lies on another grid.
    """
    pixels, grid, source = _open_bands(path)
    if len(pixels) != 1:
        raise InputError(
            f"{path}: a class map has one band of whole numbers, this raster {len(pixels)} bands"
            + ("; name one of its subdatasets" if len(pixels) == 0 else "")
        )
    codes = pixels[0]
    check_codes(path, codes)
    if source["mask"] is not None:
        codes = da.where(source["mask"][0] == 0, UNLABELLED, codes)
    if source["nodata"] not in (None, UNLABELLED):
        codes = da.where(codes == source["nodata"], UNLABELLED, codes)
    scheme = _scheme(path, codes, source, say)
    attrs: dict[str, Any] = {**scheme_to_attrs(scheme)}
    variables: dict[str, tuple] = {"class": (("y", "x"), codes.astype(np.uint8), attrs)}
    coords: dict[str, Any] = dict(xr_coords(grid, dims=("y", "x")))
    for name in (*NUMBERS, "probability"):
        file = _beside(path, name)
        if not file.exists():
            continue
        numbers, other, details = _open_bands(file)
        if other != grid:
            raise InputError(f"{file} lies on another grid than {path.name}; remove or rename it")
        if name in NUMBERS:
            variables[name] = (("y", "x"), numbers[0].astype(np.float32), {})
            continue
        steps = da.where(numbers == details["nodata"], np.float32(np.nan), numbers)
        scaled = (steps / np.float32(PROBABILITY_STEPS)).astype(np.float32)
        variables[name] = (("category", "y", "x"), scaled, {})
        coords["category"] = list(details["names"])
    if grid.crs is not None:
        for _, _, mapping in variables.values():
            mapping["grid_mapping"] = "spatial_ref"
    free = {key: _parse(text) for key, text in source["tags"].items() if key != "AREA_OR_POINT"}
    return xr.Dataset(variables, coords=coords, attrs=free)


def _beside(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}_{name}{path.suffix}")


def _write_plain(
    variable: xr.DataArray, path: Path, grid: GeoBox, scheme: ClassScheme, attrs: dict
) -> None:
    """Write a stored variable to a tiled GeoTIFF, a row of tiles at a time."""
    nodata = {"class": UNLABELLED, "probability": 255}.get(str(variable.name), np.nan)
    rows, columns = grid.shape
    bands = variable.sizes.get("category", 1)
    with rasterio.open(
        path, "w", driver="GTiff", dtype=variable.dtype, count=bands, height=rows, width=columns,
        crs=grid.crs and grid.crs.to_wkt(), transform=grid.transform, nodata=nodata, tiled=True,
        blockxsize=_TILE, blockysize=_TILE, bigtiff="IF_SAFER",
    ) as target:  # fmt: skip
        target.update_tags(**{key: _text(value) for key, value in attrs.items()})
        if variable.name == "class":
            tags = scheme_to_attrs(scheme)
            target.update_tags(1, **{key: _text(value) for key, value in tags.items()})
            target.write_colormap(1, _colors(scheme))
        if variable.name == "probability":
            target.descriptions = tuple(str(name) for name in variable["category"].values)
            target.scales = (1 / PROBABILITY_STEPS,) * bands
        for top in range(0, rows, _TILE):
            strip = variable.isel(y=slice(top, top + _TILE)).values.reshape(bands, -1, columns)
            target.write(strip, window=Window(0, top, columns, strip.shape[1]))


def _open_bands(path: Path) -> tuple[da.Array, GeoBox, dict[str, Any]]:
    """Return all bands of a raster lazily (band, y, x), its grid, and what it says of itself."""
    try:
        with _pixel_grids_allowed(), rasterio.open(path) as source:
            placed = source.crs is not None or not source.transform.is_identity
            grid = GeoBox.from_rio(source) if placed else pixel_grid(*source.shape)
            details = {
                "nodata": source.nodata,
                "tags": source.tags(),
                "class_tags": source.tags(1) if source.count else {},
                "names": source.descriptions,
                "colors": _color_table(source),
            }
            # alpha is a mask, and so is what GDAL keeps as one
            count = sum(kind != ColorInterp.alpha for kind in source.colorinterp)
            dtype = np.dtype(source.dtypes[0]) if count else np.dtype(np.uint8)
            is_masked = count and MaskFlags.per_dataset in source.mask_flag_enums[0]
    except RasterioError as error:
        raise InputError(f"{path}: not a raster that can be read ({error})") from error
    details["mask"] = None
    if is_masked:
        mask = _Bands(str(path), (1, *grid.shape), np.dtype(np.uint8), is_mask=True)
        details["mask"] = da.from_array(
            mask, chunks=(1, _CHUNK, _CHUNK), meta=np.empty((0, 0, 0), np.uint8)
        )
    bands = _Bands(str(path), (count, *grid.shape), dtype)
    # a slice of the array becomes a read of that window and nothing else
    return (
        da.from_array(bands, chunks=(count, _CHUNK, _CHUNK), meta=np.empty((0, 0, 0), dtype)),
        grid,
        details,
    )


@dataclass(frozen=True)
class _Bands:
    """The bands of a raster as an array that reads what is asked of it."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    is_mask: bool = False
    """Whether the pixels are those of the mask of the first band: 0 where it holds nothing."""
    ndim = 3

    def __getitem__(self, key: tuple[slice | int, ...]) -> np.ndarray:
        """Read a window with a handle of its own: handles are shared by no threads."""
        bands, rows, columns = (
            range(*part.indices(size)) if isinstance(part, slice) else range(part, part + 1)
            for part, size in zip(key, self.shape, strict=True)
        )
        window = Window(columns.start, rows.start, len(columns), len(rows))
        with _pixel_grids_allowed(), rasterio.open(self.path) as source:
            read = source.read_masks if self.is_mask else source.read
            pixels = read([band + 1 for band in bands], window=window)
        return pixels[tuple(slice(None) if isinstance(part, slice) else 0 for part in key)]


@contextmanager
def _pixel_grids_allowed() -> Iterator[None]:
    """Silence rasterio about rasters without georeference: scenes in pixel coordinates are fine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _scheme(
    path: Path, codes: da.Array, source: dict[str, Any], say: Callable[[str], None]
) -> ClassScheme:
    """Return the classes of a raster: as `write_cog` noted them, or those found in its pixels."""
    tags = {key: _parse(text) for key, text in source["class_tags"].items()}
    if "flag_values" not in tags:
        tags = _copied_from_zarr(source["tags"])
    if "flag_values" in tags:
        try:
            return scheme_from_attrs(tags)
        except InputError as error:
            raise InputError(
                f"{path}: {error}; correct or remove its tag flag_values, or its .aux.xml"
            ) from error
    colors = {
        code: f"#{red:02x}{green:02x}{blue:02x}"
        for code, (red, green, blue, alpha) in source["colors"].items()
        if alpha
    }
    names = {code: name for code, name in enumerate(_read_category_names(path)) if name}
    return find_scheme(path, codes, names, colors, say)


def _color_table(source: rasterio.DatasetReader) -> dict[int, tuple[int, int, int, int]]:
    """Return the colour table; a palette band may come without one."""
    if ColorInterp.palette not in source.colorinterp:
        return {}
    try:
        return source.colormap(1)
    except ValueError:
        return {}


def _copied_from_zarr(tags: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return classes that GDAL copied from a Zarr array to the whole raster: {1,2} is a list."""
    found = {
        key: [
            _parse(part) for part in tags[key].strip("{}").split("," if "{" in tags[key] else None)
        ]
        for key in ("flag_values", "class_names", "flag_colors")
        if key in tags
    }
    # a comma in a name cannot be told from one between two names
    return found if len({len(listed) for listed in found.values()}) == 1 else {}


def _colors(scheme: ClassScheme) -> dict[int, tuple[int, int, int, int]]:
    """Return the colour table; codes without a class are transparent."""
    table = dict.fromkeys(range(256), (0, 0, 0, 0))
    return table | {category.code: (*category.rgb, 255) for category in scheme.categories}


def _category_names(scheme: ClassScheme) -> str:
    """Return GDAL's side file (PAM) with category names, which rasterio cannot write."""
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = ET.SubElement(band, "CategoryNames")
    by_code = dict(zip(scheme.codes, scheme.names, strict=True))
    for code in range(max(scheme.codes) + 1):
        ET.SubElement(names, "Category").text = by_code.get(code, "")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _read_category_names(path: Path) -> list[str]:
    """Return the category names of any raster by code, which only GDAL's VRT tells rasterio."""
    with tempfile.TemporaryDirectory() as folder:
        description = Path(folder) / "names.vrt"
        with _pixel_grids_allowed():
            rasterio.shutil.copy(path, description, driver="VRT")
        found = ET.parse(description).iterfind("VRTRasterBand/CategoryNames/Category")
        return [(category.text or "").strip() for category in found]


def _text(value: Any) -> str:
    """Write a value as a GeoTIFF tag: text as it is, all else (and text that looks so) as JSON."""
    if isinstance(value, str) and _parse(value) is value:
        return value
    return json.dumps(value, default=lambda array: array.tolist(), ensure_ascii=False)


def _parse(text: str) -> Any:
    """Read what `_text` wrote."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
