"""Answers as OGC API - Processes has them, where pygeoapi's offer more or say less."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

_EXCEPTION = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0"
_TYPES = {
    "NoSuchProcess": f"{_EXCEPTION}/no-such-process",
    "NoSuchJob": f"{_EXCEPTION}/no-such-job",
    "ResultNotReady": f"{_EXCEPTION}/result-not-ready",
}
_CLASSES = ("core", "ogc-process-description", "json", "oas30", "dismiss")
_NOT_OFFERED = ("/collections", "/TileMatrixSets", "f=html", "f=jsonld", "/asyncapi")
_RESULTS = "http://www.opengis.net/def/rel/ogc/1.0/results"

CONFORMANCE = {
    "conformsTo": [
        "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core",
        "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/json",
        *(f"http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/{name}" for name in _CLASSES),
    ]
}
"""What this server conforms to; pygeoapi would claim HTML, collections and callbacks too."""


def exception(status: int, code: str, said: str) -> dict[str, Any]:
    """Return an exception, by RFC 7807 and with the names that pygeoapi has for it."""
    return {
        "type": _TYPES.get(code, "about:blank"),
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": said,
        "code": code,
        "description": said,
    }


def tidied(content: Any) -> Any:
    """Return an answer of pygeoapi's with links to what is there, and no nulls among its names."""
    if isinstance(content, list):
        return [tidied(part) for part in content]
    if not isinstance(content, dict):
        return content
    result = {key: tidied(part) for key, part in content.items() if part is not None}
    if result.get("rel") == _RESULTS:
        result["title"] = "Results of the job"
    if isinstance(result.get("links"), list):
        done = result.get("status", "successful") == "successful"
        result["links"] = [link for link in result["links"] if _is_offered(link, done)]
    return result


def _is_offered(link: dict[str, Any], done: bool) -> bool:
    if any(part in str(link.get("href")) for part in _NOT_OFFERED) or link.get("rel") == "about":
        return False
    return done or link.get("rel") != _RESULTS


def openapi_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return pygeoapi's description of the interface, less what is not offered."""
    offered = ("/processes", "/jobs", "/conformance", "/openapi")
    paths = {
        path: content
        for path, content in document["paths"].items()
        if path == "/" or path.startswith(offered)
    }
    return {**document, "paths": paths}
