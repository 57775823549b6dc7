"""One chunk through the pipeline, with lists for a source and the fake task for a model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.coordination.attempts import SuspectRows, suspect_rows
from headrace.tasks.contract import LoadRequest
from headrace.tracing.chunk_trace import observe_nothing
from schemas.errors import DiskFull, Stopped
from schemas.records.manifest import Attempt
from tests.unit.one_chunk import (
    Died,
    ListSink,
    Marks,
    Text,
    check,
    die,
    engine,
    run,
    run_source,
    source,
    window,
)
from workers.batching.packing import Budget
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import (
    INVALID_TEXT,
    NULL_TEXT,
    RowError,
    Window,
)
from workers.tasks.fake import FakeTask

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
        i: t.error_type if isinstance(t, RowError) else "fake_fault"
        for i, t in enumerate(texts)
        if isinstance(t, RowError) or "__raise" in t
    }
    check(rows, texts, errors)
    assert (stats.rows, stats.errors) == (len(texts), len(errors))


def test_a_text_is_computed_once_for_all_its_copies_in_a_window() -> None:
    rows, stats = run(["a", "b", "a", "a", "b"] * 10)
    check(rows, ["a", "b", "a", "a", "b"] * 10, {})
    assert stats.computed == 2


def test_a_chunk_says_which_tokenizer_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["a"])[1].tokenizer == ""
    monkeypatch.setattr(FakeTask, "tokenizer_library", "nanotoken 0.1.0", raising=False)
    assert run(["a"])[1].tokenizer == "nanotoken 0.1.0"


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
    run_source(
        source(["abc", "abcdef"]),
        LoadedTask(task, Budget(99), False),
        sink,
        observe_nothing,
        Marks(),
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
    stats = run_source(source(texts, 50), it, ListSink(), observe_nothing, Marks())
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
    run_source(source(texts), LoadedTask(task, Budget(4096), False), sink, observe_nothing, Marks())
    assert time.process_time() - began < 2
    assert [r["truncated"] for r in sink.rows] == [False, True, False]
    assert sink.rows[1]["n_tokens"] == 512


# -- stopping, and errors that must be heard


def test_stopped_between_batches_writes_no_more() -> None:
    texts = [f"text {i}" for i in range(400)]
    control = Marks(stop_before=3)
    with pytest.raises(Stopped, match="drain"):
        run_source(source(texts), engine(100), ListSink(), observe_nothing, control)
    assert len(control.batches) == 3


def test_an_error_of_the_source_is_heard() -> None:
    def broken() -> Iterator[Window]:
        yield window(["a"], 0)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        run_source(broken, engine(), ListSink(), observe_nothing, Marks())


def test_an_error_of_the_sink_is_heard() -> None:
    with pytest.raises(DiskFull):
        run_source(source(["a"] * 500), engine(), ListSink(fails_at=10), observe_nothing, Marks())


def test_an_error_of_the_sink_in_the_last_window_is_heard() -> None:
    with pytest.raises(DiskFull):
        run_source(source(["a"] * 50), engine(), ListSink(fails_at=10), observe_nothing, Marks())


def test_a_death_in_the_tokenizer_is_heard() -> None:
    it = engine()
    it.task.encode = die  # type: ignore[method-assign,assignment]
    with pytest.raises(Died):
        run_source(source(["a"] * 50), it, ListSink(), observe_nothing, Marks())


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
        doubt = suspect_rows(records, len(texts))
        try:
            run_source(
                source(texts, 300),
                engine(tokens),
                sink,
                observe_nothing,
                control,
                suspicion=doubt,
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


def test_three_poison_rows_and_rows_that_raise_are_distinguished() -> None:
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
    run_source(
        source(texts),
        engine(10_000),
        sink := ListSink(),
        observe_nothing,
        control,
        suspicion=SuspectRows(groups=((10, 60), (11,))),
    )
    check(sink.rows, texts, {})
    assert control.batches[-4:] == [(10, 60), (10, 60), (11,), (11,)]
    assert not {10, 11, 60} & {r for b in control.batches[:-4] for r in b}


def test_a_poison_row_is_not_computed_again() -> None:
    texts = ["die __kill__", "fine"]
    rows, _ = run(texts, suspicion=SuspectRows(poison={0: "timeout"}))
    check(rows, texts, {0: "timeout"})
    assert "time limit" in rows[0]["error_message"]
