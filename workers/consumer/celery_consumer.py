"""Celery's consumer, changed to reconnect soon after Redis is back."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as CelerysConsumer

from workers.consumer.celery_transport import checked

RETRY_MOST_S = 4
"""Chosen: back within 10 s after Redis. Celery's own waits grow to 30 s and cannot be set."""


DELAYED = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
"""Celery starts it with quorum queues and declares 28 more of them for messages with a delay."""


_BELL_BYTES = 4096  # more than the signals between two rounds of the loop


def bell_of_signals() -> int:
    """A descriptor that can be read after each signal of this process; for the main thread.

    Python resumes an interrupted wait for its remaining time, so a flag set by a handler is seen only
    after it. Source: https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
    """
    out, into = os.pipe()
    os.set_blocking(out, False)
    os.set_blocking(into, False)
    signal.set_wakeup_fd(into, warn_on_full_buffer=False)
    return out


class Consumer(CelerysConsumer):  # type: ignore[misc]  # Celery has no types
    """Waits 1, 2, 3, 4, 4 … seconds between tries to connect, and receives only our messages."""

    _bell: int | None = None

    class Blueprint(CelerysConsumer.Blueprint):  # type: ignore[misc]
        """Celery's steps, without the one for delayed messages: we send none."""

        default_steps = tuple(s for s in CelerysConsumer.Blueprint.default_steps if s != DELAYED)

    def register_with_event_loop(self, hub: Any) -> None:
        """Wake the loop by a signal, which the next timer would see half a second later."""
        super().register_with_event_loop(hub)
        if self._bell is None:
            self._bell = bell_of_signals()
        hub.add_reader(self._bell, os.read, self._bell, _BELL_BYTES)

    def ensure_connected(self, conn: Any) -> Any:
        conn.transport_cls = checked(conn.get_transport_cls())
        conn.ensure_connection = partial(
            conn.ensure_connection,
            interval_start=1,
            interval_step=1,
            interval_max=RETRY_MOST_S,
        )
        return super().ensure_connected(conn)
