"""The job's trace: many producers, one root."""

from __future__ import annotations

from pathlib import Path

from headrace.storage.local import LocalStore
from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import ChunkTrace
from headrace.tracing.job_trace import JobTrace
from headrace.tracing.trace_file import read_spans
from schemas.errors import DiskFull
from schemas.names import output_layout
from schemas.names import telemetry as names
from schemas.records.message import ScoreChunk
from tests.unit.fake_output import make_job

QUIET = Telemetry({"service.name": "test"})


def test_producers_of_one_job_write_one_trace_with_one_root() -> None:
    submit = JobTrace(QUIET, job="a" * 16, queue="q")
    with submit("plan", chunks=3, rows=30):
        pass
    controller = JobTrace(
        QUIET,
        job="a" * 16,
        queue="q",
        trace_id=submit.trace_id,
        span_id=submit.span_id,
        submitted_ns=5,
    )
    with controller("publish", messages=1, chunks=3):
        pass
    with controller("finish"):
        pass
    first, second = submit.end(), controller.end("finished", rows=30)
    assert [r.name for r in first] == ["plan"]
    assert [r.name for r in second] == ["job", "send q", "finish"]
    assert {r.trace_id for r in first + second} == {submit.trace_id}
    assert {r.parent_span_id for r in first + second} == {None, submit.span_id}
    assert second[0].start_time_unix_nano == 5
    assert second[0].span_id == submit.span_id
    assert second[0].attributes["headrace.rows"] == 30
    assert second[1].kind == "PRODUCER"
    assert second[1].attributes[names.MESSAGING_BATCH_COUNT] == 1


def test_messages_point_at_the_job() -> None:
    trace = JobTrace(QUIET, job="a" * 16)
    message = ScoreChunk(job="a" * 16, output="/o", chunks=(1,), traceparent=trace.traceparent())
    assert message.traceparent == f"00-{trace.trace_id}-{trace.span_id}-01"


def test_publishing_for_a_night_is_one_span() -> None:
    trace = JobTrace(QUIET, queue="q")
    for _ in range(1_000):
        with trace("publish", messages=1), trace("follow"):
            pass
    rows = trace.end("finished")
    assert len(rows) == 3
    assert rows[1].attributes["headrace.messages"] == 1_000


def test_an_error_that_ends_a_job_is_on_its_root_once() -> None:
    trace = JobTrace(QUIET)
    first = trace.end("failed")
    assert first[0].status_code == "ERROR"
    assert first[0].attributes[names.ERROR_TYPE] == "job_failed"
    assert trace.end("finished") is first


def test_a_submitter_that_finds_its_job_there_already_joins_its_trace(tmp_path: Path) -> None:
    first = JobTrace(QUIET)
    job = make_job("/out", 2, 10, "text-classification", first, "/corpus.parquet")
    second = JobTrace(QUIET)
    with second("plan"):
        pass
    second.adopt(job)
    rows = second.end("finished")
    assert {r.trace_id for r in rows} == {first.trace_id}
    assert (rows[0].span_id, rows[1].parent_span_id) == (first.span_id, first.span_id)
    assert {r.attributes[names.JOB_ID] for r in rows} == {job.id}
    assert rows[0].start_time_unix_nano == int(job.submitted_s * 1e9)
    store = LocalStore(tmp_path)
    assert second.save(store)
    (file,) = store.list(output_layout.TRACES)
    assert read_spans(store.read(file.name) or b"") == rows


def test_a_trace_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    class Full(LocalStore):
        def create(self, name: str, data: bytes) -> bool:
            raise DiskFull("no space")

    trace = JobTrace(QUIET)
    trace.end("finished")
    assert trace.save(Full(tmp_path)) is False


def test_a_job_of_a_thousand_chunks_makes_small_traces() -> None:
    trace = JobTrace(Telemetry(), queue="q")
    for _ in range(1_000):
        with trace("publish", messages=1, chunks=1):
            pass
    for stage in ("plan", "follow", "finish"):
        with trace(stage):
            pass
    assert len(trace.end("finished")) <= 50
    observe = ChunkTrace(Telemetry(), job="a" * 16, chunk=0, attempt="x", received_ns=1)
    for stage in names.STAGES:
        for _ in range(1_000):
            with observe(stage, rows=1):
                pass
    assert len(observe.finish()) <= 50
