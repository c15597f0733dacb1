"""Reading the JSON of catalogs: from disk, the web or an object store, with limits of time."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Self

import pystac
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from hsi_pipeline.archive.candidates import printable
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.addresses import CONNECT_SECONDS, READ_SECONDS, open_bytes
from hsi_pipeline.scene.files import is_remote, one_line, shown

CONNECTIONS = 16
"""With which a catalog is read at a time."""

_NO_CREDENTIALS = (
    "NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError",
    "TokenRetrievalError", "ProfileNotFound",
)  # fmt: skip
_CREDENTIALS = (
    "there are no credentials for it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "AWS_NO_SIGN_REQUEST=YES for what is public"
)
_RETRY = Retry(
    total=3, connect=1, read=1, backoff_factor=0.3, status_forcelist=(429, 502, 503, 504),
    allowed_methods=None, raise_on_status=False, retry_after_max=30,
)  # fmt: skip
_MEANING = {
    400: "it does not take the question",
    401: "it wants credentials",
    403: "it forbids it",
    404: "there is no such thing",
    429: "it is asked too often; try later",
}
_QUERY = re.compile(r"\?\S*")
_MOST_SAID = 200


class GuardedIO(StacApiIO):
    """What pystac and pystac-client read with: the web alone, never a file, and never forever."""

    def __init__(self) -> None:
        """Set limits of time, and ask busy servers again."""
        super().__init__(timeout=(CONNECT_SECONDS, READ_SECONDS), max_retries=None)
        adapter = HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=_RETRY)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, adapter)

    def __enter__(self) -> Self:
        """Keep connections until the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self.session.close()

    def read_text(self, source: pystac.link.HREF, *args: Any, **kwargs: Any) -> str:
        """Read an address of the web.

        Raises:
            APIError: It is none, such as the next page of a hostile server.
        """
        href = source.href if isinstance(source, pystac.Link) else str(source)
        if not href.lower().startswith(("http://", "https://")):
            raise APIError(f"it leads to {shown(href)}, which is no address of the web")
        return super().read_text(source, *args, **kwargs)


def read_json(path: str, io: GuardedIO) -> Any:
    """Read a JSON document.

    Args:
        path: A file on disk, or an address.
        io: For addresses of the web; keeps connections between calls.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    try:
        if path.startswith(("http://", "https://")):
            text: str | bytes = io.read_text(path)
        else:
            if not is_remote(path) and os.path.exists(path) and not os.path.isfile(path):
                raise IsADirectoryError("it is no file")
            with open_bytes(path) as stream:
                text = stream.read()
    except Exception as error:  # each file system of fsspec raises its own
        raise unreadable(path, error) from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        begin = text[:60].decode("utf-8", "replace") if isinstance(text, bytes) else text[:60]
        begin = printable(" ".join(begin.split()))
        raise InputError(
            f"{shown(path)} is no JSON ({one_line(error)}); it begins with {begin}"
        ) from error


def unreadable(path: str, error: BaseException) -> InputError:
    """Return what to say of an address or file that could not be read: what came, what to do."""
    name = shown(path)
    if isinstance(error, FileNotFoundError) and not is_remote(path):
        return InputError(f"{name}: no such file")
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and len(chain) < 20:
        chain.append(cause)
    names = {type(link).__name__ for link in chain}
    status = next((code for link in chain if (code := getattr(link, "status_code", None))), None)
    if names & set(_NO_CREDENTIALS):
        return InputError(f"{name} cannot be read: {_CREDENTIALS}")
    if status is not None:
        said = _MEANING.get(status, "its server failed; try later" if status >= 500 else "refused")
        # The body is the server's own words, which may be a page of HTML.
        body = "" if "<" in str(error) else f": {_short(error)}" if str(error).strip() else ""
        return InputError(f"{name} answered with status {status}, {said}{body}")
    if isinstance(error, PermissionError):
        return InputError(
            f"{name} is forbidden ({_short(error)}); check permissions, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    if any("Timeout" in kind for kind in names) or isinstance(error, TimeoutError):
        return InputError(
            f"{name} did not answer in time ({CONNECT_SECONDS} s to connect, {READ_SECONDS} s to "
            "answer); try later, or check the address"
        )
    if names & {"ConnectionError", "NewConnectionError", "EndpointConnectionError"}:
        return InputError(f"{name} cannot be reached; check the address and the network")
    return InputError(f"{name} cannot be read ({_short(error)})")


def _short(error: BaseException) -> str:
    """Return what an error says, short, and without what addresses have after "?"."""
    said = printable(_QUERY.sub("", one_line(error)))
    return said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]}..."
