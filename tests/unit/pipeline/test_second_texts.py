"""A row's second text that cannot be used is an error of that row, from the file to the part."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.formats.opener import InputOpener
from headrace.settings import load_settings
from headrace.storage.open import open_store
from headrace.tasks.contract import LoadRequest
from headrace.tracing.chunk_trace import observe_nothing
from schemas.records.chunk import Chunk, InputFile, Piece
from schemas.records.job import ModelRef, Spec
from tests.unit.one_chunk import ListSink, Marks, run_source
from tests.unit.tiny_models import TinyModels
from workers.batching.packing import Budget
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.read import read_windows
from workers.tasks.question_answering import QuestionAnswering
from workers.tasks.transformer import TransformerTask
from workers.tasks.zero_shot_classification import ZeroShotClassification


def rows_of(
    folder: Path, task: TransformerTask, model: str, seconds: pa.Array, **params: Any
) -> list[dict[str, Any]]:
    """The rows of a part whose input has these second texts, in a column `second`."""
    task.load(LoadRequest(model, "cpu", "float32", 128, params))
    path = folder / "in.parquet"
    pq.write_table(
        pa.table({"text": ["Anna works in Berlin"] * len(seconds), "second": seconds}), path
    )
    piece = Piece(InputFile(str(path), path.stat().st_size, "e"), 0, 1, 0, 0, len(seconds), 100)
    ref = ModelRef(uri=model, revision="r")
    spec = Spec(
        inputs_digest="d", text_column="text", text_pair_column="second",
        task=task.task, params=params, model=ref, dtype="float32",
    )  # fmt: skip
    opener = InputOpener(lambda uri: open_store(uri, load_settings()))
    sink = ListSink()
    source = partial(read_windows, opener, Chunk(0, (piece,), 0), spec, observe_nothing)
    engine = LoadedTask(task, Budget(512), task.padded)
    run_source(source, engine, sink, observe_nothing, Marks())
    return sink.rows


def faults_of(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row["error_message"] and f"{row['error_type']}: {row['error_message']}" for row in rows]


def test_a_null_question_is_an_error_that_names_its_column(
    tmp_path: Path, tiny: TinyModels
) -> None:
    questions = pa.array(["who works in Berlin?", None, "where?"])
    model = tiny("bert", "QuestionAnswering")
    rows = rows_of(tmp_path, QuestionAnswering(), model, questions, question_column="second")
    assert faults_of(rows) == [None, "null_text: column 'second': the text is null", None]
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert [row["answer"] is None for row in rows] == [False, True, False]


def test_labels_of_a_row_that_cannot_be_used_are_an_error_of_that_row(
    tmp_path: Path, tiny: TinyModels
) -> None:
    labels = pa.array([["good", "bad"], None, [], ["good", ""], ["bad", "bad"], ["film", None]])
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    model = tiny("bert", "SequenceClassification", id2label=names)
    rows = rows_of(tmp_path, ZeroShotClassification(), model, labels, labels_column="second")
    first, *others = faults_of(rows)
    assert first is None
    assert {label["label"] for label in rows[0]["scores"]} == {"good", "bad"}
    wanted = [
        "column 'second': the text is null",
        "there is no candidate label",
        "candidate label 2 of 2 is empty",
        "candidate label 'bad' is there 2 times",
        "candidate label 2 of 2 is empty",
    ]
    for fault, words in zip(others, wanted, strict=True):
        assert fault is not None
        assert words in fault
    assert all(row["predicted_label"] is None for row in rows[1:])
