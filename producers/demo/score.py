"""How often the demo's predictions agree with what the generator wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def accuracy(output: Path, corpus: Path) -> tuple[int, int]:
    """Rows right, and rows scored: an output's `predicted_label` against the corpus's `label`.

    Rows are matched by `id`; error rows have no prediction and do not count as scored. `output`
    is the folder of a job, so that its parts lie in `output/data`.
    """
    labels = {row["id"]: row["label"] for row in _rows(corpus, ["id", "label"])}
    right = total = 0
    for part in sorted((output / "data").glob("part-*.parquet")):
        for row in _rows(part, ["id", "predicted_label", "status"]):
            if row["status"] == "ok" and row["id"] in labels:
                total += 1
                right += row["predicted_label"] == labels[row["id"]]
    return right, total


def equal_texts(output: Path, answers: str) -> tuple[int, int]:
    """Rows whose generated text is that of the column `answers`, and all rows of an output."""
    right = total = 0
    for part in sorted((output / "data").glob("part-*.parquet")):
        for row in _rows(part, ["generated_text", answers]):
            total += 1
            right += row["generated_text"] == row[answers]
    return right, total


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    # not `read_table`: threads of pyarrow 26 can end a process that exits soon after (SIGABRT)
    yield from pq.ParquetFile(path).read(columns, use_threads=False).to_pylist()
