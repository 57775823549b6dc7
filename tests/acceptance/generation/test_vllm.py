"""The real command with a stand-in for vLLM: a row that ends its process, one that it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ExitCode
from schemas.records.part_schema import META_ENGINE
from tests.unit.generation.peaked import VOCABULARY, save_peaked, words_of
from tests.unit.generation.vllm.environment import VERSION, python_with_vllm
from tests.unit.generation.vllm.stand_in.vllm import KILLS, REFUSED, next_token

ROWS, NEW = 40, 5
KILLER, REFUSER = 17, 31


def written(ids: list[int]) -> str:
    """The text that the stand-in writes behind a prompt."""
    found = list(ids)
    for _ in range(NEW):
        found.append(next_token(found[-1]))
    return words_of(found[len(ids) :])


@pytest.mark.timeout(300)
def test_a_row_that_ends_vllm_is_the_only_one_that_is_lost(tmp_path: Path) -> None:
    prompts = [[3 + n % 20, 3 + n // 20] for n in range(ROWS)]
    prompts[KILLER], prompts[REFUSER] = [3, KILLS], [4, REFUSED]
    texts = [words_of(ids) for ids in prompts]
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    model = save_peaked(tmp_path / "model", "llama")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    environment = kept | {
        "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "COLUMNS": "200",
    }  # fmt: skip
    done = subprocess.run(
        [Path(sys.executable).parent / "headrace", "run", "in.parquet", "-o", "out", "--task",
         "text-generation", "--engine", "vllm", "--vllm-python", python_with_vllm(tmp_path / "other"),
         "--model", str(model), "--max-new-tokens", str(NEW), "--workers", "1", "--device", "cpu"],
        env=environment, capture_output=True, text=True, timeout=280, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    (part,) = (tmp_path / "out" / "data").glob("*.parquet")
    rows = pq.read_table(part).to_pylist()
    errors = {at: row["error_type"] for at, row in enumerate(rows) if row["status"] == "error"}
    assert errors == {KILLER: "worker_lost", REFUSER: "invalid_row"}
    good = [at for at in range(ROWS) if at not in errors]
    assert [rows[at]["generated_text"] for at in good] == [written(prompts[at]) for at in good]
    assert {rows[at]["finish_reason"] for at in good} == {"length"}
    engine = pq.read_metadata(part).metadata[META_ENGINE.encode()]
    assert engine == f"vllm (vllm {VERSION})".encode()
    attempts = [json.loads(it.read_text()) for it in (tmp_path / "out").rglob("attempts/*.json")]
    assert {it["cause"] for it in attempts} == {"worker_lost"}
    assert min(len(it["rows"]) for it in attempts) == 1, "the search ended at one row"
    assert all(KILLER in it["rows"] for it in attempts)
    assert VOCABULARY[KILLS] in texts[KILLER]
