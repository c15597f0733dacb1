"""What is special about PRISMA: a real product's numbers, levels without a map, contradictions."""

import json
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from products import prisma as product
from pyproj import Transformer

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import open_scene, open_source, prisma
from hsi_pipeline.scene.quality import bit

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "enmap_metadata"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real values at {REAL.name}/")

FIELDS = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
PLACES = "HDFEOS/SWATHS/PRS_L2D_HCO/Geolocation Fields"


@pytest.fixture(scope="module")
def expected():
    """Values of the real L2D product of 2 April 2024, as another program's tests have them."""
    (file,) = REAL.glob("PRS_L2D_*.json")
    return json.loads(file.read_text())["expectedContent"]


@pytest.fixture(scope="module")
def real_like(expected, tmp_path_factory):
    """A product of the real one's size, bands and corners, with its values where they are known."""
    rows, columns = expected["sceneHeight"], expected["sceneWidth"]
    lists = {"Vnir": np.zeros((2, 66), "<f4"), "Swir": np.zeros((2, 173), "<f4")}
    samples = []
    for band in expected["bands"]:
        found = re.fullmatch(r"HCO_(Vnir|Swir)_Rrs_(\d+)", band["name"])
        if found:
            place = int(found[2]) - 1
            lists[found[1]][:, place] = band["spectralWavelength"], band["spectralBandwidth"]
            samples += [(found[1], place, p) for p in band["expectedPixels"]]
    path = tmp_path_factory.mktemp("real") / "PRS_L2D_STD_20240402102837_20240402102842_0001.he5"
    attrs = product.attributes("L2D") | product.map_attributes()
    west, north = 547467.5, 5953052.5  # what the geocoding of the real product begins with
    east, south = west + 30 * (columns - 1), north - 30 * (rows - 1)
    for name, x, y in (
        ("UL", west, north),
        ("UR", east, north),
        ("LL", west, south),
        ("LR", east, south),
    ):
        attrs |= {f"Product_{name}corner_easting": x, f"Product_{name}corner_northing": y}
    for name, values in lists.items():
        attrs |= {f"List_Cw_{name}": values[0], f"List_Fwhm_{name}": values[1]}
        attrs |= {f"List_Cw_{name}_Flags": (values[0] != 0).astype("u1"), f"L2Scale{name}Max": 1.0}
    with h5py.File(path, "w") as file:
        file.attrs.update(attrs)
        cubes = {
            name: file.create_dataset(
                f"{FIELDS}/{name.upper()}_Cube",
                (rows, values.shape[1], columns),
                "<u2",
                chunks=(16, 1, 16),
            )
            for name, values in lists.items()
        }
        for name, place, sample in samples:
            cubes[name][sample["y"], place, sample["x"]] = round(sample["value"] * 65535)
        for band in expected["bands"]:
            if band["name"] in ("HCO_Latitude", "HCO_Longitude"):
                degrees = file.create_dataset(
                    f"{PLACES}/{band['name'][4:]}", (rows, columns), "<f4", chunks=(64, 64)
                )
                for pixel in band["expectedPixels"]:
                    degrees[pixel["y"], pixel["x"]] = pixel["value"]
    return path


@needs_real
def test_bands_are_those_of_the_real_product(expected, real_like):
    source = open_source(real_like)
    wanted = {
        (found[1].upper(), int(found[2])): (band["spectralWavelength"], band["spectralBandwidth"])
        for band in expected["bands"]
        if (found := re.fullmatch(r"HCO_(Vnir|Swir)_Rrs_(\d+)", band["name"]))
    }
    assert len(source.band_names) == len(wanted) == 63 + 171
    for i, name in enumerate(source.band_names):
        detector, place = name.split()
        center, width = (float(text) for text in wanted[detector, int(place)])
        assert source.wavelengths.center_nm[i] == pytest.approx(center)
        assert source.wavelengths.fwhm_nm[i] == pytest.approx(width)


@needs_real
def test_values_are_those_of_the_real_product(expected, real_like):
    source = open_source(real_like)
    count = 0
    for band in expected["bands"]:
        found = re.fullmatch(r"HCO_(Vnir|Swir)_Rrs_(\d+)", band["name"])
        for pixel in band["expectedPixels"] if found else ():
            i = source.band_names.index(f"{found[1].upper()} {int(found[2])}")
            raw = source.pixels.pixels[i, pixel["y"], pixel["x"]]
            assert raw * source.scale[i] + source.offset[i] == pytest.approx(
                pixel["value"], abs=1e-6
            )
            count += 1
    assert count == 468


@needs_real
def test_pixels_lie_where_those_of_the_real_product_lie(expected, real_like):
    grid = open_source(real_like).grid
    to_degrees = Transformer.from_crs(grid.crs.to_epsg(), 4326, always_xy=True)
    for at in expected["geoCoding"]["coordinates"]:
        lon, lat = to_degrees.transform(*(grid.affine @ (at["x"], at["y"])))
        assert (lon, lat) == pytest.approx((at["lon"], at["lat"]), abs=1e-9)
    # the product's own arrays hold the centres of pixels, in single precision
    for band in expected["bands"]:
        if band["name"] in ("HCO_Latitude", "HCO_Longitude"):
            for pixel in band["expectedPixels"]:
                centre = grid.affine @ (pixel["x"] + 0.5, pixel["y"] + 0.5)
                lon, lat = to_degrees.transform(*centre)
                found = lat if band["name"] == "HCO_Latitude" else lon
                assert found == pytest.approx(pixel["value"], abs=3e-6)


@needs_real
def test_codes_of_the_real_product_are_known(expected):
    for coding in expected["indexCodings"]:
        codes = {sample["value"]: sample["name"] for sample in coding["samples"]}
        assert codes == {0: "ok", 1: "inv", 2: "neg", 3: "sat"}
    known = {"inv": "invalid", "neg": "low_quality", "sat": "saturated"}
    assert dict(prisma._L2_ERRORS)[4] == "low_quality"
    assert [flag for _, flag in prisma._L2_ERRORS[:3]] == list(known.values())


@pytest.fixture
def l2d(tmp_path):
    return product.l2d(tmp_path).path


def change(path, *, attrs=(), without=(), datasets=()):
    """Change a product in place; an attribute of None is deleted."""
    with h5py.File(path, "r+") as file:
        for name, value in dict(attrs).items():
            del file.attrs[name]
            if value is not None:
                file.attrs[name] = value
        for name in (*without, *dict(datasets)):
            del file[name]
        for name, values in dict(datasets).items():
            file[name] = values
    return path


def write_level(folder, level):
    path = folder / f"PRS_{level}_STD_{product.START}.he5"
    cubes, matrices = product.counts(), product.error_matrices()
    return product.write(path, level, cubes, matrices, product.attributes(level))


@pytest.mark.parametrize("level", ["L1", "L2B", "L2C"])
def test_levels_without_a_map_say_what_to_do(tmp_path, level):
    path = write_level(tmp_path, level)
    with pytest.raises(InputError, match=rf"PRISMA {level}.*not on a map grid.*9\.\d+ E.*L2D"):
        open_source(path)
    source = open_source(path, pixel_coordinates=True)
    assert source.grid.crs is None
    assert source.grid.shape == (product.ROWS, product.COLUMNS)
    assert re.fullmatch(
        r"9\.7\d* to 9\.7\d* E, 53\.7\d* to 53\.7\d* N", source.attrs["geolocation_extent"]
    )
    assert source.attrs["quantity"] == ("reflectance" if level == "L2C" else "radiance")


def test_radiance_of_l1_is_divided_by_its_factor_and_less_the_offset(tmp_path):
    source = open_source(write_level(tmp_path, "L1"), pixel_coordinates=True)
    cubes = product.counts()
    stored = np.concatenate([cubes[n][:, product.DELIVERED[n]] for n in cubes], axis=1)
    raw = np.asarray(source.pixels[:, :, :])
    np.testing.assert_array_equal(raw, stored.transpose(1, 0, 2))
    values = raw * np.array(source.scale)[:, None, None] + np.array(source.offset)[:, None, None]
    np.testing.assert_allclose(values, stored.transpose(1, 0, 2) / 100.0 - 0.5)
    assert source.nodata is None  # 0 is a radiance


def test_masks_and_errors_of_l1(tmp_path):
    source = open_source(write_level(tmp_path, "L1"), pixel_coordinates=True)
    masks = product.masks()
    codes = {"low_quality": (1, 3), "saturated": (2,)}
    wanted = product.flags_of(product.error_matrices(), codes)
    wanted["low_quality"] |= masks["SunGlint_Mask"] == 1
    wanted |= {
        "cloud": masks["Cloud_Mask"] == 1,
        "water": masks["LandCover_Mask"] == 0,
        "snow": masks["LandCover_Mask"] == 1,
        "invalid": np.zeros((product.ROWS, product.COLUMNS), bool),
    }
    assert set(source.quality.flags) == set(wanted)
    bits = source.quality.read(slice(0, product.ROWS), slice(0, product.COLUMNS))
    for name, where in wanted.items():
        np.testing.assert_array_equal((bits & bit(name)) != 0, where, err_msg=name)


def test_a_folder_and_a_path_into_the_zip_are_the_product(tmp_path):
    path = product.zipped(tmp_path).path
    whole = np.asarray(open_source(path).pixels[:, :, :])
    inside = f"/vsizip/{path}/PRS_L2D_STD_{product.START}.he5"
    np.testing.assert_array_equal(open_source(inside).pixels[:, :, :], whole)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    np.testing.assert_array_equal(open_source(tmp_path / "unpacked").pixels[:, :, :], whole)
    assert "unpack it" in open_source(path).attrs["advice"]
    assert "advice" not in open_source(tmp_path / "unpacked").attrs


def test_messages_name_the_file_in_the_zip(l2d, tmp_path):
    path = tmp_path / "PRS_L2D.zip"
    change(l2d, attrs={"List_Cw_Vnir": None}, without=[f"{FIELDS}/SWIR_Cube"])
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(l2d, l2d.name)
    with pytest.raises(InputError, match=r"zip://PRS_L2D_STD.*PRS_L2D.zip: .* lacks the attribute"):
        open_source(path)


def test_several_products_in_a_folder_are_named(tmp_path):
    write_level(tmp_path, "L1")
    write_level(tmp_path, "L2C")
    with pytest.raises(InputError, match=r"holds several .*PRS_L1.*PRS_L2C.*give the one"):
        open_source(tmp_path)


def test_products_without_error_matrices_have_no_flags(l2d):
    names = [f"{FIELDS}/{d}_PIXEL_L2_ERR_MATRIX" for d in ("VNIR", "SWIR")]
    assert open_source(change(l2d, without=names)).quality is None
    assert "quality" not in open_scene(l2d).coords


def test_a_single_scale_serves_all_bands_of_a_detector(l2d):
    source = open_source(change(l2d, attrs={"L2ScaleVnirMin": -0.1, "L2ScaleVnirMax": 1.2}))
    assert source.scale[:4] == pytest.approx((1.3 / 65535,) * 4)
    assert source.offset == pytest.approx((-0.1,) * 4 + (0.0,) * 6)


ONES = np.ones((product.ROWS, 7, product.COLUMNS), "u1")
CONTRADICTIONS = {
    "no cube": ({"without": [f"{FIELDS}/SWIR_Cube"]}, "lacks the dataset .*SWIR_Cube"),
    "no level": ({"without": ["HDFEOS/SWATHS/PRS_L2D_HCO"]}, "no PRISMA product of level"),
    "short list": (
        {"attrs": {"List_Cw_Vnir": np.array(product.VNIR_NM[1:], "<f4")}},
        "list of Cw of Vnir has 5 values, the cube 6 bands",
    ),
    "no list": ({"attrs": {"List_Fwhm_Swir": None}}, "lacks the attribute 'List_Fwhm_Swir'"),
    "flags": (
        {"attrs": {"List_Cw_Vnir_Flags": np.ones(6, "u1")}},
        "disagree on which bands were delivered",
    ),
    "micrometres": (
        {"attrs": {"List_Cw_Swir": np.array(product.SWIR_NM, "<f4") / 1000}},
        "wavelengths beyond 200",
    ),
    "order": (
        {
            "attrs": {
                "List_Cw_Swir": np.array((*product.SWIR_NM[1::-1], *product.SWIR_NM[2:]), "<f4")
            }
        },
        "out of order",
    ),
    "widths": (
        {"attrs": {"List_Fwhm_Vnir": np.array(product.VNIR_FWHM, "<f4") * 1000}},
        "fwhm.* not plausible",
    ),
    "nothing delivered": (
        {"attrs": {"List_Cw_Vnir": np.zeros(6), "List_Cw_Vnir_Flags": np.zeros(6)}},
        "no band of Vnir was delivered",
    ),
    "scale": ({"attrs": {"L2ScaleSwirMax": 0.0}}, "L2ScaleSwirMin is 0, not below its Max 0"),
    "scale is text": (
        {"attrs": {"L2ScaleSwirMax": b"one"}},
        "'L2ScaleSwirMax' is one, not a number",
    ),
    "matrix": (
        {"datasets": {f"{FIELDS}/SWIR_PIXEL_L2_ERR_MATRIX": ONES[1:]}},
        "SWIR_PIXEL_L2_ERR_MATRIX has 22 x 17 pixels, the image 23 x 17",
    ),
    "matrix bands": (
        {"datasets": {f"{FIELDS}/SWIR_PIXEL_L2_ERR_MATRIX": ONES[:, :3]}},
        "has too few bands",
    ),
    "one matrix": (
        {"without": [f"{FIELDS}/SWIR_PIXEL_L2_ERR_MATRIX"]},
        "lacks the dataset .*SWIR_PIXEL_L2_ERR_MATRIX",
    ),
    "cubes": (
        {"datasets": {f"{FIELDS}/SWIR_Cube": ONES[:, :, 1:].astype("<u2")}},
        "unlike size",
    ),
    "type": (
        {"datasets": {f"{FIELDS}/SWIR_Cube": ONES}},
        r"SWIR_Cube is \|u1 .* expected 3 .* <u2",
    ),
    "corner": (
        {"attrs": {"Product_URcorner_easting": 600_000.0}},
        r"corners are 5.* m apart, 17 pixels of 30 m are 480 m",
    ),
    "zone": ({"attrs": {"Epsg_Code": 32633}}, "lies at 53.* by the pixel's latitude and longitude"),
    "CRS": ({"attrs": {"Epsg_Code": 4326}}, "EPSG code 4326 is no UTM zone"),
    "latitude": (
        {"datasets": {f"{PLACES}/Latitude": product.latitude_longitude()[0][::-1]}},
        "the product is damaged",
    ),
    "latitude size": (
        {"datasets": {f"{PLACES}/Latitude": product.latitude_longitude()[0][1:]}},
        "Latitude has 22 x 17 pixels, the image 23 x 17",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_products_that_contradict_themselves_are_refused(l2d, name):
    how, message = CONTRADICTIONS[name]
    with pytest.raises(InputError, match=message):
        open_source(change(l2d, **how))


def test_a_shift_by_a_pixel_is_found_by_latitude_and_longitude(l2d):
    easting = {
        name: value + 31
        for name, value in product.map_attributes().items()
        if name.endswith("corner_easting")
    }
    with pytest.raises(InputError, match="latitude and longitude"):
        open_source(change(l2d, attrs=easting))


def test_pixels_outside_the_swath_need_no_latitude(l2d):
    latitude, longitude = product.latitude_longitude()
    latitude[:9, :9] = longitude[:9, :9] = 0
    datasets = {f"{PLACES}/Latitude": latitude, f"{PLACES}/Longitude": longitude}
    assert open_source(change(l2d, datasets=datasets)).grid.crs.to_epsg() == 32632


def test_nothing_else_is_taken_for_a_product(tmp_path):
    other = tmp_path / "omi.he5"
    with h5py.File(other, "w") as file:
        file["HDFEOS/SWATHS/OMI/Data Fields/x"] = np.ones(3)
    (tmp_path / "text.he5").write_text("not HDF5")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04")
    for name in ("omi.he5", "text.he5", "broken.zip", "missing.he5", "."):
        assert not prisma.recognises(str(tmp_path / name))
    assert prisma.recognises("s3://bucket/PRS_L2D_STD_1_2_0001.he5")
    assert not prisma.recognises("s3://bucket/other.he5")
