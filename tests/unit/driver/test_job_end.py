"""What is said of a job at its end."""

from __future__ import annotations

from pathlib import Path

from headrace.storage.local import LocalStore
from producers.driver.job_end import end_of
from schemas.names import output_layout
from schemas.records.manifest import parse_manifest
from tests.unit.small_job import finish, score, submit, write_input

AT_SUBMISSION, FOUND = "44 texts repeat", "the model's folder has 1 weight that does not run"


def test_what_workers_found_is_said_and_what_was_said_before_is_not(tmp_path: Path) -> None:
    corpus = write_input(tmp_path / "in.parquet", ["a", "b"])
    store, job = submit([corpus], tmp_path / "out", id_column="id")
    job = job.model_copy(update={"warnings": (AT_SUBMISSION,)})
    store.replace(output_layout.JOB, job.model_dump_json().encode())
    score(store, job)
    finish(store, job)
    end = end_of(job, store)
    assert end is not None
    assert end.warnings == ()
    place = output_layout.MANIFEST
    manifest = parse_manifest(store.read(place) or b"", store.uri)
    assert manifest.warnings == (AT_SUBMISSION,)
    told = manifest.model_copy(update={"warnings": (AT_SUBMISSION, FOUND)})
    store.replace(place, told.model_dump_json().encode())
    end = end_of(job, LocalStore(tmp_path / "out"))
    assert end is not None
    assert end.warnings == (FOUND,)
