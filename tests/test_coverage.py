"""Simplified and smoothed polygons keep fitting together."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from polygon_maps import UTM, make_map, patches, rasters, whole

from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons.coverage import simplify

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def check_coverage(polygons):
    geometry = polygons.geometry.to_numpy()
    assert shapely.coverage_is_valid(geometry)
    assert shapely.is_valid(geometry).all()
    assert not shapely.is_empty(geometry).any()


@settings(deadline=None, max_examples=100)
@given(
    codes=rasters(12),
    tolerance=st.sampled_from([0, 0.8, 1.5, 4]),
    smooth=st.booleans(),
    connectivity=st.sampled_from([4, 8]),
)
def test_any_raster_gives_a_valid_coverage(codes, tolerance, smooth, connectivity):
    polygons = whole(make_map(codes), nodes=True, connectivity=connectivity)
    result = simplify(polygons, tolerance, smooth=smooth)
    check_coverage(result)
    assert result.index.equals(polygons.index)


@pytest.mark.parametrize("smooth", [False, True])
def test_patches_get_simpler_and_no_class_gains_or_loses_much(smooth):
    codes = patches(300, grain=6)
    codes[100:140, 50:200] = 0
    polygons = whole(make_map(codes, GeoBox(codes.shape, UTM, "epsg:32633")), nodes=True)
    result = simplify(polygons, 12, smooth=smooth)
    check_coverage(result)
    before, after = (frame.groupby("code").area_m2.sum() for frame in (polygons, result))
    np.testing.assert_allclose(after, before, rtol=0.01)
    assert result.area_m2.tolist() == pytest.approx(result.area.tolist())
    assert result.perimeter_m.tolist() == pytest.approx(result.length.tolist())
    assert result.perimeter_m.sum() < 0.9 * polygons.perimeter_m.sum()  # no stairs any more
    if not smooth:
        points = [
            shapely.get_num_coordinates(f.geometry.to_numpy()).sum() for f in (result, polygons)
        ]
        assert points[0] < points[1] / 2
    others = [column for column in polygons if column not in ("geometry", "area_m2", "perimeter_m")]
    assert result[others].equals(polygons[others])


def test_the_union_has_no_gaps():
    polygons = whole(make_map(patches(100)), nodes=True)
    for result in (simplify(polygons, 1.5), simplify(polygons, 1.5, smooth=True)):
        union = shapely.coverage_union_all(result.geometry.to_numpy())
        assert union.geom_type == "Polygon"
        assert len(union.interiors) == 0
        assert union.area == pytest.approx(result.area.sum())


def test_corners_are_cut_at_quarters():
    corner = np.ones((8, 8))
    corner[4:, 4:] = 2
    polygons = whole(make_map(corner), nodes=True)
    result = simplify(polygons, smooth=True)
    check_coverage(result)
    shared = shapely.intersection(*result.geometry)
    # the corner at (4, -4) is replaced by points a quarter along, twice
    points = {tuple(point) for point in shapely.get_coordinates(shared).tolist()}
    assert (4.0, -4.0) not in points
    assert {(5.75, -4.0), (4.75, -4.25), (4.25, -4.75), (4.0, -5.75)} <= points
    assert {(8.0, -4.0), (4.0, -8.0)} <= points  # where the outside is met: these stay


def test_where_smoothed_lines_would_cross_corners_stay():
    # a spike of 2 pokes into the corner that 1 would cut
    spike = shapely.from_wkt("POLYGON ((0 0, 0 100, 2 2, 100 0, 0 0))")
    around = shapely.difference(shapely.box(-50, -50, 150, 150), spike)
    pieces = np.array([spike, around])
    pieces = shapely.coverage_simplify(pieces, 0)
    frame = whole(make_map([[1, 2]])).set_geometry(pieces, crs=None)
    check_coverage(simplify(frame, smooth=True))


def test_no_polygons_stay_none():
    polygons = whole(make_map(np.zeros((3, 3))), nodes=True)
    assert len(simplify(polygons, 1, smooth=True)) == 0


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_tolerances_without_sense_are_refused(tolerance):
    with pytest.raises(InputError, match="tolerance of simplification is"):
        simplify(whole(make_map([[1]])), tolerance)
