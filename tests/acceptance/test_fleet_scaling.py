"""A host's fleet that follows the controller: real processes, a burst, and back to nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from headrace.coordination.live_workers import read_workers
from headrace.queue.celery_config import make_sender
from headrace.queue.redis_connection import celery_url, connect
from headrace.settings import load_settings
from producers.control.controller import Controller
from producers.scaling.endpoint import Liveness, serve_scaling
from schemas.errors import ExitCode
from schemas.names import output_layout, redis_keys
from schemas.records.model_key import speed_key
from tests.acceptance.conftest import IS_LONG
from tests.conftest import free_port, wait_until
from tests.fake_jobs import make_job
from workers.fleet.placement import QueueDemand
from workers.fleet.scaling_client import ScalingClient
from workers.fleet.slots import Slot, cores_available
from workers.fleet.supervisor import Supervisor
from workers.fleet.worker_status import WorkerStatusPoller

CORES = cores_available()
SLOTS = 8 if IS_LONG else 2
CHUNKS = 2_000 if IS_LONG else 60


@dataclass
class House:
    """A controller with its endpoint, in this process."""

    controller: Controller
    port: int


@pytest.fixture
def house(redis_url: str, redis_client: redis.Redis) -> Iterator[House]:
    client, sender = connect(redis_url, name="acceptance"), make_sender(celery_url(redis_url))
    controller = Controller(client, sender)
    stop = threading.Event()
    settings = load_settings(listen="127.0.0.1:0", window_s=10, startup_s=1, cooldown_s=2)
    with serve_scaling(settings, client, Liveness()) as port:
        assert port is not None
        loop = threading.Thread(target=controller.run, args=(stop, 0.2))
        loop.start()
        try:
            yield House(controller, port)
        finally:
            stop.set()
            loop.join()
            controller.close()
    sender.close()
    client.close()


@dataclass
class HostFleet:
    """`headrace-worker fleet`, as a person starts it."""

    process: subprocess.Popen[bytes]
    health: int
    log: Path

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        try:
            url = f"http://127.0.0.1:{self.health}{path}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    def workers(self) -> list[psutil.Process]:
        """The processes of `workers.consumer` that are alive."""
        found = psutil.Process(self.process.pid).children()
        return [p for p in found if _is_alive(p)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, FileNotFoundError):  # it went between the list and the look
        return False


@pytest.fixture
def host(house: House, redis_url: str, tmp_path: Path) -> Iterator[HostFleet]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    log, health = tmp_path / "fleet.log", free_port()
    door = Path(sys.executable).parent / "headrace-worker"
    command = [
        str(door), "fleet", "--broker", redis_url, "--controller", f"http://127.0.0.1:{house.port}",
        "--min", "0", "--max", str(SLOTS), "--device", "cpu",
        "--grace-s", "5", "--health", f"127.0.0.1:{health}",
    ]  # fmt: skip
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=kept, stdout=sink, stderr=sink)
    try:
        yield HostFleet(process, health, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.timeout(900 if IS_LONG else 180)
def test_a_burst_wakes_the_fleet_and_its_end_sends_it_home(
    house: House, host: HostFleet, tmp_path: Path
) -> None:
    wait_until(lambda: host.get("/readyz")[0] == 200, 20, "a fleet of nobody to be ready")
    assert host.workers() == []
    job = make_job(
        tmp_path / "job",
        [f"text {i}" for i in range(50 * CHUNKS)],
        chunk_rows=50,
        params={"ms_per_row": 3},
    )
    house.controller.add(job.job, job.store)
    wait_until(lambda: len(host.workers()) == SLOTS, 30 + 5 * SLOTS, "all slots to be in use")
    # now, while the workers still start: later the job might be over before we come to it
    urgent = make_job(tmp_path / "urgent", ["now"] * 200, chunk_rows=50, priority=5)
    house.controller.add(urgent.job, urgent.store)
    _see_pinning(host, SLOTS)
    wait_until(lambda: host.get("/readyz")[1].get("serving"), 60, "a worker that serves")
    passed = wait_until(urgent.manifest, 60, "the urgent job to end")
    ended = wait_until(job.manifest, 60 * (10 if IS_LONG else 1), "the job to end")
    assert passed.finished_s < ended.finished_s, "the urgent job waited behind the other"
    job.check()
    urgent.check()
    wait_until(lambda: not host.workers(), 60, "the fleet to be empty again")
    assert host.get("/livez")[0] == 200
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(30) == 0


def _see_pinning(host: HostFleet, count: int) -> None:
    """Each worker's own cores, as the kernel tells of the worker itself, not of its parent."""
    asked = {tuple(w["cores"]) for w in host.get("/status")[1]["workers"]}
    if count > len(CORES):
        assert asked == {()}, "shares of less than a core"
        asked = {tuple(CORES)}

    def seen() -> set[tuple[int, ...]]:
        return {tuple(sorted(p.cpu_affinity() or ())) for p in host.workers()}

    wait_until(lambda: seen() == asked, 10, "the workers to keep to their cores")
    assert sorted(c for cores in asked for c in cores) == CORES, "a core is nobody's, or of two"
    for process in host.workers():
        assert process.environ()["CUDA_VISIBLE_DEVICES"] == ""
        assert process.environ()["OMP_NUM_THREADS"] == str(max(1, len(CORES) // count))


def test_scale_in_reworks_at_most_the_current_chunk(
    house: House, redis_url: str, tmp_path: Path
) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    wanted = [2]
    fleet = Supervisor(
        [Slot(f"scaled-{n}", "cpu", 1) for n in range(2)],
        {**kept, "HEADRACE_BROKER_URL": redis_url, "HEADRACE_GRACE_S": "0"},
        0.0,
        lambda: [QueueDemand("default", wanted[0])],
    )
    job = make_job(tmp_path, [f"t{i}" for i in range(900)], chunk_rows=30, params={"ms_per_row": 8})
    client = connect(redis_url, name="acceptance")
    thread = threading.Thread(target=fleet.run)
    thread.start()
    try:
        house.controller.add(job.job, job.store)
        busy = lambda: sum(w.is_busy for w in read_workers(client, time.time()))  # noqa: E731
        wait_until(lambda: busy() == 2, 60, "both to have work")
        wanted[0] = 1  # with no grace time: the current chunk is released
        wait_until(lambda: len(fleet.running()) == 1, 10)
        wait_until(job.manifest, 60, "the job to end")
        job.check()
    finally:
        fleet.stop()
        thread.join(60)
        client.close()
    assert [i.name for i in job.store.list(output_layout.ATTEMPTS)] == []
    begun = sum(
        i.name.startswith(f"{output_layout.TRACES}part-")
        for i in job.store.list(output_layout.TRACES)
    )
    assert begun <= job.job.chunks + 2, "more than the chunk in hand and the one read ahead"


def test_a_slot_in_a_crash_loop_is_taken_out_and_the_others_go_on(tmp_path: Path) -> None:
    def command(slot: Slot) -> Sequence[str]:
        return ["sh", "-c", "exit 3" if slot.name == "bad" else "exec sleep 60"]

    slots = [Slot(name, "cpu", 1) for name in ("good", "bad", "other")]
    fleet = Supervisor(
        slots, dict(os.environ), 1.0, lambda: [QueueDemand("default", 3)], command=command
    )
    doomed = Supervisor([Slot("bad", "cpu", 1)], dict(os.environ), 1.0, command=command)
    codes: dict[str, int] = {}
    threads = [
        threading.Thread(target=lambda: codes.update(fleet=fleet.run())),
        threading.Thread(target=lambda: codes.update(doomed=doomed.run())),
    ]
    for thread in threads:
        thread.start()
    try:
        states = lambda: {c.slot.name: c.state for c in list(fleet.children)}  # noqa: E731
        wait_until(lambda: states().get("bad") == "given_up", 30, "the bad slot to be taken out")
        assert states() == {"good": "running", "bad": "given_up", "other": "running"}
        reason = next(c.reason for c in fleet.children if c.given_up) or ""
        assert reason == "died 5 times in a row within 10 s of its start, at last with exit code 3"
        assert fleet.given_up() == 1
        wait_until(lambda: "doomed" in codes, 30, "the fleet of bad slots to give up")
    finally:
        fleet.stop()
        doomed.stop()
        for thread in threads:
            thread.join(30)
    assert codes == {"fleet": ExitCode.OK, "doomed": ExitCode.CRASH_LOOP}


def test_workers_move_to_another_queue_when_theirs_is_dry_and_it_pays(
    house: House, redis_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """One host, two slots, two queues: a little work moves no worker, a corpus moves both, and once."""
    slow = {"ms_per_row": 6}
    small = make_job(tmp_path / "small", ["a"] * 200, chunk_rows=20, params=slow, queue="small")
    trifle = make_job(tmp_path / "trifle", ["b"] * 10, chunk_rows=10, queue="large")
    corpus = [f"c{i}" for i in range(1_500)]
    large = make_job(tmp_path / "large", corpus, chunk_rows=50, params=slow, queue="large")
    # of the night before; the plan's bytes make 5 tokens a row
    redis_client.hset(redis_keys.SPEEDS, speed_key(large.job), 200.0)
    redis_client.hset(redis_keys.MODEL_LOAD_SECONDS, speed_key(large.job), 0.5)
    with _two_queues(redis_url) as (fleet, watch):
        house.controller.add(small.job, small.store)
        wait_until(small.manifest, 60, "the small job to end")
        small.check()
        assert {c.queue for c in fleet.children} == {"small"}
        house.controller.add(trifle.job, trifle.store)
        idle = lambda: min(time.time() - d.progress_at for d in watch.doing.values())  # noqa: E731
        wait_until(lambda: watch.doing and idle() > 3, 30, "both to have waited long enough")
        assert [c.moves for c in fleet.children] == [0, 0]
        house.controller.add(large.job, large.store)
        wait_until(lambda: [c.moves for c in fleet.children] == [1, 1], 20, "both to move")
        wait_until(lambda: large.manifest() and trifle.manifest(), 60, "the rest to end")
        large.check()
        trifle.check()
        assert [c.moves for c in fleet.children] == [1, 1]


@contextlib.contextmanager
def _two_queues(redis_url: str) -> Iterator[tuple[Supervisor, WorkerStatusPoller]]:
    """A host of two slots for two queues, as `headrace-worker fleet` puts it together."""
    client = connect(redis_url, name="acceptance")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    fleet = Supervisor(
        [Slot(f"moving-{n}", "cpu", 1) for n in range(2)],
        {**kept, "HEADRACE_BROKER_URL": redis_url},
        5.0,
    )
    settings = load_settings(listen="127.0.0.1:0", window_s=2, startup_s=1, cooldown_s=120)
    watch = WorkerStatusPoller(client, fleet.running)
    with serve_scaling(settings, client, Liveness()) as port:
        answers = ScalingClient(
            f"http://127.0.0.1:{port}", ["small", "large"], 2, 0,
            lambda queue: len(fleet.running(queue)), start_s=1.0,
        )  # fmt: skip
        fleet.wanted = lambda: answers.asks
        fleet.doing = lambda name: watch.doing.get(name)
        thread = threading.Thread(target=fleet.run)
        for part in (answers, watch, thread):
            part.start()
        try:
            yield fleet, watch
        finally:
            fleet.stop()
            thread.join(60)
            answers.stop()
            watch.stop()
            client.close()
