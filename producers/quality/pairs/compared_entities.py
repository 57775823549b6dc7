"""Two outputs of entities in the same rows, read side by side once.

A row that counts takes 12 bytes: eight of its text's hash and a code of what is counted of it.
What is counted is kept once for all rows that are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.storage.store import Store
from producers.quality.gold import texts_of
from producers.quality.gold_entities import EntityGold, entities_job, gold_spans, gold_values
from producers.quality.pairs.entity_changes import (
    Change,
    EntityAgreement,
    Kinds,
    PairedEntities,
    TextKind,
    changes_of,
    kind_of,
)
from producers.quality.pairs.kept_rows import KeptRows, TwoOutputs
from producers.quality.pairs.rows import is_ok
from schemas.errors import ConfigError

SUREST = 20
"""Chosen: changes that the models were surest of, shown by id."""
COLUMNS = ("entities", "status", "text_hash")


@dataclass(frozen=True, slots=True)
class ChangedEntity:
    """An entity that changed, in one row."""

    id: str
    text: str
    change: Change
    score: float
    """Of the model that found it; the lower one of both."""


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row whose entities changed, drawn to be labelled."""

    id: str
    a: list[dict[str, Any]]
    b: list[dict[str, Any]]
    text: int
    """The first eight bytes of its text's hash: a draw that depends on nothing else."""


@dataclass(slots=True)
class ComparedEntities(TwoOutputs):
    """Two outputs of entities in the same rows."""

    agreement: EntityAgreement = field(default_factory=lambda: EntityAgreement({}))
    paired: PairedEntities | None = None
    """None: no gold column was named."""
    slices: dict[str, dict[str, PairedEntities]] = field(default_factory=dict)
    surest: list[ChangedEntity] = field(default_factory=list)
    drawn: list[ChangedRow] = field(default_factory=list)
    """A uniform draw from the texts whose entities changed: those with the smallest hashes."""

    @property
    def chance(self) -> float:
        """Of a text whose entities changed, to be among the drawn."""
        changed = self.agreement.changed
        return len(self.drawn) / changed if changed else 0.0


def compare_entities(
    a: Store, b: Store, *, gold: EntityGold | None = None, slices: Sequence[str] = (), ask: int = 0
) -> ComparedEntities:
    """Every row of both outputs, once; `slices`, and `gold` unless it is by id, are columns of A.

    `ask` texts whose entities changed are drawn.

    Raises:
        JobNotFound: an output holds no job.
        ConfigError: a job that finds no entities, or the outputs are not of the same rows.
        ColumnError: a column that A does not have, or a slice with too many values.
        InputUnreadable: a part cannot be read.
    """
    found = ComparedEntities(entities_job(a), entities_job(b))
    if slices and gold is None:
        raise ConfigError("--slices compares F1: it needs --label-column or --labels")
    rows = _Rows(found, gold, slices, ask)
    wanted = [*(gold.columns if gold and gold.by_id is None else []), *slices]
    rows.read(a, b, COLUMNS, wanted)
    return found


class _Rows(KeptRows):
    """A code of each row: the number of its kind."""

    def __init__(
        self, found: ComparedEntities, gold: EntityGold | None, slices: Sequence[str], ask: int
    ) -> None:
        super().__init__(found, slices)
        self._found, self._gold, self._ask = found, gold, ask
        self._kinds: dict[TextKind, int] = {}

    def has_answer(self, table: pa.Table) -> np.ndarray:
        """See `KeptRows.has_answer`."""
        found: np.ndarray = is_ok(table) & pc.is_valid(table["entities"]).to_numpy()
        return found

    def codes(self, a: pa.Table, b: pa.Table, both: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """int32 `[rows]`."""
        mask = pa.array(both)
        return self._kinds_of(a.filter(mask), b.filter(mask), texts)

    def count(self, codes: np.ndarray, first: np.ndarray) -> None:
        """See `KeptRows.count`."""
        self._shorten()
        kinds = self._counted(codes)
        self._found.agreement = EntityAgreement(kinds)
        if self._gold is None:
            return
        self._found.paired = PairedEntities.of(kinds)
        for name in self._values:
            self._found.slices[name] = {
                value: PairedEntities.of(self._counted(codes[has]))
                for value, has in self.by_value(name, first)
            }

    def _counted(self, codes: np.ndarray) -> Kinds:
        counts = np.bincount(codes, minlength=len(self._kinds)).tolist()
        return {kind: n for kind, n in zip(self._kinds, counts, strict=True) if n}

    def _kinds_of(self, a: pa.Table, b: pa.Table, texts: np.ndarray) -> np.ndarray:
        """int32 `[rows]`: the number of each row's kind; changes are kept on the way."""
        ids = texts_of(a.column(0))
        values = [None] * a.num_rows if self._gold is None else gold_values(a, self._gold, ids)
        codes = np.empty(a.num_rows, np.int32)
        rows = zip(a["entities"].to_pylist(), b["entities"].to_pylist(), strict=True)
        for row, (first, second) in enumerate(rows):
            gold = None
            value = values[row]
            if self._gold is not None and value is not None and value[0] is not None:
                gold = gold_spans(value, self._gold, first, ids[row])
            kind = kind_of(_spans(first), _spans(second), gold)
            codes[row] = self._kinds.setdefault(kind, len(self._kinds))
            if kind.changes:
                self._keep(str(ids[row]), first, second, int(texts[row]))
        return codes

    def _keep(self, id_: str, a: list[dict[str, Any]], b: list[dict[str, Any]], text: int) -> None:
        """The surest changes so far, and the drawn rows."""
        found = self._found
        by_span = [{_span(e): e for e in side} for side in (a, b)]
        for change, one, two in changes_of(_spans(a), _spans(b)):
            own = [side[s] for side, s in zip(by_span, (one, two), strict=True) if s is not None]
            score = min(float(entity["score"]) for entity in own)
            found.surest.append(ChangedEntity(id_, own[0]["text"], change, score))
        if len(found.surest) > 50 * SUREST:
            self._shorten()
        if self._ask:
            found.drawn.append(ChangedRow(id_, a, b, text))
            if len(found.drawn) > 4 * self._ask:
                self._shorten()

    def _shorten(self) -> None:
        found = self._found
        by_entity = {(c.text, c.change): c for c in sorted(found.surest, key=lambda c: c.score)}
        found.surest = sorted(by_entity.values(), key=lambda c: -c.score)[:SUREST]
        by_text: dict[int, ChangedRow] = {}
        for row in found.drawn:
            by_text.setdefault(row.text, row)
        found.drawn = sorted(by_text.values(), key=lambda r: r.text)[: self._ask]


def _spans(entities: Sequence[dict[str, Any]]) -> set[tuple[str, int, int]]:
    return {_span(entity) for entity in entities}


def _span(entity: dict[str, Any]) -> tuple[str, int, int]:
    return entity["label"], entity["start"], entity["end"]
