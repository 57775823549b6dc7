"""Inputs from Python: addresses as they are, tables in memory as a Parquet file beside the results.

A job reads its input from a store, since its workers are other processes, perhaps on other hosts.
The file is named after its content, so the same table is the same job.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from headrace.storage.store import Store
from schemas.errors import ConfigError
from schemas.names import output_layout

GROUP_ROWS = 20_000
"""Rows per row group. Chosen: a chunk is made of whole or half groups of this size."""


class ArrowStream(Protocol):
    """A table of another library that gives Arrow data: pandas, polars, DuckDB and others.

    Source: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Address = str | os.PathLike[str]
Input = Address | Sequence[Address] | ArrowStream | Any
"""A path, a glob, an address or several; or a table, data set or frame."""


def is_table(given: Input) -> bool:
    """Whether the input is data in memory and no address."""
    import pyarrow.dataset as ds

    is_stream = hasattr(given, "__arrow_c_stream__")
    return is_stream or isinstance(given, ds.Dataset) or hasattr(given, "collect_schema")


def addresses_of(given: Input) -> list[str]:
    """The addresses of an input that is no table.

    Raises:
        ConfigError: it is neither an address nor several.
    """
    found = [given] if isinstance(given, str | os.PathLike) else given
    if not isinstance(found, Iterable) or isinstance(found, bytes):
        raise ConfigError(f"an input is an address or a table, and this is {_kind(given)}")
    wrong = [one for one in found if not isinstance(one, str | os.PathLike)]
    if wrong:
        raise ConfigError(f"an input is an address or a table, and this is {_kind(wrong[0])}")
    return [os.fspath(one) for one in found]


def store_table(given: Input, store: Store) -> str:
    """The address of a Parquet file in the output with the rows of the table, in their order.

    A file of the same content that is there already is taken. Rows are streamed.

    Raises:
        ConfigError: the table cannot be read or written as Parquet.
    """
    scratch = store.scratch()
    try:
        path = scratch / "input.parquet"
        _write(given, path)
        name = output_layout.table(_digest(path))
        store.create_from_file(name, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return f"{store.uri}/{name}"


def _write(given: Input, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _reader(given) as reader:
            schema = _plain_strings(reader.schema)
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for batch in _groups(reader, schema):
                    writer.write_table(batch, row_group_size=GROUP_ROWS)
    except (pa.ArrowException, TypeError) as error:
        raise ConfigError(f"{_kind(given)} cannot be stored as an input: {error}") from error


def _reader(given: Any) -> Any:
    """A `pyarrow.RecordBatchReader` over the rows."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    if isinstance(given, ds.Dataset):
        return given.scanner().to_reader()
    if hasattr(given, "collect_schema") and hasattr(given, "collect"):  # a lazy frame of polars
        given = given.collect()
    return pa.RecordBatchReader.from_stream(given)


def _groups(reader: Any, schema: Any) -> Iterator[Any]:
    """The rows in tables of `GROUP_ROWS`, so that the file does not depend on the given batches."""
    import pyarrow as pa

    kept: list[Any] = []
    rows = 0
    for batch in reader:
        kept.append(batch.cast(schema) if batch.schema != schema else batch)
        rows += batch.num_rows
        if rows >= GROUP_ROWS:
            table = pa.Table.from_batches(kept, schema).combine_chunks()
            whole = rows - rows % GROUP_ROWS
            yield table.slice(0, whole)
            kept, rows = table.slice(whole).to_batches(), rows - whole
    yield pa.Table.from_batches(kept, schema).combine_chunks()


def _plain_strings(schema: Any) -> Any:
    """The schema with views as plain strings, which every reader of Parquet knows; no metadata.

    pandas keeps its index's kind in the metadata, by which equal tables would differ.
    """
    import pyarrow as pa

    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    fields = [pa.field(f.name, plain.get(f.type, f.type), f.nullable) for f in schema]
    return pa.schema(fields)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _kind(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
