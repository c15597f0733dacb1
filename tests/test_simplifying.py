"""Simplified and smoothed polygons keep fitting together."""

from itertools import product

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from polygon_maps import UTM, make_map, patches, rasters, whole

from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons import polygonize

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def check_coverage(polygons):
    geometry = polygons.geometry.to_numpy()
    assert shapely.coverage_is_valid(geometry)
    assert shapely.is_valid(geometry).all()
    assert not shapely.is_empty(geometry).any()


@settings(deadline=None, max_examples=250)
@given(
    codes=rasters(14),
    grain=st.integers(1, 3),
    how=st.sampled_from([(0, True), *product([0.8, 1, 1.5, 4], [False, True])]),
    connectivity=st.sampled_from([4, 8]),
    chunk=st.integers(1, 40),
)
def test_any_raster_in_any_chunks_gives_a_valid_coverage(codes, grain, how, connectivity, chunk):
    tolerance, smooth = min(how[0], max(codes.shape) * grain), how[1]
    made = make_map(np.kron(codes, np.ones((grain, grain), np.uint8)), chunks=-1)
    options = {"connectivity": connectivity, "chunk": chunk}
    result = whole(made, simplify=tolerance, smooth=smooth, **options)
    check_coverage(result)
    plain = whole(made, **options)
    assert result.index.equals(plain.index)
    assert result.pixels.equals(plain.pixels)
    # each keeps its holes, and touches what it touched
    assert shapely.get_num_interior_rings(shapely.get_geometry(result.geometry, 0)).tolist() == (
        shapely.get_num_interior_rings(shapely.get_geometry(plain.geometry, 0)).tolist()
    )


@pytest.mark.parametrize("smooth", [False, True])
def test_patches_get_simpler_and_no_class_gains_or_loses_much(smooth):
    codes = patches(300, grain=6)
    codes[100:140, 50:200] = 0
    made = make_map(codes, GeoBox(codes.shape, UTM, "epsg:32633"), chunks=-1)
    plain, result = whole(made), whole(made, simplify=12, smooth=smooth)
    check_coverage(result)
    before, after = (frame.groupby("code").area_m2.sum() for frame in (plain, result))
    np.testing.assert_allclose(after, before, rtol=0.01)
    assert result.area_m2.tolist() == pytest.approx(result.area.tolist())
    assert result.perimeter_m.tolist() == pytest.approx(result.length.tolist())
    assert result.perimeter_m.sum() < 0.9 * plain.perimeter_m.sum()  # no stairs any more
    if not smooth:
        few, many = (shapely.get_num_coordinates(f.geometry.to_numpy()).sum()
                     for f in (result, plain))  # fmt: skip
        assert few < many / 2
    others = [column for column in plain if column not in ("geometry", "area_m2", "perimeter_m")]
    assert result[others].equals(plain[others])


def test_it_is_as_simple_as_what_geos_makes_of_the_whole_coverage():
    made = make_map(patches(300, grain=6), chunks=-1)
    nodes = whole(made, nodes=True).geometry.to_numpy()
    assert shapely.equals(nodes, whole(made).geometry.to_numpy()).all()
    for tolerance in (0.8, 1, 1.5, 3, 5):
        geos = shapely.coverage_simplify(nodes, tolerance)
        ours = whole(made, simplify=tolerance).geometry.to_numpy()
        counts = [shapely.get_num_coordinates(g).sum() for g in (ours, geos)]
        assert counts[0] < 1.1 * counts[1]


def test_lines_stay_near_where_they_were():
    made = make_map(patches(200, grain=5), chunks=-1)
    borders = [
        shapely.union_all(shapely.boundary(whole(made, **how).geometry.to_numpy()))
        for how in ({}, {"simplify": 1.5}, {"simplify": 1.5, "smooth": True})
    ]
    for other in borders[1:]:
        assert shapely.hausdorff_distance(borders[0], other) < 4  # pixels


@pytest.mark.parametrize("smooth", [False, True])
def test_only_vertices_near_chunk_edges_tell_of_chunks(smooth):
    made = make_map(patches(120, grain=4), chunks=-1)
    one, parts = (whole(made, simplify=1.5, smooth=smooth, chunk=size) for size in (None, 60))
    check_coverage(parts)
    # regions that stay clear of the edges are the same
    bounds = one.bounds
    clear = ~((bounds.minx <= 62) & (bounds.maxx >= 58)) & ~(
        (bounds.miny <= -58) & (bounds.maxy >= -62)
    )
    assert clear.sum() > 10
    same = one.geometry[clear].normalize() == parts.geometry[clear].normalize()
    assert same.mean() > 0.5  # but for those whose neighbours' arcs reach an edge


def test_the_union_has_no_gaps():
    made = make_map(patches(100), chunks=-1)
    for smooth in (False, True):
        result = whole(made, simplify=1.5, smooth=smooth, chunk=37)
        union = shapely.coverage_union_all(result.geometry.to_numpy())
        assert union.geom_type == "Polygon"
        assert len(union.interiors) == 0
        assert union.area == pytest.approx(100 * 100)


def test_corners_are_cut_at_quarters():
    corner = np.ones((8, 8))
    corner[4:, 4:] = 2
    result = whole(make_map(corner), smooth=True)
    check_coverage(result)
    shared = shapely.intersection(*result.geometry)
    # the corner at (4, -4) is replaced by points a quarter along, twice
    points = {tuple(point) for point in shapely.get_coordinates(shared).tolist()}
    assert (4.0, -4.0) not in points
    assert {(5.75, -4.0), (4.75, -4.25), (4.25, -4.75), (4.0, -5.75)} <= points
    assert {(8.0, -4.0), (4.0, -8.0)} <= points  # where the outside is met: these stay


def test_a_pixel_alone_stays_a_quadrilateral():
    codes = np.ones((5, 5))
    codes[2, 2] = 2
    result = whole(make_map(codes), simplify=5)
    assert result.area_m2.tolist() == [24, 1]
    # smoothed it loses four corners of 1/32, and eight of 1/256
    assert whole(make_map(codes), smooth=True).area_m2.tolist()[1] == 1 - 4 / 32 - 8 / 256


def test_tolerance_is_in_units_of_the_crs():
    codes = patches(60, grain=4)
    grids = [GeoBox(codes.shape, UTM, "epsg:32633"), None]
    large, small = (
        whole(make_map(codes, grid), simplify=tolerance)
        for grid, tolerance in zip(grids, (15, 1.5), strict=True)
    )
    assert large.area_m2.to_numpy() == pytest.approx(100 * small.area_m2.to_numpy())


def test_a_tolerance_of_another_unit_is_refused():
    grid = GeoBox((20, 30), Affine(0.001, 0, 9, 0, -0.001, 50), "epsg:4326")
    words = "simplification by 30 degree is more than the map, which is 0.03 degree"
    with pytest.raises(InputError, match=words):
        polygonize(make_map(np.ones((20, 30)), grid), simplify=30)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_tolerances_without_sense_are_refused(tolerance):
    with pytest.raises(InputError, match="tolerance of simplification is"):
        polygonize(make_map([[1]]), simplify=tolerance)
