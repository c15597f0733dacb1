"""Requests that are refused, and how OGC API - Processes says so."""

from __future__ import annotations

from http import HTTPStatus

from pygeoapi.process.base import ProcessorExecuteError

MOST_SAID = 400
"""Letters of a message."""


class RefusedError(ProcessorExecuteError):
    """A request that is refused; pygeoapi answers with its status and code."""

    def __init__(
        self,
        said: str,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        code: str = "InvalidParameterValue",
    ) -> None:
        """Say what is wrong, in a line or two without the server's own paths."""
        super().__init__(user_msg=shortened(said))
        self.http_status_code = status
        self.ogc_exception_code = code


def shortened(said: str) -> str:
    """Return a message in one line that is not too long, of letters that can be shown."""
    line = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return line if len(line) <= MOST_SAID else f"{line[: MOST_SAID - 3]}..."
