"""What is special to DESIS, and products of it that contradict themselves."""

import numpy as np
import pytest
import rasterio
from products import desis as written
from rasterio.transform import Affine

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import desis, open_source
from hsi_pipeline.scene.quality import bit

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(name="folder")
def _folder(tmp_path):
    return written.write_product(tmp_path / "here").path


def edit(folder, old, new, count=1):
    """Replace text in the XML of a product."""
    xml = next(folder.glob("*METADATA.xml"))
    text = xml.read_text()
    assert old in text
    xml.write_text(text.replace(old, new, count))


def rewrite(path, bands=None, rows=None, **changes):
    """Write a TIFF anew with fewer bands or rows, or another profile."""
    with rasterio.open(path) as raster:
        pixels, profile = raster.read()[:bands, :rows], raster.profile
    profile |= {"count": pixels.shape[0], "height": pixels.shape[1]} | changes
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)


def test_what_is_not_desis_is_left_to_others(tmp_path, folder):
    assert desis.recognises(str(folder))
    assert not desis.recognises(str(tmp_path / "scene.tif"))
    (tmp_path / "METADATA.xml").write_text("<level_X/>")
    assert not desis.recognises(str(tmp_path / "METADATA.xml"))


def test_quality_bands_have_their_meaning(folder):
    quality = open_source(folder).quality
    _, rows, columns = written.SHAPE
    bits = quality.read(slice(0, rows), slice(0, columns))
    with rasterio.open(next(folder.glob("*QL_QUALITY-2.tif"))) as raster:
        planes = raster.read()
    for flag, bands in {"cloud_shadow": [1], "cloud": [6, 7], "haze": [4, 5], "water": [8]}.items():
        wanted = np.any([planes[band - 1] != 0 for band in bands], axis=0)
        np.testing.assert_array_equal((bits & bit(flag)) != 0, wanted)
    assert not set(quality.flags) & {"saturated", "low_quality", "invalid"}


def test_the_other_quality_raster_is_no_mask(folder):
    next(folder.glob("*QL_QUALITY-2.tif")).unlink()
    assert open_source(folder).quality is None


def test_a_quality_raster_with_too_few_bands(folder):
    rewrite(next(folder.glob("*QL_QUALITY-2.tif")), bands=5)
    with pytest.raises(InputError, match=r"QL_QUALITY-2.tif has 5 bands, expected 6 or more"):
        open_source(folder)


def test_a_quality_raster_of_another_size(folder):
    rewrite(next(folder.glob("*QL_QUALITY-2.tif")), rows=18)
    with pytest.raises(InputError, match=r"QL_QUALITY-2.tif has 18 x 26 pixels, the image 19 x 26"):
        open_source(folder)


def test_a_quality_raster_that_holds_no_codes(folder):
    rewrite(next(folder.glob("*QL_QUALITY-2.tif")), dtype="float32")
    with pytest.raises(InputError, match="holds float32, expected integers"):
        open_source(folder)


def test_an_image_off_its_quality_raster(folder):
    moved = written.TRANSFORM @ Affine.translation(1, 0)
    rewrite(next(folder.glob("*QL_QUALITY-2.tif")), transform=moved)
    with pytest.raises(InputError, match="lie at different places"):
        open_source(folder)


def test_an_image_that_lies_elsewhere(tmp_path):
    folder = written.write_product(tmp_path, quality=False).path
    moved = written.TRANSFORM @ Affine.translation(0, 60)
    rewrite(next(folder.glob("*SPECTRAL_IMAGE.tif")), transform=moved)
    with pytest.raises(InputError, match="does not lie where its metadata say"):
        open_source(folder)


def test_an_image_with_fewer_bands(folder):
    rewrite(next(folder.glob("*SPECTRAL_IMAGE.tif")), bands=10)
    with pytest.raises(InputError, match="has 10 bands, its metadata say 11"):
        open_source(folder)


@pytest.mark.parametrize("missing", ["SPECTRAL_IMAGE.tif", "METADATA.xml"])
def test_files_that_are_missing(folder, missing):
    image = next(folder.glob("*SPECTRAL_IMAGE.tif"))
    next(folder.glob(f"*{missing}")).unlink()
    given = image if missing == "METADATA.xml" else folder
    words = "needs the METADATA" if missing == "METADATA.xml" else "has no image beside it"
    with pytest.raises(InputError, match=words):
        open_source(given)


def test_other_levels_are_named(folder):
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.replace("L2A", "L1B"))
    with pytest.raises(InputError, match="DESIS level L1B, supported are L2A and L1C"):
        open_source(folder)


def test_a_level_that_contradicts_the_name(folder):
    edit(folder, "<base>", "<base><level>L1C</level>")
    with pytest.raises(InputError, match="says that it is L1C, its name L2A"):
        open_source(folder)


def test_several_products_are_listed(tmp_path, folder):
    written.write_product(tmp_path / "here", level="L1C")
    with pytest.raises(InputError, match=r"holds 2 products: .*L1C.*L2A"):
        open_source(tmp_path / "here")


def test_entities_are_refused(folder):
    next(folder.glob("*METADATA.xml")).write_text(
        '<!DOCTYPE hsi_doc [<!ENTITY e SYSTEM "file:///etc/passwd">]><hsi_doc>&e;</hsi_doc>'
    )
    with pytest.raises(InputError, match="declares a document type or entities"):
        open_source(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<wavelengthCenterOfBand>401.88</wavelengthCenterOfBand>", "", "lacks wavelengthCenter"),
        ("CenterOfBand>401.88<", "CenterOfBand>1e999<", "expected a number"),
        ("CenterOfBand>401.88<", "CenterOfBand>411.88<", "outside of its response curve"),
        ("CenterOfBand>550.6<", "CenterOfBand>450.6<", "do not rise along the detector"),
        ("<wavelengthWidthOfBand>3.53", "<wavelengthWidthOfBand>-3.53", "expected 200 to 20000"),
        ("<gainOfBand>0.0001", "<gainOfBand>0.0002", "expected one gain and offset 0"),
        ("<offsetOfBand>0", "<offsetOfBand>1", "expected one gain and offset 0"),
        ("<bandNumber>3<", "<bandNumber>three<", "without consecutive numbers"),
        ("<numberOfBands>11", "<numberOfBands>235", "has 11 bands, its metadata say 235"),
        ("<wavelengths>", "<wavelengths>a,", "response curve is not numbers"),
        ("<bandCharacterisation>", "<bandCharacterisations>", "is damaged: it is not XML"),
    ],
)
def test_metadata_that_cannot_be_right(folder, old, new, message):
    edit(folder, old, new)
    with pytest.raises(InputError, match=message):
        open_source(folder)


def test_wavelengths_in_micrometres_are_told_by_their_unit(folder):
    xml = next(folder.glob("*METADATA.xml"))
    text = xml.read_text()
    before = open_source(folder).wavelengths
    for tag, values in (
        ("wavelengthCenterOfBand", written.CENTERS),
        ("wavelengthWidthOfBand", written.WIDTHS),
    ):
        for value in values:
            text = text.replace(f"<{tag}>{value}<", f'<{tag} unit="um">{value / 1000:.8f}<')
    xml.write_text(text)
    found = open_source(folder).wavelengths
    np.testing.assert_allclose(found.center_nm, before.center_nm)
    np.testing.assert_allclose(found.fwhm_nm, before.fwhm_nm)


def test_radiance_has_its_unit_and_a_gain_for_each_band(tmp_path):
    source = open_source(written.write_product(tmp_path, level="L1C", quality=False).path)
    assert source.attrs["unit"] == "mW/(cm2 sr um)"
    assert len(set(source.scale)) == written.SHAPE[0]


def test_behind_an_address(folder):
    xml = next(folder.glob("*METADATA.xml"))
    source = open_source(f"file://{xml}")
    assert source.pixels.shape == written.SHAPE
    assert set(source.quality.flags) == {"cloud", "cloud_shadow", "haze", "snow", "water"}
