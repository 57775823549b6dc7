"""Whatever is in Redis becomes a value or the default, and a record is a worker's or none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.coordination.live_workers import LiveWorker, parse_worker
from headrace.coordination.redis_values import as_count, as_number, as_record

FIELDS = st.sampled_from([b"pid", b"seen_s", b"progress_s", b"hand", b"queue", b"dtypes", b"model"])
VALUES = st.binary(max_size=40) | st.floats().map(lambda n: str(n).encode())


@pytest.mark.parametrize(
    ("raw", "number", "count"),
    [
        (b"7", 7.0, 7), ("7", 7.0, 7), (b" 7 ", 7.0, 7), (b"7.9", 7.9, 7), (b"-1", -1.0, 0),
        (b"NaN", None, 0), (b"inf", None, 0), (b"1e400", None, 0), (b"1e300", 1e300, 0),
        (b"", None, 0), (b"\xff", None, 0), (None, None, 0), (b"9" * 5000, None, 0),
    ],
)  # fmt: skip
def test_a_number_is_finite_and_a_count_is_whole(
    raw: bytes | str | None, number: float | None, count: int
) -> None:
    assert as_number(raw) == number
    assert as_count(raw) == count


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"null", b"{", b"[" * 100_000, b"\xff", None])
def test_what_is_no_object_has_no_fields(raw: bytes | None) -> None:
    assert as_record(raw) == {}


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_no_bytes_are_an_error(raw: bytes | str) -> None:
    number = as_number(raw)
    assert number is None or math.isfinite(number)
    assert as_count(raw) >= 0
    assert isinstance(as_record(raw), dict)


@given(st.binary(max_size=20), st.dictionaries(FIELDS, VALUES, max_size=7))
def test_a_record_is_a_worker_or_none(name: bytes, fields: dict[bytes, bytes]) -> None:
    found = parse_worker(name, fields)
    if found is not None:
        assert isinstance(found, LiveWorker)
        assert math.isfinite(found.seen_s)
        assert found.pid >= 0
