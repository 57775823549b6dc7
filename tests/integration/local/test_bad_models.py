"""A model that only its load shows to be broken: the cause is said wherever somebody looks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import ExitCode
from tests.unit.tiny_models import save_model

LOST = "ernie.encoder.layer.1.attention.output.LayerNorm.bias"
"""Of a family whose names are not known before the load: see `producers.models.needed_weights`."""
WORDS = f"lacks weights of its own architecture, which would be random: {LOST}"


def run(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`headrace run` with its state and caches in `home`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    places = {"XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache")}
    return subprocess.run(
        [sys.executable, "-c", "from producers.main import main; main()", "run",
         *map(str, arguments), "--text-column", "text", "--workers", "1"],
        env={**kept, **places, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "400"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_the_cause_of_a_failed_load_is_in_the_terminal_the_report_and_the_logs(
    tmp_path: Path,
) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_model(tmp_path / "model", "ernie", "SequenceClassification")
    weights = load_file(folder / "model.safetensors")
    del weights[LOST]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    corpus, out, home = tmp_path / "in.parquet", tmp_path / "out", tmp_path / "home"
    pq.write_table(pa.table({"text": ["good film"] * 40}), corpus, row_group_size=10)
    ended = run(home, corpus, "--model", folder, "--output", out, "--chunk-rows", "10")
    assert ended.returncode == ExitCode.MODEL, ended.stderr
    assert f"no worker can begin: {folder} {WORDS}" in ended.stdout
    assert WORDS in (out / "_report.html").read_text()
    assert json.loads((out / "_headrace/manifest.json").read_text())["cause"] == "model_error"
    logs = "".join(p.read_text() for p in (home / "state").rglob("*.log"))
    assert WORDS in logs
    assert '"event": "chunk.failed"' in logs
