"""Ranking, sparse vectors, answering and choosing, each beside what people run otherwise.

    python -m benchmarks.search --model FOLDER --input FILE --peers-python peers/bin/python

The model is a BERT's folder: a copy gets the head of each task with random weights, since only its
speed counts here, and the answers are compared. Everything runs on one thread, in turn; processor
time, medians. The pipeline for question answering needs an environment of its own, see `answering`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.search.answering import answering
from benchmarks.search.choosing import choosing
from benchmarks.search.contest import Contest
from benchmarks.search.ranking import ranking, sparse
from benchmarks.side_by_side.fan_out import measure, texts_of

TASKS = ("text-ranking", "sparse-embedding", "choice", "question-answering")
ROWS_PER_CONTEXT = 8
"""Contexts are long: with so many fewer, each task takes about as long."""
TEXTS_PER_ROW = 20
"""That are joined to contexts. Chosen: short comments are enough then."""


def main() -> None:
    import torch

    ask = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    ask.add_argument("--model", type=Path, required=True)
    ask.add_argument("--input", type=Path, required=True, help="Parquet")
    ask.add_argument("--column", default="text")
    ask.add_argument("--rows", type=int, default=128)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--task", nargs="+", choices=TASKS, default=TASKS)
    ask.add_argument("--peers-python", help="with transformers 4.57.6, for question-answering")
    asked = ask.parse_args()
    if "question-answering" in asked.task and not asked.peers_python:
        ask.error("question-answering needs --peers-python")
    torch.set_num_threads(1)
    many = texts_of(asked.input, asked.column, asked.rows * TEXTS_PER_ROW)
    answer = partial(answering, python=asked.peers_python, most=asked.rows // ROWS_PER_CONTEXT)
    contests: dict[str, Callable[..., Contest]] = {
        "text-ranking": ranking,
        "sparse-embedding": sparse,
        "choice": choosing,
        "question-answering": answer,
    }
    for task in asked.task:
        texts = many if task == "question-answering" else many[: asked.rows]
        with tempfile.TemporaryDirectory() as scratch:
            contest = contests[task](asked.model, texts, Path(scratch))
            print(as_text(task, contest, measure(contest.runs, asked.rounds)), flush=True)


def as_text(task: str, contest: Contest, seconds: dict[str, float]) -> str:
    """A line for each that ran, and how many times as long the best peer took."""
    ours, *peers = seconds.values()
    lines = [f"{task}: {contest.rows} rows; scores differ by {contest.apart:.1e} at most"]
    lines += [
        f"{name:35}{took:9.2f} s {contest.rows / took:9.1f} rows/s"
        for name, took in seconds.items()
    ]
    return "\n".join([*lines, f"over the best: {min(peers) / ours:.2f}", ""])


if __name__ == "__main__":
    main()
