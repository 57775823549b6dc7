"""Zero-shot classification beside the transformers pipeline, and beside the same pairs as rows.

    python -m benchmarks.side_by_side.fan_out --model FOLDER --input FILE --rows 100

The model is any classifier's folder: a copy gets labels of natural language inference, since only
its speed counts here. Everything runs in one process on one thread, in turn; processor time, median.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import LoadRequest
from headrace.tracing.chunk_trace import observe_nothing
from schemas.records.text_hash import text_hash
from workers.batching.packing import Budget
from workers.pipeline.forward import score_windows
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.rows import ChunkStats, Window
from workers.pipeline.tokenize import cut_by_items, tokenize_window
from workers.tasks.text_classification import TextClassification
from workers.tasks.zero_shot_classification import ZeroShotClassification

LABELS = ["politics", "sports", "business", "science", "health", "travel", "music", "film", "food",
          "education", "weather", "computers", "law", "art", "history", "religion"]  # fmt: skip
TEMPLATE = "This example is {}."
LIMIT = 256
"""Tokens a row."""


class _Free:
    """A control that stops nothing."""

    def check(self) -> None: ...
    def forwarding(self, rows: Any) -> None: ...
    def encoding(self, start: int, stop: int) -> None: ...


def nli_copy(model: Path, folder: Path) -> Path:
    """The model's folder, with labels of natural language inference."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    names = ["contradiction", "entailment", "neutral"][
        : len(config.get("id2label", {0: "", 1: ""}))
    ]
    config |= {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def window_of(texts: list[str], pairs: list[str] | None = None) -> Window:
    """The rows as a chunk's reader gives them."""
    ids = pa.RecordBatch.from_arrays([pa.array(range(len(texts)))], ["id"])
    seconds = [b""] * len(texts) if pairs is None else [pair.encode() for pair in pairs]
    hashes = [text_hash(a.encode(), b) for a, b in zip(texts, seconds, strict=True)]
    return Window(0, ids, texts, hashes, pairs)


def scored(engine: LoadedTask, window: Window) -> pa.Table:
    """The rows from text to columns, as a chunk computes them."""
    parts = (
        tokenize_window(part, engine.task, poison={}) for part in cut_by_items(window, engine.task)
    )
    source = ((part, part.encodings, part.unique) for part in parts)
    done = score_windows(source, engine, _Free(), observe_nothing, ChunkStats())
    pieces = [found.values.take(pa.array(part.copy_of)) for part, found in done]
    return pa.Table.from_batches(pieces).unify_dictionaries()


def loaded(task: Any, folder: Path, *, limit: int = LIMIT, **params: Any) -> LoadedTask:
    """The task on the model, with rows of at most `limit` tokens."""
    task.load(LoadRequest(str(folder), "cpu", "float32", limit, params))
    return LoadedTask(task, Budget(task.default_batch_tokens()), bool(task.padded))


def contestants(folder: Path, texts: list[str], labels: list[str]) -> dict[str, Callable[[], Any]]:
    """What is run, by name; each gives the answers of all rows."""
    from transformers import AutoTokenizer, pipeline

    zero = loaded(ZeroShotClassification(), folder, candidate_labels=json.dumps(labels))
    pairs = loaded(TextClassification(), folder)
    rows = window_of(texts)
    as_pairs = window_of(
        [text for text in texts for _ in labels],
        [TEMPLATE.format(label) for _ in texts for label in labels],
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=LIMIT)
    classify = pipeline(
        "zero-shot-classification", model=str(folder), tokenizer=tokenizer, device="cpu"
    )
    found: dict[str, Callable[[], Any]] = {
        "headrace zero-shot": lambda: scored(zero, rows),
        "headrace text-classification of the pairs": lambda: scored(pairs, as_pairs),
    }
    for size in (1, 8, 32):
        found[f"pipeline, batch {size}"] = partial(
            classify, texts, labels, hypothesis_template=TEMPLATE, batch_size=size
        )
    return found


def check_same(ours: pa.Table, theirs: list[dict[str, Any]]) -> float:
    """The largest difference of a score; the order of labels may differ where scores are so near.

    Raises:
        AssertionError: it is above 1e-5.
    """
    apart = 0.0
    for row, wanted in zip(ours["scores"].to_pylist(), theirs, strict=True):
        scores = dict(zip(wanted["labels"], wanted["scores"], strict=True))
        apart = max(apart, *(abs(it["score"] - scores[it["label"]]) for it in row))
    assert apart < 1e-5, apart
    return apart


def measure(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of processor time of each, in turn; one round before is not counted.

    What runs in another process returns its own seconds, as a float.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            found = run()
            took = found if isinstance(found, float) else time.process_time() - start
            if turn:
                seconds[name].append(took)
    return {name: median(found) for name, found in seconds.items()}


def texts_of(file: Path, column: str, rows: int) -> list[str]:
    """So many different texts of a Parquet file, drawn once for all runs."""
    import pyarrow.parquet as pq

    values = pq.read_table(file, columns=[column])[column].drop_null()
    at = np.random.default_rng(7).permutation(len(values))[: rows * 2]
    return list(dict.fromkeys(t for t in values.take(at).to_pylist() if t.strip()))[:rows]


def main() -> None:
    import torch

    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--model", type=Path, required=True)
    ask.add_argument("--input", type=Path, required=True)
    ask.add_argument("--column", default="text")
    ask.add_argument("--rows", type=int, default=100)
    ask.add_argument("--labels", type=int, default=10)
    ask.add_argument("--rounds", type=int, default=3)
    asked = ask.parse_args()
    torch.set_num_threads(1)
    texts = texts_of(asked.input, asked.column, asked.rows)
    with tempfile.TemporaryDirectory() as scratch:
        folder = nli_copy(asked.model, Path(scratch) / "model")
        runs = contestants(folder, texts, LABELS[: asked.labels])
        names = list(runs)
        apart = check_same(runs[names[0]](), runs["pipeline, batch 1"]())
        seconds = measure(runs, asked.rounds)
    pairs = len(texts) * asked.labels
    print(f"{len(texts)} rows, {asked.labels} labels; scores differ by {apart:.1e} at most")
    for name in names:
        print(f"{name:45}{seconds[name]:9.2f} s {pairs / seconds[name]:9.1f} pairs/s")
    best = min(seconds[name] for name in names[2:])
    print(f"over the pipeline at its best: {best / seconds[names[0]]:.2f}")
    print(f"pairs a second over text-classification: {seconds[names[1]] / seconds[names[0]]:.3f}")


if __name__ == "__main__":
    main()
