"""Finds the first difference between the rows of a part and of its input. Works on streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.formats.text_column import as_bytes, plain_column
from producers.planning.columns import ROW_NUMBER
from schemas.records import part_schema
from schemas.records.chunk import Chunk
from schemas.records.job import Job
from schemas.records.text_hash import text_hash

WINDOW_ROWS = 8_192  # chosen: as the worker reads; a few MB at a time


def align(a: Iterator[Any], b: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    """Slices of both of the same length, until one of them ends."""
    left, right = next(a, None), next(b, None)
    while left is not None and right is not None:
        rows = min(left.num_rows, right.num_rows)
        if rows:
            yield left.slice(0, rows), right.slice(0, rows)
        left = left.slice(rows) if left.num_rows > rows else next(a, None)
        right = right.slice(rows) if right.num_rows > rows else next(b, None)


WORDS = {
    "row_order": "its ids are not those of the input's rows, in order",
    "carried": "a carried column is not the input's",
    "text": "text_hash is not that of the input's text",
    "status": "a row without a valid text is not an error row",
}


def differences(
    mine: Any, source: Any, job: Job, chunk: Chunk, at: int
) -> Iterator[tuple[str, int]]:
    """Kind and first row (within the slice) of each kind of difference."""
    import pyarrow as pa

    spec = job.spec
    if spec.id_column:
        expected = plain_column(source, spec.id_column)
    else:
        first = chunk.first_row + at
        expected = pa.array(range(first, first + mine.num_rows), pa.int64())
    yield from _kind("row_order", expected, plain_column(mine, spec.id_column or ROW_NUMBER))
    partitions = dict(chunk.file.partitions)
    for name in spec.columns:
        value = (
            pa.repeat(pa.scalar(partitions[name], pa.string()), mine.num_rows)
            if name in partitions
            else plain_column(source, name)
        )
        yield from _kind("carried", value, plain_column(mine, name))
    hashes = expected_hashes(source, spec.text_source, spec.text_pair_column)
    status = plain_column(mine, "status").to_pylist()
    found = plain_column(mine, "text_hash").to_pylist()
    if found != hashes:
        yield "text", next(i for i, (a, b) in enumerate(zip(found, hashes, strict=True)) if a != b)
    for row, digest in enumerate(hashes):
        if digest is None and status[row] != part_schema.ERROR:
            yield "status", row
            return


def _kind(kind: str, expected: Any, found: Any) -> Iterator[tuple[str, int]]:
    row = first_difference(expected, found)
    if row is not None:
        yield kind, row


def first_difference(expected: Any, found: Any) -> int | None:
    """The first row where two columns of one length differ; NaN equals NaN, null equals null."""
    if expected.type == found.type and expected.equals(found):
        return None
    for row, (a, b) in enumerate(zip(expected.to_pylist(), found.to_pylist(), strict=True)):
        if a != b and not (a != a and b != b):
            return row
    return None


def expected_hashes(source: Any, text: str, pair: str | None) -> list[bytes | None]:
    """The hash that each row must have; None where the text is null or not UTF-8."""
    texts = as_bytes(plain_column(source, text))
    if pair is None:
        return [None if _unfit(t) else text_hash(t) for t in texts]  # type: ignore[arg-type]
    pairs = as_bytes(plain_column(source, pair))
    return [
        None if _unfit(a) or _unfit(b) else text_hash(a, b)  # type: ignore[arg-type]
        for a, b in zip(texts, pairs, strict=True)
    ]


def _unfit(value: bytes | None) -> bool:
    if value is None:
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return False
