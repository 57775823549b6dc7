"""An output read from Python: lazy data sets, a job as HTML, and what is missing is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import headrace
from producers.api.job import require_finished
from producers.api.progress import NotebookProgress, job_html, notebook_display, shown
from producers.records.snapshot import Snapshot
from schemas.errors import JobCancelled, JobFailed, JobNotFound
from tests.unit.small_job import finish, score, submit, write_input


@pytest.fixture
def output(tmp_path: Path) -> Path:
    texts = ["a text", None, *(f"text {i}" for i in range(40))]
    corpus = write_input(tmp_path / "in.parquet", texts)
    store, job = submit([corpus], tmp_path / "out", id_column="id", chunk_rows=10)
    score(store, job, skip=(1,))
    return tmp_path / "out"


def test_rows_come_in_the_order_of_the_input_as_far_as_there_are(output: Path) -> None:
    found = headrace.open(output)
    ids = found.to_arrow().to_table(columns=["id"])["id"].to_pylist()
    assert ids == [f"in-{i}" for i in range(42) if not 8 <= i < 16]
    assert found.to_polars().select("id").collect()["id"].to_list() == ids
    assert found.to_pandas()["id"].to_list() == ids


def test_error_rows_are_a_data_set_of_their_own(output: Path) -> None:
    rows = headrace.open(str(output)).errors().to_table().to_pylist()
    assert [(r["id"], r["error_type"]) for r in rows] == [("in-1", "null_text")]


def test_an_output_without_parts_or_spans_says_so(output: Path, tmp_path: Path) -> None:
    with pytest.raises(JobNotFound, match="there are no spans"):
        headrace.open(output).traces()
    with pytest.raises(JobNotFound, match="no part is committed yet"):
        headrace.open(tmp_path / "none").to_arrow()
    with pytest.raises(JobNotFound, match="holds no job"):
        _ = headrace.open(tmp_path / "none").job


def test_a_job_is_found_in_its_output_and_answers(output: Path) -> None:
    job = headrace.open(output).job
    assert job.status().rows_done == 34
    assert job.verify().verdict == "incomplete"
    assert job.explain("in-1")["rows"][0]["error_type"] == "null_text"
    assert job.id in repr(job)
    assert "34/42 rows" in job._repr_html_()


def test_a_finished_job_is_not_waited_for(tmp_path: Path) -> None:
    corpus = write_input(tmp_path / "in.parquet", ["a"])
    store, job = submit([corpus], tmp_path / "out")
    score(store, job)
    finish(store, job)
    assert headrace.open(tmp_path / "out").job.wait(progress=False).state == "finished"


def snapshot(**changes: Any) -> Snapshot:
    known: dict[str, Any] = {
        "job": "0" * 16, "output": "/out", "state": "running", "reason": "", "rows": 10,
        "rows_done": 4, "rows_live": 0, "ok": 4, "errors": 0, "errors_by_type": {}, "tokens": 0,
        "chunks": 2, "chunks_done": 1, "chunks_leased": 1, "chunks_parked": 0, "workers": 1,
        "submitted_s": 0.0, "finished_s": None, "task": "fake", "model": "",
    }  # fmt: skip
    return Snapshot(**{**known, **changes})


def test_html_of_a_job_escapes_everything() -> None:
    page = job_html(snapshot(output="/<script>", reason="<b>&", model="'\"><img>"))
    for raw in ("<script>", "<b>", "<img>"):
        assert raw not in page
    assert "/&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("state", "kind"), [("failed", JobFailed), ("cancelled", JobCancelled), ("paused", JobFailed)]
)
def test_a_job_that_did_not_finish_is_an_error(state: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"is {state}"):
        require_finished(snapshot(state=state))


def test_progress_goes_to_a_function_that_was_given() -> None:
    seen: list[Snapshot] = []
    with shown(seen.append) as on_progress:
        on_progress(snapshot())
    assert len(seen) == 1


class _Screen:
    """What a notebook shows: one table, changed in its place."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def display(self, page: Any, *, display_id: bool) -> _Screen:
        assert display_id
        self.update(page)
        return self

    def update(self, page: Any) -> None:
        self.pages.append(page._repr_html_())


def test_a_notebook_shows_one_table_that_changes_and_ends_right() -> None:
    screen = _Screen()
    progress = NotebookProgress(screen.display)
    progress(snapshot())
    progress(snapshot(rows_done=5))  # less than a second later
    progress(snapshot(state="finished", rows_done=10))
    assert len(screen.pages) == 2
    assert "finished" in screen.pages[-1]


def test_outside_of_a_notebook_there_is_no_display() -> None:
    assert notebook_display() is None
