"""Opening and reading every format: seconds and memory to open 20 GB, a window beside plain reads.

    python benchmarks/sensors/reading.py --open
    python benchmarks/sensors/reading.py --read --rounds 3

Products are written by `tests/products` with as many bands as the sensor has; their rasters and
datasets are then enlarged, without pixels for `--open` and with random ones for `--read`. Where no
document tells how a product is stored, chunks are those that h5py chooses and tiles are GDAL's.

`--open` opens each in a fresh process; memory is the process's peak. `--read` reads 512 x 512
pixels of all bands off the grid of chunks, alternately by the project and by the library alone:
rasterio, h5py or zarr, of EMIT the lookup table and the box of the swath that the window needs.
"Turned" is the plain read with what it gave copied to (band, y, x), as the project's windows are.
Before every reading all handles are dropped, and with them all decoded blocks; datasets of HDF5 are
opened anew, with an empty chunk cache. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import h5netcdf
import h5py
import numpy as np
import rasterio
import zarr
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.windows import Window
from zarr.storage import LocalStore

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from products import cf, desis, emit, enmap, envi, neon, prisma, tanager

from hsi_pipeline.publish import cube_zarr
from hsi_pipeline.scene import envi as envi_reader
from hsi_pipeline.scene import geotiff, hdf5, open_source
from hsi_pipeline.scene.cf import zarr_store
from hsi_pipeline.scene.lookup import LookupPixels
from hsi_pipeline.scene.source import SceneSource

warnings.filterwarnings("ignore")

BYTES = 20e9  # of a scene to open
SIDE = 1024  # of a scene to read
ROWS, COLUMNS = slice(200, 712), slice(300, 812)
BANDS = 224  # of scenes that are no sensor's own
OPENING = """
import json, sys, time
def peak_mb():
    status = open("/proc/self/status", encoding="ascii").read()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000
begun = time.perf_counter()
from hsi_pipeline.scene import open_scene
ready, before = time.perf_counter(), peak_mb()
cube = open_scene(sys.argv[1])
opened = time.perf_counter() - ready
print(json.dumps([opened, peak_mb(), ready - begun, before, cube.nbytes / 1e9]))
"""


@dataclass(frozen=True)
class Size:
    """How large a product is made, and whether it gets pixels."""

    rows: int
    columns: int
    full: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        return self.rows, self.columns


def reflectance(bands: int, rows: int, columns: int, seed: int) -> np.ndarray:
    """Return random spectra float32 (band, y, x), 0.01 to 0.6, that compress as scenes do."""
    random = np.random.default_rng(seed)
    curve = 0.05 + 0.4 * random.random((bands, 1, 1), np.float32)
    bright = 0.5 + 0.6 * random.random((1, rows, columns), np.float32)
    noise = random.random((bands, rows, columns), np.float32)
    noise *= 0.01
    noise += curve * bright
    return noise


def slabs(size: Size, height: int = 128) -> Iterator[tuple[int, int]]:
    """Yield the first row and the number of rows of each part that is made at once."""
    for top in range(0, size.rows if size.full else 0, height):
        yield top, min(height, size.rows - top)


def fill(
    write: Callable[[int, int, np.ndarray], None], bands: int, size: Size, factor: float, dtype: Any
) -> None:
    """Give digital numbers (band, y, x) to a function, slab after slab."""
    for top, rows in slabs(size):
        values = reflectance(bands, rows, size.columns, top)
        values *= factor
        write(top, rows, values.astype(dtype))


# Products of DLR: their writers are called as they are, but rasters become larger on their way.


def large_raster(
    path: Path, array: np.ndarray, *, module: ModuleType, size: Size, **profile: Any
) -> None:
    """Write a raster of the bands and type of a small one."""
    bands, dtype = array.shape[0], array.dtype
    spectral = "SPECTRAL" in path.name
    if module is enmap and spectral and profile["driver"] != "ENVI":
        # as DLR serves it: github.com/OSGeo/gdal/issues/10859
        tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512}
        profile |= {"driver": "GTiff", "interleave": "band", "compress": "deflate", **tiles}
    profile = {"driver": "GTiff", "crs": module.CRS, "transform": module.TRANSFORM} | profile
    if profile["driver"] == "GTiff":
        profile |= {"sparse_ok": True, "bigtiff": "yes", "num_threads": 2}
    shape = {"count": bands, "height": size.rows, "width": size.columns, "dtype": dtype}
    with rasterio.open(path, "w", **shape, **profile) as raster:
        if spectral and profile["driver"] == "GTiff":
            fill_raster(raster, size)
    if profile["driver"] == "ENVI":
        fill_envi(path, (bands, *size.shape), dtype, profile["interleave"], size)


def fill_raster(raster: Any, size: Size) -> None:
    """Write digital numbers, by whole tiles."""
    for top, rows in slabs(size, 512):
        values = reflectance(raster.count, rows, size.columns, top)
        values *= 10_000
        raster.write(values.astype(np.int16), window=Window(0, top, size.columns, rows))


def fill_envi(path: Path, shape: tuple[int, int, int], dtype: Any, order: str, size: Size) -> None:
    """Make an image as long as it must be, and write its pixels."""
    path.touch()
    os.truncate(path, math.prod(shape) * np.dtype(dtype).itemsize)
    if not size.full:
        return
    axes = envi.STORED[order]
    image = np.memmap(path, dtype, "r+", shape=tuple(shape[axis] for axis in axes))
    cube = image.transpose(np.argsort(axes))

    def write(top: int, rows: int, values: np.ndarray) -> None:
        cube[:, top : top + rows] = values

    fill(write, shape[0], size, 10_000, dtype)


def dlr_product(
    module: ModuleType, folder: Path, size: Size, changed: dict[str, Any], **options: Any
) -> Any:
    """Write a product of EnMAP or DESIS."""

    def at_size(function: Callable[..., str]) -> Callable[..., str]:
        def call(*args: Any) -> str:
            with patch.object(module, "SHAPE", (module.SHAPE[0], *size.shape)):
                return function(*args)

        return call

    changed = changed | {
        name: at_size(getattr(module, name))
        for name in ("metadata_xml", "header")
        if hasattr(module, name)
    }
    changed["write_raster"] = partial(large_raster, module=module, size=size)
    with patch.multiple(module, **changed):
        return module.write_product(folder, **options)


def enmap_product(folder: Path, size: Size, image: str = "SPECTRAL_IMAGE_COG.tiff") -> Path:
    """Write EnMAP L2A."""
    vnir, swir = np.linspace(420, 993, 91).round(2), np.linspace(902, 2440, 133).round(2)
    changed = {
        "SHAPE": (BANDS, 23, 17),
        "VNIR": tuple((float(nm), 7.5) for nm in vnir),
        "SWIR": tuple((float(nm), 10.5) for nm in swir),
    }
    order = tuple(range(BANDS))
    return dlr_product(enmap, folder, size, changed, image=image, order=order).path


def enmap_zip(folder: Path, size: Size) -> Path:
    """Write EnMAP L2A in a zip that compresses nothing twice."""
    product = enmap_product(folder, size, "SPECTRAL_IMAGE.TIF")
    example = enmap.Example(
        path=product, reader="", reflectance=np.empty(0), grid=None, center_nm=(), fwhm_nm=()
    )
    return enmap.pack(example, folder / f"{product.name}.zip").path


def desis_product(folder: Path, size: Size) -> Path:
    """Write DESIS L2A."""
    centers = np.linspace(401.9, 999.5, 235).round(2).tolist()
    changed = {"SHAPE": (235, 19, 26), "CENTERS": centers, "WIDTHS": [3.5] * 235}
    return dlr_product(desis, folder, size, changed).path


# Scenes of no sensor's own.


def envi_image(folder: Path, size: Size, interleave: str) -> Path:
    """Write an ENVI image, int16."""
    nm, shape = np.linspace(420, 2440, BANDS).round(2), (BANDS, *size.shape)
    path = folder / f"scene.{interleave}"
    with patch.multiple(envi, NM=nm, FWHM=[8.0] * BANDS):
        text = envi.header_text(
            shape, "int16", interleave, big=False, data_ignore_value=-9999,
            reflectance_scale_factor=10000,
            map_info="{UTM, 1, 1, 265000, 6210000, 5, 5, 34, South, WGS-84, units=Meters}",
        )  # fmt: skip
    path.with_suffix(".hdr").write_text(text)
    fill_envi(path, shape, np.int16, interleave, size)
    return path


def tiled_geotiff(folder: Path, size: Size) -> Path:
    """Write a GeoTIFF of 256 x 256 tiles with the bands together, as GDAL does by itself."""
    path = folder / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=BANDS, height=size.rows, width=size.columns,
        dtype="int16", crs="EPSG:32633", transform=cf.UTM.affine, nodata=-9999, tiled=True,
        compress="deflate", sparse_ok=True, bigtiff="yes", num_threads=2,
    ) as raster:  # fmt: skip
        raster.scales = [1e-4] * BANDS
        for band, nm in enumerate(np.linspace(420, 2440, BANDS).round(2), start=1):
            raster.update_tags(band, wavelength=nm, wavelength_units="Nanometers", fwhm=8)
        fill_raster(raster, size)
    return path


def zarr_store_of(folder: Path, size: Size) -> Path:
    """Write a store as `hsi-pipeline ingest` does; without pixels it has no chunks."""
    source = open_source(envi_image(folder, size, "bil"))
    path = folder / "ingested.zarr"
    if size.full:
        return cube_zarr.write_cube(source, path)
    cube_zarr._create(source, path, cube_zarr.CHUNK, cube_zarr.window_of(source, cube_zarr.CHUNK))
    zarr.consolidate_metadata(LocalStore(path), zarr_format=2)
    return path


def netcdf(folder: Path, size: Size) -> Path:
    """Write CF netCDF (band, y, x), float32, deflated."""
    path = folder / "scene.nc"
    grid = GeoBox(size.shape, cf.UTM.affine, cf.UTM.crs)
    nm = np.linspace(420, 2440, BANDS).round(2)
    nothing = np.broadcast_to(np.float32(0), (BANDS, *size.shape))
    with patch.multiple(cf, BANDS=BANDS, ROWS=size.rows, COLUMNS=size.columns, NM=nm):
        dataset = cf.cube(("band", "y", "x"), nothing, grid)
    cube = dataset["reflectance"]
    dataset.drop_vars("reflectance").to_netcdf(path, engine="h5netcdf")
    with h5netcdf.File(path, "a") as file:
        variable = file.create_variable(
            "reflectance", cube.dims, "f4", fillvalue=np.float32(np.nan),
            chunks=(32, 128, 128), compression="gzip", compression_opts=4, shuffle=True,
        )  # fmt: skip
        variable.attrs["grid_mapping"] = "crs"
        fill_dataset(variable, "byx", BANDS, size, 1, np.float32)
    return path


# HDF5 products: written small, then their datasets are replaced by larger ones.


def fill_dataset(
    dataset: Any, axes: str, bands: int, size: Size, factor: float, dtype: Any
) -> None:
    """Write digital numbers in the order of a dataset's axes."""

    def write(top: int, rows: int, values: np.ndarray) -> None:
        where = tuple(slice(top, top + rows) if axis == "y" else slice(None) for axis in axes)
        dataset[where] = values.transpose(["byx".index(axis) for axis in axes])

    fill(write, bands, size, factor, dtype)


def enlarge(
    file: h5py.File, name: str, shape: tuple[int, ...], *, fill_time: str = "alloc", **storage: Any
) -> h5py.Dataset:
    """Replace a dataset by a larger one without pixels, with its type and attributes."""
    hidden = ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "_Netcdf4Dimid")
    old = file[name]
    dtype, attrs = old.dtype, {key: v for key, v in old.attrs.items() if key not in hidden}
    del file[name]
    dataset = file.create_dataset(name, shape, dtype, fill_time=fill_time, **storage)
    dataset.attrs.update(attrs)
    return dataset


def prisma_product(folder: Path, size: Size) -> Path:
    """Write PRISMA L2D; beyond the swath, and in a band that came out negative, are zeros."""
    path = folder / f"PRS_L2D_STD_{prisma.START}.he5"
    bands = {"VNIR": 66, "SWIR": 173}
    vnir = (0.0, 0.0, 0.0, *np.linspace(977.4, 406.9, 63).tolist())
    swir = (*np.linspace(2497.1, 943.4, 171).tolist(), 0.0, 0.0)
    lists = {"VNIR_NM": vnir, "VNIR_FWHM": tuple(11.0 * bool(nm) for nm in vnir)}
    lists |= {"SWIR_NM": swir, "SWIR_FWHM": tuple(9.0 * bool(nm) for nm in swir)}
    with patch.multiple(prisma, **lists):
        attrs = prisma.attributes("L2D")
        with patch.multiple(prisma, ROWS=size.rows, COLUMNS=size.columns):
            attrs |= prisma.map_attributes()
        prisma.write(path, "L2D", prisma.counts(), prisma.error_matrices(), attrs)
    swath = "HDFEOS/SWATHS/PRS_L2D_HCO"
    with h5py.File(path, "a") as file:
        for name, count in bands.items():
            shape = (size.rows, count, size.columns)
            fields = f"{swath}/Data Fields/{name}"
            enlarge(file, f"{fields}_PIXEL_L2_ERR_MATRIX", shape)
            cube = enlarge(file, f"{fields}_Cube", shape)
            fill_dataset(cube, "ybx", count, size, 65535, np.uint16)
            for top, rows in slabs(size):
                part = cube[top : top + rows]
                row, column = np.ogrid[top : top + rows, : size.columns]
                outside = row + column < 0.7 * size.rows
                part[np.broadcast_to(outside[:, None], part.shape)] = 0
                part[:, 60, 500:600] = 0
                cube[top : top + rows] = part
        to_degrees = Transformer.from_crs(prisma.EPSG, 4326)
        places = [
            enlarge(file, f"{swath}/Geolocation Fields/{name}", size.shape, fill_time="never")
            for name in ("Latitude", "Longitude")
        ]
        for row in (0, size.rows // 2, size.rows - 1):  # those that are held against the corners
            for column in (0, size.columns // 2, size.columns - 1):
                x, y = prisma.WEST + 30 * (column + 0.5), prisma.NORTH - 30 * (row + 0.5)
                for dataset, value in zip(places, to_degrees.transform(x, y), strict=True):
                    dataset[row, column] = value
    return path


def neon_product(folder: Path, size: Size) -> Path:
    """Write a mosaic tile of NEON's."""
    path = folder / "NEON_D17_SJER_DP3_257000_4112000_bidirectional_reflectance.h5"
    nm, small = np.linspace(383.9, 2510.9, 426).round(4), np.zeros((23, 17, 426), "<i2")
    with patch.multiple(neon, NM=nm, FWHM=[5.9] * 426):
        weather = np.ones((23, 17), "u1")
        neon.write(path, "SJER", small, map_info=neon.MAP_INFO, weather=weather)
    extent = [neon.WEST, neon.WEST + size.columns, neon.NORTH - size.rows, neon.NORTH]
    with h5py.File(path, "a") as file:
        group = file["SJER/Reflectance"]
        for name in ("Haze_Cloud_Water_Map", "Weather_Quality_Indicator"):
            enlarge(file, f"{group.name}/Metadata/Ancillary_Imagery/{name}", size.shape)
        cube = enlarge(
            file, f"{group.name}/Reflectance_Data", (*size.shape, 426), chunks=True,
            compression="gzip",
        )  # fmt: skip
        cube.attrs["Spatial_Extent_meters"] = np.array(extent)
        fill_dataset(cube, "yxb", 426, size, 10_000, np.int16)
    return path


def tanager_product(folder: Path, size: Size) -> Path:
    """Write an ortho scene of Tanager's."""
    path = folder / "20250926_092059_95_4001_ortho_sr_hdf5.h5"
    nm = np.linspace(376.4, 2499, 426).round(2)
    east, south = tanager.WEST + 30 * size.columns, tanager.NORTH - 30 * size.rows
    structure = (
        tanager.STRUCTURE.replace("Band=8", "Band=426")
        .replace("XDim=17", f"XDim={size.columns}")
        .replace("YDim=23", f"YDim={size.rows}")
        .replace("(570810.00,3554760.00)", f"({east:.2f},{south:.2f})")
    )
    changed = {"SHAPE": (426, 23, 17), "NM": nm, "FWHM": [5.5] * 426, "GOOD": [True] * 426}
    with patch.multiple(tanager, STRUCTURE=structure, **changed):
        tanager.write(path, "ortho", "sr")
    fields = "HDFEOS/GRIDS/HYP/Data Fields"
    with h5py.File(path, "a") as file:
        for name in tanager.masks():
            enlarge(file, f"{fields}/{name}", size.shape)
        cube = enlarge(
            file, f"{fields}/surface_reflectance", (426, *size.shape), chunks=True,
            compression="gzip", compression_opts=4,
        )  # fmt: skip
        fill_dataset(cube, "byx", 426, size, 1, np.float32)
    return path


def emit_product(folder: Path, size: Size) -> Path:
    """Write EMIT L2A and its masks, of which a swath lies aslant on the map."""
    path = folder / "EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc"
    mask = folder / "EMIT_L2A_MASK_001_20220903T163129_2224611_012.nc"
    with patch.object(emit, "BANDS", 285):
        small = emit.make_swath()
        emit.write_image(path, small)
        emit.write_mask(mask, small)
    angle = math.radians(12 if size.full else 5)
    cos, sin = math.cos(angle), math.sin(angle)
    left = (size.rows - 1) * sin + 0.5
    width = math.ceil((size.columns - 1) * cos + left) + 2
    height = math.ceil((size.columns - 1) * sin + (size.rows - 1) * cos) + 2
    with h5py.File(mask, "a") as file:
        enlarge(file, "mask", (*size.shape, len(emit.V1_BANDS)))
    with h5py.File(path, "a") as file:
        line, sample = np.ogrid[: size.rows, : size.columns]
        lon = enlarge(file, "location/lon", size.shape)
        lat = enlarge(file, "location/lat", size.shape)
        lon[...] = emit.WEST + emit.PIXEL * (sample * cos - line * sin + left)
        lat[...] = emit.NORTH - emit.PIXEL * (sample * sin + line * cos + 0.5)
        packed = {"chunks": (256, 256), "compression": "gzip", "compression_opts": 4}
        tables = [enlarge(file, f"location/glt_{axis}", (height, width), **packed) for axis in "xy"]
        for top in range(0, height, 256):
            y, x = np.mgrid[top : min(top + 256, height), :width]
            x = x + 0.5 - left
            found = np.rint([x * cos + y * sin, y * cos - x * sin]).astype("i4")
            limits = np.array(size.shape[::-1])[:, None, None]
            empty = ((found < 0) | (found >= limits)).any(0)
            for table, numbers in zip(tables, found + 1, strict=True):
                table[top : top + 256] = np.where(empty, 0, numbers)
        file.attrs["easternmost_longitude"] = emit.WEST + width * emit.PIXEL
        file.attrs["southernmost_latitude"] = emit.NORTH - height * emit.PIXEL
        cube = enlarge(file, "reflectance", (*size.shape, 285))
        fill_dataset(cube, "yxb", 285, size, 1, np.float32)
    return path


@dataclass(frozen=True)
class Case:
    """A format."""

    name: str
    layout: str
    pixel_bytes: int
    write: Callable[[Path, Size], Path]


TILED = "GeoTIFF, tiles of 512, bands apart"
CASES = {
    "enmap": Case("EnMAP L2A", TILED, 448, enmap_product),
    "enmap-bsq": Case(
        "EnMAP L2A", "ENVI BSQ", 448, partial(enmap_product, image="SPECTRAL_IMAGE.BSQ")
    ),
    "enmap-zip": Case("EnMAP L2A in a zip", TILED, 448, enmap_zip),
    "prisma": Case("PRISMA L2D", "HDF5 (y, band, x), contiguous", 478, prisma_product),
    "emit": Case("EMIT L2A", "netCDF (y, x, band), contiguous, lookup table", 1140, emit_product),
    "desis": Case("DESIS L2A", "GeoTIFF, lines with the bands together", 470, desis_product),
    "neon": Case("NEON tile", "HDF5 (y, x, band), deflated chunks", 852, neon_product),
    "tanager": Case("Tanager ortho", "HDF5 (band, y, x), deflated chunks", 1704, tanager_product),
    "netcdf": Case("CF netCDF", "(band, y, x), deflated chunks 32 x 128 x 128", 896, netcdf),
    "zarr": Case("Zarr, ingested", "chunks of 128 with all bands", 448, zarr_store_of),
    "bil": Case("ENVI", "BIL", 448, partial(envi_image, interleave="bil")),
    "bip": Case("ENVI", "BIP", 448, partial(envi_image, interleave="bip")),
    "bsq": Case("ENVI", "BSQ", 448, partial(envi_image, interleave="bsq")),
    "tiff": Case("GeoTIFF", "tiles of 256, bands together", 448, tiled_geotiff),
}


def size_to_open(case: Case) -> Size:
    """Return the size of a scene of 20 GB; EMIT's are 1242 pixels wide."""
    pixels = BYTES / case.pixel_bytes
    columns = 1242 if case.write is emit_product else math.isqrt(int(pixels)) + 1
    return Size(math.ceil(pixels / columns), columns, full=False)


def show_opening(cases: list[Case], rounds: int) -> None:
    """Open scenes of 20 GB and print a table."""
    print(
        f"20 GB to open, a fresh process each, median of {rounds}\n\n| format | layout | GB | "
        "open s | peak MB | imports s | MB after imports |\n| --- | --- | --- | --- | --- | --- "
        "| --- |"
    )
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            path = case.write(Path(folder), size_to_open(case))
            runs = [
                json.loads(
                    subprocess.run(
                        [sys.executable, "-c", OPENING, str(path)],
                        stdout=subprocess.PIPE, check=True,
                    ).stdout
                )
                for _ in range(rounds)
            ]  # fmt: skip
        opened, peak, imports, before, size = (
            statistics.median(column) for column in zip(*runs, strict=True)
        )
        print(
            f"| {case.name} | {case.layout} | {size:.0f} | {opened:.2f} | {peak:.0f} | "
            f"{imports:.1f} | {before:.0f} |",
            flush=True,
        )


def forget() -> None:
    """Drop all handles that readers keep, and with them all decoded blocks."""
    for _, file, *_ in list(hdf5._handles.values()):
        file.close()
    hdf5._handles.clear()
    hdf5._dataset.cache_clear()
    geotiff._handle.cache_clear()
    envi_reader._map.cache_clear()
    zarr_store._array.cache_clear()


def read_plainly(source: SceneSource) -> list[np.ndarray]:
    """Read the bytes of a window by the library alone.

    Returns:
        Digital numbers (band, y, x), views of what the library gave, of PRISMA one for each
        detector; of EMIT as the sensor saw them.
    """
    pixels = source.pixels
    pixels = getattr(pixels, "pixels", pixels)  # PRISMA's are a wrapper
    if isinstance(pixels, LookupPixels):
        return [read_swath(pixels)]
    if isinstance(pixels, hdf5.HdfPixels):
        with h5py.File(pixels.path) as file:
            parts = []
            for part in pixels.parts:
                bands = slice(part.bands[0], part.bands[-1] + 1)
                where = {"b": bands, "y": ROWS, "x": COLUMNS}
                found = file[part.dataset][tuple(where[axis] for axis in part.axes)]
                parts.append(found.transpose([part.axes.index(axis) for axis in "byx"]))
        return parts
    if isinstance(pixels, zarr_store.ZarrPixels):
        return [zarr.open_group(pixels.path, mode="r")[pixels.name][:, ROWS, COLUMNS]]
    driver = getattr(pixels, "driver", "ENVI")
    with rasterio.open(pixels.path, driver=driver) as raster:
        return [raster.read(window=Window.from_slices(ROWS, COLUMNS))]


def read_swath(pixels: LookupPixels) -> np.ndarray:
    """Read a window of the lookup table and the box of the image that it points into."""
    with h5py.File(pixels.path) as file:
        tables = (file[name][ROWS, COLUMNS] for name in (pixels.table.rows, pixels.table.columns))
        box = [slice(table[table > 0].min() - 1, table.max()) for table in tables]
        return file[pixels.dataset][tuple(box)].transpose(2, 0, 1)


@contextmanager
def timed(times: list[float]) -> Iterator[None]:
    """Add the seconds of the block."""
    begun = time.perf_counter()
    yield
    times.append(time.perf_counter() - begun)


def compare(path: Path, rounds: int) -> tuple[SceneSource, list[float]]:
    """Return a scene and the seconds that a window of it takes: ours, plain, plain and turned."""
    ours, plain, turned = [], [], []
    for i in range(rounds + 1):  # the first brings the file into the page cache
        forget()
        source = open_source(path, mask="none")
        bands = slice(0, source.pixels.shape[0])
        with timed(ours):
            window = source.pixels[bands, ROWS, COLUMNS]
        forget()
        with timed(turned):
            with timed(plain):
                parts = read_plainly(source)
            copies = [np.ascontiguousarray(part) for part in parts]
        if i == 0 and len(parts) == 1 and parts[0].shape == window.shape:
            assert np.array_equal(window, parts[0]), path
        del window, parts, copies
    return source, [statistics.median(times[1:]) for times in (ours, plain, turned)]


def show_reading(cases: list[Case], rounds: int) -> None:
    """Read a window of each format and print a table."""
    print(
        f"\n512 x 512 pixels of {SIDE} x {SIDE}, all bands, from row {ROWS.start}, column "
        f"{COLUMNS.start}; median of {rounds}. Slow layouts: also as ingested.\n\n| format | "
        "layout | MB | ours s | plain s | ratio | turned s | ingested s |\n| --- | --- | --- | "
        "--- | --- | --- | --- | --- |"
    )
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            path = case.write(Path(folder), Size(SIDE, SIDE, full=True))
            source, (ours, plain, turned) = compare(path, rounds)
            ingested = ""
            if "advice" in source.attrs:
                store = cube_zarr.write_cube(source, Path(folder) / "again.zarr")
                ingested = f"{compare(store, rounds)[1][0]:.2f}"
            forget()
        size = source.pixels.shape[0] * 512 * 512 * source.pixels.dtype.itemsize / 1e6
        print(
            f"| {case.name} | {case.layout} | {size:.0f} | {ours:.2f} | {plain:.2f} | "
            f"{ours / plain:.2f} | {turned:.2f} | {ingested} |",
            flush=True,
        )


def main() -> None:
    """Run what is asked for, both if nothing is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--open", action="store_true", help="only this")
    parser.add_argument("--read", action="store_true", help="only this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    cases = [CASES[name] for name in options.cases]
    if options.open or not options.read:
        show_opening(cases, options.rounds)
    if options.read or not options.open:
        show_reading(cases, options.rounds)


if __name__ == "__main__":
    main()
