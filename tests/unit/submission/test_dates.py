"""Dates in paths: which words there are, and that they are filled in once."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from headrace.output.plan_file import PlanTable
from producers.commands.session import open_session, with_dates
from producers.submission.dates import fill_dates, logical_date
from producers.submission.prepare import prepare
from schemas.errors import ConfigError, InputNotFound
from tests.unit.small_job import CPU, fake_settings, submit, write_input

DAY = date(2026, 3, 1)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://b/day={date}/", "s3://b/day=2026-03-01/"),
        ("/x/{yesterday}/{date}", "/x/2026-02-28/2026-03-01"),
        ("/x/{date-7}", "/x/2026-02-22"),
        ("/x/{date+1}", "/x/2026-03-02"),
        ("/x/{a,b}/{2}", "/x/{a,b}/{2}"),
    ],
)
def test_words_in_braces_become_dates(path: str, expected: str) -> None:
    assert fill_dates(path, DAY) == expected


@pytest.mark.parametrize("word", ["day", "dates", "date-", "Date", "date-7d", "date-99999"])
def test_another_word_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"means nothing; known are \{date\}"):
        fill_dates(f"/x/{{{word}}}", DAY)


def test_a_logical_date_is_given_or_is_today() -> None:
    assert logical_date(None, DAY) == DAY
    assert logical_date("2025-12-31", DAY) == date(2025, 12, 31)
    with pytest.raises(ConfigError, match=r"--date 31\.12"):
        logical_date("31.12.", DAY)


def test_every_path_of_a_command_is_of_the_same_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"date": "2026-03-01", "reuse": "/out/{yesterday}", "wait_for": "/in/{date}/_SUCCESS"}
    session, inputs, outputs = with_dates(
        open_session({**flags, "model": "s3://m/{date-1}"}), ["/in/{date}"], ["/out/{date}"]
    )
    settings = session.settings
    assert (settings.reuse, settings.wait_for, settings.model, inputs, outputs) == (
        "/out/2026-02-28", "/in/2026-03-01/_SUCCESS", "s3://m/2026-02-28",
        ["/in/2026-03-01"], ["/out/2026-03-01"],
    )  # fmt: skip
    literal = replace(session, settings=settings.model_copy(update={"literal": True}))
    assert with_dates(literal, ["/in/{date}"], [])[1] == ["/in/{date}"]


def test_a_retry_reads_the_files_of_the_plan_and_no_others(tmp_path: Path) -> None:
    write_input(tmp_path / "in/a.parquet", ["one", "two"])
    store, job = submit([tmp_path / "in"], tmp_path / "out")
    write_input(tmp_path / "in/b.parquet", ["came later"])
    files = PlanTable.load(store).files

    def again() -> str:
        return prepare(
            fake_settings(), job.inputs.patterns, str(tmp_path / "new"), device_hint=CPU,
            workers_hint=1, planned=files,
        ).id  # fmt: skip

    assert again() == job.id
    (tmp_path / "in/a.parquet").unlink()
    with pytest.raises(InputNotFound, match=r"a\.parquet, which was planned"):
        again()
