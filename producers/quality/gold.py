"""Compares an output's predictions with gold labels, part by part, in memory bounded by one part.

Gold labels are a carried column of the output, or a file of ids and labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.formats.base import Request, Span
from headrace.formats.opener import InputOpener, OpenStore, scan_file
from headrace.output.job_record import require_job
from headrace.profiles.bins import add_counts, counted, score_bins
from headrace.storage.store import Store
from headrace.tasks.catalog import task_spec
from producers.quality.classification import Calibration, Counts, Evaluation
from schemas.errors import (
    ColumnError,
    ConfigError,
    InputNotFound,
    InputUnreadable,
)
from schemas.names import output_layout
from schemas.records.chunk import InputFile
from schemas.records.job import Job
from schemas.records.part_schema import OK

MOST_VALUES = 50
"""Chosen: values of a slice column that are shown; a column with more is no slice."""
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Gold:
    """Where gold labels come from; `column` is in the output unless `by_id` is given."""

    column: str
    by_id: Mapping[str, str] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    """A gold value → the model's name of that label."""

    def labels(self, rows: pa.Table, column: str | None = None) -> list[str | None]:
        """The gold label of each row of an output; None where there is none.

        With labels by id, the first column has the ids. `column` is where they are, if not there.
        """
        known = self.by_id
        name = column or (self.column if known is None else rows.column_names[0])
        labels = texts_of(rows[name])
        if known is not None:
            labels = [None if key is None else known.get(key) for key in labels]
        return [None if label is None else self.renamed.get(label, label) for label in labels]


@dataclass(slots=True)
class Evaluated:
    """An output against its gold labels."""

    job: Job
    counts: Counts = field(default_factory=Counts)
    calibration: Calibration = field(default_factory=Calibration)
    slices: dict[str, dict[str, Counts]] = field(default_factory=dict)
    """Column → value → counts."""
    judged: dict[int, int] = field(default_factory=dict)
    """Bin of the score, as profiles have them → rows that have a gold label."""
    right: dict[int, int] = field(default_factory=dict)
    """Those of them whose label was right."""
    without_gold: int = 0
    without_prediction: int = 0
    """Error rows that have a gold label; they are in no other number."""

    @property
    def overall(self) -> Evaluation:
        return self.counts.evaluate()


def evaluate(store: Store, gold: Gold, slices: Sequence[str] = ()) -> Evaluated:
    """Every part of a job of text classification, counted once.

    Raises:
        JobNotFound: the output holds no job.
        ConfigError: a job of another task; gold labels and predicted labels have nothing in common.
        ColumnError: a column that the output does not have, or a slice with too many values.
        InputUnreadable: a part cannot be read.
    """
    job = classification_job(store)
    found = Evaluated(job, slices={name: {} for name in slices})
    for table in _parts(store, job, gold, slices):
        _count(found, table, gold)
    _check_labels(found)
    return found


def classification_job(store: Store) -> Job:
    """The job of an output of text classification.

    Raises:
        JobNotFound: the output holds no job.
        ConfigError: its job is of another task.
    """
    job = require_job(store)
    if task_spec(job.spec.task).label_column != "predicted_label":
        raise ConfigError(
            f"this needs text-classification, and the job in {store.uri} is {job.spec.task}"
        )
    return job


def read_labels(
    uri: str, id_column: str, label_column: str, open_store: OpenStore
) -> dict[str, str]:
    """Gold labels by id, of one file in any input format; rows without either are left out.

    Raises:
        InputNotFound: there is no such file.
        InputUnreadable: no format that is read here.
        ColumnError: a column is missing, or one id has two labels.
    """
    found: dict[str, str] = {}
    for batch in labelled_rows(uri, [id_column, label_column], open_store):
        pairs = zip(texts_of(batch[id_column]), texts_of(batch[label_column]), strict=True)
        for key, label in pairs:
            if key is None or label is None:
                continue
            if found.setdefault(key, label) != label:
                raise ColumnError(f"{uri} gives id {key} both {found[key]} and {label}")
    return found


def labelled_rows(
    uri: str, columns: Sequence[str], open_store: OpenStore
) -> Iterator[pa.RecordBatch]:
    """These columns of one file of labels, in any input format.

    Raises:
        InputNotFound: there is no such file.
        InputUnreadable: no format that is read here.
        ColumnError: a column is missing.
    """
    opener = InputOpener(open_store)
    store, name = opener.place(uri)
    info = store.head(name)
    if info is None:
        raise InputNotFound(f"{uri}: there is no such file of labels")
    scanned = scan_file(store, info, Request(uri, (), tuple(columns)))
    for column in columns:
        if column not in scanned.scan.schema.names:
            raise ColumnError(
                f"{uri} has no column {column}: it has {', '.join(scanned.scan.schema.names)}"
            )
    file = InputFile(uri=uri, size=scanned.size, etag=scanned.etag, format=scanned.scan.format)
    row = 0
    for unit in scanned.scan.units:
        span = Span.of_unit(unit, row)
        row += unit.rows
        yield from opener(file).read(span, list(columns), scanned.scan.schema)


def _parts(store: Store, job: Job, gold: Gold, slices: Sequence[str]) -> Iterator[pa.Table]:
    for info in store.list(output_layout.DATA):
        if output_layout.chunk_of_part(info.name) is None:
            continue
        try:
            with store.open(info.name) as file, pq.ParquetFile(file) as part:
                names = part.schema_arrow.names
                key = job.spec.id_column or names[0]
                own = key if gold.by_id is not None else gold.column
                wanted = [own, *slices]
                missing = [name for name in wanted if name not in names]
                if missing:
                    raise ColumnError(
                        f"the output has no column {missing[0]}; carry it with --columns when the "
                        f"job is submitted. It has {', '.join(names)}"
                    )
                columns = {*wanted, "predicted_label", "score", "status"}
                table = part.read(columns=[n for n in names if n in columns])
        except (OSError, pa.ArrowException) as error:
            raise InputUnreadable(f"{store.uri}/{info.name}: {error}") from error
        yield table.append_column("", table[own]).rename_columns([*table.column_names, _GOLD])


_GOLD = "\0gold"


def _count(found: Evaluated, table: pa.Table, gold: Gold) -> None:
    table = table.filter(_is_asked(table))
    labels = gold.labels(table, _GOLD)
    ok = pc.equal(table["status"].cast(pa.string()), OK).to_numpy()
    known = np.array([label is not None for label in labels], dtype=bool)
    found.without_gold += int((~known).sum())
    found.without_prediction += int((known & ~ok).sum())
    used = known & ok
    predicted = table["predicted_label"].cast(pa.string()).to_pylist()
    rows = np.flatnonzero(used).tolist()
    for i in rows:
        found.counts.add(str(labels[i]), predicted[i])
    right = np.array([labels[i] == predicted[i] for i in rows], dtype=bool)
    scores = table["score"].to_numpy()[used].astype(float)
    inside = (scores >= 0) & (scores <= 1)  # a regression's values are no confidence
    found.calibration.add(scores[inside], right[inside])
    bins = score_bins(scores[inside])
    add_counts(found.judged, counted(bins))
    add_counts(found.right, counted(bins[right[inside]]))
    for name, by_value in found.slices.items():
        values = texts_of(table[name])
        for i in rows:
            value = "null" if values[i] is None else str(values[i])
            if value not in by_value and len(by_value) >= MOST_VALUES:
                raise ColumnError(
                    f"--slices {name}: it has over {MOST_VALUES} values, which are no slices"
                )
            by_value.setdefault(value, Counts()).add(str(labels[i]), predicted[i])


def _is_asked(table: pa.Table) -> Any:
    """Rows that the model was applied to: error rows too, but not rows that it was trained on."""
    is_error = pc.not_equal(table["status"].cast(pa.string()), OK)
    return pc.or_(is_error, pc.is_valid(table["predicted_label"]))


def _check_labels(found: Evaluated) -> None:
    gold = {g for g, _ in found.counts.pairs}
    predicted = {p for _, p in found.counts.pairs}
    if gold and predicted and not gold & predicted:
        raise ConfigError(
            f"gold labels ({_some(gold)}) and predicted labels ({_some(predicted)}) have none in "
            "common: say which is which with --map 0=negative,1=positive"
        )


def _some(labels: set[str]) -> str:
    shown = ", ".join(sorted(labels)[:SHOWN])
    return shown if len(labels) <= SHOWN else f"{shown}, …"


def texts_of(column: Any) -> list[str | None]:
    """Values as texts: 1 and "1" are the same label, true is "true"."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pa.types.is_floating(kind):  # pandas makes 1.0 of 1 where a label is missing
        whole = pc.equal(pc.floor(column), column)
        if pc.all(whole, min_count=0).as_py():
            column = column.cast(pa.int64())
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts
