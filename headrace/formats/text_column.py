"""Columns of a batch by name or path, and a text column as bytes, whatever Arrow type holds it."""

from __future__ import annotations

import json
from typing import Any

MARK = {b"headrace.text": b"1"}
"""Metadata of a field that is read as text, in the types of a plan."""


def is_marked_text(field: Any) -> bool:
    """Whether the plan reads this column as text."""
    return bool(field.metadata and MARK.keys() <= field.metadata.keys())


def as_bytes(column: Any) -> list[bytes | None]:
    """A text column's values as they are in the file, valid UTF-8 or not; lists of texts as JSON."""
    import pyarrow as pa

    column = plain(column)
    if is_texts(column.type):
        return [_as_json(value) for value in column]
    if column.type == pa.string_view():
        column = column.cast(pa.binary_view())
    elif column.type in (pa.string(), pa.large_string()):
        column = column.cast(pa.large_binary())
    elif pa.types.is_null(column.type):
        return [None] * len(column)
    values: list[bytes | None] = column.to_pylist()
    return values


def is_texts(arrow_type: Any) -> bool:
    """Whether the type is a list of strings."""
    import pyarrow as pa

    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_list(arrow_type) for is_list in lists):
        return False
    inner = arrow_type.value_type
    inner = inner.value_type if pa.types.is_dictionary(inner) else inner
    return inner in (pa.string(), pa.large_string(), pa.string_view())


def _as_json(value: Any) -> bytes | None:
    """A list of texts as a JSON array; an invalid UTF-8 byte if one of the texts is invalid."""
    try:
        found = value.as_py()
    except UnicodeDecodeError:
        return b"\xff"
    return None if found is None else json.dumps(found, ensure_ascii=False).encode()


def plain_column(batch: Any, name: str) -> Any:
    """The column of that name, without its dictionary or extension type."""
    return plain(batch.column(batch.schema.get_field_index(name)))


def plain(column: Any) -> Any:
    """The column, without its dictionary or extension type."""
    import pyarrow as pa

    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage if isinstance(column, pa.Array) else column.cast(
            column.type.storage_type
        )  # fmt: skip
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def field_at(schema: Any, path: str) -> Any | None:
    """The field of that name; or of that path, `a.b` being field `b` of the struct `a`."""
    import pyarrow as pa

    at = schema.get_field_index(path)
    if at >= 0:
        return schema.field(at)
    first, *rest = path.split(".")
    at = schema.get_field_index(first)
    field = schema.field(at) if at >= 0 else None
    for name in rest:
        if field is None or not pa.types.is_struct(field.type):
            return None
        at = field.type.get_field_index(name)
        field = field.type.field(at) if at >= 0 else None
    return field


def column_at(batch: Any, path: str) -> Any:
    """The column of that name or path; null where a struct on the path is null.

    Raises:
        ValueError: there is none.
    """
    import pyarrow.compute as pc

    at = batch.schema.get_field_index(path)
    if at >= 0:
        return batch.column(at)
    if field_at(batch.schema, path) is None:
        raise ValueError(f"no column {path!r}")
    first, *rest = path.split(".")
    column = batch.column(batch.schema.get_field_index(first))
    for name in rest:
        column = pc.struct_field(column, name)
    return column


def conform(column: Any, wanted: Any) -> Any:
    """The column cast to another type that holds the same values: see `unify`."""
    import pyarrow as pa

    if column.type == wanted:
        return column
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), wanted)
    if not pa.types.is_dictionary(wanted):
        column = plain(column)
    if isinstance(wanted, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(wanted, column.cast(wanted.storage_type))
    return column if column.type == wanted else column.cast(wanted)
