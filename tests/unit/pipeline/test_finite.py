"""NaN and infinity are no answer: the rows that have them are errors, whatever the task."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from headrace.tasks.contract import LoadRequest, Task
from headrace.tasks.finite import rows_not_finite
from headrace.tasks.registry import load_task
from schemas.errors import ModelError
from tests.unit.tiny_models import TinyModels
from workers.batching.packing import Budget
from workers.pipeline.forward import score
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import NOT_FINITE, ChunkStats
from workers.tasks.fake import FakeTask

NAN, INF = math.nan, math.inf
PAIR = pa.struct([("label", pa.string()), ("score", pa.float32())])


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        (pa.array([1.0, NAN, None, -INF]), [1, 3]),
        (pa.array([1, 2, 3, 4]), []),
        (pa.array(["a", None, "c", "d"]).dictionary_encode(), []),
        (pa.array([[1.0], [], None, [0.0, INF]], pa.list_(pa.float32())), [3]),
        (pa.array([[1.0], [], None, [NAN]], pa.large_list(pa.float64())), [3]),
        (pa.array([[0, 1], None, [NAN, 0], [1, 1]], pa.list_(pa.float32(), 2)), [2]),
        (pa.array([{"a": 1.0}, {"a": NAN}, None, {"a": None}]), [1]),
        (pa.array([[{"label": "x", "score": NAN}], [], [{"label": "y", "score": 1.0}], None],
                  pa.list_(PAIR)), [0]),
        (pa.array([np.float16(1), np.float16("nan"), np.float16(0), None], pa.float16()), [1]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("start", [0, 1])
def test_a_number_that_is_none_is_found_in_any_type(
    column: pa.Array, bad: list[int], start: int
) -> None:
    batch = pa.record_batch([column, pa.array(range(4))], names=["it", "other"]).slice(start)
    found = np.flatnonzero(rows_not_finite(batch)) + start
    assert found.tolist() == [row for row in bad if row >= start]


class _Control:
    def check(self) -> None: ...
    def forwarding(self, rows: Any) -> None: ...
    def encoding(self, start: int, stop: int) -> None: ...


def _observe(stage: str, **counters: float) -> Any:
    import contextlib

    return contextlib.nullcontext()


def faults(task: Task, texts: list[str]) -> dict[int, Any]:
    loaded = LoadedTask(task, Budget(1_000), bool(getattr(task, "padded", True)))
    encoded = task.encode(texts)
    rows = np.arange(len(texts))
    return score(encoded, rows, loaded, _Control(), _observe, ChunkStats()).faults


def with_nan_at(path: str, word_id: int, folder: Path) -> str:
    """The model with NaN in place of one word's embedding."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(path, folder)
    weights = load_file(folder / "model.safetensors")
    (name,) = [n for n in weights if n.endswith("word_embeddings.weight")]
    weights[name][word_id] = NAN
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("text-classification", "SequenceClassification"),
        ("token-classification", "TokenClassification"),
        ("feature-extraction", ""),
    ],
)
def test_a_row_whose_numbers_are_none_is_an_error_and_its_neighbours_are_not(
    name: str, head: str, tiny: TinyModels, tmp_path: Path
) -> None:
    from tests.unit.tiny_models import VOCABULARY

    labels = {"id2label": {0: "O", 1: "B-PER"}} if head.startswith("Token") else {}
    path = with_nan_at(tiny("bert", head, **labels), VOCABULARY.index("paris"), tmp_path / "m")
    task = load_task(name)
    task.load(LoadRequest(path, "cpu", "float32", None, {}))
    texts = ["the weather is fine", "paris is fine", "good", "the weather in paris today"]
    assert faults(task, texts) == {1: NOT_FINITE, 3: NOT_FINITE}


def test_a_word_of_the_rows_that_a_model_is_tried_on_may_be_none(
    tiny: TinyModels, tmp_path: Path
) -> None:
    from tests.unit.tiny_models import VOCABULARY

    path = tiny("bert", "SequenceClassification")
    damaged = with_nan_at(path, VOCABULARY.index("one"), tmp_path / "m")
    task = load_task("text-classification")
    task.load(LoadRequest(damaged, "cpu", "float32", None, {}))
    assert faults(task, ["good", "one good", "bad"]) == {1: NOT_FINITE}


def test_a_model_that_gives_no_number_for_any_text_is_refused_by_that_name(
    tiny: TinyModels, tmp_path: Path
) -> None:
    from tests.unit.tiny_models import VOCABULARY

    path = tiny("bert", "MaskedLM")
    damaged = with_nan_at(path, VOCABULARY.index("berlin"), tmp_path / "m")  # a logit of each row
    with pytest.raises(ModelError, match="NaN or infinity for every text"):
        load_task("sparse-embedding").load(LoadRequest(damaged, "cpu", "float32", None, {}))


def test_a_plug_ins_rows_are_checked_by_what_it_decodes() -> None:
    class Halves(FakeTask):
        def columns(self) -> list[pa.Field]:
            return [pa.field("half", pa.float64())]

        def decode(self, batch: Any, output: Any) -> pa.RecordBatch:
            lengths = np.array([len(text) for text in batch.extra], dtype=float)
            with np.errstate(divide="ignore"):
                return pa.record_batch([pa.array(1 / lengths)], names=["half"])

    assert faults(Halves(), ["a", "", "bb"]) == {1: NOT_FINITE}


def test_a_task_that_gives_other_rows_than_it_was_asked_for_is_wrong_for_each() -> None:
    class Short(FakeTask):
        def decode(self, batch: Any, output: Any) -> pa.RecordBatch:
            return super().decode(batch, output).slice(1)

    found = faults(Short(), ["a", "bb"])
    assert {row: fault.error_type for row, fault in found.items()} == {
        0: "output_mismatch", 1: "output_mismatch",
    }  # fmt: skip
