"""Finds rows with NaN or infinity anywhere in a column of floats. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def rows_not_finite(values: pa.RecordBatch) -> np.ndarray:
    """True for each row with NaN or infinity in a float, also inside lists and structs, bool `[rows]`."""
    return _any([_in(column) for column in values.columns], values.num_rows)


def _in(array: pa.Array) -> np.ndarray | None:
    """True for each row of the array with such a float; None if its type has no floats."""
    kind = array.type
    if pa.types.is_floating(kind):
        return np.asarray(~np.isfinite(array.fill_null(0).to_numpy(zero_copy_only=False)))
    if pa.types.is_struct(kind):
        return _any([_in(field) for field in array.flatten()], len(array))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _in(array.flatten())
        if inner is None:
            return None
        bad = np.zeros(len(array), dtype=bool)
        bad[np.asarray(pc.list_parent_indices(array))[inner]] = True
        return bad
    return None


def _any(parts: Sequence[np.ndarray | None], rows: int) -> np.ndarray:
    found = np.zeros(rows, dtype=bool)
    for part in parts:
        if part is not None:
            found |= part
    return found
