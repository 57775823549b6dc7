"""An empty Celery task through headrace's own Celery settings: what a message costs by itself.

`python -m benchmarks.fleet.empty_celery URL QUEUE` is its worker.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from celery import Celery, shared_task

from benchmarks.fleet.pinning import Pin, keeping
from headrace.queue.celery_config import config, make_sender
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.redis_connection import celery_url, connect

TASKS, ALONE = 2_000, 200
DONE = "bench-done"
QUEUE = "bench"
LIMIT_S = 120


@shared_task(name="benchmarks.empty", ignore_result=True)
def empty(url: str, last: bool) -> None:
    """Nothing; the last one of a run says so."""
    if last:
        connect(url, name="bench").lpush(DONE, 1)


def time_empty_tasks(pin: Pin) -> dict[str, Any]:
    """`ms_each`: of many sent ahead; `ms_alone`: each sent when the one before is done."""
    with EmbeddedRedis() as server:
        client = connect(server.url, name="bench")
        sender = make_sender(celery_url(server.url))
        worker = subprocess.Popen(
            [*pin.command(), sys.executable, "-m", "benchmarks.fleet.empty_celery", server.url],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with keeping(worker.pid, "billiard.spawn", pin):
                _send(sender, server.url, last=True)
                _await(client)  # it is there, and warm
                start = time.perf_counter()
                for n in range(TASKS):
                    _send(sender, server.url, last=n == TASKS - 1)
                _await(client)
                seconds = time.perf_counter() - start
                start = time.perf_counter()
                for _ in range(ALONE):
                    _send(sender, server.url, last=True)
                    _await(client)
                alone = time.perf_counter() - start
        finally:
            worker.terminate()
            worker.wait(30)
            sender.close()
    return {"seconds": seconds, "rows": TASKS, "ms_each": 1e3 * seconds / TASKS,
            "ms_alone": 1e3 * alone / ALONE}  # fmt: skip


def _send(sender: Any, url: str, *, last: bool) -> None:
    sender.send_task("benchmarks.empty", args=[url, last], queue=QUEUE, ignore_result=True)


def _await(client: Any) -> None:
    if client.blpop(DONE, timeout=LIMIT_S) is None:
        raise RuntimeError("the empty task's worker does not answer")


def serve(url: str) -> None:
    app = Celery("bench", include=["benchmarks.fleet.empty_celery"])
    app.conf.update(config(celery_url(url)))
    app.Worker(
        queues=[QUEUE], pool="prefork", consumer_cls="workers.consumer.celery_consumer:Consumer", concurrency=1,
        optimization="fair", without_gossip=True, without_mingle=True, without_heartbeat=True,
        quiet=True, loglevel="ERROR",
    ).start()  # fmt: skip


if __name__ == "__main__":
    serve(sys.argv[1])
