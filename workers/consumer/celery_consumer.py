"""Celery's consumer, which asks a Redis that is away often enough to go on soon after it is back."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as CelerysConsumer
from kombu.transport import redis

from workers.consumer.celery_transport import Transport

RETRY_MOST_S = 4
"""Chosen: on within 10 s of Redis answering. Celery's own waits grow to 30 s and cannot be set."""


DELAYED = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
"""Celery starts it with quorum queues and declares 28 more of them for messages with a delay."""


_BELL_BYTES = 4096  # more than the signals between two turns of the loop


def bell_of_signals() -> int:
    """A descriptor that can be read after each signal of this process; for the main thread.

    Python goes on with an interrupted wait for its remaining time, so a flag that a handler sets is
    not seen before. Source: https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
    """
    out, into = os.pipe()
    os.set_blocking(out, False)
    os.set_blocking(into, False)
    signal.set_wakeup_fd(into, warn_on_full_buffer=False)
    return out


class Consumer(CelerysConsumer):  # type: ignore[misc]  # Celery has no types
    """Waits 1, 2, 3, 4, 4 … seconds between two tries to connect, and hears our messages only."""

    _bell: int | None = None

    class Blueprint(CelerysConsumer.Blueprint):  # type: ignore[misc]
        """Celery's steps, without the one for delayed messages: we send none."""

        default_steps = tuple(s for s in CelerysConsumer.Blueprint.default_steps if s != DELAYED)

    def register_with_event_loop(self, hub: Any) -> None:
        """A signal wakes the loop: else it is seen with the next timer, half a second later."""
        super().register_with_event_loop(hub)
        if self._bell is None:
            self._bell = bell_of_signals()
        hub.add_reader(self._bell, os.read, self._bell, _BELL_BYTES)

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
