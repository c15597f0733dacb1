"""Ingested scenes hold exactly what their sources held, or there is nothing under their name."""

import importlib
import os
import pickle
import pkgutil
import shutil
import tracemalloc
from dataclasses import dataclass, replace

import dask
import numpy as np
import products
import pytest
import rasterio
import xarray as xr
from affine import Affine
from conftest import class_field, make_pixels, write_scene
from odc.geo.geobox import GeoBox
from system_programs import has_program, require_programs, run_program

from hsi_pipeline.commands.ingest import ingest
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish.cube_zarr import window_of, write_cube
from hsi_pipeline.scene import open_scene, open_source
from hsi_pipeline.scene.source import SceneSource
from hsi_pipeline.scene.windows import read_key
from hsi_pipeline.wavelengths import Wavelengths

EXAMPLES = {
    f"{module.name}: {name}": writer
    for module in pkgutil.iter_modules(products.__path__)
    for name, writer in getattr(
        importlib.import_module(f"products.{module.name}"), "EXAMPLES", {}
    ).items()
}


def assert_same(found, wanted):
    """Hold an ingested source against its original."""
    whole = tuple(slice(0, size) for size in wanted.pixels.shape)
    assert found.pixels.dtype == wanted.pixels.dtype
    np.testing.assert_array_equal(found.pixels[whole], wanted.pixels[whole])
    assert found.grid == wanted.grid
    assert found.wavelengths == wanted.wavelengths
    assert found.good == wanted.good
    assert found.band_names == wanted.band_names
    assert (found.scale, found.offset) == (wanted.scale, wanted.offset)
    assert type(found.scale) is type(wanted.scale)
    assert found.nodata == wanted.nodata or (np.isnan(found.nodata) and np.isnan(wanted.nodata))
    assert found.attrs == {k: v for k, v in wanted.attrs.items() if k != "advice"}
    assert (found.quality is None) == (wanted.quality is None)
    if wanted.quality is not None:
        assert found.quality.flags == wanted.quality.flags
        np.testing.assert_array_equal(
            found.quality.read(*whole[1:]), wanted.quality.read(*whole[1:])
        )


def ingested(scene, out, **options):
    """Ingest with the smallest chunks, and open the result and the scene."""
    store = ingest(scene, out, chunk=16, **options)[0]
    options = {"pixel_coordinates": options.get("pixel_coordinates", False)}
    return open_source(store, **options), open_source(scene, **options)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_product_comes_back_exactly(name, tmp_path):
    example = EXAMPLES[name](tmp_path)
    assert_same(*ingested(example.path, tmp_path / "out.zarr"))


@pytest.fixture
def tiff(tmp_path):
    """A GeoTIFF whose size is no multiple of its tiles or of chunks."""
    return write_scene(tmp_path / "scene.tif", make_pixels(class_field(45, 37)))


def test_a_geotiff_comes_back_exactly(tiff, tmp_path):
    found, wanted = ingested(tiff, tmp_path / "out.zarr")
    assert found.block == (16, 16)
    assert_same(found, wanted)


def test_an_envi_scene_comes_back_exactly(tmp_path):
    lines = [
        "ENVI", "samples = 21", "lines = 18", "bands = 4", "data type = 4", "interleave = bil",
        "byte order = 1", "header offset = 0", "data ignore value = -0.1",
        "map info = {UTM, 1, 1, 300000, 5000000, 5, 5, 32, North, WGS-84}",
        "wavelength units = Micrometers", "wavelength = {0.4, 0.5011, 0.62345678, 2.1}",
        "fwhm = {0.01, 0.011, 0.0123, 0.01}", "bbl = {1, 0, 1, 1}",
        "data gain values = {1, 2, 0.3, 1e-4}", "band names = {a, b c, Grün, d}",
        "acquisition time = 2024-05-01T10:00:00Z",
    ]  # fmt: skip
    (tmp_path / "scene.hdr").write_text("\n".join(lines), encoding="utf-8")
    pixels = np.random.default_rng(0).random((18, 4, 21)).astype(">f4")
    pixels[3, :, 5] = -0.1
    pixels.tofile(tmp_path / "scene.img")
    found, wanted = ingested(tmp_path / "scene.img", tmp_path / "out.zarr")
    assert_same(found, wanted)
    assert isinstance(found.scale, tuple)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", None), ("uint8", -9999.0), ("int16", 0.5), ("float32", float("nan")),
     ("float32", -3.4028234663852886e38), ("float64", 1e-5), ("float32", 0.1), ("int32", 7.0),
     ("float32", None), ("float64", float("inf"))],
)  # fmt: skip
def test_any_type_and_nodata_come_back(tmp_path, dtype, nodata):
    pixels = np.random.default_rng(0).uniform(1, 200, (3, 18, 20)).astype(dtype)
    source = open_source(write_scene(tmp_path / "a.tif", pixels, wavelengths=None, nodata=None))
    wanted = replace(source, nodata=nodata)
    found = open_source(write_cube(wanted, tmp_path / "out.zarr", chunk=16))
    assert found.wavelengths is None
    assert_same(found, wanted)


@pytest.mark.parametrize(
    "transform",
    [
        Affine(30, 0, 364_095, 0, 30, 5_809_965),  # rows from south to north, as stored
        Affine(1 / 3, 0, 1e6 / 7, 0, -1 / 3, 5e6 / 7),
        Affine.translation(3e5, 5e6) @ Affine.rotation(20) @ Affine.scale(30, -30),
    ],
)
@pytest.mark.parametrize("size", [(20, 18), (1, 18), (20, 1)])
def test_any_grid_comes_back(tmp_path, transform, size):
    pixels = np.random.default_rng(0).integers(0, 99, (2, *size)).astype("i2")
    scene = write_scene(tmp_path / "a.tif", pixels, wavelengths=None, transform=transform)
    found, wanted = ingested(scene, tmp_path / "out.zarr")
    assert found.grid == GeoBox(size, transform, "EPSG:32633")
    assert_same(found, wanted)


def test_a_crs_without_a_code_comes_back(tmp_path):
    crs = "+proj=laea +lat_0=51.5 +lon_0=9.25 +x_0=12 +y_0=34 +ellps=GRS80 +units=m +no_defs"
    pixels = np.ones((2, 17, 18), "i2")
    scene = write_scene(tmp_path / "a.tif", pixels, wavelengths=None, crs=crs)
    assert_same(*ingested(scene, tmp_path / "out.zarr"))


def test_a_scene_in_pixel_coordinates_comes_back(tmp_path):
    np.save(tmp_path / "scene.npy", np.random.default_rng(0).integers(0, 99, (18, 20, 3)))
    options = {"pixel_coordinates": True}
    assert_same(*ingested(tmp_path / "scene.npy", tmp_path / "out.zarr", **options))
    with pytest.raises(InputError, match=r"no CRS.*--pixel-coordinates"):
        open_source(tmp_path / "out.zarr")


def test_an_ingested_scene_can_be_ingested_again(tiff, tmp_path):
    ingest(tiff, tmp_path / "one.zarr", chunk=16)
    ingest(tmp_path / "one.zarr", tmp_path / "two.zarr", chunk=32)
    assert_same(open_source(tmp_path / "two.zarr"), open_source(tiff))
    ingest(tmp_path / "one.zarr", tmp_path / "one.zarr", chunk=32, overwrite=True)
    assert_same(open_source(tmp_path / "one.zarr"), open_source(tiff))


def test_xarray_opens_it_with_units_and_coordinates(tiff, tmp_path):
    ingest(tiff, tmp_path / "out.zarr", chunk=16)
    dataset = xr.open_dataset(tmp_path / "out.zarr", engine="zarr", chunks={})
    cube = open_scene(tiff)
    assert set(dataset.data_vars) == {"cube"}
    assert dataset["cube"].dims == ("band", "y", "x")
    np.testing.assert_allclose(dataset["cube"], cube.values * 1e-4, rtol=1e-6)
    np.testing.assert_array_equal(dataset["wavelength"], cube["wavelength"])
    assert dataset.odc.geobox == cube.odc.geobox


def test_gdal_opens_it(tiff, tmp_path):
    require_programs("gdalinfo", package="gdal-bin")
    ingest(tiff, tmp_path / "out.zarr", chunk=16)
    source = f'ZARR:"{tmp_path / "out.zarr"}":/cube:3'  # the fourth band
    told = run_program("gdalinfo", source, folder=tmp_path).stdout.decode()
    assert 'ID["EPSG",32633]' in told
    assert "Origin = (364095.0" in told
    run_program("gdal_translate", "-q", source, "band.tif", folder=tmp_path)
    with rasterio.open(tmp_path / "band.tif") as band, rasterio.open(tiff) as scene:
        np.testing.assert_array_equal(band.read(1), scene.read(4))
    assert has_program("gdalinfo")


def test_missing_chunks_are_nodata_and_damaged_ones_an_error(tiff, tmp_path):
    store = ingest(tiff, tmp_path / "out.zarr", chunk=16)[0]
    (store / "cube" / "0.1.0").unlink()
    source = open_source(store)
    whole = source.pixels[:, 0:45, 0:37]
    assert (whole[:, 16:32, 0:16] == source.nodata).all()
    assert (whole[:, 0:16] != source.nodata).all()
    chunk = store / "cube" / "0.0.1"
    content = chunk.read_bytes()
    for damaged in (content[:-5], content[:100], b"", content[:500] + b"\0\1" + content[502:]):
        chunk.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            open_source(store).pixels[:, 0:8, 16:20]
    assert source.pixels[:, 0:8, 0:8].shape == (10, 8, 8)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("cube/.zattrs", '"scale_factor": 0.0001', '"scale_factor": 0.0002'),
        ("spatial_ref/.zattrs", "364095 30", "364195 30"),
        (".zmetadata", "364095 30", "364195 30"),
        ("cube/.zarray", '"<i2"', '"<u2"'),
        (".zattrs", '"scene"', '"scone"'),
    ],
)
def test_metadata_that_differ_are_refused(tiff, tmp_path, file, old, new):
    store = ingest(tiff, tmp_path / "out.zarr", chunk=16)[0]
    text = (store / file).read_text()
    assert old in text
    (store / file).write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=r"consolidated metadata|damaged"):
        open_source(store)


def test_an_existing_target_needs_overwrite(tiff, tmp_path, cli):
    arguments = ("ingest", tiff, "--out", tmp_path / "out.zarr", "--chunk", 16)
    code, out, err = cli(*arguments)
    assert (code, out) == (0, "")
    assert "45 rows x 37 columns x 10 bands" in err
    code, _, err = cli(*arguments)
    assert code == 2
    assert "exists" in err
    assert "--overwrite" in err
    assert cli(*arguments, "--overwrite", "--quiet") == (0, "", "")
    (tmp_path / "folder.zarr").mkdir()
    with pytest.raises(InputError, match="no Zarr store"):
        ingest(tiff, tmp_path / "folder.zarr", overwrite=True)


@pytest.mark.parametrize(("chunk", "word"), [(0, "between 16"), (100_000, "between 16")])
def test_impossible_chunks_are_refused(tiff, tmp_path, chunk, word):
    with pytest.raises(InputError, match=word):
        ingest(tiff, tmp_path / "out.zarr", chunk=chunk)
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("out.tif", "suffix"),
        ("nowhere/out.zarr", "does not exist"),
        ("locked/out.zarr", "permission"),
    ],
)
def test_targets_that_cannot_be_written_are_refused(tiff, tmp_path, target, words, monkeypatch):
    (tmp_path / "locked").mkdir()
    if words == "permission":  # root may write anywhere
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=words):
        ingest(tiff, tmp_path / target)


@dataclass(frozen=True)
class Failing:
    """Pixels that fail below a row."""

    shape: tuple
    error: BaseException
    ndim = 3
    dtype = np.dtype("i2")

    def __getitem__(self, key):
        def read(bands, rows, columns):
            if rows.stop > self.shape[1] - 3:
                raise self.error
            return np.zeros(
                (len(bands), rows.stop - rows.start, columns.stop - columns.start), "i2"
            )

        return read_key(key, self.shape, self.dtype, read)


@pytest.mark.parametrize("error", [InputError("gone"), KeyboardInterrupt(), OSError(28, "full")])
@pytest.mark.parametrize("before", [False, True])
def test_an_interrupted_one_leaves_only_what_was_there(tiff, tmp_path, error, before):
    target = tmp_path / "out.zarr"
    if before:
        ingest(tiff, target, chunk=16)
    source = open_source(tiff)
    failing = replace(source, pixels=Failing(source.pixels.shape, error), block=(16, 16))
    with dask.config.set(scheduler="synchronous"), pytest.raises(type(error)):
        write_cube(failing, target, chunk=16, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.zarr"] * before + ["scene.tif"]
    if before:
        assert_same(open_source(target), source)


def test_a_scene_that_changes_meanwhile_is_refused(tiff, tmp_path):
    source = open_source(tiff)

    class Changing(Failing):
        def __getitem__(self, key):
            os.utime(tiff, (1, 1))
            return source.pixels[key]

    changing = replace(source, pixels=Changing(source.pixels.shape, InputError("")))
    with pytest.raises(InputError, match="was written to"):
        write_cube(changing, tmp_path / "out.zarr", chunk=16)
    assert not (tmp_path / "out.zarr").exists()


@dataclass(frozen=True)
class Counting:
    """A large scene of numbers that are made on the way."""

    shape: tuple
    ndim = 3
    dtype = np.dtype("u2")

    def __getitem__(self, key):
        def read(bands, rows, columns):
            y = np.arange(rows.start, rows.stop, dtype="u2")[:, None] * np.uint16(7)
            x = np.arange(columns.start, columns.stop, dtype="u2")
            return (y + x)[None] + np.array(bands, "u2")[:, None, None]

        return read_key(key, self.shape, self.dtype, read)


@pytest.mark.parametrize("block", [(1, 6000), (512, 512), (2000, 6000)])
def test_memory_is_bounded_by_windows(tmp_path, block):
    bands, rows, columns = 20, 2000, 6000  # 480 MB
    source = SceneSource(
        path=str(tmp_path),
        pixels=Counting((bands, rows, columns)),
        grid=GeoBox((rows, columns), Affine(30, 0, 0, 0, -30, 0), "EPSG:32633"),
        block=block,
        wavelengths=Wavelengths(tuple(400.0 + i for i in range(bands))),
        good=(True,) * bands,
        band_names=tuple(map(str, range(bands))),
        attrs={"scene_id": "large"},
    )
    height, width = window_of(source, 512)
    assert height % 512 == width % 512 == 0
    tracemalloc.start()
    try:
        with dask.config.set(scheduler="synchronous"):
            write_cube(source, tmp_path / "out.zarr", chunk=512)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * height * width * bands * 2 + 30e6
    found = open_source(tmp_path / "out.zarr").pixels
    window = (slice(0, bands), slice(510, 515), slice(3000, 3010))
    np.testing.assert_array_equal(found[window], source.pixels[window])
    shutil.rmtree(tmp_path / "out.zarr")


def test_it_travels_and_reads_windows_of_any_kind(tiff, tmp_path):
    store = ingest(tiff, tmp_path / "out # 1.zarr", chunk=16)[0]
    found, wanted = open_source(store), open_source(tiff)
    again = pickle.loads(pickle.dumps(found.pixels))
    for window in (
        (slice(3, 9), slice(15, 33), slice(10, 37)),
        (slice(9, None, -2), slice(0, 45, 3), slice(1, 30, 7)),
        (4, slice(15, 17), 3),
    ):
        np.testing.assert_array_equal(again[window], wanted.pixels[window])


def test_help_says_what_it_is_for(cli):
    code, out, _ = cli("ingest", "--help")
    assert code == 0
    assert "--out" in out
    assert "Zarr" in out
