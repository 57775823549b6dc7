"""One chunk through the pipeline, with lists for a source and the fake task for a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import parquet
from schemas.attempts import Suspicion, suspicion
from schemas.errors import DeviceLost, DiskFull, Stopped
from schemas.hashing import text_hash
from schemas.manifest import Attempt
from schemas.telemetry.observation import observe_nothing
from workers.engine.packing import Budget
from workers.pipeline import run_chunk
from workers.rows import INVALID_TEXT, NULL_TEXT, ChunkStats, RowFault, Window
from workers.scoring import Engine, score_windows
from workers.tasks.base import Encodings, LoadRequest
from workers.tasks.fake import FakeOutOfMemory, FakeTask, digest_of

Text = str | RowFault


class Died(BaseException):
    """Stands for a process that a row has ended."""


def die(*_: object) -> None:
    raise Died


@dataclass
class ListSink:
    """Keeps the rows; fails at a row on demand."""

    fails_at: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def schema(self, carried: pa.Schema, task: list[pa.Field]) -> pa.Schema:
        return parquet.part_schema(carried.field(0), list(carried)[1:], task, {})

    def write(self, rows: pa.RecordBatch) -> None:
        self.rows += rows.to_pylist()
        if self.fails_at is not None and len(self.rows) > self.fails_at:
            raise DiskFull("no space")


@dataclass
class Marks:
    """A control that keeps the last mark, and stops before a batch on demand."""

    stop_before: int | None = None
    rows: tuple[int, ...] = ()
    window: tuple[int, int] | None = None
    batches: list[tuple[int, ...]] = field(default_factory=list)

    def check(self) -> None:
        if self.stop_before is not None and len(self.batches) >= self.stop_before:
            raise Stopped("drain")

    def forwarding(self, rows: Sequence[int]) -> None:
        self.rows = tuple(rows)
        if rows:
            self.batches.append(tuple(rows))

    def encoding(self, start: int, stop: int) -> None:
        self.window = (start, stop) if stop > start else None


def window(texts: Sequence[Text], start: int) -> Window:
    ids = pa.array(range(start, start + len(texts)), pa.int64())
    hashes = [None if isinstance(t, RowFault) else text_hash(t.encode()) for t in texts]
    return Window(start, pa.RecordBatch.from_arrays([ids], ["id"]), texts, hashes)


def source(texts: Sequence[Text], size: int = 50) -> Callable[[], Iterable[Window]]:
    return lambda: (window(texts[at : at + size], at) for at in range(0, len(texts), size))


class QueueTask(FakeTask):
    """Hands batches to a device with a queue: memory is asked for at once, all else comes later."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.told: list[str] = []

    def launch(self, batch: Encodings) -> Callable[[], list[str]]:
        first = str((batch.extra or ("",))[0])
        self.told.append(f"launch {first}")
        output: list[str] | Exception
        try:
            output = self.forward(batch)
        except FakeOutOfMemory:
            raise
        except Exception as error:
            output = error

        def wait() -> list[str]:
            self.told.append(f"wait {first}")
            if isinstance(output, Exception):
                raise output
            return output

        return wait


def engine(
    tokens: int = 400,
    sleep: Callable[[float], None] = time.sleep,
    in_flight: int = 1,
    **params: Any,
) -> Engine:
    task = QueueTask(sleep=sleep, kill=die)
    task.load(LoadRequest("", "cpu", "float32", None, {"faults": True, **params}))
    return Engine(task, Budget(tokens), padded=False, in_flight=in_flight)


def run(
    texts: Sequence[Text], tokens: int = 400, in_flight: int = 1, **more: Any
) -> tuple[list[Any], ChunkStats]:
    sink, it = ListSink(), engine(tokens, in_flight=in_flight)
    stats = run_chunk(source(texts), it, sink, observe_nothing, Marks(), **more)
    return sink.rows, stats


def check(rows: list[Any], texts: Sequence[Text], errors: dict[int, str]) -> None:
    assert [r["id"] for r in rows] == list(range(len(texts)))
    assert {r["id"]: r["error_type"] for r in rows if r["status"] == "error"} == errors
    for row, text in zip(rows, texts, strict=True):
        expected = None if row["status"] == "error" else digest_of(str(text))
        assert row["digest"] == expected


# -- order and completeness

TEXTS = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(["a", "b", "same text", "x __raise__", "y __raise_decode__"]),
        st.just("z __raise_encode__"),
        st.sampled_from([NULL_TEXT, INVALID_TEXT]),
    ),
    max_size=130,
)


@given(TEXTS, st.integers(1, 200), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_every_row_comes_out_once_in_order_whatever_its_neighbours_do(
    texts: list[Text], tokens: int, in_flight: int
) -> None:
    rows, stats = run(texts, tokens, in_flight)
    errors = {
        i: t.error_type if isinstance(t, RowFault) else "fake_fault"
        for i, t in enumerate(texts)
        if isinstance(t, RowFault) or "__raise" in t
    }
    check(rows, texts, errors)
    assert (stats.rows, stats.errors) == (len(texts), len(errors))


def test_a_text_is_computed_once_for_all_its_copies_in_a_window() -> None:
    rows, stats = run(["a", "b", "a", "a", "b"] * 10)
    check(rows, ["a", "b", "a", "a", "b"] * 10, {})
    assert stats.computed == 2


def test_empty_and_blank_texts_are_scored() -> None:
    rows, _ = run(["", " ", "\t\n", "\x00"])
    check(rows, ["", " ", "\t\n", "\x00"], {})
    assert [r["n_tokens"] for r in rows] == [0, 1, 2, 1]


def test_an_error_row_has_its_trace_and_a_good_row_has_none() -> None:
    rows, _ = run(["good", "bad __raise__"], trace_id="t" * 32)
    assert [r["trace_id"] for r in rows] == [None, "t" * 32]
    assert rows[0]["error_message"] is None
    assert "a row asked forward to fail" in rows[1]["error_message"]


def test_a_chunk_of_faults_alone_has_its_rows() -> None:
    rows, stats = run([NULL_TEXT] * 120)
    check(rows, [NULL_TEXT] * 120, dict.fromkeys(range(120), "null_text"))
    assert stats.computed == 0


def test_a_cut_text_says_so() -> None:
    task = FakeTask()
    task.load(LoadRequest("", "cpu", "float32", 4, {}))
    sink = ListSink()
    run_chunk(
        source(["abc", "abcdef"]), Engine(task, Budget(99), False), sink, observe_nothing, Marks()
    )
    assert [(r["n_tokens"], r["truncated"]) for r in sink.rows] == [(3, False), (4, True)]


# -- out of memory, long rows


@pytest.mark.parametrize("in_flight", [1, 2])
def test_out_of_memory_halves_the_batch_and_loses_no_row(in_flight: int) -> None:
    texts = [f"row {i:03d} __oom__60" for i in range(100)]
    rows, stats = run(texts, tokens=2_000, in_flight=in_flight)
    check(rows, texts, {})
    assert stats.oom_halvings > 0


def test_the_budget_learns_from_out_of_memory() -> None:
    texts = [f"row {i:04d} __oom__60" for i in range(500)]
    it = engine(2_000)
    told: list[Budget] = []
    it.on_halved = told.append
    stats = run_chunk(source(texts, 50), it, ListSink(), observe_nothing, Marks())
    assert it.budget.tokens < 120
    assert told[-1] == it.budget
    assert stats.oom_halvings < 10


def test_one_row_that_never_fits_is_an_error_row() -> None:
    texts = ["short __oom__99", "x" * 200 + "__oom__50", "other"]
    rows, _ = run(texts, tokens=1_000)
    check(rows, texts, {1: "out_of_memory"})


def test_a_row_of_fifty_megabytes_costs_little() -> None:
    task = FakeTask()
    task.load(LoadRequest("", "cpu", "float32", 512, {}))
    texts = ["before", "é" * (25 << 20), "after"]
    sink = ListSink()
    began = time.process_time()
    run_chunk(source(texts), Engine(task, Budget(4096), False), sink, observe_nothing, Marks())
    assert time.process_time() - began < 2
    assert [r["truncated"] for r in sink.rows] == [False, True, False]
    assert sink.rows[1]["n_tokens"] == 512


# -- batches in flight


def test_the_next_batch_is_launched_before_the_one_before_is_waited_for() -> None:
    it, control = engine(10, in_flight=2), Marks()
    run_chunk(source(["a" * 10, "b" * 9, "c" * 8]), it, ListSink(), observe_nothing, control)
    assert isinstance(it.task, QueueTask)
    a, b, c = "a" * 10, "b" * 9, "c" * 8
    assert it.task.told == [
        f"launch {a}", f"launch {b}", f"wait {a}", f"launch {c}", f"wait {b}", f"wait {c}"
    ]  # fmt: skip
    # a death may be of either batch on the device: both are marked
    assert control.batches == [(0,), (0, 1), (1, 2)]


def windows_of(task: FakeTask, texts: Sequence[str]) -> Iterator[tuple[str, Encodings, Any]]:
    """A window for each text."""
    for number, text in enumerate(texts):
        yield text, task.encode([text]), np.array([number])


def test_the_next_window_is_begun_before_the_last_batch_of_the_one_before_is_back() -> None:
    it = engine(10, in_flight=2)
    assert isinstance(it.task, QueueTask)
    a, b, c = texts = ["a" * 10, "b" * 10, "c" * 10]
    scored = score_windows(windows_of(it.task, texts), it, Marks(), observe_nothing, ChunkStats())
    assert [text for text, _ in scored] == texts
    assert it.task.told == [
        f"launch {a}", f"launch {b}", f"wait {a}", f"launch {c}", f"wait {b}", f"wait {c}"
    ]  # fmt: skip


def test_a_window_that_would_have_to_be_waited_for_waits_itself() -> None:
    it = engine(10, in_flight=2)
    assert isinstance(it.task, QueueTask)
    a, b = texts = ["a" * 10, "b" * 10]
    scored = score_windows(
        windows_of(it.task, texts), it, Marks(), observe_nothing, ChunkStats(),
        is_ready=lambda: False,
    )  # fmt: skip
    assert [text for text, _ in scored] == texts
    assert it.task.told == [f"launch {a}", f"wait {a}", f"launch {b}", f"wait {b}"]


def test_windows_without_rows_of_their_own_do_not_pile_up_behind_a_batch() -> None:
    it = engine(10, in_flight=2)
    taken: list[int] = []

    def windows() -> Iterator[tuple[int, Encodings | None, Any]]:
        for number in range(100):
            taken.append(number)
            yield number, None if number else it.task.encode(["a"]), np.arange(not number)

    scored = score_windows(windows(), it, Marks(), observe_nothing, ChunkStats())
    assert next(scored)[0] == 0
    assert len(taken) <= 4
    assert [number for number, _ in scored] == list(range(1, 100))


def test_each_batch_is_one_call_of_forward_whatever_overlaps() -> None:
    now = iter(range(10_000))
    calls: list[tuple[str, int, int]] = []

    @contextmanager
    def observe(stage: str, **counters: float) -> Iterator[Any]:
        began = next(now)
        try:
            yield SimpleNamespace(add=lambda **more: None)
        finally:
            calls.append((stage, began, next(now)))

    texts = ["a" * 10, "b" * 9, "x __raise__", "y __raise_decode__", "c" * 8]
    it = engine(10, in_flight=2)
    run_chunk(source(texts), it, ListSink(), observe, Marks())
    forward = [(began, ended) for stage, began, ended in calls if stage == "forward"]
    assert len(forward) == len(texts)
    assert all(ended < began for (_, ended), (began, _) in pairwise(forward))


def test_without_batches_ahead_each_is_forwarded_alone() -> None:
    it, control = engine(10), Marks()
    run_chunk(source(["a" * 10, "b" * 9]), it, ListSink(), observe_nothing, control)
    assert isinstance(it.task, QueueTask)
    assert it.task.told == []
    assert control.batches == [(0,), (1,)]


def test_an_error_that_comes_with_the_waiting_is_of_the_batch_waited_for() -> None:
    texts = ["a" * 50, "b" * 49, "x __raise__" + "c" * 30, "d" * 9]
    rows, _ = run(texts, tokens=60, in_flight=2)
    check(rows, texts, {2: "fake_fault"})


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_lost_device_is_no_error_of_its_rows(in_flight: int) -> None:
    texts = [f"text {i}" for i in range(40)] + ["the last __lost__"]
    sink, control = ListSink(), Marks()
    with pytest.raises(DeviceLost, match="device-side assert"):
        run_chunk(source(texts), engine(100, in_flight=in_flight), sink, observe_nothing, control)
    assert sink.rows == []
    assert 40 in control.rows


# -- stopping, and errors that must be heard


def test_stopped_between_batches_writes_no_more() -> None:
    texts = [f"text {i}" for i in range(400)]
    control = Marks(stop_before=3)
    with pytest.raises(Stopped, match="drain"):
        run_chunk(source(texts), engine(100), ListSink(), observe_nothing, control)
    assert len(control.batches) == 3


def test_an_error_of_the_source_is_heard() -> None:
    def broken() -> Iterator[Window]:
        yield window(["a"], 0)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        run_chunk(broken, engine(), ListSink(), observe_nothing, Marks())


def test_an_error_of_the_sink_is_heard() -> None:
    with pytest.raises(DiskFull):
        run_chunk(source(["a"] * 500), engine(), ListSink(fails_at=10), observe_nothing, Marks())


def test_an_error_of_the_sink_in_the_last_window_is_heard() -> None:
    with pytest.raises(DiskFull):
        run_chunk(source(["a"] * 50), engine(), ListSink(fails_at=10), observe_nothing, Marks())


def test_a_death_in_the_tokenizer_is_heard() -> None:
    it = engine()
    it.task.encode = die  # type: ignore[method-assign,assignment]
    with pytest.raises(Died):
        run_chunk(source(["a"] * 50), it, ListSink(), observe_nothing, Marks())


# -- rows that kill


def record(control: Marks) -> Attempt:
    return Attempt(
        chunk=0,
        number=1,
        attempt="a",
        cause="worker_lost",
        rows=control.rows,
        encoding=control.window,
    )


def survive(texts: Sequence[Text], tokens: int, limit: int) -> tuple[list[Any], int]:
    """Try until the chunk is whole, as a fleet would; the rows and the number of attempts."""
    records: list[Attempt] = []
    while len(records) < limit:
        sink, control = ListSink(), Marks()
        doubt = suspicion(records, len(texts))
        try:
            run_chunk(
                source(texts, 300), engine(tokens), sink, observe_nothing, control, suspicion=doubt
            )
        except Died:
            records.append(record(control))
        else:
            return sink.rows, len(records) + 1
    raise AssertionError(f"{limit} attempts were not enough")


@pytest.mark.parametrize("tokens", [30, 1_000, 100_000])
@pytest.mark.parametrize("row", [0, 517, 999])
def test_a_row_that_kills_is_the_only_error_after_at_most_twelve_attempts(
    row: int, tokens: int
) -> None:
    texts: list[Text] = [f"text {i}" for i in range(1_000)]
    texts[row] = "die __kill__"
    rows, attempts = survive(texts, tokens, limit=12)
    check(rows, texts, {row: "worker_lost"})
    assert attempts <= 12


def test_copies_of_a_deadly_text_share_its_fate_without_killing_again() -> None:
    texts: list[Text] = [f"text {i}" for i in range(1_000)]
    for row in (100, 101, 450, 999):
        texts[row] = "die __kill__"
    rows, _ = survive(texts, 500, limit=24)
    check(rows, texts, dict.fromkeys((100, 101, 450, 999), "worker_lost"))


def test_three_deadly_rows_and_rows_that_raise_are_told_apart() -> None:
    texts: list[Text] = [f"text {i}" for i in range(1_000)]
    for n, row in enumerate((3, 4, 700)):
        texts[row] = f"die {n} __kill__"
    texts[5] = "bad __raise__"
    texts[6] = NULL_TEXT
    texts[7] = "bad __raise_encode__"
    rows, _ = survive(texts, 500, limit=36)
    expected = dict.fromkeys((3, 4, 700), "worker_lost")
    check(rows, texts, {**expected, 5: "fake_fault", 6: "null_text", 7: "fake_fault"})


def test_suspects_run_after_all_others_and_each_group_by_itself() -> None:
    texts = [f"text {i}" for i in range(100)]
    control = Marks()
    run_chunk(
        source(texts),
        engine(10_000),
        sink := ListSink(),
        observe_nothing,
        control,
        suspicion=Suspicion(groups=((10, 60), (11,))),
    )
    check(sink.rows, texts, {})
    assert control.batches[-4:] == [(10, 60), (10, 60), (11,), (11,)]
    assert not {10, 11, 60} & {r for b in control.batches[:-4] for r in b}


def test_a_condemned_row_is_not_computed_again() -> None:
    texts = ["die __kill__", "fine"]
    rows, _ = run(texts, suspicion=Suspicion(condemned={0: "timeout"}))
    check(rows, texts, {0: "timeout"})
    assert "time limit" in rows[0]["error_message"]
