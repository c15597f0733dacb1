"""Areas and lengths against pyproj's geodesics."""

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from polygon_maps import make_map, patches, whole
from pyproj import Geod
from shapely.geometry import Polygon, box

from hsi_pipeline.areas import Measure

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

WGS84 = Geod(ellps="WGS84")


def all_pixels(grid):
    rows, columns = grid.shape
    return Measure(grid).pixel_areas(slice(0, rows), slice(0, columns))


def test_feet_are_converted_to_metres():
    foot = 1200 / 3937  # of the US survey
    polygons = whole(make_map([[1]], GeoBox((1, 1), Affine(10, 0, 0, 0, -10, 0), "epsg:2263")))
    assert polygons.area_m2.item() == pytest.approx(100 * foot**2)
    assert polygons.perimeter_m.item() == pytest.approx(40 * foot)
    grid = GeoBox((1, 1), Affine(10, 0, 0, 0, -10, 0), "epsg:2263")
    areas = Measure(grid).polygon_areas(polygons.geometry.to_numpy())
    assert areas == pytest.approx(100 * foot**2)


def test_without_crs_they_count_pixels():
    polygons = whole(make_map([[1, 1], [0, 0]], GeoBox((2, 2), Affine(5, 0, 0, 0, -5, 0), None)))
    assert polygons.crs is None
    assert polygons.area_m2.tolist() == [2]


@pytest.mark.parametrize("south", [0, 47, -80])
def test_a_degree_cell_measures_what_geodesy_says(south):
    grid = GeoBox((1, 1), Affine(1, 0, 9, 0, -1, south + 1), "epsg:4326")
    polygons = whole(make_map([[1]], grid))
    # sides along parallels are no geodesics: give them vertices
    along = np.linspace(0, 1, 2001)
    cell = Polygon([*((9 + t, south) for t in along), *((10 - t, south + 1) for t in along)])
    expected, _ = WGS84.geometry_area_perimeter(cell)
    assert polygons.area_m2.item() == pytest.approx(expected, rel=1e-7)
    assert all_pixels(grid).item() == pytest.approx(expected, rel=1e-7)
    _, length = WGS84.geometry_area_perimeter(box(9, south, 10, south + 1))
    assert polygons.perimeter_m.item() == pytest.approx(length, rel=1e-9)


def test_a_sphere():
    crs = "+proj=longlat +R=6371000 +no_defs"
    grid = GeoBox((180, 1), Affine(1, 0, 0, 0, -1, 90), crs)
    polygons = whole(make_map(np.ones((180, 1)), grid))
    assert polygons.area_m2.item() == pytest.approx(4 * np.pi * 6_371_000**2 / 360)
    assert all_pixels(grid).sum() == pytest.approx(4 * np.pi * 6_371_000**2 / 360)


def test_a_rotated_geographic_grid():
    turn = Affine.translation(9, 47) @ Affine.rotation(30) @ Affine.scale(0.001, -0.001)
    grid = GeoBox((40, 60), turn, "epsg:4326")
    polygons = whole(make_map(np.ones((40, 60)), grid))
    ring = polygons.geometry.iloc[0].segmentize(1e-4)
    area, length = WGS84.geometry_area_perimeter(ring)
    assert polygons.area_m2.item() == pytest.approx(abs(area), rel=1e-6)
    assert polygons.perimeter_m.item() == pytest.approx(length, rel=1e-6)
    assert all_pixels(grid).sum() == pytest.approx(abs(area), rel=1e-6)


def test_holes_are_left_out_of_areas_and_counted_in_perimeters():
    codes = np.ones((3, 3))
    codes[1, 1] = 2
    grid = GeoBox((3, 3), Affine(0.1, 0, 9, 0, -0.1, 50), "epsg:4326")
    polygons = whole(make_map(codes, grid))
    for row in polygons.itertuples():
        fine = row.geometry.segmentize(0.0005)
        area, _ = WGS84.geometry_area_perimeter(fine)
        assert row.area_m2 == pytest.approx(abs(area), rel=1e-6)
        rings = [row.geometry.exterior, *row.geometry.interiors]
        assert row.perimeter_m == pytest.approx(sum(map(WGS84.geometry_length, rings)), rel=1e-9)


def test_areas_of_polygons_are_those_of_their_pixels():
    grid = GeoBox((60, 60), Affine(0.01, 0, 9, 0, -0.01, 60), "epsg:4326")
    codes = patches(60)
    polygons = whole(make_map(codes, grid))
    by_class = polygons.groupby("code").area_m2.sum()
    pixels = np.broadcast_to(all_pixels(grid), codes.shape)
    for code in (1, 2, 3):
        assert by_class[code] == pytest.approx(pixels[codes == code].sum(), rel=1e-9)


def test_several_parts_add_up():
    pair = shapely.multipolygons([box(0, 0, 1, 1), box(2, 0, 3, 1)])
    geometry = np.array([pair, box(0, 0, 1, 1)])
    measure = Measure(GeoBox((1, 1), Affine(1, 0, 0, 0, -1, 1), "epsg:4326"))
    areas, lengths = measure.polygon_areas(geometry), measure.perimeters(geometry)
    assert areas[0] == pytest.approx(2 * areas[1])
    assert lengths[0] == pytest.approx(2 * lengths[1])


@pytest.mark.parametrize(
    ("crs", "corner", "size"),
    [
        ("epsg:3857", (1_000_000, 6_800_000), 300),
        ("epsg:3395", (20_037_000, 8_000_000), 300),  # across the date line
        ("epsg:3031", (2_000_000, -1_500_000), 1000),
    ],
)
def test_projections_that_distort_are_measured_on_the_ellipsoid(crs, corner, size):
    grid = GeoBox((50, 40), Affine(size, 0, corner[0], 0, -size, corner[1]), crs)
    codes = patches(50)[:, :40]
    polygons = whole(make_map(codes, grid))
    assert not Measure(grid).is_planar
    degrees = polygons.geometry.segmentize(size / 4).to_crs(4326)
    for row, outline in zip(polygons.itertuples(), degrees, strict=True):
        points = shapely.get_coordinates(outline.exterior)
        assert row.area_m2 > 0
        if np.ptp(points[:, 0]) < 180:
            area, _ = WGS84.geometry_area_perimeter(outline)
            # sides of 30 pixels of 1 km are not straight in the equal-area plane
            assert row.area_m2 == pytest.approx(abs(area), rel=1e-3)
            rings = [outline.exterior, *outline.interiors]
            length = sum(WGS84.geometry_length(ring) for ring in rings)
            assert row.perimeter_m == pytest.approx(length, rel=1e-3)
    pixels = np.broadcast_to(all_pixels(grid), codes.shape)
    by_class = polygons.groupby("code").area_m2.sum()
    for code in (1, 2, 3):
        assert pixels[codes == code].sum() == pytest.approx(by_class[code], rel=1e-4)


def test_projections_that_keep_areas_are_planar():
    for crs in ("epsg:32633", "epsg:25832", "epsg:3035", "epsg:2056"):
        grid = GeoBox((10, 10), Affine(30, 0, 500_000, 0, -30, 5_500_000), crs)
        if crs == "epsg:2056":
            grid = GeoBox((10, 10), Affine(30, 0, 2_600_000, 0, -30, 1_200_000), crs)
        assert Measure(grid).is_planar
        assert all_pixels(grid).item() == 900


def test_a_long_side_is_measured_along_its_parallel():
    grid = GeoBox((1, 300), Affine(1, 0, -150, 0, -1, 0.5), "epsg:4326")
    polygons = whole(make_map(np.ones((1, 300)), grid))
    parallel = 2 * np.pi * 6_378_137 * 300 / 360
    assert polygons.perimeter_m.item() == pytest.approx(2 * parallel, rel=0.01)
