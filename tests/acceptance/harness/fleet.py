"""Real workers, a real Redis, a controller: a fleet to be broken, and the wait until it has healed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from headrace.coordination.attempts import read_attempts
from headrace.coordination.leases import LeaseBook
from headrace.queue.celery_config import make_sender
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.redis_connection import connect
from producers.control.controller import Controller
from schemas.names import output_layout, redis_keys
from schemas.records.manifest import Attempt, Manifest
from tests.acceptance.harness.wire import Wire
from tests.conftest import wait_until
from tests.fake_jobs import FakeJob

TICK_S = 0.2


@dataclass
class Worker:
    """One worker: a parent that receives and its child that computes."""

    name: str
    environment: dict[str, str]
    log: Path
    folder: Path | None = None
    """Where it runs; None: where the tests do."""
    inside: tuple[str, ...] = ()
    """A command that starts it elsewhere: in another network, with other mounts."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.inside, sys.executable, "-m", "workers.consumer"],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def has_left(self) -> bool:
        return not self.is_alive

    def children(self) -> list[psutil.Process]:
        """The processes that compute; one, once it is up."""
        try:
            found = psutil.Process(self.pid).children(recursive=True)
            return [p for p in found if "spawn_main" in " ".join(p.cmdline())]
        except psutil.Error:
            return []

    def signal(self, signum: int, *, child: bool) -> bool:
        """Send it to the child or the parent; False when there is none."""
        targets = [p.pid for p in self.children()] if child else [self.pid]
        for pid in targets:
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                return False
        return bool(targets)

    def logged(self, words: str) -> int:
        """How often its log holds the words."""
        return self.log.read_text(errors="replace").count(words)

    def end(self) -> None:
        """Kill the whole worker, and its orphans."""
        if self.process is None:
            return
        orphans = self.children()
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for orphan in orphans:
            try:
                orphan.kill()
            except psutil.Error:
                pass
        self.process.wait(10)


@dataclass
class Fleet:
    """Workers on one Redis, restarted when they die, with a controller in this process."""

    folder: Path
    redis: EmbeddedRedis
    settings: dict[str, str] = field(default_factory=dict)
    wire: Wire | None = None
    """What leads to the Redis, where it can be cut; else all use the server's own socket."""
    workers: list[Worker] = field(default_factory=list)
    restarts: bool = True

    def __post_init__(self) -> None:
        self.url = self.wire.url if self.wire else self.redis.url
        self.client = connect(self.url, name="acceptance")
        self.sender = make_sender(self.url, self.settings.get("queue_url"))
        self._controllers: list[tuple[Controller, threading.Event, threading.Thread]] = []
        self.controller = self.another_controller()

    def start(
        self,
        count: int,
        folder: Path | None = None,
        inside: tuple[str, ...] = (),
        **settings: str,
    ) -> None:
        """Further workers; the settings are variables without their prefix, in lower case."""
        for _ in range(count):
            name = f"w{len(self.workers)}"
            log = self.folder / f"{name}.log"
            worker = Worker(name, self._environment(name, settings), log, folder, inside)
            self.workers.append(worker)
            worker.start()

    def another_controller(self) -> Controller:
        """One more, ticking on a thread."""
        controller, stop = Controller(self.client, self.sender), threading.Event()
        thread = threading.Thread(target=controller.run, args=(stop, TICK_S))
        thread.start()
        self._controllers.append((controller, stop, thread))
        return controller

    def stop_controller(self) -> None:
        """End the first one as a kill would: its lock stays until it runs out."""
        controller, stop, thread = self._controllers.pop(0)
        stop.set()
        thread.join()
        for key in controller.tracked:
            controller.locks.forget(key)
        controller.close()

    def until_ready(self, limit_s: float = 60) -> None:
        """Until every worker has its child."""
        self.wait(lambda: all(w.children() for w in self.workers), limit_s, "the workers")

    def follow(self, *jobs: FakeJob) -> None:
        for job in jobs:
            self.controller.add(job.job, job.store)

    def tend(self) -> None:
        """Start again what has died, as the fleet of a host or Kubernetes would."""
        for worker in self.workers:
            if self.restarts and not worker.is_alive:
                worker.start()

    def wait(self, condition: Callable[[], Any], limit_s: float, what: str = "") -> Any:
        """Until the condition holds, with the workers looked after meanwhile."""

        def look() -> Any:
            self.tend()
            return condition()

        try:
            return wait_until(look, limit_s, what)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.last_words()}") from late

    def until_ended(self, job: FakeJob, limit_s: float = 90) -> Manifest:
        found: Manifest = self.wait(job.manifest, limit_s, "the job to end")
        return found

    def until_parts(self, job: FakeJob, count: int, limit_s: float = 60) -> None:
        self.wait(lambda: len(parts(job)) >= count, limit_s, f"{count} parts")

    def leases(self, job: FakeJob) -> LeaseBook:
        """Who holds what of a job."""
        return LeaseBook(self.client, job.job.key, 1.0)

    def rows_live(self, job: FakeJob) -> int:
        """Rows scored in chunks that are not committed yet, as the workers' heartbeats tell."""
        told = self.client.hvals(redis_keys.live(job.job.key))
        return sum(int(json.loads(value)["rows"]) for value in told)

    def last_words(self) -> str:
        """The end of each worker's log, for the message of a test that failed."""
        return "\n".join(
            f"--- {w.name} (alive: {w.is_alive}, starts: {w.starts})\n{_tail(w.log)}"
            for w in self.workers
        )

    def logged(self, words: str) -> int:
        """How often the workers' logs hold the words."""
        return sum(w.logged(words) for w in self.workers)

    def close_controllers(self) -> None:
        """End them in order, their locks given back."""
        for controller, stop, thread in self._controllers:
            stop.set()
            thread.join()
            controller.close()
        self._controllers.clear()

    def close(self) -> None:
        self.restarts = False
        for worker in self.workers:
            worker.end()
        self.close_controllers()
        self.sender.close()
        self.client.close()
        if self.wire is not None:
            self.wire.close()

    def _environment(self, name: str, settings: dict[str, str]) -> dict[str, str]:
        ours = {
            "broker_url": self.url,
            "worker_name": name,
            "device": "cpu",
            "threads": "1",
            "log_format": "json",
            "grace_s": "5",
            **self.settings,
            **settings,
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        return {**kept, **{f"HEADRACE_{k.upper()}": v for k, v in ours.items()}}


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:]) if log.exists() else ""


def pass_time(fleet: Fleet, seconds: float) -> None:
    """Look after the fleet for so long."""
    until = time.monotonic() + seconds
    fleet.wait(lambda: time.monotonic() > until, seconds + 5)


def parts(job: FakeJob) -> list[str]:
    return [info.name for info in job.store.list(output_layout.DATA)]


def attempts(job: FakeJob) -> dict[int, list[Attempt]]:
    """The failed attempts of each chunk that has some."""
    found = {chunk: read_attempts(job.store, chunk) for chunk in range(job.job.chunks)}
    return {chunk: records for chunk, records in found.items() if records}


def computed_rows(job: FakeJob) -> int:
    """Rows of attempts whose trace tells how far they came, the lost ones included."""
    manifest = job.manifest()
    return manifest.totals.computed if manifest else 0


def lines(count: int, seed: int = 0) -> list[str]:
    """Texts that are all different and of different lengths."""
    rng = random.Random(seed)
    return [f"row {i} " + "x" * rng.randint(0, 60) for i in range(count)]


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def now() -> float:
    return time.monotonic()
