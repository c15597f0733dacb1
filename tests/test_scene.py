"""Scene readers: pixels against rasterio's own, meaning of bands, and what is refused."""

import gzip
import multiprocessing
import pickle
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import scipy.io
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint

from hsi_pipeline.cube import grid_of, pixel_grid, wavelengths_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import READERS, chunks_of, open_scene, open_source
from hsi_pipeline.scene.arrays import read_array
from hsi_pipeline.scene.band_table import wavelengths_from_descriptions

REAL = Path(__file__).parents[1].parent / "shared" / "data"
# odc-geo multiplies transforms in a way that affine wants to give up.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real scenes at {REAL.name}/")

SHAPE = (7, 23, 31)
CRS = "EPSG:32633"
TRANSFORM = Affine(30, 0, 364095, 0, -30, 5809965)
NM = (418.24, 423.87, 993.08, 902.26, 1650.5, 2200.0, 2445.53)  # not ascending, as EnMAP
INTERLEAVES = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(7).integers(-300, 12_000, SHAPE).astype("int16")


def write_tif(path, pixels, *, crs=CRS, transform=TRANSFORM, tags=(), **options):
    """Write a raster; `tags` are (band or 0, domain or None, names and values)."""
    profile = {"driver": "GTiff", "crs": crs, "transform": transform, **options}
    count, height, width = pixels.shape
    profile |= {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)
        for band, domain, values in tags:
            raster.update_tags(band, ns=domain, **values)
    return path


def write_envi(path, pixels, *, interleave="bsq", big=False, header_bytes=0, cut=0, **fields):
    """Write an ENVI image by hand, byte by byte; a field of None is left out."""
    count, height, width = pixels.shape
    code = {"int16": 2, "float32": 4, "uint16": 12, "complex64": 6, "uint8": 1}
    stored = pixels.astype(pixels.dtype.newbyteorder("><"[not big]))
    raw = b"\x55" * header_bytes + stored.transpose(INTERLEAVES[interleave]).tobytes()
    path.write_bytes(raw[: len(raw) - cut])
    header = {
        "samples": width,
        "lines": height,
        "bands": count,
        "header offset": header_bytes,
        "file type": "ENVI Standard",
        "data type": code[pixels.dtype.name],
        "interleave": interleave,
        "byte order": int(big),
        "map info": "{UTM, 1, 1, 364095, 5809965, 30, 30, 33, North, WGS-84}",
        **{name.replace("_", " "): value for name, value in fields.items()},
    }
    lines = [f"{name} = {value}" for name, value in header.items() if value is not None]
    path.with_suffix(".hdr").write_text("\n".join(["ENVI", *lines, ""]))
    return path


def listed(values):
    return "{" + ", ".join(str(value) for value in values) + "}"


def write_vrt(folder, pixels):
    rasterio.shutil.copy(
        write_tif(folder / "source.tif", pixels), folder / "scene.vrt", driver="VRT"
    )
    return folder / "scene.vrt"


def write_npy(folder, pixels):
    np.save(folder / "scene.npy", pixels.transpose(1, 2, 0))
    return folder / "scene.npy"


def write_mat(folder, pixels):
    cube = pixels.transpose(1, 2, 0)
    scipy.io.savemat(folder / "scene.mat", {"cube": cube, "gt": cube[..., 0]}, do_compression=True)
    return folder / "scene.mat"


TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}
LAYOUTS = {
    "tiles, band": lambda d, p: write_tif(d / "a.tif", p, interleave="band", **TILED),
    "tiles, pixel": lambda d, p: write_tif(d / "a.tif", p, interleave="pixel", **TILED),
    "strips, band": lambda d, p: write_tif(d / "a.tif", p, interleave="band", blockysize=5),
    "strips, pixel": lambda d, p: write_tif(d / "a.tif", p, interleave="pixel", blockysize=1),
    "deflate": lambda d, p: write_tif(d / "a.tif", p, compress="deflate", predictor=2, **TILED),
    "big-endian tif": lambda d, p: write_tif(d / "a.tif", p, endianness="big"),
    "float32": lambda d, p: write_tif(d / "a.tif", p.astype("float32")),
    "cog": lambda d, p: write_tif(d / "a.tif", p, driver="COG", blocksize=128),
    "vrt": write_vrt,
    "npy": write_npy,
    "mat": write_mat,
}
for name in INTERLEAVES:
    for big in (False, True):
        LAYOUTS[f"envi {name}{', big-endian' * big}"] = lambda d, p, name=name, big=big: write_envi(
            d / "a.img", p, interleave=name, big=big, header_bytes=128
        )
LAYOUTS["envi float32"] = lambda d, p: write_envi(d / "a", p.astype("float32"), interleave="bil")


@pytest.fixture(params=LAYOUTS)
def scene(request, tmp_path, pixels):
    return LAYOUTS[request.param](tmp_path, pixels)


# --- every reader, every layout -------------------------------------------------------------


def test_pixels_equal_what_was_written_and_what_gdal_reads(scene, pixels):
    found = open_source(scene, pixel_coordinates=True).pixels
    window = found[0:7, 0:23, 0:31]
    np.testing.assert_array_equal(window, pixels)
    assert (found.shape, found.ndim, window.dtype) == (SHAPE, 3, found.dtype)
    assert window.dtype.isnative
    assert window.flags.c_contiguous
    if scene.suffix not in (".npy", ".mat"):
        with rasterio.open(scene) as raster:
            np.testing.assert_array_equal(window, raster.read())


slices = st.tuples(*[st.slices(size) for size in SHAPE])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=slices)
def test_any_slice_equals_numpys(scene, pixels, key):
    found = open_source(scene, pixel_coordinates=True).pixels
    np.testing.assert_array_equal(found[key], pixels[key])


def test_cube_holds_all_pixels_and_fuses_slices_and_numbers(scene, pixels):
    cube = open_scene(scene, pixel_coordinates=True)
    assert cube.dims == ("band", "y", "x")
    np.testing.assert_array_equal(cube.values, pixels)
    np.testing.assert_array_equal(cube[2, 3:9, 4:].values, pixels[2, 3:9, 4:])
    np.testing.assert_array_equal(cube[::2, 5, ::-1].values, pixels[::2, 5, ::-1])
    np.testing.assert_array_equal(cube[[5, 1, 1], :, 3].values, pixels[[5, 1, 1], :, 3])


def test_small_chunks_give_the_same_cube(scene, pixels):
    cube = open_scene(scene, pixel_coordinates=True).chunk({"y": 9, "x": 10})
    np.testing.assert_array_equal(cube.compute(scheduler="threads").values, pixels)


def test_source_and_cube_pickle_small_after_reading(scene, pixels):
    source = open_source(scene, pixel_coordinates=True)
    assert source.pixels[0:1, 0:1, 0:1] == pixels[0, 0, 0]
    packed = pickle.dumps(source)
    assert len(packed) < 4000  # paths and numbers, no pixels
    np.testing.assert_array_equal(pickle.loads(packed).pixels[0:7, 2:4, 5:9], pixels[:, 2:4, 5:9])
    cube = pickle.loads(pickle.dumps(open_scene(scene, pixel_coordinates=True)))
    np.testing.assert_array_equal(cube.values, pixels)


def test_threads_read_right(scene, pixels):
    found = open_source(scene, pixel_coordinates=True).pixels

    def is_right(i):
        row, column = i % 19, i % 27
        window = found[0:7, row : row + 4, column : column + 4]
        return np.array_equal(window, pixels[:, row : row + 4, column : column + 4])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_right, range(200)))


def test_opening_warns_of_nothing_and_names_are_stable(scene):
    first, again = (open_scene(scene, pixel_coordinates=True) for _ in range(2))
    assert first.data.name == again.data.name
    assert first.attrs["scene_id"] == scene.stem
    assert str(scene.parent) not in str(first.attrs)


def test_one_reader_recognises_each_scene_first(scene):
    kinds = {".npy": "arrays", ".mat": "arrays", ".img": "envi", "": "envi"}
    reader = next(reader for reader in READERS if reader.recognises(str(scene)))
    assert reader.__name__.rpartition(".")[2] == kinds.get(scene.suffix, "geotiff")


# --- processes ------------------------------------------------------------------------------

FORKED = {}


def read_forked(corner):
    row, column = corner
    window = FORKED["pixels"][0:7, row : row + 32, column : column + 32]
    return np.array_equal(window, FORKED["truth"][:, row : row + 32, column : column + 32])


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("kind", ["tif", "envi", "npy"])
def test_forked_workers_do_not_share_the_handle_their_parent_warmed(tmp_path, kind):
    # A shared handle shares the file position: workers then read one another's bytes.
    truth = np.random.default_rng(1).integers(0, 9999, (7, 256, 256)).astype("int16")
    if kind == "tif":
        path = write_tif(
            tmp_path / "a.tif", truth, tiled=True, blockxsize=16, blockysize=16, interleave="band"
        )
    elif kind == "envi":
        path = write_envi(tmp_path / "a.img", truth, interleave="bil")
    else:
        path = write_npy(tmp_path, truth)
    found = open_source(path, pixel_coordinates=True).pixels
    found[0:1, 0:8, 0:8]
    FORKED.update(pixels=found, truth=truth)
    corners = np.random.default_rng(2).integers(0, 224, (400, 2)).tolist()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert all(pool.map(read_forked, corners, chunksize=5))
    assert read_forked((3, 5))


def test_threads_do_not_share_a_handle(tmp_path):
    # Tiles are decoded through one buffer of the handle: sharing it mixes up the tiles.
    truth = np.random.default_rng(1).integers(0, 9999, (32, 256, 256)).astype("int16")
    for name in ("a.tif", "b.tif", "c.tif"):  # a fresh file each, since tiles stay in GDAL's cache
        path = write_tif(tmp_path / name, truth, compress="deflate", interleave="band", **TILED)
        found = open_source(path).pixels
        found[0:1, 0:1, 0:1]

        def is_right(i, found=found):
            row, column = i * 37 % 224, i * 91 % 224
            window = found[0:32, row : row + 32, column : column + 32]
            return np.array_equal(window, truth[:, row : row + 32, column : column + 32])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(is_right, range(300)))


def test_a_spawned_worker_reads_by_relative_path(tmp_path, pixels, monkeypatch):
    write_tif(tmp_path / "a.tif", pixels)
    monkeypatch.chdir(tmp_path)
    packed = pickle.dumps(open_source("a.tif").pixels)
    monkeypatch.chdir(tmp_path.parent)
    np.testing.assert_array_equal(pickle.loads(packed)[0:7, 0:23, 0:31], pixels)


def test_a_scene_written_again_is_read_again(tmp_path, pixels):
    path = write_tif(tmp_path / "a.tif", pixels)
    before = open_scene(path)
    assert before[0, 0, 0].values == pixels[0, 0, 0]
    write_tif(path, np.concatenate([pixels + 1, pixels]))
    after = open_scene(path)
    assert after.data.name != before.data.name
    assert after[0, 0, 0].values == pixels[0, 0, 0] + 1


# --- laziness -------------------------------------------------------------------------------


def sparse_envi(folder):
    """Write a header for a scene of 9.6 GB whose file has no bytes on disk."""
    path = write_envi(folder / "big.img", np.zeros((1, 1, 1), "int16"), interleave="bil")
    header = path.with_suffix(".hdr")
    text = header.read_text().replace("samples = 1", "samples = 4000")
    header.write_text(text.replace("lines = 1", "lines = 6000").replace("bands = 1", "bands = 200"))
    with path.open("r+b") as file:
        file.truncate(4000 * 6000 * 200 * 2)
    return path


def test_opening_reads_no_pixels_and_a_window_reads_only_itself(tmp_path):
    tracemalloc.start()
    cube = open_scene(sparse_envi(tmp_path))
    assert cube.nbytes == 9_600_000_000
    chunk = cube.data.chunksize
    assert np.prod(chunk) * 2 > 30e6
    window = cube.data[:, 100:164, 50:114].compute(scheduler="synchronous")
    assert window.shape == (200, 64, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # the window is 1.6 MB, its chunk 60


@pytest.mark.parametrize("bands", [1, 7, 224, 426])
@pytest.mark.parametrize(
    "block", [(1, 3000), (256, 256), (512, 512), (16, 3000), (128, 64), (2000, 3000)]
)
def test_chunks_hold_whole_blocks_and_fit_in_memory(tmp_path, bands, block):
    found = open_source(write_tif(tmp_path / "a.tif", np.zeros((1, 2, 2), "int16")))
    size = (bands, 2000, 3000)
    fake = object.__new__(type(found.pixels))
    fake.__dict__.update(found.pixels.__dict__, shape=size)
    source = type(found)(**(found.__dict__ | {"pixels": fake, "block": block}))
    chunk = chunks_of(source)
    assert chunk[0] == bands
    nbytes = np.prod(chunk) * 2
    assert nbytes <= 256 * 2**20
    block_bytes = bands * block[0] * block[1] * 2
    if block_bytes <= 256 * 2**20:
        for length, part, whole in zip(chunk[1:], block, size[1:], strict=True):
            assert length % part == 0 or length == whole
    if block_bytes <= 32 * 2**20 and bands * 6e6 * 2 > 64 * 2**20:
        assert 25 * 2**20 <= nbytes <= 64 * 2**20


# --- what bands mean, GDAL ------------------------------------------------------------------


def band_tags(**columns):
    return [
        (i + 1, None, {name: str(values[i]) for name, values in columns.items()}) for i in range(7)
    ]


def test_band_tags_of_enmap_box(tmp_path, pixels):
    tags = band_tags(
        wavelength=NM,
        wavelength_units=["Nanometers"] * 7,
        fwhm=[6.5, 7, 8, 9, 10, 11, 12],
        bbl=[1, 1, 0, 1, 1, 1, 0],
    )
    rounded = [
        (i + 1, "IMAGERY", {"CENTRAL_WAVELENGTH_UM": f"{NM[i] / 1e3:.3f}"}) for i in range(7)
    ]
    acquired = [(0, None, {"start_time": "2022-07-24T10:45:26"})]
    cube = open_scene(write_tif(tmp_path / "a.tif", pixels, tags=tags + rounded + acquired))
    assert tuple(cube.wavelength.values) == NM  # exact, not the rounded ones; order kept
    assert cube.fwhm.values.tolist() == [6.5, 7, 8, 9, 10, 11, 12]
    assert cube.good.values.tolist() == [True, True, False, True, True, True, False]
    assert cube.attrs["acquired"] == "2022-07-24T10:45:26"


@pytest.mark.parametrize(
    ("unit", "values", "widths"),
    [
        ("Nanometers", (500.0, 10_000.0), (10.0, 100.0)),
        ("um", (0.5, 10.0), (0.01, 0.1)),
        ("Micrometers", (0.5, 10.0), (0.01, 0.1)),
        # 1e7 / 500 nm = 20,000 cm-1; a width of 10 nm there is 1e7 * 10 / 500^2 = 400 cm-1
        ("cm-1", (20_000.0, 1000.0), (400.0, 10.0)),
        (None, (500.0, 10_000.0), (10.0, 100.0)),
        ("Unknown", (0.5, 10.0), (0.01, 0.1)),
    ],
)
@pytest.mark.parametrize("kind", ["band tags", "dataset tags", "envi"])
def test_units_of_wavelengths_and_widths(tmp_path, unit, values, widths, kind):
    two = np.ones((2, 4, 5), "int16")
    units = {"wavelength_units": unit} if unit else {}
    if kind == "envi":
        path = write_envi(
            tmp_path / "a.img", two, wavelength=listed(values), fwhm=listed(widths), **units
        )
    elif kind == "band tags":
        tags = [
            (i + 1, None, {"wavelength": values[i], "fwhm": widths[i], **units}) for i in (0, 1)
        ]
        path = write_tif(tmp_path / "a.tif", two, tags=tags)
    else:
        tags = [(0, None, {"wavelength": listed(values), "fwhm": listed(widths), **units})]
        path = write_tif(tmp_path / "a.tif", two, tags=tags)
    found = wavelengths_of(open_scene(path))
    assert found.center_nm == pytest.approx((500.0, 10_000.0))
    assert found.fwhm_nm == pytest.approx((10.0, 100.0))


def test_imagery_domain_is_in_micrometres(tmp_path, pixels):
    tags = [
        (i + 1, "IMAGERY", {"CENTRAL_WAVELENGTH_UM": f"{v / 1e3:.3f}", "FWHM_UM": "0.010"})
        for i, v in enumerate(NM)
    ]
    found = wavelengths_of(open_scene(write_tif(tmp_path / "a.tif", pixels, tags=tags)))
    assert found.center_nm == pytest.approx(NM, abs=0.51)  # GDAL's rounding
    assert found.fwhm_nm == pytest.approx([10.0] * 7)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("418.24 Nanometers", "423.874 Nanometers"), (418.24, 423.874)),
        (("band 1 (418.24 nm)", "band 2 (423 nm)"), (418.24, 423.0)),
        (("0.418 um", "2.5 µm"), (418.0, 2500.0)),
        (("channel_0 (381.0055927)", "channel_1 (388)"), (381.0055927, 388.0)),
        (("Band 1:x (426.82) (426.82)", "Band 2:x (436.99) (436.99)"), (426.82, 436.99)),
        (("Band 500", "Band 600"), None),
        (("B500nm_x", "B600nm_x"), None),
        (("B12", "B8A"), None),
        (("x (1)", "x (2)"), None),
        (("NDVI (2019)", "NDVI (2020)"), None),
        (("418.24 nm", "elevation"), None),
        (("12.5 nm", "418.24 nm"), None),
        (("30000 nm", "418.24 nm"), None),
        (("B-418 nm", "B-500 nm"), None),
        ((None, "418.24 nm"), None),
        ((None, None), None),
    ],
)
def test_wavelengths_in_descriptions(texts, expected):
    found = wavelengths_from_descriptions(texts)
    assert (found and found.center_nm) == (expected and pytest.approx(expected))


def test_a_band_without_a_wavelength_leaves_the_scene_without(tmp_path, pixels):
    path = write_tif(tmp_path / "a.tif", pixels, tags=band_tags(wavelength=NM)[:-1])
    cube = open_scene(path)
    assert np.isnan(cube.wavelength).all()
    assert wavelengths_of(cube) is None


def test_a_stale_list_of_a_subset_is_not_taken(tmp_path, pixels):
    path = write_tif(tmp_path / "a.tif", pixels[:3], tags=[(0, None, {"wavelength": listed(NM)})])
    assert wavelengths_of(open_scene(path)) is None


def test_unknown_unit_names_file_and_unit(tmp_path, pixels):
    tags = band_tags(wavelength=NM, wavelength_units=["furlongs"] * 7)
    with pytest.raises(InputError, match=r"a\.tif: wavelength unit 'furlongs' is not known"):
        open_scene(write_tif(tmp_path / "a.tif", pixels, tags=tags))


def test_scale_offset_nodata_and_names(tmp_path, pixels):
    path = write_tif(tmp_path / "a.tif", pixels, nodata=-32768)
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = [1e-4] * 7, [0.5] * 7
        raster.descriptions = ["blue", *[None] * 6]
    source = open_source(path)
    assert (source.scale, source.offset, source.nodata) == (1e-4, 0.5, -32768.0)
    assert source.band_names[:2] == ("blue", "band 2")
    with rasterio.open(path, "r+") as raster:
        raster.scales = [1, 2, 3, 4, 5, 6, 7]
    assert open_scene(path).attrs["scale"] == [1, 2, 3, 4, 5, 6, 7]


# --- what bands mean, ENVI ------------------------------------------------------------------


def test_envi_header_fields(tmp_path, pixels):
    path = write_envi(
        tmp_path / "flight.dat",
        pixels,
        wavelength=listed(NM),
        wavelength_units="Nanometers",
        fwhm=listed([9.5] * 7),
        bbl=listed([1, 0, 1, 1, 1, 1, 1]),
        band_names=listed("abcdefg"),
        data_ignore_value=-9999,
        reflectance_scale_factor=10000,
        acquisition_time="2022-07-24T10:45:26Z",
    )
    source = open_source(path)
    assert source.wavelengths.center_nm == NM
    assert source.wavelengths.fwhm_nm == (9.5,) * 7
    assert source.good == (True, False, True, True, True, True, True)
    assert source.band_names == tuple("abcdefg")
    assert (source.scale, source.offset, source.nodata) == (1e-4, 0.0, -9999.0)
    assert (
        source.attrs.items()
        >= {
            "scene_id": "flight",
            "acquired": "2022-07-24T10:45:26Z",
            "quantity": "reflectance",
        }.items()
    )
    assert source.grid == GeoBox((23, 31), TRANSFORM, CRS)


def test_envi_gains_and_offsets_of_each_band(tmp_path, pixels):
    path = write_envi(
        tmp_path / "a.img",
        pixels,
        data_gain_values=listed([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        data_offset_values=listed([2] * 7),
    )
    source = open_source(path)
    assert source.scale == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert source.offset == 2.0


@pytest.mark.parametrize("suffix", ["", ".img", ".dat", ".bil", ".RAW"])
def test_a_header_leads_to_its_image(tmp_path, pixels, suffix):
    path = write_envi(tmp_path / f"a{suffix}", pixels, interleave="bil")
    np.testing.assert_array_equal(open_scene(tmp_path / "a.hdr").values, pixels)
    (tmp_path / "a.hdr").rename(f"{path}.hdr")
    np.testing.assert_array_equal(open_scene(f"{path}.hdr").values, pixels)
    np.testing.assert_array_equal(open_scene(path).values, pixels)


def test_band_numbers_of_unknown_unit_are_no_wavelengths(tmp_path, pixels):
    path = write_envi(
        tmp_path / "a.img", pixels, wavelength=listed(range(1, 8)), wavelength_units="Index"
    )
    assert open_source(path).wavelengths is None
    # Up to 181, so not micrometres, and from 1, so not nanometres.
    path = write_envi(tmp_path / "b.img", pixels, wavelength=listed(range(1, 211, 30)))
    assert open_source(path).wavelengths is None


# --- georeference ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "transform",
    [
        Affine.translation(5e5, 5e6) @ Affine.rotation(20) @ Affine.scale(30, -30),
        Affine(30, 0, 5e5, 0, 30, 5e6),
        Affine(20, 0, 5e5, 0, -30, 5e6),
    ],
    ids=["rotated", "south up", "not square"],
)
@pytest.mark.parametrize("pixel_coordinates", [False, True])
def test_grid_is_the_files_own(tmp_path, pixels, transform, pixel_coordinates):
    path = write_tif(tmp_path / "a.tif", pixels, transform=transform)
    cube = open_scene(path, pixel_coordinates=pixel_coordinates)
    grid = grid_of(cube)
    assert grid.crs.epsg == 32633
    assert tuple(grid.transform)[:6] == pytest.approx(tuple(transform)[:6])


GCPS = [GroundControlPoint(0, 0, 5e5, 5e6), GroundControlPoint(0, 30, 6e5, 5e6)]
GCPS.append(GroundControlPoint(22, 0, 5e5, 4.9e6))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crs": None, "transform": None}, "has no CRS and no geotransform"),
        ({"crs": None}, "has a geotransform but its CRS is missing"),
        ({"transform": None}, "has a CRS but no geotransform"),
        ({"transform": None, "gcps": GCPS}, "ground control points only"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_incomplete_georeference_is_refused_unless_permitted(tmp_path, pixels, options, words):
    path = write_tif(tmp_path / "a.tif", pixels, **options)
    with pytest.raises(InputError, match=words) as caught:
        open_source(path)
    assert "a.tif" in str(caught.value)
    assert "--pixel-coordinates" in str(caught.value)
    assert open_source(path, pixel_coordinates=True).grid == pixel_grid(23, 31)


@pytest.mark.parametrize("write", [write_npy, write_mat])
def test_arrays_are_refused_unless_pixel_coordinates_are_permitted(tmp_path, pixels, write):
    path = write(tmp_path, pixels)
    with pytest.raises(InputError, match=f"{path.name}.*no CRS.*--pixel-coordinates"):
        open_source(path)
    source = open_source(path, pixel_coordinates=True)
    assert source.grid == pixel_grid(23, 31)
    assert source.wavelengths is None


# --- bad input ------------------------------------------------------------------------------


def refused(path, words):
    with pytest.raises(InputError, match=words) as caught:
        open_scene(path, pixel_coordinates=True)
    assert Path(path).name in str(caught.value)
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize("name", ["nowhere.tif", "nowhere.img", "nowhere.hdr", "nowhere.npy", "x"])
def test_missing_file(tmp_path, name):
    refused(tmp_path / name, "no such file")


def test_folder(tmp_path):
    refused(tmp_path, "is a folder; give the scene file")


@pytest.mark.parametrize("name", ["a.tif", "a.vrt", "a.img", "notes.txt", "empty.tif"])
def test_text_is_no_raster(tmp_path, name):
    (tmp_path / name).write_text("" if name == "empty.tif" else "hello, this is a text\n" * 9)
    refused(tmp_path / name, "cannot be opened as a raster")


def test_image_without_header(tmp_path, pixels):
    path = write_envi(tmp_path / "a.img", pixels)
    path.with_suffix(".hdr").unlink()
    refused(path, "needs its .hdr header beside it")


def test_header_without_image_or_with_several(tmp_path, pixels):
    path = write_envi(tmp_path / "a.img", pixels)
    path.with_suffix(".dat").write_bytes(path.read_bytes())
    refused(tmp_path / "a.hdr", r"found several \(.*a\.dat.*a\.img\); give the image itself")
    path.unlink()
    path.with_suffix(".dat").unlink()
    refused(tmp_path / "a.hdr", "needs one image of the same name beside it, found none")


def test_header_of_another_format(tmp_path):
    (tmp_path / "a.hdr").write_text("BYTEORDER I\nNROWS 23\n")
    refused(tmp_path / "a.hdr", "is not an ENVI header")


def test_envi_image_cut_short_names_both_sizes(tmp_path, pixels):
    path = write_envi(tmp_path / "a.img", pixels, cut=2)
    refused(path, f"shorter than its header says: {7 * 23 * 31 * 2 - 2} bytes, expected 9982")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"wavelength": listed(NM[:5])}, "wavelength has 5 values for 7 bands"),
        ({"bbl": listed([1] * 8)}, "bbl has 8 values for 7 bands"),
        ({"fwhm": "{a, b}", "wavelength": listed(NM)}, "fwhm is not a list of numbers"),
        ({"data_ignore_value": "none"}, "data ignore value is not a number: none"),
        ({"byte_order": 7}, "byte order is 7; expected 0 or 1"),
        ({"reflectance_scale_factor": 0}, "reflectance scale factor is 0, not positive"),
        ({"wavelength": listed(NM), "wavelength_units": "GHz"}, "unit 'GHz' is not known"),
        ({"interleave": "zigzag"}, "zigzag"),
    ],
)
def test_envi_header_that_does_not_fit(tmp_path, pixels, fields, words):
    path = tmp_path / "a.img"
    write_envi(path, pixels, **{k: v for k, v in fields.items() if k != "interleave"})
    if "interleave" in fields:
        header = path.with_suffix(".hdr")
        header.write_text(header.read_text().replace("= bsq", "= zigzag"))
    refused(path, words)


def test_compressed_envi_image(tmp_path, pixels):
    path = write_envi(tmp_path / "a.img", pixels, file_compression=1)
    path.write_bytes(gzip.compress(path.read_bytes()))
    refused(path, r"is compressed \(file compression = 1\); write it uncompressed")


def test_complex_numbers(tmp_path, pixels):
    refused(write_tif(tmp_path / "a.tif", pixels.astype("complex64")), "complex numbers")
    refused(write_envi(tmp_path / "b.img", pixels.astype("complex64")), "complex numbers")
    np.save(tmp_path / "c.npy", pixels.astype("complex64"))
    refused(tmp_path / "c.npy", "holds complex64; expected integers or floats")
    scipy.io.savemat(tmp_path / "d.mat", {"cube": pixels.astype("complex64") * 1j})
    refused(tmp_path / "d.mat", "the file holds no arrays of real numbers")


def test_truncated_tiff_says_so_when_its_pixels_are_read(tmp_path, pixels):
    path = write_tif(tmp_path / "a.tif", pixels, interleave="band")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 4000])
    with pytest.raises(InputError, match=r"a\.tif.*(damaged or incomplete|cannot be opened)"):
        open_scene(path).compute(scheduler="synchronous")


def test_damaged_compressed_tile(tmp_path, pixels):
    path = write_tif(tmp_path / "a.tif", pixels, compress="deflate", interleave="band")
    raw = bytearray(path.read_bytes())
    raw[-3000:-100] = bytes(2900)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"a\.tif: pixels cannot be read, the file is damaged"):
        open_scene(path).compute(scheduler="synchronous")


def test_scene_inside_an_archive_that_only_gdal_can_follow(tmp_path, pixels):
    write_tif(tmp_path / "a.tif", pixels)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.tif", "a.tif")
    cube = open_scene(f"/vsizip/{tmp_path}/a.zip/a.tif")
    np.testing.assert_array_equal(cube.values, pixels)
    refused(f"/vsizip/{tmp_path}/a.zip/b.tif", "cannot be opened as a raster")


def test_single_band(tmp_path, pixels):
    assert open_scene(write_tif(tmp_path / "a.tif", pixels[:1])).shape == (1, 23, 31)


def test_arrays_that_are_not_one_cube(tmp_path, pixels):
    np.save(tmp_path / "flat.npy", pixels[0])
    refused(tmp_path / "flat.npy", r"one array with 3 axes, found 0.*\(23, 31\)")
    scipy.io.savemat(tmp_path / "two.mat", {"a": pixels, "b": pixels})
    refused(tmp_path / "two.mat", r"found 2; the file holds a \(7, 23, 31\), b \(7, 23, 31\)")
    (tmp_path / "text.mat").write_text("hello, this is no MATLAB file " * 20)
    refused(tmp_path / "text.mat", "cannot be read as a .mat file")
    (tmp_path / "text.npy").write_text("hello")
    refused(tmp_path / "text.npy", "cannot be read as a .npy array")
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    refused(tmp_path / "objects.npy", "cannot be read as a .npy array")
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (tmp_path / "new.mat").write_bytes(header + bytes(512))
    refused(tmp_path / "new.mat", r"v7\.3 \(HDF5\) file; save it with '-v7'")


def test_read_array_finds_the_only_labels(tmp_path, pixels):
    path = write_mat(tmp_path, pixels)
    np.testing.assert_array_equal(read_array(path, 2), pixels[0])
    np.save(tmp_path / "gt.npy", pixels[0])
    np.testing.assert_array_equal(read_array(tmp_path / "gt.npy", 2), pixels[0])
    with pytest.raises(InputError, match=r"with 4 axes.*cube \(23, 31, 7\), gt \(23, 31\)"):
        read_array(path, 4)


# --- real scenes ----------------------------------------------------------------------------


@needs_real
def test_enmap_potsdam():
    cube = open_scene(REAL / "enmap_potsdam" / "enmap_potsdam_mosaic.tif")
    assert cube.shape == (224, 192, 160)
    assert cube.wavelength.values[[0, 90, 91, 223]].tolist() == [418.24, 993.083, 902.257, 2445.53]
    assert np.flatnonzero(~cube.good.values).tolist() == [129, 130, 131, 132, 133, 134]
    assert (cube.attrs["nodata"], cube.attrs["acquired"]) == (-32768.0, "2022-07-24T10:45:26")
    assert cube.fwhm.values[0] == 6.99561
    assert grid_of(cube) == GeoBox((192, 160), TRANSFORM, CRS)
    tile = next((REAL / "enmap_potsdam" / "images").glob("*.tif"))
    assert open_source(tile).scale == 1e-4


@needs_real
def test_salinas_a():
    folder = REAL / "salinas_a"
    cube = open_scene(folder / "SalinasA_corrected.mat", pixel_coordinates=True)
    assert (cube.shape, cube.dtype) == ((204, 83, 86), "int16")
    assert (int(cube.min()), int(cube.max())) == (-9, 8373)
    truth = scipy.io.loadmat(folder / "SalinasA_corrected.mat")["salinasA_corrected"]
    np.testing.assert_array_equal(cube[:, 40:50, 7].values, truth[40:50, 7].T)
    labels = read_array(folder / "SalinasA_gt.mat", 2)
    assert np.unique(labels).tolist() == [0, 1, 10, 11, 12, 13, 14]


@needs_real
def test_jasper_ridge():
    path = REAL / "jasper_ridge" / "jasperRidge2_R198.img"
    source = open_source(path, pixel_coordinates=True)
    assert (source.pixels.shape, source.pixels.dtype) == ((198, 100, 100), "int16")
    assert source.scale == 1e-4
    assert source.wavelengths.center_nm[0] == pytest.approx(399.37, abs=1e-3)
    assert source.wavelengths.fwhm_nm[0] == 9.53
    whole = source.pixels[0:198, 0:100, 0:100]
    assert (whole.min(), whole.max()) == (-448, 5437)
    with pytest.raises(InputError, match="--pixel-coordinates"):
        open_source(path)


@needs_real
def test_idtrees_has_no_wavelengths():
    cube = open_scene(next((REAL / "idtrees" / "HSI").glob("*.tif")))
    assert cube.shape == (369, 20, 20)
    assert wavelengths_of(cube) is None
    assert grid_of(cube).crs.epsg == 32617


@needs_real
def test_emit_envi():
    path = next((REAL / "emit_envi").glob("*.hdr")).with_suffix("")
    cube = open_scene(path, pixel_coordinates=True)
    assert (cube.shape, cube.dtype, cube.attrs["nodata"]) == ((285, 10, 10), "float32", -9999.0)
    assert cube.wavelength.values[0] == 381.0055927
    bad = ~cube.good.values
    assert bad.sum() == 41
    np.testing.assert_array_equal(cube.values[bad], np.float32(-0.01))


@needs_real
def test_gamsberg_with_units_unknown_is_in_nm():
    cube = open_scene(REAL / "gamsberg" / "cubus_gamsberg_subset.hdr", pixel_coordinates=True)
    assert cube.shape == (189, 25, 10)
    assert cube.wavelength.values[[0, -1]] == pytest.approx([426.82, 2324.9], abs=0.1)
    assert cube.fwhm.values[0] == 11.3871


@needs_real
def test_neon_sjer_lacks_its_crs():
    path = REAL / "neon_sjer" / "SJER_052_hyperspectral.tif"
    with pytest.raises(InputError, match="its CRS is missing"):
        open_scene(path)
    assert open_scene(path, pixel_coordinates=True).shape == (426, 40, 40)
