"""Searches an id column of any type for an id that is given as text."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.formats.text_column import plain
from schemas.errors import ColumnError

_LENGTH = re.compile(r"^(?:(-?\d+) days?,? ?)?(?:(\d+):(\d+):(\d+(?:\.\d+)?))?$")
"""As Python writes a duration: `1 day, 2:03:04.5`."""


@dataclass(frozen=True, slots=True)
class IdSearch:
    """The values that an id may mean; a binary one is hexadecimal, or text."""

    values: pa.Array
    """Under the column's plain type: no dictionary, no extension."""

    @classmethod
    def of(cls, row_id: str, field: pa.Field) -> IdSearch:
        """The search for this id in a column.

        Raises:
            ColumnError: the id is not of the column's type.
        """
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        is_uuid = isinstance(kind, pa.UuidType)
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        found = [*_values(row_id, kind, is_uuid)]
        if not found:
            raise ColumnError(f"the id column {field.name} is {field.type}, and {row_id} is none")
        return cls(pa.array(found, kind))

    def among(self, ids: pa.Array) -> pa.Array:
        """Bool `[rows]`: which ids match."""
        ids, values = plain(ids), self.values
        if pa.types.is_float16(ids.type):  # pyarrow 26 compares no halves
            ids, values = ids.cast(pa.float32()), values.cast(pa.float32())
        if pa.types.is_duration(ids.type) or pa.types.is_time(ids.type):
            whole = pa.int32() if ids.type.bit_width == 32 else pa.int64()
            ids, values = ids.view(whole), values.view(whole)
        found = [pc.equal(ids, value) for value in values]
        return found[0] if len(found) == 1 else pc.or_(*found)

    def may_be_in(self, column: Any) -> bool:
        """Whether a row group may contain the id, by the statistics of its id column."""
        statistics = column.statistics
        if statistics is None or not statistics.has_min_max:
            return True
        try:
            values = self.values.to_pylist()
            return any(statistics.min <= value <= statistics.max for value in values)
        except TypeError:  # a type whose statistics pyarrow gives in another form
            return True


def _values(row_id: str, kind: pa.DataType, is_uuid: bool) -> Iterator[Any]:
    """The values that the id may mean in a column of this type."""
    try:
        if is_uuid:
            yield uuid.UUID(row_id).bytes
        elif pa.types.is_time(kind):
            yield dt.time.fromisoformat(row_id)
        elif pa.types.is_duration(kind):
            yield _duration(row_id)
        elif pa.types.is_float16(kind):
            yield np.float16(row_id)  # pyarrow up to 20 takes no other
        elif _is_binary(kind):
            yield from _bytes(row_id, kind)
        else:
            yield pa.scalar(row_id).cast(kind)
    except (pa.ArrowException, ValueError):
        return


def _is_binary(kind: pa.DataType) -> bool:
    return kind in (pa.binary(), pa.large_binary(), pa.binary_view()) or bool(
        pa.types.is_fixed_size_binary(kind)
    )


def _bytes(row_id: str, kind: pa.DataType) -> Iterator[bytes]:
    width = kind.byte_width if pa.types.is_fixed_size_binary(kind) else None
    found = [row_id.encode()]
    try:
        found.insert(0, bytes.fromhex(row_id))
    except ValueError:
        pass  # it is no hexadecimal, so it is text
    yield from (value for value in dict.fromkeys(found) if width in (None, len(value)))


def _duration(row_id: str) -> dt.timedelta:
    """Seconds, or as Python writes it."""
    found = _LENGTH.match(row_id)
    if found is None or not row_id:
        return dt.timedelta(seconds=float(row_id))
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return dt.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
