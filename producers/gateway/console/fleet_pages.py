"""The pages of workers, of models with their aliases, and of comparisons of two outputs."""

from __future__ import annotations

from typing import Annotated, Any

import redis
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from headrace.coordination.excluded_hosts import read_excluded
from headrace.coordination.live_workers import LiveWorker, read_workers
from headrace.coordination.redis_clock import redis_now
from headrace.models.registry import open_model_registry
from producers.gateway import jobs
from producers.gateway.access.callers import Admin, Caller, Reader, State
from producers.gateway.console.pages import PREFIX, check_token, page
from producers.gateway.problems import Problem
from producers.gateway.state import Gateway
from producers.quality.comparison import Compared, compare
from producers.quality.gold_entities import finds_entities
from producers.quality.pairs.compared_entities import ComparedEntities, compare_entities
from schemas.errors import HeadraceError
from schemas.records.model_version import NAME

router = APIRouter(include_in_schema=False)

LIVE_S = 5
OFFERED = 50
"""Finished jobs that can be chosen for a comparison, the latest."""
MOST_ROWS = 500_000
"""Chosen: a comparison of more takes minutes, in which a browser gives up."""
FLOWS = 15

Name = Annotated[str, Form(max_length=64, pattern=f"^{NAME}$")]


@router.get("/workers")
def workers_page(request: Request, gateway: State, caller: Reader) -> Response:
    """The live workers and what each does. Only an admin sees whose job it is."""
    now_s, workers, excluded, wrong = 0.0, list[LiveWorker](), list[Any](), ""
    with gateway.broker_if_there() as broker:
        try:
            if broker is None:
                raise redis.ConnectionError
            now_s = redis_now(broker.client)
            workers = list(read_workers(broker.client, now_s))
            excluded = list(read_excluded(broker.client).values())
        except redis.RedisError:
            wrong = "the broker does not answer"
    return page(
        request, "workers", refresh_s=LIVE_S, workers=workers, excluded=excluded, now_s=now_s,
        wrong=wrong, sees_all=caller.sees_all,
    )  # fmt: skip


@router.get("/models")
def models_page(request: Request, gateway: State, caller: Reader) -> Response:
    """Models with their versions and where aliases point."""
    registry = open_model_registry(gateway.settings)
    found = [(name, registry.versions(name), registry.aliases(name)) for name in registry.names()]
    named = sorted(gateway.models.items()) if caller.sees_all else []
    return page(request, "models", models=found, named=named, may_promote=caller.sees_all)


@router.post("/models/promote")
def promote(
    request: Request,
    gateway: State,
    caller: Admin,
    name: Name,
    alias: Name,
    version: Annotated[int, Form(ge=1, le=10**9)],
    seen: Annotated[int, Form(ge=0, le=10**9)],
    csrf: Annotated[str, Form(max_length=128)] = "",
) -> Response:
    """Point an alias at a version, unless another did so since the page was loaded."""
    check_token(request, csrf)
    open_model_registry(gateway.settings).promote(
        name, alias, version, seen=seen, by=caller.key.name, why="console"
    )
    return RedirectResponse(f"{PREFIX}/models", 303)


@router.get("/comparisons")
def comparisons_page(
    request: Request,
    gateway: State,
    caller: Reader,
    a: Annotated[str, Query(max_length=64)] = "",
    b: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Which labels or entities change from one finished job to another over the same rows."""
    finished = [e for e in jobs.entries(gateway, caller) if e.state == "finished"][:OFFERED]
    found, wrong, status = None, "", 200
    try:
        found = _compared(gateway, caller, a, b) if a and b else None
    except HeadraceError as error:
        wrong, status = str(error), 400
    return page(
        request, "comparisons", status, offered=[(jobs.key_of(e), e) for e in finished], a=a, b=b,
        found=found, of_entities=isinstance(found, ComparedEntities), wrong=wrong, flows=FLOWS,
    )  # fmt: skip


def _compared(gateway: Gateway, caller: Caller, a: str, b: str) -> Compared | ComparedEntities:
    one, two = jobs.find(gateway, caller, a), jobs.find(gateway, caller, b)
    if max(one.job.rows, two.job.rows) > MOST_ROWS:
        raise Problem(
            400, f"above {MOST_ROWS:,} rows, use headrace compare: it takes longer than a page may"
        )
    if finds_entities(one.store):
        return compare_entities(one.store, two.store)
    return compare(one.store, two.store)
