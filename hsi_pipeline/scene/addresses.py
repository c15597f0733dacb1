"""One set of settings for the two libraries that follow addresses: GDAL and fsspec.

What the user said in the words of one of them holds for the other too; what was said to both is
left as it is. Only the environment of the process is used, so that workers inherit it.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import IO
from urllib.parse import urlsplit

import fsspec
import fsspec.config
import fsspec.core

from hsi_pipeline.scene.files import is_remote

CONNECT_SECONDS, READ_SECONDS = 10, 60
"""How long a server may take to answer, and between two parts of its answer."""

_BLOCK_BYTES = 2**16
_TIME_LIMITS = {
    "GDAL_HTTP_CONNECTTIMEOUT": str(CONNECT_SECONDS),
    "GDAL_HTTP_TIMEOUT": str(READ_SECONDS),
    "GDAL_HTTP_MAX_RETRY": "2",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
}
_YES = ("YES", "TRUE", "ON", "1")


def share_settings() -> None:
    """Let GDAL and fsspec use the same S3 endpoint and credentials, and limit their waiting.

    Called before an address is opened, and once on import, for the workers that only unpickle
    what another process opened.
    """
    for name, value in _TIME_LIMITS.items():
        os.environ.setdefault(name, value)
    s3 = fsspec.config.conf.get("s3", {})
    _share_endpoint(os.environ, s3)
    _share_anonymity(os.environ, s3)


def limit_http() -> None:
    """Limit how long fsspec waits for a web server; its default is 300 s for each request."""
    from aiohttp import ClientTimeout  # takes 0.2 s, which scenes on disk need not spend

    client = fsspec.config.conf.setdefault("http", {}).setdefault("client_kwargs", {})
    limit = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    client.setdefault("timeout", limit)


def open_bytes(path: str) -> IO[bytes]:
    """Open a file on disk or behind an address, for reading with `with`."""
    if not is_remote(path):
        return open(path, "rb")
    share_settings()
    if "http://" in path or "https://" in path:
        limit_http()
    files, name = fsspec.core.url_to_fs(path)
    # Small, for the headers of archives lie far apart; whole files are one request all the same.
    stream: IO[bytes] = files.open(name, "rb", block_size=_BLOCK_BYTES)
    return stream


def is_absent(error: Exception) -> bool:
    """Tell whether an error of fsspec's means that there is no such file.

    Its web file system says so of servers that it cannot reach, too. S3 forbids asking for what
    is not there.
    """
    if not isinstance(error, FileNotFoundError | PermissionError):
        return False
    cause = error.__cause__
    status = getattr(cause, "status", None)
    return cause is None or isinstance(cause, FileNotFoundError | PermissionError) or (
        status in (401, 403, 404, 410)
    )  # fmt: skip


def _share_endpoint(environment: MutableMapping[str, str], s3: dict[str, object]) -> None:
    """Tell botocore's name of the endpoint to GDAL, or GDAL's to botocore."""
    said = (
        environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
        or str(s3.get("endpoint_url") or "")
    )
    if said and "AWS_S3_ENDPOINT" not in environment:
        address = urlsplit(said if "://" in said else f"https://{said}")
        environment["AWS_S3_ENDPOINT"] = address.netloc + address.path.rstrip("/")
        environment.setdefault("AWS_HTTPS", "NO" if address.scheme == "http" else "YES")
        # botocore writes the bucket into the path where an endpoint is given
        environment.setdefault("AWS_VIRTUAL_HOSTING", "FALSE")
    elif not said and (host := environment.get("AWS_S3_ENDPOINT", "")):
        secure = environment.get("AWS_HTTPS", "YES").upper() in _YES
        scheme = "" if "://" in host else "https://" if secure else "http://"
        environment["AWS_ENDPOINT_URL_S3"] = scheme + host
    if "AWS_REGION" in environment:  # botocore knows the other name only
        environment.setdefault("AWS_DEFAULT_REGION", environment["AWS_REGION"])


def _share_anonymity(environment: MutableMapping[str, str], s3: dict[str, object]) -> None:
    """Let both read public buckets without credentials where one was told to."""
    if environment.get("AWS_NO_SIGN_REQUEST", "").upper() in _YES:
        fsspec.config.conf.setdefault("s3", {}).setdefault("anon", True)
    elif s3.get("anon"):
        environment.setdefault("AWS_NO_SIGN_REQUEST", "YES")


share_settings()
