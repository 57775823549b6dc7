"""The type of a Redis client, without the 0.3 s that importing redis takes; and its replies as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

    RedisClient = redis.Redis
else:
    RedisClient = Any


def as_bytes(reply: object) -> bytes:
    """A reply of Redis as it came: our clients decode nothing, which redis-py's types do not know."""
    return reply if isinstance(reply, bytes) else str(reply).encode()


def as_text(reply: bytes | str) -> str:
    """A reply of Redis as text; what is not UTF-8 is replaced, never an error."""
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply
