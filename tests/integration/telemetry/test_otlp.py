"""Spans on their way to a collector: all of them, under their own ids, never in the way."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.process.logs import configure_logging
from headrace.settings import Settings
from headrace.telemetry.provider import Telemetry, start_telemetry
from headrace.tracing.chunk_trace import ChunkTrace
from headrace.tracing.trace_file import (
    SpanRow,
    read_spans,
    spans_to_parquet,
)
from schemas.errors import ConfigError, MissingExtra
from schemas.names import telemetry as names

Wait = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import os

    for name in [n for n in os.environ if n.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def log_lines() -> io.StringIO:
    lines = io.StringIO()
    configure_logging(Settings(log_format="json"), lines)
    return lines


def start(monkeypatch: pytest.MonkeyPatch, endpoint: str, **env: str) -> Telemetry:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return start_telemetry("headrace-worker", Settings(), worker="w-1")


def one_attempt(telemetry: Telemetry, chunk: int = 0) -> list[SpanRow]:
    observe = ChunkTrace(
        telemetry,
        job="a" * 16,
        chunk=chunk,
        attempt=f"at{chunk}",
        queue="q",
        traceparent=f"00-{'1' * 32}-{'2' * 16}-01",
        worker="w-1",
        device="cpu",
    )
    for stage in names.STAGES:
        with observe(stage, rows=10, tokens=100):
            pass
    return observe.finish(rows=10)


def ids(spans: list[Any]) -> set[tuple[str, str, str]]:
    return {(s.trace_id.hex(), s.span_id.hex(), s.parent_span_id.hex()) for s in spans}


def row_ids(rows: list[SpanRow]) -> set[tuple[str, str, str]]:
    return {(r.trace_id, r.span_id, r.parent_span_id or "") for r in rows}


def test_the_collector_gets_what_parquet_has(
    monkeypatch: pytest.MonkeyPatch, otlp_receiver: Any
) -> None:
    telemetry = start(monkeypatch, otlp_receiver.endpoint)
    rows = read_spans(spans_to_parquet(one_attempt(telemetry)))
    telemetry.shutdown()
    assert ids(otlp_receiver.spans) == row_ids(rows)
    by_id = {s.span_id.hex(): s for s in otlp_receiver.spans}
    for row in rows:
        span = by_id[row.span_id]
        assert span.name == row.name
        assert span.start_time_unix_nano == row.start_time_unix_nano
        assert span.end_time_unix_nano - span.start_time_unix_nano == row.duration_nano
        assert [(k.trace_id.hex(), k.span_id.hex()) for k in span.links] == [
            (k.trace_id, k.span_id) for k in row.links
        ]
        sent = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
        assert sent == dict(row.attributes)
    assert otlp_receiver.resources[0]["service.name"] == "headrace-worker"
    assert otlp_receiver.resources[0]["headrace.worker"] == "w-1"


def test_shutdown_sends_everything_that_waits(
    monkeypatch: pytest.MonkeyPatch, otlp_receiver: Any
) -> None:
    telemetry = start(monkeypatch, otlp_receiver.endpoint)
    rows = [row for chunk in range(200) for row in one_attempt(telemetry, chunk)]
    telemetry.shutdown()
    assert ids(otlp_receiver.spans) == row_ids(rows)
    assert not telemetry.spans_dropped()
    telemetry.shutdown()  # twice is safe


def test_spans_that_find_the_queue_full_are_counted_and_said(
    monkeypatch: pytest.MonkeyPatch, otlp_receiver: Any, log_lines: io.StringIO
) -> None:
    telemetry = start(
        monkeypatch,
        otlp_receiver.endpoint,
        OTEL_BSP_MAX_QUEUE_SIZE="5",
        OTEL_BSP_SCHEDULE_DELAY="60000",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="5",
    )
    assert telemetry._queue is not None
    with telemetry._queue._changed:  # the exporting thread cannot take any meanwhile
        rows = one_attempt(telemetry)
    telemetry.shutdown()
    assert telemetry._queue is None
    lost = len(rows) - len(otlp_receiver.spans)
    assert lost == 2
    said = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert [s["reason"] for s in said if s["event"] == "telemetry.spans_dropped"] == ["queue_full"]
    assert said[-1] | {"exported": 5, "dropped": 2} == said[-1]


class Hanging:
    """A collector that accepts connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    collector = Hanging()
    yield collector
    collector.close()


def test_a_collector_that_hangs_delays_no_worker(
    monkeypatch: pytest.MonkeyPatch, hanging: Hanging, log_lines: io.StringIO
) -> None:
    telemetry = start(
        monkeypatch,
        hanging.endpoint,
        OTEL_BSP_MAX_QUEUE_SIZE="50",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10",
    )
    start_s = time.monotonic()
    for chunk in range(20):
        one_attempt(telemetry, chunk)
    assert time.monotonic() - start_s < 1.0
    telemetry.shutdown(timeout_s=0.5)
    assert time.monotonic() - start_s < 2.0
    said = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert said[-1] | {"event": "telemetry.stopped", "exported": 0, "dropped": 140} == said[-1]


def test_a_collector_that_was_away_gets_everything_later(
    monkeypatch: pytest.MonkeyPatch, otlp_receiver: Any, wait_until: Wait
) -> None:
    from headrace.telemetry import span_queue

    monkeypatch.setattr(span_queue, "FIRST_PAUSE_S", 0.01)
    is_away, take = threading.Event(), otlp_receiver.take
    is_away.set()
    otlp_receiver.take = lambda path, body: not is_away.is_set() and take(path, body)
    telemetry = start(monkeypatch, otlp_receiver.endpoint, OTEL_BSP_SCHEDULE_DELAY="10")
    rows = one_attempt(telemetry)
    assert telemetry.flush(2) is False
    is_away.clear()
    wait_until(lambda: len(otlp_receiver.spans) >= len(rows), 10, "the spans to arrive")
    telemetry.shutdown()
    assert ids(otlp_receiver.spans) == row_ids(rows)
    assert len(otlp_receiver.spans) == len(rows)


def test_the_environment_of_opentelemetry_is_respected(
    monkeypatch: pytest.MonkeyPatch, otlp_receiver: Any
) -> None:
    telemetry = start(
        monkeypatch,
        otlp_receiver.endpoint,
        OTEL_SERVICE_NAME="mine",
        OTEL_TRACES_SAMPLER="always_off",
        OTEL_RESOURCE_ATTRIBUTES="team=nlp",
    )
    assert telemetry.resource["service.name"] == "mine"
    assert telemetry.resource["team"] == "nlp"
    one_attempt(telemetry)
    telemetry.shutdown()
    assert otlp_receiver.spans == []


def test_headers_and_a_share_of_traces_are_as_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, otlp_receiver: Any
) -> None:
    telemetry = start(
        monkeypatch,
        otlp_receiver.endpoint,
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20abc,x-tenant=nlp",
        OTEL_TRACES_SAMPLER="traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.5",
    )
    attempts = [one_attempt(telemetry, chunk) for chunk in range(60)]
    telemetry.shutdown()
    for headers in otlp_receiver.headers:
        assert headers["authorization"] == "Bearer abc"
        assert headers["x-tenant"] == "nlp"
    sent = {span.trace_id.hex() for span in otlp_receiver.spans}
    assert 10 < len(sent) < 50
    whole = [row_ids(rows) for rows in attempts if rows[0].trace_id in sent]
    assert ids(otlp_receiver.spans) == set().union(*whole), "a trace is sent whole or not at all"


@pytest.mark.parametrize(
    "env",
    [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}],
)
def test_nothing_is_exported_or_said_unless_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, otlp_receiver: Any, log_lines: io.StringIO, env: dict[str, str]
) -> None:
    telemetry = start(monkeypatch, otlp_receiver.endpoint if env else "", **env)
    assert len(one_attempt(telemetry)) == 7
    telemetry.shutdown()
    assert otlp_receiver.spans == []
    assert log_lines.getvalue() == ""


@pytest.mark.parametrize(
    ("env", "error"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, ConfigError),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, ConfigError),
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, ConfigError),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, ConfigError),
    ],
)
def test_what_cannot_be_done_is_said_at_the_start(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(env))):
        start(monkeypatch, **{"endpoint": "http://localhost:4318", **env})


def test_grpc_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(MissingExtra, match=r"headrace\[grpc\]"):
        start(monkeypatch, "http://localhost:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")


def test_metrics_go_out_when_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, otlp_receiver: Any
) -> None:
    telemetry = start(monkeypatch, otlp_receiver.endpoint, OTEL_METRICS_EXPORTER="otlp")
    one_attempt(telemetry)
    telemetry.record(names.REDELIVERIES, 2)
    telemetry.shutdown()
    sent = {m.name: m for m in otlp_receiver.metrics}
    assert sent[names.REDELIVERIES].unit == "{message}"
    assert sent[names.REDELIVERIES].sum.data_points[0].as_int == 2
    assert {names.ROWS, names.ATTEMPTS, names.CHUNK_DURATION, names.STAGE_DURATION} <= set(sent)
