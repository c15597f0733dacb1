"""What every reader of a sensor's product must give, held against what was written."""

import importlib
import multiprocessing
import pickle
import pkgutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import products
import pytest

from hsi_pipeline.cube import check_cube, grid_of, scale_offset, wavelengths_of
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import READERS, open_scene, open_source
from hsi_pipeline.scene.quality import FLAGS, MASKS, bit, flag_shares

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

EXAMPLES = {
    f"{module.name}: {name}": writer
    for module in pkgutil.iter_modules(products.__path__)
    for name, writer in getattr(
        importlib.import_module(f"products.{module.name}"), "EXAMPLES", {}
    ).items()
}


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request, tmp_path_factory):
    return EXAMPLES[request.param](tmp_path_factory.mktemp("product"))


def reflectance_of(source, window):
    """Return reflectance float64 of a window (band, y, x), NaN where any band is invalid."""
    raw = np.asarray(source.pixels[window])
    bands = source.pixels.shape[0]
    scale = np.broadcast_to(np.asarray(source.scale, float), bands)[window[0], None, None]
    offset = np.broadcast_to(np.asarray(source.offset, float), bands)[window[0], None, None]
    values = raw * scale + offset
    values[~np.isfinite(raw)] = np.nan
    if source.nodata is not None and not np.isnan(source.nodata):
        values[raw == source.nodata] = np.nan
    return values


def everything(source):
    return tuple(slice(0, size) for size in source.pixels.shape)


def test_the_right_reader_recognises_it(example):
    reader = next(reader for reader in READERS if reader.recognises(str(example.path)))
    assert reader.__name__.rpartition(".")[2] == example.reader


def test_values_are_those_written(example):
    source = open_source(example.path)
    assert source.pixels.shape == example.reflectance.shape
    found = reflectance_of(source, everything(source))
    # no coarser than single precision or the digital numbers
    step = 0 if source.pixels.dtype.kind == "f" else np.max(np.abs(source.scale)) * 0.51
    np.testing.assert_allclose(found, example.reflectance, rtol=1e-5, atol=max(step, 1e-7))


def test_windows_are_parts_of_the_whole(example):
    source = open_source(example.path)
    whole = np.asarray(source.pixels[everything(source)])
    bands, rows, columns = whole.shape
    assert whole.dtype == source.pixels.dtype
    assert whole.dtype.isnative
    for window in (
        (slice(1, bands), slice(2, rows - 1), slice(3, columns - 2)),
        (slice(0, bands), slice(0, 1), slice(columns - 1, columns)),
        (slice(bands - 1, None, -1), slice(0, rows, 2), slice(1, columns, 3)),
        (slice(0, 0), slice(0, rows), slice(0, columns)),
    ):
        np.testing.assert_array_equal(source.pixels[window], whole[window])
    np.testing.assert_array_equal(source.pixels[1, 2:4, 3], whole[1, 2:4, 3])


def test_the_grid_is_right_to_a_hundredth_of_a_pixel(example):
    grid = open_source(example.path).grid
    assert tuple(grid.shape) == tuple(example.grid.shape)
    assert grid.crs == example.grid.crs
    size = example.grid.resolution.x
    rows, columns = grid.shape
    for corner in ((0, 0), (columns, 0), (0, rows), (columns, rows), (0.5, 0.5)):
        found, wanted = grid.affine @ corner, example.grid.affine @ corner
        assert np.allclose(found, wanted, rtol=0, atol=abs(size) / 100)


def test_the_cube_keeps_the_contract(example):
    cube = open_scene(example.path)
    check_cube(cube)
    found = grid_of(cube)
    assert found.crs == example.grid.crs
    assert np.allclose(tuple(found.affine), tuple(example.grid.affine))
    # centre of the first pixel, not its corner
    a = example.grid.affine
    if not a.b and not a.d:
        assert np.isclose(float(cube["x"][0]), a.c + a.a / 2)
        assert np.isclose(float(cube["y"][0]), a.f + a.e / 2)
    scale, offset = scale_offset(cube)
    assert scale.shape == offset.shape == (cube.sizes["band"],)


def test_bands_are_those_of_the_product(example):
    cube = open_scene(example.path)
    if not example.center_nm:
        assert wavelengths_of(cube) is None
        return
    np.testing.assert_allclose(cube["wavelength"], example.center_nm, rtol=1e-6)
    if example.fwhm_nm:
        np.testing.assert_allclose(cube["fwhm"], example.fwhm_nm, rtol=1e-6)
    else:
        assert np.isnan(cube["fwhm"]).all()
    good = example.good or (True,) * len(example.center_nm)
    assert tuple(cube["good"].values) == tuple(good)
    assert len(set(cube["band_name"].values.tolist())) == cube.sizes["band"]


def test_the_product_says_what_it_is(example):
    attrs = open_source(example.path).attrs
    for name, wanted in example.attrs.items():
        if isinstance(wanted, float):
            assert attrs[name] == pytest.approx(wanted), name
        else:
            assert attrs[name] == wanted, name
    assert attrs["scene_id"]


def test_flags_are_those_of_the_product(example):
    source = open_source(example.path)
    if not example.flags:
        assert source.quality is None
        return
    assert set(source.quality.flags) == set(example.flags)
    assert source.quality.flags == tuple(name for name in FLAGS if name in example.flags)
    rows, columns = source.pixels.shape[1:]
    bits = source.quality.read(slice(0, rows), slice(0, columns))
    for name, wanted in example.flags.items():
        np.testing.assert_array_equal((bits & bit(name)) != 0, wanted, err_msg=name)
    np.testing.assert_array_equal(
        source.quality.read(slice(2, 5), slice(1, columns - 1)), bits[2:5, 1 : columns - 1]
    )
    np.testing.assert_array_equal(open_scene(example.path)["quality"], bits)
    shares = flag_shares(source.quality, source.quality.flags)
    for name, wanted in example.flags.items():
        assert shares[name] == pytest.approx(wanted.mean())


@pytest.mark.parametrize("mask", MASKS)
def test_masked_pixels_are_nodata_in_every_band_and_others_as_they_were(example, mask):
    plain, masked = open_source(example.path), open_source(example.path, mask=mask)
    gone = np.zeros(plain.pixels.shape[1:], bool)
    for name in MASKS[mask]:
        gone |= example.flags.get(name, False)
    found, before = (reflectance_of(s, everything(s)) for s in (masked, plain))
    assert np.isnan(found[:, gone]).all()
    np.testing.assert_array_equal(found[:, ~gone], before[:, ~gone])
    np.testing.assert_array_equal(
        reflectance_of(masked, (slice(1, 3), slice(2, 6), slice(1, 4))), found[1:3, 2:6, 1:4]
    )


def test_it_travels_to_other_processes_and_threads(example):
    source = open_source(example.path, mask="default")
    whole = np.asarray(source.pixels[everything(source)])
    again = pickle.loads(pickle.dumps(source.pixels))
    np.testing.assert_array_equal(again[everything(source)], whole)
    rows = whole.shape[1]

    def same(i):
        row = i % (rows - 2)
        window = source.pixels[:, row : row + 2, :]
        return np.array_equal(window, whole[:, row : row + 2], equal_nan=whole.dtype.kind == "f")

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(same, range(40)))


FORKED = {}


def read_forked(row):
    window = FORKED["pixels"][:, row : row + 2, :]
    whole = FORKED["whole"]
    return np.array_equal(window, whole[:, row : row + 2], equal_nan=whole.dtype.kind == "f")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_forked_workers_read_right(example):
    source = open_source(example.path, mask="default")
    whole = np.asarray(source.pixels[everything(source)])
    FORKED.update(pixels=source.pixels, whole=whole)
    rows = list(range(whole.shape[1] - 2)) * 3
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(read_forked, rows))


def test_a_file_that_is_cut_off_gives_an_error_or_its_own_values(example, tmp_path):
    source = open_source(example.path)
    whole = reflectance_of(source, everything(source))
    for damaged in example.damage or ((example.path,) if example.path.is_file() else ()):
        content = damaged.read_bytes()
        try:
            for part in (0, 0.01, 0.5, 0.9):
                damaged.write_bytes(content[: int(len(content) * part)])
                try:
                    found = open_source(example.path)
                    values = reflectance_of(found, everything(found))
                except InputError:
                    continue
                np.testing.assert_array_equal(values, whole)
                assert found.grid == source.grid
                assert found.wavelengths == source.wavelengths
        finally:
            damaged.write_bytes(content)
