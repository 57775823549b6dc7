"""A host that only fails: its work goes to others, and it gets no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from headrace.coordination.excluded_hosts import (
    FIRST_S,
    LONGEST_S,
    exclude,
    host_of,
    is_excluded,
    read_excluded,
)
from headrace.coordination.live_workers import heartbeat
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.telemetry.provider import Telemetry
from producers.control.controller import Controller
from producers.scaling.facts import read_facts
from producers.scaling.metrics import gauges
from schemas.names import output_layout
from tests.fake_jobs import FakeJob, make_job
from tests.integration.controller_house import House
from workers.consumer.admission import Admission
from workers.execution.handler import handle
from workers.execution.presence import Identity
from workers.execution.runtime import Runtime

Wait = Callable[..., Any]


class Elsewhere(Runtime):
    """A worker whose mount of the corpus is empty; the output it sees."""

    def open_store(self, uri: str) -> Store:
        store = super().open_store(uri)
        if store.head(output_layout.JOB) is not None:
            return store
        return super().open_store(f"{uri}/not-mounted")


def worker(house: House, name: str, kind: type[Runtime] = Runtime) -> Runtime:
    settings = house.runtime.settings
    return kind(settings, Identity(name, "cpu", 1), house.client, Telemetry(), house.sender)


def sign(house: House, *workers: Runtime) -> None:
    for it in workers:
        heartbeat(house.client, it.identity.name, {"queue": "default", "host": "h"})


def step(house: House, job: FakeJob, *workers: Runtime) -> bool:
    """One round: the controller's tick, then each worker that is not excluded takes a message."""
    sign(house, *workers)
    house.controller.tick()
    for it in workers:
        message = None
        if not is_excluded(house.client, host_of(it.identity.name)):
            message = house.receive()
        if message is not None:
            handle(message.model_dump(mode="json"), it)
    return job.job.key in house.controller.ended


def test_a_host_whose_mount_is_empty_fails_no_job_and_gets_no_more_work(
    house: House, tmp_path: Path, redis_client: redis.Redis, wait_until: Wait
) -> None:
    job = make_job(tmp_path, [f"text {i}" for i in range(400)], chunk_rows=10)
    well, also, sick = (
        worker(house, "well-1-0"),
        worker(house, "also-2-0"),
        worker(house, "sick-3-0", Elsewhere),
    )
    house.controller.add(job.job, job.store)
    seen: dict[str, Any] = {}

    def ended() -> bool:
        seen.update(read_excluded(redis_client))
        return step(house, job, sick, well, also)

    wait_until(ended, 60)
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.state, manifest.totals.ok, manifest.parked) == ("finished", 400, ())
    job.check()
    assert set(seen) == {"sick-3"}
    assert (seen["sick-3"].cause, "not the file" in seen["sick-3"].message) == (
        "input_changed",
        True,
    )
    facts = read_facts(redis_client, time.time())
    assert {w.name for w in facts.workers} == {"well-1-0", "also-2-0"}, "it does no work"
    samples = {
        (name, labels): value for name, labels, value in gauges(facts, {}, None, time.time())
    }
    assert samples["headrace.hosts.excluded", ("input_changed",)] == 1
    assert samples["headrace.jobs.ended", ("default", "finished", "")] == 1


def test_where_every_host_sees_another_input_the_job_fails_unless_the_controller_sees_it(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    job = make_job(tmp_path, [f"text {i}" for i in range(40)], chunk_rows=10)
    one, two = worker(house, "one-1-0", Elsewhere), worker(house, "two-2-0", Elsewhere)
    house.controller.add(job.job, job.store)
    wait_until(lambda: step(house, job, one, two), 60)
    manifest = job.manifest()
    assert manifest is not None
    assert (manifest.state, "is not the file that was planned" in manifest.reason) == (
        "failed",
        True,
    )


def test_the_controller_sees_the_input_that_no_host_sees_and_waits_for_them(
    house: House, tmp_path: Path
) -> None:
    job = make_job(tmp_path, [f"text {i}" for i in range(10)], chunk_rows=10)
    house.controller.close()
    house.controller = Controller(
        house.client,
        house.sender,
        open_store=lambda uri: open_store(uri, house.runtime.settings),
    )
    one, two = worker(house, "one-1-0", Elsewhere), worker(house, "two-2-0", Elsewhere)
    house.controller.add(job.job, job.store)
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        assert not step(house, job, one, two)
    assert house.controller.tracked[job.job.key].fatal is None


def test_an_error_that_no_chunk_escapes_ends_the_job_after_a_few(
    house: House, tmp_path: Path, wait_until: Wait
) -> None:
    job = make_job(
        tmp_path, ["a"] * 400, chunk_rows=10, params={"ms_per_row": "many"}, max_attempts=50
    )
    only = worker(house, "only-1-0")
    house.controller.add(job.job, job.store)
    wait_until(lambda: step(house, job, only), 30)
    manifest = job.manifest()
    assert manifest is not None
    assert manifest.state == "failed"
    assert manifest.cause == "value_error"
    assert "could not convert string to float" in manifest.reason
    tries = len(list(job.store.list(output_layout.ATTEMPTS)))
    assert tries <= 2 * 40, "max_attempts would be 2,000"


# -- in Redis


def test_each_time_a_host_is_excluded_for_twice_as_long(redis_client: redis.Redis) -> None:
    now, lasted = 1_000_000.0, []
    for _ in range(8):
        found = exclude(redis_client, "h-1", "model_error", "why", now)
        lasted.append(found.until_s - found.since_s)
        assert set(read_excluded(redis_client, now + 1)) == {"h-1"}
        now = found.until_s + 1
        assert read_excluded(redis_client, now) == {}
    assert lasted[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert lasted[-1] == LONGEST_S
    later = exclude(redis_client, "h-1", "model_error", "why", now + LONGEST_S + 1)
    assert later.times == 1, "after a long time without failures it starts again"


def test_a_record_of_another_version_excludes_no_host(redis_client: redis.Redis) -> None:
    redis_client.hset("headrace:excluded", mapping={"a": "{", "b": '{"host": 3}', "c": b"\xff"})
    assert read_excluded(redis_client) == {}
    assert not is_excluded(redis_client, "a")


def test_keys_of_another_program_exclude_no_host_and_end_nothing(
    redis_client: redis.Redis,
) -> None:
    redis_client.set("headrace:excluded", "junk")
    redis_client.set("headrace:ended", "junk")
    assert read_excluded(redis_client) == {}
    assert not is_excluded(redis_client, "a")
    assert read_facts(redis_client, time.time()).ended == ()


class Consumer:
    """In place of Celery's."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def cancel_task_queue(self, queue: str) -> None:
        self.done.append(f"cancel {queue}")

    def add_task_queue(self, queue: str) -> None:
        self.done.append(f"add {queue}")


def test_a_worker_of_an_excluded_host_takes_no_messages_until_it_is_over(
    house: House, redis_client: redis.Redis
) -> None:
    consumer = Consumer()
    admission = Admission(house.client, "h-1-0", "default", consumer)
    admission.look()
    exclude(redis_client, "other-1", "model_error", "why")
    admission.look()
    assert consumer.done == []
    exclude(redis_client, "h-1", "model_error", "why")
    admission.look()
    admission.look()
    assert consumer.done == ["cancel default"]
    exclude(redis_client, "h-1", "model_error", "why", now_at=1000.0)  # long over
    admission.look()
    admission.look()
    assert consumer.done == ["cancel default", "add default"]
