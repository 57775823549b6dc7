"""JSON Lines: every line once, whatever is in it, wherever reading starts."""

from __future__ import annotations

import gzip
import io
import json
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.formats import lines as lines_module
from headrace.formats.base import (
    FAULT,
    NOT_JSON,
    NOT_OBJECT,
    NOT_OF_TYPE,
    NOT_TEXT,
    NOT_UTF8,
    Request,
    Scan,
    Span,
)
from headrace.formats.jsonl import JsonLines, JsonRows
from headrace.formats.lines import BOM, gzip_blocks
from headrace.formats.text_column import MARK, as_bytes
from schemas.errors import InputUnreadable

TEXT = pa.field("text", pa.string(), metadata=MARK)


def scan(data: bytes, *typed: str, text: str = "text") -> Scan:
    return JsonLines().scan(io.BytesIO(data), len(data), Request("file", (text,), typed))


def rows_of(data: bytes, span: Span, columns: list[str], types: pa.Schema | None = None) -> Any:
    reader = JsonLines().open(io.BytesIO(data), len(data))
    return pa.Table.from_batches(list(reader.read(span, columns, types, batch_rows=3)))


def read_all(data: bytes, *fields: Any) -> pa.Table:
    found = scan(data, *(f.name if isinstance(f, pa.Field) else f for f in fields))
    rows = sum(u.rows for u in found.units)
    named = [found.schema.field(f) if isinstance(f, str) else f for f in fields]
    types = pa.schema([TEXT, *named])
    return rows_of(data, Span(0, len(data), 0, 0, rows), types.names, types)


# -- lines


line = st.one_of(
    st.text(max_size=20).map(lambda t: json.dumps({"text": t}).encode()),
    st.sampled_from([b"", b"  ", b"\r", b"{", b"[1]", b"\xff", b'{"text": 3}', b"null"]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(line, max_size=30),
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=6),
    st.sampled_from([1, 7, 64, 1 << 20]),
    st.booleans(),
    st.booleans(),
)
def test_units_hold_each_line_once_and_any_span_of_them_is_read(
    content: list[bytes], ends: bool, cuts: list[int], size: int, packed: bool, marked: bool
) -> None:
    plain = b'{"text": "first"}\n' + b"\n".join(content) + (b"\n" if ends else b"")
    edges = [0, *sorted(min(c, len(plain)) for c in cuts), len(plain)]
    members = [gzip.compress(plain[a:b]) for a, b in pairwise(edges)]
    data = b"".join(members) if packed else BOM * marked + plain
    expected = [x for x in plain.split(b"\n") if x.strip()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "READ_BYTES", size)
        patch.setattr(lines_module, "UNIT_BYTES", size)
        units = scan(data).units
        assert sum(u.rows for u in units) == len(expected)
        first = 0
        for unit in units:
            if unit.rows:
                span = Span.of_unit(unit, first)
                reader = JsonRows(io.BytesIO(data), len(data), packed)
                found = pa.Table.from_batches(list(reader.read(span, ["text"], None, 2)))
                assert found["text"].to_pylist() == [
                    _text(x) for x in expected[first:][: unit.rows]
                ]
            first += unit.rows


def _text(raw: bytes) -> str | None:
    try:
        value = json.loads(raw.decode())
    except ValueError:
        return None
    text = value.get("text") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def test_a_line_that_is_no_object_is_a_row_with_a_fault() -> None:
    data = b'{"text":"a"}\n{"text":\n\xff\n[1]\n{"text":7}\n{"no":1}\n\n{"text":"\\ud800"}\n'
    table = read_all(data)
    assert table[FAULT].to_pylist() == [0, NOT_JSON, NOT_UTF8, NOT_OBJECT, NOT_TEXT, 0, 0]
    texts = as_bytes(table["text"].combine_chunks())
    assert texts == [b"a", None, None, None, None, None, b"\xed\xa0\x80"]  # no valid UTF-8


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_line() -> None:
    table = read_all(b'\xef\xbb\xbf{"text":"a"}\r\n{"text":"b"}\r\n')
    assert table["text"].to_pylist() == ["a", "b"]
    assert table[FAULT].to_pylist() == [0, 0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'[{"text": "a"}]', "one JSON array"),
        (b'{\n"text": "a"\n}\n', "none of its first 3 lines"),
        (b"a,b\n1,2\n", "none of its first 2 lines"),
        (gzip.compress(b'{"text": "a"}\n' * 100, mtime=0)[:-9], "cut short"),
        (gzip.compress(b'{"text": "a"}\n', mtime=0)[:9] + b"\xff" * 40, "damaged"),
    ],
)
def test_what_is_not_json_lines_is_refused_in_words(data: bytes, why: str) -> None:
    with pytest.raises(InputUnreadable, match=f"file is .*{why}"):
        scan(data)


def test_zeros_after_the_last_member_are_padding() -> None:
    data = gzip.compress(b'{"text":"a"}\n') + bytes(512)
    assert sum(u.rows for u in scan(data).units) == 1


def test_an_empty_file_has_no_rows() -> None:
    assert sum(u.rows for u in scan(b"").units) == 0


def test_a_gzip_file_can_be_entered_at_its_members() -> None:
    lines = [json.dumps({"text": "x" * 400, "n": n}).encode() + b"\n" for n in range(9_000)]
    whole = b"".join(lines)
    data = b"".join(gzip.compress(whole[i : i + 65_280]) for i in range(0, len(whole), 65_280))
    units = scan(data, "n").units
    assert len(units) > 3
    assert all(u.lead == 1 for u in units[1:])  # no member ends with a line
    last = units[-1]
    first = sum(u.rows for u in units[:-1])
    types = pa.schema([("n", pa.int64())])
    table = rows_of(data, Span.of_unit(last, first), ["n"], types)
    assert table["n"].to_pylist() == list(range(first, 9_000))
    assert next(iter(gzip_blocks(io.BytesIO(data), last.start, len(data))))[0] == last.start


# -- types


def kinds(*values: Any) -> str:
    data = b"\n".join(json.dumps({"text": "t", "v": v}).encode() for v in values)
    return str(scan(data, "v").schema.field("v").type)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 2), "int64"),
        ((1, 2.5), "double"),
        ((1, None), "int64"),
        ((2**53 + 1, 2.5), "extension<arrow.json>"),
        ((2**64,), "extension<arrow.json>"),
        ((True, False), "bool"),
        ((True, 1), "extension<arrow.json>"),
        (("a", 1), "extension<arrow.json>"),
        (("2026-01-01T00:00:00Z",), "string"),
        ((None,), "null"),
        (([1], [2.5], []), "list<item: double>"),
        (({"a": 1}, {"b": "x"}), "struct<a: int64, b: string>"),
        (({},), "extension<arrow.json>"),
        (({"a": {"b": [1]}},), "struct<a: struct<b: list<item: int64>>>"),
    ],
)
def test_a_type_holds_every_value_that_was_seen(values: tuple[Any, ...], expected: str) -> None:
    assert kinds(*values) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(json_values, min_size=1, max_size=8))
def test_any_values_come_back_as_they_were(values: list[Any]) -> None:
    data = b"\n".join(json.dumps({"text": "t", "v": v}).encode() for v in values)
    table = read_all(data, "v")
    faults = table[FAULT].to_pylist()
    found = table["v"].to_pylist()
    kind = table["v"].type
    for value, back, fault in zip(values, found, faults, strict=True):
        if fault:  # an infinity in what is kept as JSON text, which has none
            assert (_is_json(value), back, fault) == (False, None, NOT_OF_TYPE)
        else:
            assert _same(value, back, kind)
    if all(map(_is_json, values)):
        assert faults == [0] * len(values)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _same(value: Any, found: Any, kind: pa.DataType) -> bool:
    """Equal, but for keys that a struct adds as null, and JSON text where kinds are mixed."""
    if isinstance(found, str) and not isinstance(value, str):
        return bool(json.loads(found) == value)
    if isinstance(value, str) and found != value:
        return bool(json.loads(found) == value)
    if isinstance(value, dict):
        return all(_same(value.get(k), v, kind) for k, v in found.items()) and not (
            value.keys() - found.keys()
        )
    if isinstance(value, list):
        return len(value) == len(found) and all(map(_same, value, found, [kind] * len(value)))
    return bool(value == found)


def test_a_value_that_cannot_be_kept_spoils_its_line_only() -> None:
    data = b'{"text":"a","v":"x"}\n{"text":"b","v":"\\udfff"}\n{"text":"c","v":"y"}\n'
    table = read_all(data, "v")
    assert table[FAULT].to_pylist() == [0, NOT_OF_TYPE, 0]
    assert table["text"].to_pylist() == ["a", None, "c"]
    assert table["v"].to_pylist() == ["x", None, "y"]


def test_a_path_leads_into_objects_unless_a_key_has_its_name() -> None:
    data = b'{"meta":{"text":"in"}}\n{"meta":null}\n{"meta.text":"flat"}\n{"meta":3}\n'
    span = Span(0, len(data), 0, 0, 4)
    assert rows_of(data, span, ["meta.text"])["meta.text"].to_pylist() == [
        "in", None, "flat", None,
    ]  # fmt: skip


@pytest.mark.parametrize("depth", [3, 15, 40, 99, 101, 990, 100_000])
def test_nesting_of_any_depth_is_kept_or_an_error_of_its_row(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    data = f'{{"text":"a","v":{nested}}}\n{{"text":"b","v":[]}}\n'.encode()
    table = read_all(data, "v")
    assert table[FAULT].to_pylist() == [0 if depth < 100 else NOT_JSON, 0]
    found = table["v"].to_pylist()[0]
    if depth < 100:
        text = json.dumps(found).replace('"', "")
        assert text.count("[") == depth


def test_text_that_comes_late_is_found() -> None:
    data = b'{"other":1}\n' * 3_000 + b'{"text":"late"}\n'
    assert scan(data).schema.field("text").type == pa.string()
