"""ENVI images: rotated grids against what trigonometry says, and what names of flight lines say."""

import math

import numpy as np
import pytest
import rasterio
from affine import Affine
from test_scene import write_envi

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import open_source
from hsi_pipeline.scene.aviris import flight_line, is_spectral, sensor_in

EAST, NORTH = 581_226.667, 7_916_192.564


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 9000, (3, 11, 17)).astype("int16")


def corner(column, row, *, degrees, reference=(1, 1), size=(5.2, 5.2)):
    """Return map coordinates of a corner of a pixel: turned about the reference pixel, by hand."""
    angle = math.radians(degrees)
    right, down = (column + 1 - reference[0]) * size[0], (row + 1 - reference[1]) * size[1]
    return (
        EAST + right * math.cos(angle) + down * math.sin(angle),
        NORTH + right * math.sin(angle) - down * math.cos(angle),
    )


@pytest.mark.parametrize("degrees", [42, -86, 90, -90, 179.5, 75.25, 180, -180])
@pytest.mark.parametrize("reference", [(1, 1), (1.5, 1.5), (9, 4.5)])
@pytest.mark.parametrize("size", [(5.2, 5.2), (5.2, 4)])
def test_a_rotated_flight_line(tmp_path, pixels, degrees, reference, size):
    info = f"{{ UTM , {reference[0]} , {reference[1]} , {EAST} , {NORTH} , {size[0]} , {size[1]} , "
    info += f"4 , North , WGS-84 , units=Meters , rotation={degrees:.8f} }}"
    grid = open_source(write_envi(tmp_path / "a.img", pixels, map_info=info)).grid
    assert grid.crs == "EPSG:32604"
    for place in ((0, 0), (17, 0), (0, 11), (17, 11), (3.5, 2.5)):
        wanted = corner(*place, degrees=degrees, reference=reference, size=size)
        assert grid.affine @ place == pytest.approx(wanted, abs=1e-6)


def test_gdal_says_the_same_where_it_is_right(tmp_path, pixels):
    info = f"{{UTM, 1, 1, {EAST}, {NORTH}, 5.2, 5.2, 4, North, WGS-84, units=Meters, rotation=42}}"
    path = write_envi(tmp_path / "a.img", pixels, map_info=info)
    with rasterio.open(path) as raster:
        assert tuple(open_source(path).grid.affine) == pytest.approx(tuple(raster.transform))


@pytest.mark.parametrize(
    "transform",
    [
        Affine(30, 0, 5e5, 0, 30, 5e6),
        Affine.translation(5e5, 5e6) @ Affine.rotation(20) @ Affine.scale(30, -30),
    ],
    ids=["rows that go north", "rotated"],
)
def test_images_that_gdal_wrote(tmp_path, pixels, transform):
    profile = {"driver": "ENVI", "count": 3, "height": 11, "width": 17, "dtype": "int16"}
    with rasterio.open(
        tmp_path / "a.img", "w", crs="EPSG:32633", transform=transform, **profile
    ) as raster:
        raster.write(pixels)
    grid = open_source(tmp_path / "a.img").grid
    assert tuple(grid.affine) == pytest.approx(tuple(transform))


@pytest.mark.parametrize(("unit", "parts"), [("Degrees", 1), ("Minutes", 60), ("Seconds", 3600)])
def test_a_rotated_geographic_grid_is_in_degrees(tmp_path, pixels, unit, parts):
    east, north, size = 10.5, 40.25, 0.001
    info = f"{{Geographic Lat/Lon, 1, 1, {east * parts}, {north * parts}, {size * parts}, "
    info += f"{size * parts}, WGS-84, units={unit}, rotation=30}}"
    grid = open_source(write_envi(tmp_path / "a.img", pixels, map_info=info)).grid
    along, across = size * math.cos(math.radians(30)), size / 2
    expected = Affine(along, across, east, across, -along, north)
    assert tuple(grid.affine) == pytest.approx(tuple(expected))
    assert grid.crs == "EPSG:4326"


@pytest.mark.parametrize(
    ("hemisphere", "zone", "code"),
    [("South", 34, 32734), ("North", 34, 32634), ("South", 4, 32704)],
)
def test_utm_of_both_hemispheres(tmp_path, pixels, hemisphere, zone, code):
    info = f"{{UTM, 1, 1, 265000, 6210000, 5, 5, {zone}, {hemisphere}, WGS-84, units=Meters}}"
    grid = open_source(write_envi(tmp_path / "a.img", pixels, map_info=info)).grid
    assert grid.crs.epsg == code
    assert tuple(grid.affine)[:6] == (5, 0, 265_000, 0, -5, 6_210_000)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ang20190802t183054_rfl_v2x1_img",
         ("AVIRIS-NG", "2019-08-02T18:30:54Z", "L2", "reflectance")),
        ("ang20170714t213741_corr_v2p9_img",
         ("AVIRIS-NG", "2017-07-14T21:37:41Z", "L2", "reflectance")),
        ("ang20170714t213741_rdn_v2p9_img",
         ("AVIRIS-NG", "2017-07-14T21:37:41Z", "L1B", "radiance")),
        ("ang20170714t213741_h2o_v2p9_img", ("AVIRIS-NG", "2017-07-14T21:37:41Z", None, None)),
        ("ang20170714t213741_rdn_v2p9_obs_ort", ("AVIRIS-NG", "2017-07-14T21:37:41Z", None, None)),
        ("AV320230926t201618_000_L2A_OE_main_27577724_RFL_ORT",
         ("AVIRIS-3", "2023-09-26T20:16:18Z", "L2A", "reflectance")),
        ("AV320230926t201618_000_L2A_OE_main_27577724_UNC_ORT",
         ("AVIRIS-3", "2023-09-26T20:16:18Z", None, None)),
        ("AV320230821t173024_L1B_RDN_main_d71e8b07_RDN_ORT",
         ("AVIRIS-3", "2023-08-21T17:30:24Z", "L1B", "radiance")),
        ("AV320230821t173024_L1B_ORT_main_d71e8b07_GLT",
         ("AVIRIS-3", "2023-08-21T17:30:24Z", None, None)),
        ("f110729t01p00r08_refl", ("AVIRIS-Classic", "2011-07-29", "L2", "reflectance")),
        ("f080611t01p00r07rdn_c_sc01_ort_img", ("AVIRIS-Classic", "2008-06-11", "L1B", "radiance")),
        ("f960705t01p02r05.c.img", ("AVIRIS-Classic", "1996-07-05", None, None)),
        ("f119929t01p00r08_refl", (None, None, None, None)),
        ("ang20191399t183054_rfl", ("AVIRIS-NG", None, "L2", "reflectance")),
        ("angle20190802", (None, None, None, None)),
    ],
)  # fmt: skip
def test_names_of_flight_lines(name, said):
    found = flight_line(f"folder/{name}")
    names = ("sensor", "acquired", "level", "quantity")
    assert tuple(found.get(key) for key in names) == said
    assert is_spectral(name) == (said[3] is not None)


@pytest.mark.parametrize(
    ("text", "sensor"),
    [
        ("AVIRIS-NG Measured Radiances", "AVIRIS-NG"),
        ("{ AVIRIS Next Generation }", "AVIRIS-NG"),
        ("aviris_classic scene", "AVIRIS-Classic"),
        ("AVIRIS-3 L2A", "AVIRIS-3"),
        ("AVIRIS", "AVIRIS"),
        ("AVIRIS corrected", "AVIRIS"),
        ("HyMap", None),
    ],
)
def test_sensors_in_texts(text, sensor):
    assert sensor_in(text) == sensor


@pytest.mark.parametrize(
    ("fields", "sensor"),
    [
        ({"sensor_type": "AVIRIS-NG"}, "AVIRIS-NG"),
        ({"sensor_type": "HySpex  VNIR"}, "HySpex VNIR"),
        ({"sensor_type": "Unknown", "description": "{\n  AVIRIS-NG Reflectance [x]}"}, "AVIRIS-NG"),
        ({"sensor_type": "Unknown"}, None),
        ({"description": "{a mosaic}"}, None),
    ],
)
def test_the_header_names_the_sensor(tmp_path, pixels, fields, sensor):
    source = open_source(write_envi(tmp_path / "a.img", pixels, interleave="bil", **fields))
    assert source.attrs.get("sensor") == sensor
    assert "advice" not in source.attrs


def test_only_bsq_comes_with_advice(tmp_path, pixels):
    for interleave in ("bsq", "bil", "bip"):
        path = write_envi(tmp_path / f"{interleave}.img", pixels, interleave=interleave)
        advice = open_source(path).attrs.get("advice", "")
        assert advice.startswith("stored band by band (BSQ)") == (interleave == "bsq")
    one = write_envi(tmp_path / "one.img", pixels[:1])
    assert "advice" not in open_source(one).attrs


def test_a_header_of_a_narrower_image_is_refused(tmp_path, pixels):
    path = write_envi(tmp_path / "a.img", pixels, interleave="bil")
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("samples = 17", "samples = 7"))
    with pytest.raises(InputError, match=r"a\.img is longer than its header says: 1122 bytes, exp"):
        open_source(path)


def test_a_few_bytes_after_the_pixels_do_no_harm(tmp_path, pixels):
    path = write_envi(tmp_path / "a.img", pixels, interleave="bil")
    path.write_bytes(path.read_bytes() + b"end")
    np.testing.assert_array_equal(open_source(path).pixels[:, 2:4, 3:9], pixels[:, 2:4, 3:9])
