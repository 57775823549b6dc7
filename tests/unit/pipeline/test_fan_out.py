"""Rows that become several items: packed and halved by themselves, and joined again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.coordination.attempts import suspect_rows
from headrace.tasks.contract import LoadRequest
from headrace.tasks.fan_out import FanOut
from headrace.tracing.chunk_trace import observe_nothing
from schemas.records.manifest import Attempt
from tests.unit.one_chunk import Died, ListSink, Marks, Text, die, run_source, source, window
from tests.unit.split_task import SplitTask
from workers.batching.packing import Budget
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import NULL_TEXT, ChunkStats, RowError
from workers.pipeline.tokenize import WINDOW_ITEMS, cut_by_items, tokenize_window
from workers.tasks.fake import digest_of


def split_engine(tokens: int = 40, in_flight: int = 1) -> LoadedTask:
    task = SplitTask(kill=die)
    task.load(LoadRequest("", "cpu", "float32", None, {"faults": True}))
    return LoadedTask(task, Budget(tokens), padded=False, in_flight=in_flight)


def run(
    texts: Sequence[Text],
    tokens: int = 40,
    in_flight: int = 1,
    marks: Marks | None = None,
    **more: Any,
) -> tuple[list[Any], ChunkStats]:
    sink, it = ListSink(), split_engine(tokens, in_flight)
    stats = run_source(source(texts), it, sink, observe_nothing, marks or Marks(), **more)
    return sink.rows, stats


def expected(text: Text) -> list[str]:
    return [digest_of(word) for word in str(text).split()]


WORDS = st.sampled_from(
    ["a", "bb", "ccc", "x" * 30, "__raise__", "__raise_decode__", "__raise_join__", "__oom__60"]
)
TEXTS = st.lists(
    st.one_of(
        st.lists(WORDS, max_size=8).map(" ".join),
        st.just("z __raise_encode__"),
        st.just(NULL_TEXT),
    ),
    max_size=70,
)


@given(TEXTS, st.integers(1, 200), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_every_row_gets_its_own_items_in_order_or_the_error_of_one(
    texts: list[Text], tokens: int, in_flight: int
) -> None:
    rows, stats = run(texts, tokens, in_flight)
    assert [row["id"] for row in rows] == list(range(len(texts)))
    for row, text in zip(rows, texts, strict=True):
        if isinstance(text, RowError) or "__raise" in text:
            wanted = text.error_type if isinstance(text, RowError) else "fake_fault"
            assert (row["status"], row["error_type"], row["words"]) == ("error", wanted, None)
        else:
            assert (row["status"], row["words"]) == ("ok", expected(text))
            assert row["n_tokens"] == sum(len(word) for word in text.split())
    assert stats.rows == len(texts)
    assert stats.computed <= stats.ok


def test_items_are_packed_by_themselves_and_equal_ones_computed_once() -> None:
    marks = Marks()
    rows, stats = run(["aaa bbb ccc", "aaa bbb", "ddd"], tokens=6, marks=marks)
    assert [row["words"] for row in rows] == [
        expected(t) for t in ("aaa bbb ccc", "aaa bbb", "ddd")
    ]
    # four items of three tokens, two to a batch: the first row is in both batches
    assert marks.batches == [(0, 1), (0, 2)]
    assert (stats.tokens, stats.batches, stats.computed, stats.duplicates) == (12, 2, 3, 0)


def test_a_fault_of_an_item_is_an_error_of_each_row_that_has_it() -> None:
    rows, stats = run(["a __raise__", "a", "b __raise__ c", "b"])
    assert [row["status"] for row in rows] == ["error", "ok", "error", "ok"]
    assert stats.errors_by_type == {"fake_fault": 2}


def test_a_row_without_items_is_joined_from_none() -> None:
    rows, _ = run(["", "a", " "])
    assert [row["words"] for row in rows] == [[], expected("a"), []]
    assert [row["n_tokens"] for row in rows] == [0, 1, 0]


def test_a_row_is_cut_if_any_of_its_items_is() -> None:
    it = split_engine()
    it.task.load(LoadRequest("", "cpu", "float32", 2, {}))
    sink = ListSink()
    run_source(source(["aa bbb", "aa"]), it, sink, observe_nothing, Marks())
    assert [(row["n_tokens"], row["truncated"]) for row in sink.rows] == [(4, True), (2, False)]


def test_a_window_is_cut_by_its_items_and_a_row_never() -> None:
    task = SplitTask()
    many = "w " * (WINDOW_ITEMS // 2)
    whole = window([many, "a", many, many * 3, NULL_TEXT, "b"], 100)
    parts = list(cut_by_items(whole, task))
    assert [(part.start, len(part)) for part in parts] == [(100, 2), (102, 1), (103, 1), (104, 2)]
    assert [row for part in parts for row in part.hashes] == list(whole.hashes)
    assert [row for part in parts for row in part.carried["id"].to_pylist()] == list(
        range(100, 106)
    )


def test_items_of_many_rows_are_never_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    encode = SplitTask.encode

    def counted(self: SplitTask, texts: Sequence[str], pairs: Any = None) -> Any:
        found = encode(self, texts, pairs)
        seen.append(len(found.fan.item_of))
        return found

    monkeypatch.setattr(SplitTask, "encode", counted)
    texts = [" ".join(f"{row}.{i}" for i in range(500)) for row in range(50)]
    rows, _ = run(texts, tokens=20_000)
    assert max(seen) <= WINDOW_ITEMS
    assert sum(seen) == 50 * 500
    assert rows[49]["words"] == expected(texts[49])


@pytest.mark.parametrize("row", [0, 13, 19])
def test_a_deadly_item_is_found_and_its_row_is_the_error(row: int) -> None:
    texts = [f"a{i} b{i} same" for i in range(20)]
    texts[row] = "same c __kill__ same"
    attempts: list[Attempt] = []
    while len(attempts) < 12:
        marks, sink = Marks(), ListSink()
        suspicion = suspect_rows(attempts, len(texts))
        try:
            run_source(
                source(texts), split_engine(), sink, observe_nothing, marks, suspicion=suspicion
            )
            break
        except Died:
            attempts.append(
                Attempt(chunk=0, number=1, attempt="a", cause="worker_lost", rows=marks.rows)
            )
    assert [it["id"] for it in sink.rows if it["status"] == "error"] == [row]
    assert sink.rows[5]["words"] == expected(texts[5])


def test_the_rows_of_items_and_their_sums() -> None:
    fan = FanOut(np.array([0, 2, 2, 5]), np.array([0, 1, 1, 2, 1]), ["x", "y", "z"])
    assert fan.rows_with(np.array([0]), 3).tolist() == [0]
    assert fan.rows_with(np.array([1]), 3).tolist() == [0, 2]
    assert fan.sums(np.array([1, 10, 100])).tolist() == [11, 0, 120]
    picked = fan.take(np.array([2, 1]))
    assert (picked.starts.tolist(), picked.item_of.tolist(), picked.extra) == (
        [0, 3, 3],
        [1, 2, 1],
        ["z", "y"],
    )


def test_the_profile_counts_a_shared_item_for_each_of_its_rows() -> None:
    from headrace.profiles.measure import ProfileBuilder
    from headrace.tasks.spec import TaskSpec
    from workers.pipeline.profile import _add_tokens

    task = SplitTask()
    prepared = tokenize_window(window(["ab", "ab ab c", "ab"], 0), task, poison={})
    builder = ProfileBuilder(TaskSpec(name="split"))
    _add_tokens(builder, prepared)
    assert int(builder._counts[:, ord("a")].sum()) == 4


def test_requests_that_are_computed_together_keep_their_items() -> None:
    from workers.online.model import OnlineModel

    model = OnlineModel(split_engine(), "split", "fake")
    requests = [model.prepare(texts) for texts in (["a bb", ""], ["bb __raise__", "ccc a"])]
    first, second = model.compute(requests)
    assert [it.values["words"] for it in first] == [expected("a bb"), []]
    assert [it.fault is not None for it in second] == [True, False]
    assert (second[1].values["words"], second[1].n_tokens) == (expected("ccc a"), 4)
