"""One clock for all hosts: Redis's own. What hosts compare is never each other's wall clock.

Whether a worker lives, how old what a controller wrote is, how long a batch has taken: each is
written by one host and read by another, and the clocks of two hosts may be hours apart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import redis

from headrace.redis_client import RedisClient

SYNC_S = 60.0  # chosen: clocks drift by milliseconds in that time


def redis_now(client: RedisClient) -> float:
    """Seconds since the epoch as Redis's host counts them. Raises redis-py's own errors."""
    seconds, micros = client.time()
    return float(seconds) + float(micros) / 1e6


class RedisClock:
    """Redis's clock, asked once per minute and counted on from there. Thread-safe.

    While Redis is unreachable it counts on; before the first answer it is this host's clock.
    """

    def __init__(
        self, client: RedisClient, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._offset: float | None = None
        """Redis's clock minus the monotonic one."""
        self._asked_monotonic = float("-inf")

    def now(self) -> float:
        """Seconds since the epoch."""
        at = self._monotonic()
        if at - self._asked_monotonic >= SYNC_S:
            self._ask(at)
        return time.time() if self._offset is None else self._monotonic() + self._offset

    def _ask(self, at: float) -> None:
        with self._lock:
            if at - self._asked_monotonic < SYNC_S:
                return
            self._asked_monotonic = at
            try:
                found = redis_now(self._client)
            except redis.RedisError:
                return
            self._offset = found - self._monotonic()
