"""Arrow types of JSON values: found by looking at all of them, and widened where they differ.

null < bool                 {} and values of two kinds → JSON text, so that nothing is lost
null < int64 < double       integers past 2^53 among doubles, or past int64 → JSON text
null < string               list → list of the widened items
                            object → struct of all keys seen
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_FIELDS = 200  # chosen: an object with more keys is really a map, and is kept as JSON text
MAX_NESTING = 16  # chosen: what is nested deeper is kept as JSON text
EXACT = 1 << 53
"""Integers up to here are doubles without loss."""
INT64 = 1 << 63

FITS_DOUBLE = {b"headrace.fits_double": b"1"}
"""Metadata of an int64 field whose values all fit a double without loss."""


@dataclass(slots=True)
class Kind:
    """The kinds of values that were seen at one place in the documents."""

    seen: set[str] = field(default_factory=set)
    """`bool`, `int`, `wide`, `huge`, `float`, `str`, `list`, `object`; `deep`: nested too far."""
    items: Kind | None = None
    fields: dict[str, Kind] = field(default_factory=dict)
    depth: int = 0

    def see(self, values: Iterable[Any]) -> None:
        """Widen the kind so that it holds these values."""
        by_type: dict[type, list[Any]] = {}
        for value in values:
            by_type.setdefault(type(value), []).append(value)
        for kind, found in by_type.items():
            if kind is int:
                self._see_integers(min(found), max(found))
            elif kind in (list, dict) and self.depth >= MAX_NESTING:
                self.seen.add("deep")
            elif kind is list:
                self.seen.add("list")
                self.items = self.items or Kind(depth=self.depth + 1)
                self.items.see(item for value in found for item in value)
            elif kind is dict:
                self._see_objects(found)
            elif kind is not type(None):
                self.seen.add(kind.__name__)

    def _see_integers(self, low: int, high: int) -> None:
        if not -INT64 <= low <= high < INT64:
            self.seen.add("huge")
        else:
            self.seen.add("int" if -EXACT <= low <= high <= EXACT else "wide")

    def _see_objects(self, found: list[dict[str, Any]]) -> None:
        self.seen.add("object")
        columns: dict[str, list[Any]] = {}
        for value in found:
            for name, inner in value.items():
                columns.setdefault(name, []).append(inner)
        for name, inner in columns.items():
            if len(self.fields) <= MAX_FIELDS:
                self.fields.setdefault(name, Kind(depth=self.depth + 1)).see(inner)

    def to_field(self, name: str) -> Any:
        """The Arrow field; null type where no value was seen."""
        import pyarrow as pa

        arrow = self.arrow()
        fits = arrow == pa.int64() and "wide" not in self.seen
        return pa.field(name, arrow, metadata=FITS_DOUBLE if fits else None)

    def arrow(self) -> Any:
        import pyarrow as pa

        numbers = self.seen & {"int", "wide", "huge", "float"}
        if len(self.seen - numbers) + bool(numbers) > 1 or self.seen & {"huge", "deep"}:
            return as_json()
        if not self.seen:
            return pa.null()
        if numbers:
            if "float" not in numbers:
                return pa.int64()
            return as_json() if "wide" in numbers else pa.float64()
        if "list" in self.seen:
            return pa.list_((self.items or Kind()).to_field("item"))
        if "object" in self.seen:
            if not 0 < len(self.fields) <= MAX_FIELDS:
                return as_json()
            return pa.struct([kind.to_field(name) for name, kind in self.fields.items()])
        return pa.bool_() if "bool" in self.seen else pa.string()


def as_json() -> Any:
    """The type of JSON text."""
    import pyarrow as pa

    return pa.json_(pa.string())


def is_json(arrow_type: Any) -> bool:
    import pyarrow as pa

    return isinstance(arrow_type, pa.JsonType)


def to_type(value: Any, arrow_type: Any) -> Any:
    """The value, with each part that the type keeps as JSON text serialized.

    Raises:
        ValueError: NaN or an infinity in such a part: Python reads and writes them, JSON has none.
    """
    import pyarrow as pa

    if value is None:
        return None
    if is_json(arrow_type):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if pa.types.is_list(arrow_type) and isinstance(value, list):
        return [to_type(item, arrow_type.value_type) for item in value]
    if pa.types.is_struct(arrow_type) and isinstance(value, dict):
        return {
            f.name: to_type(value.get(f.name), f.type)
            for f in (arrow_type.field(i) for i in range(arrow_type.num_fields))
        }
    return value


def any_infinity(array: Any) -> bool:
    """Whether an infinity is anywhere in an Arrow array, in lists and structs too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(array.type):
        return bool(pc.any(pc.is_inf(array)).as_py())
    if pa.types.is_list(array.type):
        return any_infinity(array.flatten())
    return pa.types.is_struct(array.type) and any(map(any_infinity, array.flatten()))


def holds_infinity(value: Any) -> bool:
    """The same, of a value."""
    if isinstance(value, list | dict):
        return any(map(holds_infinity, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and math.isinf(value)


def storage_of(arrow_type: Any) -> Any:
    """The type with string instead of JSON text, as it is stored."""
    import pyarrow as pa

    if is_json(arrow_type):
        return pa.string()
    if pa.types.is_list(arrow_type):
        return pa.list_(arrow_type.value_field.with_type(storage_of(arrow_type.value_type)))
    if pa.types.is_struct(arrow_type):
        fields = (arrow_type.field(i) for i in range(arrow_type.num_fields))
        return pa.struct([f.with_type(storage_of(f.type)) for f in fields])
    return arrow_type


def settled(arrow_type: Any) -> Any:
    """The type with string where no value was seen, since many readers do not support the null type."""
    import pyarrow as pa

    if pa.types.is_null(arrow_type):
        return pa.string()
    if pa.types.is_list(arrow_type):
        return pa.list_(arrow_type.value_field.with_type(settled(arrow_type.value_type)))
    if pa.types.is_struct(arrow_type):
        fields = (arrow_type.field(i) for i in range(arrow_type.num_fields))
        return pa.struct([f.with_type(settled(f.type)) for f in fields])
    return arrow_type
