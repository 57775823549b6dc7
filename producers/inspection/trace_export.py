"""Sends the traces of an output to a collector, later, under the ids they have."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from headrace.process.redact import redact
from headrace.settings import otel_setting
from headrace.storage.store import Store
from headrace.tracing.trace_file import (
    SpanRow,
    Value,
    read_spans,
)
from schemas.errors import ConfigError, JobNotFound
from schemas.names import output_layout
from schemas.names import telemetry as names

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

SPANS_PER_REQUEST = 512
"""The batch size of OpenTelemetry's SDK: collectors are set up for it."""
TRIES = 5
FIRST_WAIT_S = 0.2
TRY_AGAIN = frozenset({408, 429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Numbers of files and spans that reached the collector."""

    files: int
    spans: int


def send_traces(store: Store, url: str, *, timeout_s: float = 10.0) -> ExportResult:
    """Send every span under `_traces/` to an OTLP/HTTP collector, `http://localhost:4318` say.

    Safe to repeat: ids are the same, so a collector's store replaces or ignores what it has.
    Headers come from `OTEL_EXPORTER_OTLP_HEADERS`.

    Raises:
        ConfigError: the collector does not answer, or refuses.
        JobNotFound: the output has no traces.
        InputUnreadable: a trace file is broken.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{redact(url)} is no collector: write http://localhost:4318")
    endpoint = url if url.endswith("/v1/traces") else f"{url.rstrip('/')}/v1/traces"
    headers = _headers()
    files = spans = 0
    waiting: list[SpanRow] = []
    for info in store.list(output_layout.TRACES):
        files += 1
        waiting += read_spans(store.read(info.name) or b"")
        while len(waiting) >= SPANS_PER_REQUEST:
            batch, waiting = waiting[:SPANS_PER_REQUEST], waiting[SPANS_PER_REQUEST:]
            _post(endpoint, encode(batch), headers, timeout_s)
            spans += len(batch)
    if waiting:
        _post(endpoint, encode(waiting), headers, timeout_s)
    if not files:
        raise JobNotFound(f"{store.uri} has no traces: nothing under {output_layout.TRACES}")
    return ExportResult(files, spans + len(waiting))


def encode(rows: Iterable[SpanRow]) -> bytes:
    """The spans as an OTLP request, grouped by what made them."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    groups: dict[tuple[tuple[str, str], ...], list[SpanRow]] = {}
    for row in rows:
        groups.setdefault(tuple(sorted(row.resource.items())), []).append(row)
    for resource, members in groups.items():
        group = request.resource_spans.add()
        group.resource.attributes.extend(_attributes(dict(resource)))
        scope = group.scope_spans.add()
        scope.scope.name = names.SCOPE
        scope.spans.extend(_span(row) for row in members)
    return bytes(request.SerializeToString())


def _span(row: SpanRow) -> Span:
    from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

    return otlp.Span(
        trace_id=bytes.fromhex(row.trace_id),
        span_id=bytes.fromhex(row.span_id),
        parent_span_id=bytes.fromhex(row.parent_span_id or ""),
        name=row.name,
        kind=otlp.Span.SpanKind.Value(f"SPAN_KIND_{row.kind}"),
        start_time_unix_nano=row.start_time_unix_nano,
        end_time_unix_nano=row.start_time_unix_nano + row.duration_nano,
        attributes=_attributes(row.attributes),
        links=[
            otlp.Span.Link(trace_id=bytes.fromhex(k.trace_id), span_id=bytes.fromhex(k.span_id))
            for k in row.links
        ],
        status=otlp.Status(
            code=otlp.Status.StatusCode.Value(f"STATUS_CODE_{row.status_code}"),
            message=row.status_message or "",
        ),
    )


def _attributes(attributes: Mapping[str, Value]) -> Iterator[KeyValue]:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    fields = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}
    for name, value in attributes.items():
        typed: dict[str, Any] = {fields[type(value)]: value}
        yield KeyValue(key=name, value=AnyValue(**typed))


def _headers() -> dict[str, str]:
    from opentelemetry.util.re import parse_env_headers

    given = otel_setting("OTEL_EXPORTER_OTLP_HEADERS", "traces") or ""
    return {**parse_env_headers(given, liberal=True), "content-type": "application/x-protobuf"}


def _post(endpoint: str, body: bytes, headers: dict[str, str], timeout_s: float) -> None:
    """One request, tried again while the collector is busy or away."""
    request = urllib.request.Request(endpoint, body, headers, method="POST")
    again = Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S),
        retry=retry_if_exception(_may_pass),
        reraise=True,
    )
    try:
        again(_send, request, timeout_s)
    except urllib.error.HTTPError as error:
        raise _no_collector(endpoint, f"answers {error.code} {error.reason}") from None
    except OSError as error:
        why = type(getattr(error, "reason", error)).__name__
        raise _no_collector(endpoint, f"does not answer ({why})") from None


def _send(request: urllib.request.Request, timeout_s: float) -> None:
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            reply.read()
    except urllib.error.HTTPError as error:
        error.close()
        raise


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in TRY_AGAIN
    return isinstance(error, OSError)


def _no_collector(endpoint: str, problem: str) -> ConfigError:
    return ConfigError(
        f"the collector at {redact(endpoint)} {problem}; OTLP over HTTP is on port 4318"
    )
