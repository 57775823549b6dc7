"""Ranks within groups, of an output that is finished: a group's rows may be in any of its parts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.output.job_record import require_job
from headrace.storage.store import Store
from headrace.tasks.catalog import task_spec
from schemas.errors import ColumnError, ConfigError, InputUnreadable
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.part_schema import OK, TAIL

RANK = "rank"


@dataclass(frozen=True, slots=True)
class Ranked:
    """What was written."""

    rows: int
    groups: int
    without: int
    """Rows without a rank: they have no score, or no group."""


def write_ranks(store: Store, group_column: str, to: Path) -> Ranked:
    """A Parquet file with every row of the output in its order, and its rank within its group.

    It has the id, the carried columns, the score, the rank and the status. Scores and groups are
    read first, and are held in memory; the rest goes by part by part.

    Raises:
        JobNotFound: the output holds no job.
        ConfigError: a job of a task without one score a row, or one that has not finished; or the
            file cannot be written.
        ColumnError: the output has no such column, or one that has no groups, or a `rank`.
        InputUnreadable: a part cannot be read.
    """
    job = require_job(store)
    score = _score_column(job, store)
    tables = list(_parts(store, job, [group_column, score, "status"]))
    if not tables:
        raise ConfigError(f"the job in {store.uri} has no rows")
    groups = _numbers([table[group_column] for table in tables], group_column)
    scores = np.concatenate([_scores(table, score) for table in tables])
    ranks = ranks_of(groups, scores)
    try:
        _write(store, job, ranks, to)
    except OSError as error:  # of reading, it is another class
        raise ConfigError(f"--to {to} cannot be written: {error.strerror or error}") from error
    counted = groups[ranks > 0]
    return Ranked(len(ranks), len(np.unique(counted)), int((ranks == 0).sum()))


def ranks_of(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The rank of each row in its group: 1 for the highest score, int64 `[rows]`.

    As SQL's `rank()`: rows of one score have the same, and the next has one more than there are
    rows before it. `groups` are int64, -1 for none; `scores` are NaN where there is none. Rows
    without either have 0, and do not count.
    """
    ranks = np.zeros(len(groups), dtype=np.int64)
    (rows,) = np.nonzero((groups >= 0) & ~np.isnan(scores))
    if not len(rows):
        return ranks
    order = rows[np.lexsort((-scores[rows], groups[rows]))]
    group, score = groups[order], scores[order]
    begins = np.concatenate(([True], group[1:] != group[:-1]))
    differs = begins | np.concatenate(([True], score[1:] != score[:-1]))
    at = np.arange(len(order))
    first_of_group = np.maximum.accumulate(np.where(begins, at, 0))
    first_of_ties = np.maximum.accumulate(np.where(differs, at, 0))
    ranks[order] = first_of_ties - first_of_group + 1
    return ranks


def _score_column(job: Job, store: Store) -> str:
    column = task_spec(job.spec.task).score_column
    if job.spec.task != "text-ranking" or column is None:
        raise ConfigError(f"ranks need text-ranking, and the job in {store.uri} is {job.spec.task}")
    return column


def _parts(store: Store, job: Job, wanted: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The parts in order, with these columns or all."""
    for chunk in range(job.chunks):
        name = output_layout.part(chunk)
        try:
            with store.open(name) as file, pq.ParquetFile(file) as part:
                missing = [c for c in wanted or () if c not in part.schema_arrow.names]
                if missing:
                    raise ColumnError(
                        f"{store.uri} has no column {missing[0]}; carry it with --columns when the "
                        f"job is submitted. It has {', '.join(part.schema_arrow.names)}"
                    )
                yield part.read(columns=wanted)
        except FileNotFoundError as error:
            raise ConfigError(
                f"{store.uri} has no {name}: its job has not finished, and ranks need all rows"
            ) from error
        except (OSError, pa.ArrowException) as error:
            raise InputUnreadable(f"{store.uri}/{name}: {error}") from error


def _numbers(columns: Sequence[pa.ChunkedArray], name: str) -> np.ndarray:
    """A number for each value, int64 `[rows]`, and -1 for null."""
    chunks = [chunk for column in columns for chunk in _plain(column).chunks]
    try:
        coded = pa.chunked_array(chunks, _plain(columns[0]).type).dictionary_encode()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        kind = columns[0].type
        raise ColumnError(f"--group-column {name} holds {kind}, which makes no groups") from error
    found = [pc.fill_null(c.indices, -1).to_numpy() for c in coded.unify_dictionaries().chunks]
    return np.concatenate([np.zeros(0), *found]).astype(np.int64)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values in place of a dictionary, which each part has its own of."""
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _scores(table: pa.Table, column: str) -> np.ndarray:
    """Scores float64 `[rows]`, NaN for an error row."""
    is_ok = pc.equal(table["status"].cast(pa.string()), OK)
    scores = pc.if_else(is_ok, table[column].cast(pa.float64()), pa.scalar(None, pa.float64()))
    return np.asarray(scores.to_numpy()).astype(np.float64)


def _write(store: Store, job: Job, ranks: np.ndarray, to: Path) -> None:
    """The file, complete under its name or not there at all."""
    to.parent.mkdir(parents=True, exist_ok=True)
    scratch = to.with_name(f".{to.name}.{os.getpid()}")
    writer: pq.ParquetWriter | None = None
    done = 0
    try:
        for table in _parts(store, job):
            end = table.column_names.index(TAIL[0].name)
            if RANK in table.column_names[:end]:
                raise ColumnError(f"{store.uri} has a column {RANK} already, copied from the input")
            column = ranks[done : done + table.num_rows]
            done += table.num_rows
            kept = table.select(table.column_names[:end])
            kept = kept.append_column(RANK, pa.array(column, pa.int64(), mask=column == 0))
            kept = kept.append_column("status", table["status"].cast(pa.string()))
            if writer is None:
                writer = pq.ParquetWriter(scratch, kept.schema, compression="zstd")
            writer.write_table(kept)
        if writer is not None:
            writer.close()
            os.replace(scratch, to)
    finally:
        if writer is not None:
            writer.close()
        scratch.unlink(missing_ok=True)
