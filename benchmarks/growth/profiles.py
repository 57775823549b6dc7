"""What the profiles of `headrace drift` cost: processor time of a job with and within them.

    python -m benchmarks.growth.profiles --model MODEL --input TEXTS.parquet --rows 2000

Runs chunks as a worker does, without queue and store, and prints the share of the processor time
that the profile took, the size of the profile, and the time to merge many of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.profiles.profile import Profile, merge
from headrace.tasks.catalog import task_spec
from headrace.tasks.contract import LoadRequest
from headrace.tasks.registry import load_task
from headrace.tracing.chunk_trace import observe_nothing
from schemas.records.text_hash import text_hash
from workers.batching.packing import Budget
from workers.pipeline.loaded_task import LoadedTask
from workers.pipeline.profile import ChunkProfile, vocabulary_of
from workers.pipeline.read import WINDOW_ROWS
from workers.pipeline.rows import TokenizedWindow, Window
from workers.pipeline.run import run_chunk, start_chunk

MERGED = 1_000


class _Timed(ChunkProfile):
    """A profile that adds up its processor time."""

    seconds = 0.0

    def add(self, window: TokenizedWindow, rows: pa.RecordBatch) -> None:
        began = time.thread_time()
        super().add(window, rows)
        _Timed.seconds += time.thread_time() - began


class _Nowhere:
    """A sink that keeps nothing, and a control that stops nothing."""

    def write(self, rows: pa.RecordBatch) -> None: ...
    def check(self) -> None: ...
    def forwarding(self, rows: object) -> None: ...
    def encoding(self, start: int, stop: int) -> None: ...


def _windows(path: str, rows: int) -> Iterator[Window]:
    texts = pq.read_table(path, columns=["text"])["text"].slice(0, rows).to_pylist()
    for start in range(0, len(texts), WINDOW_ROWS):
        some = [text or "" for text in texts[start : start + WINDOW_ROWS]]
        ids = pa.record_batch({"id": pa.array(range(start, start + len(some)))})
        yield Window(start, ids, some, [text_hash(text.encode()) for text in some])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--task", default="text-classification")
    parser.add_argument("--rows", type=int, default=2_000)
    asked = parser.parse_args()
    task = load_task(asked.task)
    task.load(LoadRequest(asked.model, "cpu", "float32", None, {}))
    engine = LoadedTask(
        task, Budget(task.default_batch_tokens()), bool(getattr(task, "padded", True))
    )
    profile, nowhere = _Timed(task_spec(asked.task), vocabulary_of(task)), _Nowhere()
    began = time.process_time()
    chunk = start_chunk(lambda: _windows(asked.input, asked.rows), task, observe_nothing, nowhere)
    stats = run_chunk(chunk, engine, nowhere, profile=profile)
    made: Profile | None = profile.finish()
    data = made.to_bytes() if made else b""
    whole = time.process_time() - began
    began = time.process_time()
    merge([made or Profile()] * MERGED)
    merging = time.process_time() - began
    print(json.dumps({
        "rows": stats.rows, "tokens": stats.tokens, "processor_s": round(whole, 2),
        "profile_s": round(_Timed.seconds, 4), "share": round(_Timed.seconds / whole, 5),
        "us_a_row": round(_Timed.seconds / stats.rows * 1e6, 2), "bytes": len(data),
        f"merge_{MERGED}_s": round(merging, 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
