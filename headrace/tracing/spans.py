"""How spans are built: names, links, status, attributes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from headrace.process.redact import redact
from headrace.tracing.stages import StageSums
from headrace.tracing.trace_file import (
    Kind,
    Link,
    SpanRow,
    Value,
)
from schemas.errors import HeadraceError, error_type_of
from schemas.names import telemetry as names
from schemas.records.job import Job

_TRACEPARENT = re.compile(r"^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}$")


def links_to(traceparent: str | None) -> tuple[Link, ...]:
    """A link to the span that a W3C `traceparent` names; empty if it is missing or invalid.

    Source: https://www.w3.org/TR/trace-context/#traceparent-header
    """
    match = _TRACEPARENT.match(traceparent or "")
    return (Link(match[1], match[2]),) if match else ()


def traceparent(trace_id: str, span_id: str) -> str:
    """The W3C `traceparent` of a sampled span."""
    return f"00-{trace_id}-{span_id}-01"


def traceparent_of(job: Job) -> str | None:
    """The `traceparent` of the job's own span, which each chunk's trace links to; None if untraced."""
    return traceparent(job.trace_id, job.span_id) if job.trace_id and job.span_id else None


def span_name(operation: str, queue: str) -> str:
    """Messaging spans are named by their operation and the queue."""
    return f"{operation} {queue}" if queue else operation


def messaging(operation: str, queue: str) -> dict[str, Value]:
    """The attributes that the messaging conventions ask for.

    Source: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
    """
    attributes: dict[str, Value] = {
        names.MESSAGING_SYSTEM: "celery",
        names.MESSAGING_OPERATION_TYPE: operation,
        names.MESSAGING_OPERATION_NAME: operation,
    }
    return attributes | ({names.MESSAGING_DESTINATION: queue} if queue else {})


def named(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    """Short names (`rows`) as attributes (`headrace.rows`) of their own types, without None."""
    result: dict[str, Value] = {}
    for short, value in attributes.items():
        if value is not None:
            name = short if "." in short else names.PREFIX + short
            known = names.ATTRIBUTES.get(name)
            value = known.type(value) if known else value
            result[name] = redact(value) if isinstance(value, str) else value
    return result


def safe_message(error: BaseException | None) -> str | None:
    """The message of our own errors; of other errors only the class, since the message may quote a row's text."""
    if error is None:
        return None
    return redact(str(error)) if isinstance(error, HeadraceError) else type(error).__name__


def stage_span(
    stage: str,
    sums: StageSums,
    start_ns: int,
    parent: tuple[str, str],
    common: Mapping[str, Value],
    resource: Mapping[str, str],
    error: BaseException | None = None,
    name: str | None = None,
    kind: Kind = "INTERNAL",
) -> SpanRow:
    """The child span that sums up a stage; `parent` is its trace and span id.

    The stage failed if it raised the error that ended the work. An error that the work survived, as
    when a batch was halved, is only counted (`headrace.raised`).
    """
    failed = error is not None and sums.raised_id in {id(e) for e in _chain(error)}
    attributes: dict[str, Value] = {
        **common,
        names.STAGE: stage,
        **sums.attributes(),
        **named(sums.counters),
    }
    if failed and error is not None:
        attributes[names.ERROR_TYPE] = error_type_of(error)
    return SpanRow(
        trace_id=parent[0],
        span_id=sums.span_id,
        parent_span_id=parent[1],
        name=name or stage,
        kind=kind,
        start_time_unix_nano=start_ns,
        duration_nano=sums.last_ns - sums.first_ns,
        status_code="ERROR" if failed else "UNSET",
        status_message=safe_message(error) if failed else None,
        attributes=attributes,
        resource=resource,
        sample_ns=tuple(sums.samples) if sums.calls > 1 else (),
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # an error may be its own cause
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
