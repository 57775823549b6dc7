"""The token budget is found by trying, kept for the next start, and halved when memory ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import (
    Encodings,
    LoadRequest,
    SupportsBudgetSearch,
)
from tests.unit.tiny_models import TinyModels
from workers.batching.budget_cache import KEPT_S, BudgetCache
from workers.batching.budget_search import (
    LADDERS,
    Found,
    Ladder,
    find_budget,
)
from workers.batching.packing import Budget
from workers.tasks.fake import FakeOutOfMemory, FakeTask
from workers.tasks.text_classification import TextClassification

RUNGS = Ladder((512, 1024, 2048, 4096), limit_s=1e6, repeats=2)


def device(
    rates: dict[int, float], memory: int = 10**9, at_others: float = 1.0
) -> Callable[[int], float | None]:
    """A device with a speed (tokens a second) for each size, and memory for so many tokens."""
    return lambda tokens: None if tokens > memory else tokens / rates.get(tokens, at_others)


def search(seconds_of: Any, ladder: Ladder = RUNGS, memory: int = 10**9) -> Found:
    return find_budget(seconds_of, lambda tokens: tokens <= memory, ladder, 2048)


@pytest.mark.parametrize(
    ("rates", "found"),
    [
        ({512: 100, 1024: 120, 2048: 140, 4096: 160}, 4096),  # more gains to the end
        ({512: 100, 1024: 120, 2048: 121, 4096: 500}, 1024),  # flat: nothing larger is tried
        ({512: 100, 1024: 101.9, 2048: 500, 4096: 500}, 512),  # may be noise: the smaller
        ({512: 100, 1024: 80, 2048: 500, 4096: 500}, 512),
    ],
)
def test_the_smallest_size_within_two_percent_of_the_best(
    rates: dict[int, float], found: int
) -> None:
    assert search(device(rates, at_others=50)) == Found(found)


def test_noise_below_two_percent_moves_no_budget() -> None:
    for seed in range(50):
        noise = np.random.default_rng(seed).uniform(0.991, 1.009, 4)
        rates = dict(zip(RUNGS.rungs, np.array([80, 100, 100, 100]) * noise, strict=True))
        assert search(device(rates)).tokens == 1024


def test_where_memory_ends_the_budget_is_half() -> None:
    rising = {512: 100.0, 1024: 120.0, 2048: 140.0, 4096: 160.0}
    assert search(device(rising, memory=3000)) == Found(2048, 4096)
    assert search(device(rising, memory=700)) == Found(512, 1024)
    assert search(device(rising, memory=10)) == Found(32, 64)


def test_the_longest_rows_must_fit_too() -> None:
    rising = {512: 100.0, 1024: 120.0, 2048: 140.0, 4096: 160.0}
    assert search(device(rising), memory=1500) == Found(1024, 2048)


def test_a_slow_model_is_not_tried_out() -> None:
    tried: list[int] = []

    def seconds_of(tokens: int) -> float:
        tried.append(tokens)
        return tokens / 10.0

    ladder = Ladder((512, 1024), limit_s=5.0, repeats=1)
    assert search(seconds_of, ladder) == Found(2048)
    assert tried == [64]


def test_a_first_batch_that_compiles_kernels_ends_no_search() -> None:
    compiling = iter([60.0])
    ladder = Ladder((512, 1024), limit_s=50.0, repeats=2)
    fast = device({512: 100.0, 1024: 200.0}, at_others=100.0)
    assert search(lambda tokens: next(compiling, None) or fast(tokens), ladder) == Found(1024)


def test_when_the_time_ends_on_the_way_up_it_is_the_default() -> None:
    rates = {512: 100.0, 1024: 120.0, 2048: 140.0}
    ladder = Ladder((512, 1024, 2048), limit_s=30.0, repeats=1)
    assert search(device(rates, at_others=90), ladder) == Found(2048)


# -- kept for the next start


class Probing(FakeTask):
    """A task whose batches take the given time and memory."""

    def __init__(self, memory: int = 10**9, facts: str = "one") -> None:
        super().__init__()
        self.memory, self.facts = memory, facts
        self.tried: list[int] = []

    def probe_batch(self, tokens: int, row_tokens: int | None) -> Encodings:
        return Encodings(np.zeros(tokens, np.int32), np.array([0, tokens]), np.array([False]))

    def budget_facts(self) -> dict[str, str]:
        return {"device": self.facts}

    def forward(self, batch: Encodings) -> list[str]:
        self.tried.append(int(batch.offsets[-1]))
        if self.tried[-1] > self.memory:
            raise FakeOutOfMemory
        return []


def book(folder: Path, task: Any, now_s: float = 0.0, device: str = "cuda:0") -> BudgetCache:
    return BudgetCache(task, device, {"model": "m"}, folder, lambda: now_s)


def test_a_second_start_costs_nothing_and_begins_with_the_same(tmp_path: Path) -> None:
    first = book(tmp_path, Probing(memory=20_000)).start(None)
    again = Probing()
    assert book(tmp_path, again).start(None) == first
    assert first.failed_at is not None
    assert first.tokens * 2 <= first.failed_at
    assert again.tried == []


def test_another_device_or_version_is_searched_for_itself(tmp_path: Path) -> None:
    book(tmp_path, Probing()).start(None)
    other = Probing(facts="two")
    book(tmp_path, other).start(None)
    assert other.tried


def test_what_is_old_or_damaged_is_searched_again(tmp_path: Path) -> None:
    book(tmp_path, Probing()).start(None)
    later = Probing()
    book(tmp_path, later, now_s=KEPT_S + 1).start(None)
    assert later.tried
    (file,) = tmp_path.iterdir()
    for text in ("{", "[]", '{"key": 1}', json.dumps(json.loads(file.read_text()) | {"tokens": 0})):
        file.write_text(text)
        damaged = Probing()
        book(tmp_path, damaged).start(None)
        assert damaged.tried, text


def test_out_of_memory_is_remembered(tmp_path: Path) -> None:
    task = Probing()
    running = book(tmp_path, task)
    budget = running.start(None)
    running.learn(budget.after_out_of_memory(20_000))
    assert running.start(None) == Budget(10_000, 20_000)
    assert book(tmp_path, Probing()).start(None) == Budget(10_000, 20_000)


def test_one_row_that_never_fits_does_not_slow_every_job(tmp_path: Path) -> None:
    running = book(tmp_path, Probing())
    running.learn(running.start(None).after_out_of_memory(3))
    assert book(tmp_path, Probing()).start(None).tokens == LADDERS["cuda"].rungs[0]


def test_a_budget_set_by_hand_needs_no_search_and_gives_way_to_memory_only(tmp_path: Path) -> None:
    task = Probing()
    running = book(tmp_path, task)
    assert running.start(60_000) == Budget(60_000)
    assert task.tried == []
    running.learn(Budget(60_000).after_out_of_memory(60_000))
    assert running.start(60_000).tokens == 30_000
    assert book(tmp_path, Probing()).start(50_000).tokens == 50_000
    assert book(tmp_path, Probing()).start(None).tokens < 60_000


def test_a_task_that_fails_on_made_up_rows_keeps_its_default(tmp_path: Path) -> None:
    class Broken(Probing):
        def forward(self, batch: Encodings) -> list[str]:
            raise ValueError("not this")

    assert book(tmp_path, Broken()).start(None) == Budget(FakeTask().default_batch_tokens())
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert book(tmp_path / "file" / "below", Probing()).start(None).tokens > 0


def test_a_task_without_a_probe_has_its_default(tmp_path: Path) -> None:
    assert book(tmp_path, FakeTask()).start(None) == Budget(FakeTask().default_batch_tokens())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_real_model_is_tried_with_batches_of_the_asked_size(
    family: str, tiny: TinyModels, tmp_path: Path
) -> None:
    task = TextClassification()
    path = tiny(family, "SequenceClassification", num_labels=3)
    task.load(LoadRequest(str(path), "cpu", "float32", 128, {}))
    assert isinstance(task, SupportsBudgetSearch)
    assert task.probe_batch(512, 64).lengths.tolist() == [64] * 8
    assert task.probe_batch(512, None).lengths.tolist() == [128] * 4
    found = book(tmp_path, task, device="cpu").start(None)
    assert found.tokens in LADDERS["cpu"].rungs
    assert book(tmp_path, task, device="cpu").start(None) == found
    assert {"mode", "device", "threads", "max_length"} <= task.budget_facts().keys()
