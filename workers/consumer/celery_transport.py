"""kombu's Redis transport, with a check: what is not our message never reaches Celery.

A process that can write to Redis can put anything there. Celery trusts an envelope: it would keep
one with an `eta` in memory, kill a worker after its `timelimit`, and run the callbacks it names; an
envelope that is not JSON ends its process. So only Celery's envelope around one of our messages is
accepted.
"""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import Any, Literal

import redis
from kombu.transport import redis as kombu_redis
from pydantic import BaseModel, Field, ValidationError

from headrace.process.logs import get_logger
from headrace.queue.dead_letter import dead_letter
from headrace.queue.redis_connection import connect
from workers.consumer.process_settings import process_settings

log = get_logger(__name__)

_SHOWN_BYTES = 2_048

MAX_ENVELOPE_BYTES = 16_384
"""Chosen: Celery's envelope around a message of at most 2,048 bytes is under 6,000 bytes."""


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


class _Checked:
    """A channel whose client checks what it pops."""

    global_keyprefix: str

    def _get_client(self) -> Any:
        return partial(Client, global_keyprefix=self.global_keyprefix)


class Channel(_Checked, kombu_redis.Channel):  # type: ignore[misc]
    """The channel of a Redis at one address."""


class SentinelChannel(_Checked, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """The channel of a Redis that is found through sentinels."""


# Chosen: a drain waits for the pop that is under way; kombu's own second is longer than all else
# that it waits for.
_BRPOP_TIMEOUT_S = 0.5


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    Channel = Channel
    brpop_timeout = _BRPOP_TIMEOUT_S


class SentinelTransport(kombu_redis.SentinelTransport):  # type: ignore[misc]
    Channel = SentinelChannel
    brpop_timeout = _BRPOP_TIMEOUT_S


def checked(transport: type) -> type:
    """Our transport in place of one of kombu's; that of RabbitMQ stays as it is."""
    if issubclass(transport, kombu_redis.SentinelTransport):
        return SentinelTransport
    return Transport if issubclass(transport, kombu_redis.Transport) else transport


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


# -- the check

_Name = str | None


class _Headers(BaseModel):
    task: Literal["headrace.score_chunk.v1"]  # SCORE_CHUNK
    id: str = Field(min_length=1, max_length=64)
    root_id: _Name = Field(None, max_length=64)
    parent_id: _Name = Field(None, max_length=64)
    group: None = None
    shadow: None = None
    eta: None = None
    expires: None = None
    retries: Literal[0] = 0
    timelimit: tuple[None, None] | None = None
    replaced_task_nesting: Literal[0] = 0
    stamped_headers: None = None
    stamps: dict[str, None] = Field(default_factory=dict, max_length=0)


class _DeliveryInfo(BaseModel):
    exchange: str = Field(max_length=256)
    routing_key: str = Field(max_length=256)


class _Properties(BaseModel):
    delivery_tag: str = Field(min_length=1, max_length=64)
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"]
    correlation_id: _Name = Field(None, max_length=64)
    reply_to: _Name = Field(None, max_length=64)
    priority: int | None = Field(None, ge=0, le=9)


class _Envelope(BaseModel):
    body: str
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


# names of fields: nothing else of what was sent is quoted
_KNOWN = frozenset(
    name
    for model in (_Envelope, _Headers, _Properties, _DeliveryInfo)
    for key, field in model.model_fields.items()
    for name in (key, field.alias or key)
)


def why_refused(raw: bytes | str) -> str | None:
    """Why Celery must not see this entry of a queue; None: it is an envelope as we send them.

    The message inside is checked by `schemas.records.message.parse_message`. The reason never
    quotes what was sent.
    """
    if len(raw) > MAX_ENVELOPE_BYTES:
        return f"an envelope of {len(raw)} bytes"
    try:
        envelope = _Envelope.model_validate(json.loads(raw))
        args, kwargs, embedded = json.loads(base64.b64decode(envelope.body, validate=True))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = [str(p) for p in first["loc"] if str(p) in _KNOWN]
        return f"not an envelope of ours: {'.'.join(where) or 'envelope'}: {first['type']}"
    except (ValueError, TypeError, RecursionError):
        return "not an envelope of ours: no JSON, or a body of another shape"
    if not isinstance(args, list) or len(args) != 1 or kwargs != {} or not _is_bare(embedded):
        return "not an envelope of ours: arguments or callbacks that we do not send"
    return None


def _is_bare(embedded: Any) -> bool:
    return isinstance(embedded, dict) and not any(embedded.values())
