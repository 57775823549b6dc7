"""Traces of a finished job on their way to a collector, later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.storage.local import LocalStore
from headrace.tracing.trace_file import read_spans
from producers.inspection import trace_export
from producers.inspection.trace_export import send_traces
from schemas.errors import ConfigError, JobNotFound
from schemas.names import output_layout
from tests.unit.fake_output import write_fake_output


def test_every_span_arrives_under_its_own_ids(
    tmp_path: Path, otlp_receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_export, "SPANS_PER_REQUEST", 7)
    store = write_fake_output(tmp_path, chunks=5, rows=20)
    sent = send_traces(store, otlp_receiver.endpoint)
    rows = [
        s for i in store.list(output_layout.TRACES) for s in read_spans(store.read(i.name) or b"")
    ]
    assert sent.spans == len(rows) == len(otlp_receiver.spans)
    assert sent.files == 7  # five parts, one failed attempt, the job
    assert {
        (s.trace_id.hex(), s.span_id.hex(), s.parent_span_id.hex()) for s in otlp_receiver.spans
    } == {(r.trace_id, r.span_id, r.parent_span_id or "") for r in rows}
    assert {r["service.name"] for r in otlp_receiver.resources} == {
        "headrace-producer",
        "headrace-worker",
    }
    by_id = {s.span_id.hex(): s for s in otlp_receiver.spans}
    for row in rows:
        span = by_id[row.span_id]
        sent_attributes = {
            a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes
        }
        assert sent_attributes == dict(row.attributes)
        assert span.end_time_unix_nano - span.start_time_unix_nano == row.duration_nano


def test_the_whole_endpoint_may_be_given_too(tmp_path: Path, otlp_receiver: Any) -> None:
    store = write_fake_output(tmp_path, chunks=1, rows=10)
    endpoint = otlp_receiver.endpoint + "/v1/traces"
    assert send_traces(store, endpoint).spans == len(otlp_receiver.spans)


@pytest.mark.parametrize("url", ["localhost:4318", "http://127.0.0.1:1"])
def test_a_collector_that_is_not_there_is_named(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_export, "TRIES", 1)
    store = write_fake_output(tmp_path, chunks=1, rows=10)
    with pytest.raises(ConfigError, match=url.removeprefix("http://")):
        send_traces(store, url)


def test_a_refusal_is_not_repeated(tmp_path: Path, otlp_receiver: Any) -> None:
    store = write_fake_output(tmp_path, chunks=1, rows=10)
    with pytest.raises(ConfigError, match="answers 404"):
        send_traces(store, otlp_receiver.endpoint + "/wrong")


def test_an_output_without_traces_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(JobNotFound, match="no traces"):
        send_traces(LocalStore(tmp_path), "http://localhost:4318")
