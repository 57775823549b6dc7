"""Records in an output may be any bytes: they are read, replaced by a note, or refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import OutputConflict
from schemas.records.manifest import (
    UNREADABLE,
    Manifest,
    Parked,
    Totals,
    parse_attempt,
    parse_manifest,
    parse_parked,
)
from tests.unit.records.test_message import json_values

JUNK = st.binary(max_size=300) | json_values.map(lambda v: json.dumps(v).encode())
WHOLE = Manifest(
    job="0123456789abcdef",
    state="failed",
    totals=Totals(chunks=1, parts=0, parked=1, rows=0, planned_rows=9, ok=0, errors=0),
    parts=(),
    parked=(Parked(chunk=0, cause="timeout", message="slow", attempts=4, at_s=1.0),),
    inputs_digest="d",
    model="m",
    model_revision="r",
    submitted_s=1.0,
    finished_s=2.0,
)


@given(JUNK)
def test_any_bytes_in_place_of_a_manifest_are_refused_and_not_repeated(junk: bytes) -> None:
    with pytest.raises(OutputConflict) as refused:
        parse_manifest(b'{"hush-hush": ' + junk, "there")
    assert "hush" not in str(refused.value)


@given(st.sampled_from(sorted(Manifest.model_fields)), json_values)
def test_a_manifest_with_any_value_anywhere_is_read_or_refused(name: str, value: object) -> None:
    data = json.dumps(WHOLE.model_dump() | {name: value}).encode()
    try:
        assert isinstance(parse_manifest(data, "there"), Manifest)
    except OutputConflict:
        return


@given(JUNK)
def test_a_damaged_record_of_a_chunk_still_counts(junk: bytes) -> None:
    attempt, parked = parse_attempt(junk, 7, 3), parse_parked(junk, 7)
    assert (attempt.chunk, attempt.number, attempt.cause) == (7, 3, UNREADABLE)
    assert (parked.chunk, parked.cause) == (7, UNREADABLE)


def test_a_whole_record_comes_back_as_it_went() -> None:
    assert parse_manifest(WHOLE.model_dump_json().encode(), "there") == WHOLE
    assert parse_parked(WHOLE.parked[0].model_dump_json().encode(), 0) == WHOLE.parked[0]
