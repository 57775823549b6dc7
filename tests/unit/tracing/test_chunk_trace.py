"""One attempt: what becomes of stages, errors and ids."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace.tracing.chunk_trace import ChunkTrace, observe_nothing
from headrace.tracing.stages import SAMPLES, Clock
from headrace.tracing.trace_file import SpanRow
from schemas.errors import LeaseLost, OutOfMemory, Stopped, StorageError
from schemas.names import telemetry as names

JOB_TRACE, JOB_SPAN = "1" * 32, "2" * 16
SECOND = 1_000_000_000


@dataclass
class Emitted:
    """An emitter that keeps what it is given."""

    resource: dict[str, str] = field(default_factory=lambda: {"service.name": "test"})
    rows: list[SpanRow] = field(default_factory=list)
    recorded: list[tuple[str, float, dict[str, str]]] = field(default_factory=list)

    def emit(self, rows: Sequence[SpanRow]) -> None:
        self.rows += rows

    def record(self, metric: str, value: float, **labels: str) -> None:
        self.recorded.append((metric, value, labels))

    def in_trace(self, trace_id: str, span_id: str) -> Any:
        return nullcontext()


class Hands:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.clock = Clock(
            wall_ns=lambda: 1_000 * SECOND + self.now_ns, steady_ns=lambda: self.now_ns
        )

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)


def observation(emitter: Emitted | None = None, **more: Any) -> ChunkTrace:
    return ChunkTrace(
        emitter or Emitted(),
        **{"job": "a" * 16, "chunk": 7, "attempt": "att", "queue": "q", **more},
    )


def by_stage(rows: Sequence[SpanRow]) -> dict[str, SpanRow]:
    return {str(r.attributes.get(names.STAGE, "root")): r for r in rows}


def test_a_stage_entered_often_is_one_span_with_its_sums() -> None:
    hands = Hands()
    observe = observation(clock=hands.clock)
    hands.pass_s(1)
    for _ in range(3):
        with observe("forward", rows=2, tokens=10) as stage:
            hands.pass_s(0.5)
            stage.add(tokens=1, batches=1)
        hands.pass_s(1)
    forward = by_stage(observe.finish())["forward"]
    assert forward.start_time_unix_nano == 1_001 * SECOND
    assert forward.duration_nano == 3.5 * SECOND
    assert forward.attributes[names.BUSY_NS] == 1.5 * SECOND
    assert forward.attributes[names.CALLS] == 3
    assert forward.attributes["headrace.tokens"] == 33
    assert forward.attributes["headrace.rows"] == 6
    assert forward.attributes[names.CALL_P99_NS] == 0.5 * SECOND
    assert observe.stages_s() == {"forward": 1.5}


def test_the_job_is_a_link_and_the_chunk_has_a_trace_of_its_own() -> None:
    observe = observation(traceparent=f"00-{JOB_TRACE}-{JOB_SPAN}-01")
    with observe("read"):
        pass
    root, read = observe.finish()
    assert [(k.trace_id, k.span_id) for k in root.links] == [(JOB_TRACE, JOB_SPAN)]
    assert root.trace_id == read.trace_id == observe.trace_id != JOB_TRACE
    assert root.parent_span_id is None
    assert read.parent_span_id == root.span_id == observe.span_id
    assert root.name == "process q"
    assert root.attributes[names.MESSAGING_SYSTEM] == "celery"
    assert root.attributes[names.MESSAGING_OPERATION_TYPE] == "process"


@pytest.mark.parametrize(
    "traceparent",
    [None, "", "nonsense", f"00-{'0' * 32}-{JOB_SPAN}-01", f"00-{JOB_TRACE}-{'0' * 16}-01"],
)
def test_a_message_without_a_context_has_no_link(traceparent: str | None) -> None:
    assert observation(traceparent=traceparent).finish()[0].links == ()


def test_finishing_twice_sends_once_and_gives_the_same() -> None:
    emitter = Emitted()
    observe = observation(emitter)
    first = observe.finish("ok", rows=3)
    assert observe.finish("error", ValueError("late")) is first
    assert emitter.rows == first
    assert first[0].status_code == "OK"
    assert first[0].attributes["headrace.rows"] == 3


def test_the_stage_that_an_error_came_from_has_failed_and_no_other() -> None:
    observe = observation()
    with observe("read"):
        pass
    with pytest.raises(StorageError), observe, observe("write"):
        raise StorageError("bucket gone")
    spans = by_stage(observe.finish())
    assert spans["root"].status_code == spans["write"].status_code == "ERROR"
    assert spans["write"].attributes[names.ERROR_TYPE] == "storage_error"
    assert spans["root"].status_message == "bucket gone"
    assert spans["read"].status_code == "UNSET"
    assert names.ERROR_TYPE not in spans["read"].attributes


def test_an_error_wrapped_on_its_way_still_names_its_stage() -> None:
    observe = observation()

    def fail() -> None:
        try:
            with observe("forward"):
                raise RuntimeError("device")
        except RuntimeError as error:
            raise OutOfMemory("one row too long") from error

    with pytest.raises(OutOfMemory) as caught:
        fail()
    forward = by_stage(observe.finish("error", caught.value))["forward"]
    assert forward.status_code == "ERROR"


def test_an_error_that_was_handled_is_counted_and_the_stage_is_well() -> None:
    observe = observation()
    for _ in range(2):
        with pytest.raises(RuntimeError), observe("forward"):
            raise RuntimeError("out of memory")
    with observe("forward"):
        pass
    forward = by_stage(observe.finish())["forward"]
    assert forward.status_code == "UNSET"
    assert forward.attributes[names.RAISED] == 2
    assert forward.attributes[names.CALLS] == 3


def test_the_words_of_an_error_of_others_are_not_repeated() -> None:
    rows = observation().finish("error", ValueError("the text of a row"))
    assert rows[0].status_message == "ValueError"
    assert rows[0].attributes[names.ERROR_TYPE] == "value_error"
    assert "the text of a row" not in repr(rows)


def test_credentials_leave_no_trace() -> None:
    error = StorageError("s3://key:hunter2@bucket/x refused")
    rows = observation(model="https://me:hunter2@hub/model").finish("error", error)
    assert "hunter2" not in repr(rows)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Stopped("drain"), "stopped"), (LeaseLost("another holds it"), "lease_lost")],
)
def test_giving_a_chunk_back_is_no_failure(error: Exception, outcome: str) -> None:
    observe = observation()
    with pytest.raises(type(error)), observe, observe("forward"):
        raise error
    root = observe.finish()[0]
    assert root.attributes[names.OUTCOME] == outcome
    assert root.status_code == "UNSET"
    assert names.ERROR_TYPE not in root.attributes


def test_stages_may_be_entered_from_many_threads() -> None:
    observe = observation()

    def work() -> None:
        for _ in range(500):
            with observe("tokenize", rows=1):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tokenize = by_stage(observe.finish())["tokenize"]
    assert tokenize.attributes[names.CALLS] == tokenize.attributes["headrace.rows"] == 4_000
    assert len(tokenize.sample_ns) == SAMPLES


def test_percentiles_are_those_of_the_calls() -> None:
    hands = Hands()
    observe = observation(clock=hands.clock)
    for i in range(100):
        with observe("forward"):
            hands.pass_s(i / 1000)
    attributes = by_stage(observe.finish())["forward"].attributes
    assert attributes[names.CALL_P50_NS] == 0.050 * SECOND
    assert attributes[names.CALL_P95_NS] == 0.095 * SECOND
    assert attributes[names.CALL_P99_NS] == 0.099 * SECOND


def test_a_call_that_hangs_is_seen_in_the_span() -> None:
    hands = Hands()
    observe = observation(clock=hands.clock)
    call = observe("forward")
    call.__enter__()
    hands.pass_s(9)
    rows = observe.finish("error", TimeoutError())
    hands.pass_s(1)
    call.__exit__(None, None, None)
    assert by_stage(rows)["forward"].duration_nano == 9 * SECOND


def test_the_wait_in_the_workers_hands_is_a_receive_span() -> None:
    hands = Hands()
    hands.pass_s(5)
    root, receive = observation(clock=hands.clock, received_ns=1_002 * SECOND).finish()
    assert receive.name == "receive q"
    assert receive.parent_span_id == root.span_id
    assert receive.duration_nano == 3 * SECOND


def test_the_trace_of_a_dead_attempt_is_written_by_another_under_its_id() -> None:
    observe = observation(trace_id="ab" * 16, started_ns=5 * SECOND)
    rows = observe.finish("worker_lost", ended_ns=9 * SECOND)
    assert rows[0].trace_id == "ab" * 16
    assert rows[0].duration_nano == 4 * SECOND
    assert rows[0].attributes[names.ERROR_TYPE] == "worker_lost"


def test_an_attempt_is_counted_by_its_end() -> None:
    emitter = Emitted()
    observe = observation(emitter)
    with observe("read"):
        pass
    observe.finish("error", StorageError("gone"))
    assert (
        names.ATTEMPTS,
        1,
        {"outcome": "error", names.ERROR_TYPE: "storage_error", names.JOB_ID: "a" * 16},
    ) in emitter.recorded
    for metric, _, labels in emitter.recorded:
        job = {names.JOB_ID} if metric in names.JOB_LABEL else set()
        assert set(labels) <= {*names.METRICS[metric].labels, *job}


def test_nothing_can_be_observed_too() -> None:
    with observe_nothing("read", rows=1) as stage:
        stage.add(rows=2)
