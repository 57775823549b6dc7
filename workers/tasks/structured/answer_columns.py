"""The columns of what a model wrote; lists where each row has several samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from headrace.tasks.generation.answer import Answer
from headrace.tasks.generation.specs import COLUMNS

REASONS = ("stop", "length")
REASON = pa.dictionary(pa.int8(), pa.string())


def answer_fields(samples: int) -> list[pa.Field]:
    """A field for each of `COLUMNS`. Lists have strings for reasons: few readers know more."""
    kinds = [pa.string(), REASON if samples == 1 else pa.string(), pa.int32(), pa.float32()]
    types = kinds if samples == 1 else [pa.list_(kind) for kind in kinds]
    return [pa.field(name, kind) for name, kind in zip(COLUMNS, types, strict=True)]


def answer_arrays(output: Sequence[Answer], samples: int) -> list[pa.Array]:
    """The values of these fields, one for each answer."""
    if samples == 1:
        return _arrays(output)
    each = _arrays([it for row in output for it in row.samples])
    each[1] = each[1].cast(pa.string())
    offsets = pa.array(np.arange(len(output) + 1) * samples, pa.int32())
    return [pa.ListArray.from_arrays(offsets, it) for it in each]


def _arrays(answers: Sequence[Answer]) -> list[pa.Array]:
    reasons = pa.array([REASONS.index(it.finish_reason) for it in answers], pa.int8())
    return [
        pa.array([it.text for it in answers], pa.string()),
        pa.DictionaryArray.from_arrays(reasons, pa.array(REASONS)),
        pa.array([it.n_generated for it in answers], pa.int32()),
        pa.array([it.logprob for it in answers], pa.float32()),
    ]
