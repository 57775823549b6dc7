"""`headrace run` while its output's store is away, refuses, or wants other credentials."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.coordination.attempts import read_attempts
from headrace.settings import load_settings
from headrace.storage.open import open_store
from schemas.errors import ExitCode
from tests.acceptance.conftest import Say, Scale
from tests.acceptance.harness.fleet import lines
from tests.fake_jobs import write_corpus

ROWS, CHUNK = 300, 20


class Outage:
    """Decides for the proxy: everything well until some parts are there, then trouble for a while."""

    def __init__(self, after_parts: int, seconds: float) -> None:
        self.after_parts, self.seconds = after_parts, seconds
        self.began: float | None = None
        self.parts: set[str] = set()
        self.hit = 0
        self.begin: Callable[[], object] = lambda: None
        self.end: Callable[[], object] = lambda: None
        self.fault: Callable[[], str] = lambda: ""
        self._ended = False

    def __call__(self, method: str, path: str) -> str:
        now = time.monotonic()
        if method == "PUT" and "/data/part-" in path:
            self.parts.add(path)
        if self.began is None:
            if len(self.parts) > self.after_parts:
                self.began = now
                self.begin()
            return ""
        if now - self.began < self.seconds:
            self.hit += 1
            return self.fault()
        if not self._ended:
            self._ended = True
            self.end()
        return ""


@pytest.fixture
def run(tmp_path: Path, fault_proxy: Any, s3_bucket: str) -> Callable[..., tuple[int, str, str]]:
    """`headrace run` of a corpus into a bucket behind the proxy, with few attempts for each call."""
    corpus = tmp_path / "corpus.parquet"
    write_corpus(corpus, lines(ROWS), CHUNK)

    def go(*options: str, **extra: str) -> tuple[int, str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
        environment = kept | {
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "HEADRACE_S3_ENDPOINT_URL": fault_proxy.endpoint,
            "HEADRACE_STORAGE_ATTEMPTS": "2",
        }
        done = subprocess.run(
            [str(Path(sys.executable).parent / "headrace"), "run", str(corpus),
             "-o", f"s3://{s3_bucket}/out", "--task", "fake", "--workers", "1",
             "--chunk-rows", str(CHUNK), "--task-params", '{"ms_per_row": 3}', "--json", *options],
            env=environment | extra, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return go


def check_all_there(s3_server: Any, bucket: str, printed: str) -> None:
    """Finished, each row once, and no attempt was counted."""
    end = json.loads(printed)
    assert (end["state"], end["rows_done"]) == ("finished", ROWS)
    settings = load_settings(s3_endpoint_url=s3_server.endpoint)
    store = open_store(f"s3://{bucket}/out", settings)
    counted = [read_attempts(store, chunk) for chunk in range(ROWS // CHUNK)]
    assert counted == [[]] * (ROWS // CHUNK)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", ["503", "403"])
def test_21_a_store_that_is_away_or_refuses_for_a_while_is_waited_for(
    run: Any, fault_proxy: Any, s3_server: Any, s3_bucket: str, seed: int, scale: Scale, say: Say,
    kind: str,
) -> None:  # fmt: skip
    dice = random.Random(f"{seed} {kind}")
    outage = Outage(dice.randint(1, 8), scale.of(4, 30 if kind == "503" else 3))
    outage.fault = lambda: kind if dice.random() < 0.9 else "drop"
    fault_proxy.decide = outage
    code, out, err = run()
    assert code == ExitCode.OK, err
    check_all_there(s3_server, s3_bucket, out)
    assert outage.hit > 0
    say("21", f"seed {seed}: {kind} for {outage.seconds:g} s from part {outage.after_parts}: "
              f"{outage.hit} requests failed, finished, 0 attempts counted")  # fmt: skip


@pytest.mark.timeout(200)
def test_22_credentials_that_rotate_in_the_shared_file_are_read_again(
    run: Any, fault_proxy: Any, s3_server: Any, s3_bucket: str, tmp_path: Path, seed: int, say: Say,
) -> None:  # fmt: skip
    file = tmp_path / "credentials"

    def write(key: str) -> None:
        text = f"[default]\naws_access_key_id={key}\naws_secret_access_key=secret-of-{key}\n"
        (tmp_path / "fresh").write_text(text)
        (tmp_path / "fresh").replace(file)

    write("first")
    dice = random.Random(seed)
    # the old token is refused some seconds before the new one is in the file
    outage = Outage(dice.randint(1, 8), dice.uniform(0, 4))
    outage.begin = lambda: setattr(fault_proxy, "accepted_key", "second")
    outage.end = lambda: write("second")
    fault_proxy.accepted_key = "first"
    fault_proxy.decide = outage
    code, out, err = run(
        AWS_SHARED_CREDENTIALS_FILE=str(file), AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""
    )
    assert code == ExitCode.OK, err
    check_all_there(s3_server, s3_bucket, out)
    assert fault_proxy.accepted_key == "second"
    say("22", f"seed {seed}: token expired at part {outage.after_parts}, the new one "
              f"{outage.seconds:.1f} s later: finished, 0 attempts counted")  # fmt: skip


@pytest.mark.timeout(200)
def test_23_a_store_that_stays_away_is_given_up_and_resumed_later(
    run: Any, fault_proxy: Any, s3_server: Any, s3_bucket: str, seed: int, say: Say
) -> None:
    outage = Outage(random.Random(seed).randint(1, 8), 3_600)
    outage.fault = lambda: "503"
    fault_proxy.decide = outage
    began = time.monotonic()
    code, out, err = run("--give-up-after", "3s")
    assert code == ExitCode.STORAGE, err
    assert out == "" or "error" in json.loads(out)
    assert "waited 3 s for the store (--give-up-after)" in err + out
    assert "headrace resume" in err + out
    gave_up_s = time.monotonic() - began
    fault_proxy.decide = lambda method, path: ""
    code, out, err = run()
    assert code == ExitCode.OK, err
    check_all_there(s3_server, s3_bucket, out)
    say(
        "23",
        f"seed {seed}: a store that stays away: exit 21 after {gave_up_s:.0f} s, then run again",
    )
