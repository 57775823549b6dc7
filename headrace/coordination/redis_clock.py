"""One clock for all hosts: Redis's own. What two hosts compare is never each other's wall clock."""

from __future__ import annotations

from typing import Any


def redis_now(client: Any) -> float:
    """Seconds since the epoch as Redis's host counts them. Raises redis-py's own errors."""
    seconds, micros = client.time()
    return float(seconds) + float(micros) / 1e6
