"""Compares an output's entities with gold entities, part by part, in memory bounded by one part.

Gold entities are a list of label, start and end in each row, or a list of tags (`B-PER`) with a
column of the tokens that they tag. They are carried by the output, or in a file by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.formats.opener import OpenStore
from headrace.output.job_record import require_job
from headrace.storage.store import Store
from headrace.tasks.catalog import task_spec
from producers.quality.entities import EntityCounts
from producers.quality.gold import MOST_VALUES, labelled_rows, texts_of
from schemas.entity_tags import Span, spans_of_tags
from schemas.errors import ColumnError, ConfigError, InputUnreadable
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.part_schema import OK


@dataclass(frozen=True, slots=True)
class EntityGold:
    """Where gold entities come from; the columns are in the output unless `by_id` is given."""

    column: str
    tokens_column: str | None = None
    """The tokens that tags belong to; None: the column has spans."""
    by_id: Mapping[str, Sequence[Any]] | None = None
    """Id → value of `column`, then of `tokens_column`."""

    @property
    def columns(self) -> list[str]:
        return [self.column, *([self.tokens_column] if self.tokens_column else [])]


@dataclass(slots=True)
class EvaluatedEntities:
    """An output against its gold entities."""

    job: Job
    counts: EntityCounts = field(default_factory=EntityCounts)
    slices: dict[str, dict[str, EntityCounts]] = field(default_factory=dict)
    """Column → value → counts."""
    without_gold: int = 0
    without_prediction: int = 0
    """Error rows that have gold entities; they are in no other number."""


def evaluate_entities(
    store: Store, gold: EntityGold, slices: Sequence[str] = ()
) -> EvaluatedEntities:
    """Every part of a job of token classification, counted once.

    Raises:
        JobNotFound: the output holds no job.
        ConfigError: a job of another task or without aggregation, or tokens of other texts.
        ColumnError: a column that is missing or has no entities; a slice with too many values.
        InputUnreadable: a part cannot be read.
    """
    job = entities_job(store)
    found = EvaluatedEntities(job, slices={name: {} for name in slices})
    for table in _parts(store, job, gold, slices):
        _count(found, table, gold)
    return found


def finds_entities(store: Store) -> bool:
    """Whether the output's job is of a task that finds entities. Raises JobNotFound."""
    return task_spec(require_job(store).spec.task).label_column == "entities.label"


def entities_job(store: Store) -> Job:
    """The job of an output of whole entities.

    Raises:
        JobNotFound: the output holds no job.
        ConfigError: its job finds no entities, or single tokens of them.
    """
    job = require_job(store)
    if not finds_entities(store):
        raise ConfigError(f"the job in {store.uri} is {job.spec.task}, which finds no entities")
    if job.spec.params.get("aggregation") == "none":
        raise ConfigError("the job's entities are single tokens: it ran with --aggregation none")
    return job


def read_entities(
    uri: str, id_column: str, columns: Sequence[str], open_store: OpenStore
) -> dict[str, tuple[Any, ...]]:
    """The values of these columns by id, of one file; rows without an id are left out.

    Raises:
        InputNotFound, InputUnreadable, ColumnError: see `labelled_rows`.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for batch in labelled_rows(uri, [id_column, *columns], open_store):
        values = zip(*(batch[name].to_pylist() for name in columns), strict=True)
        for key, row in zip(texts_of(batch[id_column]), values, strict=True):
            if key is not None:
                found[key] = row
    return found


def _parts(store: Store, job: Job, gold: EntityGold, slices: Sequence[str]) -> Iterator[pa.Table]:
    own = gold.columns if gold.by_id is None else []
    for info in store.list(output_layout.DATA):
        if output_layout.chunk_of_part(info.name) is None:
            continue
        try:
            with store.open(info.name) as file, pq.ParquetFile(file) as part:
                names = part.schema_arrow.names
                missing = [name for name in [*own, *slices] if name not in names]
                if missing:
                    raise ColumnError(
                        f"the output has no column {missing[0]}; carry it with --columns when the "
                        f"job is submitted. It has {', '.join(names)}"
                    )
                columns = [names[0], *own, *slices, "entities", "status"]
                yield part.read(columns=list(dict.fromkeys(columns)))
        except (OSError, pa.ArrowException) as error:
            raise InputUnreadable(f"{store.uri}/{info.name}: {error}") from error


def _count(found: EvaluatedEntities, table: pa.Table, gold: EntityGold) -> None:
    ids = texts_of(table.column(0))
    values = gold_values(table, gold, ids)
    status = table["status"].cast(pa.string()).to_pylist()
    entities = table["entities"].to_pylist()
    by_slice = {name: texts_of(table[name]) for name in found.slices}
    for row, value in enumerate(values):
        if status[row] == OK and entities[row] is None:
            continue  # a model was trained on it, and not asked
        if value is None or value[0] is None:
            found.without_gold += 1
            continue
        if status[row] != OK:
            found.without_prediction += 1
            continue
        predicted = [(e["label"], e["start"], e["end"]) for e in entities[row] or ()]
        true = gold_spans(value, gold, entities[row] or (), ids[row])
        found.counts.add(true, predicted)
        for name, of in by_slice.items():
            _slice(found.slices[name], name, of[row]).add(true, predicted)


def gold_values(
    table: pa.Table, gold: EntityGold, ids: Sequence[str | None]
) -> list[Sequence[Any] | None]:
    """Tags or spans of each row, and its tokens if those are needed; None: not known."""
    if gold.by_id is not None:
        return [None if key is None else gold.by_id.get(key) for key in ids]
    return list(zip(*(table[name].to_pylist() for name in gold.columns), strict=True))


def gold_spans(
    value: Sequence[Any], gold: EntityGold, entities: Sequence[Any], row: str | None
) -> list[Span]:
    """The gold entities of a row; its predicted ones show whether the tokens are of its text."""
    items = value[0]
    if not isinstance(items, list):
        raise ColumnError(f"{gold.column} has no lists: tags, or label, start and end, are needed")
    if all(isinstance(item, dict) and {"label", "start", "end"} <= item.keys() for item in items):
        return [(item["label"], item["start"], item["end"]) for item in items]
    if not all(isinstance(item, str) for item in items):
        raise ColumnError(f"{gold.column}: neither tags nor label, start and end")
    if gold.tokens_column is None:
        raise ConfigError(f"{gold.column} has tags: name the tokens with --tokens-column")
    tokens = value[1] or []
    text = " ".join(tokens)
    if any(text[e["start"] : e["end"]] != e["text"] for e in entities):
        raise ConfigError(
            f"row {row}: its tokens, joined by spaces, are not the text that was scored; give "
            "spans (label, start, end) instead of tags"
        )
    try:
        return spans_of_tags(tokens, items)
    except ValueError as error:
        raise ColumnError(f"row {row}: {error}") from error


def _slice(by_value: dict[str, EntityCounts], name: str, value: str | None) -> EntityCounts:
    shown = "null" if value is None else value
    if shown not in by_value and len(by_value) >= MOST_VALUES:
        raise ColumnError(f"--slices {name}: it has over {MOST_VALUES} values, which are no slices")
    return by_value.setdefault(shown, EntityCounts())
