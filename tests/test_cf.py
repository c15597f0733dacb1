"""CF files and Zarr stores that are incomplete, contradictory or damaged; see test_products too."""

import functools
import http.server
import threading

import numpy as np
import pytest
import xarray as xr
import zarr
from affine import Affine
from products import cf as cubes
from products import spectra_like

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import cf, open_source

SHAPE = (cubes.BANDS, cubes.ROWS, cubes.COLUMNS)
VALUES = spectra_like(SHAPE).astype("f4")


@pytest.fixture(params=["nc", "zarr2", "zarr3"])
def write(request, tmp_path):
    """A function that writes a dataset as netCDF or Zarr."""

    def to_file(dataset, encoding=None):
        path = tmp_path / ("cube.nc" if request.param == "nc" else "cube.zarr")
        if request.param == "nc":
            dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding)
        else:
            version = int(request.param[-1])
            dataset.to_zarr(path, zarr_format=version, consolidated=version == 2)
        return path

    return to_file


def make(**options):
    return cubes.cube(("band", "y", "x"), VALUES, cubes.UTM, **options)


def read_all(path, **options):
    source = open_source(path, **options)
    return source.pixels[tuple(slice(0, n) for n in source.pixels.shape)]


def test_only_stores_and_netcdf_files_are_recognised(tmp_path):
    for path in ("a.nc", "b.zarr", "\0", "x" * 5000, "c.tif", "/vsizip/a.zip/b.tif"):
        assert not cf.recognises(path if path[0] in "\0/" else str(tmp_path / path))
    (tmp_path / "classic.nc").write_bytes(b"CDF\x01" + bytes(100))
    (tmp_path / "empty.zarr").mkdir()
    assert not cf.recognises(str(tmp_path / "classic.nc"))
    assert not cf.recognises(str(tmp_path / "empty.zarr"))
    for address in (
        "s3://bucket/scene.zarr",
        "https://host/a.nc?signature=1",
        "gs://b/scene.zarr/",
    ):
        assert cf.recognises(address)


@pytest.mark.parametrize("unit", ["furlong", "m"])
def test_wavelengths_in_unknown_units_are_refused(write, unit):
    dataset = make()
    dataset["wavelength"].attrs["units"] = unit
    with pytest.raises(InputError, match=rf"{unit}.*use nm, um or cm-1"):
        open_source(write(dataset))


def test_wavelengths_in_the_wrong_unit_are_refused(write):
    dataset = make()
    dataset["wavelength"].attrs["units"] = "um"
    with pytest.raises(InputError, match="no wavelengths; correct it"):
        open_source(write(dataset))


def test_wavelengths_without_unit_are_told_by_their_size(write):
    dataset = make(unit="um")
    del dataset["wavelength"].attrs["units"]
    assert open_source(write(dataset)).wavelengths.center_nm == pytest.approx(cubes.NM)


def test_wavelengths_of_another_name_are_found_by_the_standard_name(write):
    dataset = make().rename(wavelength="centre")
    dataset["centre"].attrs["standard_name"] = "sensor_band_central_radiation_wavelength"
    assert open_source(write(dataset)).wavelengths.center_nm == pytest.approx(cubes.NM)


def test_a_cube_without_wavelengths_is_refused(write):
    with pytest.raises(InputError, match=r"no wavelength coordinate.*reflectance"):
        open_source(write(make().drop_vars("wavelength")))


def test_planes_are_no_cube(write):
    with pytest.raises(InputError, match=r"no variable of three dim.*reflectance"):
        open_source(write(make().isel(band=0)))


def test_several_cubes_are_named(write):
    dataset = make()
    dataset["reflectance_uncertainty"] = dataset["reflectance"] / 10
    with pytest.raises(InputError, match=r"several cubes \(reflectance, reflectance_uncertainty\)"):
        open_source(write(dataset))


@pytest.mark.parametrize("axis", ["y", "x"])
def test_irregular_coordinates_are_refused(write, axis):
    dataset = make()
    values = dataset[axis].values.copy()
    values[3] += 11
    with pytest.raises(InputError, match=f"coordinate {axis} is not regular"):
        open_source(write(dataset.assign_coords({axis: (axis, values, {"units": "m"})})))


def test_one_coordinate_that_is_off_by_little_is_refused(write):
    dataset = make()
    values = dataset["x"].values.copy()
    values[-1] += 1.5  # a twentieth of a pixel: all others are exact
    with pytest.raises(InputError, match="not regular"):
        open_source(write(dataset.assign_coords(x=("x", values, {"units": "m"}))))


def test_coordinates_in_single_precision_are_regular(write):
    dataset = cubes.cube(("band", "y", "x"), VALUES, cubes.UTM)
    for axis in "yx":
        dataset[axis] = dataset[axis].astype("f4")
    grid = open_source(write(dataset)).grid
    assert np.allclose(tuple(grid.affine), tuple(cubes.UTM.affine), atol=0.5, rtol=0)


def test_coordinates_that_are_no_numbers_are_refused(write):
    dataset = make()
    values = dataset["y"].values.copy()
    values[2] = np.nan
    with pytest.raises(InputError, match="no numbers"):
        open_source(write(dataset.assign_coords(y=("y", values))))


def test_coordinates_in_another_unit_than_the_crs_are_refused(write):
    dataset = make()
    dataset["x"].attrs["units"] = "km"
    with pytest.raises(InputError, match=r"'km', which its CRS is not"):
        open_source(write(dataset))


def test_a_single_row_needs_a_geotransform(write):
    dataset = make().isel(y=slice(4, 5))
    with pytest.raises(InputError, match="tells no pixel size"):
        open_source(write(dataset))


def test_a_single_row_with_a_geotransform_has_a_grid(write):
    dataset = make().isel(y=slice(4, 5))
    dataset["crs"].attrs["GeoTransform"] = "364095 30 0 5809845 0 -30"
    assert open_source(write(dataset)).grid == cubes.UTM[4:5, :]


def test_a_geotransform_that_contradicts_the_coordinates_is_refused(write):
    dataset = make()
    dataset["crs"].attrs["GeoTransform"] = "364125 30 0 5809965 0 -30"
    with pytest.raises(InputError, match="disagree"):
        open_source(write(dataset))


@pytest.mark.parametrize("text", ["1 2 3", "a b c d e f", "0 0 0 0 0 0"])
def test_a_geotransform_that_is_none_is_refused(write, text):
    dataset = make()
    dataset["crs"].attrs["GeoTransform"] = text
    with pytest.raises(InputError, match="GeoTransform"):
        open_source(write(dataset))


def test_a_cube_without_crs_needs_pixel_coordinates(write):
    dataset = make(ascending=True).drop_vars("crs")
    del dataset["reflectance"].attrs["grid_mapping"]
    path = write(dataset)
    with pytest.raises(InputError, match=r"no CRS.*--pixel-coordinates"):
        open_source(path)
    source = open_source(path, pixel_coordinates=True)
    assert source.grid.affine == Affine(1, 0, 0, 0, -1, 0)
    np.testing.assert_array_equal(read_all(path, pixel_coordinates=True), VALUES[:, ::-1])


def test_a_missing_grid_mapping_is_refused(write):
    with pytest.raises(InputError, match="grid mapping 'crs' is missing"):
        open_source(write(make().drop_vars("crs")), pixel_coordinates=True)


@pytest.mark.parametrize("attrs", [{"crs_wkt": "nonsense"}, {"grid_mapping_name": "nonsense"}])
def test_a_crs_that_is_none_is_refused(write, attrs):
    dataset = make()
    dataset["crs"].attrs = attrs
    with pytest.raises(InputError, match="cannot be understood"):
        open_source(write(dataset))


def test_two_crs_are_refused(write):
    dataset = make()
    dataset["crs"].attrs["spatial_ref"] = "EPSG:32632"
    with pytest.raises(InputError, match=r"several CRS, EPSG \[32632, 32633\]"):
        open_source(write(dataset))


def test_cf_parameters_alone_make_a_crs(write):
    dataset = make()
    del dataset["crs"].attrs["crs_wkt"]
    found = open_source(write(dataset)).grid.crs.proj.to_cf()
    assert found["longitude_of_central_meridian"] == 15
    assert found["false_easting"] == 500_000


def test_columns_from_east_to_west_are_turned(write):
    dataset = make(ascending=True).isel(x=slice(None, None, -1))
    path = write(dataset)
    source = open_source(path)
    assert source.grid == cubes.UTM
    np.testing.assert_array_equal(read_all(path), VALUES)
    np.testing.assert_array_equal(source.pixels[5:1:-2, 3:9:2, 12], VALUES[5:1:-2, 3:9:2, 12])


@pytest.mark.parametrize("name", ["_FillValue", "missing_value"])
def test_nodata_is_what_the_file_says(write, name):
    dataset = make(**{name: np.float32(-5)})
    assert open_source(write(dataset)).nodata == -5


def test_two_values_for_nodata_are_refused(write):
    dataset = make(_FillValue=np.float32(-5), missing_value=np.float32(-6))
    with pytest.raises(InputError, match=r"two values for nodata.*-6\.0, -5\.0"):
        open_source(write(dataset))


def test_a_scale_that_is_no_number_is_refused(write):
    with pytest.raises(InputError, match=r"scale_factor is 'x', not a number"):
        open_source(write(make(scale_factor="x")))


def test_marks_of_bands_that_are_neither_are_refused(write):
    dataset = make()
    dataset["good"] = "band", np.array([0, 1, 2, 1, 1, 1])
    with pytest.raises(InputError, match="neither 0 nor 1"):
        open_source(write(dataset))


def test_dimensions_of_unknown_direction_are_refused(write):
    dataset = make().rename(y="a", x="b")
    for axis in "ab":
        dataset[axis].attrs = {}
    with pytest.raises(InputError, match=r"\['a', 'b'\] are rows"):
        open_source(write(dataset))


def test_flags_that_do_not_fit_their_meanings_are_refused(write):
    dataset = make()
    meaning = {"flag_masks": [1, 2], "flag_meanings": "cloud"}
    dataset["quality"] = ("y", "x"), np.zeros(SHAPE[1:], "u1"), meaning
    with pytest.raises(InputError, match="do not fit flag_meanings"):
        open_source(write(dataset))


@pytest.mark.parametrize(
    ("chunks", "slow"), [((6, 64, 64), False), ((1, 90, 500), False), ((1, 90, 20_000), True)]
)
def test_blocks_for_single_bands_come_with_advice(tmp_path, chunks, slow):
    size = 90, 20_000
    dataset = xr.Dataset(
        {
            "r": (("band", "y", "x"), np.zeros((6, *size), "i2"), {"grid_mapping": "crs"}),
            "crs": make()["crs"],
        },
        {
            "wavelength": ("band", list(cubes.NM), {"units": "nm"}),
            "y": -np.arange(size[0], dtype=float),
            "x": np.arange(size[1], dtype=float),
        },
    )
    path = tmp_path / "cube.nc"
    encoding = {"r": {"zlib": True, "complevel": 1, "chunksizes": chunks}}
    dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    source = open_source(path)
    assert source.block == chunks[1:]
    assert ("ingest" in source.attrs.get("advice", "")) == slow


def test_texts_of_single_characters_are_names(tmp_path):
    path = tmp_path / "cube.nc"
    dataset = make()
    names = [f"band no. {i}" for i in range(cubes.BANDS)]
    dataset["band_names"] = "band", np.array(names, "S")
    dataset.to_netcdf(path, engine="h5netcdf", encoding={"band_names": {"dtype": "S1"}})
    assert open_source(path).band_names == tuple(names)


def test_numbers_of_a_dimension_without_coordinate_are_none(tmp_path):
    path = tmp_path / "cube.nc"
    dataset = make().drop_vars(["x", "y"])
    dataset.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(InputError, match="no coordinates of its rows and columns"):
        open_source(path)


def store(tmp_path, **options):
    path = tmp_path / "cube.zarr"
    dataset = make(_FillValue=np.float32(-1)).chunk({"y": 8, "x": 8})
    dataset.to_zarr(path, zarr_format=2, **options)
    return path


def test_missing_chunks_are_fill_values(tmp_path):
    path = store(tmp_path)
    (path / "reflectance" / "0.1.0").unlink()
    found = read_all(path)
    assert (found[:, 8:16, :8] == -1).all()
    np.testing.assert_array_equal(found[:, :8], VALUES[:, :8])


def test_chunks_that_are_cut_off_are_refused(tmp_path):
    """Blosc itself gives whatever lies behind them in memory."""
    path = store(tmp_path)
    chunk = path / "reflectance" / "0.1.0"
    content = chunk.read_bytes()
    for size in (0, 10, 100, len(content) - 1):
        chunk.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"0\.1\.0 is damaged or cut off"):
            read_all(path)
        assert open_source(path).pixels[:, :8, :8].shape == (cubes.BANDS, 8, 8)


def test_arrays_of_two_sizes_are_refused(tmp_path):
    path = store(tmp_path, consolidated=False)
    zarr.open_array(path / "y", mode="r+").resize(17)
    with pytest.raises(InputError, match=r"19 along y, but y 17"):
        open_source(path)


def test_a_class_map_is_no_scene(tmp_path):
    path = tmp_path / "map.zarr"
    xr.Dataset({"class": (("y", "x"), np.zeros((4, 5), "u1"))}).to_zarr(path, zarr_format=2)
    with pytest.raises(InputError, match=r"three dimensions; it holds class"):
        open_source(path)


def test_a_store_behind_an_address_is_read(tmp_path):
    path = store(tmp_path)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/cube.zarr"
        np.testing.assert_array_equal(read_all(address), VALUES)
        assert open_source(address).grid == cubes.UTM
        with pytest.raises(InputError, match="cannot be read as a Zarr store"):
            open_source(address.replace("cube", "other"))
        (path / "reflectance" / "0.0.0").write_bytes(b"x" * 50)
        with pytest.raises(InputError, match="damaged or cut off"):
            read_all(address)
        server.shutdown()
