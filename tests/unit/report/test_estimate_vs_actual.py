"""What was predicted, and what is remembered for the next prediction."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.settings import Settings
from headrace.storage.local import LocalStore
from headrace.storage.retry_count import count_retry
from headrace.telemetry.provider import Telemetry
from headrace.tracing.chunk_trace import ChunkTrace
from producers.capacity.speed_history import (
    of_this_machine,
    record_speed,
    shape_of,
)
from producers.report import build_report
from producers.report.estimate_vs_actual import compare, off
from producers.report.facts import read_facts
from producers.submission.create import create_job
from schemas.records.job import (
    Job,
    Predicted,
    parse_job,
)
from schemas.records.manifest import Manifest
from tests.unit.fake_output import write_fake_output
from tests.unit.small_job import NOW_S, fake_settings, prepare_small, write_input

PREDICTED = Predicted(
    tokens=100_000, exact_tokens=True, tokens_per_s=500.0, measured=False, workers=2,
    seconds=100.0, worker_hours=0.05, price_per_hour=2.0, cost=0.1,
)  # fmt: skip


def job_of(store: LocalStore, predicted: Predicted | None) -> Job:
    job = parse_job(store.read("_headrace/job.json") or b"", "there")
    job = job.model_copy(update={"predicted": predicted})
    store.replace("_headrace/job.json", job.model_dump_json().encode())
    return job


def manifest_of(store: LocalStore) -> Manifest:
    return Manifest.model_validate_json(store.read("_headrace/manifest.json") or b"")


def test_the_report_sets_what_was_predicted_beside_what_happened(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path, chunks=6, rows=50)
    job_of(store, PREDICTED)
    facts = read_facts(store, 0)
    found = {row.name: row for row in compare(facts)}
    tokens = facts.manifest.totals.tokens
    assert found["Tokens"].actual == f"{tokens:,}"
    assert found["Tokens"].off == off(100_000, tokens)
    assert {"Time of work", "Worker hours", "Cost", "Workers"} <= set(found)
    page = build_report(store, Settings())
    assert "Expected and actual" in page
    assert "a guess from its size" in page
    assert "2.00 a worker hour" in page


def test_without_a_prediction_nothing_is_compared(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path, chunks=3, rows=20)
    assert compare(read_facts(store, 0)) == []
    assert "Expected and actual" not in build_report(store, Settings())


@pytest.mark.parametrize(
    ("expected", "actual", "words"),
    [
        (100, 112, "+12 %"),
        (100, 75, "−25 %"),
        (100, 100.2, "as expected"),
        (10, 34, "× 3.4"),
        (10, 2_742, "× 274"),
        (0, 5, ""),
    ],
)
def test_how_far_off_is_said_in_words_that_fit(expected: float, actual: float, words: str) -> None:
    assert off(expected, actual) == words


def test_a_submitted_job_holds_its_prediction(tmp_path: Path) -> None:
    write_input(tmp_path / "in.parquet", ["some words"] * 300)
    prepared = prepare_small([tmp_path / "in.parquet"], tmp_path / "out", fake_settings())
    store = LocalStore(tmp_path / "out")
    job, _ = create_job(store, prepared, now_s=NOW_S, predicted=PREDICTED)
    assert job.predicted == PREDICTED
    assert parse_job(store.read("_headrace/job.json") or b"", "there") == job


# -- speeds


def test_a_finished_job_teaches_the_next_estimate(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path / "out", chunks=6, rows=50)
    job, manifest = job_of(store, None), manifest_of(store)
    assert of_this_machine(tmp_path, "cpu × 1", job.spec) is None
    record_speed(tmp_path, "cpu × 1", 2, job, manifest)
    began_s = manifest.started_s
    assert began_s is not None
    expected = manifest.totals.tokens / (2 * (manifest.finished_s - began_s))
    assert of_this_machine(tmp_path, "cpu × 1", job.spec) == pytest.approx(expected, abs=0.1)
    assert of_this_machine(tmp_path, "cpu × 4", job.spec) is None
    other = job.spec.model_copy(update={"dtype": "bfloat16"})
    assert of_this_machine(tmp_path, "cpu × 1", other) is None


def test_a_job_that_failed_or_was_too_short_teaches_nothing(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path / "out", chunks=6, rows=50)
    job, manifest = job_of(store, None), manifest_of(store)
    record_speed(tmp_path, "cpu × 1", 2, job, manifest.model_copy(update={"state": "failed"}))
    began_s = manifest.started_s
    assert began_s is not None
    short = manifest.model_copy(update={"finished_s": began_s + 1})
    record_speed(tmp_path, "cpu × 1", 2, job, short)
    assert of_this_machine(tmp_path, "cpu × 1", job.spec) is None


def test_a_broken_cache_is_a_guess_and_no_error(tmp_path: Path) -> None:
    store = write_fake_output(tmp_path / "out", chunks=6, rows=50)
    job, manifest = job_of(store, None), manifest_of(store)
    (tmp_path / "speeds.json").write_text("[1, 2")
    assert of_this_machine(tmp_path, "cpu × 1", job.spec) is None
    record_speed(tmp_path, "cpu × 1", 2, job, manifest)
    assert of_this_machine(tmp_path, "cpu × 1", job.spec)


def test_the_shape_of_a_local_worker_is_its_threads_or_its_gpu() -> None:
    assert shape_of("cpu", 8, 2) == "cpu × 4"
    assert shape_of("cpu", 2, 8) == "cpu × 1"
    assert shape_of("NVIDIA L4", 8, 1) == "NVIDIA L4"


# -- retries


def test_calls_made_again_are_counted_in_the_stage_that_made_them() -> None:
    observe = ChunkTrace(Telemetry(), job="a" * 16, chunk=0, attempt="x")
    with observe("read"):
        count_retry()
        count_retry()
    with observe("commit"):
        pass
    spans = {s.name: s.attributes for s in observe.finish()}
    assert spans["read"]["headrace.retries"] == 2
    assert "headrace.retries" not in spans["commit"]
