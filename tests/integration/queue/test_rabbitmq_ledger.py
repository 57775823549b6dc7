"""The ledger of sent messages, which stands for a queue that cannot be read."""

from __future__ import annotations

import redis

from headrace.queue.celery_config import ledger_of, make_sender
from headrace.queue.rabbitmq_ledger import Outbox
from headrace.queue.rabbitmq_queue import LedgerQueue, queue_of
from headrace.queue.redis_queue import ListedQueue
from schemas.names import redis_keys
from schemas.records.message import ScoreChunk

A, B = (ScoreChunk(job=c * 16, output="s3://b/o", chunks=(1, 2)) for c in "ab")


def test_an_entry_stands_until_a_worker_takes_it_once(redis_client: redis.Redis) -> None:
    ledger = Outbox(redis_client)
    ledger.add("q", "tag", A)
    assert ledger.read("q")["tag"].message == A
    assert ledger.take("q", "tag")
    assert not ledger.take("q", "tag")
    assert ledger.read("q") == {}


def test_what_is_taken_back_is_not_wanted_any_more(redis_client: redis.Redis) -> None:
    ledger = Outbox(redis_client)
    queue = LedgerQueue(ledger, None)
    ledger.add("q", "1", A)
    ledger.add("q", "2", B)
    view = queue.read("q")
    assert (view.messages, len(view.chunks)) == (2, 4)
    assert queue.withdraw_messages("q", {A.key}) == [A]
    assert not ledger.take("q", "1")
    assert queue.purge("q", B.key) == 1
    assert queue.read("q").messages == 0


def test_an_entry_of_another_version_is_not_counted(redis_client: redis.Redis) -> None:
    redis_client.hset(redis_keys.sent("q"), mapping={"1": "{}", "2": "nonsense"})
    assert Outbox(redis_client).read("q") == {}


def test_there_is_a_ledger_only_where_redis_has_not_the_messages(
    redis_url: str, redis_client: redis.Redis
) -> None:
    listed, noted = make_sender(redis_url), make_sender(redis_url, "amqp://localhost")
    assert ledger_of(listed) is None
    assert isinstance(queue_of(redis_client, listed), ListedQueue)
    assert isinstance(queue_of(redis_client, noted), LedgerQueue)
    ledger = ledger_of(noted)
    assert ledger is not None
    ledger.client.close()
    listed.close()
    noted.close()
