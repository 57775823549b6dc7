"""`status`, `list`, `watch`: the state of jobs, for people and for programs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from headrace.coordination.excluded_hosts import ExcludedHost, host_of, read_excluded
from headrace.coordination.live_workers import LiveWorker, read_workers
from headrace.coordination.redis_clock import redis_now
from headrace.process.numbers import duration
from headrace.process.signals import interruptible
from producers.commands.run import progress, show
from producers.commands.session import Session
from producers.driver.drive import Interrupted, follow
from producers.driver.job_end import job_end
from producers.driver.session import Broker, broker_if_any, find_job, needed_broker
from producers.records.job_registry import open_registry
from producers.records.snapshot import NO_REDIS, REDIS_DOWN, Snapshot, take_snapshot
from producers.terminal.console import columns, command, plain
from producers.terminal.progress import stage_shares
from schemas.errors import ExitCode
from schemas.records.job import Job


def show_status(session: Session, where: str) -> int:
    """One job."""
    settings = session.settings
    job, store = find_job(where, settings)
    broker = broker_if_any(settings, job)
    without = NO_REDIS if settings.broker_url is None else REDIS_DOWN
    now = take_snapshot(store, job, broker.client if broker else None, without=without)
    if broker is not None:
        broker.close()
    if session.as_json:
        session.terminal.print_json(now.to_json())
        return ExitCode.OK
    for label, value in lines_of(now, time.time()):
        session.terminal.say(f"{label:<10}{value}")
    return ExitCode.OK


def lines_of(now: Snapshot, now_s: float) -> list[tuple[str, str]]:
    """The state of a job for people, as labels and texts."""
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
    if now.rows_copied:
        lines.insert(4, ("copied", f"{now.rows_copied:,} rows, from an earlier output"))
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


def list_jobs(session: Session) -> int:
    """The jobs the registry knows, newest first."""
    terminal = session.terminal
    entries = sorted(open_registry(session.settings).list(), key=lambda e: -e.submitted_s)
    if session.as_json:
        terminal.print_json(
            [
                {"job": e.id, "output": e.output, "state": e.state, "submitted_s": e.submitted_s}
                for e in entries
            ]
        )
        return ExitCode.OK
    if not entries:
        terminal.say("no jobs yet: headrace run --help")
        return ExitCode.OK
    table = columns("job", "state", "submitted", "output")
    for e in entries:
        submitted = time.strftime("%Y-%m-%d %H:%M", time.localtime(e.submitted_s))
        table.add_row(e.id, e.state, submitted, plain(e.output))
    terminal.show(table)
    return ExitCode.OK


def list_workers(session: Session) -> int:
    """Show the live workers and the current work of each.

    Raises:
        ConfigError: no broker was named. BrokerError: it does not answer.
    """
    client = needed_broker(session.settings).client
    now_s = redis_now(client)  # the workers' times are by Redis's clock
    terminal = session.terminal
    workers = read_workers(client, now_s)
    if workers.invalid:
        are = "record in Redis is" if workers.invalid == 1 else "records in Redis are"
        terminal.note(f"{workers.invalid} {are} not a worker's and left out")
    excluded = read_excluded(client)
    if session.as_json:
        terminal.print_json(
            [w.to_json() | {"excluded": _why_excluded(w, excluded)} for w in workers]
        )
        return ExitCode.OK
    if not workers:
        terminal.say("no worker is there: headrace-worker start --help")
        return ExitCode.OK
    table = columns("worker", "queue", "device", "model", "current", "progress", "last seen")
    for w in workers:
        chunks = ", ".join(map(str, w.chunks))
        hand = f"{w.job[:16]} chunk {chunks}" if w.is_busy else "–"
        progress = "–" if w.progress_s is None else f"{now_s - w.progress_s:.0f} s ago"
        seen = f"{now_s - w.seen_s:.0f} s ago"
        cells = (w.name, w.queue, w.device, w.model or "–", hand, progress, seen)
        table.add_row(*map(plain, cells))
    terminal.show(table)
    for host in excluded.values():
        left = duration(max(0.0, host.until_s - now_s))
        terminal.say(f"{host.host} gets no work for {left}: {host.cause}: {host.message}")
    return ExitCode.OK


def _why_excluded(
    worker: LiveWorker, excluded: Mapping[str, ExcludedHost]
) -> dict[str, Any] | None:
    """Why a worker's host gets no work; None: it gets work."""
    found = excluded.get(host_of(worker.name))
    if found is None:
        return None
    return {"cause": found.cause, "message": found.message, "until_s": found.until_s}


_BY_FILES = (
    "watching the files of the output: whole chunks only, and no workers. For more name the job's "
    "Redis: --broker URL"
)


def watch_job(session: Session, where: str) -> int:
    """Follow a job that another process reconciles."""
    settings, terminal = session.settings, session.terminal
    job, store = find_job(where, settings)
    now = take_snapshot(store, job, None)
    if now.finished_s is None:
        broker = _broker(session, job)
        if broker is None:
            terminal.note(_BY_FILES)
        try:
            with interruptible() as stop, progress(session) as on_progress:
                now = follow(job, store, broker, None, on_progress, stop)
        except Interrupted:
            again = command("watch", job.id)
            terminal.note(f"no longer watching; the job continues: {again}")
            return ExitCode.INTERRUPTED
        finally:
            if broker is not None:
                broker.close()
    return show(session, job_end(now, store, (now.finished_s or time.time()) - now.submitted_s))


def _broker(session: Session, job: Job) -> Broker | None:
    """The named broker, which must answer; else the one of a run on this machine."""
    settings = session.settings
    return broker_if_any(settings, job) if settings.broker_url is None else needed_broker(settings)
