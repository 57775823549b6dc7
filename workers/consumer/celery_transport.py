"""kombu's Redis transport with a door: what is not our message never reaches Celery."""

from __future__ import annotations

from functools import partial
from typing import Any

import redis
from kombu.transport import redis as kombu_redis

from headrace.process.logs import get_logger
from headrace.queue.dead_letter import dead_letter
from headrace.queue.envelope import why_refused
from headrace.queue.redis_connection import connect
from workers.consumer.process_settings import process_settings

log = get_logger(__name__)

_SHOWN_BYTES = 2_048


class Client(kombu_redis.PrefixedStrictRedis):  # type: ignore[misc]  # kombu has no types
    """Answers a blocking pop with nothing where it popped something that is not ours."""

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        found = super().parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not found:
            return found
        why = why_refused(found[1])
        if why is None:
            return found
        _refuse(found[1], why)
        return None


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    def _get_client(self) -> Any:
        return partial(Client, global_keyprefix=self.global_keyprefix)


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    Channel = Channel
    # Chosen: a drain waits for the pop that is under way; kombu's own second is longer than all else
    # that it waits for.
    brpop_timeout = 0.5


def _refuse(raw: bytes | str, why: str) -> None:
    log.warning("message.rejected", reason=why)
    settings = process_settings()
    assert settings.broker_url is not None
    shown = raw[:_SHOWN_BYTES]
    text = shown.decode(errors="replace") if isinstance(shown, bytes) else shown
    try:
        with connect(settings.broker_url.get_secret_value(), name="headrace-transport") as client:
            dead_letter(client, text, why)
    except redis.RedisError as error:
        log.warning("broker.unreachable", error_type=type(error).__name__)
