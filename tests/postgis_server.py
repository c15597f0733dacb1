"""A private PostgreSQL server with PostGIS for tests: made, started, stopped and removed here."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

PASSWORD = "s3cret/p@ss:w%rd"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # a machine that fails is not under test, and this is quicker
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
}


@dataclass(frozen=True)
class Server:
    """A server whose local socket trusts everyone and whose TCP port wants passwords."""

    folder: Path
    programs: Path
    port: int

    def address(self, database: str, table: str | None = None, user: str = "postgres") -> str:
        """Return an address by socket, without password."""
        end = "" if table is None else f"&table={quote(table)}"
        return (
            f"postgresql://{quote(user)}@/{quote(database)}"
            f"?host={quote(str(self.folder))}&port={self.port}{end}"
        )

    def tcp_address(self, database: str, password: str = PASSWORD, port: int | None = None) -> str:
        """Return an address by TCP, with password."""
        secret = quote(password, safe="")
        return f"postgresql://postgres:{secret}@127.0.0.1:{port or self.port}/{quote(database)}"

    def connect(self, database: str = "postgres", user: str = "postgres") -> psycopg.Connection:
        """Return a connection that commits each statement."""
        return psycopg.connect(self.address(database, user=user), autocommit=True)

    @contextmanager
    def database(self, template: str) -> Iterator[str]:
        """Create a database and drop it when the block ends; yields its name."""
        name = f"test_{secrets.token_hex(4)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield name
        with self.connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        settings = {
            **SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self.run("pg_ctl", "-w", "-t", "60", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; `immediate` ends it as a crash would."""
        self.run("pg_ctl", "-w", "-m", mode, "stop")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, which refuse to work as root."""
        who = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        subprocess.run(
            [self.programs / program, "-D", self.folder / "cluster", *arguments],
            check=True, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            **who,
        )  # fmt: skip


def find_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps them off the PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    return newest.parent if newest else None


def missing() -> str | None:
    """Return why there can be no server here, or None."""
    programs = find_programs()
    if programs is None:
        return "PostgreSQL is not installed (Debian: postgresql-postgis)"
    shared = subprocess.run(
        [programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not (Path(shared) / "extension" / "postgis.control").exists():
        return "PostGIS is not installed (Debian: postgresql-postgis)"
    return None


@contextmanager
def postgis_server() -> Iterator[Server]:
    """Make and start a server; the database `maps` has PostGIS. Gone when the block ends.

    Tests take copies of it: `server.database(template="maps")`.
    """
    programs = find_programs()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: names of sockets end at 107 bytes
    server = Server(folder, programs, free_port())
    try:
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        server.run(
            "initdb", "--no-sync", "--username=postgres", f"--pwfile={folder / 'password'}",
            "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C",
        )  # fmt: skip
        server.start()
        with server.connect() as connection:
            connection.execute("CREATE DATABASE maps")
        with server.connect("maps") as connection:
            connection.execute("CREATE EXTENSION postgis")
        yield server
    finally:
        with suppress(subprocess.CalledProcessError):  # it may not run
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
