"""`status`, `list`, `watch`: how jobs stand, for people and for machines."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.table import Table

from headrace.coordination.live_workers import read_workers
from producers.driver.follow import (
    Interrupted,
    conclude,
    follow,
)
from producers.records.snapshot import Snapshot, take_snapshot
from producers.terminal.context import (
    broker_if_any,
    err,
    find_job,
    needed_broker,
    out,
    registry_of,
    settings_of,
)  # fmt: skip
from producers.terminal.progress import duration, stage_shares
from schemas.errors import ExitCode


def show_status(where: str, flags: dict[str, Any], *, as_json: bool) -> int:
    """One job."""
    settings = settings_of(flags)
    job, store = find_job(where, settings)
    broker = broker_if_any(settings, job)
    now = take_snapshot(store, job, broker.client if broker else None)
    if as_json:
        out.print_json(json.dumps(now.to_json()))
        return ExitCode.OK
    for label, value in lines_of(now, time.time()):
        out.print(f"{label:<10}{value}", highlight=False, soft_wrap=True)
    return ExitCode.OK


def lines_of(now: Snapshot, now_s: float) -> list[tuple[str, str]]:
    """What a person reads of a job: labels and words."""
    seen = min(now.rows, now.rows_done + now.rows_live)
    lines = [
        ("job", now.job),
        ("state", now.state + (f" ({now.reason})" if now.reason else "")),
        ("task", f"{now.task} with {now.model}"),
        ("rows", f"{seen:,} of {now.rows:,} ({seen / max(1, now.rows):.0%})"),
        (
            "chunks",
            f"{now.chunks_done:,} of {now.chunks:,} done, {now.chunks_leased} in progress, {now.chunks_parked} parked",
        ),
        ("errors", ", ".join(f"{k} {n:,}" for k, n in now.errors_by_type.items()) or "none"),
        (
            "stages",
            ", ".join(f"{s} {p:.0%}" for s, p in stage_shares(now.stages_s, 6)) or "none yet",
        ),
        ("workers", str(now.workers)),
        ("age", duration((now.finished_s or now_s) - now.submitted_s)),
        ("output", now.output),
    ]
    if now.deadline_s is not None:
        lines.insert(-1, ("deadline", _deadline(now, now.deadline_s, now_s)))
    lines += [("parked", f"chunk {p['chunk']}: {p['cause']}: {p['message']}") for p in now.parked]
    return lines


def _deadline(now: Snapshot, deadline_s: float, now_s: float) -> str:
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(deadline_s))
    left_s = deadline_s - (now.finished_s or now_s)
    if left_s < 0:
        return f"{at}, missed by {duration(-left_s)}" + ("" if now.finished_s else " so far")
    if now.finished_s:
        return f"{at}, met with {duration(left_s)} to spare"
    risk = ": cannot be met safely by the workers allowed" if now.deadline_at_risk else ""
    return f"{at}, in {duration(left_s)}{risk}"


def list_jobs(flags: dict[str, Any], *, as_json: bool) -> int:
    """The jobs the registry knows, newest first."""
    settings = settings_of(flags)
    entries = sorted(registry_of(settings).list(), key=lambda e: -e.submitted_s)
    if as_json:
        found = [
            {"job": e.id, "output": e.output, "state": e.state, "submitted_s": e.submitted_s}
            for e in entries
        ]
        out.print_json(json.dumps(found))
        return ExitCode.OK
    if not entries:
        out.print("no jobs yet: headrace run --help", highlight=False)
        return ExitCode.OK
    table = Table(box=None, pad_edge=False)
    for name in ("job", "state", "submitted", "output"):
        table.add_column(name, overflow="fold")
    for e in entries:
        table.add_row(
            e.id, e.state, time.strftime("%Y-%m-%d %H:%M", time.localtime(e.submitted_s)), e.output
        )
    out.print(table)
    return ExitCode.OK


def list_workers(flags: dict[str, Any], *, as_json: bool) -> int:
    """The workers that showed a sign of life lately, and what each has in hand.

    Raises:
        ConfigError: no broker was named. BrokerError: it does not answer.
    """
    now_s = time.time()
    workers = list(read_workers(needed_broker(settings_of(flags), warn=False).client, now_s))
    if as_json:
        out.print_json(json.dumps([w.to_json() for w in workers]))
        return ExitCode.OK
    if not workers:
        out.print("no worker is there: headrace-worker start --help", highlight=False)
        return ExitCode.OK
    table = Table(box=None, pad_edge=False)
    for name in ("worker", "queue", "device", "model", "current", "progress", "last seen"):
        table.add_column(name, overflow="fold")
    for w in workers:
        chunks = ", ".join(map(str, w.chunks))
        hand = f"{w.job[:16]} chunk {chunks}" if w.is_busy else "–"
        progress = "–" if w.progress_s is None else f"{now_s - w.progress_s:.0f} s ago"
        seen = f"{now_s - w.seen_s:.0f} s ago"
        table.add_row(w.name, w.queue, w.device, w.model or "–", hand, progress, seen)
    out.print(table)
    return ExitCode.OK


_BY_FILES = (
    "watching the files of the output: whole chunks only, and no workers. For more name the job's "
    "Redis: --broker URL"
)


def watch_job(where: str, flags: dict[str, Any]) -> int:
    """Follow a job that somebody else reconciles."""
    settings = settings_of(flags)
    job, store = find_job(where, settings)
    now = take_snapshot(store, job, None)
    if now.finished_s is None:
        named = settings.broker_url is not None
        broker = needed_broker(settings, warn=False) if named else broker_if_any(settings, job)
        if broker is None:
            err.print(_BY_FILES, highlight=False, soft_wrap=True)
        try:
            now = follow(job, store, broker, None)
        except Interrupted:
            err.print(
                f"no longer watching; the job continues: headrace watch {job.id}", highlight=False
            )
            return ExitCode.INTERRUPTED
    return conclude(
        now, store, as_json=False, seconds=(now.finished_s or time.time()) - now.submitted_s
    )
