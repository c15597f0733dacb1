"""Polygons -> a table in PostGIS, in one transaction; QGIS opens it in the class colours.

An address is libpq's, `postgresql://user:password@host:port/database`, with one parameter of our
own: `?table=schema.name`. The SQL is in `publish.postgis_table`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from hsi_pipeline.errors import InputError
from hsi_pipeline.publish.layer import Layer

if TYPE_CHECKING:
    import geopandas as gpd
    import psycopg

DEFAULT_TABLE = "public.landcover"
_MAX_NAME = 63  # bytes; PostgreSQL cuts longer names off, and then names another table

# An @ or / that is not written as %40 or %2F would make libpq take a part of the password for the
# host or its port, and name it in its messages. An address that could be read so is refused.
_HOST = r"(?:\[[^\]@/]*\]|[^\[\]:@/?,]*)(?::\d*)?"
_ADDRESS = re.compile(
    r"(?P<start>(?P<scheme>postgres(?:ql)?://)(?:(?P<user>[^:@/]*)(?P<password>:[^@/]*)?@)?"
    rf"(?P<rest>{_HOST}(?:,{_HOST})*(?:/[^@?]*)?))(?:\?(?P<options>[^@]*))?"
)
_SECRETS = ("password", "sslpassword")


@dataclass(frozen=True)
class Target:
    """A table of a database, as an address says it."""

    connection: dict[str, str] = field(repr=False)
    """What libpq is told, the password too."""
    schema: str
    """Schema of the table, as it is, without quotes."""
    table: str
    """Name of the table, as it is, without quotes."""
    shown: str
    """The address for messages, without password."""

    def __str__(self) -> str:
        """Return the table and where it is, for messages."""
        return f"table {self.schema}.{self.table} of {self.shown}"


def is_database(target: str | os.PathLike[str]) -> bool:
    """Tell an address of a database from the path of a file."""
    return str(target).startswith(("postgresql://", "postgres://"))


def without_password(address: str) -> str:
    """Return an address for messages: `***` in place of passwords.

    Nothing is left of an address in which the password does not stand out.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return "postgresql://***"
    user = "" if match["user"] is None else match["user"] + ((match["password"] and ":***") or "")
    at = "" if match["user"] is None else "@"
    options = "" if match["options"] is None else f"?{_hide_secrets(match['options'])}"
    return f"{match['scheme']}{user}{at}{match['rest']}{options}"


def check_database(
    address: str,
    *,
    overwrite: bool = False,
    append: bool = False,
    like: gpd.GeoDataFrame | None = None,
) -> None:
    """Refuse a table that cannot be written, before hours of work.

    All that `write_to_database` does is done without rows, and taken back.

    Args:
        address: `postgresql://user:password@host:port/database?table=schema.name`, and other
            options of libpq; without `table` it is `DEFAULT_TABLE`. Names are as they are, capital
            letters and all; the first dot ends the schema.
        overwrite: Allow a table that exists, to be replaced.
        append: Allow a table that exists, to be added to.
        like: Polygons, or none of them, with the columns and the CRS that will be written. Whether
            they fit an existing table, and the database knows the CRS, is found out now if they
            are given, else by `write_to_database`.

    Raises:
        InputError: The address has mistakes; the database cannot be reached or has no PostGIS; the
            schema is missing; the table exists and neither `overwrite` nor `append` is given; it
            does not fit, or others depend on it; something may not be written.
    """
    from hsi_pipeline.publish import postgis_table

    target = _read_address(address, overwrite=overwrite, append=append)
    with _connected(target) as connection:
        postgis_table.rehearse(connection, target, overwrite=overwrite, append=append, like=like)
        connection.rollback()


def write_to_database(
    batches: Iterable[gpd.GeoDataFrame],
    address: str,
    layer: Layer,
    *,
    overwrite: bool = False,
    append: bool = False,
) -> int:
    """Write a stream of polygons as one table, with its style, in one transaction.

    Others see the old table, or none, until all is there. The table has the primary key `fid`
    (`gid` if the polygons have a column of that name), the columns of the polygons, `geometry`
    as MultiPolygon with a spatial index, and a default style in QGIS's table
    `public.layer_styles`. Who may read a table that is replaced may read the new.

    Args:
        batches: Polygons and MultiPolygons, all with the same columns and CRS; each may be empty.
            NaN, None and NaT become NULL. Taken one after the other, never held together. The first
            that has rows tells the types of columns; one with nothing but None becomes text.
        address: As `check_database`.
        layer: Its classes and the column of their codes, for the style.
        overwrite: Replace an existing table.
        append: Add to an existing table, which must have the same columns, CRS and geometry type;
            make it if there is none.

    Returns:
        The number of polygons written.

    Raises:
        InputError: As `check_database`; the database ends the connection or refuses something.
            Nothing is written then, nor when `batches` raises, whose errors pass through.
    """
    from hsi_pipeline.publish import postgis_table

    target = _read_address(address, overwrite=overwrite, append=append)
    with _connected(target) as connection:
        count = postgis_table.write(
            connection, target, batches, layer, overwrite=overwrite, append=append
        )
        _commit(connection, target, count)
    return count


def _read_address(address: str, *, overwrite: bool, append: bool) -> Target:
    """Take our parameter out of an address and let libpq read the rest."""
    if overwrite and append:
        raise InputError("--overwrite replaces a table and --append adds to it; pass one of them")
    shown = without_password(address)
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(
            f"{shown}: the address is not postgresql://user:password@host:port/database?table=name;"
            " in names and passwords write @ as %40, / as %2F, : as %3A and % as %25"
        )
    options = (match["options"] or "").split("&")
    ours = [option for option in options if _key(option) == "table"]
    libpq = "&".join(option for option in options if option not in ours)
    table = unquote(ours[-1].partition("=")[2]) if ours else DEFAULT_TABLE
    connection = _read_options(f"{match['start']}?{libpq}", shown)
    return Target(connection, *_read_table(table, shown), shown)


def _read_options(address: str, shown: str) -> dict[str, str]:
    """Let libpq read an address."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        return {key: str(value) for key, value in conninfo_to_dict(address).items()}
    except ProgrammingError as error:
        # its other messages may quote a part of a password: neither said, nor kept as the cause
        unknown = re.match(r'invalid URI query parameter: "\w*"', str(error))
        reason = unknown[0] if unknown else "an option, or an escape like %40, is malformed"
        raise InputError(f"{shown}: libpq does not understand the address: {reason}") from None


def _read_table(table: str, shown: str) -> tuple[str, str]:
    """Return schema and name; the first dot ends the schema."""
    schema, dot, name = table.partition(".")
    if not dot:
        schema, name = "public", table
    for part in (schema, name):
        if not part or "\0" in part or len(part.encode()) > _MAX_NAME:
            raise InputError(
                f"{shown}: the table is {table!r}, expected table=schema.name or table=name, each"
                f" of 1 to {_MAX_NAME} bytes"
            )
    return schema, name


def _hide_secrets(options: str) -> str:
    return "&".join(
        f"{option.partition('=')[0]}=***" if _key(option) in _SECRETS else option
        for option in options.split("&")
    )


def _key(option: str) -> str:
    return unquote(option.partition("=")[0])


@contextmanager
def _connected(target: Target) -> Iterator[psycopg.Connection]:
    """Open a transaction, end it without trace after an error, and say errors in one line."""
    import psycopg

    defaults = {
        "connect_timeout": "10",
        "keepalives_idle": "60",  # routers forget connections that wait for the next batch
        "fallback_application_name": "hsi_pipeline",
    }
    settings = {**defaults, **target.connection, "client_encoding": "utf8"}
    try:
        connection = psycopg.connect(psycopg.conninfo.make_conninfo(**settings))
    except psycopg.Error as error:
        raise InputError(
            f"{target.shown}: cannot connect ({_first_line(error)}); check host, port, database,"
            " user and password, and that the server runs"
        ) from error
    with connection:
        try:
            yield connection
        except psycopg.Error as error:
            what = (
                "the connection to the database was lost; run it again when the database is back"
                if connection.closed
                else "the database refused"
            )
            raise InputError(
                f"cannot write {target}: {what} ({_first_line(error)}). Nothing was written"
            ) from error


def _commit(connection: psycopg.Connection, target: Target, count: int) -> None:
    """Commit; a connection that is lost just now leaves open whether the database did."""
    import psycopg

    try:
        connection.commit()
    except psycopg.Error as error:
        if not connection.closed:
            raise
        raise InputError(
            f"the connection to the database was lost at the very end ({_first_line(error)}):"
            f" look whether {target} has the {count} new polygons, all are there or none"
        ) from error


def _first_line(error: psycopg.Error) -> str:
    """Return what the server or libpq says, without its hints."""
    return (error.diag.message_primary or str(error) or type(error).__name__).splitlines()[0]
