"""The routes of a synchronous worker: one for its task, health and metrics."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import Emitter
from schemas.errors import error_type_of
from workers.online.batcher import Pending, QueueFull
from workers.online.door import Door, Served
from workers.online.metrics import OnlineMetrics
from workers.online.model import Answer, Prepared
from workers.online.request_trace import RequestTrace
from workers.online.routes import TASKS

MOST_TEXTS = 64
"""Texts of one request. Required: the issue names it."""
MOST_BYTES = 4_000_000
BODY_S = 30.0
FORMATS = ("float", "base64")

Show = Callable[[Answer, str], dict[str, Any]]


class Problem(Exception):
    """An answer that is an error, in OpenAI's shape."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def response(self) -> Response:
        kind = "rate_limit_error" if self.status == 429 else "invalid_request_error"
        error = {
            "message": str(self), "type": kind if self.status < 500 else "server_error",
            "param": self.param, "code": self.code,
        }  # fmt: skip
        headers = {"Retry-After": "1"} if self.status == 429 else {}
        return JSONResponse({"error": error}, self.status, headers=headers)


def _embedding(answer: Answer, form: str) -> dict[str, Any]:
    vector = answer.values["embedding"]
    if form == "base64":
        vector = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    return {"object": "embedding", "embedding": vector}


def _classification(answer: Answer, form: str) -> dict[str, Any]:
    values = {k: v for k, v in answer.values.items() if k != "predicted_label"}
    return {"object": "classification", "label": answer.values["predicted_label"], **values}


def _entities(answer: Answer, form: str) -> dict[str, Any]:
    return {"object": "entities", "entities": answer.values["entities"]}


SHOWN: dict[str, Show] = {
    "text-classification": _classification,
    "feature-extraction": _embedding,
    "token-classification": _entities,
}
"""How an answer of each task is shown."""


def create_app(door: Door, metrics: OnlineMetrics, emitter: Emitter | None = None) -> Starlette:
    """The application; the model that is served may change, its task may not."""
    spans = emitter or Telemetry()
    task = door.now.model.task

    async def answer(request: Request) -> Response:
        started, status, code = time.perf_counter(), 500, None
        trace = RequestTrace(spans, "POST", TASKS[task], request.headers.get("traceparent"))
        trace.add(task=task, model=door.now.model.name)
        try:
            response = await _answer(request, door, metrics, trace)
            status = response.status_code
        except Problem as problem:
            response, status, code = problem.response(), problem.status, problem.code
        except Exception as error:
            code = error_type_of(error)
            raise
        finally:
            metrics.request(status, time.perf_counter() - started)
            trace.finish(status, code)
        return response

    async def other(request: Request) -> Response:
        here = f"this model is served at {TASKS[task]}"
        return Problem(404, here, "not_found").response()

    async def ready(request: Request) -> Response:
        now = door.now
        status = 200 if now.batcher.is_alive else 503
        told = {"model": now.model.name, "task": task, "version": now.number}
        return JSONResponse(told, status)

    async def show_metrics(request: Request) -> Response:
        now = door.now
        return PlainTextResponse(
            metrics.text(now.batcher.waiting_tokens, now.batcher.batches, now.number)
        )

    served = dict.fromkeys(TASKS.values(), other) | {TASKS[task]: answer}
    routes = [Route(path, route, methods=["POST"]) for path, route in served.items()]
    for path, get in (("/livez", ready), ("/readyz", ready), ("/metrics", show_metrics)):
        routes.append(Route(path, get, methods=["GET"]))
    return Starlette(routes=routes)


async def _answer(
    request: Request, door: Door, metrics: OnlineMetrics, trace: RequestTrace
) -> Response:
    texts, form = _asked(await _body(request), door.now.model.name)
    trace.add(rows=len(texts))
    served, waiting = await _submitted(texts, door, trace)
    model, answers = served.model, await asyncio.wrap_future(waiting)
    trace.stage_was("forward", waiting.began_ns, time.time_ns())
    bad = next((i for i, a in enumerate(answers) if a.fault is not None), None)
    if bad is not None:
        fault = answers[bad].fault
        assert fault is not None
        raise Problem(422, f"text {bad}: {fault.message}", fault.error_type, "input")
    tokens = sum(a.n_tokens for a in answers)
    metrics.computed(len(answers), tokens)
    trace.add(tokens=tokens, truncated_rows=sum(a.truncated for a in answers))
    show = SHOWN[model.task]
    data = [{"index": i, **show(a, form)} for i, a in enumerate(answers)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    told: dict[str, Any] = {"object": "list", "data": data, "model": model.name, "usage": usage}
    if served.version is not None:
        told["version"] = served.number
    return JSONResponse(told)


async def _submitted(
    texts: list[str], door: Door, trace: RequestTrace
) -> tuple[Served, Pending[list[Answer]]]:
    """The model that answers the texts, and its answers, later.

    Raises:
        Problem: 429, its queue is full.
    """
    # a few short texts are tokenized sooner than a thread is woken
    is_small = sum(map(len, texts)) < 2_000
    while True:
        served = door.now
        prepare = served.model.prepare
        with trace.stage("tokenize"):
            prepared = prepare(texts) if is_small else await _later(prepare, texts)
        try:
            return served, served.batcher.submit(prepared, prepared.cost)
        except QueueFull:
            if door.now is served:
                raise Problem(429, "the queue is full: come back later", "queue_full") from None


async def _later(prepare: Callable[[list[str]], Prepared], texts: list[str]) -> Prepared:
    return await run_in_threadpool(prepare, texts)


async def _body(request: Request) -> bytes:
    """The body, at most `MOST_BYTES`, within `BODY_S`."""
    data = bytearray()

    async def read() -> None:
        async for piece in request.stream():
            data.extend(piece)
            if len(data) > MOST_BYTES:
                raise Problem(413, f"the body is larger than {MOST_BYTES:,} bytes", "too_large")

    try:
        await asyncio.wait_for(read(), BODY_S)
    except TimeoutError:
        raise Problem(408, "the body did not come in time", "slow_body") from None
    except ClientDisconnect:
        raise Problem(400, "the body was cut off", "cut_off") from None
    return bytes(data)


def _asked(body: bytes, name: str) -> tuple[list[str], str]:
    """The texts of a request, and the form of vectors.

    Raises:
        Problem: 400, it has no meaning; 404, it names another model.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, "the body is no JSON", "invalid_json") from None
    if not isinstance(found, dict):
        raise Problem(400, "the body is no JSON object", "invalid_json")
    unknown = found.keys() - {"model", "input", "encoding_format", "user"}
    if unknown:
        raise Problem(400, f"{min(unknown)[:100]} is not served here", "unknown_parameter")
    model = found.get("model", name)
    if model != name:
        raise Problem(404, f"this worker serves {name}", "model_not_found", "model")
    form = found.get("encoding_format", "float")
    if form not in FORMATS:
        raise Problem(400, "encoding_format is float or base64", "invalid_value", "encoding_format")
    given = found.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise Problem(400, "input is a text or a list of texts", "invalid_value", "input")
    if len(texts) > MOST_TEXTS:
        raise Problem(400, f"input has more than {MOST_TEXTS} texts", "invalid_value", "input")
    if any("\ud800" <= c <= "\udfff" for t in texts for c in t):
        raise Problem(400, "a text is not valid Unicode", "invalid_value", "input")
    return texts, form
