"""Texts made of columns: what a template means, and what each row's text is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.formats.template import parse_template
from headrace.storage.local import LocalStore
from producers.verification.verify import verify
from schemas.errors import ColumnError, ConfigError
from schemas.names import output_layout
from schemas.records.text_hash import text_hash
from tests.unit.small_job import NOW_S, fake_settings, finish, prepare_small, score, submit

ROWS: list[dict[str, Any]] = [
    {"title": "Dog", "body": "It barks."},
    {"title": None, "body": "No title."},
    {"title": "No body", "body": None},
    {"title": None, "body": None},
    {"title": "", "body": ""},
    {"title": "Ä{x}\\n", "body": "line\nline"},
]
TEMPLATE = r"{title}\n{body}"
TEXTS = ["Dog\nIt barks.", "\nNo title.", "No body\n", None, "\n", "Ä{x}\\n\nline\nline"]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (r"{a}\n{b}", r"{a}\n{b}"),
        ("{a}\n{b}", r"{a}\n{b}"),
        ("query: {text}", "query: {text}"),
        (r"{{{a}}}\t\\n", r"{{{a}}}\t\\n"),
        (r"C:\dir {doc.title}", r"C:\\dir {doc.title}"),
    ],
)
def test_a_template_is_kept_in_one_way_that_means_the_same_again(written: str, kept: str) -> None:
    assert str(parse_template(written)) == kept
    assert parse_template(kept) == parse_template(written)


@pytest.mark.parametrize("text", ["no column", "{a", "a}", "{}", "{{a}}", "{a{b}}"])
def test_a_template_without_meaning_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--text"):
        parse_template(text)


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(),
        pa.binary_view(), pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)  # fmt: skip
def test_nulls_are_empty_and_a_row_of_nulls_has_no_text(kind: Any) -> None:
    columns = {
        name: pa.array([row[name] for row in ROWS], pa.string()).cast(kind)
        for name in ("title", "body")
    }
    found = parse_template(TEMPLATE).render(columns).to_pylist()
    assert found == [None if text is None else text.encode() for text in TEXTS]


def hashes(output: Path) -> list[bytes | None]:
    column: list[bytes | None] = pq.read_table(output / "data")["text_hash"].to_pylist()
    return column


@pytest.fixture(params=["parquet", "jsonl"])
def corpus(tmp_path: Path, request: Any) -> Path:
    path = tmp_path / f"in.{request.param}"
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=4)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_a_job_scores_verifies_and_reuses_the_rendered_texts(corpus: Path, tmp_path: Path) -> None:
    store, job = submit([corpus], tmp_path / "out", text=TEMPLATE, columns="title")
    score(store, job)
    finish(store, job)
    assert hashes(tmp_path / "out") == [None if t is None else text_hash(t.encode()) for t in TEXTS]
    assert verify(store, fake_settings(), now_s=NOW_S).ok_overall
    errors = pq.read_table(tmp_path / "out/data", columns=["error_type"])["error_type"].to_pylist()
    assert errors == [None, None, None, "null_text", None, None]


def test_a_fault_in_any_column_is_an_error_row(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"title": 7, "body": "b"}\n{"title": "t", "body": "b"}\nno json\n')
    store, job = submit([path], tmp_path / "out", text=TEMPLATE)
    score(store, job)
    found = pq.read_table(tmp_path / "out/data")
    assert found["error_type"].to_pylist() == ["invalid_text", None, "invalid_line"]


def test_bytes_that_are_no_utf8_in_one_column_make_the_text_invalid(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"title": pa.array([b"\xff", b"t"]), "body": ["b", "b"]}), path)
    store, job = submit([path], tmp_path / "out", text=TEMPLATE)
    score(store, job)
    assert pq.read_table(tmp_path / "out/data")["error_type"].to_pylist() == ["invalid_text", None]


def test_a_column_that_is_missing_or_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"title": ["t"], "stars": [5]}), path)
    for text, why in (
        ("{title} {abstract}", r"no column 'abstract' \(--text\)"),
        ("{title} {stars}", "'stars' is int64, not text"),
    ):
        with pytest.raises(ColumnError, match=why):
            prepare_small([path], tmp_path / "out", fake_settings(text=text))


def test_a_text_column_beside_a_template_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contradict"):
        prepare_small([corpus], tmp_path / "out", fake_settings(text=TEMPLATE, text_column="title"))


def test_the_record_of_a_job_without_a_template_is_as_before(corpus: Path, tmp_path: Path) -> None:
    submit([corpus], tmp_path / "out", text_column="title")
    record = LocalStore(tmp_path / "out").read(output_layout.JOB)
    assert record is not None
    assert "text" not in json.loads(record)["spec"]
