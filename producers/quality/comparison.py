"""Two outputs of the same rows, read side by side once, in memory bounded by their rows' codes.

A row that counts takes 16 bytes: eight of its text's hash and two codes. Ten million rows take
some 400 MB at the end, when equal texts are found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.storage.store import Store
from producers.quality.gold import Gold, classification_job, texts_of
from producers.quality.paired import Agreement, Paired, table_of
from producers.quality.pairs.kept_rows import KeptRows, TwoOutputs
from producers.quality.pairs.rows import codes_of
from schemas.errors import ConfigError

CONFIDENT = 20
"""Chosen: flips that both models were surest of, shown by id."""


COLUMNS = ("predicted_label", "score", "status", "text_hash")


@dataclass(frozen=True, slots=True)
class Flip:
    """A row whose label changed."""

    id: str
    before: str
    after: str
    score_a: float
    score_b: float
    text: int
    """The first eight bytes of its text's hash: a draw that depends on nothing else."""


@dataclass(slots=True)
class Compared(TwoOutputs):
    """Two outputs of labels."""

    agreement: Agreement = field(default_factory=lambda: Agreement((), np.zeros((0, 0), np.int64)))
    paired: Paired | None = None
    """None: no gold column was named."""
    slices: dict[str, dict[str, Paired]] = field(default_factory=dict)
    confident_flips: list[Flip] = field(default_factory=list)
    """The texts whose label changed that both models were surest of."""
    drawn: list[Flip] = field(default_factory=list)
    """Texts whose label changed, drawn for a person to label.

    A uniform draw without replacement, the same each time: those with the smallest text hashes.
    Rows on which both models agree say nothing about which of them is better.
    """

    @property
    def chance(self) -> float:
        """Of a text whose label changed, to be among the drawn."""
        changed = self.agreement.rows - int(np.trace(self.agreement.table))
        return len(self.drawn) / changed if changed else 0.0


def compare(
    a: Store, b: Store, *, gold: Gold | None = None, slices: Sequence[str] = (), ask: int = 0
) -> Compared:
    """Every row of both outputs, once; `slices`, and `gold` unless it is by id, are columns of A.

    `ask` texts whose label changed are drawn.

    Raises:
        JobNotFound: an output holds no job.
        ConfigError: a job of another task, or the outputs are not of the same rows.
        ColumnError: a column that A does not have, or a slice with too many values.
        InputUnreadable: a part cannot be read.
    """
    found = Compared(classification_job(a), classification_job(b))
    if slices and gold is None:
        raise ConfigError("--slices compares accuracies: it needs --label-column or --labels")
    rows = _Rows(found, gold, slices, ask)
    wanted = [*([gold.column] if gold and gold.by_id is None else []), *slices]
    rows.read(a, b, COLUMNS, wanted)
    return found


class _Rows(KeptRows):
    """Three codes of a row: its label in A, that in B, and gold."""

    def __init__(self, found: Compared, gold: Gold | None, slices: Sequence[str], ask: int) -> None:
        super().__init__(found, slices)
        self._found, self._gold, self._ask = found, gold, ask
        self._labels: dict[str, int] = {}

    def codes(self, a: pa.Table, b: pa.Table, both: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """int32 `[3, rows]`; the surest flips are kept on the way."""
        gold = np.full(a.num_rows, -1) if self._gold is None else self._gold_codes(a)
        labels = (self._coded(t["predicted_label"]) for t in (a, b))
        codes = np.stack([*labels, gold]).astype(np.int32)[:, both]
        self._keep_flips(a, b, np.flatnonzero(both), codes, texts)
        return codes

    def count(self, codes: np.ndarray, first: np.ndarray) -> None:
        """See `KeptRows.count`."""
        labels = tuple(self._labels)
        self._found.agreement = Agreement(
            labels, table_of(labels, codes[0].astype(np.int64) * len(labels) + codes[1])
        )
        if self._gold is None:
            return
        known = codes[2] >= 0
        self._found.paired = _paired(codes[:, known])
        for name in self._values:
            self._found.slices[name] = {
                value: _paired(codes[:, known & has]) for value, has in self.by_value(name, first)
            }

    def _keep_flips(
        self, a: pa.Table, b: pa.Table, rows: np.ndarray, codes: np.ndarray, texts: np.ndarray
    ) -> None:
        """The surest flips so far, and the drawn ones."""
        at = np.flatnonzero(codes[0] != codes[1])
        if not len(at):
            return
        places = pa.array(rows[at])
        scores = [t["score"].take(places).to_numpy() for t in (a, b)]
        surest = np.argsort(-np.minimum(*scores), kind="stable")[: 4 * CONFIDENT]
        first = np.argsort(texts[at], kind="stable")[: 2 * self._ask]
        names = list(self._labels)

        def flips(of: np.ndarray) -> Iterator[Flip]:
            ids = texts_of(a.column(0).take(pa.array(rows[at[of]])))
            for id_, k in zip(ids, of.tolist(), strict=True):
                i = at[k]
                yield Flip(
                    str(id_), names[codes[0, i]], names[codes[1, i]],
                    float(scores[0][k]), float(scores[1][k]), int(texts[i]),
                )  # fmt: skip

        found = self._found
        found.confident_flips = _best(
            [*found.confident_flips, *flips(surest)],
            CONFIDENT,
            lambda f: -min(f.score_a, f.score_b),
        )
        found.drawn = _best([*found.drawn, *flips(first)], self._ask, lambda f: f.text)

    def _gold_codes(self, a: pa.Table) -> np.ndarray:
        assert self._gold is not None
        gold = self._gold
        if gold.by_id is None and not gold.renamed:
            return self._coded(a[gold.column])
        return self._coded(pa.array(gold.labels(a), pa.string()))

    def _coded(self, column: Any) -> np.ndarray:
        return codes_of(column, self._labels)


def _best(flips: list[Flip], most: int, key: Callable[[Flip], float]) -> list[Flip]:
    """The first of the flips in order of the key, each text once."""
    by_text: dict[int, Flip] = {}
    for flip in sorted(flips, key=key):
        by_text.setdefault(flip.text, flip)
    return list(by_text.values())[:most]


def _paired(codes: np.ndarray) -> Paired:
    a, b = codes[0] == codes[2], codes[1] == codes[2]
    return Paired(
        int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum()), int((~a & ~b).sum())
    )
