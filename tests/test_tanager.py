"""What is special about Tanager: basic scenes, and grids that contradict themselves."""

import re
import shutil
import uuid
from pathlib import Path

import h5py
import numpy as np
import pytest
from products import tanager as product

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import open_source, tanager

GRID = "HDFEOS/GRIDS/HYP"
STRUCTURE = "HDFEOS INFORMATION/StructMetadata.0"


@pytest.mark.parametrize("content", ["sr", "radiance"])
def test_basic_scenes_say_what_to_do(tmp_path, content):
    path = product.write(tmp_path / f"20250926_092059_95_4001_basic_{content}.h5", "basic", content)
    with pytest.raises(InputError, match=r"basic scene.*not on a map grid.*-104\.\d.*ortho scene"):
        open_source(path)
    source = open_source(path, pixel_coordinates=True)
    assert source.grid.crs is None
    assert source.grid.shape == product.SHAPE[1:]
    np.testing.assert_array_equal(source.pixels[:, :, :], product.image(content))
    assert source.attrs["level"] == f"basic_{content}"
    assert re.match(r"-104\.2 to -104\.\d E", source.attrs["geolocation_extent"])
    assert source.quality.flags == ("cloud", "cirrus", "invalid")


@pytest.fixture
def scene(tmp_path):
    return product.reflectance(tmp_path).path


def rewrite(scene, pattern, replacement):
    """Return a copy with other structural metadata; an open file cannot be changed."""
    scene = Path(shutil.copy(scene, scene.parent / f"{uuid.uuid4()}.h5"))
    with h5py.File(scene, "r+") as file:
        del file[STRUCTURE]
        file[STRUCTURE] = np.bytes_(re.sub(pattern, replacement, product.STRUCTURE))
    return scene


STRUCTURES = {
    "size": ("XDim=17", "XDim=18", "StructMetadata.0 has XDim=18, the image has 17"),
    "no size": (r"\t\tYDim=23\n", "", "StructMetadata.0 has no YDim, the image has 23"),
    "bands": ("Band=8", "Band=9", "has Band=9, the image has 8"),
    "corner": ("570300.00", "570000.00", "pixels of 47.6471 x 30 m, which are not square"),
    "mirrored": ("570810.00", "569790.00", "which are not square"),
    "no corner": (r"\t\tUpperLeft.*\n", "", "lacks UpperLeftPointMtrs"),
    "not a number": ("570300.00", "5703.00.00", "lacks UpperLeftPointMtrs, or it is damaged"),
    "zone": ("ZoneCode=13", "ZoneCode=14", "EPSG code 32613 contradicts the UTM zone 14"),
    "south": ("ZoneCode=13", "ZoneCode=-13", "contradicts the UTM zone -13"),
    "no zone": (r"\t\tZoneCode=13\n", "", "contradicts the UTM zone that is missing"),
    "projection": ("GCTP_UTM", "GCTP_LAMCC", "lacks Projection=HE5_GCTP_UTM"),
    "datum": ("SphereCode=12", "SphereCode=0", "lacks SphereCode=12"),
    "registration": ("HDFE_CORNER", "HDFE_CENTER", "lacks PixelRegistration=HE5_HDFE_CORNER"),
    "origin": ("HDFE_GD_UL", "HDFE_GD_LL", "lacks GridOrigin"),
    "another grid": ('"HYP"', '"VIS"', "lacks GridName"),
    "swath": ("GROUP=GridStructure", "", "lacks GridName"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_grids_that_contradict_themselves_are_refused(scene, name):
    pattern, replacement, message = STRUCTURES[name]
    with pytest.raises(InputError, match=message):
        open_source(rewrite(scene, pattern, replacement))


def test_what_means_the_same_when_left_out_may_be_left_out(scene):
    grid = open_source(scene).grid
    assert open_source(rewrite(scene, r"\t\t(Sphere|Pixel|GridOrigin|Band).*\n", "")).grid == grid


def test_scenes_of_the_southern_hemisphere(scene):
    for zone in (13, -13):  # GCTP's way, and without the sign
        changed = rewrite(scene, "ZoneCode=13", f"ZoneCode={zone}")
        with h5py.File(changed, "r+") as file:
            file[GRID].attrs["epsg_code"] = 32713
        assert open_source(changed).grid.crs.to_epsg() == 32713


ATTRIBUTES = {
    "length": ("wavelengths", np.array(product.NM[1:]), "wavelengths has 7 values, the image 8"),
    "widths": ("fwhm", np.array(product.FWHM) * 0, "fwhm.* not plausible"),
    "order": ("wavelengths", np.array(product.NM)[[1, 0, *range(2, 8)]], "out of order"),
    "good": ("good_wavelengths", np.arange(8), "good_wavelengths are not 0 or 1"),
    "unit": ("wavelengths_units", "furlongs", "unit 'furlongs' is not known"),
    "metres": ("wavelengths", np.array(product.NM) * 1e-9, "beyond 200"),
    "fill": ("_FillValue", "none", "'_FillValue' is none, not a number"),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_bands_that_cannot_be_are_refused(scene, name):
    attribute, value, message = ATTRIBUTES[name]
    with h5py.File(scene, "r+") as file:
        file[f"{GRID}/Data Fields/surface_reflectance"].attrs[attribute] = value
    with pytest.raises(InputError, match=message):
        open_source(scene)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (f"{GRID}/Data Fields/surface_reflectance", "no scene of Tanager's: it lacks"),
        (STRUCTURE, "lacks HDFEOS INFORMATION/StructMetadata.0"),
    ],
)
def test_missing_datasets_are_named(scene, missing, message):
    with h5py.File(scene, "r+") as file:
        del file[missing]
    with pytest.raises(InputError, match=message):
        open_source(scene)


def test_a_missing_epsg_code_is_not_guessed(scene):
    with h5py.File(scene, "r+") as file:
        del file[GRID].attrs["epsg_code"]
    with pytest.raises(InputError, match="lacks the attribute 'epsg_code'"):
        open_source(scene)


def test_a_mask_of_another_size_is_refused(scene):
    name = f"{GRID}/Data Fields/beta_cloud_mask"
    with h5py.File(scene, "r+") as file:
        del file[name]
        file[name] = np.zeros((23, 16), "u1")
    with pytest.raises(InputError, match="beta_cloud_mask has 23 x 16 pixels, the image 23 x 17"):
        open_source(scene)


def test_a_scene_by_another_name_is_recognised_and_nothing_else(scene, tmp_path):
    renamed = scene.rename(tmp_path / "scene.h5")
    assert tanager.recognises(str(renamed))
    assert "acquired" not in open_source(renamed).attrs
    (tmp_path / "text.h5").write_text("not HDF5")
    for name in ("text.h5", "missing.h5", "."):
        assert not tanager.recognises(str(tmp_path / name))
    assert tanager.recognises("https://host/20250926_092059_95_4001_ortho_sr_hdf5.h5")
