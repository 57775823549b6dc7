"""What two outputs of the same rows have in common, whatever their task, and the walk over their rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.storage.store import Store
from producers.quality.cost import Cost
from producers.quality.pairs.rows import hashes_of, is_ok, paired_rows, value_codes
from schemas.records.job import Job


@dataclass(slots=True)
class TwoOutputs:
    """Two outputs of the same rows, and how many of them each has."""

    a: Job
    b: Job
    rows: int = 0
    costs: tuple[Cost | None, Cost | None] = (None, None)
    only_a_ok: int = 0
    only_b_ok: int = 0


class KeptRows(ABC):
    """What is kept of each row until equal texts are known."""

    def __init__(self, found: TwoOutputs, slices: Sequence[str]) -> None:
        self._counts = found
        self._values: dict[str, dict[str, int]] = {name: {} for name in slices}
        self._texts: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._kept_values: dict[str, list[np.ndarray]] = {name: [] for name in slices}

    def read(self, a: Store, b: Store, ours: Sequence[str], wanted: Sequence[str]) -> None:
        """Add every row of both outputs, then count every text once.

        Raises:
            ColumnError, ConfigError, InputUnreadable: see `paired_rows`.
        """
        for one, two in paired_rows(a, b, (self._counts.a, self._counts.b), ours, wanted):
            self._add(one, two)
        if self._codes:
            _, first = np.unique(np.concatenate(self._texts), return_index=True)
            self.count(np.concatenate(self._codes, axis=-1)[..., first], first)

    def has_answer(self, table: pa.Table) -> np.ndarray:
        """True for each row with an answer, bool `[rows]`."""
        return is_ok(table)

    @abstractmethod
    def codes(self, a: pa.Table, b: pa.Table, both: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """What is kept of rows with two answers, int32 `[…, rows]`; `texts` are their hashes."""

    @abstractmethod
    def count(self, codes: np.ndarray, first: np.ndarray) -> None:
        """Count the codes of every text once; `first` says which rows they are."""

    def by_value(self, name: str, first: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """Each value of a slice, and which of the rows `first` have it, bool `[rows]`."""
        values = np.concatenate(self._kept_values[name])[first]
        return [(value, values == code) for value, code in self._values[name].items()]

    def _add(self, a: pa.Table, b: pa.Table) -> None:
        found = self._counts
        ok_a, ok_b = self.has_answer(a), self.has_answer(b)
        found.rows += a.num_rows
        found.only_a_ok += int((ok_a & ~ok_b).sum())
        found.only_b_ok += int((ok_b & ~ok_a).sum())
        both: Any = ok_a & ok_b
        for name, known in self._values.items():
            self._kept_values[name].append(value_codes(name, a[name], known)[both])
        texts = hashes_of(a["text_hash"])[both]
        self._texts.append(texts)
        self._codes.append(self.codes(a, b, both, texts))
