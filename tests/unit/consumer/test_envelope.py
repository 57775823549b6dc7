"""The check before Celery: a message in a queue is ours, or is dead-lettered unread."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.records.test_message import GOOD, json_values
from workers.consumer.celery_transport import MAX_ENVELOPE_BYTES, why_refused

BARE = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def body(*parts: Any) -> str:
    return base64.b64encode(json.dumps(parts).encode()).decode()


# As Celery 5.7.0 and kombu 5.7.0 send it; an integration test compares.
ENVELOPE: dict[str, Any] = {
    "body": body([GOOD], {}, BARE),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {
        "lang": "py", "task": "headrace.score_chunk.v1", "id": "2d9b67f1-9d77-4730-ba66-54fa0b03b84b",
        "shadow": None, "eta": None, "expires": None, "group": None, "group_index": None,
        "retries": 0, "timelimit": [None, None], "root_id": "2d9b67f1-9d77-4730-ba66-54fa0b03b84b",
        "parent_id": None, "argsrepr": "[{'v': 1}]", "kwargsrepr": "{}", "origin": "gen25088@vm",
        "ignore_result": True, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    },
    "properties": {
        "correlation_id": "2d9b67f1-9d77-4730-ba66-54fa0b03b84b",
        "reply_to": "71c8115a-a0e1-33e4-aabf-f6e837fc6ae0", "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "default"}, "priority": 0,
        "body_encoding": "base64", "delivery_tag": "220b48fa-1ac9-4da5-857a-60e86841a0c1",
    },
}  # fmt: skip


def changed(path: str, value: Any) -> bytes:
    envelope: Any = copy.deepcopy(ENVELOPE)
    *way, last = path.split("/")
    at = envelope
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return json.dumps(envelope).encode()


def test_what_we_send_goes_through() -> None:
    assert why_refused(json.dumps(ENVELOPE)) is None
    again = copy.deepcopy(ENVELOPE)  # kombu says so of what it gave back to the queue
    again["headers"]["redelivered"] = True
    again["properties"]["delivery_info"]["redelivered"] = True
    assert why_refused(json.dumps(again)) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("headers/task", "os.system"),
        ("headers/task", "celery.starmap"),
        ("headers/task", ...),
        ("headers/id", ...),
        ("headers/eta", "2999-01-01T00:00:00"),
        ("headers/expires", "1999-01-01T00:00:00"),
        ("headers/timelimit", [1, 1]),
        ("headers/retries", 10_000),
        ("headers/group", "g"),
        ("headers/shadow", "harmless.task"),
        ("headers/stamps", {"a": 1}),
        ("headers", []),
        ("properties/delivery_tag", ...),
        ("properties/delivery_info", {}),
        ("properties/body_encoding", "none"),
        ("properties", None),
        ("content-type", "application/x-python-serialize"),
        ("content-type", "application/x-yaml"),
        ("content-encoding", "binary"),
        ("body", "gASVIQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAJpZJSFlFKULg=="),
        ("body", "%%%"),
        ("body", body([GOOD], {})),
        ("body", body([GOOD, GOOD], {}, BARE)),
        ("body", body([], {}, BARE)),
        ("body", body([GOOD], {"self": 1}, BARE)),
        ("body", body([GOOD], {}, {**BARE, "callbacks": [{"task": "os.system"}]})),
        ("body", body([GOOD], {}, {**BARE, "chain": [{"task": "os.system"}]})),
        ("body", body([GOOD], {}, [])),
    ],
)
def test_what_we_do_not_send_is_refused(path: str, value: Any) -> None:
    assert why_refused(changed(path, value))


@pytest.mark.parametrize(
    "raw",
    [b"", b"not json", b"null", b"[]", b"\xff\xfe", b"[" * 10_000, b"1e999", b"{}"],
)
def test_what_is_no_envelope_at_all_is_refused(raw: bytes) -> None:
    assert why_refused(raw)


def test_an_envelope_without_end_is_not_even_parsed() -> None:
    why = why_refused(json.dumps(ENVELOPE | {"more": "x" * MAX_ENVELOPE_BYTES}))
    assert why is not None
    assert "bytes" in why


@given(st.binary(max_size=400) | json_values.map(lambda v: json.dumps(v).encode()))
def test_nothing_that_anybody_writes_there_raises(raw: bytes) -> None:
    assert why_refused(raw)


@given(st.sampled_from(["headers", "properties", "body", "content-type"]), json_values)
def test_no_value_in_any_place_raises_or_is_repeated(place: str, value: Any) -> None:
    secret = {"hush-hush": value}
    why = why_refused(json.dumps(ENVELOPE | {place: secret}))
    assert why is not None
    assert "hush" not in why


@given(st.sampled_from(sorted(ENVELOPE["headers"])), json_values)
def test_a_changed_header_is_refused_or_harmless(name: str, value: Any) -> None:
    why = why_refused(changed(f"headers/{name}", value))
    assert why is None or why.startswith("not an envelope of ours")
