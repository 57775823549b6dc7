"""The port of an engine: what every engine gives, and a task that takes whichever it is handed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import Encodings, LoadRequest
from schemas.errors import ConfigError
from schemas.records.engine import PACKED
from tests.unit.tiny_models import TinyModels, answers
from workers.engines.base import Engine, EngineRequest, Handle, LoadedModel
from workers.engines.catalog import ENGINES, GROUP, make_engine
from workers.tasks.text_classification import TextClassification

TEXTS = ["a", "the weather is fine today, is it not?", "one two three " * 5]


class CountingEngine:
    """An engine without a model: a row's numbers are its tokens and their sum."""

    padded = False
    width = 2
    in_flight = 1

    def load(self, request: EngineRequest) -> LoadedModel:
        return LoadedModel(request.config, positions=None)

    def prepare(self, encode: Callable[[Sequence[str]], Encodings]) -> None:
        encode(["a"])

    def submit(self, batch: Encodings) -> Handle:
        sums = np.add.reduceat(batch.ids, batch.offsets[:-1])
        numbers = np.stack([batch.lengths, sums], axis=1).astype(np.float32)
        return lambda: numbers

    def collect(self, handle: Handle) -> np.ndarray:
        return handle()

    def costs(self, rows: Encodings) -> np.ndarray:
        return rows.lengths + 3

    def default_batch_tokens(self) -> int:
        return 64

    def budget_facts(self) -> dict[str, str]:
        return {"engine": "counting"}

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    def is_device_lost(self, error: BaseException) -> bool:
        return False


MAKERS: dict[str, Callable[[], Engine]] = {**ENGINES, "counting": CountingEngine}


@pytest.fixture(params=sorted(MAKERS))
def task(request: pytest.FixtureRequest, tiny: TinyModels) -> TextClassification:
    task = TextClassification(lambda name: MAKERS[request.param]())
    path = tiny("bert", "SequenceClassification", num_labels=2)
    task.load(LoadRequest(path, "cpu", "float32", None, {}))
    return task


def test_a_started_batch_gives_a_line_of_numbers_for_each_row(task: TextClassification) -> None:
    engine, batch = task.engine, task.encode(TEXTS)
    handles = [engine.submit(batch), engine.submit(batch.take(np.array([1])))]
    whole, alone = (engine.collect(handle) for handle in handles)
    assert whole.shape == (len(TEXTS), engine.width)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole[1:2], alone, atol=1e-5)


def test_it_says_what_rows_cost_and_what_its_budget_hangs_on(task: TextClassification) -> None:
    batch = task.encode(TEXTS)
    costs = task.engine.costs(batch)
    assert (costs >= batch.lengths).all()
    assert costs.dtype == np.int64
    assert task.engine.default_batch_tokens() >= 1
    assert all(isinstance(v, str) for v in task.engine.budget_facts().values())


def test_it_knows_its_own_out_of_memory(task: TextClassification) -> None:
    assert not task.engine.is_out_of_memory(ValueError("no"))
    assert not task.engine.is_device_lost(ValueError("no"))


def test_a_task_decodes_what_the_engine_it_was_handed_gives(tiny: TinyModels) -> None:
    asked: list[str] = []

    def make(name: str) -> Engine:
        asked.append(name)
        return CountingEngine()

    task: Any = TextClassification(make)
    path = tiny("bert", "SequenceClassification", num_labels=2)
    task.load(LoadRequest(path, "cpu", "float32", None, {}, engine="counting"))
    assert asked == ["counting"]
    # the sum of ids is larger than their count: the second label wins by as good as all
    found = answers(task, TEXTS)
    assert [row["predicted_label"] for row in found] == ["LABEL_1"] * len(TEXTS)
    assert task.budget_facts()["engine"] == "counting"


def test_an_engine_is_found_by_its_name() -> None:
    point = EntryPoint("counting", f"{__name__}:CountingEngine", GROUP)
    assert isinstance(make_engine("counting", [point]), CountingEngine)
    assert type(make_engine(PACKED, [])).__name__ == "PackedEngine"


@pytest.mark.parametrize("value", ["no_such_module:Engine", f"{__name__}:NOTHING"])
def test_an_engine_that_cannot_be_imported_says_where_it_is(value: str) -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        make_engine("broken", [EntryPoint("broken", value, GROUP)])


def test_an_unknown_engine_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no engine 'vllm'; it has counting, packed"):
        make_engine("vllm", [EntryPoint("counting", "a:b", GROUP)])
