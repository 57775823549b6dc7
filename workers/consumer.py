"""Celery's consumer, which asks a Redis that is away often enough to go on soon after it is back."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as CelerysConsumer
from kombu.transport import redis

from workers.transport import Transport

RETRY_MOST_S = 4
"""Chosen: on within 10 s of Redis answering. Celery's own waits grow to 30 s and cannot be set."""


DELAYED = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
"""Celery starts it with quorum queues and declares 28 more of them for messages with a delay."""


class Consumer(CelerysConsumer):  # type: ignore[misc]  # Celery has no types
    """Waits 1, 2, 3, 4, 4 … seconds between two tries to connect, and hears our messages only."""

    class Blueprint(CelerysConsumer.Blueprint):  # type: ignore[misc]
        """Celery's steps, without the one for delayed messages: we send none."""

        default_steps = tuple(s for s in CelerysConsumer.Blueprint.default_steps if s != DELAYED)

    def ensure_connected(self, conn: Any) -> Any:
        if issubclass(conn.get_transport_cls(), redis.Transport):  # else RabbitMQ
            conn.transport_cls = Transport
        conn.ensure_connection = partial(
            conn.ensure_connection,
            interval_start=1,
            interval_step=1,
            interval_max=RETRY_MOST_S,
        )
        return super().ensure_connected(conn)
