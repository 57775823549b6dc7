"""The fake task with many items to a row answers as the fake task does."""

from __future__ import annotations

import numpy as np

from headrace.tasks.contract import LoadRequest
from headrace.tasks.registry import load_task
from headrace.tracing.chunk_trace import observe_nothing
from tests.unit.one_chunk import Marks
from workers.batching.packing import Budget
from workers.pipeline.forward import score
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import ChunkStats
from workers.tasks.fake import FakeTask
from workers.tasks.fake_windows import FakeTaskInWindows

PARAMS = {"long_text": "window", "piece": 3, "faults": True}


def test_its_rows_are_those_of_the_fake_task_and_a_marked_item_is_its_rows_error() -> None:
    task = load_task("fake", params=PARAMS)
    assert isinstance(task, FakeTaskInWindows)
    task.load(LoadRequest("", "cpu", "float32", None, PARAMS))
    texts = ["one two three", "", "a __raise__ b", "four"]
    encoded = task.encode(texts)
    assert task.count_items(texts, None).tolist() == [5, 1, 1, 2]
    engine = LoadedTask(task, Budget(8), task.padded)
    found = score(encoded, np.arange(4), engine, Marks(), observe_nothing, ChunkStats())
    assert found.faults.keys() == {2}
    plain = FakeTask()
    whole = plain.encode(texts)
    wanted = plain.decode(whole, plain.forward(whole)).to_pylist()
    rows = found.values.to_pylist()
    assert [rows[at] for at in (0, 1, 3)] == [wanted[at] for at in (0, 1, 3)]
