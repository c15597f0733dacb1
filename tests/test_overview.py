"""Overviews against the same numbers of whole arrays."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from conftest import BAD, NODATA, SPECTRA, TRANSFORM, make_pixels, write_scene
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj import Geod

from hsi_pipeline import overview
from hsi_pipeline.areas import Measure
from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.overview import (
    bands_near,
    class_spectra,
    north_up,
    overview_of,
    pixel_m,
    read_bands,
    stretched,
)
from hsi_pipeline.scene import open_scene

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

GRID = GeoBox((50, 37), TRANSFORM, "EPSG:32633")
DEGREES = GeoBox((50, 37), Affine(0.3, 0, 10, 0, -0.3, 80), "EPSG:4326")


def make_map(codes, grid=GRID, **layers):
    """Return a class map in chunks that no window fits."""
    scheme = make_scheme(range(1, 8))
    variables = {"class": (("y", "x"), da.from_array(codes, chunks=13), scheme_to_attrs(scheme))}
    for name, values in layers.items():
        variables[name] = (("y", "x"), da.from_array(values.astype(np.float32), chunks=17))
    return xr.Dataset(variables, coords=dict(xr_coords(grid, dims=("y", "x"))))


@pytest.fixture
def noise():
    """Return random codes 0 to 7, and a layer that is unknown where there is no class."""
    random = np.random.default_rng(3)
    codes = random.integers(0, 8, GRID.shape).astype(np.uint8)
    values = random.uniform(0, 2, GRID.shape).astype(np.float32)
    return codes, np.where(codes > 0, values, np.nan)


@pytest.mark.parametrize("side", [8, 16, 64])
@pytest.mark.parametrize("grid", [GRID, DEGREES], ids=["metres", "degrees"])
def test_counts_areas_and_means_are_those_of_all_pixels_whatever_the_window(
    monkeypatch, noise, side, grid
):
    monkeypatch.setattr(overview, "_SIDE", side)
    codes, values = noise
    seen = []
    found = overview_of(
        make_map(codes, grid, confidence=values, dissimilarity=values), longest=20,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    area = np.broadcast_to(Measure(grid).pixel_areas(slice(0, 50), slice(0, 37)), codes.shape)
    for code in range(8):
        inside = codes == code
        assert found.pixels[code] == inside.sum()
        assert found.areas_m2[code] == pytest.approx(area[inside].sum())
        if code:
            assert found.means["confidence"][code] == pytest.approx(values[inside].mean())
            assert found.outside[code] == (values[inside] > 1).sum()
    assert found.classified == (codes > 0).sum()
    assert found.mean("confidence") == pytest.approx(values[codes > 0].mean(), rel=1e-6)
    windows = -(-50 // side) * -(-37 // side)
    assert seen == [(i, windows) for i in range(1, windows + 1)]


@pytest.mark.parametrize(("longest", "step"), [(50, 1), (49, 2), (25, 2), (20, 3), (7, 8), (1, 50)])
def test_pictures_take_every_step_th_pixel(monkeypatch, noise, longest, step):
    monkeypatch.setattr(overview, "_SIDE", 16)
    codes, values = noise
    found = overview_of(make_map(codes, margin=values), longest=longest)
    first = [min(step // 2, size - 1) for size in codes.shape]
    assert found.step == step
    assert max(found.codes.shape) <= longest
    np.testing.assert_array_equal(found.codes, codes[first[0] :: step, first[1] :: step])
    np.testing.assert_array_equal(
        found.layers["margin"], values[first[0] :: step, first[1] :: step]
    )
    assert found.outside is None


def test_a_map_without_a_class_has_no_means():
    empty = np.zeros(GRID.shape, np.uint8)
    found = overview_of(make_map(empty, confidence=np.full(GRID.shape, np.nan)))
    assert found.classified == 0
    assert np.isnan(found.mean("confidence"))


def test_a_map_whose_first_row_is_in_the_south_is_turned(noise):
    codes, _ = noise
    south_up = GRID.flipy()
    upright = north_up(make_map(codes[::-1], south_up))
    np.testing.assert_array_equal(upright["class"].values, codes)
    assert north_up(make_map(codes)).equals(make_map(codes))


# --- scenes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Return a cube of random digital numbers with holes, and its reflectance."""
    random = np.random.default_rng(5)
    pixels = random.integers(0, 9000, (10, *GRID.shape)).astype(np.int16)
    pixels[:, random.random(GRID.shape) < 0.1] = NODATA
    cube = open_scene(write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels))
    return cube, np.where(pixels == NODATA, np.nan, pixels * 1e-4)


@pytest.mark.parametrize("longest", [50, 20])
def test_bands_are_read_as_reflectance_whatever_the_chunks(scene, noise, longest):
    cube, reflectance = scene
    found = overview_of(make_map(noise[0]), longest=longest)
    expected = reflectance[np.ix_([7, 1, 2], found.rows, found.columns)]
    for chunks in (cube.data.chunksize, (10, 7, 11)):
        values = read_bands(cube.chunk(dict(zip(cube.dims, chunks, strict=True))), [7, 1, 2], found)
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_a_scene_whose_first_row_is_in_the_south_gives_the_same(scene, noise):
    cube, reflectance = scene
    turned = cube.isel(y=slice(None, None, -1))
    found = overview_of(make_map(noise[0]), longest=20)
    expected = reflectance[np.ix_([3], found.rows, found.columns)]
    np.testing.assert_allclose(read_bands(turned, [3], found), expected, rtol=1e-6)
    for code, values in class_spectra(turned, found, most=10**6).items():
        here = class_spectra(cube, found, most=10**6)[code]
        np.testing.assert_array_equal(values, here)


def test_bands_near_wavelengths_are_good_ones_or_none(scene):
    cube, _ = scene
    assert bands_near(cube, (650.0, 560.0, 470.0)) == (2, 1, 0)
    assert bands_near(cube, (941.0,)) is None  # 940 is bad, and the next is 90 away
    assert BAD not in (bands_near(cube, (860.0,)) or ())
    unknown = cube.assign_coords(wavelength=("band", np.full(10, np.nan)))
    assert bands_near(unknown, (650.0,)) is None


def test_spectra_are_those_of_their_class(tmp_path):
    codes = np.repeat([[1, 3, 7, 0]], 300, axis=0).repeat(80, axis=1).astype(np.uint8)
    pixels = make_pixels(np.where(codes, codes, 1))
    grid = GeoBox(codes.shape, TRANSFORM, "EPSG:32633")
    cube = open_scene(write_scene(tmp_path / "scene.tif", pixels))
    found = class_spectra(cube, overview_of(make_map(codes, grid)), most=500)
    assert list(found) == [1, 3, 7]
    for code, values in found.items():
        assert values.shape == (500, 10)
        good = [band for band in range(10) if band != BAD]
        expected = np.array(SPECTRA[code])[good] * 1e-4
        np.testing.assert_allclose(values.mean(0)[good], expected, atol=5 * 40e-4 / np.sqrt(500))


def test_spectra_come_from_the_surer_half_and_are_the_same_each_time(scene):
    cube, reflectance = scene
    codes = np.ones(GRID.shape, np.uint8)
    sure = np.arange(codes.size).reshape(codes.shape) / codes.size
    found = overview_of(make_map(codes, confidence=sure))
    (values,) = class_spectra(cube, found, most=100).values()
    again = class_spectra(cube, found, most=100)[1]
    np.testing.assert_array_equal(values, again)
    assert not np.array_equal(values, class_spectra(cube, found, most=100, seed=1)[1], True)
    half = reflectance[:, sure >= np.median(sure)].T.astype(np.float32)
    half = {tuple(np.nan_to_num(one, nan=-1).round(4)) for one in half}
    assert {tuple(np.nan_to_num(one, nan=-1).round(4)) for one in values} <= half


def test_of_a_large_scene_some_blocks_are_read_and_rare_classes_are_found(monkeypatch, scene):
    cube, _ = scene
    monkeypatch.setattr(overview, "_BLOCK", 5)
    monkeypatch.setattr(overview, "_MOST_BLOCKS", 3)
    codes = np.ones(GRID.shape, np.uint8)
    codes[42, 33] = 2
    found = class_spectra(cube, overview_of(make_map(codes)), most=1000)
    assert len(found[2]) == 1
    assert 24 < len(found[1]) <= 3 * 25 - 1


def test_a_stretched_picture_keeps_order_and_hides_nodata():
    values = np.linspace(0, 0.4, 300).reshape(3, 10, 10).astype(np.float32)
    values[:, 0, 0] = np.nan
    picture = stretched(values)
    assert picture[0, 0].tolist() == [0, 0, 0, 0]
    assert (picture[..., 3].ravel()[1:] == 255).all()
    assert (np.diff(picture[..., 0].ravel()[1:].astype(int)) >= 0).all()
    assert picture[..., :3].max() == 255
    assert stretched(np.full((3, 2, 2), 0.3, np.float32))[..., 3].min() == 255
    assert not stretched(np.full((3, 2, 2), np.nan)).any()


def test_the_size_of_a_pixel_is_that_on_the_ground():
    assert pixel_m(GRID) == pytest.approx(30, rel=1e-3)
    assert pixel_m(GRID) != 30  # UTM's scale
    row = 80 - 25 * 0.3
    length = Geod(ellps="WGS84").inv(10, row, 10.3, row)[2]
    assert pixel_m(DEGREES) == pytest.approx(length, rel=1e-4)
    mercator = GeoBox((2, 2), Affine(100, 0, 0, 0, -100, 8399738), "EPSG:3857")
    assert pixel_m(mercator) == pytest.approx(50, rel=0.01)  # at 60 degrees north
    assert pixel_m(GeoBox((2, 2), Affine.identity(), None)) is None
