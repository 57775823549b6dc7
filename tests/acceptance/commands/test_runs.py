"""Jobs run, interrupted, cancelled and resumed as a user does: real commands, processes and signals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import psutil

from headrace.queue.embedded_redis import EmbeddedRedis
from schemas.errors import ExitCode
from schemas.names import output_layout
from tests.acceptance.harness.fake_runs import fake, parts, slow
from tests.acceptance.harness.frozen import frozen, interrupt
from tests.conftest import wait_until
from tests.unit.tiny_models import save_model


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
    job = slow(corpus, output, "--workers", "1")
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
    command = slow(corpus, output)
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
        job = slow(corpus, output)
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
