"""How kombu keeps queues in Redis: the names of its keys, and what is in a message of its lists.

kombu 5.6: a queue is a list that is popped from the right. A message that was taken and not yet
acknowledged is in the hash `unacked`, with its time in the sorted set `unacked_index`. The queues
of an exchange are in a set. No other module uses these names.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from schemas.errors import MessageRejected
from schemas.names import redis_keys
from schemas.records.message import ScoreChunk, parse_message

KEY_PREFIX = redis_keys.QUEUE_PREFIX
"""Prefix of each of kombu's keys."""
UNACKED = f"{KEY_PREFIX}unacked"
UNACKED_INDEX = f"{KEY_PREFIX}unacked_index"


def waiting(queue: str) -> str:
    """The list of waiting messages."""
    return KEY_PREFIX + queue


def keys_of(queue: str) -> list[str]:
    """Every key that kombu keeps for a queue. kombu sets no expiry on them."""
    bindings = (f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}")
    return [waiting(queue), UNACKED, UNACKED_INDEX, *(KEY_PREFIX + name for name in bindings)]


def message_in(raw: bytes | str) -> ScoreChunk | None:
    """Our message in kombu's envelope; None for anything else."""
    try:
        envelope = json.loads(raw)
        args = json.loads(base64.b64decode(envelope["body"]))[0]
        return parse_message(args[0])
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, MessageRejected):
        return None


def messages_in(raws: Iterable[bytes]) -> list[ScoreChunk]:
    """The messages in the envelopes; all other entries are left out."""
    return [message for message in map(message_in, raws) if message is not None]


def envelope_of_unacked(value: bytes | str) -> bytes:
    """The envelope in an entry of `unacked`; empty if it is not one of kombu's."""
    try:
        entry: Any = json.loads(value)
        return json.dumps(entry[0]).encode()
    except (ValueError, IndexError, KeyError, TypeError, RecursionError):
        return b""
