"""A thousand workers against one real Redis: python -m benchmarks.fleet.thousand_workers [--workers N]

The workers are clients that say what a worker says (messages, leases, a mark a batch, a sign of
life a second, receipts) without the work between. The Redis, the controller and its endpoint are
the product's own, in processes of their own; hosts of eight ask the endpoint every two seconds.
Shown: how late heartbeats were answered, leases lost, Redis' CPU, the controller's ticks.
"""

from __future__ import annotations

import argparse
import heapq
import http.client
import itertools
import json
import multiprocessing
import random
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.coordination.leases import (
    FORWARD,
    LeaseBook,
    Mark,
)
from headrace.coordination.live_workers import heartbeat
from headrace.queue.celery_config import make_sender
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.kombu_layout import message_in
from headrace.queue.redis_connection import connect
from headrace.settings import load_settings
from producers.control.controller import Controller
from producers.scaling.endpoint import Liveness, serve_scaling
from schemas.names import output_layout, redis_keys
from tests.fake_jobs import FakeJob, make_job

LEASE_S = 30.0
BATCH_S = 0.5
SIGN_S = 1.0
TICK_S = 0.5
HOST_WORKERS = 8
START_S = 20.0  # the workers come within this, as machines do
WARM_S = 30.0  # before it nothing is counted
TOGETHER = 64
"""Workers whose words go to Redis in one pipeline: the clients of the simulation, not of a fleet."""


@dataclass(order=True)
class Worker:
    """One worker: its current chunks, and when its next heartbeat is due. Times as `time.monotonic`."""

    due_s: float
    name: str = field(compare=False)
    chunks: list[int] = field(default_factory=list, compare=False)
    mark: str = field(default="", compare=False)
    """The batch on its device; made once a chunk, for a real worker's cost is not ours."""
    ends_s: float = field(default=0.0, compare=False)
    signs_s: float = field(default=0.0, compare=False)


@dataclass
class Seen:
    """What the workers saw."""

    late_s: list[float] = field(default_factory=list)
    lost: int = 0
    done: int = 0
    empty: int = 0


class Crowd:
    """All workers, on one connection."""

    def __init__(self, url: str, job: FakeJob, count: int, chunk_s: float) -> None:
        self.client = connect(url, name="crowd")
        self.book = LeaseBook(self.client, job.job.key, LEASE_S)
        self.key, self.output = job.job.key, Path(job.job.output)
        (self.output / output_layout.DATA).mkdir(parents=True, exist_ok=True)
        self.chunk_s = chunk_s
        self.client.script_load(self.book._hold.script)
        self.seen, self.rng = Seen(), random.Random(1)
        now = time.monotonic()
        self.warm_s = now + WARM_S
        self.workers = [Worker(now + n * START_S / count, f"w{n}") for n in range(count)]
        heapq.heapify(self.workers)

    def run(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            wait_s = self.workers[0].due_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            now = time.monotonic()
            due = []
            while self.workers and self.workers[0].due_s <= now and len(due) < TOGETHER:
                due.append(heapq.heappop(self.workers))
            self._speak(due)
            for worker in due:
                heapq.heappush(self.workers, worker)

    def _speak(self, due: Sequence[Worker]) -> None:
        self._receive([w for w in due if not w.chunks])
        pipe = self.client.pipeline(transaction=False)
        asked = [self._say(pipe, w) for w in due]
        answers = iter(pipe.execute())
        now = time.monotonic()
        for worker, (count, holds) in zip(due, asked, strict=True):
            told = list(itertools.islice(answers, count))
            self.seen.lost += holds and not told[0]
            if now > self.warm_s:
                self.seen.late_s.append(now - worker.due_s)
            worker.due_s += BATCH_S if worker.chunks else SIGN_S

    def _receive(self, free: Sequence[Worker]) -> None:
        """The next messages, as workers take them, and the leases of their chunks."""
        pipe = self.client.pipeline(transaction=False)
        for _ in free:
            pipe.rpop(redis_keys.QUEUE_PREFIX + "default")
        got = [(w, message_in(raw)) for w, raw in zip(free, pipe.execute(), strict=True) if raw]
        self.seen.empty += len(free) - len(got) if time.monotonic() > self.warm_s else 0
        pipe = self.client.pipeline(transaction=False)
        wanted = [(w, c) for w, message in got if message is not None for c in message.chunks]
        for worker, chunk in wanted:
            mark = Mark(f"{worker.name}-{chunk}", worker.name, limit_s=600)
            self.book._take(
                keys=[redis_keys.lease(self.key, chunk), redis_keys.marks(self.key)],
                args=[
                    mark.attempt,
                    int(LEASE_S * 1000),
                    chunk,
                    mark.dumps(),
                    redis_keys.JOB_LIFE_S,
                ],
                client=pipe,
            )
        for (worker, chunk), (taken, _) in zip(wanted, pipe.execute(), strict=True):
            if taken:
                worker.chunks.append(chunk)
        for worker, _ in got:
            self._begin(worker)

    def _begin(self, worker: Worker) -> None:
        worker.ends_s = time.monotonic() + self.chunk_s * self.rng.uniform(0.8, 1.2)
        if worker.chunks:
            mark = Mark(f"{worker.name}-{worker.chunks[0]}", worker.name, limit_s=600)
            worker.mark = mark.doing(FORWARD, time.time(), rows=tuple(range(64))).dumps()

    def _say(self, pipe: Any, worker: Worker) -> tuple[int, bool]:
        """A batch's mark, a sign if it is time, a commit if the chunk is over: how many commands."""
        before, holds = len(pipe), bool(worker.chunks)
        if holds:
            self._hold(pipe, worker, worker.chunks[0], worker.mark)
        now = time.monotonic()
        if now >= worker.signs_s:
            worker.signs_s = now + SIGN_S - 0.01
            self._sign(pipe, worker)
        if holds and now >= worker.ends_s:
            self._commit(pipe, worker)
        return len(pipe) - before, holds

    def _hold(self, pipe: Any, worker: Worker, chunk: int, mark: str) -> None:
        """The product's own script, in this pipeline."""
        places = (redis_keys.lease(self.key, chunk), redis_keys.marks(self.key))
        said = (f"{worker.name}-{chunk}", int(LEASE_S * 1000), chunk, mark, redis_keys.JOB_LIFE_S)
        pipe.evalsha(self.book._hold.sha, 2, *places, *said)

    def _sign(self, pipe: Any, worker: Worker) -> None:
        """As `workers.execution.lease_keeper` has it; the leases that wait their turn are renewed here too."""
        now = time.time()
        for chunk in worker.chunks[1:]:
            if int(now) % int(LEASE_S / 3) == 0:
                mark = Mark(f"{worker.name}-{chunk}", worker.name, limit_s=600)
                self._hold(pipe, worker, chunk, mark.dumps())
        hand = {"job": self.key, "chunks": {c: f"{worker.name}-{c}" for c in worker.chunks}}
        if worker.chunks:
            live = '{"chunk": 1, "rows": 1000, "stage": "forward"}'
            pipe.hset(redis_keys.live(self.key), f"{worker.name}-{worker.chunks[0]}", live)
            pipe.expire(redis_keys.live(self.key), redis_keys.JOB_LIFE_S)
        facts = {"device": "cpu", "queue": "default", "host": "h", "pid": "1", "dtypes": "float32"}
        told = json.dumps(hand) if worker.chunks else ""
        pipe.hset(redis_keys.worker(worker.name), mapping={**facts, "seen_s": now, "hand": told})
        pipe.expire(redis_keys.worker(worker.name), redis_keys.WORKER_LIFE_S)
        pipe.zadd(redis_keys.WORKERS, {worker.name: now})
        pipe.zremrangebyscore(redis_keys.WORKERS, 0, now - redis_keys.WORKER_LIFE_S)
        pipe.expire(redis_keys.WORKERS, redis_keys.WORKER_LIFE_S)
        pipe.hmget(redis_keys.job(self.key), "cancelled", "paused")

    def _commit(self, pipe: Any, worker: Worker) -> None:
        chunk = worker.chunks.pop(0)
        (
            self.output / output_layout.part(chunk)
        ).touch()  # as the store would, but for the disk's wait
        attempt = f"{worker.name}-{chunk}"
        receipt = json.dumps({"chunk": chunk, "rows": 4_000, "filler": "x" * 400})
        pipe.hset(redis_keys.done(self.key), str(chunk), receipt)
        for name in ("done_chunks", "done_rows", "ok_rows", "error_rows", "tokens"):
            pipe.hincrby(redis_keys.job(self.key), name, 1)
        self.book._release(
            keys=[redis_keys.lease(self.key, chunk), redis_keys.marks(self.key)],
            args=[attempt, chunk], client=pipe,
        )  # fmt: skip
        pipe.hdel(redis_keys.live(self.key), attempt)
        self.seen.done += 1
        self._begin(worker)


def control(url: str, job: FakeJob, port: int, stop: Any, tell: Any) -> None:
    """A controller with its endpoint, until stopped."""
    client, sender, ticks = connect(url, name="controller"), make_sender(url), []
    controller = Controller(client, sender)
    controller.add(job.job, job.store)
    settings = load_settings(listen=f"127.0.0.1:{port}")
    with serve_scaling(settings, client, Liveness()):
        began_s = time.process_time()
        while not stop.is_set():
            began = time.monotonic()
            controller.tick()
            ticks.append(time.monotonic() - began)
            stop.wait(TICK_S)
    tell.send((ticks[1:], time.process_time() - began_s))
    controller.close()


def ask(port: int, hosts: int, until_s: float, took: list[float]) -> None:
    """The hosts' questions, one after the other."""
    for n in itertools.count():
        if time.monotonic() > until_s:
            return
        query = f"/scale?queue=default&host=h{n % hosts}&slots={HOST_WORKERS}&running=0"
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", query)
        assert connection.getresponse().status == 200
        connection.close()
        took.append(time.monotonic() - began)
        time.sleep(max(0.0, began + 2.0 / hosts - time.monotonic()))


def share(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--workers", type=int, default=1_000)
    asked.add_argument("--seconds", type=float, default=90)
    asked.add_argument("--chunk-s", type=float, default=30)
    told = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis() as server:
        chunks = int(8 * told.workers * (2 + told.seconds / told.chunk_s))
        job = make_job(Path(folder), ["x"] * chunks, chunk_rows=1)
        measure(told, server.url, job)


def measure(told: argparse.Namespace, url: str, job: FakeJob) -> None:
    context = multiprocessing.get_context("spawn")
    stop, (hear, tell) = context.Event(), context.Pipe(duplex=False)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    process = context.Process(target=control, args=(url, job, port, stop, tell))
    client = connect(url, name="measure")
    for n in range(told.workers):
        heartbeat(client, f"w{n}", {"queue": "default"})
    process.start()
    while client.llen(redis_keys.QUEUE_PREFIX + "default") < told.workers:
        time.sleep(0.05)
    crowd = Crowd(url, job, told.workers, told.chunk_s)
    crowd.run(crowd.warm_s)
    done, before, began = crowd.seen.done, used_s(client), time.monotonic()
    until, took = began + told.seconds, []
    hosts = max(1, told.workers // HOST_WORKERS)
    asker = threading.Thread(target=ask, args=(port, hosts, until, took))
    asker.start()
    crowd.run(until)
    seconds, used = time.monotonic() - began, used_s(client) - before
    crowd.seen.done -= done
    asker.join()
    stop.set()
    ticks, busy_s = hear.recv()
    process.join()
    show(told, crowd.seen, seconds, used, ticks, busy_s, took)


def show(
    told: argparse.Namespace, seen: Seen, seconds: float, used: float,
    ticks: Sequence[float], busy_s: float, took: Sequence[float],
) -> None:  # fmt: skip
    late = seen.late_s
    rows = {
        "workers": f"{told.workers:,}, chunks of {told.chunk_s:g} s, {seconds:.0f} s",
        "chunks done": f"{seen.done:,}, {seen.done / seconds:.1f} a second",
        "heartbeats": f"{len(late):,}",
        "answered after, median / 99 % / most": " / ".join(
            f"{1e3 * v:.0f} ms" for v in (share(late, 0.5), share(late, 0.99), max(late))
        ),
        "later than a second": f"{sum(v > 1 for v in late):,}",
        "leases lost": f"{seen.lost:,}",
        "times that a worker found the queue empty": f"{seen.empty:,}",
        "Redis": f"{100 * used / seconds:.0f} % of a core",
        "controller": f"{100 * busy_s / seconds:.0f} % of a core",
        "its tick, median / most": f"{1e3 * share(ticks, 0.5):.0f} / {1e3 * max(ticks):.0f} ms",
        "answers of /scale": f"{len(took):,}, {1e3 * share(took, 0.5):.0f} / {1e3 * max(took):.0f} ms",
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")


def used_s(client: Any) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])


if __name__ == "__main__":
    main()
