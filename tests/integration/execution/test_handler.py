"""One message, handled in this process: a real Redis, a real folder, the fake task."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from headrace.coordination.attempts import read_attempts
from headrace.coordination.leases import (
    LeaseBook,
    Mark,
)
from headrace.coordination.live_workers import LiveWorker, read_workers
from headrace.profiles.profile import Profile, merge
from headrace.profiles.store import read_job_profile, read_profile
from headrace.queue.redis_queue import RedisQueue
from schemas.names import output_layout, redis_keys
from schemas.records.manifest import Receipt
from tests.fake_jobs import FakeJob, make_job
from tests.integration.execution.one_message import Steps, body, left_in_redis, parts
from workers.execution.fault_injection import CHUNK_STEPS
from workers.execution.handler import handle
from workers.execution.runtime import Runtime

# -- the good case


def test_a_run_of_chunks_becomes_parts_receipts_and_traces(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    handle(body(job, 0, 1, 2), runtime)
    job.check()
    for chunk in range(3):
        data = job.store.read(output_layout.receipt(chunk))
        assert data is not None
        receipt = Receipt.model_validate_json(data)
        assert (receipt.rows, receipt.ok, receipt.worker) == (100, 100, "w1")
        told = redis_client.hget(redis_keys.done(job.job.key), str(chunk))
        assert told is not None
        assert Receipt.model_validate_json(told) == receipt
    assert len(list(job.store.list(output_layout.TRACES))) == 3
    assert redis_client.hget(redis_keys.job(job.job.key), "done_rows") == b"300"
    assert left_in_redis(redis_client, job) == []
    assert os.listdir(Path(job.store.uri) / output_layout.TMP) == []


def test_each_chunk_gets_a_profile_which_the_part_can_make_again(
    job: FakeJob, runtime: Runtime
) -> None:
    handle(body(job, 0, 1, 2), runtime)
    written = [read_profile(job.store, job.job, chunk) for chunk in range(3)]
    for chunk, profile in enumerate(written):
        assert job.store.head(output_layout.profile(chunk)) is not None
        assert (profile.rows, profile.ok) == (100, 100)
        assert profile.texts is not None
        assert profile.texts.scripts == {"latin": 100}
        assert profile.token_counts is not None
        assert profile.token_counts.rows == 100
        counts = profile.token_counts
        assert sum(counts.first) + sum(counts.second) == profile.tokens
        job.store.delete(output_layout.profile(chunk))
    again = [read_profile(job.store, job.job, chunk) for chunk in range(3)]
    without_tokens = [p.model_copy(update={"token_counts": None}) for p in written]
    assert merge(again) == merge(without_tokens)
    assert read_job_profile(job.store, job.job) == merge(again)


def test_profiles_can_be_turned_off(job: FakeJob, runtime: Runtime) -> None:
    runtime.settings = runtime.settings.model_copy(update={"profiles": False})
    handle(body(job, 0), runtime)
    assert parts(job) == [output_layout.part(0)]
    assert list(job.store.list(output_layout.PROFILES)) == []


def test_a_store_that_takes_no_profile_costs_the_profile_alone(
    job: FakeJob, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Profile) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Profile, "to_bytes", full)
    handle(body(job, 0, 1, 2), runtime)
    job.check()


def test_a_worker_reports_its_chunks_before_it_starts(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    """Who is busy is counted once a second: a message shorter than that must not look like rest."""
    seen: dict[str, list[LiveWorker]] = {}

    def look(step: str) -> None:
        seen[step] = list(read_workers(redis_client, time.time()))

    runtime.fault = look
    handle(body(job, 0, 2), runtime)
    (busy,) = seen["leased"]
    assert (busy.job, busy.chunks) == (job.job.key, (0, 2))
    assert (busy.model, busy.progress_s) == ("", None), "nothing is loaded before the first message"
    (after,) = read_workers(redis_client, time.time())
    assert not after.is_busy
    assert after.model == "fake none@none float32"
    assert after.progress_s is not None
    assert after.progress_s <= after.seen_s


def test_the_steps_have_their_names_and_their_order(
    job: FakeJob, runtime: Runtime, steps: Steps
) -> None:
    handle(body(job, 0), runtime)
    assert steps == [step for step in CHUNK_STEPS if step != "dropped"]


# -- messages that come twice, or are none


def test_a_chunk_that_has_a_part_is_dropped_before_it_is_read(
    job: FakeJob, runtime: Runtime, steps: Steps
) -> None:
    handle(body(job, 0), runtime)
    before = job.store.read(output_layout.part(0))
    steps.clear()
    handle(body(job, 0), runtime)
    assert job.store.read(output_layout.part(0)) == before
    assert "read" not in steps


def test_a_chunk_that_another_holds_is_dropped_and_stays_theirs(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    book = LeaseBook(redis_client, job.job.key, 30)
    book.take(1, Mark("theirs", "w2"))
    handle(body(job, 0, 1, 2), runtime)
    assert parts(job) == [output_layout.part(0), output_layout.part(2)]
    assert book.marks() == {1: Mark("theirs", "w2")}


FORGED: dict[str, Callable[[FakeJob], Any]] = {
    "no message": lambda job: "rm -rf /",
    "another version": lambda job: body(job, 0, v=2),
    "no such chunk": lambda job: body(job, 3),
    "another job": lambda job: body(job, 0) | {"job": "f" * 16},
    "no such output": lambda job: body(job, 0, output=job.job.output + "-nowhere"),
    "an output that is no place": lambda job: body(job, 0, output="ftp://host/x"),
    "too many chunks": lambda job: body(job, *[0]) | {"chunks": list(range(9))},
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_message_is_put_aside_and_counted_and_never_executed(
    what: str, job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    handle(FORGED[what](job), runtime)
    assert redis_client.llen(redis_keys.REJECTED) == 1
    assert json.loads(redis_client.lindex(redis_keys.REJECTED, 0) or b"")["why"]
    assert redis_client.ttl(redis_keys.REJECTED) > 0
    assert parts(job) == []
    assert left_in_redis(redis_client, job) == []


def test_a_forged_message_writes_nothing_anywhere(
    job: FakeJob, runtime: Runtime, tmp_path: Path
) -> None:
    handle(body(job, 0, output=str(tmp_path / "elsewhere")), runtime)
    assert not (tmp_path / "elsewhere").exists()


def test_an_output_outside_the_allowed_prefixes_is_put_aside(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    runtime.settings = runtime.settings.model_copy(update={"allowed_prefixes": ("/nowhere",)})
    handle(body(job, 0), runtime)
    assert redis_client.llen(redis_keys.REJECTED) == 1
    assert parts(job) == []


# -- stopped, by whomever


@pytest.mark.parametrize("flag", [output_layout.CANCELLED, output_layout.PAUSED])
def test_a_job_that_was_stopped_while_we_were_down_is_not_begun(
    flag: str, job: FakeJob, runtime: Runtime, redis_client: redis.Redis, steps: Steps
) -> None:
    job.store.create(flag, b"{}")
    handle(body(job, 0, 1), runtime)
    assert "leased" not in steps
    assert (parts(job), left_in_redis(redis_client, job)) == ([], [])


def test_a_drain_gives_back_what_it_cannot_finish_lease_first(
    job: FakeJob, runtime: Runtime, redis_client: redis.Redis
) -> None:
    runtime.drain.ask(0.0)
    handle(body(job, 0, 1, 2), runtime)
    assert parts(job) == []
    assert left_in_redis(redis_client, job) == []
    view = RedisQueue(redis_client, None).read("default")
    assert view.chunks == {(job.job.key, 0), (job.job.key, 1), (job.job.key, 2)}
    assert [read_attempts(job.store, c) for c in range(3)] == [[], [], []]


def test_a_drain_in_the_middle_finishes_what_fits_and_gives_back_the_rest(
    tmp_path: Path, runtime: Runtime, redis_client: redis.Redis
) -> None:
    job = make_job(
        tmp_path,
        [f"a text of some length {i}" for i in range(400)],
        chunk_rows=200,
        params={"ms_per_row": 1},
        batch_tokens=500,
    )

    def drain_once_begun(step: str) -> None:
        if step == "tokenized":
            runtime.drain.ask(20.0)

    runtime.fault = drain_once_begun
    handle(body(job, 0, 1), runtime)
    done = {output_layout.chunk_of_part(name) for name in parts(job)}
    back = {chunk for _, chunk in RedisQueue(redis_client, None).read("default").chunks}
    assert done | back == {0, 1}
    assert not done & back
    assert left_in_redis(redis_client, job) == []
