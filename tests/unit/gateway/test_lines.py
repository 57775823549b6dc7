"""Lines of a batch file: each is checked, and its texts become rows in constant memory."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.gateway.batches import check
from producers.gateway.batches.check import check_lines, lines_of
from producers.gateway.batches.requests import BadLine, parse_line
from producers.gateway.records import Checked, Endpoint

EMBED: Endpoint = "/v1/embeddings"


def request(custom_id: Any = "a", **changes: Any) -> dict[str, Any]:
    body = {"model": "m", "input": "text", **changes.pop("body", {})}
    return {"custom_id": custom_id, "method": "POST", "url": EMBED, "body": body, **changes}


def checked(lines: list[Any], folder: Path) -> tuple[Checked, list[dict[str, Any]]]:
    data = b"\n".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
    )
    found = check_lines(io.BytesIO(data), EMBED, folder / "rows")
    return found, pq.read_table(folder / "rows").to_pylist()


def test_each_text_is_a_row_with_the_number_of_its_line(tmp_path: Path) -> None:
    found, rows = checked(
        [request("a"), b"", request("b", body={"input": ["one", "two"]}), b"  "], tmp_path
    )
    assert (found.lines, found.rows, found.model, found.error_count) == (2, 3, "m", 0)
    assert rows == [
        {"custom_id": "a", "line": 1, "text": "text"},
        {"custom_id": "b", "line": 3, "text": "one"},
        {"custom_id": "b", "line": 3, "text": "two"},
    ]


BAD: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "invalid_json_line"),
    "deep JSON": (b"[" * 100_000, "invalid_json_line"),
    "a list": ([1], "invalid_json_line"),
    "not UTF-8": (b'{"custom_id": "\xff"}', "invalid_json_line"),
    "no id": (request(None), "missing_required_parameter"),
    "an id that is a number": (request(5), "missing_required_parameter"),
    "a long id": (request("x" * 513), "missing_required_parameter"),
    "an unknown name": (request(extra=1), "unknown_parameter"),
    "another method": (request(method="GET"), "invalid_method"),
    "another url": (request(url="/v1/chat/completions"), "mismatched_endpoint"),
    "no body": (request() | {"body": None}, "missing_required_parameter"),
    "no model": (request(body={"model": None}), "missing_required_parameter"),
    "no input": (request(body={"input": None}), "invalid_value"),
    "token ids": (request(body={"input": [1, 2]}), "invalid_value"),
    "an empty list": (request(body={"input": []}), "invalid_value"),
    "too many texts": (request(body={"input": ["x"] * 2049}), "invalid_value"),
    "half a surrogate": (request(body={"input": "\ud800"}), "invalid_value"),
    "another format": (request(body={"encoding_format": "int8"}), "invalid_value"),
    "no width": (request(body={"dimensions": 0}), "invalid_value"),
    "an unknown option": (request(body={"temperature": 1}), "unknown_parameter"),
}


@pytest.mark.parametrize(("line", "code"), BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_named_with_its_number_and_reason(
    line: Any, code: str, tmp_path: Path
) -> None:
    found, _ = checked([request("first"), line, request("last")], tmp_path)
    assert [(error.code, error.line) for error in found.errors] == [(code, 2)]
    assert found.errors[0].message


def test_ids_that_repeat_are_named_where_they_repeat(tmp_path: Path) -> None:
    found, _ = checked([request(id) for id in ("a", "b", "a", "c", "a", "b")], tmp_path)
    assert [(e.code, e.line) for e in found.errors] == [
        ("duplicate_custom_id", line) for line in (3, 5, 6)
    ]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "n"}, "mismatched_model"),
        ({"encoding_format": "base64"}, "mismatched_encoding_format"),
        ({"dimensions": 8}, "mismatched_dimensions"),
    ],
)
def test_all_lines_have_one_model_and_form(
    change: dict[str, Any], code: str, tmp_path: Path
) -> None:
    found, _ = checked([request("a"), request("b", body=change)], tmp_path)
    assert [(e.code, e.line) for e in found.errors] == [(code, 2)]


def test_a_hundred_errors_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    found, _ = checked([b"no"] * 250, tmp_path)
    assert (len(found.errors), found.error_count, found.lines) == (100, 250, 250)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    assert [e.code for e in checked([b"", b" "], tmp_path)[0].errors] == ["empty_file"]


def test_a_line_without_end_is_refused_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "BLOCK_BYTES", 100)
    monkeypatch.setattr(check, "MOST_LINE_BYTES", 1_000)
    data = json.dumps(request(body={"input": "x" * 5_000})).encode() + b"\n"
    found = check_lines(io.BytesIO(data), EMBED, tmp_path / "rows")
    assert [e.code for e in found.errors] == ["invalid_json_line"]


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=30),
       st.integers(1, 64))  # fmt: skip
def test_lines_are_the_same_in_any_blocks(lines: list[bytes], block: int) -> None:
    class Piecewise(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(block)

    found = list(lines_of(Piecewise(b"\n".join(lines))))
    assert found == [(n, line) for n, line in enumerate(lines, 1) if line.strip()]


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["custom_id", "method", "url", "body", "input", "model"]), inner),
))  # fmt: skip
def test_any_json_is_a_line_or_a_bad_one(value: Any) -> None:
    with contextlib.suppress(BadLine):
        assert parse_line(json.dumps(value).encode(), EMBED).texts
