"""What is special about NEON's files: a real one, map info, old and new quality layers."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from products import neon as product

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import neon, open_scene, open_source

REAL = Path(__file__).parents[1].parent / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real scenes at {REAL.name}/")


@needs_real
def test_a_real_file_agrees_with_h5py():
    path = REAL / "neon_h5" / "ex.h5"
    source = open_source(path)
    with h5py.File(path) as file:
        stored = file["SJER/Reflectance/Reflectance_Data"][()]
        wavelengths = file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][()]
    np.testing.assert_array_equal(source.pixels[:, :, :], stored.transpose(2, 0, 1))
    np.testing.assert_array_equal(source.pixels[40:9:-1, 3:28:2, 29], stored[3:28:2, 29, 40:9:-1].T)
    np.testing.assert_allclose(source.wavelengths.center_nm, wavelengths)
    assert source.wavelengths.fwhm_nm == (None,) * 426  # left out of this subset
    assert (source.scale, source.offset, source.nodata) == (1e-4, 0.0, -9999)
    assert source.grid.crs.to_epsg() == 32611
    assert source.grid.affine @ (0, 0) == (257000.0, 4112000.0)
    assert source.grid.affine @ (30, 30) == (257030.0, 4111970.0)
    assert source.attrs["scene_id"] == "ex"
    cube = open_scene(path)
    assert cube.sizes == {"band": 426, "y": 30, "x": 30}
    assert float(cube["x"][0]) == 257000.5


@pytest.fixture
def tile(tmp_path):
    return product.tile(tmp_path).path


@pytest.fixture
def group(tile):
    """The tile, open for changes; close it by `with`."""
    with h5py.File(tile, "r+") as file:
        yield file["SJER/Reflectance"]


def refused(tile, group, message):
    group.file.close()
    with pytest.raises(InputError, match=message):
        open_source(tile)


def put(group, name, value):
    del group[name]
    group[name] = value


@pytest.mark.parametrize("angle", [-130.0, -3.25, 12.5, 90.0])
@pytest.mark.parametrize("field", ["{}", "rotation={}"])
def test_rotated_map_info_is_understood_as_gdal_does(tile, group, tmp_path, angle, field):
    fields = (
        f"UTM, 1, 1, 257000, 4112000, 2, 2, 11, North, WGS-84, units=Meters, {field.format(angle)}"
    )
    put(group, "Metadata/Coordinate_System/Map_Info", np.bytes_(fields))
    group.file.close()
    header = [
        "ENVI",
        "samples = 17",
        "lines = 23",
        "bands = 1",
        "data type = 1",
        "interleave = bsq",
        # GDAL knows only this spelling
        f"map info = {{{fields.rpartition(',')[0]}, rotation={angle}}}",
    ]
    (tmp_path / "gdal.hdr").write_text("\n".join(header))
    (tmp_path / "gdal.img").write_bytes(bytes(23 * 17))
    with rasterio.open(tmp_path / "gdal.img") as raster:
        wanted = raster.transform
    assert np.allclose(open_source(tile).grid.affine, wanted)


def test_the_reference_pixel_may_be_another_one(tile, group):
    fields = "UTM, 1.5, 4.5, 257000.5, 4111996.5, 1, 1, 11, North, WGS-84, units=Meters, 0"
    put(group, "Metadata/Coordinate_System/Map_Info", np.bytes_(fields))
    group.file.close()
    assert open_source(tile).grid.affine @ (0, 0) == (257000.0, 4112000.0)


@pytest.mark.parametrize("code", [32611, np.array([32611]), np.array([b"32611"], object), "32611"])
def test_the_epsg_code_may_be_a_number_or_a_text(tile, group, code):
    name = "Metadata/Coordinate_System/EPSG Code"
    del group[name]
    if isinstance(code, np.ndarray) and code.dtype == object:
        group.create_dataset(name, data=code, dtype=h5py.string_dtype())
    else:
        group[name] = code
    group.file.close()
    assert open_source(tile).grid.crs.to_epsg() == 32611


CONTRADICTIONS = {
    "EPSG": ("EPSG Code", b"32612", "EPSG code 32612 contradicts Map_Info, which is EPSG:32611"),
    "no EPSG": ("EPSG Code", b"UTM", "EPSG code UTM contradicts"),
    "hemisphere": ("Map_Info", product.MAP_INFO.replace("North", "South"), "contradicts Map_Info"),
    "corner": (
        "Map_Info",
        product.MAP_INFO.replace("257000", "258000"),
        "Spatial_Extent_meters is",
    ),
    "pixel": (
        "Map_Info",
        product.MAP_INFO.replace(" 1.0000000, ", " 2.0000000, ", 1),
        "no UTM grid",
    ),
    "unit": ("Map_Info", product.MAP_INFO.replace("Meters", "Feet"), "no UTM grid"),
    "datum": ("Map_Info", product.MAP_INFO.replace("WGS-84", "NAD-27"), "no UTM grid"),
    "empty": ("Map_Info", "", "no UTM grid"),
    "words": ("Map_Info", "UTM, one, one, 2, 3, 4, 5, 6, North", "no UTM grid"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_georeferences_that_contradict_each_other_are_refused(tile, group, name):
    where, value, message = CONTRADICTIONS[name]
    put(group, f"Metadata/Coordinate_System/{where}", np.bytes_(value) if value else "")
    refused(tile, group, message)


def test_lists_of_another_length_are_refused(tile, group):
    put(group, "Metadata/Spectral_Data/FWHM", np.array(product.FWHM[1:]))
    refused(tile, group, "FWHM has 8 values, Reflectance_Data 9 bands")


def test_units_that_are_not_known_are_refused(tile, group):
    group["Metadata/Spectral_Data/Wavelength"].attrs["Units"] = np.bytes_("furlongs")
    refused(tile, group, "unit 'furlongs' is not known")


def test_wavelengths_in_micrometres_are_converted(tile, group):
    for name in ("Wavelength", "FWHM"):
        values = group[f"Metadata/Spectral_Data/{name}"]
        values[...] = values[()] / 1000
        values.attrs["Units"] = np.bytes_("micrometers")
    group.file.close()
    assert open_source(tile).wavelengths.center_nm == pytest.approx(product.NM)


def test_missing_datasets_are_named(tile, group):
    del group["Metadata/Coordinate_System/Map_Info"]
    refused(tile, group, "lacks the text .*Map_Info")


def test_a_quality_layer_of_another_size_is_refused(tile, group):
    put(group, "Metadata/Ancillary_Imagery/Haze_Cloud_Water_Map", product.classes()[:, 1:])
    refused(tile, group, "Haze_Cloud_Water_Map has 23 x 16 pixels, the image 23 x 17")


def test_windows_that_are_no_wavelengths_are_refused(tile, group):
    group.attrs["Band_Window_1_Nanometers"] = np.array([1445, 1340])
    refused(tile, group, "Band_Window_1_Nanometers is .* not two wavelengths")


def test_a_scale_that_divides_by_nothing_is_refused(tile, group):
    group["Reflectance_Data"].attrs["Scale_Factor"] = np.array([0.0])
    refused(tile, group, "Scale_Factor is 0 .* expected a positive")


def test_a_nodata_value_that_no_pixel_can_hold_is_refused(tile, group):
    group["Reflectance_Data"].attrs["Data_Ignore_Value"] = np.array([-9999.25])
    refused(tile, group, "Data_Ignore_Value -9999.25; expected")


def test_files_without_quality_layers_have_no_flags(tile, group):
    del group["Metadata/Ancillary_Imagery"]
    group.file.close()
    assert open_source(tile).quality is None


def test_radiance_says_what_to_download(tmp_path):
    path = tmp_path / "NEON_D13_CRBU_DP1_20180612_154959_radiance.h5"
    with h5py.File(path, "w") as file:
        file["CRBU/Radiance/RadianceIntegerPart"] = np.ones((3, 3, 3), "<i2")
    with pytest.raises(InputError, match=r"radiance at the sensor.*DP3\.30006"):
        open_source(path)


def test_nothing_else_is_taken_for_a_file_of_neon(tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["data"] = np.ones(3)
    (tmp_path / "text.h5").write_text("not HDF5")
    for name in ("other.h5", "text.h5", "missing.h5", "."):
        assert not neon.recognises(str(tmp_path / name))
    renamed = other.with_name("NEON_D17_SJER_DP3_1_2_reflectance.h5")
    other.rename(renamed)
    with pytest.raises(InputError, match=r"no reflectance file of NEON's.* holds data"):
        open_source(renamed)
