"""Nights that were: python -m benchmarks.fleet.record_night NAME OUTPUT… > benchmarks/fleet/nights/NAME.json

Reads a night's demand from real outputs: when each job was submitted (`_headrace/job.json`) and
how long each chunk took (`_traces/`). The committed ones ran here, small; the simulator stretches
their clock until the mean chunk is as long as a planned one, and repeats their chunks.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.settings import load_settings
from headrace.storage.open import open_store
from headrace.storage.store import Store
from schemas.names import output_layout
from schemas.records.job import Job, parse_job

DONE = "ok"


def night_of(name: str, jobs: Sequence[tuple[Job, pa.Table]]) -> dict[str, Any]:
    """The night as JSON: of each job when it came, its deadline, and each chunk's seconds. Pure."""
    began_s = min(job.submitted_s for job, _ in jobs)
    return {
        "name": name,
        "jobs": [
            {
                "at_s": round(job.submitted_s - began_s, 1),
                "due_s": None
                if job.options.deadline_s is None
                else round(job.options.deadline_s - began_s, 1),
                "task": job.spec.task,
                "chunk_s": [round(s, 3) for s in chunk_seconds(spans)],
            }
            for job, spans in sorted(jobs, key=lambda pair: pair[0].submitted_s)
        ],
    }


def chunk_seconds(spans: pa.Table) -> list[float]:
    """Seconds of a worker that each committed chunk took, in the order of their chunks.

    The next chunk is read while one is on the device: it counts from the end of the one before.
    """
    roots = [r for r in spans.to_pylist() if r["parent_span_id"] is None and r["outcome"] == DONE]
    seconds: dict[int, float] = {}
    free_ns: dict[str, int] = {}
    for row in sorted(roots, key=lambda r: r["start_time_unix_nano"] + r["duration_nano"]):
        end = row["start_time_unix_nano"] + row["duration_nano"]
        start = max(row["start_time_unix_nano"], free_ns.get(row["worker"], 0))
        seconds[row["chunk"]] = (end - start) / 1e9
        free_ns[row["worker"]] = end
    return [seconds[chunk] for chunk in sorted(seconds)]


def read_spans(store: Store) -> pa.Table:
    """The root spans of all attempts of an output."""
    names = [
        "parent_span_id", "chunk", "worker", "outcome", "start_time_unix_nano", "duration_nano",
    ]  # fmt: skip
    return pa.concat_tables(
        pq.read_table(io.BytesIO(data), columns=names)
        for info in store.list(output_layout.TRACES)
        if (data := store.read(info.name)) is not None and info.name.endswith(".parquet")
    )


def read_output(uri: str) -> tuple[Job, pa.Table]:
    store = open_store(uri, load_settings())
    data = store.read(output_layout.JOB)
    if data is None:
        raise SystemExit(f"there is no job in {uri}")
    return parse_job(data, uri), read_spans(store)


def main(arguments: Iterable[str] | None = None) -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("name")
    asked.add_argument("outputs", nargs="+")
    told = asked.parse_args(None if arguments is None else list(arguments))
    print(json.dumps(night_of(told.name, [read_output(uri) for uri in told.outputs])))


if __name__ == "__main__":
    main()
