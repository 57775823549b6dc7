"""Each committed chunk is counted once, from any reporter, however often and in any order."""

from __future__ import annotations

import random

import pytest
import redis

from headrace.coordination.job_counters import (
    count_committed_chunk,
    count_in,
    reset_counters,
)
from headrace.coordination.job_counters import counted as counted_chunks
from schemas.names import redis_keys
from schemas.records.manifest import Receipt

JOB = "a" * 16


def receipt(chunk: int) -> Receipt:
    kinds = {"null_text": 1} if chunk % 2 else {"null_text": 1, "fake_fault": 2}
    errors = sum(kinds.values())
    return Receipt(
        chunk=chunk, rows=10, ok=10 - errors, errors=errors, errors_by_type=kinds, bytes=1,
        sha256="x", attempt="a", tokens=100 + chunk, stages_s={"forward": 1.5, "read": 0.25},
    )  # fmt: skip


def counted(client: redis.Redis) -> dict[str, int]:
    facts = {k.decode(): v.decode() for k, v in client.hgetall(redis_keys.job(JOB)).items()}
    kinds = {k.decode(): int(v) for k, v in client.hgetall(redis_keys.errors(JOB)).items()}
    names = [n for n in facts if n in redis_keys.COUNTERS or n.startswith(redis_keys.STAGE_MS)]
    return {n: int(facts[n]) for n in names} | {k: n for k, n in kinds.items() if n}


def sums(chunks: set[int]) -> dict[str, int]:
    found: dict[str, int] = dict.fromkeys(redis_keys.COUNTERS, 0)
    for it in map(receipt, chunks):
        for name, amount in (*redis_keys.counters_of(it).items(), *it.errors_by_type.items()):
            found[name] = found.get(name, 0) + amount
    return found


def test_telling_twice_counts_once(redis_client: redis.Redis) -> None:
    reset_counters(redis_client, JOB, "c1", {"rows": 30})
    assert count_in(redis_client, JOB, [receipt(0), receipt(1)]) == 2
    assert count_in(redis_client, JOB, [receipt(1), receipt(2)]) == 1
    assert counted(redis_client) == sums({0, 1, 2})
    assert counted_chunks(redis_client, JOB) == {0, 1, 2}


def test_a_worker_leaves_its_receipt_and_a_controller_none(redis_client: redis.Redis) -> None:
    reset_counters(redis_client, JOB, "c1", {"rows": 30})
    count_committed_chunk(redis_client, JOB, receipt(0))
    count_in(redis_client, JOB, [receipt(0), receipt(1)])
    count_committed_chunk(redis_client, JOB, receipt(1))  # late: it has been counted already
    assert redis_client.hkeys(redis_keys.done(JOB)) == [b"0"]
    assert counted(redis_client) == sums({0, 1})


def test_copied_rows_are_counted_while_the_job_runs(redis_client: redis.Redis) -> None:
    reset_counters(redis_client, JOB, "c1", {"rows": 30})
    count_in(redis_client, JOB, [receipt(0).model_copy(update={"reused": 4})])
    assert redis_client.hget(redis_keys.job(JOB), "copied_rows") == b"4"


def test_nothing_is_counted_before_a_controller_begins_or_after_the_end(
    redis_client: redis.Redis,
) -> None:
    assert count_in(redis_client, JOB, [receipt(0)]) == 0
    assert redis_client.keys("*") == []


def test_a_controller_that_takes_over_continues_and_one_after_a_loss_starts_again(
    redis_client: redis.Redis,
) -> None:
    reset_counters(redis_client, JOB, "c1", {"rows": 30})
    count_in(redis_client, JOB, [receipt(0)])
    reset_counters(redis_client, JOB, "c2", {"rows": 30})
    assert counted(redis_client) == sums({0})
    assert redis_client.hget(redis_keys.job(JOB), "epoch") == b"c2"
    redis_client.hdel(redis_keys.job(JOB), "epoch")  # as `resume` asks for it
    reset_counters(redis_client, JOB, "c3", {"rows": 30})
    assert counted(redis_client) == sums(set())
    count_in(redis_client, JOB, [receipt(0), receipt(1)])
    assert counted(redis_client) == sums({0, 1})


def test_every_key_has_a_life(redis_client: redis.Redis) -> None:
    reset_counters(redis_client, JOB, "c1", {"rows": 30})
    count_in(redis_client, JOB, [receipt(0)])
    count_committed_chunk(redis_client, JOB, receipt(1))
    for key in (
        redis_keys.job(JOB),
        redis_keys.done(JOB),
        redis_keys.errors(JOB),
        redis_keys.counted(JOB),
    ):
        assert 0 < redis_client.ttl(key) <= redis_keys.JOB_LIFE_S


def test_a_part_that_is_gone_has_all_counted_again(redis_client: redis.Redis) -> None:
    reset_counters(redis_client, JOB, "c1", {"rows": 30})
    count_in(redis_client, JOB, [receipt(0), receipt(9)])
    reset_counters(redis_client, JOB, "c1", {"rows": 30}, anew=True)
    assert counted(redis_client) == sums(set())
    count_in(redis_client, JOB, [receipt(9)])
    assert counted(redis_client) == sums({9})
    assert counted_chunks(redis_client, JOB) == {9}


@pytest.mark.parametrize("seed", range(10))
def test_workers_and_controllers_tell_in_any_order(redis_client: redis.Redis, seed: int) -> None:
    dice = random.Random(seed)
    reset_counters(redis_client, JOB, "c", {"rows": 200})
    there: set[int] = set()
    for step in range(120):
        chunk = dice.randrange(20)
        kind = dice.choice(["commit", "commit", "tell", "vanish", "take over"])
        if kind == "commit":
            there.add(chunk)
            count_committed_chunk(redis_client, JOB, receipt(chunk))
        elif kind == "tell":
            count_in(redis_client, JOB, [receipt(c) for c in there if dice.random() < 0.5])
        elif kind == "vanish":
            there.discard(chunk)
            reset_counters(redis_client, JOB, f"c{step}", {"rows": 200}, anew=True)
            count_in(redis_client, JOB, map(receipt, there))
        else:
            reset_counters(redis_client, JOB, f"c{step}", {"rows": 200})
    found = {k: n for k, n in counted(redis_client).items() if n}
    assert found == {k: n for k, n in sums(there).items() if n}
