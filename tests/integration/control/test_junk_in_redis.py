"""Invalid values in headrace's keys: no command crashes, and the job ends."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
import redis

from headrace.coordination.live_workers import LiveWorkers, heartbeat, read_signs, read_workers
from headrace.settings import load_settings
from producers.commands.session import open_session
from producers.commands.status import list_workers
from producers.records.snapshot import take_snapshot
from producers.scaling.endpoint import Liveness, serve_scaling
from producers.scaling.facts import read_facts
from schemas.names import redis_keys
from tests.conftest import wait_until
from tests.fake_jobs import FakeJob
from tests.integration.controller_house import House
from tests.integration.scaling.test_endpoint import get

JUNK = [
    b"", b" ", b"nonsense", b"\xff\xfe", b"NaN", b"inf", b"-inf", b"-1", b"1e400", b"1e300", b"0x10",
    b"9" * 5000, b"[" * 50_000, b"{}", b"[]", b"null", b"7", b'"text"', b'{"job": 7, "chunks": []}',
    b'{"job": "x", "chunks": {"a": 1}}', b'{"job": "x", "chunks": {"-1": "t"}}',
    b'{"rows": "many"}', b'{"rows": 1e99}', b'{"at_s": "x", "slots": null}', b'{"at_s": NaN}',
    b'{"workers": "x", "reason": 1}', b'{"attempt": 1, "worker": 2}', "٣".encode(), b"a\x00b",
]  # fmt: skip
WORKER_FIELDS = ["pid", "seen_s", "progress_s", "hand", "queue", "dtypes", "model", "host", "new"]
GOOD = {"device": "cpu", "dtypes": "float32", "queue": "default", "host": "h", "pid": "1"}


def spoil(client: redis.Redis, job: FakeJob, dice: random.Random) -> None:
    """One key of those that a job or a worker has, with something else in it."""
    key, junk = job.job.key, dice.choice(JUNK)
    name = dice.choice([b"w1", b"", b"\xff", b"x" * 300, b"a b"])
    hashes = {
        redis_keys.worker("").encode() + name: WORKER_FIELDS,
        redis_keys.job(key): [
            "demand", "trouble", "error_rows", "done_rows", "tokens", "refused", "refused_why",
            "stage_ms:forward", "done_chunks", "other",
        ],
        redis_keys.errors(key): ["bad_text", b"\xff"],
        redis_keys.live(key): ["attempt", b"\xff"],
        redis_keys.marks(key): ["0", "3", "x", "9" * 5000],
        redis_keys.done(key): ["0", "3", "x"],
        redis_keys.hosts("default"): ["host", b"\xff", "a b"],
        redis_keys.SPEEDS: [f"default {job.job.spec.task}"],
        redis_keys.sent("default"): ["tag", b"\xff"],
    }  # fmt: skip
    where: Any = dice.choice(list(hashes))
    client.hset(where, dice.choice(hashes[where]), junk)
    client.zadd(redis_keys.WORKERS, {name: time.time()})
    if dice.random() < 0.2:
        client.set(redis_keys.scale("default"), junk)
    if dice.random() < 0.2:
        client.hset(redis_keys.JOBS, dice.choice([b"\xff", "0" * 16, "x"]), junk)
    if dice.random() < 0.2:
        client.lpush(f"{redis_keys.QUEUE_PREFIX}default", junk)
    if dice.random() < 0.1:  # a key of another type
        client.set(redis_keys.worker("other-type"), junk)
        client.zadd(redis_keys.WORKERS, {"other-type": time.time()})


@pytest.mark.parametrize("seed", range(6))
def test_with_junk_in_every_key_the_job_ends_and_every_question_is_answered(
    house: House, job: FakeJob, redis_url: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(seed)
    settings = load_settings(listen="127.0.0.1:0", broker_url=redis_url)
    house.follow(job)
    with serve_scaling(settings, house.client, Liveness()) as port:
        assert port is not None
        for _ in range(40):
            spoil(house.client, job, dice)
            house.controller.tick()
            take_snapshot(job.store, job.job, house.client).to_json()
            read_facts(house.client, time.time())
            read_signs(house.client, ["w1", "", "other-type"])
            assert (
                list_workers(open_session({"broker_url": redis_url}, as_json=dice.random() < 0.5))
                == 0
            )
        status, _ = get(port, "/scale?queue=default&host=h&slots=2&running=1")
        assert status == 200
        assert get(port, "/metrics")[0] == 200
    for key in (redis_keys.marks(job.job.key), redis_keys.done(job.job.key)):
        house.client.delete(key)
    wait_until(house.until_ended(job), 60)
    assert house.controller.ended[job.job.key].totals.rows == 200
    capsys.readouterr()


@pytest.fixture
def workers(redis_client: redis.Redis) -> redis.Redis:
    heartbeat(redis_client, "good", GOOD)
    heartbeat(redis_client, "bad", GOOD)
    return redis_client


@pytest.mark.parametrize(
    ("field", "junk"),
    [
        ("pid", b"many"), ("pid", b"-1"), ("pid", b"\xff"), ("seen_s", b"NaN"), ("seen_s", b"soon"),
        ("progress_s", b"inf"), ("hand", b"{"), ("hand", b"[]"), ("hand", b"[" * 50_000),
        ("hand", b'{"job": 1, "chunks": {}}'), ("queue", b"\xff"),
    ],
)  # fmt: skip
def test_a_bad_record_of_a_worker_is_counted_and_left_out(
    workers: redis.Redis, field: str, junk: bytes
) -> None:
    workers.hset(redis_keys.worker("bad"), field, junk)  # type: ignore[arg-type]
    found = read_workers(workers, time.time())
    assert ([w.name for w in found], found.invalid) == (["good"], 1)


def test_a_key_of_another_type_is_no_worker(workers: redis.Redis) -> None:
    workers.set(redis_keys.worker("bad"), "text")
    assert read_workers(workers, time.time()).invalid == 1


def test_the_controller_says_once_that_a_record_is_bad(
    house: House, job: FakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    heartbeat(house.client, "bad", {**GOOD, "pid": "many"})
    house.follow(job)
    house.controller.tick()
    said = [r for r in caplog.records if r.getMessage() == "worker.record_invalid"]
    assert len(said) == 1


def test_status_says_how_many_records_were_left_out(
    workers: redis.Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workers.hset(redis_keys.worker("bad"), "pid", "many")
    assert list_workers(open_session({"broker_url": redis_url})) == 0
    assert "1 record in Redis is not a worker's" in capsys.readouterr().err


def test_no_worker_is_an_empty_answer(redis_client: redis.Redis) -> None:
    assert read_workers(redis_client, time.time()) == LiveWorkers()
