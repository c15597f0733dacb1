"""Polygons in a real PostGIS: all there and equal, or nothing written, whatever goes wrong."""

import datetime as dt
import json
import subprocess
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from postgis_server import PASSWORD, missing, postgis_server
from psycopg.sql import SQL, Identifier
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box
from system_programs import (
    SCHEME,
    class_map,
    class_polygons,
    clean_environment,
    require_programs,
    run_program,
)

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish import Layer, write_class_map
from hsi_pipeline.publish.postgis import (
    check_database,
    is_database,
    without_password,
    write_to_database,
)
from hsi_pipeline.publish.style import read_polygon_qml

CRS = "EPSG:32633"
SYSTEM_PYTHON = "/usr/bin/python3"  # QGIS of a distribution belongs to the system's Python
COLUMNS = ["code", "name", "area_m2", "pixels", "confidence", "second_name", "acquired"]


@pytest.fixture(scope="module")
def server():
    """A server of our own, stopped and removed whatever happens."""
    if missing():
        pytest.skip(missing())
    with postgis_server() as server:
        yield server


@pytest.fixture
def database(server):
    """The name of a fresh database with PostGIS."""
    with server.database(template="maps") as name:
        yield name


@pytest.fixture
def plain_database(server):
    """The name of a fresh database without PostGIS."""
    with server.database(template="template0") as name:
        yield name


@pytest.fixture
def address(server, database):
    """The address of `public.landcover` in a fresh database."""
    return server.address(database)


@pytest.fixture
def ask(server, database):
    """A function that runs SQL in the fresh database and returns the rows."""
    with server.connect(database) as connection:

        def ask(query, *values):
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else None

        yield ask


def make_polygons(count=40, seed=0, crs=CRS):
    """Squares with a hole, pairs of squares, and columns of all kinds with gaps."""
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 90_000, (2, count)) + np.array([[500_000], [5_800_000]])
    outer, inner = shapely.box(x, y, x + 90, y + 90), shapely.box(x + 30, y + 30, x + 60, y + 60)
    geometry = shapely.difference(outer, inner)
    pairs = shapely.union(outer, shapely.box(x + 120, y, x + 150, y + 30))
    geometry[::3] = pairs[::3]
    codes = random.choice(np.array(SCHEME.codes, np.int32), count)
    names = dict(zip(SCHEME.codes, SCHEME.names, strict=True))
    confidence = random.random(count)
    confidence[1::4] = np.nan
    return gpd.GeoDataFrame(
        {
            "code": codes,
            "name": [names[code] for code in codes],
            "area_m2": shapely.area(geometry),
            "pixels": random.integers(1, 2**40, count),
            "confidence": confidence,
            "second_name": [None if i % 2 else "tab\t, line\n, \\N, 'quote' and ß"
                            for i in range(count)],
            "acquired": [None if i % 5 == 0 else dt.date(2022, 7, 1 + i % 28)
                         for i in range(count)],
        },
        geometry=geometry,
        crs=crs,
    )  # fmt: skip


def batches_of(polygons, size):
    return (polygons.iloc[start : start + size] for start in range(0, len(polygons), size))


def read(connection, table="public.landcover", columns=COLUMNS):
    """Read a table with SQL alone, in the order it was written."""
    schema, name = table.split(".", 1)
    query = SQL("SELECT {}, ST_AsBinary(geometry) FROM {} ORDER BY fid").format(
        SQL(", ").join(map(Identifier, columns)), Identifier(schema, name)
    )
    rows = connection.execute(query).fetchall()
    frame = pd.DataFrame(rows, columns=[*columns, "geometry"], dtype=object)
    return frame.assign(geometry=shapely.from_wkb(frame["geometry"].to_numpy()))


def assert_same(found, polygons):
    """Compare rows of SQL with polygons: values to the last bit, shapes as MultiPolygons."""
    assert len(found) == len(polygons)
    for name in polygons.columns.drop("geometry"):
        column = polygons[name].astype(object)
        assert found[name].tolist() == column.where(column.notna(), None).tolist(), name
    wanted = [MultiPolygon([g]) if g.geom_type == "Polygon" else g for g in polygons.geometry]
    assert all(a.equals_exact(b) for a, b in zip(found["geometry"], wanted, strict=True))


@pytest.mark.parametrize("size", [7, 1000])
def test_rows_come_back_equal(server, database, address, ask, size):
    polygons = make_polygons()
    assert write_to_database(batches_of(polygons, size), address, Layer(SCHEME)) == 40
    with server.connect(database) as connection:
        assert_same(read(connection), polygons)
    assert ask("SELECT bool_and(ST_IsValid(geometry)), sum(ST_NumInteriorRings(g.geom)), count(*)"
               " FROM landcover, ST_Dump(geometry) g") == [
        (True, 26, 26 + 2 * 14)]  # fmt: skip
    ((area,),) = ask("SELECT sum(ST_Area(geometry)) FROM landcover")
    assert area == polygons.area.sum()
    assert ask("SELECT min(fid), max(fid), count(DISTINCT fid) FROM landcover") == [(1, 40, 40)]
    assert ask(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'landcover'::regclass AND attnum > 0 ORDER BY attnum"
    ) == [
        ("fid", "bigint"), ("code", "integer"), ("name", "text"), ("area_m2", "double precision"),
        ("pixels", "bigint"), ("confidence", "double precision"), ("second_name", "text"),
        ("acquired", "date"), ("geometry", "geometry(MultiPolygon,32633)"),
    ]  # fmt: skip
    kinds = ask("SELECT indexdef FROM pg_indexes WHERE tablename = 'landcover'")
    assert sorted(kind.split(" USING ")[1] for (kind,) in kinds) == [
        "btree (fid)",
        "gist (geometry)",
    ]
    assert ask("SELECT reltuples FROM pg_class WHERE relname = 'landcover'") == [(40,)]
    ask("INSERT INTO landcover (code) VALUES (1)")  # as QGIS does when a user draws a polygon
    assert ask("SELECT max(fid) FROM landcover") == [(41,)]


def test_gdal_of_the_system_reads_the_table(server, database, address, tmp_path):
    require_programs("ogr2ogr", package="gdal-bin")
    polygons = make_polygons()
    write_to_database([polygons], address, Layer(SCHEME))
    source = f"PG:host={server.folder} port={server.port} dbname={database} user=postgres"
    file = tmp_path / "back.gpkg"
    result = run_program("ogr2ogr", "-f", "GPKG", file, source, "landcover", folder=tmp_path)
    assert result.stderr == b""
    back = gpd.read_file(file, layer="landcover")
    assert back.crs == CRS
    back["acquired"] = back["acquired"].dt.date
    assert_same(back.astype(object).where(back.notna(), None), polygons)


def test_psql_reads_the_table(server, address):
    write_to_database([make_polygons()], address, Layer(SCHEME))
    result = subprocess.run(
        [server.programs / "psql", "-At", "-c", "SELECT count(*), count(confidence) FROM landcover",
         address],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == "40|30\n"


def test_columns_of_other_types_and_gaps_in_them(server, database, address):
    moment = dt.datetime(2022, 7, 1, 10, 30, 15, 123456)
    polygons = gpd.GeoDataFrame(
        {
            "code": np.array([1, 2], np.uint8),
            "checked": [True, False],
            "doubtful": pd.array([True, None], "boolean"),
            "neighbours": pd.array([3, None], "Int64"),
            "seen": pd.to_datetime([moment, None]),
            "utc": pd.to_datetime([moment, None]).tz_localize("UTC"),
            "share": np.array([0.1, np.nan], np.float32),
            "kind": pd.Categorical(["Wald", None]),
            "nothing": [None, None],
            "limit": [np.inf, -0.0],
        },
        geometry=[box(0, 0, 1, 1), None],
    )
    write_to_database([polygons], address, Layer(SCHEME))
    names = list(polygons.columns.drop("geometry"))
    with server.connect(database) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        first, second = read(connection, columns=names).to_dict("records")
        types = dict(
            connection.execute(
                "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = 'landcover'::regclass AND attnum > 0"
            ).fetchall()
        )
    assert list(first.values())[:-1] == [
        1, True, True, 3, moment, moment.replace(tzinfo=dt.UTC), float(np.float32(0.1)), "Wald",
        None, np.inf,
    ]  # fmt: skip
    assert list(second.values()) == [2, False, *[None] * 7, 0.0, None]
    assert types["seen"] == "timestamp without time zone"
    assert types["utc"] == "timestamp with time zone"
    assert (types["code"], types["neighbours"], types["nothing"]) == ("integer", "bigint", "text")
    assert types["geometry"] == "geometry(MultiPolygon)"  # without CRS: SRID 0


@pytest.mark.parametrize(
    ("crs", "srid"),
    [
        (CRS, 32633),
        ("EPSG:4326", 4326),
        ("ESRI:54009", 54009),
        (None, 0),
        # of one meaning with a CRS of EPSG's, though another authority's name is the nearest
        ("+proj=laea +lat_0=52 +lon_0=10 +x_0=4321000 +y_0=3210000 +ellps=GRS80", 3035),
    ],
)
def test_the_srid_is_that_of_the_crs(address, ask, crs, srid):
    write_to_database([make_polygons(3, crs=crs)], address, Layer(SCHEME))
    assert ask("SELECT srid FROM geometry_columns") == [(srid,)]
    assert ask("SELECT DISTINCT ST_SRID(geometry) FROM landcover") == [(srid,)]


def test_a_crs_without_number_is_refused(address, ask):
    polygons = make_polygons(3, crs="+proj=laea +lat_0=50 +lon_0=9 +ellps=GRS80 +type=crs")
    for refused in (
        lambda: check_database(address, like=polygons),
        lambda: write_to_database([polygons], address, Layer(SCHEME)),
    ):
        with pytest.raises(InputError, match=r"does not know the CRS .* export to \.gpkg"):
            refused()
    assert ask("SELECT to_regclass('landcover')") == [(None,)]


def test_empty_batches_tell_the_columns(server, database, address, ask):
    polygons = make_polygons()
    empty = polygons.iloc[:0]
    assert write_to_database([empty], address, Layer(SCHEME)) == 0
    assert ask("SELECT count(*) FROM landcover") == [(0,)]
    assert ask("SELECT srid, type FROM geometry_columns") == [(32633, "MULTIPOLYGON")]
    mixed = [empty, polygons.iloc[:5], empty, polygons.iloc[5:], empty]
    assert write_to_database(mixed, address, Layer(SCHEME), overwrite=True) == 40
    with server.connect(database) as connection:
        assert_same(read(connection), polygons)
    with pytest.raises(InputError, match="no polygons to write, not even none"):
        write_to_database([], address, Layer(SCHEME), overwrite=True)


def test_a_stream_is_never_held_whole(address):
    alive = []

    def stream():
        for _ in range(30):
            polygons = make_polygons(10)
            alive.append(weakref.ref(polygons))
            yield polygons
            del polygons
            assert sum(ref() is not None for ref in alive) <= 3

    assert write_to_database(stream(), address, Layer(SCHEME)) == 300


def test_100000_polygons_and_a_spatial_query_by_index(address, ask):
    side = 317
    x, y = (500_000 + 30 * i.ravel()[:100_000] for i in np.indices((side, side)))
    codes = np.resize(np.array(SCHEME.codes, np.int32), 100_000)
    polygons = gpd.GeoDataFrame(
        {"code": codes, "name": "a class", "confidence": 0.5},
        geometry=shapely.box(x, y, x + 30, y + 30),
        crs=CRS,
    )
    assert write_to_database(batches_of(polygons, 30_000), address, Layer(SCHEME)) == 100_000
    window = "ST_MakeEnvelope(500010, 500010, 500080, 500050, 32633)"
    query = f"SELECT count(*) FROM landcover WHERE ST_Intersects(geometry, {window})"
    assert ask(query) == [
        (int(polygons.intersects(box(500_010, 500_010, 500_080, 500_050)).sum()),)
    ]
    assert ask(query) == [(6,)]
    plan = "\n".join(line for (line,) in ask(f"EXPLAIN {query}"))
    assert "_geometry_idx" in plan
    assert "Seq Scan" not in plan


def test_an_existing_table_is_refused_replaced_or_added_to(server, database, address, ask):
    old, new = make_polygons(5), make_polygons(8, seed=1)
    check_database(address)
    write_to_database([old], address, Layer(SCHEME))
    for refused in (check_database, lambda a: write_to_database([new], a, Layer(SCHEME))):
        with pytest.raises(InputError, match=r"public\.landcover .* --overwrite .* --append"):
            refused(address)
    check_database(address, append=True, like=new)
    assert write_to_database([new], address, Layer(SCHEME), append=True) == 8
    with server.connect(database) as connection:
        assert_same(read(connection), pd.concat([old, new]))
        fewer = new.drop(columns="second_name")
        check_database(address, overwrite=True, like=fewer)
        assert write_to_database([fewer], address, Layer(SCHEME), overwrite=True) == 8
        assert_same(read(connection, columns=fewer.columns.drop("geometry")), fewer)
    assert ask(
        "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'landcover%'"
    ) == [(1,)]
    with pytest.raises(InputError, match="pass one of them"):
        check_database(address, overwrite=True, append=True)


def test_appending_makes_a_table_that_is_not_there(address, ask):
    check_database(address, append=True)
    assert write_to_database([make_polygons(5)], address, Layer(SCHEME), append=True) == 5
    assert ask("SELECT count(*) FROM landcover") == [(5,)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="pixels"), "the polygons lack its columns pixels"),
        (lambda p: p.assign(shape=1.0, b=2), "it lacks the columns shape, b"),
        (lambda p: p.assign(code=p["name"]), "its column code is integer, that of .* text"),
        (lambda p: p.to_crs("EPSG:25832"), "its SRID is 32633, that of the polygons 25832"),
        (lambda p: p.set_crs(None, allow_override=True), "that of the polygons 0"),
    ],
)
def test_polygons_that_do_not_fit_a_table_are_not_added(address, ask, change, message):
    polygons = make_polygons(5)
    write_to_database([polygons], address, Layer(SCHEME))
    other = change(polygons)
    for refused in (
        lambda: check_database(address, append=True, like=other),
        lambda: write_to_database([other], address, Layer(SCHEME), append=True),
    ):
        with pytest.raises(InputError, match=message):
            refused()
    assert ask("SELECT count(*) FROM landcover") == [(5,)]


def test_tables_of_other_programs_are_added_to_if_they_fit(address, ask):
    ask("CREATE TABLE landcover (id serial PRIMARY KEY, code smallint, name varchar,"
        " area_m2 numeric, edited timestamp DEFAULT now(), geom geometry(MultiPolygon, 32633))"
    )  # fmt: skip
    polygons = make_polygons(5)[["code", "name", "area_m2", "geometry"]]
    check_database(address, append=True)
    assert write_to_database([polygons], address, Layer(SCHEME), append=True) == 5
    assert ask("SELECT sum(area_m2)::float, sum(ST_Area(geom)) FROM landcover") == [
        (polygons.area.sum(),) * 2
    ]
    assert ask("SELECT f_geometry_column FROM layer_styles") == [("geom",)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("(code int)", "it has 0 geometry columns, not 1"),
        ("(code int, a geometry, b geometry)", "it has 2 geometry columns, not 1"),
        ("(code int, a geometry(Point, 32633))", "its geometry is POINT in 2 dimensions"),
        ("(code int, a geometry(MultiPolygonZ, 32633))", "MULTIPOLYGON in 3 dimensions"),
    ],
)
def test_tables_of_other_geometries_are_not_added_to(address, ask, table, message):
    ask(f"CREATE TABLE landcover {table}")
    with pytest.raises(InputError, match=message):
        check_database(address, append=True)


def test_a_table_that_others_depend_on_is_not_replaced(address, ask):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))
    ask('CREATE VIEW "Summary" AS SELECT code, count(*) FROM landcover GROUP BY code')
    ask("CREATE TABLE visits (polygon bigint REFERENCES landcover)")
    message = 'constraint .* on table .*visits, view "Summary" depend on it; drop them'
    for refused in (
        lambda: check_database(address, overwrite=True),
        lambda: write_to_database([make_polygons(9)], address, Layer(SCHEME), overwrite=True),
    ):
        with pytest.raises(InputError, match=message):
            refused()
    assert ask('SELECT sum(count) FROM "Summary"') == [(5,)]


def test_a_view_that_is_made_meanwhile_keeps_the_old_table(address, ask):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))

    def stream():
        yield make_polygons(9)
        ask("CREATE VIEW summary AS SELECT code FROM landcover")

    with pytest.raises(InputError, match=r"cannot drop table .* depend on it.*Nothing was written"):
        write_to_database(stream(), address, Layer(SCHEME), overwrite=True)
    assert ask("SELECT count(*) FROM summary") == [(5,)]


def test_something_else_of_the_same_name_is_refused(address, ask):
    ask("CREATE VIEW landcover AS SELECT 1 AS code")
    for options in ({}, {"overwrite": True}, {"append": True}):
        with pytest.raises(InputError, match=r"landcover .* is a view; name another table"):
            check_database(address, **options)


def test_readers_see_the_old_table_until_the_end(address, ask):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))
    seen = []

    def stream():
        for _ in range(3):
            yield make_polygons(20_000)
            seen.append(ask("SELECT count(*) FROM landcover"))

    write_to_database(stream(), address, Layer(SCHEME), overwrite=True)
    assert seen == [[(5,)]] * 3
    assert ask("SELECT count(*) FROM landcover") == [(60_000,)]


def test_who_may_read_the_old_table_may_read_the_new(server, database, address, ask):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))
    ask("DROP ROLE IF EXISTS reader, editor")
    ask("CREATE ROLE reader LOGIN")
    ask("CREATE ROLE editor LOGIN")
    ask("GRANT SELECT ON landcover TO PUBLIC")
    ask("GRANT UPDATE ON landcover TO editor WITH GRANT OPTION")
    ((before,),) = ask("SELECT relacl::text FROM pg_class WHERE relname = 'landcover'")
    write_to_database([make_polygons(9)], address, Layer(SCHEME), overwrite=True)
    ((after,),) = ask("SELECT relacl::text FROM pg_class WHERE relname = 'landcover'")
    assert sorted(after[1:-1].split(",")) == sorted(before[1:-1].split(","))
    with server.connect(database, user="reader") as connection:
        assert connection.execute("SELECT count(*) FROM landcover").fetchone() == (9,)


def assert_untouched(ask, rows):
    """Neither the table nor the style changed, and nothing else was left."""
    assert ask("SELECT count(*) FROM landcover") == [(rows,)]
    assert ask(
        "SELECT count(*) FROM pg_class WHERE relname LIKE 'landcover%' AND relkind = 'r'"
    ) == [(1,)]
    assert ask("SELECT styleqml::text ~ 'Wälder', stylesld::text ~ 'Wälder' FROM layer_styles") == [
        (True, True)
    ]


OTHER = make_scheme([200], {200: "anything"})


@pytest.mark.parametrize("option", ["overwrite", "append"])
@pytest.mark.parametrize(
    "error",
    [ValueError("no more"), InputError("a torn chunk"), KeyboardInterrupt(), GeneratorExit()],
)
def test_an_error_of_the_stream_writes_nothing(address, ask, option, error):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))

    def stream():
        yield make_polygons(5_000)
        raise error

    with pytest.raises(type(error)) as raised:
        write_to_database(stream(), address, Layer(OTHER), **{option: True})
    assert raised.value is error
    assert_untouched(ask, 5)


@pytest.mark.parametrize("option", ["overwrite", "append"])
def test_a_connection_that_is_ended_writes_nothing(address, ask, option):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))

    def stream():
        yield make_polygons(5_000)
        ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'hsi_pipeline'")  # fmt: skip
        yield from [make_polygons(5_000)] * 3

    with pytest.raises(InputError) as raised:
        write_to_database(stream(), address, Layer(OTHER), **{option: True})
    message = str(raised.value)
    assert "cannot write table public.landcover of postgresql://" in message
    assert "the connection to the database was lost" in message
    assert "run it again when the database is back" in message
    assert message.endswith("Nothing was written")
    assert "\n" not in message
    assert_untouched(ask, 5)


def test_a_server_that_crashes_writes_nothing(server, database):
    """By TCP, where no socket file tells that the server is gone."""
    address = server.tcp_address(database)
    write_to_database([make_polygons(5)], address, Layer(SCHEME))

    def stream():
        yield make_polygons(5_000)
        server.stop("immediate")
        yield from [make_polygons(5_000)] * 3

    try:
        with pytest.raises(InputError, match=r"was lost; .* Nothing was written") as raised:
            write_to_database(stream(), address, Layer(OTHER), overwrite=True)
        assert_no_password(raised)
        with pytest.raises(InputError, match=r"cannot connect \(.*refused\)"):
            check_database(address)
    finally:
        server.start()
    with server.connect(database) as connection:
        assert_untouched(lambda query: connection.execute(query).fetchall(), 5)
    write_to_database([make_polygons(9)], address, Layer(SCHEME), overwrite=True)


def test_a_connection_that_is_lost_in_the_commit_leaves_it_open(address, ask):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))
    ask("CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'")  # fmt: skip
    ask("CREATE CONSTRAINT TRIGGER die AFTER INSERT ON landcover DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION die()")  # fmt: skip
    with pytest.raises(InputError, match=r"lost at the very end .* has the 1 new polygons, all"):
        write_to_database([make_polygons(1)], address, Layer(SCHEME), append=True)
    assert_untouched(ask, 5)


def test_what_the_database_refuses_is_said(address, ask):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))
    ask("ALTER TABLE landcover ADD CHECK (area_m2 > 0)")
    bad = make_polygons(3).assign(area_m2=-1.0)
    with pytest.raises(InputError, match=r"refused \(.*check constraint.*\)\. Nothing was written"):
        write_to_database([bad], address, Layer(OTHER), append=True)
    assert_untouched(ask, 5)


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        (make_polygons(2).assign(geometry=Point(0, 0)), "there is a Point among the polygons"),
        (make_polygons(2).assign(geometry=LineString([(0, 0), (1, 1)])), "there is a LineString"),
        (make_polygons(2).assign(fid=1, gid=2, ogc_fid=3), "have the columns fid, gid, ogc_fid"),
        (make_polygons(2).assign(name=[{}, {}]), "'name' holds mixed values, expected one type"),
        (make_polygons(2).assign(name="a\0b"), "cannot contain NUL"),
    ],
)
def test_polygons_that_cannot_be_stored_are_refused(address, ask, polygons, message):
    with pytest.raises(InputError, match=message):
        write_to_database([polygons], address, Layer(SCHEME))
    assert ask("SELECT to_regclass('landcover'), to_regclass('layer_styles')") == [(None, None)]


@pytest.mark.parametrize("change", [lambda p: p.drop(columns="name"), lambda p: p.to_crs(4326)])
def test_a_stream_that_changes_on_the_way_is_refused(address, ask, change):
    polygons = make_polygons(5)
    with pytest.raises(InputError, match="change their columns or their CRS"):
        write_to_database([polygons, change(polygons)], address, Layer(SCHEME))
    assert ask("SELECT to_regclass('landcover')") == [(None,)]


def test_empty_geometries_and_missing_ones_are_kept(address, ask):
    polygons = make_polygons(3).assign(geometry=[Polygon(), MultiPolygon(), None])
    assert write_to_database([polygons], address, Layer(SCHEME)) == 3
    assert ask("SELECT ST_IsEmpty(geometry) FROM landcover ORDER BY fid") == [
        (True,), (True,), (None,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["Land Cover", 'a"b', "Ländle", "x'; DROP TABLE y; --", "own.Über Grün", "own.a.b", "ü" * 31,
     "select", "100%", "a&b=c?d"],
)  # fmt: skip
def test_any_table_name_will_do(server, database, ask, name):
    ask("CREATE SCHEMA own")
    address = server.address(database, table=name)
    table = name if name.startswith("own.") else f"public.{name}"
    polygons = make_polygons(5)
    check_database(address)
    write_to_database([polygons], address, Layer(SCHEME))
    write_to_database([polygons], address, Layer(SCHEME), append=True)
    write_to_database([polygons], address, Layer(SCHEME), overwrite=True)
    with server.connect(database) as connection:
        assert_same(read(connection, table=table), polygons)
    assert ask("SELECT f_table_schema, f_table_name FROM layer_styles") == [
        tuple(table.split(".", 1))
    ]


@pytest.mark.parametrize("name", ["", "own.", ".a", "ü" * 32, "a\0b"])
def test_names_that_no_table_can_have_are_refused(server, database, name):
    with pytest.raises(InputError, match=r"expected table=schema\.name or table=name"):
        check_database(server.address(database, table=name))


def test_a_missing_schema_is_refused(server, database):
    with pytest.raises(InputError, match="there is no schema Nowhere; make it first"):
        check_database(server.address(database, table="Nowhere.a"))


def assert_no_password(raised, password=PASSWORD):
    text = "".join(traceback.format_exception(raised.value))
    assert password not in text
    assert "s3cret" not in text
    assert "%40ss" not in text
    assert "\n" not in str(raised.value)


def test_addresses_that_lead_nowhere_are_told_in_one_line(server, database, unused_port):
    for address, message in (
        (server.tcp_address(database, "wrong/s3cret"), "password authentication failed"),
        (server.tcp_address(database, port=unused_port), "refused"),
        (server.tcp_address("no_such"), 'database "no_such" does not exist'),
        (server.tcp_address(database).replace("127.0.0.1", "no.invalid"), "no.invalid"),
        (server.tcp_address(database) + "?sslmode=require", "SSL"),
        (server.tcp_address(database) + "?sslmode=perhaps", "sslmode"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            check_database(address)
        assert_no_password(raised)
        assert str(raised.value).startswith("postgresql://postgres:***@")
        assert "check host, port, database, user and password" in str(raised.value)


@pytest.fixture
def unused_port():
    from postgis_server import free_port

    return free_port()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:s3cret@pass@host/db",  # libpq would look for the host pass@host
        "postgresql://me:s3cret/pass@host/db",  # and here for the port s3cret
        "postgresql://me:s3cret",
        "postgresql://me:a?s3cret@b@host/db",
        "postgresql://me:s3cret%zz@host/db",
        "postgresql://host/db?password=s3cret@",
        "postgresql://me@host/db?password=s3cret%zz",
        "postgresql://me:s3cret@host/db?tables=x",
        "postgresql://me:s3cret@host/db?sslmode",
    ],
)
def test_malformed_addresses_are_refused_without_the_password(address):
    with pytest.raises(InputError, match=r"write @ as %40|does not understand the addr") as raised:
        check_database(address)
    assert_no_password(raised, "s3cret")


def test_an_unknown_option_is_named():
    with pytest.raises(InputError, match='invalid URI query parameter: "tables"'):
        check_database("postgresql://me:s3cret@host/db?tables=x")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:a%40b@host:5432/db?table=x", "postgresql://me:***@host:5432/db?table=x"),
        ("postgres://me:a?b#c:d@host", "postgres://me:***@host"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://:a@/db", "postgresql://:***@/db"),
        ("postgresql:///db?password=a&table=x", "postgresql:///db?password=***&table=x"),
        ("postgresql://h/?sslpassword=a&p%61ssword=b", "postgresql://h/?sslpassword=***&p%61ssword=***"),
        ("postgresql://me:a@h1:1,[::1]:2/db", "postgresql://me:***@h1:1,[::1]:2/db"),
        ("postgresql://%2Frun%2Fpg/db", "postgresql://%2Frun%2Fpg/db"),
        ("postgresql://me:a@b@host", "postgresql://***"),
    ],
)  # fmt: skip
def test_passwords_are_hidden(address, shown):
    assert without_password(address) == shown


def test_addresses_are_told_from_files():
    assert is_database("postgresql://host/db")
    assert is_database("postgres://host")
    assert not is_database("landcover.gpkg")
    assert not is_database(Path("postgresql"))


def test_options_of_libpq_stay(server, database, ask):
    address = server.address(database) + "&options=-c%20work_mem%3D77MB&application_name=mine"

    def stream():
        yield make_polygons(3)
        assert ("mine",) in ask("SELECT application_name FROM pg_stat_activity")

    write_to_database(stream(), address, Layer(SCHEME))


def test_a_database_without_postgis_is_left_as_it_is(server, plain_database):
    address = server.address(plain_database)
    for refused in (
        check_database,
        lambda a: write_to_database([make_polygons(3)], a, Layer(SCHEME)),
    ):
        with pytest.raises(InputError, match=r"the database has no PostGIS.* CREATE EXTENSION"):
            refused(address)
    with server.connect(plain_database) as connection:
        query = "SELECT count(*) FROM pg_extension WHERE extname = 'postgis'"
        assert connection.execute(query).fetchone() == (0,)


def test_appending_keeps_the_classes_that_were_there(server, database, ask, address):
    write_to_database([make_polygons(3)], address, Layer(SCHEME))
    write_to_database([make_polygons(3)], address, Layer(OTHER), append=True)
    (text,) = ask("SELECT styleqml::text FROM layer_styles WHERE useasdefault")
    both = read_polygon_qml(text[0], "code")
    assert both.categories == (*SCHEME.categories, *OTHER.categories)
    clash = Layer(make_scheme([1], {1: "anything"}))
    with pytest.raises(
        InputError, match="has 'roof & <co>' for code 1, the new polygons 'anything'"
    ):
        write_to_database([make_polygons(3)], address, clash, append=True)
    assert ask("SELECT count(*) FROM landcover") == [(6,)]
    # a style of the user's own is left alone
    ask("UPDATE layer_styles SET styleqml = '<qgis/>', description = 'mine'")
    write_to_database([make_polygons(3)], address, clash, append=True)
    write_to_database([make_polygons(3)], address, Layer(SCHEME), overwrite=True)
    assert ask("SELECT description FROM layer_styles ORDER BY id") == [
        ("mine",), ("land-cover classes",)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE landcover ENABLE ROW LEVEL SECURITY", "row security"),
        ("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
         "CREATE TRIGGER t BEFORE INSERT ON landcover FOR EACH ROW EXECUTE FUNCTION f()",
         "triggers"),
    ],
)  # fmt: skip
def test_a_table_that_is_guarded_is_not_replaced(address, ask, statement, words):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))
    ask(statement)
    with pytest.raises(InputError, match=f"has {words}, which a new table would lack"):
        write_to_database([make_polygons(3)], address, Layer(SCHEME), overwrite=True)
    assert ask("SELECT count(*) FROM landcover") == [(5,)]


def test_a_comment_outlives_its_table(address, ask):
    write_to_database([make_polygons(5)], address, Layer(SCHEME))
    ask("COMMENT ON TABLE landcover IS 'made for the water board'")
    write_to_database([make_polygons(3)], address, Layer(SCHEME), overwrite=True)
    assert ask("SELECT obj_description('landcover'::regclass)") == [("made for the water board",)]


def test_columns_that_postgresql_cuts_to_one_are_refused(address):
    polygons = make_polygons(2).assign(**{"a" * 63 + "1": 1, "a" * 63 + "2": 2})
    with pytest.raises(InputError, match="begin with the same 63 bytes"):
        write_to_database([polygons], address, Layer(SCHEME))


@pytest.mark.parametrize("path", ["", "public", '"$user", public'])
def test_postgis_in_a_schema_of_its_own(server, plain_database, path):
    address = server.address(plain_database)
    with server.connect(plain_database) as connection:
        connection.execute("CREATE SCHEMA gis")
        connection.execute("CREATE EXTENSION postgis SCHEMA gis")
        connection.execute(f"ALTER DATABASE {plain_database} SET search_path = {path or "''"}")
        for options in ({}, {"append": True}, {"overwrite": True}):
            write_to_database([make_polygons(3)], address, Layer(SCHEME), **options)
        assert connection.execute("SELECT count(*) FROM public.landcover").fetchone() == (3,)


@pytest.fixture
def visitor(server, database, ask):
    """The address of a user who may connect, and nothing else."""
    ask("DROP ROLE IF EXISTS visitor")
    ask("CREATE ROLE visitor LOGIN")
    yield server.address(database, user="visitor")
    ask("DROP OWNED BY visitor")


def test_a_user_without_rights_is_told_which_are_missing(server, database, address, ask, visitor):
    with pytest.raises(InputError, match=r"visitor may not create tables in the schema public"):
        check_database(visitor)
    ask("CREATE SCHEMA own AUTHORIZATION visitor")
    own = server.address(database, user="visitor", table="own.landcover")
    with pytest.raises(InputError, match=r"public\.layer_styles.*denied for schema public"):
        check_database(own)
    write_to_database([make_polygons(3)], address, Layer(SCHEME))
    with pytest.raises(InputError, match=r"public\.layer_styles.*denied for table layer_styles"):
        check_database(own)
    ask("GRANT SELECT, INSERT, UPDATE, DELETE ON layer_styles TO visitor")
    ask("GRANT USAGE ON layer_styles_id_seq TO visitor")
    check_database(own)
    assert write_to_database([make_polygons(3)], own, Layer(SCHEME)) == 3
    with pytest.raises(InputError, match=r"visitor may not write to .* GRANT INSERT"):
        check_database(visitor, append=True)
    ask("GRANT SELECT, INSERT ON landcover TO visitor")
    check_database(visitor, append=True)
    assert write_to_database([make_polygons(3)], visitor, Layer(SCHEME), append=True) == 3
    ask("GRANT CREATE ON SCHEMA public TO visitor")
    with pytest.raises(InputError, match="belongs to another than visitor"):
        check_database(visitor, overwrite=True)


def test_a_read_only_session_is_refused(address):
    with pytest.raises(InputError, match=r"refused \(cannot execute CREATE TABLE in a read-only"):
        check_database(address + "&options=-c%20default_transaction_read_only%3Don")


def test_a_check_leaves_nothing(address, ask):
    check_database(address, like=make_polygons(3))
    assert ask("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
               " AND relkind = 'r' AND relname <> 'spatial_ref_sys'") == [(0,)]  # fmt: skip


def test_limits_of_the_server_do_not_stop_a_long_stream(address, ask):
    def stream():
        yield make_polygons(3)
        ask("SELECT pg_sleep(0.3)")
        yield make_polygons(20_000)

    slow = address + "&options=-c%20statement_timeout%3D200"
    assert write_to_database(stream(), slow, Layer(SCHEME)) == 20_003


def test_exports_at_the_same_time_do_not_hinder_each_other(server, database, ask):
    addresses = [server.address(database, table=f"map_{number}") for number in range(4)] * 2

    def export(address):
        return write_to_database([make_polygons(500)], address, Layer(SCHEME), overwrite=True)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(export, addresses)) == [500] * 8
    assert ask("SELECT f_table_name FROM layer_styles ORDER BY 1") == [
        (f"map_{number}",) for number in range(4)
    ]


def test_the_style_replaces_only_its_own(address, ask):
    write_to_database([make_polygons(3)], address, Layer(SCHEME))
    ask("INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, stylename,"
        " useasdefault) VALUES (current_database(), 'public', 'landcover', 'by hand', true),"
        " (current_database(), 'public', 'roads', 'roads', true)")  # fmt: skip
    write_to_database([make_polygons(3)], address, Layer(OTHER), overwrite=True)
    styles = ask("SELECT stylename, useasdefault, styleqml::text ~ 'anything', owner"
                 " FROM layer_styles ORDER BY stylename")  # fmt: skip
    assert styles == [
        ("by hand", False, None, "postgres"),
        ("landcover", True, True, "postgres"),
        ("roads", True, None, "postgres"),
    ]


def test_a_style_table_of_an_older_qgis_will_do(server, database, ask):
    ask("CREATE TABLE layer_styles (id serial PRIMARY KEY, f_table_catalog varchar,"
        " f_table_schema varchar, f_table_name varchar, f_geometry_column varchar,"
        " stylename varchar(30), styleqml xml, stylesld xml, useasdefault boolean,"
        " description text, owner varchar(30), ui xml,"
        " update_time timestamp without time zone DEFAULT now())")  # fmt: skip
    write_to_database([make_polygons(3)], server.address(database, table="t" * 40), Layer(SCHEME))
    assert ask("SELECT f_table_name, stylename, useasdefault FROM layer_styles") == [
        ("t" * 40, "t" * 30, True)
    ]


@pytest.mark.parametrize("table", ["public.landcover", "own.Über Grün"])
def test_qgis_opens_the_table_in_the_class_colors(server, database, ask, tmp_path, table):
    qgis = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import qgis.core"], env=clean_environment(tmp_path), check=False
    )
    if qgis.returncode:
        pytest.skip("QGIS is not installed (Debian: qgis python3-qgis qgis-providers)")
    ask("CREATE SCHEMA own")
    polygons = class_polygons()
    write_to_database([polygons], server.address(database, table=table), Layer(SCHEME))
    script = Path(__file__).with_name("qgis_opens_table.py")
    place = (server.folder, server.port, database, *table.split("."))
    seen = json.loads(run_program(SYSTEM_PYTHON, script, *place, folder=tmp_path).stdout)
    assert (seen["valid"], seen["crs"], seen["count"]) == (True, CRS, 3)
    legend = [[int(code), name, color] for code, name, color in seen["legend"]]
    assert legend == [[c.code, c.name, c.color] for c in SCHEME.categories]
    for color in SCHEME.colors:
        assert seen["colors"][color] == pytest.approx(10_000, rel=0.05)


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def class_map_file(tmp_path):
    """A class map of the tests with other programs."""
    path = tmp_path / "map.zarr"
    write_class_map(class_map(), path)
    return path


def test_the_command_writes_replaces_and_appends(cli, server, database, ask, class_map_file):
    address = server.address(database, table="land.cover")
    ask("CREATE SCHEMA land")
    command = ("polygonize", class_map_file, "--out", address)
    code, text, err = cli(*command, "--chunk", 13)
    assert (code, text) == (0, "")
    assert f"3 polygons in {address}" in err
    rows = ask("SELECT code, name, area_m2, ST_Area(geometry), scene_id FROM land.cover ORDER BY 1")
    assert [row[:2] for row in rows] == [(c.code, c.name) for c in SCHEME.categories]
    assert all(area == measured for _, _, area, measured, _ in rows)
    code, _, err = cli(*command)
    assert code == 2
    assert "pass --overwrite" in err
    assert cli(*command, "--append", "--quiet") == (0, "", "")
    assert ask("SELECT count(*) FROM land.cover") == [(6,)]
    assert cli(*command, "--overwrite", "--quiet", "--connectivity", 8)[0] == 0
    assert ask("SELECT count(*) FROM land.cover") == [(3,)]


def test_the_command_writes_parcels_with_their_style(cli, server, database, ask, class_map_file):
    parcels = class_polygons().drop(columns=["code", "name"]).assign(owner=["a", "b", "c"])
    parcels.to_file(class_map_file.with_name("parcels.gpkg"))
    address = server.address(database, table="parcels")
    command = ("polygonize", class_map_file, "--by", class_map_file.with_name("parcels.gpkg"))
    code, _, err = cli(*command, "--out", address)
    assert code == 0, err
    rows = ask("SELECT owner, majority_name, majority_share FROM parcels ORDER BY owner")
    assert [row[0] for row in rows] == ["a", "b", "c"]
    assert {row[1] for row in rows} == set(SCHEME.names)
    (style,) = ask("SELECT styleqml::text FROM layer_styles")
    assert 'attr="majority"' in style[0]


def test_the_command_keeps_the_password_to_itself(cli, server, database, class_map_file):
    wrong = server.tcp_address(database, password="not this/one")
    code, text, err = cli("polygonize", class_map_file, "--out", wrong)
    assert (code, text) == (2, "")
    assert "not this" not in err
    assert "not%20this" not in err
    assert ":***@" in err
    assert len(err.splitlines()) <= 2


def test_a_server_that_stops_during_the_command_keeps_the_old_table(
    cli, server, database, ask, class_map_file, monkeypatch
):
    import hsi_pipeline.commands.polygonize as command

    address = server.address(database)
    assert cli("polygonize", class_map_file, "--out", address)[0] == 0
    outline = command.outline

    def cut_off(*arguments, **options):
        for frame in outline(*arguments, **options):
            yield frame
            ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip

    monkeypatch.setattr(command, "outline", cut_off)
    code, _, err = cli("polygonize", class_map_file, "--out", address, "--overwrite")
    assert code == 2
    assert "error: " in err
    assert ask("SELECT count(*) FROM landcover") == [(3,)]
    tables = ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
                 " AND tablename LIKE 'landcover%'")  # fmt: skip
    assert tables == [(1,)]
