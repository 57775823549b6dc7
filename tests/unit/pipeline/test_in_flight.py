"""Batches that are on the device while others wait: order, clocks, and what fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import Encodings
from headrace.tracing.chunk_trace import observe_nothing
from schemas.errors import DeviceLost
from tests.unit.one_chunk import (
    ListSink,
    Marks,
    QueueTask,
    check,
    engine,
    run,
    run_source,
    source,
)
from workers.batching.packing import Budget
from workers.pipeline.forward import score_windows
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import ChunkStats
from workers.tasks.fake import FakeTask


def test_the_next_batch_is_launched_before_the_one_before_is_waited_for() -> None:
    it, control = engine(10, in_flight=2), Marks()
    run_source(source(["a" * 10, "b" * 9, "c" * 8]), it, ListSink(), observe_nothing, control)
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
    run_source(source(texts), it, ListSink(), observe, Marks())
    forward = [(began, ended) for stage, began, ended in calls if stage == "forward"]
    assert len(forward) == len(texts)
    assert all(ended < began for (_, ended), (began, _) in pairwise(forward))


def test_without_batches_ahead_each_is_forwarded_alone() -> None:
    it, control = engine(10), Marks()
    run_source(source(["a" * 10, "b" * 9]), it, ListSink(), observe_nothing, control)
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
        run_source(source(texts), engine(100, in_flight=in_flight), sink, observe_nothing, control)
    assert sink.rows == []
    assert 40 in control.rows


def test_a_row_that_is_larger_than_the_budget_has_nothing_large_beside_it() -> None:
    it = engine(10, in_flight=3)
    assert isinstance(it.task, QueueTask)
    a, b, c, d = "a" * 40, "b" * 10, "c" * 10, "d" * 10
    run_source(source([a, b, c, d]), it, ListSink(), observe_nothing, Marks())
    assert it.task.told == [
        f"launch {a}", f"wait {a}", f"launch {b}", f"launch {c}", f"launch {d}",
        f"wait {b}", f"wait {c}", f"wait {d}",
    ]  # fmt: skip


def test_a_task_says_how_many_batches_its_device_takes() -> None:
    class Wide(QueueTask):
        in_flight = 4

    assert LoadedTask(Wide(), Budget(10), padded=False, in_flight=2).in_flight == 4
