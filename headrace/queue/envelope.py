"""Checks queue entries: only Celery's envelope around one of our messages is accepted.

A process that can write to Redis can put anything there. Celery trusts an envelope: it would keep
one with an `eta` in memory, kill a worker after its `timelimit`, and run the callbacks it names; an
envelope that is not JSON ends its process. So everything is checked before Celery sees it.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

MAX_ENVELOPE_BYTES = 16_384
"""Chosen: Celery's envelope around a message of at most 2,048 bytes is under 6,000 bytes."""

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


_KNOWN = frozenset(
    name
    for model in (_Envelope, _Headers, _Properties, _DeliveryInfo)
    for key, field in model.model_fields.items()
    for name in (key, field.alias or key)
)


def _is_bare(embedded: Any) -> bool:
    return isinstance(embedded, dict) and not any(embedded.values())
