"""What people see of a night that goes wrong in many ways: all of it, named, and nothing secret."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.tracing.trace_file import SpanRow
from producers.inspection.trace_export import send_traces
from schemas.names import log_events, output_layout
from schemas.names import telemetry as names
from tests.acceptance.harness.night import (
    KILLS,
    NULL,
    RAISES,
    RAISES_EARLY,
    ROWS,
    SECRETS,
    TEXT,
    Night,
    night,
)
from tests.conftest import S3Server, receive_otlp

pytestmark = pytest.mark.timeout(600)

QUEUE = "default"


@pytest.fixture(scope="module")
def seen(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    bucket = f"night-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=bucket)
    with night(tmp_path_factory.mktemp("night"), s3_server.endpoint, bucket) as found:
        yield found


def test_every_row_came_to_its_end(seen: Night) -> None:
    manifest = json.loads(seen.store.read(output_layout.MANIFEST) or b"")
    assert (manifest["state"], manifest["totals"]["rows"]) == ("finished", ROWS)
    errors: dict[str, str] = {}
    for info in seen.store.list(output_layout.DATA):
        table = pq.ParquetFile(pa.BufferReader(seen.store.read(info.name))).read()
        for row in table.select(["name", "status", "error_type"]).to_pylist():
            if row["status"] == "error":
                errors[row["name"]] = row["error_type"]
    assert errors == {
        f"n-{RAISES}": "fake_fault",
        f"n-{RAISES_EARLY}": "fake_fault",
        f"n-{KILLS}": "worker_lost",
        f"n-{NULL}": "null_text",
    }
    assert seen.hooked == [f"/{SECRETS['hook']}"], "the secret went where it belongs"


@pytest.mark.parametrize("what", [*SECRETS, "text"])
def test_nothing_planted_is_seen_anywhere(seen: Night, what: str) -> None:
    planted = SECRETS.get(what, TEXT)
    assert planted not in ("", None)
    places = dict(seen.everything())
    for needed in ("submit.log", "first host.log", "second host.log", "controller.log"):
        assert places[needed], f"{needed} is empty: it cannot tell"
    for needed in (
        output_layout.JOB,
        output_layout.MANIFEST,
        output_layout.REPORT,
        "status --json.log",
    ):
        assert places[needed], needed
    assert "workers.consumer" in places["process list"]
    assert "headrace_rows_total" in places["/metrics of second host"]
    if what == "text":  # asking for one row shows its content
        del places["explain.log"]
    found = [place for place, text in places.items() if planted in text]
    assert found == []


Ids = tuple[str, str, str]


def test_the_collector_has_every_span_that_parquet_has(seen: Night) -> None:
    kept = {_ids(s): s for s in seen.spans()}
    sent = Counter(_ids_of(span) for span in seen.collector.spans)
    assert set(sent.values()) == {1}, "each was sent once"
    # a process that is killed takes along what it has not sent or not written yet; a drain nothing
    killed = _kills(seen)
    for span in [kept[ids] for ids in set(kept) - set(sent)]:
        ended_s = (span.start_time_unix_nano + span.duration_nano) / 1e9
        assert _near(ended_s, killed), f"{span.name} was not sent, and nobody died"
    for span in [s for s in seen.collector.spans if _ids_of(s) not in kept]:
        assert _near(span.end_time_unix_nano / 1e9, killed), f"{span.name} was not kept"


def _kills(seen: Night) -> list[float]:
    """When processes died, as it was seen: within a lease's life, seconds since the epoch."""
    records = [
        seen.store.read(info.name) or b"" for info in seen.store.list(output_layout.ATTEMPTS)
    ]
    deaths = [json.loads(record) for record in records]
    return [d["at_s"] for d in deaths if d["cause"] == "worker_lost"] + seen.killed_s


def _near(ended_s: float, killed: list[float]) -> bool:
    return any(-1 < at_s - ended_s < 10 for at_s in killed)


def test_what_a_killed_worker_could_not_send_can_be_sent_later(seen: Night) -> None:
    with receive_otlp() as later:
        told = send_traces(seen.store, later.endpoint)
        found = Counter(_ids_of(span) for span in later.spans)
    assert told.spans == len(later.spans)
    assert set(found) == {_ids(s) for s in seen.spans()}
    assert set(found.values()) == {1}


def _ids(span: SpanRow) -> Ids:
    return (span.trace_id, span.span_id, span.parent_span_id or "")


def _ids_of(span: Any) -> Ids:
    return (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())


def test_killed_attempts_have_their_span_and_the_others_their_stages(seen: Night) -> None:
    roots = [s for s in seen.spans() if s.name == f"process {QUEUE}"]
    outcomes = Counter(s.attributes[names.OUTCOME] for s in roots)
    assert outcomes["worker_lost"] >= 3, outcomes  # the row that kills: its batch, and twice alone
    assert outcomes["ok"] >= 11, "one at most was killed between its part and its trace"
    records = {
        json.loads(seen.store.read(info.name) or b"")["attempt"]
        for info in seen.store.list(output_layout.ATTEMPTS)
    }
    lost = {
        s.attributes[names.ATTEMPT] for s in roots if s.attributes[names.OUTCOME] == "worker_lost"
    }
    assert lost == records
    job = json.loads(seen.store.read(output_layout.JOB) or b"")
    for root in roots:
        assert [(k.trace_id, k.span_id) for k in root.links] == [(job["trace_id"], job["span_id"])]
        assert root.attributes[names.MESSAGING_SYSTEM] == "celery"
    by_trace: dict[str, set[str]] = {}
    for span in seen.spans():
        by_trace.setdefault(span.trace_id, set()).add(span.name)
    for root in roots:
        if root.attributes[names.OUTCOME] == "ok":
            assert set(names.STAGES) <= by_trace[root.trace_id]
            assert f"receive {QUEUE}" in by_trace[root.trace_id]
    assert {"job", "plan", "finish", f"send {QUEUE}"} <= by_trace[job["trace_id"]]


def test_services_write_json_and_nothing_else(seen: Night) -> None:
    for name in ("first host.log", "second host.log", "controller.log"):
        lines = seen.logs[name].splitlines()
        strange = [line for line in lines if not line.startswith("{")]
        if name == "first host.log":  # killed: what is left of billiard cleans up, in words
            strange = [line for line in strange if "semaphore_tracker" not in line]
        assert strange == [], (name, "\n".join(strange))
        told = [json.loads(line) for line in lines if line.startswith("{")]
        assert all({"time", "level", "event"} <= set(line) for line in told)


def test_a_log_line_leads_to_the_trace_of_its_attempt(seen: Night) -> None:
    traces = {
        (s.attributes[names.CHUNK], s.trace_id)
        for s in seen.spans()
        if s.name == f"process {QUEUE}"
    }
    begun = [line for line in seen.lines() if line["event"] == "chunk.started"]
    assert len(begun) > 12
    untold = {(line["chunk"], line["trace_id"]) for line in begun} - traces
    assert len(untold) <= 1, "one at most was killed between its part and its trace"


EVENTS = {
    "worker.started", "worker.draining", "worker.stopped", "worker.lost", "model.loaded",
    "chunk.published", "chunk.started", "chunk.committed", "row.condemned", "attempt.recorded",
    "batch.halved", "job.submitted", "job.finished", "controller.started", "controller.stopped",
    "scaling.listening", "telemetry.started", "telemetry.stopped", "broker.advice",
}  # fmt: skip
"""What such a night must tell; of the others `test_telemetry_docs` sees that each is logged."""
RARE_ATTRIBUTES = {
    "headrace.reused_rows", "headrace.retries", names.STOP_REASON, names.RAISED,
    # test_generation sees these
    "headrace.prompt_tokens", "headrace.generated_tokens", "headrace.generated_tokens_per_s",
    "headrace.time_to_first_token_s",
    # the spans of a synchronous worker
    names.HTTP_METHOD, names.HTTP_ROUTE, names.HTTP_STATUS,
}  # fmt: skip
RARE_SPANS = {"follow", "POST {route}"}
RARE_METRICS = {
    "headrace.worker.tokens", "headrace.hosts.excluded", "headrace.drift",
    "headrace.accuracy.expected",
    names.GENERATION_TOKENS, names.GENERATION_SPEED, names.FIRST_TOKEN,  # so
}  # fmt: skip


def test_every_log_event_of_the_night_is_in_the_docs_and_the_other_way_round(seen: Night) -> None:
    events = {line["event"] for line in seen.lines()}
    assert events <= set(log_events.LOG_EVENTS)
    assert events >= EVENTS
    usual = {"time", "level", "event"}
    fields = {name for line in seen.lines() for name in line} - usual
    assert fields <= set(log_events.LOG_FIELDS)


def test_every_span_and_attribute_of_the_night_is_in_the_docs_and_the_other_way_round(
    seen: Night,
) -> None:
    spans = seen.spans()
    shown = {s.name.replace(QUEUE, "{queue}") for s in spans}
    assert shown <= set(names.SPANS)
    assert set(names.SPANS) - shown <= RARE_SPANS
    attributes = {name for s in spans for name in s.attributes}
    assert attributes <= set(names.ATTRIBUTES)
    assert set(names.ATTRIBUTES) - attributes <= RARE_ATTRIBUTES


def test_every_metric_of_the_night_is_in_the_docs_and_the_other_way_round(seen: Night) -> None:
    sent = {m.name: m for m in seen.collector.metrics}
    assert set(sent) <= set(names.METRICS)
    assert set(names.METRICS) - set(sent) <= RARE_METRICS
    for name, metric in sent.items():
        assert metric.unit == names.METRICS[name].unit
        assert metric.description == names.METRICS[name].text
        labels = {a.key for p in _points(metric) for a in p.attributes}
        assert labels <= set(names.METRICS[name].labels)


def test_prometheus_sees_the_same_metrics_and_no_counter_goes_backwards(seen: Night) -> None:
    known = {s for name in names.METRICS for s in names.prometheus_series(name)}
    shown: set[str] = set()
    for where, pages in seen.pages.items():
        if not where.startswith("/metrics"):
            continue
        before: dict[object, float] = {}
        for page in pages:
            for family in text_string_to_metric_families(page):
                for sample in family.samples:
                    shown.add(sample.name)
                    assert "headrace_job" not in sample.labels
                    if family.type == "gauge":
                        continue
                    key = (sample.name, tuple(sorted(sample.labels.items())))
                    assert sample.value >= before.get(key, 0.0), (where, key)
                    before[key] = sample.value
    assert shown <= known
    rare = {s for name in RARE_METRICS for s in names.prometheus_series(name)}
    assert known - shown <= rare
    last = seen.pages["/metrics of second host"][-1]
    assert re.search(
        r'headrace_device_memory_usage_bytes\{device="cpu",worker="[^"]+-0"\} \d', last
    )


def test_a_trace_stays_small_whatever_became_of_it(seen: Night) -> None:
    sizes = Counter(s.trace_id for s in seen.spans())
    assert max(sizes.values()) <= 50


def test_the_report_of_the_night_names_errors_and_hides_foreign_words(
    seen: Night, tmp_path: Path
) -> None:
    page = (seen.store.read(output_layout.REPORT) or b"").decode()
    for words in ("Every row is accounted for", "fake_fault", "worker_lost", f"n-{RAISES}"):
        assert words in page
    assert "asked forward to fail" not in page, "an error of a library may quote the row"
    assert "Expected and actual" in page
    assert "copied from a row with the same text" in page


def _points(metric: object) -> list[object]:
    kind = metric.WhichOneof("data")  # type: ignore[attr-defined]
    return list(getattr(metric, kind).data_points)
