"""The brokers that carry messages beside Redis: one row for each scheme of a queue's URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from headrace.queue import rabbitmq_connection
from headrace.queue.queue import MessageQueue
from headrace.queue.rabbitmq_queue import RabbitMQQueue
from headrace.queue.redis_queue import RedisQueue
from headrace.redis_client import RedisClient


class _Broker(NamedTuple):
    queues: Callable[[RedisClient, Any], MessageQueue]
    """From the Redis beside it and a Celery app."""
    check: Callable[[str], None]
    """Raises BrokerError if the broker at a URL does not answer."""
    celery: dict[str, Any]
    """Celery's settings that differ from those for Redis."""


_RABBITMQ = _Broker(
    RabbitMQQueue, rabbitmq_connection.check_rabbitmq, rabbitmq_connection.CELERY_SETTINGS
)
_BROKERS = {"amqp": _RABBITMQ, "amqps": _RABBITMQ}
"""By scheme; all other schemes are spellings of Redis. `headrace.setting_fields` names them too."""


def check_queue(queue_url: str) -> None:
    """Check that the broker of the messages answers and accepts the login.

    Raises:
        BrokerError: it does not, with the reason and what to do.
    """
    _BROKERS[_scheme(queue_url)].check(queue_url)


def celery_settings(queue_url: str) -> dict[str, Any]:
    """Celery's settings for the broker of the messages, where they differ from those for Redis."""
    return _BROKERS[_scheme(queue_url)].celery


def open_queue(client: RedisClient, app: Any) -> MessageQueue:
    """The queues of the app's broker; `client` is the Redis beside it, or the broker itself."""
    broker = _BROKERS.get(_scheme(str(app.conf.broker_url)))
    return RedisQueue(client, app) if broker is None else broker.queues(client, app)


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()
