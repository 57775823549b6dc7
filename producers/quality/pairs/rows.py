"""The same rows of two outputs, part by part, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.output.challenger_record import Challenger, read_challenger
from headrace.storage.store import Store
from producers.quality.gold import MOST_VALUES, texts_of
from schemas.errors import ColumnError, ConfigError, InputUnreadable
from schemas.names import output_layout
from schemas.records.job import Job
from schemas.records.part_schema import OK
from schemas.records.text_hash import share_limit


def paired_rows(
    a: Store, b: Store, jobs: tuple[Job, Job], ours: Sequence[str], wanted: Sequence[str]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Rows of A and the same rows of B; of A only those that B got, if B is a challenger.

    Tables have the id first, then columns of ours, and in A the carried ones that are wanted.

    Raises:
        ColumnError, ConfigError, InputUnreadable: see `_read_parts` and `_side_by_side`.
    """
    sample = read_challenger(b)
    rows_of_a = _read_parts(a, jobs[0], ours, wanted)
    if sample is not None:
        _check_sample(sample, jobs[0], a)
        rows_of_a = (_drawn_rows(table, sample.share) for table in rows_of_a)
    return _side_by_side(rows_of_a, _read_parts(b, jobs[1], ours, ()))


def codes_of(column: Any, known: dict[str, int]) -> np.ndarray:
    """int `[rows]`: each value's number in `known`, which grows; -1: null."""
    encoded = pa.array(texts_of(column), pa.string()).dictionary_encode()
    numbers = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
    indices = pc.fill_null(encoded.indices, -1).to_numpy()
    table = np.array([*numbers, -1])
    codes: np.ndarray = table[indices]
    return codes


def value_codes(name: str, column: Any, known: dict[str, int]) -> np.ndarray:
    """int `[rows]`: the number of each value of a slice in `known`, which grows; null is a value.

    Raises:
        ColumnError: too many values.
    """
    codes = codes_of(pc.fill_null(column.cast(pa.string()), "null"), known)
    if len(known) > MOST_VALUES:
        raise ColumnError(f"--slices {name}: it has over {MOST_VALUES} values, which are no slices")
    return codes


def is_ok(table: pa.Table) -> np.ndarray:
    """bool `[rows]`: rows that have a prediction or could have one."""
    ok: np.ndarray = pc.equal(table["status"].cast(pa.string()), OK).to_numpy()
    return ok


def hashes_of(column: Any, *, last: bool = False) -> np.ndarray:
    """uint64 `[rows]`: the first (or last) eight bytes of each hash; 0 where there is none."""
    whole = pc.fill_null(column.combine_chunks(), b"\0" * 16)
    data = np.frombuffer(whole.buffers()[1], np.uint64, 2 * (whole.offset + len(whole)))
    return data[2 * whole.offset + last :: 2].copy()


def _check_sample(sample: Challenger, job: Job, store: Store) -> None:
    """Check that B is a challenger of the job of A. Raises ConfigError if it is not."""
    if sample.job != job.id:
        raise ConfigError(
            f"B is a challenger on rows of job {sample.job} in {sample.output}, and {store.uri} "
            f"holds job {job.id}"
        )


def _drawn_rows(table: pa.Table, share: float) -> pa.Table:
    """The rows that a challenger got: see `schemas.records.text_hash.share_limit`."""
    limit = share_limit(share)
    has_hash = table["text_hash"].is_valid().to_numpy()
    if limit < 1 << 64:
        has_hash &= hashes_of(table["text_hash"], last=True) < np.uint64(limit)
    return table.filter(pa.array(has_hash))


def _read_parts(
    store: Store, job: Job, ours: Sequence[str], wanted: Sequence[str]
) -> Iterator[pa.Table]:
    """The parts in order, with the id first, then columns of ours and those that were carried.

    Raises:
        ColumnError: a carried column that the output does not have.
        ConfigError: a part is not there.
        InputUnreadable: a part cannot be read.
    """
    for chunk in range(job.chunks):
        name = output_layout.part(chunk)
        try:
            with store.open(name) as file, pq.ParquetFile(file) as part:
                names = part.schema_arrow.names
                missing = [column for column in wanted if column not in names]
                if missing:
                    raise ColumnError(
                        f"{store.uri} has no column {missing[0]}; carry it with --columns when the "
                        f"job is submitted. It has {', '.join(names)}"
                    )
                columns = list(dict.fromkeys([names[0], *ours, *wanted]))
                yield part.read(columns=columns).select(columns)
        except FileNotFoundError as error:
            raise ConfigError(f"{store.uri} has no {name}: its job has not finished") from error
        except (OSError, pa.ArrowException) as error:
            raise InputUnreadable(f"{store.uri}/{name}: {error}") from error


def _side_by_side(
    a: Iterator[pa.Table], b: Iterator[pa.Table]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The same rows of both, however each was cut into parts.

    Raises:
        ConfigError: the outputs are not of the same rows.
    """
    a, b = (iter(t for t in side if t.num_rows) for side in (a, b))
    one, two = next(a, None), next(b, None)
    row = 0
    while one is not None and two is not None:
        size = min(one.num_rows, two.num_rows)
        left, right = one.slice(0, size), two.slice(0, size)
        ids = [pa.array(texts_of(t.column(0)), pa.string()) for t in (left, right)]
        if not ids[0].equals(ids[1]):
            at = next(
                i
                for i, (x, y) in enumerate(zip(*map(pa.Array.to_pylist, ids), strict=True))
                if x != y
            )
            raise ConfigError(
                f"the outputs are not of the same rows: row {row + at} is {ids[0][at]} in A and "
                f"{ids[1][at]} in B"
            )
        yield left, right
        row += size
        one = one.slice(size) if size < one.num_rows else next(a, None)
        two = two.slice(size) if size < two.num_rows else next(b, None)
    if one is not None or two is not None:
        raise ConfigError(f"the outputs are not of the same rows: one of them ends at row {row}")
