"""Receipts folded into a manifest, and the verdict on a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.records.manifest import build_manifest, is_hopeless
from schemas.records.job import Job
from schemas.records.manifest import (
    Manifest,
    Parked,
    Receipt,
)
from tests.fake_jobs import make_job


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder: Path = tmp_path_factory.mktemp("fold")
    return make_job(folder, ["x"] * 30, chunk_rows=10, error_threshold=0.1).job


def receipt(chunk: int, errors: int = 0, **more: object) -> Receipt:
    return Receipt.model_validate(
        {
            "chunk": chunk,
            "rows": 10,
            "ok": 10 - errors,
            "errors": errors,
            "errors_by_type": {"null_text": errors} if errors else {},
            "bytes": 100,
            "sha256": f"{chunk}" * 64,
            "attempt": "a",
            "tokens": 7,
            **more,
        }
    )


def parked(chunk: int) -> Parked:
    return Parked(chunk=chunk, cause="storage_error", message="m", attempts=4, at_s=1.0)


def end(job: Job, receipts: list[Receipt], *left: Parked, **more: object) -> Manifest:
    return build_manifest(job, receipts, left, finished_s=9.0, versions={}, **more)  # type: ignore[arg-type]


def test_all_parts_make_a_finished_job_in_the_order_of_its_chunks(job: Job) -> None:
    manifest = end(job, [receipt(2), receipt(0, errors=1), receipt(1)])
    assert manifest.state == "finished"
    assert [p.chunk for p in manifest.parts] == [0, 1, 2]
    totals = manifest.totals
    assert (totals.rows, totals.ok, totals.errors, totals.tokens) == (30, 29, 1, 21)
    assert totals.errors_by_type == {"null_text": 1}


def test_chunks_of_a_faster_tokenizer_are_counted(job: Job) -> None:
    faster = [receipt(c, tokenizer="nanotoken 0.1.0") for c in (0, 2)]
    assert end(job, [*faster, receipt(1)]).tokenizers == {"nanotoken 0.1.0": 2}
    assert end(job, [receipt(c) for c in range(3)]).tokenizers == {}


def test_what_was_said_at_submission_and_what_workers_found_is_kept_once(job: Job) -> None:
    found = [receipt(c, warnings=["weights do not run"]) for c in range(3)]
    told = job.model_copy(update={"warnings": ("44 texts repeat",)})
    assert end(told, found).warnings == ("44 texts repeat", "weights do not run")


def test_parked_chunks_fail_the_job_and_say_why(job: Job) -> None:
    manifest = end(job, [receipt(0)], parked(1), parked(2))
    assert (manifest.state, manifest.reason) == ("failed", "2 chunks parked: 2 × storage_error")
    assert manifest.totals.parked == 2


def test_a_part_outranks_a_parked_record(job: Job) -> None:
    manifest = end(job, [receipt(0), receipt(1), receipt(2)], parked(1))
    assert (manifest.state, manifest.parked) == ("finished", ())


def test_a_missing_part_fails_the_job(job: Job) -> None:
    assert end(job, [receipt(0), receipt(2)]).reason == "1 chunk without a part"


def test_too_many_error_rows_fail_the_job(job: Job) -> None:
    manifest = end(job, [receipt(0, errors=2), receipt(1, errors=2), receipt(2)])
    assert manifest.state == "failed"
    assert manifest.reason == "13.33% error rows, the threshold is 10.00%"


def test_as_many_error_rows_as_the_threshold_are_fine(job: Job) -> None:
    assert end(job, [receipt(0, errors=3), receipt(1), receipt(2)]).state == "finished"
    assert not is_hopeless(job, 3)
    assert is_hopeless(job, 4)


def test_who_stopped_the_job_has_the_last_word(job: Job) -> None:
    manifest = end(job, [receipt(0)], stopped=("cancelled", "by hand"))
    assert (manifest.state, manifest.reason) == ("cancelled", "by hand")


def test_the_start_is_the_first_chunk_that_knows_its_start(job: Job) -> None:
    starts = [receipt(0), receipt(1, started_s=5.0), receipt(2, started_s=3.0)]
    assert end(job, starts).started_s == 3.0
    assert end(job, [receipt(0)]).started_s is None


def test_a_manifest_comes_back_as_it_went(job: Job) -> None:
    manifest = end(job, [receipt(0)], parked(1))
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
