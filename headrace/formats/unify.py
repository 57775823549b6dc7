"""One type for a column that has different types in different files, if it changes no value.

    string, large_string, string_view, a dictionary of them   string (large_string if one is)
    binary, large_binary, binary_view                          as string
    a dictionary of T, T                                       T
    null, T                                                    T
    list, struct                                               the same, inside

JSON Lines have no types of their own, so those found in one file may be widened by another's:
int64 to double where every value stays exact, objects to all their keys, what remains to JSON text.
"""

from __future__ import annotations

from typing import Any

from headrace.formats.json_types import FITS_DOUBLE, as_json


def unify(a: Any, b: Any, is_loose: bool = False) -> Any | None:
    """The field (`pyarrow.Field`) that holds the values of both; None if there is no such type.

    `is_loose`: both are of JSON Lines.
    """
    import pyarrow as pa

    found = _types(a, b, is_loose)
    if found is None:
        return a.with_type(as_json()).remove_metadata() if is_loose else None
    fits = found == pa.int64() and _fits_double(a) and _fits_double(b)
    field = pa.field(a.name, found, a.nullable or b.nullable)
    return field.with_metadata(FITS_DOUBLE) if fits else field


def _types(a: Any, b: Any, is_loose: bool) -> Any | None:
    import pyarrow as pa

    x, y = a.type, b.type
    if x == y and not (is_loose and pa.types.is_nested(x)):
        return x
    if pa.types.is_null(x) or pa.types.is_null(y):
        return y if pa.types.is_null(x) else x
    if pa.types.is_dictionary(x) or pa.types.is_dictionary(y):
        return _types(a.with_type(_decoded(x)), b.with_type(_decoded(y)), is_loose)
    for small, large, view in (
        (pa.string(), pa.large_string(), pa.string_view()),
        (pa.binary(), pa.large_binary(), pa.binary_view()),
    ):
        if {x, y} <= {small, large, view}:
            return large if large in (x, y) else small
    if pa.types.is_struct(x) and pa.types.is_struct(y):
        return _structs(x, y, is_loose)
    if _is_list(x) and _is_list(y):
        item = unify(x.value_field, y.value_field, is_loose)
        kind = pa.large_list if pa.types.is_large_list(x) or pa.types.is_large_list(y) else pa.list_
        return None if item is None else kind(item)
    if is_loose and {x, y} == {pa.int64(), pa.float64()}:
        return pa.float64() if _fits_double(a if x == pa.int64() else b) else None
    return None


def _structs(x: Any, y: Any, is_loose: bool) -> Any | None:
    import pyarrow as pa

    names, others = ([t.field(i).name for i in range(t.num_fields)] for t in (x, y))
    if names != others and not is_loose:
        return None
    fields = []
    for name in dict.fromkeys([*names, *others]):
        if name in names and name in others:
            fields.append(unify(x.field(name), y.field(name), is_loose))
        else:
            fields.append((x if name in names else y).field(name))
    return None if any(field is None for field in fields) else pa.struct(fields)


def _decoded(kind: Any) -> Any:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _fits_double(field: Any) -> bool:
    return bool(field.metadata and FITS_DOUBLE.keys() <= field.metadata.keys())
