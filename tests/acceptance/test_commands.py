"""The commands as a user runs them: real commands, real processes, real signals."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.redis_connection import connect
from schemas.errors import ExitCode
from schemas.names import output_layout
from tests.acceptance.harness.frozen import frozen, interrupt
from tests.conftest import wait_until
from tests.unit.tiny_models import save_model
from workers.devices.device import dtypes_of

BIN = Path(sys.executable).parent
SLOW = '{"ms_per_row": 8}'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of its own for the registry, the logs and the caches."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    return kept | {
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = 600
    texts: list[str | None] = [f"row {i} says hello" for i in range(rows)]
    texts[7] = None
    path = tmp_path / "corpus.parquet"
    table = pa.table({"name": [f"n-{i}" for i in range(rows)], "text": texts, "stars": range(rows)})
    pq.write_table(table, path, row_group_size=100)
    return path


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def launch(*command: str, **extra: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            env=environment | extra, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def call(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    def run(*command: str, **extra: str) -> tuple[int, str, str]:
        process = start(*command, **extra)
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err

    return run


def fake(corpus: Path, output: Path, *more: str) -> list[str]:
    return [str(corpus), "--output", str(output), "--task", "fake", "--id-column", "name", *more]


def parts(output: Path) -> int:
    return len(list((output / "data").glob("*.parquet"))) if (output / "data").exists() else 0


def test_a_run_gives_what_every_parquet_reader_reads(
    call: Any, corpus: Path, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model", "bert", "SequenceClassification")
    output = tmp_path / "out"
    code, out, err = call(
        "headrace", "run", str(corpus), "-o", str(output), "--model", str(model),
        "--id-column", "name", "--columns", "stars", "--scores", "--workers", "1", "--json",
    )  # fmt: skip
    assert code == ExitCode.OK, err
    told = json.loads(out)
    assert (told["state"], told["rows"], told["ok"], told["errors"]) == ("finished", 600, 599, 1)
    assert told["errors_by_type"] == {"null_text": 1}

    by_pandas = pd.read_parquet(output / "data")
    by_polars = pl.read_parquet(output / "data" / "*.parquet")
    by_duckdb = duckdb.sql(f"select * from '{output}/data/*.parquet'").fetchall()
    assert len(by_pandas) == len(by_polars) == len(by_duckdb) == 600
    assert (
        by_pandas["name"].tolist() == by_polars["name"].to_list() == [f"n-{i}" for i in range(600)]
    )
    assert by_pandas["stars"].tolist() == list(range(600))
    assert by_pandas.loc[7, "status"] == "error"
    assert pd.isna(by_pandas.loc[7, "predicted_label"])
    assert by_pandas["score"].between(0, 1).sum() == 599
    assert len(by_pandas.loc[0, "scores"]) == len({s["label"] for s in by_pandas.loc[0, "scores"]})

    code, out, _ = call("headrace", "verify", str(output), "--json")
    assert (code, json.loads(out)["verdict"]) == (ExitCode.OK, "verified")
    code, out, _ = call("headrace", "explain", str(output), "--id", "n-7")
    assert code == ExitCode.OK
    assert "null_text" in out
    assert (output / "_report.html").exists()


def test_ctrl_c_drains_says_how_to_go_on_and_resume_computes_what_is_missing(
    start: Any, call: Any, corpus: Path, tmp_path: Path, home: Path
) -> None:
    output = tmp_path / "out"
    job = fake(corpus, output, "--task-params", SLOW, "--chunk-rows", "50", "--workers", "1")
    run = start("headrace", "run", *job)
    wait_until(lambda: parts(output) >= 2, 60)
    notes = home / "state" / "headrace" / "running"
    assert len(list(notes.iterdir())) == 1, "other terminals find the run's own Redis"
    watch = start("headrace", "watch", str(output))
    err = interrupt(run, home)
    assert run.returncode == ExitCode.INTERRUPTED
    assert f"headrace resume {output}" in err
    assert list(notes.iterdir()) == []
    before = {p.name: p.stat().st_mtime_ns for p in (output / "data").iterdir()}
    assert 2 <= len(before) < 12

    code, out, err = call("headrace", "resume", str(output), "--json")
    assert code == ExitCode.OK, err
    assert json.loads(out)["state"] == "finished"
    assert all((output / "data" / n).stat().st_mtime_ns == t for n, t in before.items())
    assert parts(output) == 12
    assert "600 of 600" in watch.communicate(timeout=60)[0]
    assert call("headrace", "verify", str(output))[0] == ExitCode.OK


def test_a_killed_run_leaves_no_process_behind_and_can_be_run_again(
    start: Any, call: Any, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = fake(corpus, output, "--task-params", SLOW, "--chunk-rows", "50")
    run = start("headrace", "run", *command)
    wait_until(lambda: parts(output) >= 1, 60)
    family = psutil.Process(run.pid).children(recursive=True)
    assert family
    run.kill()
    run.wait()
    wait_until(lambda: not any(p.is_running() and p.status() != "zombie" for p in family), 60)
    code, out, err = call("headrace", "run", *command, "--json")
    assert code == ExitCode.OK, err
    assert json.loads(out)["rows_done"] == 600
    assert call("headrace", "verify", str(output))[0] == ExitCode.OK


def test_a_job_is_submitted_followed_and_finished_by_three_processes(
    start: Any, call: Any, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with EmbeddedRedis() as server:
        broker = {"HEADRACE_BROKER_URL": server.url}
        code, out, err = call(
            "headrace", "submit", *fake(corpus, output, "--chunk-rows", "50"), **broker
        )
        assert code == ExitCode.OK, err
        job = out.strip()
        assert "no controller is running" in err
        start("headrace", "controller", **broker)
        start("headrace-worker", "start", "--workers", "1", **broker)
        code, out, err = call("headrace", "watch", job, **broker)
        assert code == ExitCode.OK, err
        assert "600 of 600" in out
        code, out, _ = call("headrace", "list", "--json", **broker)
        assert [(j["job"], j["state"]) for j in json.loads(out)] == [(job, "finished")]
        code, out, _ = call("headrace", "status", job[:6], "--json", **broker)
        assert json.loads(out)["state"] == "finished"
        wait_until((output / output_layout.REPORT).exists, 60)  # by the controller


def test_a_cancelled_job_ends_and_resumes(
    start: Any, call: Any, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with EmbeddedRedis() as server:
        broker = {"HEADRACE_BROKER_URL": server.url}
        worker = start("headrace-worker", "start", "--workers", "1", **broker)
        job = fake(corpus, output, "--task-params", SLOW, "--chunk-rows", "50")
        submit = start("headrace", "submit", *job, "--wait", **broker)
        wait_until(lambda: parts(output) >= 1, 60)
        with frozen(worker):  # or the job may be over before the command has started
            assert call("headrace", "cancel", str(output), **broker)[0] == ExitCode.OK
        submit.communicate(timeout=60)
        assert submit.returncode == ExitCode.JOB_CANCELLED
        assert parts(output) < 12
        code, out, err = call("headrace", "resume", str(output), "--wait", "--json", **broker)
        assert code == ExitCode.OK, err
        assert json.loads(out)["rows_done"] == 600


def test_the_input_that_changed_is_refused_before_anything_is_computed(
    call: Any, start: Any, corpus: Path, tmp_path: Path, home: Path
) -> None:
    output = tmp_path / "out"
    job = fake(corpus, output, "--task-params", SLOW, "--chunk-rows", "50", "--workers", "1")
    run = start("headrace", "run", *job)
    wait_until(lambda: parts(output) >= 1, 60)
    interrupt(run, home)
    pq.write_table(pq.ParquetFile(corpus).read().slice(0, 500), corpus)
    before = parts(output)
    code, _, err = call("headrace", "resume", str(output))
    assert code == ExitCode.INPUT_CHANGED
    assert "changed since" in err
    assert parts(output) == before


def test_a_broker_that_is_away_or_locked_has_its_own_exit_code(
    call: Any, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    for url in ("redis://127.0.0.1:1/0", "redis+socket:///nowhere/redis.sock"):
        code, _, err = call("headrace", "submit", *fake(corpus, output, "--broker", url))
        assert code == ExitCode.BROKER
        assert "Redis at" in err
    assert not output.exists()


def test_the_hook_gets_how_the_job_ended(call: Any, corpus: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    hook = tmp_path / "hook.sh"
    hook.write_text(f"#!/bin/sh\ncat > {told}.part && mv {told}.part {told}\n")
    hook.chmod(0o755)
    code, _, err = call(
        "headrace",
        "run",
        *fake(corpus, tmp_path / "out", "--on-finish", str(hook), "--workers", "1"),
    )
    assert code == ExitCode.OK, err
    facts = json.loads(told.read_text())
    assert (facts["state"], facts["rows"], facts["errors"]) == ("finished", 600, 1)


def test_a_night_without_rows_ends_well_where_that_is_allowed(call: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    command = ("headrace", "run", *fake(tmp_path / "in", tmp_path / "out"))
    assert call(*command)[0] == ExitCode.INPUT_NOT_FOUND
    code, out, err = call(*command, "--allow-empty", "--json")
    assert code == ExitCode.OK, err
    assert (json.loads(out)["state"], json.loads(out)["rows"]) == ("finished", 0)
    for name in (output_layout.MANIFEST, output_layout.SUCCESS, output_layout.REPORT):
        assert (tmp_path / "out" / name).is_file()
    assert call("headrace", "verify", str(tmp_path / "out"))[0] == ExitCode.OK


@pytest.mark.parametrize("command", [("resume",), ("retry", "--parked"), ("retry", "--errors")])
def test_resume_and_retry_wait_for_a_store_as_long_as_they_are_told(
    call: Any, command: tuple[str, ...]
) -> None:
    away = {"HEADRACE_S3_ENDPOINT_URL": "http://127.0.0.1:1", "HEADRACE_STORAGE_ATTEMPTS": "1",
            "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}  # fmt: skip
    more = ("--output", "s3://bucket/new") if "--errors" in command else ()
    code, _, err = call(
        "headrace", *command, "s3://bucket/out", *more, "--give-up-after", "1s", **away
    )
    assert code == ExitCode.STORAGE, err
    assert "at most 1 s (--give-up-after)" in err


def test_passwords_and_hooks_stand_in_no_file_no_log_and_no_list_of_processes(
    start: Any, corpus: Path, tmp_path: Path, home: Path
) -> None:
    told, hook, output = tmp_path / "told", tmp_path / "hook.sh", tmp_path / "out"
    hook.write_text(f'#!/bin/sh\necho "$1" > {told}\n')
    hook.chmod(0o755)
    with EmbeddedRedis(tmp_path / "redis") as server:
        with connect(server.url, name="test") as client:
            client.config_set("requirepass", "hush-redis")
        run = start(
            "headrace", "run", *fake(corpus, output, "--task-params", SLOW, "--workers", "1"),
            HEADRACE_BROKER_URL=server.url.replace("://", "://:hush-redis@"),
            HEADRACE_ON_FINISH=f"{hook} hush-hook", HEADRACE_LOG_LEVEL="debug",
        )  # fmt: skip
        wait_until(lambda: parts(output) >= 1, 60, "the first part")
        family = psutil.Process(run.pid).children(recursive=True)
        words = [" ".join(p.cmdline()) for p in (psutil.Process(run.pid), *family)]
        out, err = run.communicate(timeout=60)
    assert run.returncode == ExitCode.OK, err
    assert told.read_text() == "hush-hook\n"
    assert len(words) >= 4  # the command, the fleet, a worker and its child
    written = [
        p.read_bytes() for folder in (output, home) for p in folder.rglob("*") if p.is_file()
    ]
    assert len(written) > 8
    for place in (*(w.encode() for w in words), *written, out.encode(), err.encode()):
        assert b"hush" not in place


def test_what_was_scored_before_is_copied_and_error_rows_can_be_tried_again(
    call: Any, corpus: Path, tmp_path: Path
) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert call("headrace", "run", *fake(corpus, first, "--workers", "1"))[0] == ExitCode.OK
    table = pq.ParquetFile(corpus).read()
    fresh = pa.table({"name": ["x", "y"], "text": ["new one", "new two"], "stars": [1, 2]})
    pq.write_table(pa.concat_tables([table, fresh]), corpus)

    code, _, err = call(
        "headrace", "run", *fake(corpus, second, "--workers", "1", "--reuse", str(first))
    )
    assert code == ExitCode.OK, err
    totals = json.loads((second / "_headrace" / "manifest.json").read_text())["totals"]
    assert (totals["rows"], totals["reused"], totals["computed"], totals["errors"]) == (
        602,
        599,
        2,
        1,
    )
    rows = pd.read_parquet(second / "data").set_index("name")
    before = pd.read_parquet(first / "data").set_index("name")
    assert rows.loc["n-5", "digest"] == before.loc["n-5", "digest"]
    assert rows["digest"].notna().sum() == 601
    assert call("headrace", "verify", str(second))[0] == ExitCode.OK

    code, _, err = call(
        "headrace", "retry", "--errors", str(second), "-o", str(third), "--workers", "1"
    )
    assert code == ExitCode.OK, err
    totals = json.loads((third / "_headrace" / "manifest.json").read_text())["totals"]
    assert (totals["reused"], totals["computed"], totals["errors"]) == (601, 0, 1)
    assert call("headrace", "verify", str(third))[0] == ExitCode.OK

    other = fake(corpus, tmp_path / "other", "--reuse", str(first), "--max-length", "9")
    code, _, err = call("headrace", "run", *other)
    assert code == ExitCode.CONFIG
    assert "max-length" in err


def test_int8_that_moves_labels_is_refused_until_the_user_accepts_it(
    call: Any, corpus: Path, tmp_path: Path
) -> None:
    words = [
        "the",
        "weather",
        "is",
        "fine",
        "a",
        "good",
        "and",
        "a",
        "bad",
        "film",
        "in",
        "paris",
        "hello",
        "very",
        "long",
    ]
    chance = random.Random(5)
    texts = [" ".join(chance.choices(words, k=7)) for _ in range(300)]
    pq.write_table(pa.table({"name": range(300), "text": texts}), corpus)
    # labels of random weights lie close together: rounding moves some over the border
    model = save_model(tmp_path / "model", "bert", "SequenceClassification", num_labels=60)
    output = tmp_path / "out"
    job = [str(corpus), "-o", str(output), "--model", str(model), "--dtype", "int8"]
    can = "int8" in dtypes_of("cpu")  # else it cannot be checked here, which is refused as well

    code, _, err = call("headrace", "run", *job)
    assert code == ExitCode.PRECISION, err
    assert ("labels as in float32" if can else "not checked against float32") in err
    assert "--accept-precision" in err
    assert not (output / "_headrace" / "job.json").exists()

    code, out, err = call("headrace", "plan", *job, "--check-precision", "--json")
    assert code == ExitCode.PRECISION, err
    checked = json.loads(out)["precision"]
    assert (checked["agreement"] is not None) == can
    if can:
        assert 0.1 < checked["agreement"]["share"] < 0.99

    with EmbeddedRedis() as server:
        code, _, err = call(
            "headrace", "submit", *job, "--accept-precision", "--broker", server.url
        )
    assert code == ExitCode.OK, err
    assert "accepted" in err
    kept = json.loads((output / "_headrace" / "job.json").read_text())["precision"]
    assert kept == {**checked, "accepted": True}
