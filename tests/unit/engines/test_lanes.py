"""Batches of one model that run side by side on threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from headrace.tasks.contract import Encodings, LoadRequest
from tests.unit.tiny_models import TEXTS, TinyModels
from workers.batching.packing import Budget, pack
from workers.devices.device import set_threads
from workers.devices.lanes import Lanes
from workers.pipeline.loaded_task import LoadedTask
from workers.tasks.text_classification import TextClassification

WAIT_S = 30.0


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As in a worker with two threads; other tests find what they had."""
    import torch

    before = torch.get_num_threads()
    set_threads("cpu", 2)
    yield
    torch.set_num_threads(before)


def test_as_many_run_at_the_same_time_as_there_are_lanes() -> None:
    meeting = threading.Barrier(3)
    lanes = Lanes(3)
    waits = [lanes.start(lambda: meeting.wait(WAIT_S)) for _ in range(3)]
    assert sorted(wait() for wait in waits) == [0, 1, 2]


def test_an_error_is_raised_where_the_result_is_waited_for() -> None:
    def fails() -> int:
        raise MemoryError("out of memory")

    lanes = Lanes(2)
    first, second = lanes.start(fails), lanes.start(lambda: 2)
    assert second() == 2
    with pytest.raises(MemoryError, match="out of memory"):
        first()


def loaded(path: str, dtype: str = "float32") -> TextClassification:
    task = TextClassification()
    task.load(LoadRequest(path, "cpu", dtype, None, {}))
    return task


def batches(task: TextClassification) -> list[Encodings]:
    encoded = task.encode([f"{text} {i}" for i in range(20) for text in TEXTS])
    return [encoded.take(rows) for rows in pack(encoded.lengths, 64, padded=False)]


def numbers(task: TextClassification) -> list[Any]:
    """Of all batches, started before the first is waited for."""
    return [wait() for wait in [task.launch(batch) for batch in batches(task)]]


@pytest.mark.parametrize("family", ["bert", "llama", "deberta-v2"])
def test_answers_are_those_of_one_lane(family: str, tiny: TinyModels, two_threads: None) -> None:
    path = tiny(family, "SequenceClassification", num_labels=3)
    side_by_side = loaded(path)
    assert side_by_side.engine.runner.lanes.count == 2
    set_threads("cpu", 1)
    one = loaded(path)
    assert one.engine.runner.lanes is None
    for a, b in zip(numbers(side_by_side), numbers(one), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_worker_starts_more_batches_than_it_has_lanes(
    tiny: TinyModels, two_threads: None
) -> None:
    import torch

    task = loaded(tiny("bert", "SequenceClassification", num_labels=3))
    assert LoadedTask(task, Budget(64), padded=False).in_flight == 3
    assert torch.get_num_threads() == 1  # an operation is not split as well


def test_a_model_whose_forward_changes_it_has_all_threads_for_one_batch(
    tiny: TinyModels, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from workers.engines.packed.model_state import ModelState

    monkeypatch.setattr(ModelState, "__bool__", lambda self: True)
    task = loaded(tiny("bert", "SequenceClassification", num_labels=3))
    assert task.engine.runner.lanes is None
    assert LoadedTask(task, Budget(64), padded=False).in_flight == 1
    assert torch.get_num_threads() == 2


def test_a_lane_keeps_what_it_rounded_whatever_its_neighbour_rounds() -> None:
    import torch

    from workers.engines.packed.int8 import _Rounding

    rounding, one, other = _Rounding(None), Lanes(1), Lanes(1)
    x, y = torch.full((4, 8), 1.0), torch.linspace(0, 5, 32).reshape(4, 8)
    first = one.start(lambda: rounding(x))()
    theirs = other.start(lambda: rounding(y))()
    assert not torch.equal(first[1], theirs[1])
    assert one.start(lambda: rounding(x))() is first
