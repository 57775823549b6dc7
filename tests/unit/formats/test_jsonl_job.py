"""A job over JSON Lines, from the plan to verify, explain, reuse and the report."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.output.plan_file import PlanTable
from headrace.storage.open import open_store
from producers.inspection.explain import explain
from producers.planning.sample import choose_rows, read_rows
from producers.report.texts import TextReader
from producers.submission.estimate import sample_texts
from producers.verification.verify import verify
from schemas.errors import ColumnError, InputUnreadable
from tests.unit.small_job import NOW_S, fake_settings, finish, prepare_small, score, submit

ROWS = 2_500
BAD = {7: "{broken", 11: "[]", 13: '{"text": 5, "id": "row-13"}'}


def document(row: int) -> dict[str, Any]:
    found: dict[str, Any] = {"id": f"row-{row}", "text": f"text {row} é", "n": row}
    if row % 3 == 0:
        found["meta"] = {"lang": "en", "tags": ["a", str(row)]}
    if row % 5 == 0:
        found["score"] = row if row % 2 else row / 4
    return found


def lines(low: int = 0, high: int = ROWS) -> str:
    return "".join(
        BAD.get(row, json.dumps(document(row), ensure_ascii=False)) + "\n"
        for row in range(low, high)
    )


@pytest.fixture(params=["plain", "gzip", "members"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    if request.param == "plain":
        (folder / "a.jsonl").write_text(lines())
    elif request.param == "gzip":
        (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines().encode()))
    else:
        whole = lines().encode()
        parts = [gzip.compress(whole[i : i + 5_000]) for i in range(0, len(whole), 5_000)]
        (folder / "a.ndjson.gz").write_bytes(b"".join(parts))
    return folder


FLAGS = {"id_column": "id", "columns": "n,meta,score", "chunk_rows": 400}


def test_every_line_is_a_row_of_the_output_once(corpus: Path, tmp_path: Path) -> None:
    store, job = submit([corpus], tmp_path / "out", **FLAGS)
    assert (job.rows, job.chunks) == (ROWS, 7)
    score(store, job)
    table = pq.read_table(tmp_path / "out/data").to_pylist()
    assert len(table) == ROWS
    for row, found in enumerate(table):
        if row in BAD:
            kind = "invalid_text" if row == 13 else "invalid_line"
            assert (found["status"], found["error_type"]) == ("error", kind)
            assert found["id"] == ("row-13" if row == 13 else None)
            continue
        wanted = document(row)
        assert (found["id"], found["n"], found["length"]) == (
            wanted["id"], row, len(wanted["text"]),
        )  # fmt: skip
        assert found["meta"] == wanted.get("meta")
        assert found["score"] == wanted.get("score")
    finish(store, job)
    result = verify(store, fake_settings(), now_s=NOW_S)
    assert [p.message for p in result.problems] == []
    assert result.verdict == "verified"
    assert (result.ok, dict(result.errors_by_type)) == (
        ROWS - 3, {"invalid_line": 2, "invalid_text": 1},
    )  # fmt: skip


def test_a_row_is_explained_and_its_text_is_found(corpus: Path, tmp_path: Path) -> None:
    store, job = submit([corpus], tmp_path / "out", **FLAGS)
    score(store, job)
    (row,) = explain(store, "row-1999")["rows"]
    assert (row["status"], row["input_row"], row["chunk"]) == ("ok", 1999, 5)
    read = TextReader(store, fake_settings())
    chunk = PlanTable.load(store).chunk(5)
    assert read(5, "text", 1999 - chunk.job_row) == "text 1999 é"


def test_verify_sees_a_part_that_is_not_the_inputs(corpus: Path, tmp_path: Path) -> None:
    store, job = submit([corpus], tmp_path / "out", **FLAGS)
    score(store, job)
    part = tmp_path / "out/data/part-00001.parquet"
    table = pq.read_table(part)
    changed = table.set_column(
        table.schema.get_field_index("n"), "n", pa.array([0] * table.num_rows)
    )
    part.unlink()
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), part)
    kinds = {p.kind for p in verify(store, fake_settings(), now_s=NOW_S).problems}
    assert "carried" in kinds


def test_answers_are_reused_across_formats(corpus: Path, tmp_path: Path) -> None:
    store, job = submit([corpus], tmp_path / "out", **FLAGS)
    score(store, job)
    finish(store, job)
    texts = [json.dumps({"text": document(row)["text"]}) for row in range(0, 100, 10)]
    (tmp_path / "again.jsonl").write_text("\n".join(texts))
    prepared = prepare_small(
        [tmp_path / "again.jsonl"], tmp_path / "b", fake_settings(reuse=str(tmp_path / "out"))
    )
    assert prepared.options.reuse_output == str(tmp_path / "out")


def test_samples_come_from_all_over_the_file(corpus: Path, tmp_path: Path) -> None:
    from functools import partial

    from headrace.formats.opener import InputOpener

    prepared = prepare_small([corpus], tmp_path / "out", fake_settings())
    open_file = InputOpener(partial(open_store, settings=fake_settings()))
    assert prepared.corpus.text_bytes == pytest.approx(ROWS * 12, rel=0.3)
    taken = list(sample_texts(prepared.corpus.files, 1, "text", open_file, 100))
    assert 90 <= len(taken) <= 110
    places = list(choose_rows(prepared.corpus.files, ROWS, 200, "seed"))
    rows = [int(text.split()[1]) for (text,) in read_rows(places, ["text"], open_file)]
    assert len(rows) >= 190
    assert sum(rows) / len(rows) == pytest.approx(ROWS / 2, rel=0.15)


def test_types_of_several_files_become_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"a","v":1,"w":1}\n{"text":"b","w":"x"}\n')
    (tmp_path / "b.jsonl").write_text('{"text":"c","v":2.5}\n{"text":"d"}\n')
    store, job = submit([tmp_path], tmp_path / "_out", columns="v,w")
    assert [(c.name, c.type) for c in job.carried] == [
        ("v", "double"), ("w", "extension<arrow.json>"),
    ]  # fmt: skip
    score(store, job)
    table = pq.read_table(tmp_path / "_out/data")
    assert table["v"].to_pylist() == [1.0, None, 2.5, None]
    assert table["w"].to_pylist() == ["1", '"x"', None, None]


def test_a_value_that_is_no_json_is_an_error_row_never_another_value(tmp_path: Path) -> None:
    """Python reads NaN, and 1e400 as an infinity; DuckDB reads no column of JSON text with NaN."""
    rows = [
        '{"text":"a","n":1e400,"j":1}',
        '{"text":"b","n":-Infinity,"j":[NaN]}',
        '{"text":"c","n":NaN,"j":"x","s":[{"v":NaN}]}',
        '{"text":"d","n":2.5,"j":{"v":Infinity}}',
        '{"text":"e","n":-Infinity,"j":2,"s":[{"v":-1e999}]}',
        '{"text":"f","n":-Infinity,"j":2,"s":[{"v":1e99}]}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    store, job = submit([tmp_path], tmp_path / "_out", columns="n,j,s")
    score(store, job)
    table = pq.read_table(tmp_path / "_out/data")
    bad = {"error_type": "invalid_line", "n": None, "j": None, "s": None}
    found = [{name: row[name] for name in bad} for row in table.to_pylist()]
    assert found[:2] == [bad, bad]
    assert repr(found[2]) == repr(
        {"error_type": None, "n": float("nan"), "j": '"x"', "s": [{"v": float("nan")}]}
    )
    # a line that spells an infinity means it, in each of its numbers
    assert found[3] == bad
    assert found[4]["n"] == float("-inf")
    assert found[5] == {"error_type": None, "n": float("-inf"), "j": "2", "s": [{"v": 1e99}]}
    assert [p.message for p in verify(store, fake_settings(), now_s=NOW_S).problems] == []


def test_a_column_that_no_line_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body":"a"}\n')
    with pytest.raises(ColumnError, match=r"'text' \(--text-column\); columns: body \(string\)"):
        submit([tmp_path], tmp_path / "_out")
    (tmp_path / "a.jsonl").write_text('{"text":3}\n')
    with pytest.raises(ColumnError, match="int64, not text"):
        submit([tmp_path], tmp_path / "_out")


def test_a_text_inside_an_object_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"doc":{"text":"abc"}}\n{"doc":{}}\n')
    store, job = submit([tmp_path], tmp_path / "_out", text_column="doc.text")
    score(store, job)
    assert pq.read_table(tmp_path / "_out/data")["length"].to_pylist() == [3, None]
    assert [p.message for p in verify(store, fake_settings(), now_s=NOW_S).problems] == []


def test_json_that_is_no_json_lines_stops_before_anything_is_queued(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"text":"a"}]')
    with pytest.raises(InputUnreadable, match="neither Parquet nor JSON Lines"):
        submit([tmp_path / "a.json"], tmp_path / "_out")
