"""What one chunk costs Redis: python -m benchmarks.fleet.redis_load

Sends what a controller and a worker send for a chunk of 30 s (a message, lease, a mark a batch and
window, a sign of life a second, the receipt) to an embedded Redis through the product's own code,
without the work between, and reads the CPU seconds that Redis itself counts. No pipelining across
chunks and one client: the figure is Redis' own cost, not the network's.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from headrace.coordination.leases import (
    FORWARD,
    LeaseBook,
    Mark,
)
from headrace.queue.celery_config import make_sender
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.redis_connection import celery_url, connect
from headrace.queue.redis_queue import RedisQueue
from schemas.names import redis_keys
from schemas.records.message import ScoreChunk

BATCHES = 60  # batches of half a second in 30 s
WINDOWS = 10  # tokenizer windows
SIGNS = 30  # one a second
JOB = "0123456789abcdef-01234567"


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--chunks", type=int, default=300)
    chunks = asked.parse_args().chunks
    with EmbeddedRedis() as server:
        client = connect(server.url, name="load")
        sender = make_sender(celery_url(server.url))
        before, began = cpu_s(client), time.perf_counter()
        commands = -int(client.info("stats")["total_commands_processed"])
        for chunk in range(chunks):
            one_chunk(client, sender, chunk)
        used, took = cpu_s(client) - before, time.perf_counter() - began
        commands += int(client.info("stats")["total_commands_processed"])
        sender.close()
    a_second = chunks / used
    print(
        f"{chunks} chunks: {commands / chunks:.0f} commands and {1e3 * used / chunks:.1f} ms of Redis a chunk"
    )
    print(
        f"one Redis at full load: {a_second:,.0f} chunks a second ({chunks / took:,.0f} by this one client)"
    )
    print(f"workers at 30 s a chunk and half that load: {a_second / 2 * 30:,.0f}")


def one_chunk(client: Any, sender: Any, chunk: int) -> None:
    """Everything that is said about a chunk, in the order it is said."""
    message = ScoreChunk(job=JOB[:16], output="s3://b/o", chunks=(chunk,))
    RedisQueue(client, sender).send(message, "default")
    client.brpop(redis_keys.QUEUE_PREFIX + "default", timeout=1)
    book = LeaseBook(client, JOB, 30)
    mark = Mark(f"attempt-{chunk}", "w1", limit_s=600)
    book.take(chunk, mark)
    for n in range(BATCHES + WINDOWS):
        mark = mark.doing(FORWARD, time.time(), rows=tuple(range(n, n + 64)))
        book.hold(chunk, mark)
    for _ in range(SIGNS):
        sign(client, chunk)
    receipt = json.dumps({"chunk": chunk, "rows": 4_000, "filler": "x" * 400})
    pipe = client.pipeline(transaction=True)
    pipe.hset(redis_keys.done(JOB), str(chunk), receipt)
    for name in ("done_chunks", "done_rows", "ok_rows", "error_rows", "tokens"):
        pipe.hincrby(redis_keys.job(JOB), name, 1)
    pipe.execute()
    book.release(chunk, mark.attempt)


def sign(client: Any, chunk: int) -> None:
    """A heartbeat, as `workers.execution.lease_keeper` sends it."""
    now = time.time()
    pipe = client.pipeline(transaction=False)
    pipe.hset(
        redis_keys.live(JOB), f"attempt-{chunk}", '{"chunk": 1, "rows": 1000, "stage": "forward"}'
    )
    pipe.expire(redis_keys.live(JOB), redis_keys.JOB_LIFE_S)
    pipe.hset(redis_keys.worker("w1"), mapping={"seen_s": now, "hand": "{}", "queue": "default"})
    pipe.expire(redis_keys.worker("w1"), redis_keys.WORKER_LIFE_S)
    pipe.zadd(redis_keys.WORKERS, {"w1": now})
    pipe.expire(redis_keys.WORKERS, redis_keys.WORKER_LIFE_S)
    pipe.hmget(redis_keys.job(JOB), "cancelled", "paused")
    pipe.execute()


def cpu_s(client: Any) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])


if __name__ == "__main__":
    main()
