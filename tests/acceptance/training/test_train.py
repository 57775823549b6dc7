"""Training as a person runs it: real commands and workers, killed with SIGKILL and SIGTERM."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import ExitCode
from schemas.names import output_layout
from schemas.records.training import TrainingResult
from tests.acceptance.conftest import Scale
from tests.conftest import wait_until
from tests.unit.tiny_models import save_model
from tests.unit.training.made_rows import made_texts

BIN = Path(sys.executable).parent
ROWS = 240
LIMIT_S = 240
REFUSED_S = 5.0


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    return kept | {
        "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache"),
        "HF_HUB_OFFLINE": "1", "COLUMNS": "200",
    }  # fmt: skip


@pytest.fixture(scope="module")
def labelled(home: Path) -> Path:
    texts, labels = made_texts(ROWS)
    ids = [f"n-{i}" for i in range(ROWS)]
    table = pa.table({"name": ids, "text": [*texts[:-1], None], "stars": labels})
    path = home / "labelled.parquet"
    pq.write_table(table, path, row_group_size=50)
    return path


@pytest.fixture(scope="module")
def base(home: Path) -> str:
    return str(save_model(home / "base", "bert", "MaskedLM", hidden_dropout_prob=0.1))


@pytest.fixture(scope="module")
def run(environment: dict[str, str]) -> Run:
    def call(
        *words: str, limit_s: float = LIMIT_S, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "headrace"), *words], env=environment | extra, capture_output=True,
            text=True, timeout=limit_s, check=False,
        )  # fmt: skip

    return call


@pytest.fixture(scope="module")
def words(labelled: Path, base: str) -> Callable[[Path], list[str]]:
    """The command that trains into a folder: 20 commits in some 100 steps."""

    def make(output: Path) -> list[str]:
        return [
            "train", str(labelled), "--label-column", "stars", "--id-column", "name", "--base", base,
            "--output", str(output), "--epochs", "4", "--evaluations", "5", "--early-stopping", "0",
            "--batch-tokens", "256", "--learning-rate", "1e-3",
        ]  # fmt: skip

    return make


@pytest.fixture(scope="module")
def undisturbed(home: Path, run: Run, words: Callable[[Path], list[str]]) -> Path:
    done = run(*words(home / "whole"))
    assert done.returncode == ExitCode.OK, done.stderr
    return home / "whole"


def weights(output: Path) -> bytes:
    return (output / output_layout.MODEL / "model.safetensors").read_bytes()


@pytest.mark.timeout(LIMIT_S)
def test_what_comes_out_of_a_training(
    undisturbed: Path, home: Path, run: Run, words: Callable[[Path], list[str]]
) -> None:
    result = TrainingResult.model_validate_json((undisturbed / "model/training.json").read_text())
    assert result.rows == {"train": 216, "unlabelled": 1, "validation": 23}
    assert result.spec.labels == ("negative", "positive")
    assert {p.suffix for p in (undisturbed / "model").iterdir()} == {".json", ".md", ".safetensors"}
    assert list((undisturbed / "checkpoints").rglob("*.*")) == []
    assert list((undisturbed / "tensorboard").glob("events.out.tfevents.*"))
    part = pq.read_table(undisturbed / "data").to_pydict()
    assert part["name"] == [f"n-{i}" for i in range(ROWS)]
    has_prediction = [label is not None for label in part["predicted_label"]]
    assert has_prediction == [side == "validation" for side in part["split"]]
    assert part["status"].count("error") == 1
    assert run("verify", str(undisturbed)).returncode == ExitCode.OK
    again = run(
        *words(undisturbed), "--json", "--register", "m", "--model-registry", str(home / "r")
    )
    record = json.loads(again.stdout)  # one object
    assert (record["training"]["scores"], record["version"]["name"]) == (result.scores, "m")

    scored = home / "scored"
    model = str(undisturbed / "model")
    done = run(
        "run", str(home / "labelled.parquet"), "--output", str(scored), "--model", model,
        "--id-column", "name", "--workers", "1",
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    again = pq.read_table(scored / "data").to_pydict()
    for row, side in enumerate(part["split"]):
        if side == "validation":
            assert again["predicted_label"][row] == part["predicted_label"][row]
            assert again["score"][row] == pytest.approx(part["score"][row], abs=1e-5)


@pytest.mark.timeout(2_400)
def test_a_training_that_is_killed_again_and_again_ends_with_the_same_weights(
    undisturbed: Path, home: Path, run: Run, words: Callable[[Path], list[str]], seed: int,
    scale: Scale, say: Callable[[str, str], None],
) -> None:  # fmt: skip
    chance = random.Random(seed)
    flags = home / f"flags-{seed}"
    flags.mkdir()
    in_commits, kills = scale.of(1, 5), scale.of(3, 20)
    steps = [("checkpoint_files", chance.randint(1, 2)) for _ in range(in_commits)]
    # some five steps are a commit: after many kills there must be steps left for the others
    latest = scale.of(20, 7)
    steps += [("trained", chance.randint(3, latest)) for _ in range(kills - in_commits)]
    faults = [f"kill:{step}:{nth}:{flags / str(i)}" for i, (step, nth) in enumerate(steps)]
    output = home / f"killed-{seed}"
    # attempts without a new checkpoint are few; as many kills in a row would be a sick model
    fault, limit_s, most = ",".join(faults), scale.of(LIMIT_S, 2_000), str(scale.of(12, 30))
    done = run(*words(output), "--max-attempts", most, limit_s=limit_s, HEADRACE_FAULT=fault)
    assert done.returncode == ExitCode.OK, done.stderr
    assert len(list(flags.iterdir())) == kills
    assert len(list((output / output_layout.ATTEMPTS).iterdir())) == kills
    assert weights(output) == weights(undisturbed)
    say("19", f"{kills} kills of a training, {in_commits} in a commit: the same weights")


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_training_that_is_interrupted_commits_and_continues(
    undisturbed: Path, home: Path, run: Run, words: Callable[[Path], list[str]],
    environment: dict[str, str],
) -> None:  # fmt: skip
    output = home / "interrupted"
    command = [str(BIN / "headrace"), *words(output)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as started:
        wait_until(lambda: list(output.glob("checkpoints/*.json")), 120)
        started.send_signal(signal.SIGINT)
        said = started.communicate(timeout=60)[1]
    assert started.returncode == ExitCode.INTERRUPTED, said
    newest = max(output.glob("checkpoints/*.json"))
    assert json.loads(newest.read_text())["step"] > 0
    done = run("resume", str(output))
    assert done.returncode == ExitCode.OK, done.stderr
    result = TrainingResult.model_validate_json((output / "model/training.json").read_text())
    assert result.resumed_from >= int(newest.stem)
    assert weights(output) == weights(undisturbed)


@pytest.fixture(scope="module")
def tagged(home: Path) -> Path:
    words = [["in", "paris", "today"], ["ann", "is", "here"], ["no", "one"], ["to", "new", "york"]]
    tags = [["O", "B-LOC", "O"], ["B-PER", "O", "O"], ["O", "O"], ["O", "B-LOC", "I-LOC"]]
    rows = [([*w, str(i)], [*t, "O"]) for i in range(20) for w, t in zip(words, tags, strict=True)]
    table = pa.table({"tokens": [w for w, _ in rows], "ner_tags": [t for _, t in rows]})
    pq.write_table(table, home / "tagged.parquet")
    return home / "tagged.parquet"


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_sweep_over_entities_goes_on_registers_its_best_and_is_evaluated(
    home: Path, run: Run, tagged: Path
) -> None:
    output = home / "sweep"
    words = [
        "train", str(tagged), "--task", "token-classification", "--tokens-column", "tokens",
        "--label-column", "ner_tags", "--from-scratch", "--size", "1x32x200", "--epochs", "6",
        "--early-stopping", "0", "--validation", "0.25", "--output", str(output), "--json",
    ]  # fmt: skip
    # the sweep is as if it had been killed after its first point
    assert run(*words, "--sweep", "learning_rate=1e-6").returncode == ExitCode.OK
    first = output / "learning_rate-1e-06" / output_layout.MODEL / "model.safetensors"
    before = first.stat().st_mtime_ns
    registry = ["--register", "names", "--model-registry", str(home / "registry")]
    done = run(*words, "--sweep", "learning_rate=1e-6,1e-2", *registry)
    assert done.returncode == ExitCode.OK, done.stderr
    assert first.stat().st_mtime_ns == before
    found = json.loads(done.stdout)  # one object
    best = output / "learning_rate-0.01"
    assert found["best"] == 1
    assert found["version"]["model"]["uri"] == f"{best}/model"
    assert found["version"]["task"] == "token-classification"
    assert found["points"] == json.loads((output / output_layout.SWEEP).read_text())["points"]

    f1 = found["points"][1]["scores"]["f1"]
    assert f1 > 0.9
    evaluated = run("evaluate", str(best), "--label-column", "ner_tags", "--json")
    assert evaluated.returncode == ExitCode.OK, evaluated.stderr
    assert json.loads(evaluated.stdout)["micro"]["f1"] == pytest.approx(f1, abs=1e-6)


@pytest.fixture
def bad(tmp_path: Path) -> Iterator[Path]:
    texts = [f"text {i}" for i in range(60)]
    table = pa.table({
        "text": texts, "one": ["a"] * 60, "ids": texts, "none": pa.nulls(60, pa.string()),
        "case": ["Good", "good"] * 30, "label": ["a", "b"] * 30,
    })  # fmt: skip
    pq.write_table(table, tmp_path / "bad.parquet")
    return tmp_path / "bad.parquet"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--label-column", "missing"], ExitCode.COLUMN),
        (["--label-column", "one"], ExitCode.COLUMN),
        (["--label-column", "ids"], ExitCode.COLUMN),
        (["--label-column", "none"], ExitCode.COLUMN),
        (["--label-column", "case"], ExitCode.COLUMN),
        (["--text-column", "missing"], ExitCode.COLUMN),
        (["--base", "/no/such/folder"], ExitCode.MODEL),
        (["--validation", "1.5"], ExitCode.CONFIG),
        (["--tokens-column", "text"], ExitCode.CONFIG),
        (["--epochs", "0"], ExitCode.CONFIG),
        (["--seed", "-1"], ExitCode.CONFIG),
        (["--sweep", "rate=1"], ExitCode.CONFIG),
        (["--lora", "--lora-targets", "query,nothing"], ExitCode.CONFIG),
        (["--task", "token-classification"], ExitCode.COLUMN),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    bad: Path, base: str, run: Run, more: list[str], code: ExitCode, tmp_path: Path
) -> None:
    given = ["train", str(bad), "--output", str(tmp_path / "out"), "--base", base, *more]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(*given)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == code, done.stderr
    assert not (tmp_path / "out").exists()
    # of the processor: a machine with other work takes longer, and waits for nothing else
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < REFUSED_S
