"""A chunk whose rows become texts: the columns, the errors, what is marked, and a retry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.coordination.attempts import SuspectRows
from headrace.tasks.contract import LoadRequest
from schemas.errors import ConfigError, Stopped
from tests.unit.generation.echo_engine import EchoEngine
from tests.unit.generation.peaked import examples, save_peaked, words_of
from tests.unit.one_chunk import ListSink, Marks, observe_nothing, run_source, source
from workers.batching.packing import Budget
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import NULL_TEXT
from workers.tasks.generation import Summarization, TextGeneration

TEXTS = [words_of(prompt) for prompt, _ in examples(9, 2)]
SEQ2SEQ = {"max_new_tokens": 6}


def loaded(folder: Path, family: str = "bart", engine: Any = None, **params: Any) -> LoadedTask:
    save_peaked(folder, family)
    kind = Summarization if family in ("bart", "t5") else TextGeneration
    task = kind() if engine is None else kind(lambda name: engine)
    request = LoadRequest(
        str(folder), "cpu", "float32", None, SEQ2SEQ | params, engine="transformers"
    )
    task.load(request)
    return LoadedTask(task, Budget(task.default_batch_tokens()), padded=True)


def rows_of(
    task: LoadedTask, texts: Sequence[Any], control: Any = None, **more: Any
) -> list[dict[str, Any]]:
    sink = ListSink()
    run_source(source(texts, 4), task, sink, observe_nothing, control or Marks(), **more)
    return sink.rows


def test_each_row_has_its_text_and_how_it_ended(tmp_path: Path) -> None:
    rows = rows_of(loaded(tmp_path), TEXTS)
    assert [row["id"] for row in rows] == list(range(len(TEXTS)))
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
    for row in rows:
        assert row["n_generated"] == 6 or row["finish_reason"] == "stop"
        assert row["logprob"] <= 0
        assert len(row["generated_text"].split()) in (row["n_generated"], row["n_generated"] - 1)


def test_one_row_too_long_is_an_error_and_the_only_one(tmp_path: Path) -> None:
    task = loaded(tmp_path)
    alone = rows_of(task, TEXTS)
    texts = [*TEXTS[:5], "w1 " * 200, NULL_TEXT, *TEXTS[5:]]
    rows = rows_of(task, texts)
    assert [row["error_type"] for row in rows] == [None] * 5 + ["invalid_row", "null_text"] + [
        None
    ] * 4
    assert "--on-long" in rows[5]["error_message"]
    del rows[5:7]
    assert [row["generated_text"] for row in rows] == [row["generated_text"] for row in alone]


def test_a_cut_row_says_so(tmp_path: Path) -> None:
    rows = rows_of(loaded(tmp_path, on_long="truncate-right"), ["w1 " * 200, "w1"])
    assert [row["truncated"] for row in rows] == [True, False]
    assert rows[0]["n_tokens"] == 64


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_rows_that_are_held_back_have_the_same_texts(temperature: float, tmp_path: Path) -> None:
    """A retry that searches for a poison row: suspects run alone, after all others."""
    task = loaded(tmp_path, "llama", temperature=temperature, seed=4)
    plain = rows_of(task, TEXTS)
    suspicion = SuspectRows(groups=((1, 2), (6,)), poison={3: "worker_lost"})
    again = rows_of(task, TEXTS, suspicion=suspicion)
    assert again[3]["error_type"] == "worker_lost"
    assert [row["generated_text"] for row in again if row["id"] != 3] == [
        row["generated_text"] for row in plain if row["id"] != 3
    ]


def test_equal_texts_are_generated_once(tmp_path: Path) -> None:
    engine = EchoEngine()
    seen: list[int] = []
    real = engine.generate

    def counted(prompts: Any, *rest: Any) -> Any:
        seen.append(len(prompts))
        return real(prompts, *rest)

    engine.generate = counted  # type: ignore[method-assign]
    rows = rows_of(loaded(tmp_path, engine=engine), ["w1 w2"] * 4)
    assert seen == [1]
    assert {row["generated_text"] for row in rows} == {"2w 1w"}


def test_a_prompt_that_raises_is_an_error_and_the_only_one(tmp_path: Path) -> None:
    rows = rows_of(loaded(tmp_path, engine=EchoEngine()), ["w1", "raise", "w2"])
    assert [row["error_type"] for row in rows] == [None, "value_error", None]
    assert rows[1]["error_message"] == "ValueError: asked to raise"


def test_rows_with_the_model_are_marked_by_their_number_in_the_chunk(tmp_path: Path) -> None:
    marks = Marks()
    rows_of(loaded(tmp_path, engine=EchoEngine()), ["w1", "w2", "w3", "w4", "w5"], marks)
    assert marks.batches == [(0,), (1,), (2,), (3,), (4,)]
    assert marks.rows == ()


def test_a_stop_between_steps_ends_the_chunk(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        rows_of(loaded(tmp_path, "llama"), TEXTS, Marks(stop_before=1))


def test_a_missing_length_is_refused_at_the_load(tmp_path: Path) -> None:
    save_peaked(tmp_path, "bart")
    with pytest.raises(ConfigError, match="--max-new-tokens"):
        Summarization().load(LoadRequest(str(tmp_path), "cpu", "float32", None, {}))
