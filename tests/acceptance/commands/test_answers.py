"""What commands answer: exit codes, hooks, refusals, and what they keep to themselves."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.redis_connection import connect
from schemas.errors import ExitCode
from schemas.names import output_layout
from tests.acceptance.harness.fake_runs import SLOW, fake, parts, slow
from tests.acceptance.harness.frozen import interrupt
from tests.conftest import wait_until
from tests.unit.tiny_models import save_model
from workers.devices.device import dtypes_of


def test_the_input_that_changed_is_refused_before_anything_is_computed(
    call: Any, start: Any, corpus: Path, tmp_path: Path, home: Path
) -> None:
    output = tmp_path / "out"
    job = slow(corpus, output, "--workers", "1")
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
