"""EMIT granules that are incomplete, damaged or large; what is right is in test_products."""

import shutil
import tracemalloc

import h5py
import numpy as np
import pytest
from products import emit as granules

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import emit, open_source
from hsi_pipeline.scene.hdf5_heap import check_heaps
from hsi_pipeline.scene.quality import bit


@pytest.fixture
def granule(tmp_path):
    """A granule with masks."""
    return granules.write_with_masks(tmp_path)


@pytest.fixture
def plain(tmp_path):
    """A granule whose image is contiguous, without masks."""
    return granules.write_reflectance(tmp_path)


def change(path, name, values=None, **attrs):
    """Replace a dataset's values, or attributes of the file (name "/") or a dataset."""
    with h5py.File(path, "r+") as file:
        if values is not None:
            file[name][...] = values
        file[name].attrs.update(attrs)


def replace_dataset(path, name, values, **attrs):
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = values
        file[name].attrs.update(attrs)


def mask_of(granule):
    return next(granule.path.parent.glob("EMIT_L2A_MASK_*_012.nc"))


def read_all(path, **options):
    source = open_source(path, **options)
    return source.pixels[tuple(slice(0, n) for n in source.pixels.shape)]


def test_a_file_of_another_name_and_a_folder_are_recognised(granule, plain, tmp_path):
    other = shutil.copy(granule.path, tmp_path / "scene.nc")
    assert emit.recognises(str(other))
    assert open_source(other).quality is None  # which masks are its own, only names tell
    folder = tmp_path / "granule"
    folder.mkdir()
    for file in (granule.path, mask_of(granule)):
        shutil.copy(file, folder)
    assert open_source(folder).quality is not None
    assert open_source(folder).attrs["scene_id"] == granule.path.stem


def test_nothing_else_is_recognised(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(300))
    (tmp_path / "b.nc").write_bytes(b"CDF\x01")
    (tmp_path / "empty").mkdir()
    with h5py.File(tmp_path / "c.nc", "w") as file:
        file["reflectance"] = np.zeros((2, 3, 4), "f4")
    for path in ("a.nc", "b.nc", "c.nc", "d.nc", "empty", "\0", "x" * 5000, "s3://b/c.nc"):
        assert not emit.recognises(path if path == "\0" else str(tmp_path / path))
    assert emit.recognises("s3://bucket/EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc")


def test_a_folder_of_several_scenes_or_of_none_is_refused(granule, tmp_path):
    shutil.copy(granule.path, tmp_path / "EMIT_L2A_RFL_001_20220903T163141_2224611_013.nc")
    with pytest.raises(InputError, match="several scenes"):
        open_source(tmp_path)
    folder = tmp_path / "masks"
    folder.mkdir()
    shutil.copy(mask_of(granule), folder)
    with pytest.raises(InputError, match="neither EMIT_L2A_RFL"):
        open_source(folder)


def test_another_product_is_named(granule):
    with pytest.raises(InputError, match=r"holds neither reflectance nor radiance but mask"):
        open_source(mask_of(granule))


def test_a_file_without_lookup_table_needs_pixel_coordinates(granule):
    swath = granules.make_swath(-31, seed=2)
    with h5py.File(granule.path, "r+") as file:
        del file["location"]
    with pytest.raises(InputError, match=r"lacks the lookup table.*--pixel-coordinates"):
        open_source(granule.path)
    source = open_source(granule.path, pixel_coordinates=True)
    assert source.grid.crs is None
    np.testing.assert_array_equal(
        read_all(granule.path, pixel_coordinates=True), swath.image.transpose(2, 0, 1)
    )
    flags = source.quality.read(slice(5, 6), slice(0, granules.SAMPLES))
    assert ((flags & bit("invalid")) != 0)[0, 6:8].all()


def test_half_a_lookup_table_is_refused(plain):
    with h5py.File(plain.path, "r+") as file:
        del file["location/glt_x"]
    with pytest.raises(InputError, match="lacks the dataset location/glt_x"):
        open_source(plain.path, pixel_coordinates=True)


@pytest.mark.parametrize(
    ("name", "number"), [("glt_x", 5000), ("glt_y", -24), ("glt_x", 0), ("glt_y", -(2**31))]
)
def test_a_lookup_table_that_points_outside_the_image_is_refused(plain, name, number):
    with h5py.File(plain.path, "r+") as file:
        table = file[f"location/{name}"]
        row, column = np.argwhere(table[()] > 0)[-1]
        table[row, column] = number
    with pytest.raises(InputError, match=r"points outside the image of 23 rows and 17 columns"):
        read_all(plain.path)


def test_tables_of_which_nothing_was_written_are_empty(plain):
    for name in ("glt_x", "glt_y"):
        change(plain.path, f"location/{name}", -9999)
    assert (read_all(plain.path) == -9999).all()


def test_tables_of_two_sizes_are_refused(plain):
    replace_dataset(plain.path, "location/glt_x", np.zeros((4, 5), "i4"))
    with pytest.raises(InputError, match=r"glt_x \(4, 5\) do not fit"):
        open_source(plain.path)


def test_a_mask_of_another_size_is_refused(granule):
    granules.write_mask(mask_of(granule), granules.make_swath(-31, seed=2), lines=20)
    with pytest.raises(InputError, match=r"mask has 20 x 17 pixels, the image 23 x 17"):
        open_source(granule.path)


@pytest.mark.parametrize(
    ("names", "words"),
    [(("Cloud flag",), "8 mask bands but 1 names"), (("a",) * 8, "none of the mask bands")],
)
def test_a_mask_without_the_names_of_its_bands_is_refused(granule, names, words):
    kind = h5py.string_dtype()
    values = np.array(names, dtype=object)
    with h5py.File(mask_of(granule), "r+") as file:
        del file["sensor_band_parameters/mask_bands"]
        file["sensor_band_parameters"].create_dataset("mask_bands", data=values, dtype=kind)
    with pytest.raises(InputError, match=words):
        open_source(granule.path)


def test_the_mask_of_the_same_version_is_preferred(granule):
    newer = mask_of(granule).with_name("EMIT_L2A_MASK_003_20220903T163129_2224611_012.nc")
    granules.write_mask(newer, granules.make_swath(-31, seed=2), granules.V2_BANDS, seed=9)
    source = open_source(granule.path)
    rows, columns = source.quality.shape
    bits = source.quality.read(slice(0, rows), slice(0, columns))
    np.testing.assert_array_equal((bits & bit("water")) != 0, granule.flags["water"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("geotransform", np.array([-115.9, 5.4e-4, 0, 33.38, 0, 5.4e-4]), "not north-up"),
        ("geotransform", np.array([-115.9, 5.4e-4, 1e-5, 33.38, 0, -5.4e-4]), "not north-up"),
        ("geotransform", np.array([-115.9, 5.4e-4]), "cannot be read"),
        ("geotransform", np.array([9, granules.PIXEL, 0, 33.38, 0, -granules.PIXEL]), "not fit"),
        ("spatial_ref", "nonsense", "cannot be read"),
        ("spatial_ref", 'GEOGCS["NAD27",DATUM["North_American_Datum_1927",SPHEROID["Clarke 1866",'
         '6378206.4,294.9786982]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]',
         "not WGS 84"),
        ("westernmost_longitude", granules.WEST + 3 * granules.PIXEL, "westernmost_longitude"),
        ("northernmost_latitude", "north", "not a number"),
    ],
)  # fmt: skip
def test_a_georeference_that_cannot_be_right_is_refused(plain, name, value, words):
    change(plain.path, "/", **{name: value})
    with pytest.raises(InputError, match=words):
        open_source(plain.path)


def test_bounds_that_are_exchanged_as_in_old_files_are_no_fault(plain):
    with h5py.File(plain.path, "r+") as file:
        west, east = (file.attrs[f"{end}most_longitude"] for end in ("western", "eastern"))
    change(plain.path, "/", westernmost_longitude=east, easternmost_longitude=west)
    assert open_source(plain.path).grid == plain.grid


def test_latitudes_elsewhere_are_refused(plain):
    with h5py.File(plain.path, "r+") as file:
        file["location/lat"][...] += 0.01
    with pytest.raises(InputError, match="latitudes and longitudes of its pixels"):
        open_source(plain.path)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("wavelengths", np.linspace(381, 440, 8, dtype="f4"), "9 bands, but 8 wavelengths"),
        ("wavelengths", np.linspace(3.81, 4.40, 9, dtype="f4"), "beyond 200"),
        ("wavelengths", np.full(9, np.nan, "f4"), "not a positive number"),
        ("wavelengths", np.float32([381, 388, 395, 402, 412, 416, 423, 430, 437]), "neighbours"),
        ("wavelengths", np.float32([381, 395, 388, 402, 409, 416, 423, 430, 437]), "order"),
        ("fwhm", np.zeros(9, "f4"), "width"),
        ("good_wavelengths", np.full(9, 7, "u1"), "not 0 or 1"),
        ("good_wavelengths", np.ones(7, "u1"), "7 good_wavelengths"),
    ],
)
def test_a_band_table_that_cannot_be_right_is_refused(plain, name, values, words):
    replace_dataset(plain.path, f"sensor_band_parameters/{name}", values, units="nm")
    with pytest.raises(InputError, match=words):
        open_source(plain.path)


def test_wavelengths_in_unknown_units_are_refused(plain):
    change(plain.path, "sensor_band_parameters/wavelengths", units="furlong")
    with pytest.raises(InputError, match="furlong"):
        open_source(plain.path)


def test_another_fill_value_is_refused(plain):
    change(plain.path, "reflectance", _FillValue=np.float32(-999))
    with pytest.raises(InputError, match="fill value"):
        open_source(plain.path)


def test_a_file_that_became_shorter_is_not_read_by_its_old_handle(plain):
    whole = read_all(plain.path)
    content = plain.path.read_bytes()
    plain.path.write_bytes(content[:-1000])
    with pytest.raises(InputError, match="truncated"):
        read_all(plain.path)
    plain.path.write_bytes(content)
    np.testing.assert_array_equal(read_all(plain.path), whole)


def test_a_table_of_texts_that_hdf5_would_not_come_back_from_is_refused(granule):
    path = mask_of(granule)
    content = bytearray(path.read_bytes())
    start = content.find(b"GCOL") + 16
    content[start : start + 2] = b"\0\0"  # the first text becomes a free object of a few bytes
    content[start + 8 : start + 16] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(InputError, match="table of texts"):
        open_source(granule.path)
    check_heaps(str(granule.path))


def test_large_chunks_come_with_advice(tmp_path):
    path = tmp_path / "EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc"
    granules.write_image(path, granules.make_swath())
    assert "advice" not in open_source(shutil.copy(path, tmp_path / "other.nc")).attrs
    with h5py.File(path, "r+") as file:
        image = file["reflectance"][()]
        del file["reflectance"]
        file.create_dataset(
            "reflectance", data=image, chunks=(1280, 1242, 9), maxshape=(None, None, 9),
            compression="gzip", fillvalue=np.float32(-9999),
        )  # fmt: skip
    assert "ingest" in open_source(path).attrs["advice"]


def test_memory_is_bounded_where_a_window_lies_all_over_the_image(tmp_path):
    lines, samples, bands = 1280, 1242, 60  # 381 MB, of which nothing is written
    path = tmp_path / "EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc"
    granules.write_image(path, granules.make_swath())
    random = np.random.default_rng(0)
    rows = random.integers(0, lines, (300, 400))
    columns = random.integers(0, samples, (300, 400))
    with h5py.File(path, "r+") as file:
        for name in ("reflectance", "location", "sensor_band_parameters"):
            del file[name]
        for name in ("westernmost_longitude", "southernmost_latitude"):
            del file.attrs[name]
        image = file.create_dataset(
            "reflectance", (lines, samples, bands), "f4", chunks=(64, 64, bands), fillvalue=0.5
        )
        image[lines - 1, samples - 1] = np.arange(bands)
        rows[7, 9], columns[7, 9] = lines - 1, samples - 1
        file["location/glt_y"], file["location/glt_x"] = (rows + 1).astype("i4"), columns + 1
        file["sensor_band_parameters/wavelengths"] = np.linspace(400, 836.6, bands)
        file["sensor_band_parameters/fwhm"] = np.full(bands, 8.5)
    source = open_source(path)
    tracemalloc.start()
    try:
        window = source.pixels[:, 0:300, 0:400]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(window[:, 7, 9], np.arange(bands))
    assert (np.delete(window.reshape(bands, -1), 7 * 400 + 9, axis=1) == 0.5).all()
    assert peak < window.nbytes + 45e6, "window, a tile, and the table"
