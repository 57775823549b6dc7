"""`_headrace/plan.chunks`, a Parquet file: every chunk of a job, written as a stream and read as columns.

A row of it is a piece: rows of one file. Rows of one number, one after another, are one chunk.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from headrace.formats.catalog import FORMATS
from headrace.formats.input_identity import files_digest
from headrace.storage.store import Store
from schemas.errors import OutputConflict
from schemas.names import output_layout
from schemas.records.chunk import Chunk, InputFile, Piece

BATCH_CHUNKS = 65_536  # chosen: some 10 MB while it is written, one row group when it is read
MAX_CHUNKS = (
    1 << 24
)  # chosen: 16 times the largest plan that is supported; a larger one is an attack
MAX_PLAN_BYTES = 2 << 30  # the same plan, decompressed
MAX_ROWS = 1 << 36  # rows of one chunk: far past any file, and sums stay inside int64
_SAME_NAMES = ("start", "stop", "skip", "first_row", "rows", "bytes")
"""Columns that are attributes of a piece."""
_NUMBERS = ("chunk", "size", *_SAME_NAMES, "job_row")
_NAMES = ("file", "etag", "partitions", "format")


@dataclass(frozen=True, slots=True)
class PlanTotals:
    """Totals of a plan."""

    chunks: int
    rows: int
    bytes: int


def write_plan(
    path: Path,
    chunks: Iterable[Chunk],
    types: Any = None,
    contents: Mapping[str, str] | None = None,
) -> PlanTotals:
    """Write the chunks to a new file, in constant memory; returns their totals.

    `types` is the `pyarrow.Schema` of the columns read, where the files do not say it. `contents`
    has the sha256 of the bytes of files, by URI.

    When `chunks` raises, a file may stay behind that reads well and is short: only a path that
    came back from here may be given the plan's name.
    """
    import pyarrow.parquet as pq

    from schemas.records.part_schema import META_CONTENTS, META_TYPES, PLAN

    facts = {} if types is None else {META_TYPES: b64encode(types.serialize().to_pybytes())}
    if contents:
        facts[META_CONTENTS] = json.dumps(contents).encode()
    count = rows = size = 0
    with pq.ParquetWriter(
        path,
        PLAN.with_metadata(facts),
        compression="zstd",
        write_page_checksum=True,
        dictionary_pagesize_limit=16 << 20,
    ) as writer:
        source = iter(chunks)
        while batch := list(islice(source, BATCH_CHUNKS)):
            writer.write_batch(_record_batch(batch))
            count += len(batch)
            rows += sum(c.rows for c in batch)
            size += sum(c.bytes for c in batch)
    return PlanTotals(count, rows, size)


def _record_batch(chunks: list[Chunk]) -> Any:
    import pyarrow as pa

    from schemas.records.part_schema import PLAN

    pieces = [piece for chunk in chunks for piece in chunk.pieces]
    columns: dict[str, list[Any]] = {
        "chunk": [c.number for c in chunks for _ in c.pieces],
        "file": [p.file.uri for p in pieces],
        "size": [p.file.size for p in pieces],
        "etag": [p.file.etag for p in pieces],
        "partitions": list(_partition_texts(pieces)),
        "format": [p.file.format for p in pieces],
        "job_row": [row for c in chunks for row in _job_rows(c)],
        **{name: [getattr(p, name) for p in pieces] for name in _SAME_NAMES},
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(columns[f.name], f.type) for f in PLAN], schema=PLAN
    )


def _job_rows(chunk: Chunk) -> Iterator[int]:
    row = chunk.job_row
    for piece in chunk.pieces:
        yield row
        row += piece.rows


def _partition_texts(pieces: list[Piece]) -> Iterator[str]:
    known: tuple[tuple[str, str | None], ...] = ()
    text = "{}"
    for piece in pieces:
        if piece.file.partitions != known:
            known = piece.file.partitions
            text = json.dumps(dict(known), ensure_ascii=False)
        yield text


class PlanTable:
    """A stored plan, checked. Each column of numbers is an int64 array `[pieces]`."""

    def __init__(
        self,
        numbers: dict[str, np.ndarray],
        files: list[InputFile],
        file_of: np.ndarray,
        types: Any = None,
    ) -> None:
        self._numbers = numbers
        self._file_of = file_of
        self.files = files
        """The files that have planned rows, in order."""
        self.types = types
        """`pyarrow.Schema` of the columns read; None where the files say it."""
        is_first = np.diff(numbers["chunk"], prepend=-1) != 0
        self._first = np.flatnonzero(is_first)
        self._stop = np.append(self._first[1:], len(is_first))
        self.rows: np.ndarray = _by_chunk(numbers["rows"], self._first)
        """int64 `[chunks]`"""
        self.bytes: np.ndarray = _by_chunk(numbers["bytes"], self._first)
        """int64 `[chunks]`"""

    @classmethod
    def load(cls, store: Store) -> PlanTable:
        """The plan in an output.

        Raises:
            OutputConflict: there is none, or it was changed by hand.
        """
        data = store.read(output_layout.PLAN) or store.read(output_layout.OLD_PLAN)
        if data is None:
            raise OutputConflict(f"{store.uri} has no {output_layout.PLAN}; submit the job again")
        return cls.from_bytes(data, f"{store.uri}/{output_layout.PLAN}")

    @classmethod
    def from_bytes(cls, data: bytes, where: str = output_layout.PLAN) -> PlanTable:
        """The plan from the bytes of its file.

        Raises:
            OutputConflict: the bytes are no plan, or chunks, rows or files do not add up.
        """
        import pyarrow as pa

        try:
            return _checked(*_read_columns(data))
        except _Unfit as error:
            raise OutputConflict(f"{where} is damaged or was changed by hand: {error}") from error
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            raise OutputConflict(
                f"{where} cannot be read as a plan: {type(error).__name__}"
            ) from error

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total_rows(self) -> int:
        return int(self.rows.sum())

    def chunk(self, number: int) -> Chunk:
        """The chunk of that number; raises IndexError outside `0 … len - 1`."""
        if not 0 <= number < len(self):
            raise IndexError(f"chunk {number} of {len(self)}")
        places = range(int(self._first[number]), int(self._stop[number]))
        job_row = int(self._numbers["job_row"][places[0]])
        return Chunk(number, tuple(map(self._piece, places)), job_row)

    def _piece(self, at: int) -> Piece:
        return Piece(
            file=self.files[int(self._file_of[at])],
            **{name: int(self._numbers[name][at]) for name in _SAME_NAMES},
        )

    def __iter__(self) -> Iterator[Chunk]:
        return (self.chunk(number) for number in range(len(self)))

    def inputs_digest(self) -> str:
        """The digest over the plan's files, as in the job's spec."""
        return files_digest(self.files)


def _by_chunk(column: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The sum of each chunk's pieces; `first` has the place of the first of them."""
    if not len(first):
        return np.zeros(0, dtype=np.int64)
    sums: np.ndarray = np.add.reduceat(column, first)
    return sums


class _Unfit(Exception):
    """What is wrong with a plan, for the error message."""


def _read_columns(data: bytes) -> tuple[dict[str, np.ndarray], Any, dict[str, str]]:
    """The columns: numbers as int64, names as objects, each `[pieces]`; the types; the contents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from schemas.records.part_schema import (
        META_CONTENTS,
        META_TYPES,
        PLAN,
        PLAN_OF_ROW_GROUPS,
    )

    reader = pq.ParquetFile(
        pa.BufferReader(data),
        page_checksum_verification=True,
        thrift_string_size_limit=64 << 20,
        thrift_container_size_limit=1 << 20,
    )
    if reader.metadata.num_rows > MAX_CHUNKS:
        raise _Unfit(f"{reader.metadata.num_rows} pieces; the most is {MAX_CHUNKS}")
    is_old = reader.schema_arrow.equals(PLAN_OF_ROW_GROUPS)
    if not is_old and not reader.schema_arrow.equals(PLAN):
        raise _Unfit("its columns are not those of a plan")
    groups = (reader.metadata.row_group(g) for g in range(reader.metadata.num_row_groups))
    if sum(group.total_byte_size for group in groups) > MAX_PLAN_BYTES:
        raise _Unfit("it unpacks to more than a plan can be")
    # threads of pyarrow 26 can end a process that exits soon after (SIGABRT)
    table = reader.read(use_threads=False).unify_dictionaries()
    if any(column.null_count for column in table.columns):
        raise _Unfit("it has nulls")
    if is_old:
        table = _from_row_groups(table)
    numbers = {name: table.column(name).to_numpy().astype(np.int64) for name in _NUMBERS}
    names = {name: _name_column(table.column(name)) for name in _NAMES}
    facts = reader.metadata.metadata or {}
    types = facts.get(META_TYPES.encode())
    contents = _contents(facts.get(META_CONTENTS.encode(), b"{}"))
    return numbers | names, None if types is None else _types(types), contents


def _from_row_groups(table: Any) -> Any:
    """A plan of an earlier version, for Parquet only, with its columns under today's names."""
    import pyarrow as pa

    rows = table.num_rows
    formats = pa.array(["parquet"] * rows, pa.string()).dictionary_encode()
    table = table.rename_columns({"row_group_start": "start", "row_group_stop": "stop"})
    table = table.append_column("skip", pa.array(np.full(rows, -1)))
    return table.append_column("format", pa.chunked_array([formats]))


def _contents(text: bytes) -> dict[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise _Unfit("the hashes of its files are none")
    return found


def _types(text: bytes) -> Any:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.BufferReader(b64decode(text, validate=True)))


def _name_column(column: Any) -> np.ndarray:
    """Shared strings, one object for each distinct value."""
    if not column.num_chunks:
        return np.zeros(0, dtype=object)
    values = np.array(column.chunk(0).dictionary.to_pylist(), dtype=object)
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks])
    if len(codes) and (codes.min() < 0 or codes.max() >= len(values)):
        raise _Unfit("a name is missing")
    named: np.ndarray = values[codes]
    return named


def _checked(columns: dict[str, np.ndarray], types: Any, contents: dict[str, str]) -> PlanTable:
    numbers = {name: columns[name] for name in _NUMBERS}
    starts = _file_starts(columns)
    _check_numbers(numbers)
    _check_runs(numbers, starts)
    at = np.flatnonzero(starts)
    files = [
        InputFile(
            uri=columns["file"][i],
            size=int(numbers["size"][i]),
            etag=columns["etag"][i],
            partitions=_partitions(columns["partitions"][i]),
            format=columns["format"][i],
            content=contents.get(columns["file"][i]),
        )
        for i in at
    ]
    unknown = {file.format for file in files} - FORMATS.keys()
    if unknown:
        raise _Unfit(f"this version of headrace does not read {', '.join(sorted(unknown))}")
    if len({file.uri for file in files}) != len(files):
        raise _Unfit("a file is listed twice")
    return PlanTable(numbers, files, np.cumsum(starts) - 1, types)


def _file_starts(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Bool `[pieces]`: True for the first piece of a file."""
    starts = np.ones(len(columns["chunk"]), dtype=bool)
    if len(starts) > 1:
        names = ("file", "etag", "partitions", "format", "size")
        same = [columns[name][1:] == columns[name][:-1] for name in names]
        starts[1:] = ~np.logical_and.reduce(same).astype(bool)
    return starts


def _check_numbers(numbers: dict[str, np.ndarray]) -> None:
    rows = numbers["rows"]
    steps = np.diff(numbers["chunk"], prepend=-1)
    if len(steps) and (steps[0] != 1 or steps.min() < 0 or steps.max() > 1):
        raise _Unfit("its chunks are not numbered 0, 1, 2 …")
    if len(rows) and (rows.min() < 1 or rows.max() > MAX_ROWS):
        raise _Unfit("a chunk has no rows, or too many")
    if any(len(rows) and numbers[name].min() < 0 for name in ("size", "bytes", "start")):
        raise _Unfit("a number is negative")
    if not np.array_equal(numbers["job_row"], np.cumsum(rows) - rows):
        raise _Unfit("its rows do not add up")


def _check_runs(numbers: dict[str, np.ndarray], starts: np.ndarray) -> None:
    """Within a file each piece begins where the one before it ends."""
    first, rows = numbers["first_row"], numbers["rows"]
    low, high = numbers["start"], numbers["stop"]
    if np.any(first[starts] != 0) or np.any((first[1:] != (first + rows)[:-1])[~starts[1:]]):
        raise _Unfit("the rows of a file have a gap or an overlap")
    inside = ~starts[1:]
    # a unit that is split has several chunks; an empty one before the next chunk has none
    backwards = (low[1:] < low[:-1]) | (high[1:] < high[:-1])
    if np.any(high <= low) or np.any(backwards[inside]) or np.any(numbers["skip"] < -1):
        raise _Unfit("its units are out of order")


def _partitions(text: str) -> tuple[tuple[str, str | None], ...]:
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(v, str | None) for v in found.values()):
        raise _Unfit("its partitions are no names and values")
    return tuple(found.items())
