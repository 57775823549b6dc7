"""Our message in kombu's envelope; anything else in the queue is skipped."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.queue.kombu_layout import message_in
from schemas.records.message import ScoreChunk

MESSAGE = ScoreChunk(job="0123456789abcdef", output="/out", chunks=(1, 2), traceparent=None)


def envelope(args: Any) -> bytes:
    body = base64.b64encode(json.dumps([args, {}, {}]).encode()).decode()
    return json.dumps({"body": body, "headers": {}, "properties": {}}).encode()


def test_our_message_is_found() -> None:
    assert message_in(envelope([MESSAGE.model_dump(mode="json")])) == MESSAGE


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"body": "not base64"}',
        b'{"body": 7}',
        b'{"body": null}',
        b'{"body": "' + base64.b64encode(b"\xff") + b'"}',
        b'{"body": "' + base64.b64encode(b"{}") + b'"}',
        b'{"body": "' + base64.b64encode(b"7") + b'"}',
        b'{"body": "\xc3\xa9"}',
        b"[" * 100_000,
        envelope([]),
        envelope(None),
        envelope({"0": 1}),
        envelope(["text"]),
        envelope([{"job": "x"}]),
    ],
)
def test_anything_else_is_passed_over(raw: bytes) -> None:
    assert message_in(raw) is None


@given(st.binary(max_size=300))
def test_bytes_are_passed_over(raw: bytes) -> None:
    assert message_in(raw) is None


@given(st.recursive(st.none() | st.integers() | st.text(max_size=9), st.lists, max_leaves=9))
def test_envelopes_of_others_are_passed_over(args: Any) -> None:
    assert message_in(envelope(args)) is None
