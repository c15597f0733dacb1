import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
import rasterio.warp
import scipy.io
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth import align_labels, check_trainable, read_labels

REAL = Path(__file__).parents[1].parent / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="the shared data sets are not here")

UTM = "EPSG:32633"
WEST, NORTH = 364000, 5809000
GRID = GeoBox((6, 8), Affine(30, 0, WEST, 0, -30, NORTH), UTM)


def pixel_box(column, row, columns=1, rows=1):
    """Rectangle over whole pixels of GRID."""
    return shapely.box(
        WEST + 30 * column,
        NORTH - 30 * (row + rows),
        WEST + 30 * (column + columns),
        NORTH - 30 * row,
    )


def frame(columns, geometry, crs=UTM):
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=crs)


@pytest.fixture
def save(tmp_path):
    """Write a GeoDataFrame to a new file and return its path."""

    def write(features, name="labels.gpkg", **options):
        path = tmp_path / name
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            features.to_file(path, **options)
        return path

    return write


@pytest.fixture
def save_raster(tmp_path):
    """Write an array as GeoTIFF and return its path."""

    def write(values, grid=GRID, name="labels.tif", colors=None, **profile):
        path = tmp_path / name
        values = np.atleast_3d(values.T).T
        place = (
            {} if grid is None else {"transform": grid.affine, "crs": grid.crs and str(grid.crs)}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=values.shape[0],
                height=values.shape[1],
                width=values.shape[2],
                dtype=values.dtype,
                **place,
                **profile,
            ) as target:
                target.write(values)
                if colors:
                    target.write_colormap(1, colors)
        return path

    return write


TWO_BOXES = [pixel_box(1, 1, 2, 2), pixel_box(4, 2, 3, 1)]
TWO_LABELS = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 3, 3, 0, 0, 0, 0, 0],
        [0, 3, 3, 0, 7, 7, 7, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
)


# --- polygons and points


def test_polygons_label_the_pixels_whose_centre_they_hold(save):
    truth = read_labels(save(frame({"class_id": [3, 7]}, TWO_BOXES)), GRID)
    np.testing.assert_array_equal(truth.labels, TWO_LABELS)
    np.testing.assert_array_equal(
        truth.units, np.select([TWO_LABELS == 3, TWO_LABELS == 7], [1, 2])
    )
    assert truth.labels.dtype == np.uint8
    assert truth.units.dtype == np.int32
    assert truth.splits is None
    assert truth.scheme == make_scheme([3, 7])
    assert [(c.code, c.features, c.pixels, c.area_m2) for c in truth.report.classes] == [
        (3, 1, 4, 3600.0),
        (7, 1, 3, 2700.0),
    ]


def test_a_polygon_less_than_half_a_pixel_short_still_holds_the_centre(save):
    inside, outside = pixel_box(1, 1, 2, 2).buffer(-14), pixel_box(4, 2, 3, 1).buffer(-16)
    truth = read_labels(save(frame({"class": [3, 7]}, [inside, outside])), GRID)
    np.testing.assert_array_equal(truth.labels == 3, TWO_LABELS == 3)
    assert truth.report.without_geometry == 1  # a buffer of -16 m leaves nothing of 30 m
    assert truth.scheme.codes == (3,)


@pytest.mark.parametrize("name", ["labels.gpkg", "labels.shp", "labels.geojson", "labels.fgb"])
def test_every_vector_format_and_crs_gives_the_same_labels(save, name):
    features = frame({"class_id": [3, 7]}, TWO_BOXES)
    # slightly smaller, so that no edge falls on a pixel centre in either CRS
    path = save(features.set_geometry(features.buffer(-2)).to_crs("EPSG:4326"), name)
    np.testing.assert_array_equal(read_labels(path, GRID).labels, TWO_LABELS)


def test_random_polygons_in_degrees_agree_with_those_in_utm(save):
    rng = np.random.default_rng(0)
    grid = GeoBox((60, 80), Affine(30, 0, WEST, 0, -30, NORTH), UTM)
    places = rng.uniform([WEST, NORTH - 1800], [WEST + 2400, NORTH], size=(40, 2))
    shapes = [shapely.Point(p).buffer(rng.uniform(20, 200), quad_segs=3) for p in places]
    # Straight edges bend by reprojection; with a vertex every metre that stays below 1 mm.
    features = frame({"class": rng.integers(1, 5, 40)}, shapely.segmentize(shapes, 1.0))
    here = read_labels(save(features), grid)
    there = read_labels(save(features.to_crs(4326), "degrees.gpkg"), grid)
    np.testing.assert_array_equal(here.labels, there.labels)
    np.testing.assert_array_equal(here.units, there.units)
    assert here.report == there.report


def test_random_polygons_agree_with_a_test_of_each_pixel_centre(save):
    rng = np.random.default_rng(1)
    places = rng.uniform([WEST, NORTH - 180], [WEST + 240, NORTH], size=(12, 2))
    shapes = np.array([shapely.Point(p).buffer(rng.uniform(10, 60)) for p in places])
    codes = rng.integers(1, 4, 12)
    truth = read_labels(save(frame({"class": codes}, shapes)), GRID)
    conflicts = 0
    for row, column in np.ndindex(6, 8):
        center = shapely.Point(WEST + 30 * (column + 0.5), NORTH - 30 * (row + 0.5))
        found = set(codes[shapely.contains(shapes, center)].tolist())
        conflicts += len(found) > 1
        assert truth.labels[row, column] == (found.pop() if len(found) == 1 else 0)
    assert truth.report.conflicts == conflicts > 0


def test_a_rotated_grid_is_labelled_on_its_own_pixels(save):
    turned = Affine.translation(WEST, NORTH) @ Affine.rotation(30) @ Affine.scale(30, -30)
    grid = GeoBox((6, 8), turned, UTM)
    corners = [turned @ c for c in ((2, 1), (5, 1), (5, 3), (2, 3))]
    far = shapely.Point(turned @ (-0.5, 7)).buffer(1)  # inside the bounds, beside the grid
    truth = read_labels(save(frame({"class": [4, 5]}, [shapely.Polygon(corners), far])), grid)
    expected = np.zeros((6, 8))
    expected[1:3, 2:5] = 4
    np.testing.assert_array_equal(truth.labels, expected)
    assert truth.report.outside == 1
    assert truth.report.classes[0].area_m2 == pytest.approx(6 * 900)


def test_overlaps_of_different_classes_stay_unlabelled_and_are_counted(save):
    shapes = [pixel_box(0, 0, 4, 4), pixel_box(3, 3, 3, 3), pixel_box(0, 0, 2, 1)]
    truth = read_labels(save(frame({"class": [1, 2, 1]}, shapes)), GRID)
    assert truth.report.conflicts == 1
    assert truth.labels[3, 3] == truth.units[3, 3] == 0
    assert (truth.labels == 1).sum() == 15
    assert (truth.labels == 2).sum() == 8
    assert set(truth.units[0, :2]) <= {1, 3}


def test_points_label_the_pixel_that_contains_them(save):
    points = [
        shapely.Point(WEST + 1, NORTH - 1),
        shapely.Point(WEST + 59, NORTH - 31),
        shapely.MultiPoint([(WEST + 100, NORTH - 100), (WEST + 200, NORTH - 100)]),
        shapely.Point(WEST - 1, NORTH - 1),
    ]
    truth = read_labels(save(frame({"label": ["b", "a", "b", "c"]}, points)), GRID)
    expected = np.zeros((6, 8))
    expected[0, 0], expected[1, 1], expected[3, 3], expected[3, 6] = 2, 1, 2, 2
    np.testing.assert_array_equal(truth.labels, expected)
    assert truth.report.outside == 1
    assert truth.scheme.names == ("a", "b")


def test_what_is_skipped_is_counted(save):
    bowtie = shapely.Polygon(
        [
            (WEST, NORTH),
            (WEST + 120, NORTH - 120),
            (WEST + 120, NORTH),
            (WEST, NORTH - 120),
        ]
    )
    flat = shapely.Polygon([(WEST, NORTH), (WEST + 50, NORTH - 50), (WEST, NORTH)])
    codes = [1, 2, 2, 2, 0, None, 2, 2]
    shapes = [
        bowtie,
        pixel_box(5, 1),
        pixel_box(5, 2).buffer(-14).exterior.convex_hull.buffer(-0.5),
        shapely.Point(WEST + 31, NORTH - 151).buffer(2),
        pixel_box(1, 5),
        pixel_box(2, 5),
        None,
        pixel_box(8, 0),
    ]
    truth = read_labels(save(frame({"class": codes}, shapes)), GRID)
    report = truth.report
    assert report.features == 8
    assert report.without_class == 2
    assert report.without_geometry == 1
    assert report.repaired == 1
    assert report.outside == 1  # it touches the scene's edge only
    assert report.without_pixel == 1
    assert (truth.labels[:, :4] == 1).sum() == rasterio.features.rasterize(
        [shapely.make_valid(bowtie)], out_shape=(6, 8), transform=GRID.affine
    ).sum()
    with pytest.raises(InputError, match="labels no pixel of the scene"):
        read_labels(save(frame({"class": [1]}, [flat]), "flat.gpkg"), GRID)


def test_classes_of_the_file_keep_their_code_and_color_on_every_scene(save):
    shapes = [pixel_box(0, 0), pixel_box(100, 0), pixel_box(2, 2)]
    truth = read_labels(save(frame({"class": ["oak", "ash", "yew"]}, shapes)), GRID)
    assert truth.scheme.codes == (2, 3)
    assert truth.scheme.names == ("oak", "yew")
    assert truth.scheme.colors == make_scheme([1, 2, 3]).colors[1:]
    assert [(c.code, c.name, c.pixels) for c in truth.report.classes] == [
        (1, "ash", 0),
        (2, "oak", 1),
        (3, "yew", 1),
    ]


def test_splits_are_burnt_and_all_spellings_are_read(save):
    parts = ["train", "Training", "val", "VALID", "validation", "test", "testing", None]
    shapes = [pixel_box(column, 0) for column in range(8)]
    path = save(frame({"class": [1] * 8, "part": parts}, shapes))
    truth = read_labels(path, GRID, split_column="part")
    np.testing.assert_array_equal(truth.splits[0], [1, 1, 2, 2, 2, 3, 3, 0])
    assert not truth.splits[1:].any()


def test_a_pixel_claimed_for_training_and_validation_is_a_conflict(save):
    shapes = [pixel_box(0, 0, 3, 1), pixel_box(2, 0, 3, 1)]
    path = save(frame({"class": [1, 1], "split": ["train", "val"]}, shapes))
    truth = read_labels(path, GRID, split_column="split")
    np.testing.assert_array_equal(truth.labels[0], [1, 1, 0, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(truth.splits[0], [1, 1, 0, 2, 2, 0, 0, 0])
    assert truth.report.conflicts == 1


@pytest.mark.parametrize("undefined", [None, True])
def test_scenes_without_crs_take_labels_in_pixel_coordinates(save, undefined):
    shapes = [shapely.box(1, -3, 3, -1), shapely.box(4, -3, 7, -2)]
    # GeoPackages made elsewhere say "Undefined Cartesian SRS" where they mean no CRS.
    crs = undefined and 'LOCAL_CS["Undefined Cartesian SRS",UNIT["metre",1]]'
    path = save(frame({"class": [3, 7]}, shapes, crs=crs))
    truth = read_labels(path, pixel_grid(6, 8))
    np.testing.assert_array_equal(truth.labels, TWO_LABELS)
    assert truth.report.classes[0].area_m2 is None


def test_area_is_in_square_metres_for_grids_in_feet(save):
    grid = GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), "EPSG:2263")  # US survey feet
    path = save(frame({"class": [1]}, [shapely.box(0, -10, 10, 0)], crs="EPSG:2263"))
    count = read_labels(path, grid).report.classes[0]
    assert count.area_m2 == pytest.approx((10 * 1200 / 3937) ** 2)


# --- columns and class tables


def test_whole_numbers_in_a_float_column_are_codes(save):
    features = frame({"class": [3.0, 7.0, np.nan]}, [*TWO_BOXES, pixel_box(0, 5)])
    truth = read_labels(save(features), GRID)
    np.testing.assert_array_equal(truth.labels, TWO_LABELS)
    assert truth.report.without_class == 1


@pytest.mark.parametrize(
    ("codes", "wrong"), [([1.5, 2.0], r"1\.5"), ([-1, 2], "-1"), ([1, 256], "256")]
)
def test_codes_that_are_none_are_refused(save, codes, wrong):
    with pytest.raises(InputError, match=f"column 'class' holds {wrong}; class codes are whole"):
        read_labels(save(frame({"class": codes}, TWO_BOXES)), GRID)


def test_names_come_from_the_name_column(save):
    columns = {"class": [3, 7, 3], "what": ["oak ", "ash", None]}
    path = save(frame(columns, [*TWO_BOXES, pixel_box(0, 5)]))
    assert read_labels(path, GRID, name_column="what").scheme.names == ("oak", "ash")
    assert read_labels(path, GRID).scheme.names == ("class 3", "class 7")


def test_a_code_with_two_names_is_refused(save):
    path = save(frame({"class": [3, 3], "what": ["oak", "ash"]}, TWO_BOXES))
    with pytest.raises(InputError, match="class 3 has two names in column 'what', 'oak' and 'ash'"):
        read_labels(path, GRID, name_column="what")


def test_a_name_with_two_codes_is_refused(save):
    path = save(frame({"class": [3, 7], "what": ["oak", "oak"]}, TWO_BOXES))
    with pytest.raises(InputError, match=r"labels\.gpkg: class name 'oak' stands for more"):
        read_labels(path, GRID, name_column="what")


CSV_TABLE = "code,name,color\n0,nothing,\n3,oak,#FF0000\n7,ash,\n"
SEMICOLON_TABLE = CSV_TABLE.replace(",", ";")
YAML_TABLE = '- {code: 3, name: oak, color: "#ff0000"}\n- {code: 7, name: ash}\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.csv", CSV_TABLE), ("c.csv", SEMICOLON_TABLE), ("c.yaml", YAML_TABLE)],
)
@pytest.mark.parametrize("labels", [[3, 7], ["oak", "ash"]])
def test_a_class_table_gives_codes_names_and_colors(save, tmp_path, name, text, labels):
    (tmp_path / name).write_text(text)
    path = save(frame({"class": labels}, TWO_BOXES))
    truth = read_labels(path, GRID, class_table=tmp_path / name)
    np.testing.assert_array_equal(truth.labels, TWO_LABELS)
    assert truth.scheme.names == ("oak", "ash")
    assert truth.scheme.colors[0] == "#ff0000"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "name,color\noak,#ff0000\n", "expected a whole number as code"),
        ("c.csv", "code,name\n1,oak\n1,ash\n", "class 1 'ash' is there twice"),
        ("c.csv", "code,name\n1,oak\n2,oak\n", "class 2 'oak' is there twice"),
        ("c.csv", "code,name,color\n1,oak,red\n", "color 'red' of class 1 is not #rrggbb"),
        ("c.csv", "code,name\n300,oak\n", "class code 300 is outside 1 to 255"),
        ("c.csv", "", "expected a list of classes"),
        ("c.yaml", "1: oak\n", "expected a list of classes"),
        ("c.yaml", "[1, oak", "class table cannot be read"),
        ("none.csv", None, "class table cannot be read"),
    ],
)
def test_class_tables_with_faults_are_refused(save, tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    path = save(frame({"class": [3, 7]}, TWO_BOXES))
    with pytest.raises(InputError, match=message):
        read_labels(path, GRID, class_table=tmp_path / name)


def test_a_name_that_the_class_table_lacks_is_refused(save, tmp_path):
    (tmp_path / "c.csv").write_text(CSV_TABLE)
    path = save(frame({"class": ["oak", "yew"]}, TWO_BOXES))
    with pytest.raises(InputError, match="class 'yew' of column 'class' is not in the class table"):
        read_labels(path, GRID, class_table=tmp_path / "c.csv")


def test_too_many_names_are_refused(save):
    names = [f"crown {n}" for n in range(256)]
    path = save(frame({"label": names}, [pixel_box(0, 0)] * 256))
    with pytest.raises(InputError, match="column 'label' has 256 different names"):
        read_labels(path, GRID)


def test_the_label_column_is_found_or_asked_for(save):
    upper = save(frame({"CLASS_ID": [3, 7], "other": [1, 1]}, TWO_BOXES), "upper.gpkg")
    assert read_labels(upper, GRID).scheme.codes == (3, 7)
    unclear = save(frame({"class": [3, 7], "code": [1, 2]}, TWO_BOXES), "unclear.gpkg")
    with pytest.raises(InputError, match=r"name it with --label-column; there are class, code"):
        read_labels(unclear, GRID)
    assert read_labels(unclear, GRID, label_column="code").scheme.codes == (1, 2)
    with pytest.raises(InputError, match="no column 'Clas', did you mean 'class'; the columns are"):
        read_labels(unclear, GRID, label_column="Clas")
    with pytest.raises(InputError, match="there is no column 'split'; the columns are class, code"):
        read_labels(unclear, GRID, label_column="code", split_column="split")


def test_columns_that_hold_no_classes_are_refused(save):
    dates = pd.to_datetime(["2024-01-01", "2024-01-02"])
    columns = {"class": [True, False], "label": dates, "none": [None, ""], "split": ["a", "train"]}
    path = save(frame(columns, TWO_BOXES))
    for column in ("class", "label"):
        with pytest.raises(InputError, match=f"column '{column}' holds .* whole numbers or names"):
            read_labels(path, GRID, label_column=column)
    with pytest.raises(InputError, match="column 'none' gives no feature a class"):
        read_labels(path, GRID, label_column="none")
    with pytest.raises(InputError, match="split column 'split' holds 'a'; expected train"):
        read_labels(path, GRID, label_column="split", split_column="split")


# --- layers


def test_layers_are_chosen_by_their_columns_or_asked_for(save):
    save(frame({"area": [3, 7]}, TWO_BOXES), layer="roads")
    path = save(frame({"class": [3, 7]}, TWO_BOXES), layer="classes")
    np.testing.assert_array_equal(read_labels(path, GRID).labels, TWO_LABELS)
    truth = read_labels(path, GRID, label_column="area")
    np.testing.assert_array_equal(truth.labels, TWO_LABELS)
    save(frame({"class": [1, 2]}, TWO_BOXES), layer="more")
    with pytest.raises(InputError, match=r"\(roads, classes, more\); choose one with --layer"):
        read_labels(path, GRID)
    assert read_labels(path, GRID, layer="more").scheme.codes == (1, 2)
    with pytest.raises(InputError, match="no layer 'less'; its layers are roads, classes, more"):
        read_labels(path, GRID, layer="less")


# --- failures of vector files


def test_labels_beside_the_scene_are_refused_with_both_extents(save):
    path = save(frame({"class": [3, 7]}, [b.buffer(-1) for b in TWO_BOXES]))
    grid = GeoBox((6, 8), Affine(30, 0, WEST + 9000, 0, -30, NORTH), UTM)
    with pytest.raises(InputError) as error:
        read_labels(path, grid)
    assert "labels no pixel of the scene; the labels span x 364031 to 364209" in str(error.value)
    assert "the scene x 373000 to 373240, y 5808820 to 5809000 (EPSG:32633)" in str(error.value)


def test_labels_on_the_other_side_of_the_earth_are_beside_the_scene(save):
    shapes = [shapely.box(-170, -80, -169, -79), shapely.box(105, 0, 106, 1)]
    path = save(frame({"class": [1, 2]}, shapes, crs="EPSG:4326"))
    with pytest.raises(InputError, match="labels no pixel of the scene"):
        read_labels(path, GRID)


def test_features_too_small_for_a_pixel_centre_are_refused(save):
    path = save(frame({"class": [1]}, [shapely.Point(WEST + 31, NORTH - 31).buffer(3)]))
    with pytest.raises(InputError, match=r"none of the 1 features on the scene labels a pixel \(1"):
        read_labels(path, GRID)


def test_a_missing_crs_is_never_guessed(save):
    path = save(frame({"class": [3, 7]}, TWO_BOXES, crs=None), "none.gpkg")
    with pytest.raises(InputError, match="labels have no CRS but the scene has EPSG:32633"):
        read_labels(path, GRID)
    path = save(frame({"class": [3, 7]}, TWO_BOXES))
    with pytest.raises(InputError, match="labels have a CRS but the scene has none; georeference"):
        read_labels(path, pixel_grid(6, 8))


def test_lines_tables_and_empty_layers_are_refused(save, tmp_path):
    line = save(frame({"class": [1]}, [TWO_BOXES[0].boundary]), "line.gpkg")
    with pytest.raises(InputError, match="holds LineString; labels are polygons or points"):
        read_labels(line, GRID)
    empty = tmp_path / "empty.geojson"
    empty.write_text('{"type": "FeatureCollection", "name": "empty", "features": []}')
    with pytest.raises(InputError, match="layer 'empty' is empty"):
        read_labels(empty, GRID)
    (tmp_path / "table.csv").write_text("class\n1\n")
    with pytest.raises(InputError, match="'table' is a table without geometry"):
        read_labels(tmp_path / "table.csv", GRID)


def test_files_that_are_no_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.gpkg: there is no such label file"):
        read_labels(tmp_path / "nothing.gpkg", GRID)
    (tmp_path / "notes.txt").write_text("not a map")
    with pytest.raises(InputError, match="neither a vector file nor a raster"):
        read_labels(tmp_path / "notes.txt", GRID)


def test_labels_beside_a_rotated_scene_without_crs_are_refused(save):
    turned = GeoBox((6, 8), Affine.rotation(30) @ Affine.scale(1, -1), None)
    path = save(frame({"class": [1]}, [shapely.box(90, 90, 95, 95)], crs=None))
    with pytest.raises(InputError, match=r"span x 90 to 95.* the scene x 0 to 9\.9.*\(no CRS\)"):
        read_labels(path, turned)


# --- class rasters


def test_a_class_raster_that_is_cut_short_is_refused(save_raster):
    path = save_raster(np.tile(TWO_LABELS, (40, 40)).astype(np.uint8), tiled=True, nodata=0)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"labels\.tif: .* nor a raster that can be read \("):
        read_labels(path, GRID)


def test_a_class_raster_of_the_whole_earth_is_taken_to_the_scene(save_raster):
    earth = GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), 4326)
    values = np.tile(np.arange(180, dtype=np.uint8)[:, None], 360)
    truth = read_labels(save_raster(values, earth), GRID)
    assert set(truth.labels.flat) == {37}  # row 37 spans 52 to 53 degrees north


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_a_class_raster_on_the_same_grid_is_read_as_it_is(save_raster, dtype):
    values = np.where(TWO_LABELS == 0, 99, TWO_LABELS).astype(dtype)
    truth = read_labels(save_raster(values, nodata=99), GRID)
    np.testing.assert_array_equal(truth.labels, TWO_LABELS)
    assert not truth.units.any()
    assert [(c.code, c.pixels, c.area_m2) for c in truth.report.classes] == [
        (3, 4, 3600.0),
        (7, 3, 2700.0),
    ]


def test_nan_is_unlabelled(save_raster):
    values = np.where(TWO_LABELS == 0, np.nan, TWO_LABELS).astype("float32")
    for number, nodata in enumerate((None, np.nan)):
        path = save_raster(values, nodata=nodata, name=f"{number}.tif")
        np.testing.assert_array_equal(read_labels(path, GRID).labels, TWO_LABELS)


def test_a_finer_class_raster_gives_the_class_at_each_pixel_centre(save_raster):
    fine = GeoBox((30, 40), Affine(6, 0, WEST, 0, -6, NORTH), UTM)
    values = np.random.default_rng(0).integers(0, 5, (30, 40), dtype=np.uint8)
    truth = read_labels(save_raster(values, fine), GRID)
    np.testing.assert_array_equal(truth.labels, values[2::5, 2::5])


def test_a_coarser_shifted_class_raster_is_unlabelled_beside_itself(save_raster):
    coarse = GeoBox((2, 2), Affine(90, 0, WEST + 30, 0, -90, NORTH - 30), UTM)
    values = np.array([[1, 255], [0, 2]], dtype=np.uint8)
    truth = read_labels(save_raster(values, coarse, nodata=255), GRID)
    expected = np.zeros((6, 8))
    expected[1:4, 1:4], expected[4:6, 4:7] = 1, 2
    np.testing.assert_array_equal(truth.labels, expected)


def test_a_class_raster_in_another_crs_gives_the_class_under_each_pixel_centre(save_raster):
    lon, lat = rasterio.warp.transform(UTM, "EPSG:4326", [WEST], [NORTH])
    step = 0.0002
    other = GeoBox((40, 60), Affine(step, 0, lon[0] - 0.002, 0, -step, lat[0] + 0.002), 4326)
    values = np.random.default_rng(0).integers(1, 6, (40, 60), dtype=np.uint8)
    truth = read_labels(save_raster(values, other), GRID)
    rows, columns = np.indices((6, 8))
    x, y = WEST + 30 * (columns + 0.5), NORTH - 30 * (rows + 0.5)
    lon, lat = rasterio.warp.transform(UTM, "EPSG:4326", x.ravel(), y.ravel())
    at = [~other.affine @ place for place in zip(lon, lat, strict=True)]
    expected = [values[int(row), int(column)] for column, row in at]
    np.testing.assert_array_equal(truth.labels.ravel(), expected)


def test_colors_come_from_the_colour_table_and_the_class_table_wins(save_raster, tmp_path):
    path = save_raster(TWO_LABELS.astype(np.uint8), colors={3: (1, 2, 3), 7: (255, 0, 16)})
    assert read_labels(path, GRID).scheme.colors == ("#010203", "#ff0010")
    (tmp_path / "c.csv").write_text(CSV_TABLE)
    truth = read_labels(path, GRID, class_table=tmp_path / "c.csv")
    assert truth.scheme.colors == ("#ff0000", "#ff0010")
    assert truth.scheme.names == ("oak", "ash")


def test_class_rasters_with_faults_are_refused(save_raster):
    labels = TWO_LABELS.astype(np.uint8)
    cases = [
        ({"values": np.stack([labels] * 3)}, "has 3 bands, a class raster has one"),
        ({"values": labels.astype("float32") + 0.5}, r"holds 0\.5, 3\.5, 7\.5; class codes are"),
        ({"values": labels.astype("int16") - 1}, "holds -1; class codes are whole numbers"),
        ({"values": labels * 0}, "labels no pixel of the scene"),
        ({"values": labels[:3], "grid": None}, "labels have no CRS but the scene has EPSG:32633"),
    ]
    for number, (arguments, message) in enumerate(cases):
        path = save_raster(name=f"{number}.tif", **arguments)
        with pytest.raises(InputError, match=message):
            read_labels(path, GRID)


def test_a_class_raster_beside_the_scene_is_refused_with_both_extents(save_raster):
    far = GeoBox((6, 8), Affine(30, 0, WEST - 9000, 0, -30, NORTH), UTM)
    with pytest.raises(InputError, match=r"labels span x 355000 to 355240.*the scene x 364000 to"):
        read_labels(save_raster(TWO_LABELS.astype(np.uint8), far), GRID)


def test_rasters_without_georeference_go_by_pixels(save_raster):
    labels = TWO_LABELS.astype(np.uint8)
    plain = save_raster(labels, None)
    np.testing.assert_array_equal(read_labels(plain, GRID).labels, labels)
    np.testing.assert_array_equal(read_labels(plain, pixel_grid(6, 8)).labels, labels)
    with pytest.raises(InputError, match="has 6 x 8 pixels and no CRS, the scene 8 x 6"):
        read_labels(plain, pixel_grid(8, 6))
    with pytest.raises(InputError, match="labels have a CRS but the scene has none"):
        read_labels(save_raster(labels, name="utm.tif"), pixel_grid(6, 8))


def test_options_about_columns_and_layers_do_not_fit_rasters(save_raster):
    path = save_raster(TWO_LABELS.astype(np.uint8))
    for option in ("label_column", "name_column", "split_column", "layer"):
        message = f"neither columns nor layers; leave out --{option.replace('_', '-')}"
        with pytest.raises(InputError, match=message):
            read_labels(path, GRID, **{option: "class"})


# --- arrays


def test_npy_and_mat_arrays_of_the_scenes_shape_are_read(tmp_path):
    np.save(tmp_path / "labels.npy", TWO_LABELS)
    scipy.io.savemat(
        tmp_path / "labels.mat",
        {
            "map": TWO_LABELS.astype(float),
            "number": 6,
            "name": "x",
            "bands": np.arange(1, 10)[None],
            "cube": np.zeros((6, 8, 3)),
            "share": np.full((6, 8), 0.5),
        },
    )
    for name in ("labels.npy", "labels.mat"):
        truth = read_labels(tmp_path / name, GRID)
        np.testing.assert_array_equal(truth.labels, TWO_LABELS)
        assert truth.scheme.codes == (3, 7)


def test_several_label_arrays_are_chosen_by_name(tmp_path):
    path = tmp_path / "two.mat"
    scipy.io.savemat(path, {"train": TWO_LABELS, "test": TWO_LABELS * 2})
    with pytest.raises(InputError, match=r"found 2; the file holds train 6x8 .*with --layer"):
        read_labels(path, GRID)
    assert read_labels(path, GRID, layer="test").scheme.codes == (6, 14)
    with pytest.raises(InputError, match="array of whole numbers named 'val', found 0"):
        read_labels(path, GRID, layer="val")


def test_arrays_with_faults_are_refused(tmp_path):
    cases = {
        "cube.npy": (np.zeros((2, 6, 8)), "expected one 2-D array .* holds array 2x6x8 float64"),
        "share.npy": (np.full((6, 8), 0.5), "expected one 2-D array of whole numbers, found 0"),
        "turned.npy": (TWO_LABELS.T, r"have 8 x 6 pixels \(rows x columns\), the scene 6 x 8, tr"),
        "small.npy": (TWO_LABELS[:4], r"labels have 4 x 8 pixels .*, the scene 6 x 8$"),
        "large.npy": (TWO_LABELS * 1000, "holds 3000, 7000; class codes are"),
        "zero.npy": (TWO_LABELS * 0, "labels no pixel of the scene"),
        "object.npy": (np.array([[None]]), "cannot be read as an array file"),
    }
    for name, (values, message) in cases.items():
        np.save(tmp_path / name, values)
        with pytest.raises(InputError, match=message):
            read_labels(tmp_path / name, GRID)
    (tmp_path / "text.mat").write_text("not a matrix")
    with pytest.raises(InputError, match="cannot be read as an array file"):
        read_labels(tmp_path / "text.mat", GRID)
    hdf5_header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x00" * 400
    (tmp_path / "new.mat").write_bytes(hdf5_header)
    with pytest.raises(InputError, match=r"is a MATLAB 7\.3 file; save it with -v7"):
        read_labels(tmp_path / "new.mat", GRID)


# --- labels and models


def test_labels_are_aligned_by_name_where_both_sides_have_names(save):
    truth = read_labels(save(frame({"class": ["oak", "ash"]}, TWO_BOXES)), GRID)
    model = make_scheme([4, 5, 9], {4: "ash", 5: "yew", 9: "oak"})
    aligned = align_labels(truth, model)
    np.testing.assert_array_equal(aligned, np.select([TWO_LABELS == 3, TWO_LABELS == 7], [9, 4]))
    assert aligned.dtype == np.uint8


def test_labels_are_aligned_by_code_where_a_side_has_no_names(save):
    path = save(frame({"class": [3, 7], "what": ["oak", "ash"]}, TWO_BOXES))
    named = make_scheme([3, 5, 7], {3: "beech", 5: "yew", 7: "larch"})
    unnamed = make_scheme([3, 5, 7])
    np.testing.assert_array_equal(align_labels(read_labels(path, GRID), named), TWO_LABELS)
    truth = read_labels(path, GRID, name_column="what")
    np.testing.assert_array_equal(align_labels(truth, unnamed), TWO_LABELS)
    with pytest.raises(InputError, match=r"class 3 'oak', .* by name; its classes are 3 beech, 5"):
        align_labels(truth, named)
    with pytest.raises(InputError, match=r"class 7 'ash', .* by code; its classes are 3 class 3$"):
        align_labels(truth, make_scheme([3]))


def test_training_needs_two_classes_on_the_scene(save):
    shapes = [pixel_box(1, 1, 2, 2), pixel_box(50, 50)]
    truth = read_labels(save(frame({"class": ["oak", "ash"]}, shapes)), GRID)
    with pytest.raises(InputError, match=r"only 'oak' is labelled.*not on the scene: ash\)"):
        check_trainable(truth)
    check_trainable(read_labels(save(frame({"class": [3, 7]}, TWO_BOXES), "two.gpkg"), GRID))


# --- measured data


def grid_of(path):
    with rasterio.open(path) as source:
        return GeoBox(source.shape, source.transform, str(source.crs))


@needs_real
def test_enmap_potsdam_polygons_and_rasters_agree():
    folder = REAL / "enmap_potsdam"
    grid = grid_of(folder / "enmap_potsdam_mosaic.tif")
    raster = read_labels(folder / "landcover_level3_30m.tif", grid)
    truth = read_labels(
        folder / "landcover_level3_polygons.gpkg",
        grid,
        label_column="class_id",
        name_column="class_name",
        split_column="split",
    )
    with rasterio.open(folder / "landcover_level3_30m.tif") as source:
        np.testing.assert_array_equal(truth.labels, source.read(1))
    np.testing.assert_array_equal(truth.labels, raster.labels)
    assert truth.scheme.names == ("roof", "pavement", "low vegetation", "tree", "soil", "water")
    assert [c.pixels for c in truth.report.classes] == [436, 800, 1286, 1870, 69, 152]
    assert [c.features for c in truth.report.classes] == [202, 173, 181, 175, 23, 21]
    parts = {(unit, part) for unit, part in zip(truth.units.flat, truth.splits.flat, strict=True)}
    assert [sum(p == part for u, p in parts if u) for part in (1, 2, 3)] == [671, 104, 0]
    assert truth.report.conflicts == truth.report.outside == truth.report.without_pixel == 0


@needs_real
def test_enmap_potsdam_names_are_coded_in_sorted_order():
    folder = REAL / "enmap_potsdam"
    grid = grid_of(folder / "enmap_potsdam_mosaic.tif")
    by_name = read_labels(
        folder / "landcover_level3_polygons.gpkg", grid, label_column="class_name"
    )
    by_code = read_labels(folder / "landcover_level3_polygons.gpkg", grid, name_column="class_name")
    assert by_name.scheme.names == tuple(sorted(by_code.scheme.names))
    np.testing.assert_array_equal(align_labels(by_name, by_code.scheme), by_code.labels)


@needs_real
def test_enmap_potsdam_points_lie_where_the_file_says():
    folder = REAL / "enmap_potsdam"
    grid = grid_of(folder / "enmap_potsdam_mosaic.tif")
    truth = read_labels(folder / "landcover_points.gpkg", grid, label_column="level_2")
    points = gpd.read_file(folder / "landcover_points.gpkg")
    names = {c.code: c.name for c in truth.scheme.categories}
    on_scene = 0
    for place, (point, name) in enumerate(zip(points.geometry, points["level_2"], strict=True)):
        column, row = (int(np.floor(v)) for v in ~grid.affine @ (point.x, point.y))
        if 0 <= row < 192 and 0 <= column < 160:
            on_scene += 1
            assert names[truth.labels[row, column]] == name
            assert truth.units[row, column] == place + 1
    assert on_scene == 108 - truth.report.outside == 63
    assert set(names.values()) == {"impervious", "low vegetation", "tree", "soil", "water"}


@needs_real
def test_enmap_potsdam_tile_labels_are_whole_numbers_in_floats():
    folder = REAL / "enmap_potsdam"
    path = folder / "labels" / "enmap_potsdam_tile_64_0.tif"
    tile = read_labels(path, grid_of(path))
    mosaic = read_labels(
        folder / "landcover_level3_30m.tif", grid_of(folder / "landcover_level3_30m.tif")
    )
    np.testing.assert_array_equal(tile.labels, mosaic.labels[:32, :32])


@needs_real
def test_berlin_reference_in_another_crs_agrees_with_rasterio():
    folder = REAL / "berlin_landcover"
    grid = grid_of(folder / "landcover_polygon_30m.tif")
    truth = read_labels(folder / "landcover_polygon_30m_EPSG3035.tif", grid)
    with rasterio.open(folder / "landcover_polygon_30m_EPSG3035.tif") as source:
        rows, columns = np.nonzero(truth.labels)
        x, y = grid.affine @ (columns + 0.5, rows + 0.5)
        places = zip(*rasterio.warp.transform(grid.crs.to_wkt(), source.crs, x, y), strict=True)
        expected = [value[0] for value in source.sample(places)]
    np.testing.assert_array_equal(truth.labels[rows, columns], expected)
    home = read_labels(folder / "landcover_polygon_30m.tif", grid)
    assert (home.labels == truth.labels).mean() > 0.98
    assert home.scheme.colors[0] == "#e60000"


@needs_real
def test_salinas_keeps_its_codes():
    truth = read_labels(REAL / "salinas_a" / "SalinasA_gt.mat", pixel_grid(83, 86))
    assert [(c.code, c.pixels) for c in truth.report.classes] == [
        (1, 391),
        (10, 1343),
        (11, 616),
        (12, 1525),
        (13, 674),
        (14, 799),
    ]
    with pytest.raises(InputError, match=r"83 x 86 pixels .*the scene 86 x 83, transpose it"):
        read_labels(REAL / "salinas_a" / "SalinasA_gt.mat", pixel_grid(86, 83))


@needs_real
def test_idtrees_crowns_are_counted_by_taxon(save):
    crowns = gpd.read_file(REAL / "idtrees" / "ITC" / "train_MLBS.shp")
    field = pd.read_csv(REAL / "idtrees" / "Field" / "train_data.csv", keep_default_na=False)
    taxon_of = field.drop_duplicates("indvdID").set_index("indvdID")["taxonID"]
    crowns["taxon"] = crowns["indvdID"].map(taxon_of)
    plot = REAL / "idtrees" / "HSI" / "MLBS_1.tif"
    grid = grid_of(plot)
    truth = read_labels(save(crowns), grid, label_column="taxon")
    report = truth.report
    assert report.features == 588
    assert report.without_class == crowns["taxon"].isna().sum() > 0
    here = crowns[crowns["taxon"].notna() & crowns.intersects(shapely.box(*grid.boundingbox))]
    assert 588 - report.without_class - report.outside == len(here) > 0
    for name in set(here["taxon"]) & set(truth.scheme.names):
        code = dict(zip(truth.scheme.names, truth.scheme.codes, strict=True))[name]
        burnt = rasterio.features.rasterize(
            here.geometry[here["taxon"] == name], out_shape=(20, 20), transform=grid.affine
        )
        assert not ((truth.labels == code) & (burnt == 0)).any()
    with pytest.raises(InputError, match=r"--label-column; there are id, indvdID$"):
        read_labels(REAL / "idtrees" / "ITC" / "train_MLBS.shp", grid)


@needs_real
def test_harvard_crowns_do_not_fit_a_scene_without_crs():
    with rasterio.open(next((REAL / "neon_harv").glob("*.tif"))) as source:
        grid = GeoBox(source.shape, source.transform, None)
    with pytest.raises(InputError, match="labels have a CRS but the scene has none"):
        read_labels(REAL / "neon_harv" / "crown.shp", grid, label_column="taxonID")


def test_a_condition_picks_features_and_is_refused_where_it_does_not_fit(save, save_raster):
    path = save(
        frame(
            {"class_id": [1, 2, 2], "year": [2021, 2022, 2022]}, [pixel_box(c, 0) for c in range(3)]
        )
    )
    truth = read_labels(path, GRID, where="year = 2022")
    assert truth.labels[0].tolist() == [0, 2, 2, 0, 0, 0, 0, 0]
    with pytest.raises(InputError, match=r"no feature .* satisfies --where 'year = 1900'"):
        read_labels(path, GRID, where="year = 1900")
    with pytest.raises(InputError, match="--where 'yaer = 2022' cannot be used"):
        read_labels(path, GRID, where="yaer = 2022")
    with pytest.raises(InputError, match="leave out --where"):
        read_labels(save_raster(np.ones((6, 8), np.uint8)), GRID, where="year = 2022")
