"""How many times as many rows as its teacher a student scores, in processor time of one thread.

$ python -m benchmarks.student TEACHER STUDENT ROWS.parquet [rows]

The models take turns, batch for batch, so that other work on the machine slows both. Accuracy is
compared by `headrace evaluate` on an output of each.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from headrace.tasks.contract import LoadRequest

ROUNDS = 4
"""The first warms up and is not counted."""
BATCH_ROWS = 32


def main(teacher: str, student: str, file: str, rows: int = 800) -> None:
    """Print rows a second of both, and their ratio."""
    import torch

    torch.set_num_threads(1)
    texts = sorted(_texts(Path(file), rows), key=len)
    tasks = {name: _task(path) for name, path in (("teacher", teacher), ("student", student))}
    spent = dict.fromkeys(tasks, 0.0)
    for round_ in range(ROUNDS):
        for start in range(0, len(texts), BATCH_ROWS):
            for name, task in tasks.items():
                began = time.process_time()
                encoded = task.encode(texts[start : start + BATCH_ROWS])
                task.decode(encoded, task.forward(encoded))
                spent[name] += (time.process_time() - began) if round_ else 0.0
    counted = (ROUNDS - 1) * len(texts)
    for name, seconds in spent.items():
        print(f"{name}  {counted / seconds:,.0f} rows a second of processor time")
    print(f"student by teacher  {spent['teacher'] / spent['student']:.2f}")


def _texts(file: Path, rows: int) -> list[str]:
    import pyarrow.parquet as pq

    found: list[str] = pq.read_table(file, columns=["text"])["text"].to_pylist()
    return found[:rows]


def _task(folder: str) -> Any:
    from workers.tasks.text_classification import TextClassification

    task = TextClassification()
    task.load(LoadRequest(folder, "cpu", "float32", None, {}))
    return task


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:5]))
