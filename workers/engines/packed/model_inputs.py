"""The arrays that a batch becomes before a model runs it. Pure: NumPy in, NumPy out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headrace.tasks.contract import Encodings


class Padded(NamedTuple):
    """A batch filled up to its longest row; all arrays are `[rows, width]`."""

    ids: np.ndarray
    """int32."""
    types: np.ndarray | None
    """int32; None where the batch has none."""
    kept: np.ndarray
    """True for a token, False for padding."""


def padded(batch: Encodings, pad_id: int) -> Padded:
    """The rows side by side, filled up at the right with `pad_id`, and with 0 for token types."""
    width = int(batch.lengths.max(initial=0))
    kept = np.arange(width) < batch.lengths[:, None]
    ids = np.full(kept.shape, pad_id, dtype=np.int32)
    ids[kept] = batch.ids
    types = None
    if batch.type_ids is not None:
        types = np.zeros(kept.shape, dtype=np.int32)
        types[kept] = batch.type_ids
    return Padded(ids, types, kept)


def positions(batch: Encodings, padding: int | None) -> np.ndarray:
    """Position of each token in its row, int64 `[tokens]`.

    With `padding` as RoBERTa counts them: from `padding + 1` on. Tokens of that id do not count, and
    have the position `padding`.
    """
    starts = np.repeat(batch.offsets[:-1], batch.lengths)
    if padding is None:
        return np.asarray(np.arange(len(batch.ids)) - starts)
    real = (batch.ids != padding).astype(np.int64)
    counted = np.concatenate(([0], np.cumsum(real)))
    return np.asarray((counted[1:] - counted[starts]) * real + padding)


def last_tokens(batch: Encodings, padding: int | None) -> np.ndarray:
    """Index of each row's last token that is no padding, in the flat batch; int64 `[rows]`.

    Of a row that is all padding it is the first.
    """
    last = batch.offsets[1:] - 1
    if padding is None:
        return np.asarray(last)
    at = np.where(batch.ids != padding, np.arange(len(batch.ids)), 0)
    seen = np.maximum.accumulate(at) if len(at) else at
    return np.asarray(np.maximum(seen[last], batch.offsets[:-1]))


def last_of_id(batch: Encodings, wanted: int) -> np.ndarray:
    """Index of the last token of an id in each row, in the flat batch; int64 `[rows]`.

    Raises:
        ValueError: a row has none.
    """
    at = np.where(batch.ids == wanted, np.arange(len(batch.ids)), -1)
    seen = np.append(np.maximum.accumulate(at), -1) if len(at) else np.array([-1])
    last = seen[batch.offsets[1:] - 1]
    if (last < batch.offsets[:-1]).any():
        raise ValueError(f"each row must have a token of id {wanted}, which the model's head reads")
    return np.asarray(last)
