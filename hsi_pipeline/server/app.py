"""The routes: those of OGC API - Processes and nothing else of pygeoapi."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

from flask import Flask, Response, request
from pygeoapi import api as core
from pygeoapi.api import API, APIRequest
from pygeoapi.api import processes as offered
from pygeoapi.openapi import get_oas
from pygeoapi.process.base import JobNotFoundError
from werkzeug.exceptions import HTTPException

from hsi_pipeline.server.answers import CONFORMANCE, exception, openapi_of, tidied
from hsi_pipeline.server.job import outputs_of
from hsi_pipeline.server.jobs import Jobs
from hsi_pipeline.server.processes import PROCESSES
from hsi_pipeline.server.records import ACTIVE
from hsi_pipeline.server.refused import RefusedError
from hsi_pipeline.server.requests import check_origin, check_parameters, read_execute

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
_KEPT = ("Location", "Preference-Applied")


def make_app(
    address: str, hosts: Collection[str], say: Callable[[str], None]
) -> tuple[Flask, Jobs]:
    """Make the application, and the jobs that it answers about.

    Args:
        address: That links begin with.
        hosts: Names and ports by which requests may call this server.
        say: Told of mistakes of this program.
    """
    config = _config(address)
    api = API(config, openapi_of(get_oas(config)))
    app = Flask(__name__, static_folder=None)
    app.url_map.strict_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # nothing is shared with pages of other sites

    @app.before_request
    def check() -> None:
        check_origin(request, hosts)
        request.environ["hsi.parameters"] = check_parameters(request)

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    @app.errorhandler(Exception)
    def refuse(error: Exception) -> Response:
        return _refused(error, say)

    _add_pages(app, api)
    _add_jobs(app, api)
    return app, api.manager


def _config(address: str) -> dict[str, Any]:
    """Return pygeoapi's configuration."""
    title = "Land-cover maps and polygons from hyperspectral scenes"
    manager = f"{Jobs.__module__}.{Jobs.__name__}"
    return {
        "server": {
            "url": address,
            "encoding": "utf-8",
            "language": "en-US",
            "cors": False,
            "pretty_print": False,
            "gzip": False,
            "map": {"url": "", "attribution": ""},
            "limits": {"default_items": 100, "max_items": 1000},
            "manager": {"name": manager},
        },
        "logging": {"level": "CRITICAL"},
        "metadata": {
            "identification": {
                "title": "hsi-pipeline",
                "description": title,
                "keywords": ["land cover", "hyperspectral"],
                "terms_of_service": "none",
                "url": address,
            },
            "license": {"name": "as the data", "url": address},
            "provider": {"name": "hsi-pipeline", "url": address},
            "contact": {"name": "hsi-pipeline", "url": address},
        },
        "resources": {name: {"type": "process", "processor": {"name": name}} for name in PROCESSES},
    }


def _add_pages(app: Flask, api: API) -> None:
    """Add what describes the server."""

    @app.get("/")
    def landing() -> Response:
        return _answered(core.landing_page(api, _asked(api)))

    @app.get("/conformance")
    def conformance() -> Response:
        return _json(CONFORMANCE)

    @app.get("/openapi")
    def openapi() -> Response:
        return _json(api.openapi, kind="application/vnd.oai.openapi+json;version=3.0")

    @app.get("/processes")
    def processes() -> Response:
        return _answered(offered.describe_processes(api, _asked(api)))

    @app.get("/processes/<name>")
    def process(name: str) -> Response:
        return _answered(offered.describe_processes(api, _asked(api), name))


def _add_jobs(app: Flask, api: API) -> None:
    """Add what starts jobs and tells of them."""

    @app.post("/processes/<name>/execution")
    def execute(name: str) -> Response:
        if name not in PROCESSES:  # before the body is read
            raise RefusedError(
                f"there is no process {name[:80]!r}", HTTPStatus.NOT_FOUND, "NoSuchProcess"
            )
        return _answered(offered.execute_process(api, _asked(api, read_execute(request)), name))

    @app.get("/jobs")
    def jobs() -> Response:
        return _answered(offered.get_jobs(api, _asked(api)))

    @app.get("/jobs/<job_id>")
    def job(job_id: str) -> Response:
        _record(api, job_id)
        return _answered(offered.get_jobs(api, _asked(api), job_id))

    @app.delete("/jobs/<job_id>")
    def dismiss(job_id: str) -> Response:
        _record(api, job_id)
        return _answered(offered.delete_job(api, _asked(api), job_id))

    @app.get("/jobs/<job_id>/results")
    def results(job_id: str) -> Response:
        record = _record(api, job_id)
        if record["status"] in ACTIVE:
            raise RefusedError("the job has not ended yet", HTTPStatus.NOT_FOUND, "ResultNotReady")
        return _json(outputs_of(record))


def _record(api: API, job_id: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = api.manager.get_job(job_id)
    except JobNotFoundError as error:
        raise RefusedError(
            f"there is no job {job_id[:80]!r}", HTTPStatus.NOT_FOUND, "NoSuchJob"
        ) from error
    return found


def _asked(api: API, body: bytes = b"") -> APIRequest:
    """Return the request as pygeoapi knows it, with nothing but what was looked at."""
    preferred = request.headers.get("Prefer", "").lower()
    later = any(part.split(";")[0].strip() == "respond-async" for part in preferred.split(","))
    seen = SimpleNamespace(
        args=request.environ["hsi.parameters"],
        headers={"Prefer": "respond-async"} if later else {},
        path_info=request.path,
        data=body,
    )
    return APIRequest.from_flask(seen, api.locales)


def _answered(answer: tuple[dict[str, str], int, str]) -> Response:
    """Return an answer of pygeoapi's."""
    headers, status, text = answer
    content = json.loads(text)
    if status >= HTTPStatus.BAD_REQUEST:
        content = exception(status, content["code"], content["description"])
        return _json(content, status)
    response = _json(tidied(content), status)
    response.headers.update({name: headers[name] for name in _KEPT if name in headers})
    return response


def _refused(error: Exception, say: Callable[[str], None]) -> Response:
    """Return what is wrong with a request, without the insides of the server."""
    if isinstance(error, RefusedError):
        status, code, said = int(error.http_status_code), error.ogc_exception_code, error.message
    elif isinstance(error, HTTPException) and error.code is not None:
        status, code, said = error.code, "NoApplicableCode", HTTPStatus(error.code).phrase
    else:
        say(f"{request.method} {request.path!r} failed: {type(error).__name__}: {error}")
        status, code, said = 500, "InternalError", "the server failed; its terminal shows why"
    return _json(exception(status, code, said), status)


def _json(content: Any, status: int = 200, kind: str = "application/json") -> Response:
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, default=str)
    return Response(text, status, content_type=kind)
