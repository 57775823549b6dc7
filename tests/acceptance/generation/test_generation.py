"""The real command on a job that generates: a worker is killed, and the texts are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace.tasks.contract import LoadRequest
from schemas.errors import ExitCode
from schemas.names import telemetry as names
from schemas.records.part_schema import META_ENGINE
from tests.conftest import OtlpReceiver, receive_otlp
from tests.unit.generation.peaked import examples, save_peaked, words_of
from workers.tasks.generation import TextGeneration

BIN = Path(sys.executable).parent


PARAMS = {"max_new_tokens": 8, "temperature": 1.2, "seed": 3}


@pytest.mark.timeout(400)
def test_a_killed_worker_changes_no_sampled_text(tmp_path: Path) -> None:
    with receive_otlp() as collector:
        _kill_and_compare(tmp_path, collector)


def _kill_and_compare(tmp_path: Path, collector: OtlpReceiver) -> None:
    save_peaked(tmp_path / "model", "llama")
    texts = [words_of(prompt) for prompt, _ in examples(40, 9)]
    corpus = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"a": texts, "b": ["w1"] * 39 + ["w2 " * 80]}), corpus)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    environment = kept | {
        "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "COLUMNS": "200", "HEADRACE_FAULT": f"kill:forwarded:1:{tmp_path / 'flag'}",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{collector.endpoint}/v1/metrics",
        "OTEL_METRICS_EXPORTER": "otlp",
    }  # fmt: skip

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "headrace", *words], env=environment, capture_output=True, text=True,
            timeout=300, cwd=tmp_path,
        )  # fmt: skip

    done = command(
        "run", str(corpus), "-o", "out", "--task", "text-generation", "--model", "model",
        "--prompt", "{a} {b}", "--workers", "1",
        *(f"--{name.replace('_', '-')}={value}" for name, value in PARAMS.items()),
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert (tmp_path / "flag").exists()  # the worker was killed once
    (part,) = (tmp_path / "out" / "data").glob("*.parquet")
    rows = pq.read_table(part).to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 39 + ["error"]
    assert [row["generated_text"] for row in rows[:-1]] == _alone(
        tmp_path / "model", [f"{text} w1" for text in texts[:-1]]
    )
    _assert_counted(headrace.open(tmp_path / "out").traces().to_table(), rows[:-1])
    _assert_sent(collector, rows[:-1])
    engine = pq.read_metadata(part).metadata[META_ENGINE.encode()]
    assert engine.startswith(b"transformers (transformers ")
    assert rows[0]["generated_text"] in command("explain", "out", "--id", "0").stdout


def _assert_counted(spans: pa.Table, rows: list[dict[str, Any]]) -> None:
    """The attempt that was committed has tokens in and out, speed and the first token."""
    (root,) = (
        span for span in spans.to_pylist()
        if span["name"].startswith("process") and span["status_code"] == "OK"
    )  # fmt: skip
    found = dict(root["attributes"])
    assert int(found["headrace.generated_tokens"]) == sum(row["n_generated"] for row in rows)
    assert int(found["headrace.prompt_tokens"]) == sum(row["n_tokens"] for row in rows)
    assert float(found["headrace.generated_tokens_per_s"]) > 0
    assert 0 < float(found["headrace.time_to_first_token_s"]) < 60


def _assert_sent(collector: OtlpReceiver, rows: list[dict[str, Any]]) -> None:
    """The same as metrics."""
    last = {metric.name: metric for metric in collector.metrics}
    assert {names.GENERATION_TOKENS, names.GENERATION_SPEED, names.FIRST_TOKEN} <= set(last)
    tokens = {
        point.attributes[0].value.string_value: point.as_double or point.as_int
        for point in last[names.GENERATION_TOKENS].sum.data_points
    }
    assert tokens == {
        "in": sum(row["n_tokens"] for row in rows), "out": sum(row["n_generated"] for row in rows),
    }  # fmt: skip
    (first,) = last[names.FIRST_TOKEN].histogram.data_points
    assert first.count == len(rows)


def _alone(model: Path, prompts: list[str]) -> list[str]:
    """The texts of the same settings, one prompt after another, in this process."""
    task = TextGeneration()
    task.load(LoadRequest(str(model), "cpu", "float32", None, PARAMS, engine="transformers"))
    rows = [task.encode([prompt]) for prompt in prompts]
    return [task.forward(row)[0].text for row in rows]
