"""Time and memory of `headrace compare` over two made-up outputs.

    python -m benchmarks.growth.comparison --rows 10000000

Prints seconds and the process's largest memory. The outputs are written to a temporary folder:
some 60 bytes a row each.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.storage.local import LocalStore
from producers.quality.comparison import compare
from producers.quality.gold import Gold
from schemas.names import output_layout
from schemas.records.job import Inputs, Job, ModelRef, Options, Spec, job_id

PART_ROWS = 100_000
LABELS = np.array(["anger", "joy", "none", "sorrow"])


def write_output(folder: Path, rows: int, seed: int, flipped: float) -> LocalStore:
    """An output of text classification with made-up labels, and a gold column."""
    store, parts = LocalStore(str(folder)), -(-rows // PART_ROWS)
    spec = Spec(
        inputs_digest="0" * 64, text_column="text", text_pair_column=None, id_column=None,
        columns=("gold",), task="text-classification", params={}, max_length=None, limit=None,
        model=ModelRef(uri="/m", revision="r"), dtype="float32",
    )  # fmt: skip
    job = Job(
        id=job_id(spec), output=store.uri, spec=spec, options=Options(), chunks=parts, rows=rows,
        inputs=Inputs(patterns=("x",), digest="0" * 64, files=1, rows=rows, bytes=1),
        id_type="int64", text_type="string", carried=(), submitted_s=0.0, versions={}, command="",
    )  # fmt: skip
    store.create(output_layout.JOB, job.model_dump_json().encode())
    (folder / "data").mkdir(exist_ok=True)
    draw, own = np.random.default_rng(0), np.random.default_rng(seed)
    for part in range(parts):
        size = min(PART_ROWS, rows - part * PART_ROWS)
        gold = draw.integers(0, 4, size)
        hashes = draw.bytes(16 * size)
        label = np.where(own.random(size) < flipped, own.integers(0, 4, size), gold)
        table = {
            "row": pa.array(np.arange(size) + part * PART_ROWS),
            "gold": pa.array(LABELS[gold]),
            "predicted_label": pa.array(LABELS[label]).dictionary_encode(),
            "score": pa.array(own.random(size).astype(np.float32)),
            "status": pa.array(["ok"] * size).dictionary_encode(),
            "text_hash": pa.Array.from_buffers(pa.binary(16), size, [None, pa.py_buffer(hashes)]),
        }
        pq.write_table(pa.table(table), folder / output_layout.part(part))
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        a = write_output(Path(folder) / "a", rows, 1, 0.10)
        b = write_output(Path(folder) / "b", rows, 2, 0.12)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began, cpu = time.monotonic(), time.process_time()
        found = compare(a, b, gold=Gold("gold"))
        print(json.dumps({
            "rows": rows,
            "seconds": round(time.monotonic() - began, 1),
            "processor_seconds": round(time.process_time() - cpu, 1),
            "mb_before": round(before),
            "mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "flips": found.agreement.flips.value,
        }))  # fmt: skip


if __name__ == "__main__":
    main()
