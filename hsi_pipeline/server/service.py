"""The server itself: one port of the loopback device, one folder, until it is stopped."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from werkzeug.serving import WSGIRequestHandler, make_server

from hsi_pipeline.errors import InputError
from hsi_pipeline.server.app import make_app
from hsi_pipeline.server.folder import STATE, SharedFolder
from hsi_pipeline.server.limits import Limits

HOST = "127.0.0.1"


def serve_folder(
    folder: Path, port: int, limits: Limits, url: str | None, say: Callable[[str], None]
) -> None:
    """Answer requests until the program is stopped; jobs end with it.

    Args:
        folder: That requests may name files of.
        port: Of this machine; 0 takes a free one.
        limits: What requests may ask for.
        url: Address by which clients know the server, where a proxy stands before it.
        say: Told what goes on, in a line each.

    Raises:
        InputError: The folder is missing or cannot be written to, the port is taken, or another
            server is at work on the folder.
    """
    shared = SharedFolder(_checked(folder))
    with _alone(shared.root), _listening(port) as listener:
        port = listener.getsockname()[1]
        hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        if port == 80:  # left out by clients
            hosts |= {HOST, "localhost"}
        if url is not None:
            hosts.add(_host_of(url))
        address = (url or f"http://{HOST}:{port}").rstrip("/")
        app, jobs = make_app(address, hosts, say)
        jobs.open(shared, limits, say)
        server = make_server(
            HOST, port, app, threaded=True, request_handler=_Answering, fd=listener.fileno()
        )
        known = "" if url is None else f", known as {address}"
        say(f"serving {shared.root} at http://{HOST}:{port}{known} (Ctrl-C stops)")
        try:
            server.serve_forever()
        finally:
            say("stopping")
            jobs.close()


class _Answering(WSGIRequestHandler):
    """A connection that is closed if it is silent, and tells nobody about the server."""

    timeout = 60
    server_version = "hsi-pipeline"
    sys_version = ""

    def version_string(self) -> str:
        """Return no version."""
        return self.server_version

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing of single requests: jobs are told of."""


def _checked(folder: Path) -> Path:
    """Return a folder that can be served, links resolved."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it, or give the one with your scenes")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(f"{folder}: no permission to read and write in this folder")
    return folder.resolve()


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the lock of a folder's jobs."""
    state = root / STATE
    if state.is_symlink():
        raise InputError(f"{state} is a link; the server keeps its jobs there, remove it")
    try:
        state.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InputError(f"{state} cannot be made ({error.strerror})") from error
    lock = FileLock(state / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"another server is at work on {root}; stop it first") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """Open the port, and no other device than loopback."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port} is no port; give one from 1024 to 65535, or 0 for any")
    with socket.socket() as listener:
        if os.name == "posix":  # on Windows this would share a port with another program
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise InputError(
                f"port {port} cannot be opened ({error.strerror}); give another one by --port"
            ) from error
        listener.listen()
        yield listener


def _host_of(url: str) -> str:
    refusal = InputError(f"--url {url} is no address such as https://host/landcover")
    try:
        parts = urlsplit(url)
    except ValueError as error:  # as for http://[::1
        raise refusal from error
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise refusal
    return parts.netloc.lower()
