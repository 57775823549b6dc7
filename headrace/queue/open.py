"""The queues behind a Celery app, for any broker it sends to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.queue.queue import MessageQueue
from headrace.queue.rabbitmq_connection import check_rabbitmq
from headrace.queue.rabbitmq_queue import RabbitMQQueue
from headrace.queue.redis_queue import RedisQueue
from headrace.redis_client import RedisClient

_QUEUES: dict[str, Callable[[RedisClient, Any], MessageQueue]] = {
    "amqp": RabbitMQQueue,
    "amqps": RabbitMQQueue,
}
"""Queue class by scheme of the app's broker URL; all other schemes are spellings of Redis."""


_CHECKS: dict[str, Callable[[str], None]] = {"amqp": check_rabbitmq, "amqps": check_rabbitmq}
"""How it is found out whether the broker at a URL answers, by scheme."""


def check_queue(queue_url: str) -> None:
    """Check that the broker of the messages answers and accepts the login.

    Raises:
        BrokerError: it does not, with the reason and what to do.
    """
    _CHECKS[queue_url.partition("://")[0].lower()](queue_url)


def open_queue(client: RedisClient, app: Any) -> MessageQueue:
    """The queues of the app's broker; `client` is the Redis beside it, or the broker itself."""
    scheme = str(app.conf.broker_url).partition("://")[0]
    return _QUEUES.get(scheme, RedisQueue)(client, app)
