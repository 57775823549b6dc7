"""The outbox of sent messages, in place of a queue that cannot be read."""

from __future__ import annotations

import redis

from headrace.queue.outbox import Outbox
from schemas.names import redis_keys
from schemas.records.message import ScoreChunk

MESSAGE = ScoreChunk(job="a" * 16, output="s3://b/o", chunks=(1, 2))


def test_an_entry_stays_until_a_worker_takes_it_once(redis_client: redis.Redis) -> None:
    outbox = Outbox(redis_client)
    outbox.add("q", "tag", MESSAGE)
    assert outbox.read("q")["tag"].message == MESSAGE
    assert outbox.take("q", "tag")
    assert not outbox.take("q", "tag")
    assert outbox.read("q") == {}


def test_an_entry_of_another_version_is_not_counted(redis_client: redis.Redis) -> None:
    redis_client.hset(
        redis_keys.sent("q"),
        mapping={"1": "{}", "2": "nonsense", b"\xff": b"\xfe", "4": "[" * 9999},
    )
    assert Outbox(redis_client).read("q") == {}
