"""One contract for all brokers. A real RabbitMQ is asked in tests/system/test_rabbitmq.py."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from headrace.queue import kombu_layout
from headrace.queue.celery_config import make_sender
from headrace.queue.open import open_queue
from headrace.queue.queue import MessageQueue
from headrace.queue.rabbitmq_queue import RabbitMQQueue
from headrace.queue.redis_queue import FRESH_S, RedisQueue
from tests.queue_contract import *  # noqa: F403
from tests.queue_contract import A, receive


@pytest.fixture(params=["redis", "outbox"])
def queue(
    request: pytest.FixtureRequest, redis_url: str, redis_client: redis.Redis
) -> Iterator[MessageQueue]:
    """Redis; and the outbox, with a broker of kombu's in this process instead of RabbitMQ."""
    sender = make_sender(redis_url)
    if request.param == "redis":
        yield RedisQueue(redis_client, sender)
    else:
        sender.conf.update(broker_url="memory://", broker_transport_options={})
        yield RabbitMQQueue(redis_client, sender)
    sender.close()


def test_the_broker_is_known_by_the_address_of_the_sender(
    redis_url: str, redis_client: redis.Redis
) -> None:
    for url, kind in (
        (None, RedisQueue),
        ("amqp://localhost", RabbitMQQueue),
        ("amqps://x", RabbitMQQueue),
    ):
        sender = make_sender(redis_url, url)
        assert type(open_queue(redis_client, sender)) is kind
        sender.close()


def test_what_a_worker_of_redis_died_with_is_purged(
    redis_url: str, redis_client: redis.Redis
) -> None:
    sender = make_sender(redis_url)
    queue = RedisQueue(redis_client, sender)
    queue.send(A, "q")
    with sender.connection_for_read() as connection:  # received, and never acknowledged
        assert sender.amqp.queues["q"](connection.default_channel).get(no_ack=False) is not None
        assert queue.read("q").messages == 0
        assert queue.read("q").chunks == {(A.key, 1), (A.key, 2)}
        assert queue.read("q", time.time() + FRESH_S + 1).chunks == frozenset()
        assert queue.purge("q", A.key) == 0
        assert redis_client.hlen(kombu_layout.UNACKED) == 0
        assert receive(queue, "q") is None
    sender.close()


def test_an_old_entry_without_a_message_is_forgotten(
    redis_url: str, redis_client: redis.Redis
) -> None:
    sender = make_sender(redis_url)
    sender.conf.update(broker_url="memory://", broker_transport_options={})
    queue = RabbitMQQueue(redis_client, sender, fresh_s=0.0)
    queue.outbox.add("lost", "tag", A)
    assert queue.read("lost").messages == 0
    assert queue.outbox.read("lost") == {}
    sender.close()
