"""The dead-letter list: messages that no worker may execute, kept for inspection and counted."""

from __future__ import annotations

import json
import time
from typing import Any

from headrace.redis_client import RedisClient
from schemas.names import redis_keys

KEPT = 1_000  # chosen: enough to see what is sent, small enough for Redis


def dead_letter(client: RedisClient, body: Any, why: str) -> None:
    """Keep the message, truncated. Raises redis-py's own errors."""
    kept = json.dumps({"at_s": time.time(), "why": why, "body": body}, default=repr)[:4096]
    pipe = client.pipeline()
    pipe.lpush(redis_keys.REJECTED, kept)
    pipe.ltrim(redis_keys.REJECTED, 0, KEPT - 1)
    pipe.expire(redis_keys.REJECTED, redis_keys.JOB_LIFE_S)
    pipe.execute()
