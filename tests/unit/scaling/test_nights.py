"""Nights read from real outputs, and the simulator that plays them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.fleet.record_night import chunk_seconds, night_of, read_output
from benchmarks.fleet.scaling_sim import REPEATS, SCALERS, night_from, recorded_nights, simulate
from headrace.assumptions import CHUNK_S
from schemas.records.job import Job
from tests.fake_jobs import make_job


def spans(*rows: tuple[str | None, int, str, float, float]) -> pa.Table:
    """Parent, chunk, outcome, start and end in seconds; all of one worker."""
    return pa.Table.from_pylist(
        [
            {
                "parent_span_id": parent,
                "chunk": chunk,
                "worker": "w",
                "outcome": outcome,
                "start_time_unix_nano": int(1e9 * start),
                "duration_nano": int(1e9 * (end - start)),
            }
            for parent, chunk, outcome, start, end in rows
        ]
    )


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    return [make_job(tmp_path / name, ["x"] * 4, chunk_rows=2).job for name in "ab"]


def test_a_chunk_counts_from_the_end_of_the_one_before_and_only_when_it_was_committed() -> None:
    found = spans(
        (None, 1, "ok", 1.0, 4.0),
        (None, 2, "error", 2.0, 9.0),
        ("a", 0, "ok", 0.0, 0.5),
        (None, 0, "ok", 0.0, 2.0),
    )
    assert chunk_seconds(found) == [2.0, 2.0]


def test_a_night_starts_with_its_first_job(jobs: list[Job]) -> None:
    first, second = jobs
    later = second.model_copy(
        update={
            "submitted_s": first.submitted_s + 60,
            "options": second.options.model_copy(update={"deadline_s": first.submitted_s + 600}),
        }
    )
    one = spans((None, 0, "ok", 0.0, 3.0))
    night = night_of("two", [(later, one), (first, one)])
    assert [(j["at_s"], j["due_s"]) for j in night["jobs"]] == [(0.0, None), (60.0, 600.0)]


def test_its_clock_is_stretched_to_planned_chunks_and_its_spread_kept() -> None:
    told = {"name": "n", "jobs": [{"at_s": 5.0, "due_s": 50.0, "chunk_s": [0.5, 1.5]}]}
    (job,) = night_from(told).jobs
    assert (job.at_s, job.due_s, job.chunk_s) == (150.0, 1500.0, CHUNK_S)
    assert job.chunks == 2 * REPEATS
    assert tuple(job.spread) == (0.5, 1.5)


def test_an_output_without_a_job_is_no_night(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no job"):
        read_output(str(tmp_path))


def test_every_recorded_night_is_played_to_its_end() -> None:
    nights = recorded_nights()
    assert len(nights) >= 2
    for night in nights:
        result = simulate(night, SCALERS["headrace"])
        assert result.last_end_h < night.hours, night.name
        assert result.reworked == 0
