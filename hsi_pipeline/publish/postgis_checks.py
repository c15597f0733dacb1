"""What is in a database, and whether polygons can go there, before the first of them does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg

from hsi_pipeline.errors import InputError

if TYPE_CHECKING:
    from hsi_pipeline.publish.postgis import Target

MAX_NAME = 63
"""Bytes of a name; PostgreSQL cuts longer ones off."""
GEOMETRY = "geometry"
"""Name of the geometry column of a new table."""
_KEYS = ("fid", "gid", "ogc_fid")  # primary key of a new table: the first that is free

# Types of columns by what pandas finds in them
_TYPES = {
    "boolean": "boolean",
    "integer": "bigint",
    "floating": "double precision",
    "mixed-integer-float": "double precision",
    "string": "text",
    "categorical": "text",
    "date": "date",
    "datetime": "timestamp without time zone",
    "datetime64": "timestamp without time zone",
    "empty": "unknown",  # nothing but None: any type will do
}
# Types of an existing column that will do as well
_FITTING = {
    "integer": ("smallint", "bigint", "numeric"),
    "bigint": ("smallint", "integer", "numeric"),
    "double precision": ("real", "numeric"),
    "text": ("character varying",),
    "date": ("text", "character varying"),
}
_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table", "S": "sequence",
          "i": "index", "I": "index", "c": "type"}  # fmt: skip


def prepare(
    connection: psycopg.Connection, target: Target, *, overwrite: bool, append: bool
) -> bool:
    """Prepare a transaction, and return whether the table exists.

    Raises:
        InputError: There is no PostGIS or no schema; the table must not be written.
    """
    # a stream may take hours; not every version of PostgreSQL has each of them
    connection.execute(
        "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout',"
        " 'idle_in_transaction_session_timeout', 'transaction_timeout')"
    )
    # PostGIS's things are named without their schema; triggers may rely on the rest of the path
    connection.execute(
        "SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'),"
        " ''), quote_ident(%s)), true)",
        (_find_postgis(connection, target),),
    )
    schema = connection.execute(
        "SELECT has_schema_privilege(oid, 'CREATE'), CURRENT_USER FROM pg_namespace"
        " WHERE nspname = %s",
        (target.schema,),
    ).fetchone()
    if schema is None:
        raise InputError(
            f"cannot write {target}: there is no schema {target.schema}; make it first"
        )
    table = connection.execute(
        "SELECT c.oid, c.relkind::text, pg_has_role(c.relowner, 'USAGE'),"
        " has_table_privilege(c.oid, 'INSERT') FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (target.schema, target.table),
    ).fetchone()
    may_create, user = schema
    if not may_create and not (table and append):
        raise InputError(
            f"cannot write {target}: the user {user} may not create tables in the schema"
            f" {target.schema}; ask its owner to GRANT CREATE, or name another schema"
        )
    if table is not None:
        _check_may_write(connection, target, table, user, overwrite=overwrite, append=append)
    return table is not None


def _find_postgis(connection: psycopg.Connection, target: Target) -> str:
    """Return the schema of PostGIS. It is not made unasked: the database may be the wrong one."""
    found = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'postgis'"
    ).fetchone()
    if found is None:
        raise InputError(
            f"{target.shown}: the database has no PostGIS; name another, or have an administrator"
            " say CREATE EXTENSION postgis in this one"
        )
    return found[0]


def _check_may_write(
    connection: psycopg.Connection,
    target: Target,
    table: tuple[int, str, bool, bool],
    user: str,
    *,
    overwrite: bool,
    append: bool,
) -> None:
    """Refuse to touch an existing table without being told so, or without the right."""
    oid, kind, owned, insertable = table
    if kind not in ("r", "p"):
        raise InputError(f"{target} is a {_KINDS.get(kind, kind)}; name another table")
    if not overwrite and not append:
        raise InputError(
            f"{target} exists; pass --overwrite to replace it, --append to add to it, or name"
            " another table"
        )
    if append and not insertable:
        raise InputError(
            f"the user {user} may not write to {target}; ask its owner to GRANT INSERT"
        )
    if overwrite and not owned:
        raise InputError(f"{target} belongs to another than {user}, who may not replace it")
    guards = _guards(connection, oid) if overwrite else []
    if guards:
        raise InputError(
            f"{target} has {' and '.join(guards)}, which a new table would lack; name another"
            " table, or TRUNCATE this one and pass --append"
        )
    dependents = _dependents(connection, oid) if overwrite else []
    if dependents:
        raise InputError(
            f"{target} cannot be replaced, since {', '.join(dependents)} depend on it; drop them"
            " first, or name another table"
        )


def _dependents(connection: psycopg.Connection, oid: int) -> list[str]:
    """Return what would go with a table: views, foreign keys and the like."""
    rows = connection.execute(
        "SELECT DISTINCT CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, 0)"
        " ELSE 'view ' || r.ev_class::regclass END FROM pg_depend d"
        " LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid"
        " WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %s AND d.deptype = 'n'"
        " ORDER BY 1",
        (oid,),
    )
    return [name for (name,) in rows]


def _guards(connection: psycopg.Connection, oid: int) -> list[str]:
    """Return what else a table has been given that is not to be lost."""
    row = connection.execute(
        "SELECT relrowsecurity OR EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid),"
        " EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)"
        " FROM pg_class c WHERE oid = %s",
        (oid,),
    ).fetchone()
    assert row is not None
    return [name for name, there in zip(("row security", "triggers"), row, strict=True) if there]


def key_for(columns: Iterable[str]) -> str:
    """Return the name of the primary key of a table with some columns.

    Raises:
        InputError: They have all the names that it might get.
    """
    taken = set(columns)
    for key in _KEYS:
        if key not in taken:
            return key
    raise InputError(f"the polygons have the columns {', '.join(_KEYS)}; rename one of them")


def column_types(polygons: gpd.GeoDataFrame) -> dict[str, str]:
    """Return PostgreSQL's type of each column but the geometry; `unknown` if it holds only None."""
    types: dict[str, str] = {}
    for name in polygons.columns.drop(polygons.geometry.name):
        cut = str(name).encode()[:MAX_NAME]
        twin = next((other for other in types if other.encode()[:MAX_NAME] == cut), None)
        if twin is not None:
            raise InputError(
                f"the columns {twin} and {name} begin with the same {MAX_NAME} bytes, more than"
                " PostgreSQL keeps; rename one of them"
            )
        if name == GEOMETRY:
            raise InputError(f"the polygons have a column {name!r}, a name that the table needs")
        types[str(name)] = _type_of(polygons[name])
    return types


def _type_of(column: pd.Series) -> str:
    found = pd.api.types.infer_dtype(column, skipna=True)
    if found not in _TYPES:
        raise InputError(
            f"the column {column.name!r} holds {found} values, expected one type out of numbers,"
            " text, true or false, dates and times"
        )
    kind = _TYPES[found]
    if kind == "bigint" and isinstance(column.dtype, np.dtype):
        return "integer" if np.can_cast(column.dtype, np.int32) else kind
    if found.startswith("datetime") and pd.to_datetime(column).dt.tz is not None:
        return "timestamp with time zone"
    return kind


def find_srid(connection: psycopg.Connection, polygons: gpd.GeoDataFrame, target: Target) -> int:
    """Return the number by which the database knows the CRS of polygons, 0 for none.

    A CRS that has no number is refused rather than added: spatial_ref_sys is shared by all users
    of a database, mostly closed to them, and a number made up here would mean another CRS, or
    none, in the database that a dump is restored to.
    """
    crs = polygons.crs
    if crs is None:
        return 0
    # EPSG's name of it first: the closest match may be that of another authority
    for authority in (crs.to_authority("EPSG"), crs.to_authority()):
        found = (
            authority
            and connection.execute(
                "SELECT srid FROM spatial_ref_sys WHERE auth_name = %s AND auth_srid::text = %s",
                authority,
            ).fetchone()
        )
        if found:
            return found[0]
    raise InputError(
        f"cannot write {target}: the database does not know the CRS of the polygons, {crs.name!r};"
        " export to .gpkg, which holds any CRS, or use a scene in a CRS with EPSG code"
    )


def check_fits(
    connection: psycopg.Connection,
    target: Target,
    columns: dict[str, str] | None,
    srid: int | None,
) -> str:
    """Refuse to add polygons to a table that is not made like them; None is not compared.

    Returns:
        The name of the table's geometry column.
    """
    differences = []
    geometries = connection.execute(
        "SELECT f_geometry_column, type, srid, coord_dimension FROM geometry_columns"
        " WHERE f_table_schema = %s AND f_table_name = %s",
        (target.schema, target.table),
    ).fetchall()
    if len(geometries) != 1:
        raise InputError(
            f"cannot add to {target}: it has {len(geometries)} geometry columns, not 1"
        )
    ((geometry, kind, table_srid, dimensions),) = geometries
    if kind not in ("MULTIPOLYGON", "GEOMETRY") or dimensions != 2:
        differences.append(
            f"its geometry is {kind} in {dimensions} dimensions, not MULTIPOLYGON in 2"
        )
    if srid is not None and table_srid != srid:
        differences.append(f"its SRID is {table_srid}, that of the polygons {srid}")
    if columns is not None:
        differences += _column_differences(connection, target, columns, geometry)
    if differences:
        raise InputError(
            f"cannot add to {target}: {'; '.join(differences)}. Name another table, or replace"
            " this one with --overwrite"
        )
    return geometry


def _column_differences(
    connection: psycopg.Connection, target: Target, columns: dict[str, str], geometry: str
) -> list[str]:
    """Return in what columns differ; those that fill themselves, like a key, may be there."""
    rows = connection.execute(
        "SELECT a.attname, format_type(a.atttypid, NULL),"
        " a.atthasdef OR a.attidentity <> '' FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped"
        " ORDER BY a.attnum",
        (target.schema, target.table),
    ).fetchall()
    there = {name: kind for name, kind, _ in rows if name != geometry}
    needed = [name for name, _, fills_itself in rows if name != geometry and not fills_itself]
    differences = []
    lacking = [name for name in columns if name not in there]
    if lacking:
        differences.append(f"it lacks the columns {', '.join(lacking)}")
    more = [name for name in needed if name not in columns]
    if more:
        differences.append(f"the polygons lack its columns {', '.join(more)}")
    differences += [
        f"its column {name} is {there[name]}, that of the polygons {kind}"
        for name, kind in columns.items()
        if name in there and kind not in (there[name], "unknown")
        and there[name] not in _FITTING.get(kind, ())
    ]  # fmt: skip
    return differences
