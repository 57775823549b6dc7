"""Rows from the items that they became: each row's own results, or the error of one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from headrace.tasks.fan_out import FanOut
from schemas.errors import OutputMismatch, error_type_of
from workers.pipeline.rows import Predictions, RowError


def join_items(items: Predictions, fan: FanOut, task: Any) -> Predictions:
    """Predictions of the rows of `fan`; a row whose item failed, or that `join` fails on, is an error."""
    faults: dict[int, RowError] = {}
    for item, fault in sorted(items.faults.items()):
        for row in fan.rows_with(np.array([item]), len(items.computed)).tolist():
            faults.setdefault(row, fault)
    good = np.array([row for row in range(len(fan)) if row not in faults], dtype=np.int64)
    try:
        values = _joined(items.values, fan, good, task)
    except Exception:
        good, values = _one_by_one(items.values, fan, good, task, faults)
    where = np.zeros(len(fan), dtype=np.int64)
    computed = np.zeros(len(fan), dtype=bool)
    where[good], computed[good] = np.arange(len(good)), True
    return Predictions(values.take(pa.array(where, mask=~computed)), computed, faults)


def _joined(values: pa.RecordBatch, fan: FanOut, rows: np.ndarray, task: Any) -> pa.RecordBatch:
    found: pa.RecordBatch = task.join(fan.take(rows), values)
    if found.num_rows != len(rows):
        raise OutputMismatch(f"join gave {found.num_rows} rows for {len(rows)}")
    return found


def _one_by_one(
    values: pa.RecordBatch, fan: FanOut, rows: np.ndarray, task: Any, faults: dict[int, RowError]
) -> tuple[np.ndarray, pa.RecordBatch]:
    kept, pieces = [], []
    for row in rows.tolist():
        try:
            pieces.append(_joined(values, fan, np.array([row]), task))
            kept.append(row)
        except Exception as error:
            faults[row] = RowError(error_type_of(error), f"{type(error).__name__}: {error}"[:500])
    empty = pa.schema(task.columns()).empty_table()
    tables = [pa.Table.from_batches([piece]) for piece in pieces] or [empty]
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    columns = [column.combine_chunks() for column in table.columns]
    return np.array(kept, dtype=np.int64), pa.RecordBatch.from_arrays(columns, schema=table.schema)
