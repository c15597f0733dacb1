"""The cube contract: what breaks it, grids there and back, and reading of windows."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from hsi_pipeline.cube import (
    WindowReader,
    check_cube,
    grid_of,
    make_cube,
    pixel_grid,
    scale_offset,
    valid_pixels,
    wavelengths_of,
)
from hsi_pipeline.errors import InputError
from hsi_pipeline.wavelengths import Wavelengths

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

UTM = "EPSG:32633"
NORTH_UP = Affine(30, 0, 364095, 0, -30, 5809965)
ROTATED = Affine(28, 10, 3e5, 10, -28, 5e6)


def small_cube(grid=None, pixels=None, **arguments):
    grid = grid if grid is not None else GeoBox((4, 5), NORTH_UP, UTM)
    pixels = da.zeros((3, *grid.shape), chunks=2, dtype="int16") if pixels is None else pixels
    bands = pixels.shape[0]
    defaults = {
        "wavelengths": None,
        "good": (True,) * bands,
        "band_names": tuple(f"b{i}" for i in range(bands)),
    }
    return make_cube(pixels, grid, **{**defaults, **arguments})


class CountingSource:
    """An array that keeps a record of what is read from it."""

    ndim = 3

    def __init__(self, array):
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.windows = []

    def __getitem__(self, key):
        window = self.array[key]
        self.windows.append(window.shape)
        return window


def lazily(source, chunks):
    """A Dask array over a source, as scene readers make it."""
    return da.from_array(
        source,
        chunks=chunks,
        name=f"source-{id(source)}-{chunks}",
        asarray=False,
        meta=np.empty((0, 0, 0), source.dtype),
    )


# --- contract ---


def test_a_made_cube_keeps_what_it_was_given():
    cube = small_cube(
        wavelengths=Wavelengths((993.1, 902.3, 500.0), (6.0, None, 10.0)),
        good=(True, False, True),
        scale=(1.0, 2.0, 3.0),
        offset=-0.1,
        nodata=-32768,
        attrs={"scene_id": "here"},
    )
    check_cube(cube)
    assert wavelengths_of(cube) == Wavelengths((993.1, 902.3, 500.0), (6.0, None, 10.0))
    assert cube["good"].values.tolist() == [True, False, True]
    assert cube["band"].values.tolist() == [1, 2, 3]
    assert cube["band_name"].values.tolist() == ["b0", "b1", "b2"]
    assert cube.attrs["nodata"] == -32768
    assert cube.attrs["scene_id"] == "here"
    scale, offset = scale_offset(cube)
    assert scale.tolist() == [1, 2, 3]
    assert offset.tolist() == pytest.approx([-0.1] * 3)
    assert scale.dtype == offset.dtype == np.float32
    assert dask.is_dask_collection(cube.data)


@pytest.mark.parametrize("scale", [2, 2.0, np.float32(2), np.float64(2), (2, 2, 2)])
def test_scale_may_be_any_number_or_one_per_band(scale):
    assert scale_offset(small_cube(scale=scale))[0].tolist() == [2, 2, 2]


def test_one_unknown_wavelength_makes_them_unknown():
    cube = small_cube(wavelengths=Wavelengths((1.0, 2.0, 3.0)))
    cube["wavelength"].values[1] = np.nan
    assert wavelengths_of(cube) is None
    assert wavelengths_of(small_cube()) is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.transpose("y", "x", "band"), r"has dims .*\('y', 'x', 'band'\); transpose it"),
        (lambda c: c[0], "a cube has dims"),
        (lambda c: c[:, :0], r"the cube is empty: shape \(3, 0, 5\)"),
        (lambda c: c.drop_vars("good"), "lacks the band coordinate 'good'"),
        (lambda c: c.drop_vars("wavelength"), "lacks the band coordinate 'wavelength'"),
        (lambda c: c.drop_attrs(deep=False), "lacks the attribute 'scale'"),
        (lambda c: c.assign_attrs(scale=[1.0, 2.0]), "scale has 2 values, the cube 3 bands"),
        (lambda c: c.assign_attrs(offset=[0.0] * 4), "offset has 4 values, the cube 3 bands"),
        (lambda c: c.astype(complex), "a cube holds numbers, this one complex128"),
        (lambda c: c.astype(bool), "a cube holds numbers, this one bool"),
    ],
)
def test_what_breaks_the_contract_is_named(change, match):
    with pytest.raises(InputError, match=match):
        check_cube(change(small_cube()))


# --- grids ---


@pytest.mark.parametrize("shape", [(4, 5), (1, 5), (4, 1), (1, 1)])
@pytest.mark.parametrize(
    "transform",
    [NORTH_UP, ROTATED, Affine(30, 0, 3e5, 0, 30, 5e6), Affine(0.1, 0, 10.05, 0, -0.1, 50.025)],
    ids=["north-up", "rotated", "south-up", "degrees"],
)
def test_a_grid_comes_back(transform, shape):
    grid = GeoBox(shape, transform, UTM)
    back = grid_of(small_cube(grid))
    assert back.crs == grid.crs
    assert back.shape == grid.shape
    np.testing.assert_allclose(back.affine, grid.affine, rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 5), (1, 5), (4, 1), (1, 1)])
def test_a_grid_without_crs_comes_back(shape):
    grid = pixel_grid(*shape)
    cube = small_cube(grid)
    assert grid_of(cube) == grid
    assert "grid_mapping" not in cube.attrs


@pytest.mark.parametrize(
    "grid",
    [GeoBox((6, 7), NORTH_UP, UTM), GeoBox((6, 7), ROTATED, UTM), pixel_grid(6, 7)],
    ids=["north-up", "rotated", "pixels"],
)
@pytest.mark.parametrize(
    "window", [np.s_[1:4, 2:], np.s_[2:3, 3:6], np.s_[1:, 4:5], np.s_[5:6, 6:7]]
)
def test_a_window_of_a_cube_is_the_window_of_its_grid(grid, window):
    part, expected = grid_of(small_cube(grid)[:, *window]), grid[window]
    assert part.shape == expected.shape
    assert part.crs == expected.crs
    np.testing.assert_allclose(part.affine, expected.affine, rtol=1e-12)


def test_row_0_of_a_scene_without_georeference_is_on_top():
    cube = small_cube(pixel_grid(3, 4))
    assert cube["y"].values.tolist() == [-0.5, -1.5, -2.5]
    assert cube["x"].values.tolist() == [0.5, 1.5, 2.5, 3.5]


def test_an_irregular_grid_is_refused():
    cube = xr.DataArray(np.zeros((1, 3, 3)), dims=("band", "y", "x"))
    cube = cube.assign_coords(y=[0.0, 1.0, 5.0], x=[0.0, 1.0, 2.0])
    with pytest.raises(InputError, match="do not form a regular grid"):
        grid_of(cube)


# --- validity ---


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("nodata", [None, 0, -9999, 65535, np.nan, -3.4e38, 0.1])
def test_a_pixel_is_valid_if_no_band_holds_nodata(dtype, nodata):
    raw = np.ones((3, 2, 4), dtype)
    fits = nodata is not None and can_hold(raw.dtype, nodata)
    if fits:
        raw[1, 0, 2] = nodata
    expected = np.ones((2, 4), bool)
    expected[0, 2] = not fits
    assert valid_pixels(raw, nodata).tolist() == expected.tolist()


def can_hold(dtype, number):
    if dtype.kind == "f":
        return True
    info = np.iinfo(dtype)
    return float(number).is_integer() and info.min <= number <= info.max


def test_what_is_not_finite_is_never_valid():
    raw = np.ones((2, 1, 4), np.float32)
    raw[:, 0, 1:] = [[np.nan, 1, -np.inf], [1, np.inf, 1]]
    assert valid_pixels(raw, None).tolist() == [[True, False, False, False]]
    assert valid_pixels(raw, 5).tolist() == [[True, False, False, False]]


# --- reading of windows ---


@settings(deadline=None, max_examples=60)
@given(
    bands=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    rows=st.tuples(st.integers(0, 12), st.integers(1, 13)),
    columns=st.tuples(st.integers(0, 10), st.integers(1, 11)),
    chunks=st.tuples(st.integers(1, 5), st.integers(1, 13), st.integers(1, 11)),
)
def test_a_window_is_the_array_s_own(bands, rows, columns, chunks):
    array = np.arange(5 * 13 * 11, dtype=np.int16).reshape(5, 13, 11)
    window = (
        slice(min(rows), max(*rows, min(rows) + 1)),
        slice(min(columns), max(*columns, min(columns) + 1)),
    )
    reader = WindowReader(lazily(CountingSource(array), chunks), tuple(bands))
    np.testing.assert_array_equal(reader(*window), array[bands][:, *window])


def test_reading_a_window_reads_that_window_alone():
    source = CountingSource(np.zeros((6, 100, 90), np.int16))
    reader = WindowReader(lazily(source, (6, 100, 90)), (4, 2))
    assert source.windows == []
    assert reader(slice(10, 17), slice(3, 8)).shape == (2, 7, 5)
    assert source.windows == [(3, 7, 5)]  # bands 2 to 4, in one read


def test_a_window_over_several_chunks_reads_each_pixel_once():
    source = CountingSource(np.zeros((6, 100, 90), np.int16))
    reader = WindowReader(lazily(source, (6, 32, 90)), (0, 1, 2))
    assert reader(slice(30, 70), slice(3, 8)).shape == (3, 40, 5)
    assert sorted(source.windows) == [(3, 2, 5), (3, 6, 5), (3, 32, 5)]


def test_a_reader_pickles_and_reads_the_same():
    array = np.random.default_rng(0).integers(0, 99, (4, 9, 8))
    reader = WindowReader(lazily(CountingSource(array), (4, 5, 5)), (3, 0, 1))
    twin = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(twin(slice(2, 7), slice(1, 6)), array[[3, 0, 1], 2:7, 1:6])


def test_a_reader_does_not_use_the_scheduler_around_it():
    """Else a task that reads would wait for the pool it runs in."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("the outer scheduler was used")

    reader = WindowReader(lazily(CountingSource(np.ones((2, 4, 4))), (2, 4, 4)), (0, 1))
    with dask.config.set(scheduler=refuse):
        assert reader(slice(0, 2), slice(0, 2)).sum() == 8
