"""What is special to EnMAP: the real XML, codes, and products that contradict themselves."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from products import enmap as written
from rasterio.transform import Affine

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import enmap, open_source
from hsi_pipeline.scene.dlr.files import find_product
from hsi_pipeline.scene.quality import bit

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "enmap_metadata"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real metadata at {REAL.name}/")
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(name="folder")
def _folder(tmp_path):
    return written.write_product(tmp_path / "here").path


def edit(folder, old, new, count=1):
    """Replace text in the XML of a product."""
    xml = next(folder.glob("*METADATA.XML"))
    text = xml.read_text()
    assert old in text
    xml.write_text(text.replace(old, new, count))


def rewrite(path, **changes):
    """Write a TIFF anew with another profile."""
    with rasterio.open(path) as raster:
        pixels, profile = raster.read(), raster.profile
    bands, rows, columns = (changes.pop(n, s) for n, s in zip("byx", pixels.shape, strict=True))
    profile |= {"count": bands, "height": rows, "width": columns} | changes
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels[:bands, :rows, :columns])


# ------------------------------------------------------------------ the real files


def real_facts():
    product = find_product(str(REAL), "EnMAP")
    return enmap.read_facts(product.read("level_X"), product)


@needs_real
def test_the_real_metadata_are_read():
    facts = real_facts()
    wavelengths = facts.bands.wavelengths
    assert len(wavelengths) == 218
    assert wavelengths.center_nm[0] == 423.03
    assert wavelengths.center_nm[76:80] == (895.25, 903.36, 904.78, 911.49)
    assert wavelengths.center_nm[-1] == 2438.6
    assert wavelengths.fwhm_nm[:2] == (6.93, 6.58)
    assert set(facts.bands.gains) == {0.0001}
    assert set(facts.bands.offsets) == {0.0}
    assert facts.good == (True,) * 218
    assert set(facts.counts) == {218}
    assert set(facts.sizes) == {(1212, 1128)}
    assert facts.background == 0
    assert facts.attrs == {
        "sensor": "EnMAP",
        "level": "L2A",
        "quantity": "reflectance",
        "scene_id": "ENMAP01-____L2A-DT0000326721_20170626T102020Z_001_V000204_20200406T201930Z",
        "acquired": "2017-06-26T10:20:20.999936Z",
        "cloud_share": 0.0,
    }


@needs_real
def test_the_real_metadata_fit_the_real_raster(tmp_path):
    """The class raster is on the image's grid: an image on it opens, with flags counted by hand."""
    for file in REAL.glob("ENMAP*DT0000326721*"):
        shutil.copyfile(file, tmp_path / file.name)
    classes = next(tmp_path.glob("*QL_QUALITY_CLASSES.TIF"))
    with rasterio.open(classes) as raster:
        place = {"crs": raster.crs, "transform": raster.transform}
    image = str(classes).replace("QL_QUALITY_CLASSES", "SPECTRAL_IMAGE")
    profile = {"driver": "GTiff", "count": 218, "height": 1212, "width": 1128, "dtype": "int16"}
    with rasterio.open(image, "w", **profile, **place, SPARSE_OK="TRUE"):
        pass
    source = open_source(tmp_path)
    assert source.pixels.shape == (218, 1212, 1128)
    assert source.grid.crs.epsg == 32632
    assert tuple(source.grid.affine)[:6] == (30, 0, 628785, 0, -30, 5294265)
    assert source.nodata == 0
    assert source.quality.flags == ("water", "invalid")
    bits = source.quality.read(slice(0, 1212), slice(0, 1128))
    assert np.count_nonzero(bits == bit("water")) == 16_750
    assert np.count_nonzero(bits == bit("invalid")) == 409_811

    moved = {"transform": place["transform"] @ Affine.translation(2000, 0)}
    with rasterio.open(image, "w", **profile, **(place | moved), SPARSE_OK="TRUE"):
        pass
    with pytest.raises(InputError, match="does not lie where its metadata say"):
        open_source(tmp_path)


@needs_real
def test_codes_are_those_that_another_reader_is_tested_with():
    expected = json.loads((REAL / "ENMAP01-____L2A-DT0000001049.json").read_text())
    codings = {
        coding["name"]: {sample["name"]: sample["value"] for sample in coding["samples"]}
        for coding in expected["expectedContent"]["flagCodings"]
    }
    ours = {layer.part.removeprefix("QL_"): layer for layer in enmap._LAYERS}
    assert set(codings) - set(ours) == {"PIXELMASK"}
    # their number is a mask of two bits for codes, whose order follows the names
    classes = list(codings["QUALITY_CLASSES"])
    meant = {"Water": "water", "Background": "invalid"}
    assert dict(ours["QUALITY_CLASSES"].values) == {
        classes.index(name) + 1: flag for name, flag in meant.items()
    }
    assert len(ours["QUALITY_CIRRUS"].values) == len(codings["QUALITY_CIRRUS"])
    for name in ("CLOUD", "CLOUDSHADOW", "HAZE", "SNOW"):
        assert [value for value, _ in ours[f"QUALITY_{name}"].values] == [1]
        assert list(codings[f"QUALITY_{name}"].values()) == [1]
    bits = {flag: mask for mask, flag in ours["QUALITY_TESTFLAGS"].bits}
    for name, value in codings["QUALITY_TESTFLAGS"].items():
        if name.startswith("Saturated"):
            assert bits["saturated"] & value
            assert not bits["low_quality"] & value
        elif name.startswith(("Interpolated", "Artefact")):
            assert bits["low_quality"] & value


# ------------------------------------------------------------------ where the product is


def test_what_is_not_enmap_is_left_to_others(tmp_path, folder):
    assert enmap.recognises(str(folder))
    assert not enmap.recognises(str(tmp_path / "scene.tif"))
    assert not enmap.recognises(str(tmp_path / "here" / "no folder"))
    (tmp_path / "METADATA.XML").write_text("<Product/>")
    assert not enmap.recognises(str(tmp_path / "METADATA.XML"))
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    assert not enmap.recognises(str(tmp_path / "bad.zip"))
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "store.zarr" / "zarr.json").write_text("{}")
    assert not enmap.recognises(str(tmp_path / "store.zarr"))


def test_files_without_the_product_name(folder):
    for file in folder.iterdir():
        file.rename(folder / file.name.removeprefix(f"{folder.name}-"))
    source = open_source(folder)
    assert source.attrs["scene_id"] == folder.name
    assert "saturated" in source.quality.flags
    assert open_source(folder / "METADATA.XML").pixels.shape == written.SHAPE


def test_behind_an_address_names_come_from_the_metadata(tmp_path):
    example = written.write_product(tmp_path, image="SPECTRAL_IMAGE_COG.tiff")
    xml = next(example.path.glob("*METADATA.XML"))
    source = open_source(f"file://{xml}")
    assert set(source.quality.flags) == set(example.flags)
    assert source.pixels.shape == written.SHAPE
    image = next(example.path.glob("*SPECTRAL_IMAGE*"))
    assert open_source(f"file://{image}").wavelengths == source.wavelengths


def test_names_in_the_metadata_must_not_leave_the_folder(folder):
    xml = next(folder.glob("*METADATA.XML"))
    edit(folder, f"<name>{folder.name}-SPECTRAL", f"<name>../{folder.name}-SPECTRAL", 9)
    with pytest.raises(InputError, match="leaves the product's folder; it is refused"):
        open_source(f"file://{xml}")


def test_archives_with_names_that_lead_out_are_refused(tmp_path, folder):
    with zipfile.ZipFile(tmp_path / "ENMAP01-evil.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"../{file.name}")
    with pytest.raises(InputError, match="leaves the archive; it is refused"):
        open_source(tmp_path / "ENMAP01-evil.zip")


def test_deliveries_of_archives_in_archives_are_to_be_unpacked(tmp_path, folder):
    inner = written.pack(written.write_product(tmp_path / "b"), tmp_path / "inner.zip").path
    with zipfile.ZipFile(tmp_path / "ENMAP-order.zip", "w") as archive:
        archive.write(inner, "ENMAP.HSI.L2A/inner.zip")
    with pytest.raises(InputError, match=r"holds archives \(ENMAP.HSI.L2A/inner.zip\).*unpack it"):
        open_source(tmp_path / "ENMAP-order.zip")


def test_several_products_are_listed(tmp_path, folder):
    other = written.write_product(tmp_path / "here", number="0000001050").path
    with pytest.raises(InputError, match=r"holds 2 products: .*1049.*1050.*give the METADATA.XML"):
        open_source(tmp_path / "here")
    assert "1050" in open_source(next(other.glob("*METADATA.XML"))).attrs["scene_id"]


def test_what_macos_adds_to_archives_is_no_product(folder):
    xml = next(folder.glob("*METADATA.XML"))
    (folder / f"._{xml.name}").write_bytes(b"\0\5\x16\7")
    assert open_source(folder).attrs["sensor"] == "EnMAP"


def test_an_image_without_its_metadata(folder):
    next(folder.glob("*METADATA.XML")).unlink()
    with pytest.raises(InputError, match=r"needs the METADATA.XML of the EnMAP product beside it"):
        open_source(next(folder.glob("*SPECTRAL_IMAGE.TIF")))


def test_metadata_without_their_image(folder):
    next(folder.glob("*SPECTRAL_IMAGE.TIF")).unlink()
    with pytest.raises(InputError, match=r"no image beside it; expected .*SPECTRAL_IMAGE as .TIF"):
        open_source(folder)


@pytest.mark.parametrize("level", ["L1B", "L2B", "L0"])
def test_other_levels_are_named(folder, level):
    edit(folder, "<level>L2A", f"<level>{level}")
    with pytest.raises(InputError, match=f"EnMAP level {level}, supported are L2A and L1C"):
        open_source(folder)


# ------------------------------------------------------------------ hostile and damaged XML

ENTITIES = """<?xml version="1.0"?>
<!DOCTYPE level_X [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">{}]>
<level_X>{}</level_X>"""


@pytest.mark.parametrize(
    "xml",
    [
        ENTITIES.format("", "&b;"),
        ENTITIES.format('<!ENTITY c SYSTEM "file:///etc/passwd">', "&c;"),
        '<!DOCTYPE level_X SYSTEM "http://example.org/x.dtd"><level_X/>',
    ],
)
def test_entities_and_document_types_are_refused(folder, xml):
    next(folder.glob("*METADATA.XML")).write_text(xml)
    with pytest.raises(InputError, match="declares a document type or entities"):
        open_source(folder)


def test_another_xml(folder):
    next(folder.glob("*METADATA.XML")).write_text("<kml/>")
    with pytest.raises(InputError, match="begins with <kml>, expected <level_X>"):
        open_source(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<wavelengthCenterOfBand>423.03</wavelengthCenterOfBand>", "", "lacks wavelengthCenter"),
        ("OfBand>423.03<", "OfBand>blue<", "band 1: wavelengthCenterOfBand is 'blue', expected a"),
        ("OfBand>423.03<", "OfBand>nan<", "expected a number"),
        ("OfBand>423.03<", "OfBand>42.03<", "a band at 42.03 nm"),
        ("OfBand>423.03<", "OfBand>623.03<", "statistics say 423.03 nm"),
        ("<FWHMOfBand>6.93", "<FWHMOfBand>693", "693 nm wide"),
        (
            "<wavelengthCenterOfBand>423.03",
            '<wavelengthCenterOfBand unit="ell">423.03',
            "different units",
        ),
        ("<GainOfBand>0.0001", "<GainOfBand>-0.0001", "expected a positive number"),
        ("<GainOfBand>0.0001", "<GainOfBand>0.0009", "expected one gain and offset 0"),
        ('<bandID number="3">', '<bandID number="2">', "without consecutive numbers"),
        ("<channels>11", "<channels>12", "has 11 bands, its metadata say 12"),
        ("<numberOfVNIRBands>6", "<numberOfVNIRBands>8", "has 11 bands, its metadata say 13"),
        ("<rows>23", "<rows>24", "23 x 17 pixels, its metadata say 24 x 17"),
        ("UTM_Zone32_North", "UTM_Zone33_North", "is in EPSG:32632, its metadata say UTM_Zone33"),
        ("<resolution>30", "<resolution>60", "pixels of 30 x 30, its metadata say 60"),
        ("<backgroundValue>-32768", "<backgroundValue>?", "backgroundValue is '?'"),
    ],
)
def test_metadata_that_cannot_be_right(folder, old, new, message):
    edit(folder, old, new)
    with pytest.raises(InputError, match=message):
        open_source(folder)


def test_wavelengths_in_another_unit(folder):
    xml = next(folder.glob("*METADATA.XML"))
    text = xml.read_text()
    for tag in ("wavelengthCenterOfBand", "FWHMOfBand"):
        text = text.replace(f"<{tag}>", f'<{tag} unit="furlong">')
    xml.write_text(text)
    with pytest.raises(InputError, match="wavelength unit 'furlong' is not known"):
        open_source(folder)


def test_wavelengths_that_fall_within_a_detector(folder):
    for tag in ("wavelengthCenterOfBand", "waveLength"):
        edit(folder, f"<{tag}>700.12", f"<{tag}>500.12")
    with pytest.raises(InputError, match="do not rise along the detector"):
        open_source(folder)


def test_bands_out_of_order_in_the_xml_are_sorted_by_number(folder):
    before = open_source(folder).wavelengths
    edit(folder, '<bandID number="1">', '<bandID number="X">')
    edit(folder, '<bandID number="2">', '<bandID number="1">')
    edit(folder, '<bandID number="X">', '<bandID number="2">')
    for tag in ("wavelengthCenterOfBand", "FWHMOfBand"):
        first, second = (423.03, 550.69) if tag == "wavelengthCenterOfBand" else (6.93, 7.02)
        edit(folder, f"<{tag}>{first}", f"<{tag}>X")
        edit(folder, f"<{tag}>{second}", f"<{tag}>{first}")
        edit(folder, f"<{tag}>X", f"<{tag}>{second}")
    assert open_source(folder).wavelengths == before


def test_channel_lists_of_another_level_are_not_believed(folder):
    edit(folder, "<expectedChannelsList>7,8,9,10,11", "<expectedChannelsList>1,2,3,4,5")
    assert sum(open_source(folder).good) == 10  # all but the empty one


def test_missing_channels_are_bad(folder):
    edit(folder, "<missingChannelsList/>", "<missingChannelsList>2,4</missingChannelsList>")
    good = open_source(folder).good
    assert [i for i, is_good in enumerate(good, 1) if not is_good] == [2, 4, 10]


# ------------------------------------------------------------------ rasters that do not fit


def test_an_image_with_fewer_bands(folder):
    rewrite(next(folder.glob("*SPECTRAL_IMAGE.TIF")), b=9)
    with pytest.raises(InputError, match=r"has 9 bands, its metadata say 11; the image is cut"):
        open_source(folder)


def test_an_image_that_lies_elsewhere(folder):
    image = next(folder.glob("*SPECTRAL_IMAGE.TIF"))
    rewrite(image, transform=written.TRANSFORM @ Affine.translation(40, 0))
    with pytest.raises(InputError, match=r"does not lie where its metadata say.*another product"):
        open_source(folder)


def test_an_image_that_lies_off_its_quality_layers(folder):
    image = next(folder.glob("*SPECTRAL_IMAGE.TIF"))
    rewrite(image, transform=written.TRANSFORM @ Affine.translation(0, 1))
    with pytest.raises(InputError, match=r"lie at different places \(x 628785, y 5294235"):
        open_source(folder)


def test_an_image_with_another_nodata_value(folder):
    rewrite(next(folder.glob("*SPECTRAL_IMAGE.TIF")), nodata=-9999)
    with pytest.raises(InputError, match=r"nodata value -9999, expected -32768"):
        open_source(folder)


def test_the_sign_of_the_background_in_the_metadata_is_not_believed(folder):
    edit(folder, "<backgroundValue>-32768", "<backgroundValue>32768")
    assert open_source(folder).nodata == -32768


def test_a_vrt_in_the_name_of_a_tiff_is_refused(folder):
    image = next(folder.glob("*SPECTRAL_IMAGE.TIF"))
    image.write_text("<VRTDataset rasterXSize='17' rasterYSize='23'></VRTDataset>")
    with pytest.raises(InputError, match="cannot be opened as a raster"):
        open_source(folder)


def test_a_quality_layer_of_another_size(folder):
    rewrite(next(folder.glob("*QL_QUALITY_HAZE.TIF")), y=22)
    with pytest.raises(InputError, match=r"QL_QUALITY_HAZE.TIF has 22 x 17 pixels, the image 23 x"):
        open_source(folder)


def test_quality_layers_may_be_missing(folder):
    for layer in ("QL_QUALITY_CLOUD.TIF", "QL_QUALITY_TESTFLAGS.TIF"):
        next(folder.glob(f"*{layer}")).unlink()
    flags = open_source(folder).quality.flags
    assert "cloud" not in flags
    assert "saturated" not in flags
    assert "cloud_shadow" in flags


def test_test_flags_of_each_detector(tmp_path):
    folder = written.write_product(tmp_path, level="L1C", layers=("QL_QUALITY_TESTFLAGS",)).path
    layer = next(folder.glob("*TESTFLAGS.TIF"))
    shutil.copyfile(layer, str(layer).replace("TESTFLAGS", "TESTFLAGS_SWIR"))
    layer.rename(str(layer).replace("TESTFLAGS", "TESTFLAGS_VNIR"))
    assert open_source(folder).quality.flags == ("saturated", "low_quality")


def test_an_envi_image_whose_header_says_another_interleave(tmp_path):
    folder = written.write_product(tmp_path, image="SPECTRAL_IMAGE.BSQ").path
    header = next(folder.glob("*.HDR"))
    header.write_text(header.read_text().replace("interleave = bsq", "interleave = bip"))
    with pytest.raises(InputError, match="header says interleave bip, its name bsq"):
        open_source(folder)


def test_an_envi_image_that_is_too_long(tmp_path):
    folder = written.write_product(tmp_path, image="SPECTRAL_IMAGE.BIL").path
    image = next(folder.glob("*.BIL"))
    with image.open("ab") as stream:
        stream.write(b"\0\0")
    with pytest.raises(InputError, match="bytes, its header says"):
        open_source(folder)


# ------------------------------------------------------------------ what is said of a product


def test_layouts_that_are_slow_are_told(tmp_path):
    bsq = written.write_product(tmp_path / "bsq", image="SPECTRAL_IMAGE.BSQ").path
    assert "band by band (BSQ): windows are slow" in open_source(bsq).attrs["advice"]
    archive = written.in_tar_gz(tmp_path / "tar").path
    assert "compressed as a whole" in open_source(archive).attrs["advice"]
    stored = written.in_zip(tmp_path / "zip").path
    assert "advice" not in open_source(stored).attrs


def test_radiance_has_its_unit(tmp_path):
    attrs = open_source(written.write_product(tmp_path, level="L1C").path).attrs
    assert (attrs["quantity"], attrs["unit"]) == ("radiance", "W/(m2 sr nm)")


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("<cloudCover>12", "<cloudCover>-999", "cloud_share"),
        ("<startTime>2022-06-12", "<startTime>2022-66-12", "acquired"),
    ],
)
def test_what_is_not_known_is_not_told(folder, old, new, name):
    edit(folder, old, new)
    assert name not in open_source(folder).attrs


def test_pixel_coordinates_only_where_asked(tmp_path):
    folder = written.write_product(tmp_path, image="SPECTRAL_IMAGE.BIL", layers=()).path
    header = next(folder.glob("*.HDR"))
    kept = [
        line
        for line in header.read_text().splitlines()
        if not line.startswith(("map info", "coordinate system"))
    ]
    header.write_text("\n".join(kept) + "\n")
    with pytest.raises(InputError, match="no CRS and no geotransform"):
        open_source(folder)
    assert open_source(folder, pixel_coordinates=True).grid.crs is None


def test_relative_paths_mean_the_same_elsewhere(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder.parent)
    source = open_source(folder.name)
    monkeypatch.chdir(tmp_path)
    assert not os.path.exists(folder.name)
    assert source.pixels[0:1, 0:2, 0:2].shape == (1, 2, 2)
