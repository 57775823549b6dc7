"""Each scheme that a queue's URL may have leads to a broker, and all others to Redis."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headrace.queue.celery_config import config_for
from headrace.queue.open import celery_settings, open_queue
from headrace.queue.rabbitmq_queue import RabbitMQQueue
from headrace.queue.redis_queue import RedisQueue
from headrace.setting_fields import QUEUE_SCHEMES

REDIS = "redis://host/0"


@pytest.mark.parametrize("scheme", QUEUE_SCHEMES)
def test_each_scheme_of_the_setting_has_a_broker(scheme: str) -> None:
    url = f"{scheme}://user:password@host/vhost"
    found, of_redis = config_for(REDIS, url), config_for(REDIS, None)
    assert found["broker_url"] == url
    differs = {name for name in found if found[name] != of_redis.get(name)}
    assert differs == {"broker_url", *celery_settings(url)}, "the rest is as for Redis"


def test_without_a_url_of_its_own_the_messages_go_through_redis() -> None:
    found = config_for(REDIS, None)
    assert found["broker_url"] == REDIS
    assert not found["task_acks_late"]


@pytest.mark.parametrize(
    ("url", "kind"),
    [("amqps://host", RabbitMQQueue), ("AMQP://host", RabbitMQQueue), (REDIS, RedisQueue),
     ("sentinel://host", RedisQueue)],
)  # fmt: skip
def test_the_queues_are_those_of_the_broker(url: str, kind: type) -> None:
    client: Any = SimpleNamespace()
    app = SimpleNamespace(conf=SimpleNamespace(broker_url=url))
    assert isinstance(open_queue(client, app), kind)
