"""A text column as bytes, row by row, whatever Arrow type holds it."""

from __future__ import annotations

from typing import Any


def as_bytes(column: Any) -> list[bytes | None]:
    """A text column's values as they lie in the file, valid UTF-8 or not."""
    import pyarrow as pa

    if column.type == pa.string_view():
        column = column.cast(pa.binary_view())
    elif column.type in (pa.string(), pa.large_string()):
        column = column.cast(pa.large_binary())
    values: list[bytes | None] = column.to_pylist()
    return values


def plain_column(batch: Any, name: str) -> Any:
    import pyarrow as pa

    column = batch.column(batch.schema.get_field_index(name))
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
