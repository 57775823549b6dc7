"""A teacher: a job's output, from whose scores another model learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.output.job_record import require_job
from headrace.storage.store import Store
from producers.quality.gold import texts_of
from producers.training.labels import Labels
from schemas.errors import ColumnError, ConfigError, InputUnreadable
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.part_schema import OK

SCORES = pa.list_(pa.float32())
"""Of the labelled rows that are stored: a probability for each of the teacher's labels."""
SLACK = 1e-3
"""Chosen: how far the probabilities of a row may be from 1, in float32 and bfloat16."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """The scores of a job's output, by text."""

    job: Job
    labels: tuple[str, ...]
    by_text: Mapping[bytes, np.ndarray]
    """Hash of the text → float32 `[labels]`, which sum to 1."""

    def scores(self, hashes: Sequence[bytes | None]) -> list[np.ndarray | None]:
        """The scores of each row by its text; None where there are none."""
        return [None if text is None else self.by_text.get(text) for text in hashes]


def teaching_job(store: Store) -> Job:
    """The job in the output, if its scores can be learned.

    Raises:
        JobNotFound: there is none.
        ConfigError: its task is no classification of texts, or its labels are independent.
    """
    job = require_job(store)
    if job.spec.task != "text-classification":
        raise ConfigError(
            f"--teacher {store.uri}: its job is {job.spec.task}, not text-classification"
        )
    if job.spec.params.get("multi_label"):
        raise ConfigError(f"--teacher {store.uri}: its labels are independent, and do not sum to 1")
    return job


def read_teacher(store: Store, job: Job, labels: tuple[str, ...]) -> Teacher:
    """The scores of every row that was scored.

    Raises:
        ConfigError: the output has one score a row, and the model more than two labels; or scores
            that are no probabilities.
        InputUnreadable: a part cannot be read.
    """
    found: dict[bytes, np.ndarray] = {}
    for info in store.list(output_layout.DATA):
        if output_layout.chunk_of_part(info.name) is None:
            continue
        try:
            with store.open(info.name) as file, pq.ParquetFile(file) as part:
                names = [n for n in ("scores",) if n in part.schema_arrow.names]
                table = part.read([*names, "predicted_label", "score", "status", "text_hash"])
        except (OSError, pa.ArrowException) as error:
            raise InputUnreadable(f"{store.uri}/{info.name}: {error}") from error
        table = table.filter(pc.equal(table["status"].cast(pa.string()), OK))
        if len(table):
            scores = _scores(table, labels, store.uri)
            found.update(zip(table["text_hash"].to_pylist(), scores, strict=True))
    return Teacher(job, labels, found)


def gold_and_taught(
    teacher: Teacher, taught: Sequence[np.ndarray | None], gold: Any | None, name: str,
    renamed: Mapping[str, str],
) -> tuple[Labels, list[str | None]]:  # fmt: skip
    """Gold labels where there are some, and each row's label: gold, else the teacher's.

    Raises:
        ColumnError: a gold label that the teacher does not know; no row with a score.
    """
    if all(scores is None for scores in taught):
        raise ColumnError("the teacher scored none of these texts: give the files that it scored")
    values: list[str | None] = [None] * len(taught)
    if gold is not None:
        values = [None if t is None else renamed.get(t, t) for t in texts_of(gold)]
        unknown = {v for v in values if v is not None} - set(teacher.labels)
        if unknown:
            raise ColumnError(
                f"column {name!r} has the label {min(unknown)!r}, which is none of the teacher's "
                f"({', '.join(teacher.labels[:10])}): name it with --map"
            )
    best = [
        value if value is not None or scores is None else teacher.labels[int(scores.argmax())]
        for value, scores in zip(values, taught, strict=True)
    ]
    counts = Counter(label for label in best if label is not None)
    labels = Labels("single_label", teacher.labels, pa.array(values, pa.string()), dict(counts))
    return labels, best


def _scores(table: pa.Table, labels: tuple[str, ...], where: str) -> np.ndarray:
    """Probabilities of the rows, float32 `[rows, labels]`."""
    if "scores" in table.column_names:
        items = table["scores"].combine_chunks().flatten()
        scores = items.field("score").to_numpy(zero_copy_only=False).reshape(len(table), -1)
        if scores.shape[1] != len(labels) or (np.abs(scores.sum(1) - 1) > SLACK).any():
            raise ConfigError(
                f"--teacher {where}: its scores do not sum to 1, so they are no probabilities"
            )
        return np.asarray(scores, dtype=np.float32)
    if len(labels) != 2:
        raise ConfigError(
            f"--teacher {where} has the score of the best label only, and its model has "
            f"{len(labels)} labels: score the rows with --scores"
        )
    best = table["score"].to_numpy().astype(np.float32)
    if (best < 0.5 - SLACK).any():
        raise ConfigError(
            f"--teacher {where}: its scores are no probabilities of one of two labels"
        )
    is_second = pc.equal(table["predicted_label"].cast(pa.string()), labels[1]).to_numpy()
    second = np.where(is_second, best, 1 - best)
    return np.stack([1 - second, second], axis=1)
