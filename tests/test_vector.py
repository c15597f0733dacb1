"""Layers of polygons on disk: streamed, read back by other programs, and never half written."""

import gc
import json
import sqlite3
from contextlib import closing
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from polygon_maps import UTM, make_map, patches, whole
from shapely.geometry import MultiPolygon, box, shape

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.polygons import FIELDS
from hsi_pipeline.publish import Layer, check_target, staged, write_polygons
from hsi_pipeline.publish.style import raster_qml
from hsi_pipeline.publish.vector import shortened

# odc-geo multiplies affines in the way that affine 3 is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

SCHEME = make_scheme([1, 2, 7], {1: "roof & <co>", 2: "low plants", 7: "Wälder"}, {2: "#00ff00"})
LAYER = Layer(SCHEME)
SUFFIXES = [".gpkg", ".parquet", ".fgb", ".geojson", ".shp"]
GRID = GeoBox((60, 60), UTM, "epsg:32633")


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def make_polygons(crs="EPSG:32632", count=2):
    boxes = [box(k, 0, k + 1, 1 + k % 3) for k in range(count)]
    return gpd.GeoDataFrame(
        {
            "code": np.resize(np.array([1, 7], np.int32), count),
            "name": pd.array(np.resize(["roof & <co>", "Wälder"], count), dtype="string"),
            "area_m2": shapely.area(boxes),
            "pixels": np.arange(count) + 2**40,
            "confidence": np.resize([0.5, np.nan], count),
            "scene_id": pd.array([None] * count, dtype="string"),
        },
        geometry=boxes,
        crs=crs,
    )


def read(path):
    """Read a layer with GDAL, or Parquet with pyarrow and geopandas."""
    if path.suffix == ".parquet":
        return gpd.read_parquet(path)
    return gpd.read_file(path, layer=0)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326"])
def test_polygons_come_back(tmp_path, suffix, crs):
    made = make_polygons(crs, 5)
    files = write_polygons([made[:2], made[2:2], made[2:]], tmp_path / f"map{suffix}", LAYER)
    assert sorted(file.name for file in files) == listing(tmp_path)
    assert files[0].name == f"map{suffix}"
    back = read(files[0]).sort_values("pixels", ignore_index=True)
    if suffix == ".geojson":
        made = made.to_crs("EPSG:4326")
        assert shapely.is_ccw(shapely.get_exterior_ring(back.geometry.to_numpy())).all()
    assert back.crs == made.crs
    # GeoJSON has seven decimals
    pairs = zip(back.geometry, made.geometry, strict=True)
    assert all(one.hausdorff_distance(other) < 2e-7 for one, other in pairs)
    assert back.dtypes["code"].kind == "i"
    for column in ("code", "name", "area_m2", "pixels"):
        assert back[column].tolist() == made[column].tolist()
    np.testing.assert_array_equal(back["confidence"], made["confidence"])
    assert back["scene_id"].isna().all()
    assert set(back.geom_type) == {"Polygon"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_comes_of_a_map_is_complete(tmp_path, suffix):
    made = whole(make_map(patches(60), GRID, np.full((60, 60), 0.5), attrs={"acquired": "2024"}))
    write_polygons([made], tmp_path / f"map{suffix}", Layer(SCHEME))
    back = read(tmp_path / f"map{suffix}")
    names = shortened(FIELDS) if suffix == ".shp" else {}
    assert set(back.columns) == {*(names.get(name, name) for name in FIELDS), "geometry"}
    assert len(back) == len(made)
    assert back["area_m2"].sum() == 60 * 60 * 100
    assert back.to_crs(32633).area.sum() == pytest.approx(60 * 60 * 100, rel=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_parts_make_a_layer_of_several_parts(tmp_path, suffix):
    made = whole(make_map(np.eye(5), GRID[:5, :5]), connectivity=8)
    assert made.geom_type.tolist() == ["MultiPolygon"]
    single = make_polygons("EPSG:32633")[["code", "geometry"]]
    write_polygons(
        [single, made[["code", "geometry"]]], tmp_path / f"map{suffix}", Layer(SCHEME, multi=True)
    )
    back = read(tmp_path / f"map{suffix}")
    parts = back.geometry.to_crs(32633).explode()
    assert len(parts) == 7
    if suffix not in (".shp", ".geojson"):
        assert set(back.geom_type) == {"MultiPolygon"}


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".shp"])
def test_pixel_coordinates_need_no_crs(tmp_path, suffix):
    write_polygons([make_polygons(None)], tmp_path / f"map{suffix}", LAYER)
    assert read(tmp_path / f"map{suffix}").crs is None


def test_geojson_is_refused_without_a_crs(tmp_path):
    with pytest.raises(InputError, match=r"GeoJSON holds longitude and latitude.*write \.gpkg"):
        write_polygons([make_polygons(None)], tmp_path / "map.geojson", LAYER)
    assert listing(tmp_path) == []


def test_geojson_is_that_of_rfc_7946(tmp_path):
    write_polygons([make_polygons()], tmp_path / "map.geojson", LAYER)
    text = json.loads((tmp_path / "map.geojson").read_text())
    assert "crs" not in text
    for feature in text["features"]:
        ring = shape(feature["geometry"]).exterior
        assert ring.is_ccw
        assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring.coords)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_polygons_make_a_valid_empty_file(tmp_path, suffix):
    path = tmp_path / f"map{suffix}"
    write_polygons([make_polygons()[:0]], path, LAYER)
    back = read(path)
    assert len(back) == 0
    if suffix != ".geojson":  # which has no place for them
        assert set(back.columns) == set(make_polygons().columns)
    if suffix not in (".geojson", ".parquet"):
        assert pyogrio.read_info(path, layer=0)["geometry_type"] == "Polygon"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_styles_lie_beside_every_layer(tmp_path, suffix):
    write_polygons([make_polygons()], tmp_path / f"map{suffix}", LAYER)
    qml = ET.parse(tmp_path / "map.qml")
    assert [c.get("label") for c in qml.iter("category")] == list(SCHEME.names)
    sld = ET.parse(tmp_path / "map.sld")
    titles = [e.text for e in sld.iter() if e.tag.endswith("}Title")]
    assert set(SCHEME.names) <= set(titles)


def test_a_geopackage_carries_its_style_as_qgis_keeps_it(tmp_path):
    write_polygons([make_polygons()], tmp_path / "map.gpkg", Layer(SCHEME, "parcels"))
    with closing(sqlite3.connect(tmp_path / "map.gpkg")) as database:
        rows = database.execute(
            "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column,"
            " useAsDefault, styleQML, styleSLD FROM layer_styles"
        ).fetchall()
        assert rows[0][:5] == ("", "", "parcels", "geom", 1)
        labels = [c.get("label") for c in ET.fromstring(rows[0][5]).iter("category")]
        assert labels == list(SCHEME.names)
        assert ET.fromstring(rows[0][6]).tag.endswith("StyledLayerDescriptor")
        contents = dict(database.execute("SELECT table_name, data_type FROM gpkg_contents"))
        assert contents == {"parcels": "features", "layer_styles": "attributes"}
        (version,) = database.execute("PRAGMA user_version").fetchone()
        assert version == 10200
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
        assert "rtree_parcels_geom" in names


def test_geoparquet_says_what_version_1_1_asks_for(tmp_path):
    made = make_polygons(count=6)
    write_polygons([made[:3], made[3:]], tmp_path / "map.parquet", LAYER)
    file = pq.ParquetFile(tmp_path / "map.parquet")
    geo = json.loads(file.metadata.metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert column["bbox"] == made.total_bounds.tolist()
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32632}
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    rows = file.read().to_pylist()
    for row in rows:
        assert tuple(row["bbox"].values()) == shapely.from_wkb(row["geometry"]).bounds
    assert file.num_row_groups == 2


def test_geoparquet_is_read_in_part_by_place(tmp_path):
    codes = patches(400, grain=1)
    grid = GeoBox(codes.shape, UTM, "epsg:32633")
    from hsi_pipeline.polygons import polygonize

    stream = polygonize(make_map(codes, grid, chunks=100), chunk=100)
    frames = [frame.iloc[k : k + 500] for frame in stream for k in range(0, len(frame), 500)]
    write_polygons(frames, tmp_path / "map.parquet", LAYER)
    window = (401_000, 5_798_000, 401_300, 5_798_300)
    found = gpd.read_parquet(tmp_path / "map.parquet", bbox=window)
    west, south, east, north = pd.concat(frames).bounds.to_numpy().T
    inside = (west <= window[2]) & (east >= window[0]) & (south <= window[3]) & (north >= window[1])
    assert len(found) == inside.sum() > 0
    file = pq.ParquetFile(tmp_path / "map.parquet")
    boxes = [frame.total_bounds for frame in frames]
    touched = sum(box(*bounds).intersects(box(*window)) for bounds in boxes)
    assert touched < file.num_row_groups / 2
    for group, frame in enumerate(frames):
        rows = file.read_row_group(group).to_pandas()
        assert len(rows) == len(frame)
        # along the curve, so that neighbours in the file are neighbours on the ground
        middle = np.array([[r["xmin"] + r["xmax"], r["ymin"] + r["ymax"]] for r in rows["bbox"]])
        shuffled = np.random.default_rng(0).permutation(middle)
        steps = [np.hypot(*np.diff(points, axis=0).T).sum() for points in (middle, shuffled)]
        assert steps[0] < 0.5 * steps[1] or len(frame) < 50


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_parcels_of_all_kinds_come_back(tmp_path, suffix):
    made = gpd.GeoDataFrame(
        {"fid": ["x", "x", "y"], "bbox": [1, 2, 3], "majority": [1, None, 7]},
        geometry=[shapely.force_3d(box(0, 0, 1, 1), 7), None, MultiPolygon([box(2, 0, 3, 1)])],
        crs="EPSG:4326",
    )
    write_polygons([made], tmp_path / f"map{suffix}", Layer(SCHEME, "parcels", "majority", True))
    back = read(tmp_path / f"map{suffix}")
    back = back.sort_values("bbox", ignore_index=True)
    assert back["fid"].tolist() == ["x", "x", "y"]
    assert back["bbox"].tolist() == [1, 2, 3]
    assert not back.geometry.has_z.any()
    empty = back.geometry.isna() | back.geometry.is_empty
    assert empty.tolist() == [False, True, False]
    assert back.geometry[2].equals(made.geometry[2])


def test_keys_that_are_unique_stay_keys(tmp_path):
    made = make_polygons()[["code", "geometry"]].assign(fid=[7, 3])
    write_polygons([made], tmp_path / "map.gpkg", LAYER)
    back = pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="landcover", fid_as_index=True)
    assert sorted(back.index) == [3, 7]


@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_columns_that_differ_in_capitals_only_are_refused(tmp_path, suffix):
    made = make_polygons().assign(CODE=1)
    with pytest.raises(
        InputError, match=f"columns code and CODE differ in capitals only.*{suffix}"
    ):
        write_polygons([made], tmp_path / f"map{suffix}", LAYER)
    write_polygons([made], tmp_path / "map.parquet", LAYER)


def test_names_of_a_shapefile_are_shortened_and_stay_apart():
    names = ["code", "perimeter_m", "min_confidence", "min_confident", "Fläche_in_m2", "geometry"]
    short = shortened(names)
    assert short == {
        "perimeter_m": "perimeter_",
        "min_confidence": "min_confid",
        "min_confident": "min_confi1",
        "Fläche_in_m2": "Fläche_in",
    }
    assert all(len(name.encode()) <= 10 for name in short.values())


def test_a_shapefile_holds_letters_of_all_languages(tmp_path):
    made = make_polygons().rename(columns={"code": "Straßenart_1"})
    write_polygons([made], tmp_path / "map.shp", Layer(SCHEME, field="Straßenart_1"))
    back = read(tmp_path / "map.shp")
    assert back["name"].tolist() == ["roof & <co>", "Wälder"]
    field = ET.parse(tmp_path / "map.qml").find("renderer-v2").get("attr")
    assert back[field].tolist() == [1, 7]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", [InputError, KeyboardInterrupt])
def test_a_stream_that_breaks_leaves_no_trace(tmp_path, suffix, kind):
    path = tmp_path / f"map{suffix}"
    write_polygons([make_polygons()], path, LAYER)
    before = {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)}

    def broken():
        yield make_polygons()
        raise kind("the map cannot be read any more")

    with pytest.raises(kind, match="cannot be read any more"):
        write_polygons(broken(), path, LAYER, overwrite=True)
    gc.collect()  # what GDAL had open
    assert {name: (tmp_path / name).read_bytes() for name in listing(tmp_path)} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_files_of_an_older_layer_are_replaced(tmp_path, suffix):
    path = tmp_path / f"map{suffix}"
    write_polygons([make_polygons(count=9)], path, LAYER)
    files = listing(tmp_path)
    with pytest.raises(InputError, match="exists; choose another name or pass --overwrite"):
        write_polygons([make_polygons()], path, LAYER)
    write_polygons([make_polygons()], path, LAYER, overwrite=True)
    assert listing(tmp_path) == files
    assert len(read(path)) == 2


def test_layers_of_one_stem_share_their_style(tmp_path):
    write_polygons([make_polygons()], tmp_path / "map.fgb", LAYER)
    write_polygons([make_polygons()], tmp_path / "map.gpkg", LAYER)
    assert listing(tmp_path) == ["map.fgb", "map.gpkg", "map.qml", "map.sld"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["map.tif", "map.TIF", "map.img"])
def test_a_style_never_takes_the_place_of_one_of_another_kind(tmp_path, overwrite, name):
    (tmp_path / name).touch()
    check_target(tmp_path / "map.fgb", overwrite=overwrite)  # a raster without style
    (tmp_path / "map.qml").write_text(raster_qml(SCHEME))
    with pytest.raises(InputError, match=rf"map\.qml is the style of {name}.*another stem"):
        check_target(tmp_path / "map.fgb", overwrite=overwrite)
    write_polygons([make_polygons()], tmp_path / "other.fgb", LAYER)
    with pytest.raises(InputError, match=r"other\.qml is the style of other\.fgb"):
        check_target(tmp_path / "other.tif", overwrite=overwrite)
    check_target(tmp_path / "other.zarr")  # which has no file of that name


@pytest.mark.parametrize("style", [None, "qml"])
def test_a_geopackage_beside_a_raster_of_its_stem_keeps_its_style_to_itself(tmp_path, style):
    (tmp_path / "map.tif").touch()
    if style:
        (tmp_path / "map.qml").write_text(raster_qml(SCHEME))
    before = listing(tmp_path)
    files = write_polygons([make_polygons()], tmp_path / "map.gpkg", LAYER)
    assert files == [tmp_path / "map.gpkg"]
    assert listing(tmp_path) == sorted([*before, "map.gpkg"])
    if style:
        assert (tmp_path / "map.qml").read_text() == raster_qml(SCHEME)
    with closing(sqlite3.connect(tmp_path / "map.gpkg")) as database:
        assert database.execute("SELECT count(*) FROM layer_styles").fetchone() == (1,)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_style_of_another_layer_is_never_changed(tmp_path, overwrite):
    write_polygons([make_polygons()], tmp_path / "map.fgb", LAYER)
    before = (tmp_path / "map.qml").read_bytes()
    other = Layer(make_scheme([1, 7]))
    with pytest.raises(InputError, match=r"map\.qml is the style of map\.fgb too"):
        write_polygons([make_polygons()], tmp_path / "map.geojson", other, overwrite=overwrite)
    assert (tmp_path / "map.qml").read_bytes() == before
    assert listing(tmp_path) == ["map.fgb", "map.qml", "map.sld"]
    write_polygons([make_polygons()], tmp_path / "map.fgb", other, overwrite=True)  # its own
    assert (tmp_path / "map.qml").read_bytes() != before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_suffix_in_capitals_is_written_in_small_letters(tmp_path, suffix):
    files = write_polygons([make_polygons()], tmp_path / f"map{suffix.upper()}", LAYER)
    assert files[0] == tmp_path / f"map{suffix}"
    assert len(read(files[0])) == 2


def test_an_old_spatial_index_does_not_outlive_its_shapefile(tmp_path):
    write_polygons([make_polygons()], tmp_path / "map.shp", LAYER)
    (tmp_path / "map.qix").touch()
    write_polygons([make_polygons()], tmp_path / "map.shp", LAYER, overwrite=True)
    assert "map.qix" not in listing(tmp_path)


def test_a_geopackage_that_is_being_written_to_is_not_replaced(tmp_path):
    path = tmp_path / "map.gpkg"
    write_polygons([make_polygons()], path, LAYER)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE mine (id)")
        database.commit()
        with pytest.raises(InputError, match=r"map\.gpkg is open in another program.*close it"):
            write_polygons([make_polygons()], path, LAYER, overwrite=True)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    write_polygons([make_polygons()], path, LAYER, overwrite=True)
    assert len(read(path)) == 2


def test_a_file_without_a_style_leaves_that_of_its_stem_alone(tmp_path):
    write_polygons([make_polygons()], tmp_path / "map.gpkg", LAYER)
    check_target(tmp_path / "map.json", suffixes=(".json",))
    with staged(tmp_path / "map.json") as target:
        target.write_text("{}")
    assert listing(tmp_path) == ["map.gpkg", "map.json", "map.qml", "map.sld"]


def test_a_style_that_somebody_made_is_not_overwritten_unasked(tmp_path):
    (tmp_path / "map.qml").write_text("mine")
    with pytest.raises(InputError, match=r"map\.qml exists"):
        check_target(tmp_path / "map.gpkg")
    check_target(tmp_path / "map.gpkg", overwrite=True)


def test_the_stream_is_never_whole_in_memory(tmp_path):
    process = psutil.Process()
    peak = 0

    def frames(count):
        nonlocal peak
        for _ in range(count):
            peak = max(peak, process.memory_info().rss)
            yield make_polygons(count=20_000)

    write_polygons(frames(5), tmp_path / "few.fgb", LAYER)
    few, peak = peak, 0
    write_polygons(frames(40), tmp_path / "many.fgb", LAYER)
    size = (tmp_path / "many.fgb").stat().st_size
    assert peak - few < size / 2  # 800,000 polygons, of which GDAL keeps an index


def test_multipolygons_are_not_lost_in_a_layer_of_polygons():
    frame = make_polygons().set_geometry([MultiPolygon([box(0, 0, 1, 1)]), box(1, 0, 2, 1)])
    kinds = shapely.get_type_id(
        shapely.from_wkb(Layer(SCHEME, multi=True).table(frame)["geometry"].to_numpy())
    )
    assert kinds.tolist() == [shapely.GeometryType.MULTIPOLYGON] * 2


def test_a_rotated_map_keeps_its_place(tmp_path):
    turned = Affine.translation(500_000, 5_000_000) @ Affine.rotation(20) @ Affine.scale(30, -30)
    made = whole(make_map(patches(20), GeoBox((20, 20), turned, "epsg:32633")))
    write_polygons([made], tmp_path / "map.gpkg", LAYER)
    assert read(tmp_path / "map.gpkg").total_bounds == pytest.approx(made.total_bounds)
