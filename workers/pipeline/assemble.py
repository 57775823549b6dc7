"""Turns predictions into output rows: one per input row of the window, in order, ok or error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings
from schemas.records import part_schema
from workers.pipeline.rows import (
    ChunkStats,
    HeldBackResult,
    Predictions,
    RowError,
    TokenizedWindow,
    error_columns,
)


def assemble_rows(
    prepared: TokenizedWindow,
    predictions: Predictions,
    late: Mapping[bytes, HeldBackResult],
    answers: Sequence[pa.Field],
    trace_id: str | None,
    stats: ChunkStats,
) -> pa.RecordBatch:
    """The window's rows under the part's schema; counts them into `stats`.

    `answers` are the columns of the task.
    """
    rows = len(prepared.window)
    faults = _faults(prepared, predictions, late)
    values, where, n_tokens, truncated = _values(prepared, predictions, late)
    ok = np.ones(rows, dtype=bool)
    ok[list(faults)] = False
    predicted = (
        values.take(pa.array(np.where(ok, where, 0), mask=~ok))
        if len(values)
        else _nulls(values, rows)
    )
    stats.reused += sum(digest in prepared.reused for digest in prepared.held_back.values())
    stats.count_rows(rows, faults.values())
    stats.truncated += int(truncated[where[ok]].sum()) if ok.any() else 0
    given = prepared.window.carried
    carried = {name: given.column(name) for name in given.schema.names}
    ours = dict(zip(predicted.schema.names, predicted.columns, strict=True))
    tail = _tail(rows, ok, where, n_tokens, truncated, faults, prepared, trace_id)
    columns = {**carried, **ours, **tail}
    schema = part_schema.part_schema(given.schema, answers)
    arrays = [_cast(columns[f.name], f.type) for f in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _faults(
    prepared: TokenizedWindow, predictions: Predictions, late: Mapping[bytes, HeldBackResult]
) -> dict[int, RowError]:
    """Row within the window → error, from every stage."""
    faults = dict(prepared.faults)
    if predictions.faults:
        for row, at in enumerate(prepared.copy_of.tolist()):
            if at in predictions.faults:
                faults[row] = predictions.faults[at]
    for row, digest in prepared.held_back.items():
        fault = late[digest].fault
        if fault is not None:
            faults[row] = fault
    return faults


def _values(
    prepared: TokenizedWindow, predictions: Predictions, late: Mapping[bytes, HeldBackResult]
) -> tuple[pa.RecordBatch, np.ndarray, np.ndarray, np.ndarray]:
    """Values `[k]`, each row's index into them `[rows]`, token counts `[k]`, truncated `[k]`."""
    where = prepared.copy_of.copy()
    n_tokens, truncated = token_counts(prepared.encodings, predictions.tokens)
    held = {row: late[d] for row, d in prepared.held_back.items() if late[d].value is not None}
    if not held:
        return predictions.values, where, n_tokens, truncated
    batches = [predictions.values]
    for row, result in held.items():
        where[row] = sum(len(b) for b in batches)
        batches.append(result.value)
    table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    n_tokens = np.append(n_tokens, [r.n_tokens for r in held.values()])
    truncated = np.append(truncated, [r.truncated for r in held.values()]).astype(bool)
    return table.to_batches()[0], where, n_tokens, truncated


def token_counts(
    encodings: Encodings | None, counted: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens int64 `[rows]` and truncation bool `[rows]` of each row, its items together.

    `counted` are the tokens of rows that have no ids here.
    """
    if encodings is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    tokens = encodings.row_tokens if counted is None else counted
    return tokens, encodings.row_truncated


def _tail(
    rows: int,
    ok: np.ndarray,
    where: np.ndarray,
    n_tokens: np.ndarray,
    truncated: np.ndarray,
    faults: Mapping[int, RowError],
    prepared: TokenizedWindow,
    trace_id: str | None,
) -> dict[str, pa.Array]:
    safe = np.where(ok, where, 0)
    counts = n_tokens[safe] if len(n_tokens) else np.zeros(rows, dtype=np.int64)
    cuts = truncated[safe] if len(truncated) else np.zeros(rows, dtype=bool)
    return {
        "n_tokens": pa.array(counts.astype(np.int32), mask=~ok),
        "truncated": pa.array(cuts, mask=~ok),
        **error_columns(rows, faults, trace_id),
        "text_hash": pa.array(list(prepared.window.hashes), pa.binary(16)),
    }


def _nulls(values: pa.RecordBatch, rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.nulls(rows, f.type) for f in values.schema], schema=values.schema
    )


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    return array if array.type == wanted else array.cast(wanted)
