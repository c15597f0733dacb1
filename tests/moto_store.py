"""An S3 store that can be written to, for tests: moto's server, in a process of its own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import s3fs
from object_store import _running, free_port

REGION = "us-east-1"


def credentials(endpoint: str) -> dict[str, str]:
    """Return the variables by which botocore and GDAL find the store and are let in."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "writer",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def moto_server() -> Iterator[str]:
    """Run a store without buckets until the block ends, and give its endpoint."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with tempfile.TemporaryDirectory() as folder, _running(command, port, Path(folder) / "log"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def store_settings(endpoint: str) -> Iterator[None]:
    """Let this process and its children use the store, and no other, until the block ends."""
    others = {name for name in os.environ if name.startswith("AWS_")}
    s3fs.S3FileSystem.clear_instance_cache()
    with patch.dict(os.environ):
        for name in others:
            del os.environ[name]
        os.environ.update(credentials(endpoint))
        yield
    s3fs.S3FileSystem.clear_instance_cache()


def make_bucket(endpoint: str, name: str, files: dict[str, bytes] | None = None) -> None:
    """Make a bucket and put files into it, by key."""
    with store_settings(endpoint):
        store = s3fs.S3FileSystem()
        store.mkdir(name)
        for key, content in (files or {}).items():
            store.pipe_file(f"{name}/{key}", content)
