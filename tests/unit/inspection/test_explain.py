"""From a row to what happened to it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from headrace.coordination.attempts import attempt_of_death
from headrace.coordination.leases import FORWARD, Mark
from headrace.storage.local import LocalStore
from headrace.telemetry.provider import Telemetry
from headrace.tracing.crash_trace import record_crash
from producers.inspection.explain import explain, render_explanation
from producers.submission.reuse import store_index
from schemas.errors import ColumnError, JobNotFound
from schemas.names import output_layout
from schemas.records.job import parse_job
from tests.unit.fake_output import write_fake_output
from tests.unit.small_job import finish, score, submit, write_input


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return write_fake_output(tmp_path_factory.mktemp("out"), chunks=4, rows=50, error_share=0.05)


def test_a_row_is_led_to_its_part_and_its_trace(store: LocalStore) -> None:
    found = explain(store, "70", jaeger="http://localhost:16686/")
    (row,) = found["rows"]
    assert row["part"] == "data/part-00001.parquet"
    assert (row["chunk"], row["part_row"]) == (1, 20)
    assert (row["input_file"], row["input_row"]) == ("/corpus/1.parquet", 20)
    assert row["trace_url"] == f"http://localhost:16686/trace/{row['trace_id']}"
    assert set(row["attempts"][-1]["stages_s"]) == {
        "read",
        "tokenize",
        "forward",
        "decode",
        "write",
        "commit",
    }


def test_every_attempt_on_its_chunk_is_shown(store: LocalStore) -> None:
    (row,) = explain(store, "70")["rows"]
    assert [(a["outcome"], a["error_type"]) for a in row["attempts"]] == [
        ("error", "timeout_error"),
        ("ok", None),
    ]
    assert row["trace_id"] == row["attempts"][1]["trace_id"]


def test_an_error_row_says_why(store: LocalStore) -> None:
    table = pq.read_table(f"{store.uri}/data")
    rows = [
        r
        for r in table.select(["id", "status", "error_type"]).to_pylist()
        if r["status"] == "error"
    ]
    found = explain(store, str(rows[0]["id"]))
    assert found["rows"][0]["error_type"] == rows[0]["error_type"]
    assert rows[0]["error_type"] in render_explanation(found)


def test_an_id_that_is_nowhere_is_said_to_be_nowhere(store: LocalStore) -> None:
    found = explain(store, "123456")
    assert found["rows"] == []
    assert "no row with id 123456 in the 4 parts" in render_explanation(found)


def test_an_id_of_the_wrong_type_names_the_column(store: LocalStore) -> None:
    with pytest.raises(ColumnError, match="id column id is int64"):
        explain(store, "abc")


def test_a_lost_or_broken_trace_costs_the_attempt_and_not_the_answer(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path, chunks=1, rows=20, lost=0)
    (trace,) = store.list(output_layout.traces_of(0))
    store.replace(trace.name, b"broken")
    (row,) = explain(store, "3")["rows"]
    assert row["attempts"] == []
    assert row["trace_id"]


def test_a_folder_without_a_job_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(JobNotFound):
        explain(LocalStore(tmp_path), "1")


def test_an_attempt_whose_worker_was_killed_says_what_it_was_at_and_who_saw_it(
    tmp_path: Path,
) -> None:
    store = write_fake_output(tmp_path, chunks=1, rows=20, lost=0)
    job = parse_job(store.read(output_layout.JOB) or b"", "there")
    mark = Mark("dead", "w9", FORWARD, rows=(3,), since_s=9.0, begun_s=5.0, trace_id="e" * 32)
    death = attempt_of_death(0, mark, 12.0, "controller-1")
    assert death is not None
    record_crash(job, store, death, mark, Telemetry())
    record_crash(job, store, death, mark, Telemetry())  # two may see one death
    told = render_explanation(explain(store, "5"))
    assert "worker_lost on w9, 7.00 s\n    was at forward, seen by controller-1" in told
    assert told.count("worker_lost") == 1


def test_a_copied_row_is_led_to_where_it_was_computed(tmp_path: Path) -> None:
    write_input(tmp_path / "first.parquet", ["old", "both"], id=["a", "b"])
    write_input(tmp_path / "second.parquet", ["new", "both"], id=["c", "d"])
    first, job = submit([tmp_path / "first.parquet"], tmp_path / "one", id_column="id")
    score(first, job)
    finish(first, job)
    second, job = submit(
        [tmp_path / "second.parquet"], tmp_path / "two", id_column="id", reuse=first.uri
    )
    store_index(second, first)
    score(second, job)
    (new,), (both,) = (explain(second, name)["rows"] for name in ("c", "d"))
    assert new["copied_from"] is None
    assert both["copied_from"] == {
        "output": first.uri, "part": "data/part-00000.parquet", "part_row": 1,
    }  # fmt: skip
    assert f"copied    from {first.uri}, data/part-00000.parquet, row 1" in render_explanation(
        explain(second, "d")
    )
    assert explain(first, "a")["rows"][0]["copied_from"] is None


def test_a_line_break_in_an_id_forges_no_line(tmp_path: Path) -> None:
    name = "a\nrow b: ok"
    write_input(tmp_path / "in.parquet", ["text"], id=[name])
    store, job = submit([tmp_path / "in.parquet"], tmp_path / "out", id_column="id")
    score(store, job)
    told = render_explanation(explain(store, name)).split("\n")
    assert told[0] == r"row a\nrow b: ok: ok"
    assert not any(line.startswith("row b") for line in told)
