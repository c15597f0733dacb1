"""Files that lie, lead elsewhere, or would eat the machine: refused in a line or two."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import rasterio
from products import emit, enmap, neon, prisma
from test_scene import write_envi, write_tif

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import open_source
from hsi_pipeline.scene.xml import parse_xml

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


PROGRAM = os.path.join(os.path.dirname(sys.executable), "hsi-pipeline")


def first(module, folder):
    folder.mkdir(exist_ok=True)
    return next(iter(module.EXAMPLES.values()))(folder)


def refused(path, match, **options):
    with pytest.raises(InputError, match=match) as caught:
        open_source(path, **options)
    assert str(caught.value).count("\n") == 0


# --- reading elsewhere ---


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.bin"
    path.write_bytes(b"secret" * 4000)
    return path


@pytest.mark.parametrize("kind", ["external", "virtual", "link"])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (neon, "SITE/Reflectance/Reflectance_Data"),
        (prisma, "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/VNIR_Cube"),
        (emit, "reflectance"),
    ],
)
def test_hdf5_that_takes_its_pixels_from_another_file_is_refused(
    tmp_path, secret, module, name, kind
):
    example = first(module, tmp_path / "product")
    with h5py.File(example.path, "r+") as file:
        name = name.replace("SITE", next(iter(file)))
        shape, dtype = file[name].shape, file[name].dtype
        attrs = dict(file[name].attrs)
        del file[name]
        if kind == "external":
            size = int(np.prod(shape)) * dtype.itemsize
            file.create_dataset(name, shape, dtype, external=[(str(secret), 0, size)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[...] = h5py.VirtualSource(str(secret), "x", shape=shape)
            file.create_virtual_dataset(name, layout)
        else:
            file[name] = h5py.ExternalLink(str(secret), "x")
        if kind != "link":
            file[name].attrs.update(
                {
                    k: v
                    for k, v in attrs.items()
                    if "REF" not in k and k not in ("DIMENSION_LIST", "CLASS")
                }
            )
    refused(example.path, "stored in another file|link to another file")


def vrt_to(target):
    with rasterio.open(target) as raster:
        width, height = raster.width, raster.height
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>0,30,0,0,0,-30</GeoTransform>"
        '<VRTRasterBand dataType="Int16" band="1"><SimpleSource>'
        f"<SourceFilename>{target}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


def test_a_recipe_is_opened_only_where_the_user_names_one(tmp_path):
    inner = write_tif(tmp_path / "inner.tif", np.ones((1, 4, 5), "int16"))
    named = tmp_path / "named.vrt"
    named.write_text(vrt_to(inner))
    assert open_source(named).pixels.shape == (1, 4, 5)
    disguised = tmp_path / "scene.tif"
    disguised.write_text(vrt_to(inner))
    refused(disguised, "cannot be opened as a raster")
    for name in ("scene.tif", "scene.vrt"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(name, vrt_to(inner))
        refused(tmp_path / f"{name}.zip", "cannot be opened as a raster|no raster was found")
    refused(f"/vsizip/{tmp_path}/scene.vrt.zip/scene.vrt", "cannot be opened as a raster")
    web = tmp_path / "web.tif"
    web.write_text(
        '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/</ServerUrl></Service></GDAL_WMS>'
    )
    refused(web, "cannot be opened as a raster")


# --- eating the machine ---


def test_xml_of_millions_of_elements_is_refused_while_it_is_read():
    with pytest.raises(InputError, match=r"a\.xml has more elements than metadata have"):
        parse_xml(b"<r>" + b"<a/>" * 2_100_000 + b"</r>", "a.xml")
    with pytest.raises(InputError, match="more elements"):
        parse_xml(b"<a>" * 300 + b"</a>" * 300, "a.xml")


def test_a_tar_whose_header_is_huge_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("././@LongLink")
        entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 64 * 2**20
        archive.addfile(entry, io.BytesIO(b"a" * entry.size))
    refused(path, "cannot be read as an archive, it is damaged")


def test_lists_far_larger_than_any_are_not_read(tmp_path):
    example = first(emit, tmp_path / "product")
    with h5py.File(example.path, "r+") as file:
        group = file["sensor_band_parameters"]
        del group["good_wavelengths"]
        group.create_dataset("good_wavelengths", (2_000_000_000,), "u1", chunks=(2**20,))
    refused(example.path, "has 2000000000 values of 1 bytes, which no such list has")


# --- files that are something else ---


@pytest.mark.parametrize("suffix", [".tif", ".he5", ".nc", ".h5", ".img"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "pointer to git-lfs"),
        (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "is a web page"),
        (b"CDF\x01\0\0\0\0", "classic netCDF file; convert it"),
    ],
)
def test_what_was_downloaded_instead_is_named(tmp_path, suffix, content, words):
    path = tmp_path / f"scene{suffix}"
    path.write_bytes(content)
    refused(path, words)


def test_a_dangling_link_in_a_product_s_folder_does_no_harm(tmp_path):
    example = first(enmap, tmp_path / "product")
    (example.path / ".#lock").symlink_to("nobody@host")
    assert open_source(example.path).pixels.shape == example.reflectance.shape


# --- numbers that cannot be ---


def test_degrees_that_are_metres_are_refused(tmp_path):
    path = write_tif(tmp_path / "a.tif", np.ones((1, 4, 5), "int16"), crs="EPSG:4326")
    refused(path, "is in degrees, but it goes from 364095")


@pytest.mark.parametrize(
    "map_info",
    [
        "{UTM, 1, 1, 364095, 5809965, 30, 30, 99, North, WGS-84}",
        "{UTM, 1, 1, 364095,5, 5809965,5, 30, 30, 33, North, WGS-84}",
        "{UTM, 1, 1, 364095, 5809965, 30, 30, 33, North, WGS-84, units=Degrees}",
    ],
)
def test_a_map_info_that_cannot_be_true_is_refused(tmp_path, map_info):
    path = write_envi(tmp_path / "a.img", np.ones((2, 4, 5), "int16"), map_info=map_info)
    refused(path, r"a\.img: map info is UTM, 1, 1, 364095.*zone 1 to 60")


def test_a_local_crs_is_no_georeference(tmp_path):
    path = write_envi(
        tmp_path / "a.img",
        np.ones((2, 4, 5), "int16"),
        map_info="{Arbitrary, 1, 1, 0, 0, 1, 1, 0, North}",
    )
    refused(path, "no CRS|CRS of its own|CRS is missing|no geotransform")
    assert open_source(path, pixel_coordinates=True).grid.crs is None


@pytest.mark.parametrize(("unit", "center"), [("Micrometers", 450.0), ("Nanometers", 0.45)])
def test_wavelengths_in_the_wrong_unit_are_refused(tmp_path, unit, center):
    path = write_envi(
        tmp_path / "a.img", np.ones((2, 4, 5), "int16"), wavelength=f"{{{center}, {center + 0.1}}}",
        wavelength_units=unit,
    )  # fmt: skip
    refused(path, "none that an imaging spectrometer measures")


def test_a_scale_that_makes_no_values_is_refused(tmp_path):
    path = write_envi(
        tmp_path / "a.img", np.ones((2, 4, 5), "int16"), reflectance_scale_factor="1e400"
    )
    refused(path, "scale and offset of its values must be finite and the scale not 0")


def test_an_envi_image_whose_header_has_another_name_does_not_lose_its_scale(tmp_path):
    path = write_envi(
        tmp_path / "a.img", np.ones((2, 4, 5), "int16"), reflectance_scale_factor=10000
    )
    path.rename(tmp_path / "a.tif")
    refused(tmp_path / "a.tif", "is an ENVI image whose header is not found beside it by its name")


def test_an_empty_array_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.empty((0, 4, 3)))
    refused(
        tmp_path / "a.npy",
        r"a\.npy is empty: \(band, y, x\) are \(3, 0, 4\)",
        pixel_coordinates=True,
    )


def test_products_of_two_sensors_in_a_folder_are_not_chosen_among(tmp_path):
    example = first(prisma, tmp_path / "product")
    first(enmap, tmp_path / "product")
    refused(example.path.parent, r"products of several sensors \(enmap, prisma\)")


def test_a_flag_that_the_product_lacks_is_refused_by_name(tmp_path):
    path = write_tif(tmp_path / "a.tif", np.ones((1, 4, 5), "int16"))
    refused(path, "has no quality flag snow; it has no quality layers at all", mask="snow")


# --- a real process ---


@pytest.mark.parametrize("kind", ["enmap", "vrt"])
def test_info_leaves_nothing_on_the_error_stream(tmp_path, kind):
    if kind == "enmap":
        path = first(enmap, tmp_path / "product").path
    else:
        inner = write_tif(tmp_path / "inner.tif", np.ones((1, 4, 5), "int16"))
        path = tmp_path / "named.vrt"
        path.write_text(vrt_to(inner))
    done = subprocess.run(
        [PROGRAM, "info", os.fspath(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
