"""What the rows of a batch begin with in common, and where it pays to compute it once."""

from __future__ import annotations

import numpy as np

from headrace.tasks.contract import Encodings

LEAST = 8
"""Tokens. Chosen: below, a forward of their own costs as much as it saves."""
GOOD_ENOUGH = 0.75
"""A known beginning is used where it has this share of what the rows have in common. Chosen: rows
that begin alike by chance must not replace it."""


def shared_tokens(rows: Encodings) -> int:
    """How many tokens all rows begin with in common; each row keeps one of its own."""
    if not len(rows):
        return 0
    most = int(rows.lengths.min()) - 1
    if most < 1:
        return 0
    at = rows.offsets[:-1, None] + np.arange(most)
    beginnings = rows.ids[at]
    same = (beginnings == beginnings[0]).all(axis=0)
    return most if same.all() else int(np.argmin(same))


def to_share(known: np.ndarray, rows: Encodings) -> int:
    """How many tokens at the start of each row to take from what is computed once.

    `known` are the ids of what was computed before; where it fits, its length.
    """
    common = shared_tokens(rows)
    first = rows.ids[:common]
    fits = 0 < len(known) <= common and np.array_equal(known, first[: len(known)])
    if fits and (len(rows) == 1 or len(known) >= GOOD_ENOUGH * common):
        return len(known)
    return common if common >= LEAST and len(rows) > 1 else 0


def without(rows: Encodings, shared: int, more: np.ndarray) -> Encodings:
    """The rows without their first `shared` tokens, and with `more` (int32) behind each."""
    pieces = [
        np.concatenate([rows.ids[start + shared : stop], more])
        for start, stop in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)
    ]
    lengths = rows.lengths - shared + len(more)
    return Encodings(
        ids=np.concatenate(pieces).astype(np.int32),
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        truncated=rows.truncated,
    )
