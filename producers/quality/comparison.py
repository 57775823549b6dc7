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
from producers.quality.cost import Cost
from producers.quality.gold import Gold, classification_job, texts_of
from producers.quality.paired import Agreement, Paired, table_of
from producers.quality.pairs.rows import (
    codes_of,
    hashes_of,
    is_ok,
    paired_rows,
    value_codes,
)
from schemas.errors import ConfigError
from schemas.records.job import Job

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
class Compared:
    """Two outputs of the same rows."""

    a: Job
    b: Job
    rows: int = 0
    costs: tuple[Cost | None, Cost | None] = (None, None)
    only_a_ok: int = 0
    only_b_ok: int = 0
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
    for one, two in paired_rows(a, b, (found.a, found.b), COLUMNS, wanted):
        rows.add(one, two)
    rows.finish()
    return found


class _Rows:
    """What is kept of each row until equal texts are known."""

    def __init__(self, found: Compared, gold: Gold | None, slices: Sequence[str], ask: int) -> None:
        self._found, self._gold, self._slices, self._ask = found, gold, slices, ask
        self._labels: dict[str, int] = {}
        self._values: dict[str, dict[str, int]] = {name: {} for name in slices}
        self._texts: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._kept_values: dict[str, list[np.ndarray]] = {name: [] for name in slices}

    def add(self, a: pa.Table, b: pa.Table) -> None:
        """Rows of A and the same rows of B."""
        found = self._found
        ok_a, ok_b = is_ok(a), is_ok(b)
        found.rows += a.num_rows
        found.only_a_ok += int((ok_a & ~ok_b).sum())
        found.only_b_ok += int((ok_b & ~ok_a).sum())
        both = ok_a & ok_b
        codes = np.stack(
            [
                self._coded(a["predicted_label"]),
                self._coded(b["predicted_label"]),
                np.full(a.num_rows, -1) if self._gold is None else self._gold_codes(a),
            ]
        ).astype(np.int32)[:, both]
        texts = hashes_of(a["text_hash"])[both]
        self._codes.append(codes)
        self._texts.append(texts)
        for name in self._slices:
            self._kept_values[name].append(value_codes(name, a[name], self._values[name])[both])
        self._keep_flips(a, b, np.flatnonzero(both), codes, texts)

    def finish(self) -> None:
        """Count every text once."""
        if not self._codes:
            return
        texts = np.concatenate(self._texts)
        _, first = np.unique(texts, return_index=True)
        codes = np.concatenate(self._codes, axis=1)[:, first]
        labels = tuple(self._labels)
        self._found.agreement = Agreement(
            labels, table_of(labels, codes[0].astype(np.int64) * len(labels) + codes[1])
        )
        if self._gold is None:
            return
        known = codes[2] >= 0
        self._found.paired = _paired(codes[:, known])
        for name in self._slices:
            values = np.concatenate(self._kept_values[name])[first][known]
            self._found.slices[name] = {
                value: _paired(codes[:, known][:, values == code])
                for value, code in self._values[name].items()
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
