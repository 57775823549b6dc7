"""The pages of jobs: the list, one job with its buttons, and submission with an estimate first."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from headrace.tasks.catalog import BUILT_IN
from producers.capacity.device_hint import guess_device
from producers.driver.job_setup import estimate_job, local_workers, prepare_job
from producers.gateway import jobs
from producers.gateway.access.callers import Caller, Reader, State, Submitter
from producers.gateway.console.pages import PREFIX, check_token, page
from producers.gateway.problems import Problem, problem_of
from producers.gateway.state import Gateway
from producers.inspection.explain import explain, render_explanation
from producers.records.snapshot import Snapshot
from producers.submission.estimate import Estimate
from schemas.errors import HeadraceError
from schemas.names import output_layout
from schemas.records.manifest import JobState

router = APIRouter(include_in_schema=False)

PAGE_ROWS = 50
LIVE_S = 5
STATES: tuple[JobState, ...] = ("running", "paused", "finished", "failed", "cancelled")
Text = Annotated[str, Form(max_length=2_048)]
Token = Annotated[str, Form(max_length=128)]
FIELDS = ("input", "output", "task", "model", "text_column", "id_column", "columns")


@router.get("/jobs")
def jobs_page(
    request: Request,
    gateway: State,
    caller: Reader,
    state: Annotated[str, Query(max_length=16)] = "",
    text: Annotated[str, Query(max_length=200)] = "",
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """The caller's jobs, fifty a page."""
    found = [
        entry
        for entry in jobs.entries(gateway, caller)
        if state in ("", entry.state) and (not text or text in entry.output or text in entry.id)
    ]
    shown = [(jobs.key_of(entry), entry) for entry in found[offset : offset + PAGE_ROWS]]
    return page(
        request, "jobs", jobs=shown, total=len(found), offset=offset, step=PAGE_ROWS, state=state,
        text=text, states=STATES,
    )  # fmt: skip


@router.get("/jobs/{job_id}")
def job_page(
    job_id: str,
    request: Request,
    gateway: State,
    caller: Reader,
    row: Annotated[str, Query(max_length=1_024)] = "",
) -> Response:
    """One job; loaded again every few seconds while it runs."""
    found = jobs.find(gateway, caller, job_id)
    now = jobs.snapshot(gateway, found)
    has_report = found.store.head(output_layout.REPORT) is not None
    return page(
        request, "job", refresh_s=LIVE_S if not now.is_over and not row else None, id=job_id,
        now=now, pace=_pace(now, time.time()), stages=_shares(now), has_report=has_report, row=row,
        explained=_explained(found, row), may_submit="submit" in caller.key.scopes,
    )  # fmt: skip


@router.post("/jobs/{job_id}/{action}")
def job_action(
    job_id: str,
    action: Literal["pause", "resume", "cancel", "retry"],
    request: Request,
    gateway: State,
    caller: Submitter,
    csrf: Token = "",
) -> Response:
    """Handles a button on a job's page."""
    check_token(request, csrf)
    found = jobs.find(gateway, caller, job_id)
    if action == "pause":
        jobs.stop(found, "paused")
    elif action == "cancel":
        jobs.stop(found, "cancelled")
    elif action == "resume":
        jobs.resume(gateway, found)
    else:
        jobs.retry(gateway, found)
    return RedirectResponse(f"{PREFIX}/jobs/{job_id}", 303)


@router.get("/submit")
def submit_page(request: Request, caller: Submitter) -> Response:
    """An empty form."""
    return _form(request, {})


@router.post("/submit")
def submit_form(
    request: Request,
    gateway: State,
    caller: Submitter,
    csrf: Token = "",
    step: Literal["estimate", "submit"] = Form("estimate"),
    input: Text = "",
    output: Text = "",
    task: Text = "",
    model: Text = "",
    text_column: Text = "",
    id_column: Text = "",
    columns: Text = "",
) -> Response:
    """Handles the form: first shows an estimate, then submits."""
    check_token(request, csrf)
    values = (input, output, task, model, text_column, id_column, columns)
    given = {name: value.strip() for name, value in zip(FIELDS, values, strict=True)}
    inputs = [line.strip() for line in input.splitlines() if line.strip()]
    options: dict[str, Any] = {k: v for k, v in given.items() if v and k not in ("input", "output")}
    if "columns" in options:
        options["columns"] = tuple(c.strip() for c in options["columns"].split(",") if c.strip())
    try:
        if not inputs or not given["output"]:
            raise Problem(400, "name an input and an output")
        if step == "submit":
            job, _, _ = jobs.submit(gateway, caller, inputs, given["output"], options)
            return RedirectResponse(f"{PREFIX}/jobs/{job.key}", 303)
        found = _estimate(gateway, caller, inputs, given["output"], options)
    except HeadraceError as error:
        problem = problem_of(error)
        return _form(request, given, problem.status, wrong=problem.message)
    except Problem as problem:
        return _form(request, given, problem.status, wrong=problem.message)
    return _form(request, given, estimate=found)


def _form(
    request: Request, given: dict[str, str], status: int = 200, *, wrong: str = "",
    estimate: Estimate | None = None,
) -> Response:  # fmt: skip
    blank = dict.fromkeys(FIELDS, "") | {"task": "text-classification"}
    return page(
        request, "submit", status, given=blank | given, wrong=wrong, estimate=estimate,
        tasks=[name for name in BUILT_IN if name != "fake"],
    )  # fmt: skip


def _estimate(
    gateway: Gateway, caller: Caller, inputs: list[str], output: str, options: dict[str, Any]
) -> Estimate:
    settings = jobs.job_settings(gateway, caller, inputs, output, options)
    workers = local_workers(settings, guess_device("cpu"))
    prepared = prepare_job(settings, inputs, output, workers, guess_device("cpu"))
    return estimate_job(settings, prepared, workers, None)


def _pace(now: Snapshot, now_s: float) -> tuple[float, float | None]:
    """Rows per second since the submission, and seconds left; None: not known."""
    seen = now.rows_done + now.rows_live
    rate = seen / max(1e-9, (now.finished_s or now_s) - now.submitted_s)
    left = (now.rows - seen) / rate if rate > 0 and not now.is_over else None
    return rate, left


def _shares(now: Snapshot) -> list[tuple[str, float]]:
    total = sum(now.stages_s.values())
    return [(stage, s / total) for stage, s in list(now.stages_s.items())[:6] if total]


def _explained(found: jobs.Found, row: str) -> str:
    """The explanation of a row, or why there is none."""
    if not row:
        return ""
    try:
        return render_explanation(explain(found.store, row))
    except HeadraceError as error:
        return str(error)
