"""The SQL of `publish.postgis`: polygons into a table, within a transaction that others end.

A new table is filled under a temporary name and takes the place of the old one at the very end, so
that readers see the old rows all the while.

This is psycopg's COPY and not `geopandas.to_postgis`, which takes the geometry type from the first
batch, copies each batch as one string, and needs SQLAlchemy and GeoAlchemy2.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import shapely
from psycopg.sql import SQL, Identifier, Literal

from hsi_pipeline.classes import ClassScheme, make_scheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish.layer import Layer
from hsi_pipeline.publish.postgis_checks import (
    GEOMETRY,
    check_fits,
    column_types,
    find_srid,
    key_for,
    prepare,
)
from hsi_pipeline.publish.style import read_polygon_qml

if TYPE_CHECKING:
    from hsi_pipeline.publish.postgis import Target

_ROWS = 10_000  # turned to Python values at a time

# As QGIS 3.22 creates it. Older ones lack `type` and have shorter names and owners.
_LAYER_STYLES = """
CREATE TABLE public.layer_styles (
    id serial PRIMARY KEY, f_table_catalog varchar, f_table_schema varchar, f_table_name varchar,
    f_geometry_column varchar, stylename text, styleqml xml, stylesld xml, useasdefault boolean,
    description text, owner varchar(63) DEFAULT CURRENT_USER, ui xml,
    update_time timestamp DEFAULT CURRENT_TIMESTAMP, type varchar
)
"""


_OURS = "land-cover classes"  # description of our style


def write(
    connection: psycopg.Connection,
    target: Target,
    batches: Iterable[gpd.GeoDataFrame],
    layer: Layer,
    *,
    overwrite: bool,
    append: bool,
) -> int:
    """Do all that `publish.postgis.write_to_database` does, but commit.

    Returns:
        The number of polygons written.
    """
    exists = prepare(connection, target, overwrite=overwrite, append=append)
    first, batches = _peek(batches)
    columns = column_types(first)
    srid = find_srid(connection, first, target)
    table = Identifier(target.schema, target.table)
    if exists and append:
        geometry = check_fits(connection, target, columns, srid)
        whole = _with_older_classes(connection, target, layer)
        count = _copy(connection, table, geometry, batches, first, srid)
        connection.execute(SQL("ANALYZE {}").format(table))
        if whole is not None:
            _write_style(connection, target, geometry, whole)
        return count
    new = _create(connection, target, columns, srid)
    count = _copy(connection, new, GEOMETRY, batches, first, srid)
    _index(connection, new, key_for(columns))
    _write_style(connection, target, GEOMETRY, layer)
    if overwrite:  # another run, which the style waited for, may just have made it
        _take_grants(connection, target, new)
        _take_comment(connection, target, new)
        connection.execute(SQL("DROP TABLE IF EXISTS {}").format(table))
    connection.execute(SQL("ALTER TABLE {} RENAME TO {}").format(new, Identifier(target.table)))
    return count


def rehearse(
    connection: psycopg.Connection,
    target: Target,
    *,
    overwrite: bool,
    append: bool,
    like: gpd.GeoDataFrame | None,
) -> None:
    """Find out whether `write` will do, in a transaction that is taken back.

    Nothing that others read is locked: that an old table can be dropped is looked up, not tried.
    """
    exists = prepare(connection, target, overwrite=overwrite, append=append)
    columns = None if like is None else column_types(like)
    srid = None if like is None else find_srid(connection, like, target)
    if exists and append:
        check_fits(connection, target, columns, srid)
    else:
        _create(connection, target, columns or {"code": "integer"}, srid or 0)
    _write_style(connection, target, GEOMETRY, Layer(make_scheme([1])))


def _peek(
    batches: Iterable[gpd.GeoDataFrame],
) -> tuple[gpd.GeoDataFrame, Iterator[gpd.GeoDataFrame]]:
    """Return the first batch that has rows, or the last, and the stream from there on."""
    stream = iter(batches)
    first = None
    for first in stream:
        if len(first):
            break
    if first is None:
        raise InputError("there are no polygons to write, not even none with their columns")
    return first, chain([first], stream)


def _create(
    connection: psycopg.Connection, target: Target, columns: dict[str, str], srid: int
) -> Identifier:
    """Create the new table under a name that is free, and return it."""
    # its indexes keep this name; those of the old table have theirs until it is dropped
    start = target.table.encode()[:40].decode(errors="ignore")
    new = Identifier(target.schema, f"{start}_{secrets.token_hex(4)}")
    kinds = {name: "text" if kind == "unknown" else kind for name, kind in columns.items()}
    fields = [
        SQL("{} bigint GENERATED BY DEFAULT AS IDENTITY").format(Identifier(key_for(columns))),
        *(SQL("{} {}").format(Identifier(name), SQL(kind)) for name, kind in kinds.items()),
        SQL("{} geometry(MultiPolygon, {})").format(Identifier(GEOMETRY), Literal(srid)),
    ]
    connection.execute(SQL("CREATE TABLE {} ({})").format(new, SQL(", ").join(fields)))
    return new


def _index(connection: psycopg.Connection, table: Identifier, key: str) -> None:
    """Index a table that has its rows: quicker than to keep indexes up to date row by row."""
    for statement, column in (
        ("CREATE INDEX ON {} USING gist ({})", GEOMETRY),
        ("ALTER TABLE {} ADD PRIMARY KEY ({})", key),
    ):
        connection.execute(SQL(statement).format(table, Identifier(column)))
    connection.execute(SQL("ANALYZE {}").format(table))


def _copy(
    connection: psycopg.Connection,
    table: Identifier,
    geometry: str,
    batches: Iterable[gpd.GeoDataFrame],
    like: gpd.GeoDataFrame,
    srid: int,
) -> int:
    """Copy the rows of all batches and return their number.

    As text: binary took 0.25 s for 100,000 polygons with 11 columns instead of 0.6 s, but wants
    the exact type of each column, and tables that others made have varchar or numeric as well.
    """
    names = list(like.columns.drop(like.geometry.name))
    fields = SQL(", ").join(Identifier(str(name)) for name in [*names, geometry])
    count = 0
    with (
        connection.cursor() as cursor,
        cursor.copy(SQL("COPY {} ({}) FROM STDIN").format(table, fields)) as copy,
    ):
        for batch in batches:
            if set(batch.columns) != set(like.columns) or batch.crs != like.crs:
                raise InputError("the polygons change their columns or their CRS on the way")
            for start in range(0, len(batch), _ROWS):
                rows = batch.iloc[start : start + _ROWS]
                values = [_values(rows[name]) for name in names]
                for row in zip(*values, _ewkb(rows.geometry.values, srid), strict=True):
                    copy.write_row(row)
            count += len(batch)
    return count


def _values(column: pd.Series) -> list:
    """Return Python values, None for all that pandas takes for missing."""
    values = column.astype(object).to_numpy(copy=True)
    values[column.isna().to_numpy()] = None
    return values.tolist()


def _ewkb(geometries: np.ndarray, srid: int) -> list[str | None]:
    """Return MultiPolygons as PostGIS takes them: with SRID, two coordinates, in hexadecimal."""
    whole = np.array(geometries, dtype=object)
    kinds = shapely.get_type_id(whole)
    single = kinds == shapely.GeometryType.POLYGON
    wrong = ~np.isin(kinds, [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON, -1])
    if wrong.any():
        raise InputError(f"there is a {whole[wrong][0].geom_type} among the polygons")
    whole[single] = shapely.multipolygons(whole[single], indices=np.arange(single.sum()))
    whole = shapely.set_srid(whole, srid)
    return shapely.to_wkb(whole, hex=True, output_dimension=2, include_srid=True).tolist()


def _take_grants(connection: psycopg.Connection, target: Target, new: Identifier) -> None:
    """Let those who may use the old table, its owner too, use the new one."""
    grants = connection.execute(
        "SELECT r.rolname, a.privilege_type, a.is_grantable FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a"
        " LEFT JOIN pg_roles r ON r.oid = a.grantee"
        " WHERE n.nspname = %s AND c.relname = %s AND r.rolname IS DISTINCT FROM CURRENT_USER",
        (target.schema, target.table),
    ).fetchall()
    for role, privilege, grantable in grants:
        connection.execute(
            SQL("GRANT {} ON {} TO {}{}").format(
                SQL(privilege),
                new,
                SQL("PUBLIC") if role is None else Identifier(role),
                SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )


def _take_comment(connection: psycopg.Connection, target: Target, new: Identifier) -> None:
    """Say of the new table what is said of the old one."""
    found = connection.execute(
        "SELECT obj_description(c.oid, 'pg_class') FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (target.schema, target.table),
    ).fetchone()
    if found is not None and found[0] is not None:
        connection.execute(SQL("COMMENT ON TABLE {} IS {}").format(new, Literal(found[0])))


def _with_older_classes(
    connection: psycopg.Connection, target: Target, layer: Layer
) -> Layer | None:
    """Return the layer with the classes of the table's style too, None if that is not ours.

    Raises:
        InputError: A code has another name there.
    """
    if connection.execute("SELECT to_regclass('public.layer_styles')").fetchone() == (None,):
        return layer
    row = connection.execute(
        "SELECT styleqml::text FROM public.layer_styles WHERE useasdefault"
        " AND f_table_catalog = current_database() AND f_table_schema = %s AND f_table_name = %s",
        (target.schema, target.table),
    ).fetchone()
    if row is None:
        return layer
    old = read_polygon_qml(row[0] or "", layer.field)
    if old is None:
        return None
    known = {category.code: category for category in old.categories}
    for category in layer.scheme.categories:
        name = known.setdefault(category.code, category).name
        if name != category.name:
            raise InputError(
                f"{target} has {name!r} for code {category.code}, the new polygons"
                f" {category.name!r}; name another table"
            )
    return replace(layer, scheme=ClassScheme(tuple(known[code] for code in sorted(known))))


def _write_style(
    connection: psycopg.Connection, target: Target, geometry: str, layer: Layer
) -> None:
    """Make the style of the classes the default of the table, where QGIS looks for it."""
    try:
        # of two that find no table and make it, the second would fail
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('public.layer_styles'))")
        query = "SELECT to_regclass('public.layer_styles')"
        if connection.execute(query).fetchone() == (None,):
            connection.execute(_LAYER_STYLES)
        _replace_style(connection, target, geometry, layer)
    except psycopg.errors.InsufficientPrivilege as error:
        raise InputError(
            f"cannot write {target}: its style belongs in the table public.layer_styles, where QGIS"
            f" looks for it, but: {error.diag.message_primary}; ask its owner or the database's for"
            " the right to create it, or to select, insert, update and delete"
        ) from error


def _replace_style(
    connection: psycopg.Connection, target: Target, geometry: str, layer: Layer
) -> None:
    """Put a style in place of the one of the same name, and let no other be the default.

    The column `type` stays NULL, which QGIS takes for any: it compares others with the type in
    the layer's source, and that is not always given.
    """
    ours = "f_table_catalog = current_database() AND f_table_schema = %s AND f_table_name = %s"
    table, name = (target.schema, target.table), target.table[:30]
    connection.execute(
        f"DELETE FROM public.layer_styles WHERE {ours} AND description = %s", (*table, _OURS)
    )
    connection.execute(f"UPDATE public.layer_styles SET useasdefault = false WHERE {ours}", table)
    # XMLPARSE, as a cast would refuse the DOCTYPE
    connection.execute(
        "INSERT INTO public.layer_styles (f_table_catalog, f_table_schema, f_table_name,"
        " f_geometry_column, stylename, styleqml, stylesld, useasdefault, description, owner)"
        " VALUES (current_database(), %s, %s, %s, %s, XMLPARSE(DOCUMENT %s),"
        " XMLPARSE(DOCUMENT %s), true, %s, left(CURRENT_USER, 30))",
        (*table, geometry, name, layer.qml, replace(layer, name=target.table).sld, _OURS),
    )
