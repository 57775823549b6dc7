"""One small output per task, with error rows and copied columns, from tiny random models."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.tasks.contract import LoadRequest
from headrace.tracing.trace_file import spans_to_parquet
from schemas.names import output_layout
from tests.unit.small_job import finish, score, submit
from tests.unit.tiny_models import LABELS, TinyModels
from workers.tasks.choosing.choice import Choice
from workers.tasks.fake import FakeTask
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.question_answering import QuestionAnswering
from workers.tasks.sparse_embedding import SparseEmbedding
from workers.tasks.text_classification import TextClassification
from workers.tasks.token_classification import TokenClassification
from workers.tasks.zero_shot_classification import ZeroShotClassification


class Written(NamedTuple):
    """How a task's output is made."""

    task: Any
    family: str = "bert"
    head: str = ""
    config: Mapping[str, Any] = {}
    flags: Mapping[str, Any] = {}


NLI = {"id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}}
TASKS: dict[str, Written] = {
    "fake": Written(FakeTask, family=""),
    "text-classification": Written(
        TextClassification, head="SequenceClassification", flags={"scores": True}
    ),
    "token-classification": Written(
        TokenClassification, head="TokenClassification", config={"id2label": LABELS}
    ),
    "zero-shot-classification": Written(
        ZeroShotClassification, head="SequenceClassification", config=NLI,
        flags={"candidate_labels": "weather,film"},
    ),
    "question-answering": Written(
        QuestionAnswering, head="QuestionAnswering", flags={"question": "is it fine ?", "top_k": 2}
    ),
    "choice": Written(
        Choice, "llama", "CausalLM", flags={"choices": "good,bad", "prompt": "{text} is"}
    ),
    "sparse-embedding": Written(SparseEmbedding, head="MaskedLM"),
    "feature-extraction": Written(FeatureExtraction),
}  # fmt: skip
"""All but those whose results are plain columns, as text-ranking and generation have."""


def write_outputs(folder: Path) -> None:
    """`folder/TASK` for each task: two parts of 100 rows, every tenth an error row."""
    texts = [None if n % 10 == 3 else f"the weather in london is fine {n}" for n in range(200)]
    columns = {
        "id": [f"row-{n}" for n in range(200)],
        "text": texts,
        "stars": pa.array([n % 5 for n in range(200)], pa.int8()),
        "day": pa.array([dt.date(2026, 1, 1 + n % 28) for n in range(200)]),
        "at": pa.array([dt.datetime(2026, 1, 1 + n % 28, 12) for n in range(200)]),
    }
    corpus = folder / "corpus.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    # as Spark writes its timestamps
    pq.write_table(pa.table(columns), corpus, use_deprecated_int96_timestamps=True)
    models = TinyModels(folder / "models")
    for name, made in TASKS.items():
        path = models(made.family, made.head, **made.config) if made.family else ""
        flags = {**made.flags, **({"model": path} if path else {})}
        store, job = submit(
            [corpus], folder / name, task=name, id_column="id", columns="stars,day,at",
            chunk_rows=100, **flags,
        )  # fmt: skip
        task = made.task()
        task.load(LoadRequest(path, "cpu", "float32", job.spec.max_length, job.spec.params))
        score(store, job, task=task)
        finish(store, job)
        store.replace(output_layout.REPORT, b"<!doctype html><title>a report</title>")
        store.create(output_layout.trace(0, "a" * 16), spans_to_parquet([]))


if __name__ == "__main__":
    write_outputs(Path(sys.argv[1]))
