"""What kind of fault an error is: the scene's own, one that passes, or one that stops all."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Literal

from hsi_pipeline.scene.files import one_line

Kind = Literal["data", "passing", "stop"]

_STOP = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_PASSING = (
    errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE,
    errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED,
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPIPE,
)  # fmt: skip
# Of libraries that are not imported for their errors' sake: aiohttp, botocore, Dask, filelock.
_PASSING_NAMES = {
    "ClientConnectionError", "ClientConnectorError", "ClientOSError", "ServerDisconnectedError",
    "ServerTimeoutError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError",
    "ConnectionClosedError", "IncompleteRead", "ClientPayloadError", "FSTimeoutError",
    "KilledWorker", "CommClosedError", "CancelledError", "Timeout", "OutOfMemoryError",
}  # fmt: skip
# GDAL tells in words alone
_PASSING_WORDS = re.compile(
    r"\b(?:response|error|status)[ _]?(?:code)?[ :=]+(?:408|425|429|5\d\d)\b"
    r"|\b(?:429|50[0234])[,:] "
    r"|timed? ?out|connection (?:refused|reset|was reset|aborted|closed)"
    r"|could(?:n't| not) (?:resolve|connect)|temporar(?:y|ily)|slow ?down|too many open files"
    r"|out of memory|unable to allocate|cannot allocate",
    re.IGNORECASE,
)


def kind_of(error: BaseException) -> Kind:
    """Tell what kind of fault an error is, by itself and by what caused it.

    A disk without room, or that cannot be written, stops all: the next scene would fare no better.
    """
    chain = list(_causes(error))
    if any(isinstance(one, OSError) and one.errno in _STOP for one in chain):
        return "stop"
    if any(_passes(one) for one in chain):
        return "passing"
    return "data"


def name_of(error: BaseException) -> str:
    """Return the class of an error, of the first cause where it only passes that on."""
    chain = list(_causes(error))
    return type(chain[-1] if type(error).__name__ == "InputError" else error).__name__


def message_of(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return one_line(error)


def _passes(error: BaseException) -> bool:
    if isinstance(error, MemoryError | ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _PASSING_NAMES) or bool(_PASSING_WORDS.search(str(error)))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what caused that, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
