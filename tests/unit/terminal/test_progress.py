"""What a terminal shows of a job on its way: all of it at 80 columns, and lines without one."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from headrace.process.numbers import plural, short_time
from producers.commands.status import lines_of
from producers.driver.drive import FILES_S, TICK_S, pause_s
from producers.records.snapshot import Snapshot
from producers.terminal.job_end import exit_code_of, summary
from producers.terminal.progress import (
    JobProgress,
    Rate,
    at_work,
    pace,
    progress_line,
    stage_shares,
    trouble,
)
from schemas.errors import ExitCode
from schemas.names import redis_keys
from schemas.records.manifest import Receipt

NOW = Snapshot(
    job="a" * 16, output="/out", state="running", reason="", rows=3_000, rows_done=700,
    rows_live=50, ok=690, errors=10, errors_by_type={"null_text": 7, "invalid_text": 3},
    tokens=9_000, chunks=12, chunks_done=2, chunks_leased=2, chunks_parked=1, workers=2,
    submitted_s=0.0, finished_s=None, task="fake", model="none",
    stages_s={"forward": 97.0, "tokenize": 2.0, "write": 0.6, "commit": 0.4},
)  # fmt: skip


def rate(rows_per_s: float) -> Rate:
    found = Rate()
    found.add(0.0, 0)
    found.add(10.0, int(10 * rows_per_s))
    return found


def test_a_line_tells_rows_rate_time_left_workers_errors_and_stages() -> None:
    assert progress_line(NOW, rate(45)) == (
        "750/3,000 rows · 45 rows/s · 50 s left · 2 workers · forward 97%, tokenize 2%, write 1% · "
        "10 error rows: null_text 7, invalid_text 3 · 1 chunk parked"
    )


@pytest.mark.parametrize(
    ("finished_s", "at_risk", "words"),
    [
        (None, False, ", in 10 min 00 s"),
        (None, True, ", in 10 min 00 s: cannot be met safely by the workers allowed"),
        (1_000.0, False, ", met with 1 h 00 min to spare"),
        (5_200.0, True, ", missed by 10 min 00 s"),
    ],
)
def test_status_shows_whether_the_deadline_is_met(
    finished_s: float | None, at_risk: bool, words: str
) -> None:
    job = replace(NOW, deadline_s=4_600.0, finished_s=finished_s, deadline_at_risk=at_risk)
    told = dict(lines_of(job, 4_000.0))["deadline"]
    assert told.endswith(words)
    assert "deadline" not in dict(lines_of(NOW, 4_000.0))


def test_before_the_first_row_there_is_no_rate_and_no_guess() -> None:
    early = replace(NOW, rows_done=0, rows_live=0, errors=0, errors_by_type={}, workers=0,
                    chunks_parked=0, stages_s={})  # fmt: skip
    assert (pace(early, Rate()), at_work(early), trouble(early)) == ("0/3,000 rows", "", "")


def test_the_time_that_models_take_to_load_is_in_no_rate_and_no_guess() -> None:
    found = Rate()
    for second in range(60):
        found.add(float(second), 0)
    assert found.rows_per_s == 0
    found.add(60.0, 100)
    assert found.rows_per_s == 0, "of one second nothing can be said"
    found.add(64.0, 500)
    assert found.rows_per_s == pytest.approx(100)
    resumed = Rate()
    for second in range(60):
        resumed.add(float(second), 2_000)
    resumed.add(64.0, 2_500)
    assert resumed.rows_per_s == pytest.approx(100), "what was there before is no speed"


def test_a_stalled_job_and_a_done_one_have_no_time_left() -> None:
    still = rate(45)
    for second in range(11, 60):
        still.add(float(second), 450)
    assert pace(NOW, still) == "750/3,000 rows"
    assert pace(replace(NOW, rows_done=3_000), rate(45)) == "3,000/3,000 rows · 45 rows/s"


def test_one_of_a_kind_is_shown_as_one_and_many_kinds_by_the_three_largest() -> None:
    one = replace(NOW, errors=1, errors_by_type={"null_text": 1}, chunks_parked=0)
    assert trouble(one) == "1 error row: null_text 1"
    many = replace(NOW, errors=10, errors_by_type={"a": 1, "b": 2, "c": 3, "d": 4}, workers=1)
    assert trouble(many).startswith("10 error rows: d 4, c 3, b 2, … · ")
    assert at_work(many).startswith("1 worker · ")


def test_stages_too_small_to_matter_are_left_out() -> None:
    assert stage_shares({"read": 0.001, "forward": 10.0}) == [("forward", pytest.approx(1.0, 1e-3))]
    assert stage_shares({}) == []


def shown(console: Console, snapshots: Iterator[Snapshot]) -> str:
    with JobProgress(console) as show:
        for snapshot in snapshots:
            show(snapshot)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_of_80_columns_shows_bar_percent_rate_and_errors() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    text = shown(console, iter([NOW, NOW]))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    frames = [line for line in plain.splitlines() if "rows" in line]
    assert any("running" in f and "25%" in f and "750/3,000 rows" in f for f in frames), frames
    lines = plain.splitlines()
    assert "  2 workers · forward 97%, tokenize 2%, write 1%" in lines
    assert "  10 error rows: null_text 7, invalid_text 3 · 1 chunk parked" in lines
    assert all(len(line) <= 80 for line in lines), "a line broke"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Ten seconds pass at each look."""
    now = [0.0]

    def later() -> float:
        now[0] += 10.0
        return now[0]

    monkeypatch.setattr(time, "monotonic", later)
    return now


def test_without_a_terminal_there_are_few_whole_lines_and_no_bar(clock: list[float]) -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    many = [replace(NOW, rows_done=700 + 90 * n) for n in range(7)]
    text = shown(console, iter(many))
    assert text == "".join(
        f"running: {seen:,}/3,000 rows · 9 rows/s · {left} left · 2 workers · forward 97%, "
        "tokenize 2%, write 1% · 10 error rows: null_text 7, invalid_text 3 · 1 chunk parked\n"
        for seen, left in ((930, "3 min 50 s"), (1_200, "3 min 20 s"))
    ), "a line each half minute, and no escape"


def test_without_a_terminal_a_short_job_is_quiet_and_trouble_is_shown_at_once() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    assert shown(console, iter([NOW, NOW])) == ""
    ill = replace(NOW, reason="chunk 3: store: no space")
    text = shown(console, iter([NOW, ill, ill]))
    assert text.count("\n") == 1
    assert "no space" in text


def test_committed_chunks_add_their_stages_to_the_live_counters() -> None:
    receipt = Receipt(
        chunk=0, rows=5, ok=5, errors=0, bytes=1, sha256="x", attempt="a", tokens=9,
        stages_s={"forward": 1.2344, "read": 0.01},
    )  # fmt: skip
    counters = redis_keys.counters_of(receipt)
    assert counters["stage_ms:forward"] == 1234
    assert counters["stage_ms:read"] == 10


def test_numbers_are_put_into_words_that_say_as_much_as_they_know() -> None:
    assert [plural(n, "row") for n in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]
    told = [short_time(s) for s in (0.0, 0.0004, 0.0084, 0.9994, 0.9996, 1.234)]
    assert told == ["< 1 ms", "< 1 ms", "8 ms", "999 ms", "1.00 s", "1.23 s"]


def test_a_job_that_we_have_just_ended_is_not_waited_for() -> None:
    assert pause_s(has_broker=True, ended=False) == TICK_S
    assert pause_s(has_broker=False, ended=False) == FILES_S
    assert pause_s(has_broker=True, ended=True) < TICK_S / 10


def test_rows_that_were_copied_are_told_at_the_end_and_in_the_status() -> None:
    ended = replace(NOW, state="finished", finished_s=10.0, rows_copied=600)
    lines = [
        "".join(p if isinstance(p, str) else p[0] for p in it) for it in summary(ended, 9.0, None)
    ]
    assert "690 ok (600 copied), 10 error" in lines[1]
    assert dict(lines_of(ended, 11.0))["copied"] == "600 rows, from an earlier output"
    assert "copied" not in dict(lines_of(NOW, 11.0))


def test_a_failed_job_names_the_log_of_its_workers_and_passes_on_what_a_host_lacks() -> None:
    failed = replace(NOW, state="failed", finished_s=10.0)
    with_log, without = (summary(failed, 9.0, None, log) for log in ("/state/workers-1.log", None))
    assert ("  log     /state/workers-1.log",) in with_log
    assert len(without) == len(with_log) - 1
    assert exit_code_of("failed", "missing_extra") == ExitCode.MISSING_EXTRA
    assert exit_code_of("failed", "timeout_error") == ExitCode.JOB_FAILED
