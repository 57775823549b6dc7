"""Finds the first difference between the rows of a part and of its input. Works on streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.formats.opener import PieceRows
from headrace.formats.text_column import as_bytes, plain_column
from producers.planning.columns import ROW_NUMBER
from schemas.records import part_schema
from schemas.records.job import Spec
from schemas.records.text_hash import text_hash

WINDOW_ROWS = 8_192  # chosen: as the worker reads; a few MB at a time


class Rows:
    """Batches that are taken from by rows."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self._rest: Any | None = None
        self._at = 0

    def take(self, rows: int) -> Any | None:
        """The next rows, at most so many; None at the end."""
        while self._rest is None or not self._rest.num_rows:
            self._rest = next(self._batches, None)
            if self._rest is None:
                return None
        taken = self._rest.slice(0, rows)
        self._rest = self._rest.slice(taken.num_rows)
        self._at += taken.num_rows
        return taken

    def pass_over(self, until: int | None = None) -> None:
        """Take the rows before row `until`, or all."""
        while until is None or self._at < until:
            if self.take(WINDOW_ROWS if until is None else until - self._at) is None:
                return


WORDS = {
    "row_order": "its ids are not those of the input's rows, in order",
    "carried": "a carried column is not the input's",
    "text": "text_hash is not that of the input's text",
    "status": "a row without a valid text is not an error row",
}


def differences(mine: Any, theirs: PieceRows, spec: Spec) -> Iterator[tuple[str, int]]:
    """Kind and first row (within the slice) of each kind of difference."""
    import pyarrow as pa

    piece, first, source = theirs
    if spec.id_column:
        expected = plain_column(source, spec.id_column)
    else:
        expected = pa.array(range(first, first + mine.num_rows), pa.int64())
    yield from _kind("row_order", expected, plain_column(mine, spec.id_column or ROW_NUMBER))
    partitions = dict(piece.file.partitions)
    for name in spec.columns:
        value = (
            pa.repeat(pa.scalar(partitions[name], pa.string()), mine.num_rows)
            if name in partitions
            else plain_column(source, name)
        )
        yield from _kind("carried", value, plain_column(mine, name))
    hashes = expected_hashes(source, spec.text_source, spec.pair_source)
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
        if a != b and not _are_equal(a, b):
            return row
    return None


def _are_equal(a: Any, b: Any) -> bool:
    """Whether two values are the same, NaN inside lists, structs and maps included."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_are_equal(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_are_equal, a, b))
    return bool(a == b or (a != a and b != b))


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
