"""What a request must look like before anything of it is used."""

from __future__ import annotations

import json
from collections.abc import Collection
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from werkzeug.wrappers import Request

from hsi_pipeline.server.limits import MOST_BODY_BYTES
from hsi_pipeline.server.processes import OUTPUTS
from hsi_pipeline.server.refused import RefusedError

_PARAMETERS = {"f", "limit", "offset"}
_KNOWN = {"inputs", "outputs", "response", "subscriber"}
_MOST_DEPTH = 20


def check_origin(request: Request, hosts: Collection[str]) -> None:
    """Refuse what a page of another site makes a browser send.

    Such a page may have a name that leads to this machine (DNS rebinding), which the host header
    tells, or send a form to this server, which the origin tells.

    Args:
        request: The request.
        hosts: Names and ports by which this server is called.

    Raises:
        RefusedError: Says what was found.
    """
    if request.headers.get("Host", "").lower() not in hosts:
        raise RefusedError(
            f"the Host header is {request.headers.get('Host', '')[:60]!r}; this server answers to "
            f"{', '.join(sorted(hosts))}",
            HTTPStatus.FORBIDDEN,
            "Forbidden",
        )
    origin = request.headers.get("Origin")
    foreign = origin is not None and _host_of(origin) not in hosts
    if foreign or request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        raise RefusedError(
            "requests from pages of other sites are not answered", HTTPStatus.FORBIDDEN, "Forbidden"
        )


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # as for http://[::1
        return ""


def check_parameters(request: Request) -> dict[str, str]:
    """Return the parameters of an address.

    Raises:
        RefusedError: One is unknown or given twice, or another format than JSON is asked for.
    """
    for name, values in request.args.lists():
        if name not in _PARAMETERS or len(values) > 1:
            raise RefusedError(f"parameter {name[:80]!r} is unknown, or given more than once")
    if request.args.get("f", "json") != "json":
        raise RefusedError("answers are JSON; leave out f, or say f=json")
    for name in ("limit", "offset"):
        if not request.args.get(name, "0").isdecimal() or len(request.args.get(name, "")) > 9:
            raise RefusedError(f"parameter {name} must be a whole number")
    return {**request.args.to_dict(), "f": "json"}


def read_execute(request: Request) -> bytes:
    """Return an execute request as JSON in which nothing is unexpected but the inputs.

    Raises:
        RefusedError: It is no JSON, too large, or asks for what is not offered.
    """
    if request.mimetype != "application/json":
        raise RefusedError(
            "the content type must be application/json",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
        )
    if request.content_length is None or "Transfer-Encoding" in request.headers:
        raise RefusedError("the length must be given", HTTPStatus.LENGTH_REQUIRED, "LengthRequired")
    if request.content_length > MOST_BODY_BYTES:
        raise RefusedError(
            f"a request has at most {MOST_BODY_BYTES} bytes",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "RequestTooLarge",
        )
    content = _parsed(request.get_data())
    if not isinstance(content, dict):
        raise RefusedError("an execute request is a JSON object with 'inputs'")
    if unknown := sorted(content.keys() - _KNOWN):
        raise RefusedError(f"{unknown[0][:80]!r} is no part of an execute request")
    if "subscriber" in content:
        raise RefusedError(
            "callbacks (subscriber) are not offered: ask for the job's status instead"
        )
    if "inputs" not in content:
        raise RefusedError("the request has no 'inputs'", code="MissingParameterValue")
    if not isinstance(content["inputs"], dict):
        raise RefusedError("'inputs' is an object: a value for each name")
    if content.get("response", "raw") not in ("raw", "document"):
        raise RefusedError("'response' is raw or document")
    _check_outputs(content.get("outputs"))
    return json.dumps(content).encode()


def _check_outputs(outputs: Any) -> None:
    if outputs is None:
        return
    if not isinstance(outputs, dict) or (unknown := sorted(outputs.keys() - OUTPUTS.keys())):
        told = f", found {unknown[0][:80]!r}" if isinstance(outputs, dict) else ""
        raise RefusedError(f"'outputs' is an object with some of {', '.join(OUTPUTS)}{told}")
    for name, wanted in outputs.items():
        if wanted not in ({}, {"transmissionMode": "value"}):
            raise RefusedError(f"output {name!r} is given by value; say {{}}")


def _parsed(body: bytes) -> Any:
    """Return JSON as the standard has it: without NaN, and no name twice."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no number of JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name is given twice")
        return found

    try:
        content = json.loads(body.decode(), parse_constant=refuse, object_pairs_hook=once)
    except RecursionError as error:
        raise RefusedError("the body is nested too deeply") from error
    except ValueError as error:  # UnicodeDecodeError is one
        raise RefusedError(f"the body is not JSON: {error}") from error
    if _depth(content) > _MOST_DEPTH:
        raise RefusedError("the body is nested too deeply")
    return content


def _depth(content: Any, above: int = 0) -> int:
    """Return how deeply something is nested, at most one more than is allowed."""
    if above > _MOST_DEPTH or not isinstance(content, dict | list):
        return above
    parts = content.values() if isinstance(content, dict) else content
    return max((_depth(part, above + 1) for part in parts), default=above + 1)
