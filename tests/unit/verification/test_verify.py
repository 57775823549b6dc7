"""A recount finds what is not as promised, and certifies what is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.storage.local import LocalStore
from producers.verification.result import VerifyResult, problem_lines
from producers.verification.verify import verify
from schemas.errors import JobNotFound, OutputConflict, VerifyFailed
from schemas.names import output_layout
from tests.unit.small_job import NOW_S, fake_settings, finish, score, submit, write_input

TEXTS = ["good", None, "", "   ", "x" * 500, "🙂 emoji", "مرحبا", "NUL\0byte", "good"] * 30


def build(root: Path, **flags: Any) -> Path:
    """A finished job of three chunks and more, in `root/out`."""
    for number in range(2):
        write_input(
            root / f"in/day={number}/f{number}.parquet", TEXTS, stars=[i % 5 for i in range(270)]
        )
    flags = {"id_column": "id", "columns": "stars,day", "chunk_rows": 100, **flags}
    store, job = submit([root / "in"], root / "out", **flags)
    score(store, job)
    finish(store, job)
    return root / "out"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("job"))


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    """A copy of the output that a test may spoil; its job still names the first place."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def check(output: Path) -> VerifyResult:
    return verify(LocalStore(output), fake_settings(), now_s=NOW_S)


def kinds(result: VerifyResult) -> set[str]:
    return {problem.kind for problem in result.problems}


def part(output: Path, chunk: int) -> Path:
    return output / output_layout.part(chunk)


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a part again with other rows and the same metadata, as a person could by hand."""
    facts = pq.read_metadata(path).metadata
    pq.write_table(change(pq.read_table(path)).replace_schema_metadata(facts), path)


def test_a_finished_job_is_verified_to_the_row(finished: Path) -> None:
    result = check(finished)
    assert list(problem_lines(result)) == []
    assert result.verdict == "verified"
    assert (result.rows, result.ok, result.errors) == (540, 480, 60)
    assert result.errors_by_type == {"null_text": 60}
    result.raise_if_wrong()


def test_the_certificate_is_json_and_names_what_was_checked(finished: Path) -> None:
    told = json.loads(json.dumps(check(finished).to_json()))
    manifest = json.loads((finished / output_layout.MANIFEST).read_bytes())
    assert told["verdict"] == "verified"
    assert told["job"] == manifest["job"]
    assert told["rows"] == told["inputs"]["rows"] == 540
    assert len(told["parts_sha256"]) == 64


@pytest.mark.parametrize(
    "flags", [{"id_column": None, "columns": None}, {"limit": 333}, {"text_pair_column": "id"}]
)
def test_row_numbers_limits_and_pairs_are_recounted_too(tmp_path: Path, flags: Any) -> None:
    assert check(build(tmp_path, **flags)).verdict == "verified"


def test_invalid_utf8_is_an_error_row_without_a_hash(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xff\xfe", b"\xed\xa0\x80"], pa.binary())
    invalid = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])
    write_input(tmp_path / "in.parquet", invalid)
    store, job = submit([tmp_path / "in.parquet"], tmp_path / "out")
    score(store, job)
    finish(store, job)
    result = check(tmp_path / "out")
    assert result.verdict == "verified", list(problem_lines(result))
    assert result.errors_by_type == {"invalid_text": 2}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A finished job of six files in one part."""
    for n in range(6):
        write_input(tmp_path / f"in/day={n % 2}/f{n}.parquet", [f"file {n} row {i}" for i in "abc"])
    store, job = submit([tmp_path / "in"], tmp_path / "out", columns="day")
    score(store, job)
    finish(store, job)
    return tmp_path / "out"


def test_rows_of_small_files_in_one_part_are_verified_file_by_file(small: Path) -> None:
    result = check(small)
    assert (result.verdict, result.parts, result.rows) == ("verified", 1, 18)
    rows = pq.read_table(part(small, 0)).to_pylist()
    assert [row["id"] for row in rows] == [0, 1, 2] * 6
    assert [row["day"] for row in rows] == ["0"] * 9 + ["1"] * 9


@pytest.mark.parametrize("change", ["gone", "another", "longer"])
def test_a_small_file_that_changed_is_named_and_hides_no_other(small: Path, change: str) -> None:
    path = small.parent / "in/day=0/f2.parquet"
    path.unlink()
    if change != "gone":
        write_input(path, ["another", "and", "more"] + ["row"] * (change == "longer"))

    def spoil(table: pa.Table) -> pa.Table:
        hashes = table["text_hash"].to_pylist()
        hashes[16] = b"x" * 16
        at = table.schema.get_field_index("text_hash")
        return table.set_column(at, table.schema.field(at), [pa.array(hashes, pa.binary(16))])

    before = {(p.kind, p.where) for p in check(small).problems}
    assert all("f2.parquet" in where or kind == "text" for kind, where in before)
    rewrite(part(small, 0), spoil)
    found = check(small).problems
    assert {p.where for p in found if "/in/" in p.where} == {str(path)}
    if change == "gone":
        assert any(p.kind == "text" and "row 1 of" in p.message and "f5.parquet" in p.message
                   for p in found)  # fmt: skip


def test_a_part_that_names_other_sources_is_wrong(small: Path) -> None:
    path = part(small, 0)
    facts = dict(pq.read_metadata(path).metadata)
    facts[b"headrace.input_files"] = facts[b"headrace.input_files"].replace(b"f1", b"f9")
    pq.write_table(pq.read_table(path).replace_schema_metadata(facts), path)
    assert "metadata" in kinds(check(small))


def test_a_job_that_runs_is_incomplete_and_not_wrong(tmp_path: Path) -> None:
    write_input(tmp_path / "in.parquet", TEXTS)
    store, job = submit([tmp_path / "in.parquet"], tmp_path / "out", chunk_rows=100)
    score(store, job, skip=[1])
    result = check(tmp_path / "out")
    assert (result.verdict, result.parts, result.chunks) == ("incomplete", 2, 3)
    with pytest.raises(VerifyFailed, match="2 of 3 parts"):
        result.raise_if_wrong()


def test_a_missing_part_is_found(output: Path) -> None:
    part(output, 1).unlink()
    result = check(output)
    assert "missing_part" in kinds(result)
    assert output_layout.part(1) in {p.where for p in result.problems}


def test_a_changed_byte_is_found(output: Path) -> None:
    data = bytearray(part(output, 0).read_bytes())
    data[len(data) // 2] ^= 1
    part(output, 0).write_bytes(data)
    assert "changed_bytes" in kinds(check(output))


def test_a_cut_part_is_found(output: Path) -> None:
    data = part(output, 0).read_bytes()
    part(output, 0).write_bytes(data[: len(data) // 2])
    assert {"unreadable_part", "changed_bytes"} <= kinds(check(output))


@pytest.mark.parametrize("name", ["part-00099.parquet", "part-000001.parquet", "notes.txt"])
def test_a_foreign_object_among_the_parts_is_named(output: Path, name: str) -> None:
    shutil.copy(part(output, 1), output / "data" / name)
    result = check(output)
    assert kinds(result) == {"foreign_part"}
    assert result.problems[0].where == f"data/{name}"


def test_a_part_in_the_place_of_another_is_found(output: Path) -> None:
    shutil.copy(part(output, 1), part(output, 0))
    assert {"metadata", "row_order", "changed_bytes"} <= kinds(check(output))


def spoil(column: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    """The same table with one value of a column replaced at row 5."""

    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(column)
        field = table.schema.field(at)
        values = table.column(at).to_pylist()
        values[5] = value
        return table.set_column(at, field, pa.array(values, field.type))

    return change


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda t: pa.concat_tables([t, t.slice(3, 1)]), "row_count"),
        (lambda t: pa.concat_tables([t.slice(0, 3), t.slice(2, 1), t.slice(3)]), "row_order"),
        (lambda t: t.slice(0, t.num_rows - 1), "row_count"),
        (lambda t: t.take(list(reversed(range(t.num_rows)))), "row_order"),
        (spoil("text_hash", b"0" * 16), "text"),
        (spoil("stars", 77), "carried"),
        (spoil("day", "7"), "carried"),
        (spoil("status", "fine"), "status"),
        (spoil("id", None), "row_order"),
        (lambda t: t.drop_columns(["text_hash"]), "columns"),
    ],
    ids=[
        "doubled-end",
        "doubled",
        "lost",
        "reversed",
        "hash",
        "stars",
        "day",
        "status",
        "id",
        "none",
    ],
)
def test_rows_that_are_not_the_inputs_are_found(
    output: Path, change: Callable[[pa.Table], pa.Table], kind: str
) -> None:
    rewrite(part(output, 0), change)
    result = check(output)
    assert {kind, "changed_bytes"} <= kinds(result)
    assert result.verdict == "wrong"
    with pytest.raises(VerifyFailed, match=r"and \d more"):
        result.raise_if_wrong()


def test_a_null_text_that_claims_to_be_ok_is_found(output: Path) -> None:
    at = TEXTS.index(None)
    rewrite(
        part(output, 0),
        lambda t: t.set_column(
            t.schema.get_field_index("status"),
            t.schema.field("status"),
            pa.array(["ok"] * t.num_rows, t.schema.field("status").type),
        ),
    )
    assert any(
        p.kind == "status" and f"row {at} of the chunk" in p.message for p in check(output).problems
    )


def test_another_model_revision_is_found(output: Path) -> None:
    path = part(output, 2)
    facts = {**pq.read_metadata(path).metadata, b"headrace.model_revision": b"other"}
    pq.write_table(pq.read_table(path).replace_schema_metadata(facts), path)
    assert "model_revision" in kinds(check(output))


def test_a_manifest_changed_by_hand_is_found(output: Path) -> None:
    path = output / output_layout.MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"ok": 480', b'"ok": 481'))
    result = check(output)
    assert [p.where for p in result.problems] == [output_layout.SUCCESS, output_layout.MANIFEST]


@pytest.mark.parametrize("name", [output_layout.MANIFEST, output_layout.SUCCESS])
def test_half_of_the_end_is_found(output: Path, name: str) -> None:
    (output / name).unlink()
    assert kinds(check(output)) == {"manifest"}


def test_input_that_changed_or_went_away_is_found(tmp_path: Path) -> None:
    output = build(tmp_path)
    write_input(tmp_path / "in/day=0/f0.parquet", TEXTS[::-1], stars=[i % 5 for i in range(270)])
    (tmp_path / "in/day=1/f1.parquet").unlink()
    assert {"input_changed", "input_missing", "text"} <= kinds(check(output))


def test_an_input_that_was_only_touched_is_noted_and_not_wrong(tmp_path: Path) -> None:
    output = build(tmp_path)
    os.utime(tmp_path / "in/day=0/f0.parquet", (1, 1))
    found = check(output)
    assert (found.verdict, found.notes) == (
        "verified",
        [f"{tmp_path}/in/day=0/f0.parquet: touched, same bytes"],
    )
    assert found.to_json()["notes"] == found.notes


def test_a_plan_changed_by_hand_is_refused(output: Path) -> None:
    path = output / output_layout.PLAN
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 2), path)
    with pytest.raises(OutputConflict, match="changed by hand"):
        check(output)


def test_an_output_without_a_job_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(JobNotFound):
        check(tmp_path)


def test_problems_are_counted_beyond_those_that_are_kept(finished: Path) -> None:
    result = check(finished)
    for _ in range(150):
        result.wrong("kind", "where", "what")
    assert (len(result.problems), result.problem_count) == (100, 150)
    assert list(problem_lines(result))[-1] == "… and 50 more"
