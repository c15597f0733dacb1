"""What kind of fault an error is: the scene's own, one that passes, or one that stops all."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Literal

from hsi_pipeline.errors import InputError, TargetError
from hsi_pipeline.scene.files import one_line

Kind = Literal["data", "passing", "stop"]

_STOP = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_PASSING = (
    errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE,
    errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED,
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPIPE,
)  # fmt: skip
# Of libraries that are not imported for their errors' sake: aiohttp, botocore, Dask, filelock.
_NETWORK_NAMES = {
    "ClientConnectionError", "ClientConnectorError", "ClientOSError", "ServerDisconnectedError",
    "ServerTimeoutError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError",
    "ConnectionClosedError", "IncompleteRead", "ClientPayloadError", "FSTimeoutError",
    "KilledWorker", "CommClosedError", "CancelledError", "Timeout", "OutOfMemoryError",
}  # fmt: skip
_ACCESS_NAMES = {"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError",
                 "CPLE_AWSInvalidCredentialsError", "CPLE_AWSAccessDeniedError",
                 "CPLE_AWSSignatureDoesNotMatchError", "CPLE_AWSError"}  # fmt: skip
# GDAL and botocore tell in words alone
_NETWORK_WORDS = re.compile(
    r"\b(?:http|response|status)[ _]?(?:error|response)?[ _]?(?:code)?[ :=]+(?:408|425|429|5\d\d)\b"
    r"|\btimed? ?out\b|connection (?:refused|reset|was reset|aborted|closed)"
    r"|could(?:n't| not) (?:resolve|connect)|temporarily unavailable|slow ?down"
    r"|too many open files|out of memory|unable to allocate|cannot allocate",
    re.IGNORECASE,
)
_ACCESS_WORDS = re.compile(
    r"\b(?:http|response|status)[ _]?(?:error|response)?[ _]?(?:code)?[ :=]+40[13]\b"
    r"|expired ?token|token has expired|invalid ?access ?key|access ?denied|\bforbidden\b"
    r"|signature ?does ?not ?match",
    re.IGNORECASE,
)
_PATHS = re.compile(r"\S*[/\\]\S*")


def kind_of(error: BaseException) -> Kind:
    """Tell what kind of fault an error is, by itself and by what caused it.

    What keeps results from being written stops all, unless it is the network: the next scene would
    fare no better. Missing or expired permission to read a scene passes: it is not in the scene.
    """
    chain = list(_causes(error))
    if any(isinstance(one, OSError) and one.errno in _STOP for one in chain):
        return "stop"
    if any(_is_network(one) for one in chain):
        return "passing"
    if any(isinstance(one, TargetError) for one in chain):
        return "stop"
    return "passing" if any(_is_access(one) for one in chain) else "data"


def kind_of_text(text: str) -> Kind:
    """Tell what kind of fault a message is about, of which nothing else is known."""
    plain = _PATHS.sub("", text)
    passes = _NETWORK_WORDS.search(plain) or _ACCESS_WORDS.search(plain)
    return "passing" if passes else "data"


def name_of(error: BaseException) -> str:
    """Return the class of an error, of the first cause where it only passes that on."""
    chain = list(_causes(error))
    return type(chain[-1] if isinstance(error, InputError) else error).__name__


def message_of(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return one_line(error)


def _is_network(error: BaseException) -> bool:
    if isinstance(error, MemoryError | ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    if _status(error) in (408, 425, 429) or _status(error) >= 500:
        return True
    return bool(_names(error) & _NETWORK_NAMES) or _says(error, _NETWORK_WORDS)


def _is_access(error: BaseException) -> bool:
    if isinstance(error, PermissionError) or _status(error) in (401, 403):
        return True
    return bool(_names(error) & _ACCESS_NAMES) or _says(error, _ACCESS_WORDS)


def _says(error: BaseException, words: re.Pattern[str]) -> bool:
    """Search what a library says; our own messages have the words of scenes and their names."""
    if isinstance(error, InputError):
        return False
    return words.search(_PATHS.sub("", str(error))) is not None


def _status(error: BaseException) -> int:
    """Return the status that a web server answered with (aiohttp's errors have it), 0 if none."""
    status = getattr(error, "status", 0)
    return status if isinstance(status, int) else 0


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what caused that, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
