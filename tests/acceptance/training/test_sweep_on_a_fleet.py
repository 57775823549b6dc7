"""A sweep through workers that stand: submitted at once, trained by them, and compared at the end."""

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
from schemas.names import output_layout
from schemas.records.model_version import ModelVersion
from tests.acceptance.conftest import MakeFleet
from tests.unit.training.made_rows import made_texts

BIN = Path(sys.executable).parent
LIMIT_S = 300


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_sweep_is_trained_by_the_fleet_and_registers_its_best(
    make_fleet: MakeFleet, tmp_path: Path
) -> None:
    texts, labels = made_texts(120)
    rows = tmp_path / "labelled.parquet"
    pq.write_table(pa.table({"text": texts, "label": labels}), rows)
    fleet = make_fleet()
    fleet.start(1)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    kept |= {"XDG_STATE_HOME": str(tmp_path / "state"), "HEADRACE_BROKER_URL": fleet.url}
    output, registry = tmp_path / "sweep", tmp_path / "registry"

    def train(*more: str) -> subprocess.CompletedProcess[str]:
        words = [
            "train", str(rows), "--from-scratch", "--size", "1x32x200", "--epochs", "4",
            "--validation", "0.25", "--output", str(output), "--json", "--fleet",
            "--sweep", "learning_rate=1e-6,1e-2", *more,
        ]  # fmt: skip
        return subprocess.run(
            [str(BIN / "headrace"), *words], env=kept, capture_output=True, text=True,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip

    refused = train("--register", "reviews", "--model-registry", str(registry))
    assert (refused.returncode, "add --wait" in refused.stdout) == (ExitCode.CONFIG, True)
    submitted = train()
    assert submitted.returncode == ExitCode.OK, submitted.stderr
    points = json.loads(submitted.stdout)["points"]
    assert [Path(p["output"]).joinpath(output_layout.JOB).exists() for p in points] == [True, True]
    assert [p["settings"] for p in points] == [{"learning_rate": 1e-6}, {"learning_rate": 1e-2}]
    done = train("--wait", "--register", "reviews", "--model-registry", str(registry))
    assert done.returncode == ExitCode.OK, f"{done.stderr}\n{fleet.last_words()}"
    found = json.loads(done.stdout)  # one object
    scores = [point["scores"]["macro_f1"] for point in found["points"]]
    assert (len(scores), found["best"]) == (2, scores.index(max(scores)))
    version = ModelVersion.model_validate(found["version"])
    assert version.model.uri == found["points"][found["best"]]["model"]
    assert found["points"] == json.loads((output / output_layout.SWEEP).read_text())["points"]
