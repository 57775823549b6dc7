"""`python -m benchmarks` from start to end, small: each in its own process, results kept."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.fleet.span_cost import MODES, handling_ms

LIMIT_S = 290  # seconds on a quiet machine; each contestant imports torch in a process of its own
ROOT = Path(__file__).parents[3]


def _bench(results: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    small = ["--rows", "40", "--sample-rows", "8", "--size", "tiny", "--threads", "1"]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--resume", str(results), *small, *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip


@pytest.mark.timeout(300)
def test_rounds_are_added_to_results_and_a_missing_peer_is_named(tmp_path: Path) -> None:
    results = tmp_path / "r.json"
    first = _bench(results, "--only", "headrace", "onnxruntime-fused-2048")
    assert first.returncode == 0, first.stderr
    again = _bench(results, "--only", "pipeline-8", "sorted-loop")
    assert again.returncode == 0, again.stderr
    found = json.loads(results.read_text())
    assert {name: len(runs) for name, runs in found["runs"].items()} == {
        "headrace": 1, "sorted-loop": 1, "pipeline-8": 1
    }  # fmt: skip
    assert found["missing"] == {"onnxruntime-fused-2048": "not installed: onnxruntime"}
    ours, loop, piped = (found["runs"][n][-1] for n in ("headrace", "sorted-loop", "pipeline-8"))
    assert ours["rows"] == loop["rows"] == 40
    assert piped["rows"] == 8
    assert ours["tokens"] == loop["tokens"] == ours["computed"] < loop["computed"]
    assert 0 < ours["flops"] < loop["flops"]
    assert "| headrace | 1 |" in again.stdout
    assert "over the pipeline at 8" in again.stdout


@pytest.mark.timeout(300)
def test_the_matrix_does_every_model_and_length_in_a_process_a_contestant(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "benchmarks.gpu.matrix", "--sizes", "decoder-tiny", "--lengths", "0",
        "32", "--tokens", "decoder-tiny=1400", "--threads", "1", "--rounds", "1", "--inputs",
        str(tmp_path / "inputs"), "--resume", str(tmp_path / "m.json"),
    ]  # fmt: skip

    def run(*flags: str) -> str:
        done = subprocess.run(
            [*command, *flags], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("--prepare-only", "corpora")
    assert len(list((tmp_path / "inputs" / "corpora").iterdir())) == 4
    assert not (tmp_path / "inputs" / "models").exists()
    run("--only", "ceiling", "headrace")
    shown = run("--only", "headrace", "pipeline-8")  # results that are there get another round
    found = json.loads((tmp_path / "m.json").read_text())
    counts = {
        key: {name: len(r) for name, r in each.items()} for key, each in found["runs"].items()
    }
    both = {"headrace": 2, "pipeline-8": 1}
    assert counts == {
        "decoder-tiny": {"ceiling": 1}, "decoder-tiny-mix": both, "decoder-tiny-32": both
    }  # fmt: skip
    facts = found["facts"]["cells"]["decoder-tiny-mix"]
    ours = found["runs"]["decoder-tiny-mix"]["headrace"][0]
    assert (ours["rows"], ours["tokens"]) == (facts["rows"], facts["tokens"])
    assert 0 < ours["flops"] <= facts["useful_flops"]
    assert found["runs"]["decoder-tiny-32"]["pipeline-8"][0]["rows"] == 8
    assert "| decoder-tiny | mix | 0." in shown


@pytest.mark.timeout(300)
def test_growth_counts_what_a_job_asks_of_redis(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "benchmarks.growth.growth", "--rows", "300", "--billion", "--billion-rows",
        "1000000", "--resume", str(tmp_path / "g.json"), "--scratch", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "g.json").read_text())
    point = found["rows"][0]
    assert (point["x"], point["job_rows"], point["chunks"]) == (300, 300, 1)
    assert point["redis_commands"] > 20
    assert point["worker_mb"] > 50
    assert found["billion"]["rows"] == 1_000_000
    assert found["billion"]["chunks"] == 500
    assert 0 < found["billion"]["messages"] <= 500


def test_what_the_spans_of_a_chunk_take_is_measured_in_every_mode() -> None:
    with ExitStack() as stack:
        found = handling_ms(stack, chunks=3)
    assert tuple(found) == MODES
    assert 0 < found["off"] < found["on"]
