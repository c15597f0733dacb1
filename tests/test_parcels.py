"""Parcels against every pixel cut out by shapely, hand-computed rasters and geodesic areas."""

import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj import Geod

from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth.parcels import read_parcels
from hsi_pipeline.parcels import ParcelReport, coverage, summarise_parcels
from hsi_pipeline.publish import open_class_map, write_class_map

# odc-geo multiplies affines in the way that affine 3 is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

NAMES = {1: "roof", 2: "tree", 3: "Low vegetation"}
SCHEME = make_scheme([1, 2, 3], NAMES)
AREAS = ["area_roof_m2", "area_tree_m2", "area_low_vegetation_m2"]
SHARES = ["share_roof", "share_tree", "share_low_vegetation"]
COLUMNS = [
    "majority",
    "majority_name",
    "majority_share",
    "confidence",
    "classified_m2",
    "unclassified_share",
    *AREAS,
    *SHARES,
]
UTM = "EPSG:32633"
WEST, NORTH = 400_000, 5_800_000
PLACE = Affine.translation(WEST, NORTH)
GRIDS = {
    "north-up": PLACE @ Affine.scale(10, -10),
    "flipped": PLACE @ Affine.scale(-10, 10),
    "oblong": PLACE @ Affine.scale(20, -5),
    "rotated": PLACE @ Affine.rotation(30) @ Affine.scale(10, -10),
    "sheared": PLACE @ Affine.shear(20, 5) @ Affine.scale(10, -10),
}


def grid_at(transform, size, crs=UTM):
    return GeoBox(size, transform, crs)


def make_map(codes, grid=None, confidence=None, chunks=4, scheme=SCHEME):
    codes = np.asarray(codes, np.uint8)
    grid = grid or grid_at(GRIDS["north-up"], codes.shape)
    pixels = {"class": (("y", "x"), da.from_array(codes, chunks=chunks), scheme_to_attrs(scheme))}
    if confidence is not None:
        values = np.asarray(confidence, np.float32)
        pixels["confidence"] = (("y", "x"), da.from_array(values, chunks=chunks))
    return xr.Dataset(pixels, coords=xr_coords(grid, dims=("y", "x")))


def on_map(*polygons, transform=GRIDS["north-up"]):
    """Take polygons from columns and rows to the coordinates of a grid."""
    return shapely.transform(np.array(polygons), lambda x, y: transform @ (x, y), interleaved=False)


def layer(polygons, crs=UTM, **columns):
    return gpd.GeoDataFrame(columns, geometry=list(polygons), crs=crs)


def pixel_polygons(grid):
    """Return the outline of each pixel (y, x) in the grid's coordinates."""
    rows, columns = np.indices(grid.shape)
    squares = shapely.box(columns, rows, columns + 1, rows + 1)
    return shapely.transform(squares, lambda x, y: grid.transform @ (x, y), interleaved=False)


def cut_out(polygon, grid):
    """Return which part of each pixel (y, x) a polygon covers, by cutting it out."""
    pixels = pixel_polygons(grid)
    return shapely.area(shapely.intersection(pixels, polygon)) / shapely.area(pixels)


@st.composite
def polygons_around(draw, rows, columns):
    """Draw a polygon of straight or crossing sides in columns and rows, made valid."""
    points = st.tuples(
        st.floats(-2, columns + 2, width=16, allow_subnormal=False),
        st.floats(-2, rows + 2, width=16, allow_subnormal=False),
    )
    ring = draw(st.lists(points, min_size=3, max_size=7, unique=True))
    drawn = shapely.Polygon(ring)
    return shapely.make_valid(drawn, method="structure", keep_collapsed=False)


# --- what is summed up


def test_half_covered_pixels_worked_out_by_hand():
    codes = [[1, 1, 2], [3, 0, 2]]
    confidence = [[0.5, 1.0, 0.25], [0.75, np.nan, 0.5]]
    # the lower half of the upper row, the upper half of the lower one, and half of column 0
    parcels = layer(on_map(shapely.box(0.5, 0.5, 3, 1.5)), name=["a"])
    table, report = summarise_parcels(make_map(codes, confidence=confidence), parcels)
    assert table.columns.tolist() == ["name", "geometry", *COLUMNS]
    row = table.iloc[0]
    # in pixels: roof 0.25 + 0.5, tree 0.5 + 0.5, low vegetation 0.25, unclassified 0.5
    assert row[AREAS].tolist() == [75, 100, 25]
    assert row["classified_m2"] == 200
    assert row["unclassified_share"] == 0.2
    assert row[SHARES].tolist() == [0.375, 0.5, 0.125]
    assert row[["majority", "majority_name", "majority_share"]].tolist() == [2, "tree", 0.5]
    mean = (0.25 * 0.5 + 0.5 * 1.0 + 0.5 * 0.25 + 0.5 * 0.5 + 0.25 * 0.75) / 2
    assert row["confidence"] == pytest.approx(mean)
    assert report == ParcelReport(
        parcels=1,
        repaired=0,
        without_geometry=0,
        outside=0,
        partly_outside=0,
        unclassified=0,
        partly_unclassified=1,
        suffix="",
    )


@settings(deadline=None, max_examples=60)
@given(data=st.data(), codes=arrays(np.uint8, (5, 7), elements=st.integers(0, 3)))
@pytest.mark.parametrize("transform", GRIDS.values(), ids=GRIDS)
def test_on_every_grid_parcels_hold_what_cutting_out_each_pixel_gives(data, codes, transform):
    drawn = data.draw(st.lists(polygons_around(5, 7), min_size=1, max_size=4))
    grid = grid_at(transform, codes.shape)
    confidence = np.linspace(0.1, 0.9, codes.size, dtype=np.float32).reshape(codes.shape)
    confidence[codes == 0] = np.nan
    everywhere = shapely.box(0, 0, 7, 5)  # so that no drawing is refused for lying outside
    polygons = on_map(everywhere, *drawn, transform=transform)
    table, _ = summarise_parcels(make_map(codes, grid, confidence), layer(polygons))
    pixel_m2 = abs(transform.determinant)
    for polygon, (_, row) in zip(polygons, table.iterrows(), strict=True):
        part = cut_out(polygon, grid)
        areas = [(part * pixel_m2)[codes == code].sum() for code in (1, 2, 3)]
        np.testing.assert_allclose(row[AREAS].astype(float), areas, atol=1e-4)
        assert row["classified_m2"] == pytest.approx(sum(areas), abs=1e-4)
        if row["classified_m2"] > 1:
            np.testing.assert_allclose(row[SHARES].sum(), 1)
            assert row["majority_share"] == row[SHARES].max()
            assert row["majority_name"] == NAMES[row["majority"]]
            weights = part[codes > 0]
            mean = np.average(confidence[codes > 0], weights=weights)
            assert row["confidence"] == pytest.approx(mean, abs=1e-5)
        if polygon.area > 1:
            unclassified = 1 - sum(areas) / polygon.area
            assert row["unclassified_share"] == pytest.approx(unclassified, abs=1e-5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), points=st.integers(2, 12))
def test_parcels_that_tile_the_map_add_up_to_its_classes(seed, points):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (9, 11), dtype=np.uint8)
    seeds = shapely.MultiPoint(rng.uniform((0, 0), (11, 9), (points, 2)))
    extent = shapely.box(0, 0, 11, 9)
    cells = shapely.voronoi_polygons(seeds, extend_to=extent).geoms
    tiles = [cell for cell in (c & extent for c in cells) if cell.area]
    table, report = summarise_parcels(make_map(codes), layer(on_map(*tiles)))
    counts = [(codes == code).sum() for code in (1, 2, 3)]
    np.testing.assert_allclose(table[AREAS].sum(), np.multiply(counts, 100), rtol=1e-6)
    assert report.partly_outside == 0


def test_areas_add_up_to_the_parcel_where_the_map_is_complete():
    codes = np.indices((20, 30)).sum(axis=0) % 3 + 1
    circle = shapely.Point(14.3, 9.7).buffer(8, quad_segs=50)
    parcels = layer(on_map(circle))
    table, _ = summarise_parcels(make_map(codes), parcels)
    assert table[AREAS].sum(axis=1)[0] == pytest.approx(parcels.area[0], rel=1e-6)
    assert table["unclassified_share"][0] == 0


@pytest.mark.parametrize(
    ("chunks", "chunk", "tile", "batch"),
    [
        (3, None, 1024, 2**20),
        (-1, 5, 1024, 2**20),
        (4, None, 3, 2**20),
        (7, 4, 3, 1),
        (-1, 1, 9, 9),
    ],
)
def test_chunks_make_no_difference(monkeypatch, chunks, chunk, tile, batch):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (23, 17), dtype=np.uint8)
    confidence = rng.random((23, 17), np.float32)
    circles = shapely.buffer(shapely.points(rng.uniform(-2, 22, (30, 2))), rng.uniform(0.1, 9, 30))
    parcels = layer(on_map(*circles))
    whole, report = summarise_parcels(make_map(codes, None, confidence, chunks=-1), parcels)
    monkeypatch.setattr(coverage, "_TILE", tile)
    monkeypatch.setattr(coverage, "_BATCH", batch)
    monkeypatch.setattr("hsi_pipeline.parcels._WINDOW", 1)
    parts, again = summarise_parcels(
        make_map(codes, None, confidence, chunks=chunks), parcels, chunk=chunk
    )
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-9)
    assert report == again


def test_of_classes_with_equal_areas_the_lowest_code_is_the_majority():
    table, _ = summarise_parcels(make_map([[3, 2], [2, 3]]), layer(on_map(shapely.box(0, 0, 2, 2))))
    assert table["majority"][0] == 2
    assert table["majority_share"][0] == 0.5


def test_a_map_without_confidence_leaves_it_missing():
    table, _ = summarise_parcels(make_map([[1, 2]] * 2), layer(on_map(shapely.box(0, 0, 2, 2))))
    assert table["confidence"].isna().all()


def test_zarr_and_geotiff_give_what_the_arrays_give(tmp_path):
    codes = np.random.default_rng(0).integers(0, 4, (20, 30), dtype=np.uint8)
    confidence = np.where(codes > 0, 0.5, np.nan)
    class_map = make_map(codes, confidence=confidence, chunks=16)
    parcels = layer(on_map(shapely.Point(9, 9).buffer(7), shapely.box(20, 5, 40, 30)))
    expected, _ = summarise_parcels(class_map, parcels)
    for name in ("map.zarr", "map.tif"):
        write_class_map(class_map, tmp_path / name)
        table, _ = summarise_parcels(open_class_map(tmp_path / name), parcels)
        pd.testing.assert_frame_equal(table, expected, rtol=1e-9)


def test_chunks_without_parcels_are_not_read():
    read = []

    def block(block_info=None):
        read.append(block_info[None]["chunk-location"])
        return np.ones((1024, 1024), np.uint8)

    codes = da.map_blocks(
        block, chunks=((1024,) * 3, (1024,) * 3), dtype=np.uint8, meta=np.empty((0, 0), np.uint8)
    )
    grid = grid_at(GRIDS["north-up"], codes.shape)
    class_map = xr.Dataset(
        {"class": (("y", "x"), codes, scheme_to_attrs(SCHEME))},
        coords=xr_coords(grid, dims=("y", "x")),
    )
    done = []
    parcels = layer(on_map(shapely.box(1100, 2100, 1130, 2110), shapely.box(10, 10, 12, 12)))
    table, _ = summarise_parcels(class_map, parcels, progress=lambda *step: done.append(step))
    assert read == [(0, 0), (2, 1)]
    assert table["area_roof_m2"].tolist() == [30_000, 400]
    assert done == [(number, 9) for number in range(1, 10)]


# --- where parcels lie


def test_parcels_beyond_the_map_amid_nodata_and_without_geometry_keep_their_rows():
    codes = np.ones((4, 4), np.uint8)
    codes[:, 2:] = 0
    places = [
        shapely.box(10, 10, 12, 12),  # outside
        shapely.box(-1, 0, 1, 2),  # half outside
        shapely.box(1, 0, 3, 2),  # half nodata
        shapely.box(2, 0, 4, 2),  # nodata
        shapely.box(4, 0, 6, 2),  # touches the edge of the map
        shapely.box(0, 0, 2, 2),
    ]
    geometry = [*on_map(*places), None, shapely.Polygon()]
    parcels = layer(geometry, number=range(8)).set_index(pd.Index([5, 5, 1, 0, 9, 8, 7, 6]))
    table, report = summarise_parcels(make_map(codes, confidence=codes * 0.5), parcels)
    assert table["number"].tolist() == list(range(8))
    assert table.index.equals(parcels.index)
    assert table["classified_m2"].tolist() == [0, 200, 200, 0, 0, 400, 0, 0]
    assert table["area_roof_m2"].tolist() == table["classified_m2"].tolist()
    nan = np.nan
    shares = [1, 0.5, 0.5, 1, 1, 0, nan, nan]
    np.testing.assert_array_equal(table["unclassified_share"], shares)
    known = table["classified_m2"] > 0
    for column in ("majority", "majority_name", "majority_share", *SHARES):
        assert table[column].notna().tolist() == known.tolist()
    assert table["confidence"].tolist()[1:3] == [0.5, 0.25]  # nodata has a confidence of 0 here
    assert report == ParcelReport(
        parcels=8,
        repaired=0,
        without_geometry=2,
        outside=2,
        partly_outside=1,
        unclassified=1,
        partly_unclassified=1,
        suffix="",
    )


def test_an_invalid_parcel_is_repaired_and_counted():
    bow_tie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    spike = shapely.Polygon([(0, 0), (3, 3), (0, 0)])
    parcels = layer(on_map(bow_tie, shapely.box(0, 0, 1, 1), spike))
    table, report = summarise_parcels(make_map(np.full((4, 4), 2)), parcels)
    assert table["area_tree_m2"].tolist() == [200, 100, 0]
    assert table.geometry.is_valid.all()
    assert table.geometry[0].area == 200
    assert table.geometry[1].equals(parcels.geometry[1])
    assert (report.repaired, report.without_geometry) == (2, 1)
    assert not parcels.geometry[0].is_valid  # the caller's own are left alone


def test_columns_geometry_and_types_of_the_parcels_are_kept():
    parcels = layer(
        [shapely.force_3d(p, 7) for p in on_map(shapely.box(0, 0, 2, 2), shapely.box(1, 1, 2, 2))],
        key=pd.array([2**60 + 1, None], dtype="Int64"),
        day=pd.to_datetime(["2024-05-01", None]),
    ).rename_geometry("shape")
    parcels = parcels[["shape", "day", "key"]]
    table, _ = summarise_parcels(make_map([[1, 2]] * 2), parcels)
    assert table.columns.tolist() == ["shape", "day", "key", *COLUMNS]
    assert table.geometry.name == "shape"
    pd.testing.assert_frame_equal(table[["shape", "day", "key"]], parcels)


# --- CRS


def test_parcels_in_another_crs_give_the_same_and_stay_in_theirs():
    codes = np.random.default_rng(0).integers(0, 4, (40, 50), dtype=np.uint8)
    circles = [shapely.Point(x, y).buffer(r) for x, y, r in ((9, 9, 7), (30, 20, 12), (60, 60, 2))]
    parcels = layer(on_map(*circles))
    expected, report = summarise_parcels(make_map(codes), parcels)
    # PROJ's own rounding apart, and edges of 1 pixel that are straight in the one or the other
    for crs in ("EPSG:4326", "EPSG:3035", "EPSG:3857", "EPSG:2263"):
        table, again = summarise_parcels(make_map(codes), parcels.to_crs(crs))
        assert table.crs == crs
        np.testing.assert_allclose(table[AREAS], expected[AREAS], atol=0.01)
        assert again == report


def test_long_edges_are_straight_in_the_parcels_own_crs():
    # 60 km along a parallel, which the grid sees as a bow of 100 m
    grid = grid_at(Affine(100, 0, 400_000, 0, -100, 5_800_000), (300, 700))
    parcel = shapely.box(13.6, 52.2, 14.5, 52.25)
    table, _ = summarise_parcels(make_map(np.ones(grid.shape), grid), layer([parcel], "EPSG:4326"))
    fine = layer([parcel.segmentize(1e-4)], "EPSG:4326").to_crs(UTM)
    straight = layer([parcel], "EPSG:4326").to_crs(UTM)
    assert table["area_roof_m2"][0] == pytest.approx(fine.area[0], rel=1e-6)
    bow = fine.geometry[0] - straight.geometry[0]
    assert bow.area > 0.01 * fine.area[0]


def test_a_parcel_that_reaches_where_the_map_has_no_coordinates_is_cut():
    world = shapely.box(-180, -90, 180, 90)
    far = shapely.box(-120, -50, -110, -40)
    map_ = make_map(np.full((6, 8), 2))
    table, report = summarise_parcels(map_, layer([world, far], "EPSG:4326"))
    assert table["area_tree_m2"].tolist() == pytest.approx([4800, 0], rel=1e-6)
    assert table["unclassified_share"].tolist() == [1, 1]  # to six decimals
    assert (report.partly_outside, report.outside) == (1, 1)
    assert table.geometry[0].equals(world)


@pytest.mark.parametrize("beyond", [False, True])
def test_a_map_across_the_date_line_finds_parcels_on_both_sides(beyond):
    grid = grid_at(Affine(100, 0, 200_000, 0, -100, 5_000_000), (40, 1000), "EPSG:32601")
    west, east = (shapely.box(x, 44.8, x + 0.1, 45.2) for x in (-179.8, 179.5))
    if beyond:
        west = shapely.box(180.2, 44.8, 180.3, 45.2)
    table, report = summarise_parcels(
        make_map(np.ones(grid.shape), grid, chunks=500), layer([west, east], "EPSG:4326")
    )
    assert (table["area_roof_m2"] > 1e7).all()
    assert report.outside == 0


@pytest.mark.parametrize("south", [0, 47, -80])
def test_areas_in_a_geographic_crs_are_geodesic_ones(south):
    grid = grid_at(Affine(0.25, 0, 9, 0, -0.25, south + 1), (4, 4), "EPSG:4326")
    codes = np.repeat([[1], [2], [0], [3]], 4, axis=1)
    table, _ = summarise_parcels(
        make_map(codes, grid), layer([shapely.box(9, south, 9.5, south + 1)], "EPSG:4326")
    )
    for name, top in zip(AREAS, (1, 0.75, 0.25), strict=True):
        # sides along parallels are no geodesics: give them vertices
        ring = shapely.box(9, south + top - 0.25, 9.5, south + top).segmentize(1e-4)
        area, _ = Geod(ellps="WGS84").geometry_area_perimeter(ring)
        assert table[name][0] == pytest.approx(abs(area), rel=1e-6)
    assert table["unclassified_share"][0] == pytest.approx(0.25, abs=1e-2)


def test_feet_are_converted_to_square_metres():
    grid = grid_at(Affine(10, 0, 0, 0, -10, 0), (2, 2), "EPSG:2263")  # US survey feet
    parcels = layer([shapely.box(0, -15, 10, 0)], "EPSG:2263")
    table, _ = summarise_parcels(make_map(np.ones((2, 2)), grid), parcels)
    assert table["area_roof_m2"][0] == pytest.approx(150 * (1200 / 3937) ** 2)


def test_without_crs_areas_count_pixels_and_say_so(tmp_path):
    class_map = make_map([[1, 2], [1, 0]], pixel_grid(2, 2))
    parcels = layer([shapely.box(0.5, -2, 2, 0)], None)
    table, _ = summarise_parcels(class_map, parcels)
    assert table["classified_px"].tolist() == [2]
    assert table[["area_roof_px", "area_tree_px"]].iloc[0].tolist() == [1, 1]
    assert not any("m2" in column for column in table.columns)
    # GeoPackage keeps "no CRS" as a CRS of its own
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        pyogrio.write_dataframe(parcels, tmp_path / "parcels.gpkg")
    again, _ = summarise_parcels(class_map, read_parcels(tmp_path / "parcels.gpkg"))
    assert again["classified_px"].tolist() == [2]


# --- names


def test_new_columns_give_way_to_those_of_the_parcels_all_of_them():
    class_map = make_map([[1, 2]] * 2)
    parcels = layer(on_map(shapely.box(0, 0, 2, 2)), Confidence=["high"])
    once, report = summarise_parcels(class_map, parcels)
    assert report.suffix == "_2"  # databases take upper and lower case as the same
    assert once.columns.tolist() == ["Confidence", "geometry", *(f"{c}_2" for c in COLUMNS)]
    twice, report = summarise_parcels(class_map, once)
    assert report.suffix == "_3"
    assert twice["share_tree_3"].equals(once["share_tree_2"])
    assert twice.columns.is_unique


def test_class_names_become_unique_identifiers():
    names = ["Low veg.", "low-veg", "low veg 1", "Straße & Weg", "?", "水"]
    scheme = make_scheme(range(1, 7), dict(enumerate(names, start=1)))
    class_map = make_map([[1, 2, 3], [4, 5, 6]], scheme=scheme)
    table, _ = summarise_parcels(class_map, layer(on_map(shapely.box(0, 0, 3, 2))))
    shares = [column for column in table if column.startswith("share_")]
    assert shares == [
        "share_low_veg_1_1",
        "share_low_veg_2",
        "share_low_veg_1_3",
        "share_straße_weg",
        "share_class",
        "share_水",
    ]
    assert table["majority_name"][0] == "Low veg."


# --- what is refused

FAR = shapely.box(500_000, 5_700_000, 500_100, 5_700_100)
HERE = shapely.box(WEST, NORTH - 20, WEST + 20, NORTH)


@pytest.mark.parametrize(
    ("parcels", "grid", "message"),
    [
        (layer([]), None, "parcel layer has 0 features and no geometry; give it polygons"),
        (layer([None, shapely.Polygon()]), None, "has 2 features and no geometry"),
        (
            layer([HERE, HERE.exterior, HERE.centroid]),
            None,
            "parcels are polygons, the layer holds LinearRing, Point; leave these out",
        ),
        (
            layer([HERE], None),
            None,
            "the parcels have no CRS but the map has WGS 84 / UTM zone 33N; as",
        ),
        (
            layer([HERE]),
            pixel_grid(2, 2),
            "parcels have a CRS, WGS 84 / UTM zone 33N, but the map has none; georeference",
        ),
        (
            layer([FAR]),
            None,
            r"no pixel of the map; the parcels span x 500000 to 500100, y 5700000 to 5700100, "
            r"the map x 400000 to 400020, y 5799980 to 5800000 \(WGS 84 / UTM zone 33N\)",
        ),
        (
            layer([shapely.box(9, 50, 10, 51)], "EPSG:4326"),
            None,
            r"span x 9 to 10, y 50 to 51, the map x 13\.53\d+ to 13\.53\d+, y 52\.34.* \(WGS 84\)",
        ),
        (
            layer([HERE], "+proj=ortho +lat_0=50 +lon_0=10 +ellps=WGS84"),
            grid_at(Affine(1, 0, 170, 0, -1, -50), (2, 2), "EPSG:4326"),
            "polygons' CRS, unknown, has no coordinates where the grid lies; reproject them to the "
            "grid's, WGS 84",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused(parcels, grid, message):
    with pytest.raises(InputError, match=message):
        summarise_parcels(make_map([[1, 2]] * 2, grid), parcels)


def test_a_chunk_of_no_pixels_and_a_code_that_the_scheme_lacks_are_refused():
    parcels = layer([HERE])
    with pytest.raises(InputError, match="chunk size is 0 pixels, expected 1 or more"):
        summarise_parcels(make_map([[1, 2]] * 2), parcels, chunk=0)
    with pytest.raises(InputError, match=r"holds code 7, its classes are \(1, 2, 3\)"):
        summarise_parcels(make_map([[1, 7]] * 2), parcels)


# --- files


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "fgb"])
def test_parcels_come_from_files_with_their_types_and_keys(tmp_path, suffix):
    parcels = layer(
        on_map(*(shapely.box(0, i, 2, i + 1) for i in range(3))),
        key=pd.array([2**60 + 1, None, 3], dtype="Int64"),
        owned=pd.array([True, None, False], dtype="boolean"),
        name=["a", None, "c"],
        fid=[7, 9, 30],
    )
    path = tmp_path / f"parcels.{suffix}"
    pyogrio.write_dataframe(parcels, path)
    found = read_parcels(path).sort_values("fid", ignore_index=True)
    assert found["fid"].tolist() == [7, 9, 30]
    for column in ("key", "owned", "name"):
        pd.testing.assert_series_equal(found[column], parcels[column])
    table, _ = summarise_parcels(
        make_map([[1, 2], [0, 0], [3, 3]], confidence=np.ones((3, 2))), found.to_crs(UTM)
    )
    pyogrio.write_dataframe(table, tmp_path / f"table.{suffix}")
    again = read_parcels(tmp_path / f"table.{suffix}").sort_values("fid", ignore_index=True)
    assert again["fid"].tolist() == [7, 9, 30]
    columns = ["key", "owned", *COLUMNS]
    pd.testing.assert_frame_equal(
        pd.DataFrame(again[columns]), pd.DataFrame(table[columns]), check_dtype=suffix == "gpkg"
    )


def test_a_layer_of_several_is_chosen_by_name(tmp_path):
    path = tmp_path / "parcels.gpkg"
    parcels = layer([HERE], name=["a"])
    pyogrio.write_dataframe(parcels, path, layer="fields")
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), path, layer="styles")
    assert read_parcels(path)["name"].tolist() == ["a"]
    pyogrio.write_dataframe(parcels, path, layer="towns")
    assert read_parcels(path, "towns")["name"].tolist() == ["a"]
    cases = {
        None: r"there are several layers \(fields, towns, styles\); name the one with parcels",
        "roads": "there is no layer 'roads'; its layers are fields, towns, styles",
        "styles": "there is no geometry in layer styles; give polygons",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            read_parcels(path, name)


def test_files_that_hold_no_vectors_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such parcel file"):
        read_parcels(tmp_path / "none.gpkg")
    (tmp_path / "text.gpkg").write_text("no vectors")
    with pytest.raises(InputError, match="not a vector file that can be read; parcels are poly"):
        read_parcels(tmp_path / "text.gpkg")


# --- across the date line


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4258", "EPSG:3857"])
def test_parcels_beyond_the_date_line_are_found_on_a_map_that_crosses_it(crs):
    grid = GeoBox((4, 20), Affine(0.1, 0, 179, 0, -0.1, 10), "EPSG:4326")
    made = make_map(np.tile([1, 2], (4, 10)), grid)
    here, there = shapely.box(179.2, 9.7, 179.6, 9.9), shapely.box(-179.8, 9.7, -179.4, 9.9)
    both = shapely.union(shapely.box(179.8, 9.7, 180, 9.9), shapely.box(-180, 9.7, -179.8, 9.9))
    parcels = layer([here, there, both], crs="EPSG:4326").to_crs(crs)
    found, report = summarise_parcels(made, parcels)
    assert found["classified_m2"].to_numpy() == pytest.approx(found["classified_m2"][0], rel=1e-3)
    assert found["unclassified_share"].to_numpy() == pytest.approx(0, abs=1e-3)
    assert report.outside == report.partly_outside == 0
