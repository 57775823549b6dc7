"""The real command with an API in place of a model: answers, errors, and a key that is nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ExitCode
from schemas.records.part_schema import META_ENGINE, META_MODEL
from tests.unit.endpoint.api import KEY, serving


@pytest.mark.timeout(300)
def test_a_job_asks_an_api_and_keeps_no_key(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(20)]
    pq.write_table(pa.table({"t": [*texts, "once 429", "status 400"]}), tmp_path / "in.parquet")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    environment = kept | {
        "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HEADRACE_ENDPOINT_KEY": KEY, "COLUMNS": "200",
    }  # fmt: skip
    with serving() as api:
        done = subprocess.run(
            [Path(sys.executable).parent / "headrace", "run", "in.parquet", "-o", "out", "--task",
             "text-generation", "--engine", "endpoint", "--endpoint", api.address, "--model", "m1",
             "--prompt", "{t}", "--max-new-tokens", "30", "--workers", "1"],
            env=environment, capture_output=True, text=True, timeout=200, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    (part,) = (tmp_path / "out" / "data").glob("*.parquet")
    rows = pq.read_table(part).to_pylist()
    assert [row["generated_text"] for row in rows] == [*(t[::-1] for t in texts), "924 ecno", None]
    assert rows[-1]["error_message"] == "the endpoint answered 400: this is not for me"
    assert [row["n_tokens"] for row in rows[:-1]] == [*map(len, texts), 8]
    facts = pq.read_metadata(part).metadata
    assert facts[META_ENGINE.encode()] == b"endpoint (OpenAI chat/completions)"
    assert facts[META_MODEL.encode()] == b"m1"
    assert api.keys == {f"Bearer {KEY}"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    assert KEY not in done.stdout + done.stderr
