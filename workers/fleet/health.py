"""A fleet's health over HTTP, for Kubernetes: alive, ready, and what each worker does.

| path | answer |
| --- | --- |
| `/livez` | 200 while the fleet's loop runs |
| `/readyz` | 200 while Redis answers and, if workers are wanted, one of them serves |
| `/status` | each slot: queue, device, state, model, current chunks, seconds since progress |
| `/metrics` | Prometheus text: metrics of this host's workers, including those that have ended |

A serving worker is connected to the queue. It loads its model at the first message, since the
message names the model. A worker that hangs ends itself (`batch_timeout_s`), so liveness does not
check for it: restarting a pod for one slow batch would lose all its chunks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.coordination.live_workers import WorkInHand
from headrace.process.http_server import Reply, serve_http
from headrace.telemetry.prometheus import CONTENT_TYPE, exposition_of_files
from workers.fleet.supervisor import Supervisor, WorkerProcess
from workers.fleet.worker_status import WorkerStatusPoller

STUCK_S = 30.0  # chosen: the loop runs ten times per second


@contextlib.contextmanager
def serve_health(
    listen: str | None, fleet: Supervisor, watch: WorkerStatusPoller, metrics: Path | None = None
) -> Iterator[int | None]:
    """Serve while the block runs; yields the port, or None if no address was given.

    `metrics` is the folder in which the workers keep their metrics.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    if listen is None:
        yield None
        return
    routes = {
        "/livez": lambda query: _live(fleet),
        "/readyz": lambda query: _ready(fleet, watch),
        "/status": lambda query: Reply(status_of(fleet, watch, time.time())),
    }
    if metrics is not None:
        routes["/metrics"] = lambda query: Reply(
            exposition_of_files(metrics), content_type=CONTENT_TYPE
        )
    with serve_http(listen, routes) as port:
        yield port


def _live(fleet: Supervisor) -> Reply:
    alive = time.monotonic() - fleet.beat_monotonic < STUCK_S or fleet.stopping.is_set()
    return Reply({"alive": alive}, 200 if alive else 503)


def _ready(fleet: Supervisor, watch: WorkerStatusPoller) -> Reply:
    wanted = [c for c in list(fleet.children) if c.queue is not None]
    serving = sum(c.slot.name in watch.doing for c in wanted)
    ready = watch.redis_answers and not fleet.stopping.is_set() and (serving > 0 or not wanted)
    body = {
        "ready": ready,
        "redis": watch.redis_answers,
        "wanted": len(wanted),
        "serving": serving,
        "draining": fleet.stopping.is_set(),
    }
    return Reply(body, 200 if ready else 503)


def status_of(fleet: Supervisor, watch: WorkerStatusPoller, now_at: float) -> dict[str, Any]:
    """The body of `/status`."""
    return {"workers": [_worker(c, watch, now_at) for c in list(fleet.children)]}


def _worker(child: WorkerProcess, watch: WorkerStatusPoller, now_at: float) -> dict[str, Any]:
    doing = watch.doing.get(child.slot.name)
    told = {
        "name": child.slot.name,
        "queue": child.queue,
        "device": child.slot.device,
        "cores": list(child.slot.cores),
        "state": child.state,
        "restarts_in_a_row": child.short_lives,
        "exit_code": child.exit_code,
        "reason": child.reason,
        "moves": child.moves,
        "serves": doing is not None,
    }
    if doing is None:
        return told
    return told | {
        "model": doing.model or None,
        "hand": _in_hand(doing.work),
        "seen_s_ago": round(now_at - doing.seen_at, 1),
        "progress_s_ago": round(now_at - doing.progress_at, 1),
    }


def _in_hand(work: WorkInHand) -> dict[str, Any] | None:
    attempts = work.attempts or {}
    chunks = {str(chunk): attempt for chunk, attempt in attempts.items()}
    return {"job": work.job, "chunks": chunks} if work.job else None
