"""The application: its routes, the limits around them, and errors in OpenAI's format."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from headrace.process.logs import get_logger
from producers.gateway import batches_api, jobs_api
from producers.gateway.access.limits import Limits, LoopbackHosts
from producers.gateway.batches.keeper import Keeper
from producers.gateway.console import routes as console
from producers.gateway.console.pages import PREFIX, error_page
from producers.gateway.files import files_api
from producers.gateway.problems import Problem, problem_of
from producers.gateway.state import Gateway
from schemas.errors import HeadraceError
from schemas.versions import versions

log = get_logger(__name__)

PROBLEM: dict[int | str, dict[str, Any]] = {
    code: {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for code, text in (
        (400, "the request has no meaning"),
        (401, "no key, or a wrong one"),
        (403, "the key may not do this"),
        (404, "not there, or another's"),
        (409, "it is not in a state for this"),
        (413, "too large"),
        (429, "over the quota; see Retry-After"),
        (503, "the broker or the store does not answer"),
    )
}
PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def create_app(gateway: Gateway) -> Any:
    """The ASGI application of this gateway; its keeper runs while it is served."""

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.keeper.start()
        try:
            yield
        finally:
            await run_in_threadpool(app.state.keeper.close)
            gateway.close()

    app = FastAPI(
        title="headrace", version=versions()["headrace"], lifespan=life, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json", responses=PROBLEM,
        description="Batches of requests as OpenAI has them, and jobs over addresses.",
    )  # fmt: skip
    app.state.gateway = gateway
    app.state.keeper = Keeper(gateway)
    for api in (files_api, batches_api, jobs_api):
        app.include_router(api.router)
    app.include_router(console.router)
    app.add_api_route("/healthz", healthz, methods=["GET"], tags=["health"])
    _answer_errors(app)
    _describe_problems(app)
    served: Any = Limits(app, gateway.settings.gateway_file_bytes)
    return served if gateway.needs_keys else LoopbackHosts(served)


def healthz() -> dict[str, str]:
    """Health check: this process answers."""
    return {"status": "ok"}


def _answer_errors(app: FastAPI) -> None:
    async def problem(request: Request, error: Exception) -> Response:
        found = as_problem(error)
        is_page = request.url.path.startswith(PREFIX)
        return error_page(request, found) if is_page else _response(found)

    for kind in (Problem, HeadraceError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, problem)


def as_problem(error: Exception) -> Problem:
    """Any error as a response; errors of other libraries are logged, and shown without their text."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HeadraceError):
        return problem_of(error)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        return Problem(400, f"{param or 'body'}: {first['msg']}", code="invalid_value", param=param)
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    log.error("gateway.failed", error=error)
    return Problem(500, "the gateway met an error; its log says which", code="internal_error")


def _response(problem: Problem) -> Response:
    return JSONResponse(problem.body(), problem.status, headers=problem.headers)


def _describe_problems(app: FastAPI) -> None:
    """The OpenAPI page with our errors in place of FastAPI's own."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        page = made()
        schemas = page.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = PROBLEM_SCHEMA
        for operations in page["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return page

    app.openapi = openapi  # type: ignore[method-assign]
