"""What the queue carries, and what is refused on arrival."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageRejected
from schemas.records.message import (
    MAX_BYTES,
    MAX_RUN,
    ScoreChunk,
    parse_message,
)

GOOD: dict[str, Any] = {
    "v": 1,
    "job": "0123456789abcdef",
    "output": "/data/out",
    "chunks": [3, 4],
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_a_message_comes_back_as_it_went() -> None:
    message = parse_message(GOOD)
    assert message.chunks == (3, 4)
    assert parse_message(json.loads(message.model_dump_json())) == message


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"job": "../../etc"},
        {"job": "0123456789ABCDEF"},
        {"job": "0123456789abcdef\n"},
        {"output": ""},
        {"output": "x" * 1025},
        {"chunks": []},
        {"chunks": [1, 1]},
        {"chunks": [-1]},
        {"chunks": [2**31 + 1]},
        {"chunks": list(range(MAX_RUN + 1))},
        {"chunks": ["one"]},
        {"chunks": [1.5]},
        {"chunks": None},
        {"traceparent": "00-x"},
        {"run": "rm -rf /"},
    ],
)
def test_a_message_that_is_not_ours_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageRejected):
        parse_message({**GOOD, **change})


@given(json_values)
def test_whatever_comes_is_refused_and_nothing_else_happens(body: Any) -> None:
    with pytest.raises(MessageRejected):
        parse_message(body)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values))
def test_a_message_with_foreign_values_is_whole_or_refused(changes: dict[str, Any]) -> None:
    try:
        assert isinstance(parse_message({**GOOD, **changes}), ScoreChunk)
    except MessageRejected:
        pass


def test_the_refusal_does_not_repeat_the_message() -> None:
    with pytest.raises(MessageRejected) as refused:
        parse_message({**GOOD, "job": "secret text of a row"})
    assert "secret" not in str(refused.value)


def test_the_largest_message_is_small() -> None:
    largest = parse_message(
        {**GOOD, "output": "x" * 1024, "chunks": [2**31 - n for n in range(MAX_RUN)]}
    )
    assert len(largest.model_dump_json()) < MAX_BYTES
