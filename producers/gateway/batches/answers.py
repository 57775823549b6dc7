"""Turns the parts of a batch's job into OpenAI's lines: one answer or one error for each line."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from typing import IO, Any

import numpy as np
import pyarrow.parquet as pq

from headrace.output.job_record import read_job
from headrace.output.plan_file import PlanTable
from headrace.storage.store import Store
from headrace.tasks.generation.reasoning import reasoning_columns
from producers.gateway.batches.chat import SOURCE
from producers.gateway.batches.completions import GENERATED, completion
from producers.gateway.records import BatchRecord, Checked, Endpoint
from producers.records.manifest import parts_of
from schemas.names import output_layout

COLUMNS = ("custom_id", "line", "status", "n_tokens", "error_type", "error_message")
ANSWER_COLUMNS: dict[Endpoint, tuple[str, ...]] = {
    "/v1/embeddings": ("embedding",),
    "/v1/classifications": ("predicted_label", "score"),
    "/v1/chat/completions": GENERATED,
    "/v1/completions": GENERATED,
}
"""Of a part, what its answers are made of."""
BATCH_ROWS = 1_024
"""Rows that are in memory at once. Chosen: 1,024 vectors of 4,096 numbers are 16 MB."""

NOT_DONE = {
    "expired": (
        "batch_expired",
        "This request was not executed before the completion window ended.",
    ),
    "cancelled": (
        "batch_cancelled",
        "This request was not executed before the batch was cancelled.",
    ),
    "completed": ("chunk_parked", "This request could not be executed: its chunk was given up."),
}


@dataclass(slots=True)
class Counts:
    """Number of lines written."""

    completed: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Line:
    """The rows of one line, collected."""

    number: int
    custom_id: str
    rows: list[dict[str, Any]] = field(default_factory=list)


def write_answers(
    batch: BatchRecord,
    checked: Checked,
    job_store: Store | None,
    sources: tuple[Any, Any],
    why_missing: str,
    out: IO[bytes],
    errors: IO[bytes],
) -> Counts:
    """Write each line's answer to `out`, or its error to `errors`, in the order of the lines.

    `job_store` is None if no job was submitted. `sources` are the Parquet file of the batch's rows,
    for those that no part has, and the file of the lines' own faults; `why_missing` is a key of
    `NOT_DONE`. In constant memory.
    """
    counts = Counts()
    rows, faults = sources
    answered = _lines(_rows(job_store, rows, batch.endpoint))
    for line in merge(answered, _faults(faults), key=lambda line: line.number):
        bad = next((row for row in line.rows if row["status"] != "ok"), None)
        if bad is None:
            out.write(_json(_answer(batch, checked, line)))
            counts.completed += 1
        else:
            errors.write(_json(_error(batch, line, bad, why_missing)))
            counts.failed += 1
    return counts


def _rows(job_store: Store | None, lines: Any, endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    """Every row of the batch in order, from its part; a row without a part is marked as missing."""
    columns = [*COLUMNS, *ANSWER_COLUMNS[endpoint]]
    source = pq.ParquetFile(lines)
    ids = _Ids(source)
    if job_store is None:
        for custom_id, line in ids.rows(0, source.metadata.num_rows):
            yield {"custom_id": custom_id, "line": line, "status": "missing"}
        return
    job = read_job(job_store)
    columns += () if job is None else reasoning_columns(job.spec.params)
    there = set(parts_of(job_store))
    for chunk in PlanTable.load(job_store):
        if chunk.number not in there:
            for custom_id, line in ids.rows(chunk.job_row, chunk.rows):
                yield {"custom_id": custom_id, "line": line, "status": "missing"}
            continue
        with job_store.open(output_layout.part(chunk.number)) as file:
            for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS, columns=columns):
                yield from batch.to_pylist()


class _Ids:
    """Ids and line numbers by row number in the file; one row group is cached."""

    def __init__(self, source: Any) -> None:
        self._source = source
        counts = [source.metadata.row_group(i).num_rows for i in range(source.num_row_groups)]
        self._starts = np.concatenate(([0], np.cumsum(counts)))
        self._kept: tuple[int, Any] = (-1, None)

    def rows(self, first: int, count: int) -> Iterator[tuple[str, int]]:
        for at in range(first, first + count):
            group = int(np.searchsorted(self._starts, at, side="right")) - 1
            if self._kept[0] != group:
                table = self._source.read_row_group(group, columns=["custom_id", "line"])
                self._kept = (group, [table["custom_id"].to_pylist(), table["line"].to_pylist()])
            ids, numbers = self._kept[1]
            place = at - int(self._starts[group])
            yield ids[place], numbers[place]


def _lines(rows: Iterator[dict[str, Any]]) -> Iterator[_Line]:
    """Groups rows by line; rows of a line are adjacent, also across parts."""
    line: _Line | None = None
    for row in rows:
        if line is None or row["line"] != line.number:
            if line is not None:
                yield line
            line = _Line(row["line"], row["custom_id"])
        line.rows.append(row)
    if line is not None:
        yield line


def _faults(file: Any) -> Iterator[_Line]:
    """The lines that have faults of their own."""
    for data in io.BufferedReader(file):
        fault = json.loads(data)
        row = {
            "status": "fault", "error_type": fault["code"], "error_message": fault["message"],
            "param": fault["param"],
        }  # fmt: skip
        yield _Line(fault["line"], fault["custom_id"], [row])


def _answer(batch: BatchRecord, checked: Checked, line: _Line) -> dict[str, Any]:
    id = _request_id(batch, line)
    if batch.endpoint in SOURCE:
        body = completion(id, batch.endpoint, checked, line.rows)
    else:
        body = _items(batch, checked, line)
    response = {"status_code": 200, "request_id": id, "body": body}
    return {"id": id, "custom_id": line.custom_id, "response": response, "error": None}


def _items(batch: BatchRecord, checked: Checked, line: _Line) -> dict[str, Any]:
    tokens = sum(row["n_tokens"] or 0 for row in line.rows)
    kind = _embedding if batch.endpoint == "/v1/embeddings" else _classification
    return {
        "object": "list",
        "data": [kind(row, i, checked) for i, row in enumerate(line.rows)],
        "model": checked.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _embedding(row: dict[str, Any], index: int, checked: Checked) -> dict[str, Any]:
    vector: Any = row["embedding"]
    if checked.encoding_format == "base64":
        vector = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    return {"object": "embedding", "index": index, "embedding": vector}


def _classification(row: dict[str, Any], index: int, checked: Checked) -> dict[str, Any]:
    label, score = row["predicted_label"], row["score"]
    return {"object": "classification", "index": index, "label": label, "score": score}


def _error(batch: BatchRecord, line: _Line, row: dict[str, Any], why: str) -> dict[str, Any]:
    code, message = row.get("error_type"), row.get("error_message")
    if row["status"] == "missing":
        code, message = NOT_DONE[why]
    error = {"code": code, "message": message}
    if row.get("param") is not None:
        error["param"] = row["param"]
    return {
        "id": _request_id(batch, line),
        "custom_id": line.custom_id,
        "response": None,
        "error": error,
    }


def _request_id(batch: BatchRecord, line: _Line) -> str:
    return f"batch_req_{batch.id.removeprefix('batch_')}_{line.number}"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
