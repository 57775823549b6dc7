"""An option is made from the setting it sets; its description is written once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.process.setting_options import SETTINGS, help_of
from headrace.settings import Settings, load_settings
from producers.cli import app
from producers.submission.repeat import NOT_REPEATED, repeated_settings
from schemas.records.job import job_id
from tests.unit.command_groups import group_of
from tests.unit.small_job import fake_settings, prepare_small, submit, write_input
from workers.cli import app as worker_app

JOB_OPTIONS = [name for name, it in SETTINGS.items() if it.group is not None]


def options(door: Any, command: str) -> dict[str, Any]:
    return {
        p.name: p for p in group_of(door).commands[command].params if p.param_type_name == "option"
    }


@pytest.mark.parametrize("name", JOB_OPTIONS)
def test_a_job_option_says_what_its_setting_says(name: str) -> None:
    for command in ("run", "submit", "plan"):
        option = options(app, command)[name]
        assert option.help == help_of(SETTINGS[name])
        assert option.default is None, "what was not given is left to file and environment"
    assert Settings.model_fields[name].description == SETTINGS[name].help


def test_flags_keep_their_names() -> None:
    run = options(app, "run")
    assert run["broker"].opts == ["--broker"]
    assert (run["s3_path_style"].opts, run["s3_path_style"].secondary_opts) == (
        ["--s3-path-style"],
        ["--s3-virtual-host"],
    )
    assert (run["allow_pickle"].opts, run["allow_pickle"].secondary_opts) == (
        ["--allow-pickle"],
        [],
    )
    fleet = options(worker_app, "fleet")
    assert [fleet[name].opts for name in ("broker_url", "min_workers", "lease_s")] == [
        ["--broker"],
        ["--min"],
        ["--lease-s"],
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("precision_rows", "rows of the corpus used to check precision; default: 1,000"),
        ("id_column", "column with row ids; default: the row's number in its file"),
        ("trust_remote_code", "let the model run its own code (read it first)"),
    ],
)
def test_help_ends_with_the_default_once(name: str, words: str) -> None:
    assert help_of(SETTINGS[name]) == words


def test_a_retry_repeats_every_option_of_the_job_or_says_why_not(tmp_path: Path) -> None:
    corpus = write_input(tmp_path / "in.parquet", ["a", "b"] * 8, stars=list(range(16)))
    _, job = submit(
        [corpus], tmp_path / "out", id_column="id", columns="stars", limit=12, priority=7,
        max_attempts=9, error_threshold=0.25, batch_tokens=512, queue="nights", max_length=32,
        task_params={"label_every": 3},
    )  # fmt: skip
    again = repeated_settings(job)
    assert set(JOB_OPTIONS) == (again.keys() | NOT_REPEATED.keys()) & set(JOB_OPTIONS)
    assert not again.keys() & NOT_REPEATED.keys()
    settings = load_settings(**again)
    kept = ("priority", "max_attempts", "error_threshold", "batch_tokens", "queue", "limit")
    assert [getattr(settings, name) for name in kept] == [7, 9, 0.25, 512, "nights", 12]
    prepared = prepare_small([corpus], tmp_path / "other", fake_settings(**again))
    assert job_id(prepared.spec) == job.id
