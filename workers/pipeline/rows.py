"""Rows on their way through a chunk: as read, as tokenized, as predicted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from headrace.tasks.contract import Encodings
from schemas.records import part_schema
from workers.pipeline.generating.counts import GenerationCounts


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row has no prediction."""

    error_type: str
    message: str


def error_columns(
    rows: int, faults: Mapping[int, RowError], trace_id: str | None
) -> dict[str, pa.Array]:
    """The columns of a part that say which rows are errors, and why; `faults` by row."""
    failed = np.zeros(rows, dtype=np.int8)
    failed[list(faults)] = 1
    statuses = pa.array([part_schema.OK, part_schema.ERROR])
    found = [faults.get(row) for row in range(rows)] if faults else [None] * rows
    kinds = pa.array([f.error_type if f else None for f in found], pa.string())
    return {
        "status": pa.DictionaryArray.from_arrays(pa.array(failed), statuses),
        "error_type": kinds.dictionary_encode(),
        "error_message": pa.array([f.message if f else None for f in found], pa.string()),
        "trace_id": pa.array([trace_id if f else None for f in found], pa.string()),
    }


NULL_TEXT = RowError("null_text", "the text is null")
NOT_FINITE = RowError("not_finite", "the model gave NaN or infinity for this row")
INVALID_TEXT = RowError("invalid_text", "the text is not valid UTF-8")


@dataclass(frozen=True, slots=True)
class Window:
    """Neighbouring rows of a chunk, as read: enough to keep a device busy, few enough for memory.

    `carried` holds the id and the carried columns, `[rows]` each. `texts` (and `pairs`) hold a
    string, or the error that keeps the row from being scored; `hashes` 16 bytes or None.
    """

    start: int
    """Row number of the first row within the chunk."""
    carried: pa.RecordBatch
    texts: Sequence[str | RowError]
    hashes: Sequence[bytes | None]
    pairs: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def slice(self, first: int, stop: int) -> Window:
        """The rows from `first` to before `stop`, as a window of their own."""
        return Window(
            self.start + first,
            self.carried.slice(first, stop - first),
            self.texts[first:stop],
            self.hashes[first:stop],
            None if self.pairs is None else self.pairs[first:stop],
        )


@dataclass(frozen=True, slots=True)
class HeldBackResult:
    """The result of a text that was held back: a value, token count and truncation, or an error."""

    value: pa.RecordBatch | None
    n_tokens: int = 0
    truncated: bool = False
    fault: RowError | None = None


@dataclass(slots=True)
class Predictions:
    """Predictions for the rows of the encodings (or their items), in order: a value or an error."""

    values: pa.RecordBatch
    computed: np.ndarray
    faults: dict[int, RowError] = field(default_factory=dict)
    tokens: np.ndarray | None = None
    """Tokens of each row, int64, if they are known only now; else those of the encodings."""


@dataclass(slots=True)
class TokenizedWindow:
    """A window whose distinct texts are token ids.

    `unique` holds, for each distinct text, its first row within the window. `copy_of` `[rows]` is
    the position in `unique` of each row's text, or -1 where the row is an error.
    """

    window: Window
    unique: np.ndarray
    copy_of: np.ndarray
    encodings: Encodings | None
    faults: dict[int, RowError] = field(default_factory=dict)
    """Row within the window → error."""
    held_back: dict[int, bytes] = field(default_factory=dict)
    """Suspect texts and texts whose predictions are copied: row within the window → text hash."""
    reused: Mapping[bytes, HeldBackResult] = field(default_factory=dict)
    """Predictions of an earlier output, by text hash."""


@dataclass(slots=True)
class ChunkStats:
    """Counters of a chunk, updated while it runs."""

    rows: int = 0
    ok: int = 0
    tokens: int = 0
    padding_tokens: int = 0
    computed: int = 0
    reused: int = 0
    truncated: int = 0
    batches: int = 0
    budget_tokens: int = 0
    """Sum of the token budgets of the batches: the tokens that they could have held."""
    oom_halvings: int = 0
    tokenizer: str = ""
    """Name and version of a tokenizer library that is not the usual one."""
    warnings: tuple[str, ...] = ()
    """What loading the model found that the person should read."""
    errors_by_type: dict[str, int] = field(default_factory=dict)
    generation: GenerationCounts = field(default_factory=GenerationCounts)
    """Of rows whose text is generated."""

    def count_rows(self, rows: int, faults: Iterable[RowError]) -> None:
        """Count rows, of which these are errors."""
        before = self.errors
        for fault in faults:
            kinds = self.errors_by_type
            kinds[fault.error_type] = kinds.get(fault.error_type, 0) + 1
        self.rows += rows
        self.ok += rows - (self.errors - before)

    @property
    def errors(self) -> int:
        return sum(self.errors_by_type.values())

    @property
    def duplicates(self) -> int:
        """Rows whose prediction was computed for another row of their window."""
        return max(0, self.ok - self.computed - self.reused)

    @property
    def batch_fill(self) -> float | None:
        """Share of the token budget that was filled, 0 to 1; a larger row counts as full."""
        if not self.budget_tokens:
            return None
        return min(1.0, (self.tokens + self.padding_tokens) / self.budget_tokens)
