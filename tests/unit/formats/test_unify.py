"""Types that differ between files become one where no value changes, and are refused elsewhere."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from headrace.formats.json_types import FITS_DOUBLE, as_json
from headrace.formats.text_column import conform
from headrace.formats.unify import unify

S, L, V, B = pa.string(), pa.large_string(), pa.string_view(), pa.binary()
D, DL = pa.dictionary(pa.int32(), S), pa.dictionary(pa.int8(), L)
I, F = pa.int64(), pa.float64()  # noqa: E741


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        (S, S, S), (S, L, L), (V, S, S), (V, L, L), (D, S, S), (D, DL, L), (D, D, D),
        (pa.null(), I, I), (pa.null(), pa.null(), pa.null()), (pa.null(), D, D),
        (B, pa.large_binary(), pa.large_binary()), (B, S, None), (I, pa.int32(), None),
        (I, S, None), (I, F, None),
        (pa.list_(S), pa.large_list(L), pa.large_list(L)),
        (pa.list_(I), pa.list_(F), None),
        (pa.struct([("a", S)]), pa.struct([("a", L)]), pa.struct([("a", L)])),
        (pa.struct([("a", S)]), pa.struct([("b", S)]), None),
        (pa.dictionary(pa.int8(), I), I, I),
    ],
)  # fmt: skip
def test_types_of_parquet(a: Any, b: Any, both: Any) -> None:
    for x, y in ((a, b), (b, a)):
        found = unify(pa.field("c", x), pa.field("c", y))
        assert (found.type if found else None) == both


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        (I, S, as_json()), (I, F, F), (pa.bool_(), I, as_json()),
        (pa.struct([("a", S)]), pa.struct([("b", I)]), pa.struct([("a", S), ("b", I)])),
        (pa.list_(pa.field("item", I, metadata=FITS_DOUBLE)), pa.list_(F), pa.list_(F)),
        (pa.list_(pa.null()), pa.list_(S), pa.list_(S)),
        (as_json(), S, as_json()),
    ],
)  # fmt: skip
def test_types_of_json_lines(a: Any, b: Any, both: Any) -> None:
    x, y = (pa.field("c", t, metadata=FITS_DOUBLE if t == I else None) for t in (a, b))
    found = unify(x, y, is_loose=True)
    assert found is not None
    assert found.type == both or str(found.type) == str(both)


def test_integers_past_a_doubles_reach_stay_exact() -> None:
    found = unify(pa.field("c", I), pa.field("c", F), is_loose=True)
    assert found is not None
    assert found.type == as_json()


@pytest.mark.parametrize("a", [S, L, V, D, DL, pa.null()], ids=str)
@pytest.mark.parametrize("b", [S, L, V, D, DL], ids=str)
def test_what_is_unified_can_be_cast(a: Any, b: Any) -> None:
    found = unify(pa.field("c", a), pa.field("c", b))
    assert found is not None
    is_null = a == pa.null()
    column = pa.nulls(3) if is_null else pa.array(["x", None, "é"], S).cast(a)
    assert conform(column, found.type).to_pylist() == column.to_pylist()
