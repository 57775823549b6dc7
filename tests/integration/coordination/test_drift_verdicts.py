"""A verdict of `headrace drift` becomes a metric of the controller, until the next one."""

from __future__ import annotations

import time

import redis

from headrace.coordination.drift_verdicts import read_drift, remember_drift
from producers.scaling.facts import read_facts
from producers.scaling.metrics import gauges
from schemas.names import redis_keys


def test_the_last_verdict_is_a_metric(redis_client: redis.Redis) -> None:
    remember_drift(redis_client, "default", "first", {"labels": 3.0, "tokens": 0.2}, 0.7)
    remember_drift(redis_client, "default", "first", {"labels": 0.5, "tokens": 1.5}, 0.9)
    remember_drift(redis_client, "default", "models:/other@champion", {"labels": 0.8}, None)
    facts = read_facts(redis_client, time.time())
    samples = {(n, labels): value for n, labels, value in gauges(facts, {}, None, time.time())}
    assert samples["headrace.drift", ("default", "labels")] == 0.8
    assert samples["headrace.drift", ("default", "tokens")] == 1.5
    assert samples["headrace.accuracy.expected", ("default",)] == 0.9
    assert redis_client.ttl(redis_keys.DRIFT) > 86_400


def test_an_old_or_broken_verdict_is_no_metric(redis_client: redis.Redis) -> None:
    remember_drift(redis_client, "default", "first", {"labels": 3.0}, None)
    redis_client.hset(redis_keys.DRIFT, "default broken", b"{}")
    assert [v.queue for v in read_drift(redis_client)] == ["default"]
    assert list(read_drift(redis_client, within_s=0.0)) == []
