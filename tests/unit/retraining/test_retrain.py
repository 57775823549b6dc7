"""A policy trains once for a day, goes on where it was killed, and promotes only by its gate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.models.registry import ModelRegistry, open_model_registry
from headrace.settings import Settings, load_settings
from producers.commands.session import session_with
from producers.commands.training.retrain import retrain
from producers.retraining.policy import Policy, read_policy, run_id, train_options
from producers.retraining.triggers import Signs, reasons
from schemas.errors import ConfigError, ExitCode
from schemas.names import output_layout
from schemas.records.job import Inputs, Job, ModelRef, Options, Spec, job_id
from schemas.records.model_version import ModelVersion
from tests.unit.tiny_models import save_model

DAY = date(2026, 11, 24)
POLICY = """
name = "reviews"
data = ["{folder}/labelled.parquet"]
output = "{folder}/retraining"
holdout = "{folder}/holdout.parquet"
label_column = "gold"
promote = "gate"
[train]
epochs = 2
[triggers]
every_days = 7
[gate]
min_accuracy_delta = 0.0
"""

ENTITIES = """
name = "reviews"
task = "token-classification"
tokens_column = "tokens"
label_column = "tags"
data = ["{folder}/labelled.parquet"]
output = "{folder}/retraining"
holdout = "{folder}/holdout.parquet"
promote = "gate"
[gate]
min_f1_delta = 0.0
"""

WATCH = '[watch]\noutput = "n"\nagainst = "r"'


def policy_file(folder: Path, text: str = POLICY) -> Path:
    path = folder / "policy.toml"
    path.write_text(text.format(folder=folder))
    return path


# -- the policy


def test_a_policy_is_read_and_its_id_is_that_of_policy_and_day(tmp_path: Path) -> None:
    policy = read_policy(policy_file(tmp_path))
    assert (policy.name, policy.promote, policy.alias) == ("reviews", "gate", "champion")
    assert train_options(policy) == ["--epochs", "2"]
    first = run_id(policy, DAY)
    assert first == run_id(read_policy(policy_file(tmp_path)), DAY)
    assert first != run_id(policy, date(2026, 11, 25))
    other = POLICY.replace("epochs = 2", "epochs = 3")
    assert first != run_id(read_policy(policy_file(tmp_path, other)), DAY)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 1", "policy.toml: name"),
        ('name = "a"\ndata = []\noutput = "o"\nholdout = "h"', "data"),
        (POLICY + "\n[other]\n", "other"),
        (POLICY.replace("every_days = 7", "drift = true"), r"\[watch\]"),
        (POLICY.replace("[gate]\nmin_accuracy_delta = 0.0", ""), r"\[gate\]"),
        ("= no toml", "policy.toml"),
        (POLICY.replace("min_accuracy_delta", "min_f1_delta"), "min_f1_delta and tokens_column"),
        ('task = "token-classification"' + POLICY, "has min_f1_delta, not min_accuracy_delta"),
        (ENTITIES + "[triggers]\nmin_expected_accuracy = 0.9\n" + WATCH, "no accuracy is expected"),
        ('map = "0=O"' + ENTITIES, "name the tags"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_policy(policy_file(tmp_path, text))


def policy_with(**triggers: Any) -> Policy:
    return Policy.model_validate({
        "name": "m", "data": ["d"], "output": "o", "holdout": "h", "triggers": triggers,
        "watch": {"output": "n", "against": "r"},
    })  # fmt: skip


@pytest.mark.parametrize(
    ("triggers", "signs", "count"),
    [
        ({}, Signs(date(2026, 11, 23), 10, 10), 1),
        ({"every_days": 7}, Signs(None, 10, 0), 1),
        ({"every_days": 7}, Signs(date(2026, 11, 17), 10, 10), 1),
        ({"every_days": 7}, Signs(date(2026, 11, 18), 10, 10), 0),
        ({"drift": True}, Signs(None, 10, 10, ("labels",)), 1),
        ({"drift": True}, Signs(None, 10, 10), 0),
        ({"min_expected_accuracy": 0.9}, Signs(None, 10, 10, (), 0.89), 1),
        ({"min_expected_accuracy": 0.9}, Signs(None, 10, 10, (), None), 0),
        ({"new_labels": 5}, Signs(None, 15, 10), 1),
        ({"new_labels": 6}, Signs(None, 15, 10), 0),
        ({"new_labels": 5, "every_days": 1}, Signs(None, 15, 10), 2),
    ],
)
def test_a_trigger_has_its_reason(triggers: dict[str, Any], signs: Signs, count: int) -> None:
    assert len(reasons(policy_with(**triggers).triggers, signs, DAY)) == count


# -- the steps, with a stand-in for the commands that compute


def write_job(output: Path, spec: Spec, rows: int) -> None:
    """The record of a job of one chunk, in a folder that is ready for its part."""
    job = Job(
        id=job_id(spec), output=str(output), spec=spec, options=Options(), chunks=1, rows=rows,
        inputs=Inputs(patterns=("x",), digest="0" * 64, files=1, rows=rows, bytes=1),
        id_type="int64", text_type="string", submitted_s=0.0,
    )  # fmt: skip
    (output / "data").mkdir(parents=True)
    (output / "_headrace").mkdir()
    (output / output_layout.JOB).write_text(job.model_dump_json())


class Steps:
    """Runs `train` and `run` by writing what they would; dies before the step of a number."""

    def __init__(self, folder: Path, right: dict[str, float]) -> None:
        self.folder, self.right = folder, right
        self.done: list[str] = []
        self.dies_at: int | None = None

    def __call__(self, words: Sequence[str]) -> int:
        if self.dies_at == len(self.done):
            raise KeyboardInterrupt
        self.done.append(words[0])
        output = Path(words[words.index("--output") + 1])
        if words[0] == "train":
            if not (output / "model").exists():
                save_model(output / "model", "bert", "SequenceClassification", num_labels=2)
            return ExitCode.OK
        self._score(output, words[words.index("--model") + 1])
        return ExitCode.OK

    def _score(self, output: Path, model: str) -> None:
        if (output / output_layout.JOB).exists():
            return
        rows, right = 400, self.right[output.name]
        gold = ["x" if i % 2 else "y" for i in range(rows)]
        wrong = {"x": "y", "y": "x"}
        found = [g if i < right * rows else wrong[g] for i, g in enumerate(gold)]
        ref = ModelRef(uri=model, revision="r")
        if Path(model).is_dir():
            from headrace.tasks.model_digest import folder_digest

            ref = ModelRef(uri=str(Path(model).absolute()), revision=folder_digest(Path(model)))
        spec = Spec(
            inputs_digest="0" * 64, text_column="text", id_column="id", columns=("gold",),
            task="text-classification", model=ref, dtype="float32",
        )  # fmt: skip
        write_job(output, spec, rows)
        table = pa.table({
            "id": range(rows), "gold": gold, "predicted_label": found,
            "score": pa.array([0.9] * rows, pa.float32()),
            "n_tokens": pa.array([5] * rows, pa.int32()), "truncated": [False] * rows,
            "status": pa.array(["ok"] * rows).dictionary_encode(),
            "error_type": pa.array([None] * rows, pa.string()).dictionary_encode(),
            "text_hash": pa.array([i.to_bytes(16, "little") for i in range(rows)], pa.binary(16)),
        })  # fmt: skip
        pq.write_table(table, output / output_layout.part(0))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(model_registry=str(tmp_path / "models"), date=DAY.isoformat())


@pytest.fixture
def registry(tmp_path: Path, settings: Settings) -> ModelRegistry:
    """A registry whose champion is version 1; labelled rows beside it."""
    pq.write_table(
        pa.table({"id": range(9), "text": ["t"] * 9, "gold": ["x"] * 9}),
        tmp_path / "labelled.parquet",
    )
    found = open_model_registry(settings)
    found.register("reviews", ModelRef(uri="/old", revision="r"), task="text-classification")
    found.promote("reviews", "champion", 1)
    return found


def call(settings: Settings, capsys: Any, path: Path, steps: Steps) -> tuple[int, dict[str, Any]]:
    code = retrain(session_with(settings, as_json=True), path, steps)
    return code, json.loads(capsys.readouterr().out)


def champion(registry: ModelRegistry) -> ModelVersion:
    moves = registry.moves("reviews", "champion")
    return next(v for v in registry.versions("reviews") if v.version == moves[-1].version)


def test_a_better_candidate_is_promoted_and_a_second_call_trains_nothing(
    tmp_path: Path, settings: Settings, registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(tmp_path, {"candidate": 0.95, "champion": 0.8})
    path = policy_file(tmp_path)
    code, shown = call(settings, capsys, path, steps)
    assert (code, shown["promoted"], shown["verdict"]["passed"]) == (ExitCode.OK, True, True)
    assert steps.done == ["train", "run", "run"]
    assert shown["verdict"]["delta"] == pytest.approx(0.15)
    assert champion(registry).version == shown["verdict"]["candidate"] == 2
    assert champion(registry).model.uri.endswith("train/model")
    code, again = call(settings, capsys, path, steps)
    assert (code, again["verdict"]) == (ExitCode.OK, shown["verdict"])
    assert steps.done == ["train", "run", "run"]
    # rolled back by a person: a third call does not undo that
    registry.roll_back("reviews", "champion")
    call(settings, capsys, path, steps)
    assert champion(registry).version == 1
    # the next day is too early
    tomorrow = settings.model_copy(update={"date": "2026-11-25"})
    code, later = call(tomorrow, capsys, path, steps)
    assert (code, later["verdict"], len(steps.done)) == (ExitCode.OK, None, 3)
    next_week = settings.model_copy(update={"date": "2026-12-01"})
    call(next_week, capsys, path, steps)
    assert len(steps.done) == 6


def test_a_worse_candidate_is_refused_and_the_champion_stays(
    tmp_path: Path, settings: Settings, registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(tmp_path, {"candidate": 0.8, "champion": 0.85})
    code, shown = call(settings, capsys, policy_file(tmp_path), steps)
    assert (code, shown["promoted"]) == (ExitCode.GATE, False)
    assert "accuracy" in shown["verdict"]["refused"][0]
    assert shown["promote_with"] == "headrace models promote reviews 2 champion --seen 1"
    assert champion(registry).version == 1
    assert registry.aliases("reviews")["candidate"].version == 2


def test_never_promotes_by_itself_unless_told_so(
    tmp_path: Path, settings: Settings, registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(tmp_path, {"candidate": 0.95, "champion": 0.8})
    never = POLICY.replace('promote = "gate"\n', "")
    code, shown = call(settings, capsys, policy_file(tmp_path, never), steps)
    assert (code, shown["promoted"]) == (ExitCode.OK, False)
    assert champion(registry).version == 1


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_a_retraining_that_is_killed_goes_on(
    tmp_path: Path, settings: Settings, registry: ModelRegistry, dies_at: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    steps = Steps(tmp_path, {"candidate": 0.95, "champion": 0.8})
    steps.dies_at = dies_at
    path = policy_file(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        retrain(session_with(settings, as_json=True), path, steps)
    steps.dies_at = None
    code, shown = call(settings, capsys, path, steps)
    assert (code, shown["promoted"]) == (ExitCode.OK, True)
    assert [v.version for v in registry.versions("reviews")] == [1, 2]


def test_another_who_moves_the_alias_meanwhile_is_not_overruled(
    tmp_path: Path, settings: Settings, registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = Steps(tmp_path, {"candidate": 0.95, "champion": 0.8})
    registry.register("reviews", ModelRef(uri="/new", revision="n"), task="text-classification")

    def run(words: Sequence[str]) -> int:
        if words[0] == "train":
            registry.promote("reviews", "champion", 2, by="a person")
        return steps(words)

    retrain(session_with(settings, as_json=True), policy_file(tmp_path), run)
    assert champion(registry).version == 2
    assert "not promoted" in capsys.readouterr().err


def test_a_step_that_fails_ends_it_with_its_code(
    tmp_path: Path, settings: Settings, registry: ModelRegistry
) -> None:
    code = retrain(session_with(settings), policy_file(tmp_path), lambda words: int(ExitCode.MODEL))
    assert code == ExitCode.MODEL
    assert registry.aliases("reviews").keys() == {"champion"}


# -- entities


def write_entities(output: Path, model: str, right: int) -> None:
    """An output of token classification that finds so many of 40 entities."""
    from headrace.tasks.model_digest import folder_digest

    rows = 40
    spec = Spec(
        inputs_digest="0" * 64, text_column="text", id_column="id", columns=("tags", "tokens"),
        task="token-classification", dtype="float32",
        model=ModelRef(uri=model, revision=folder_digest(Path(model)) if Path(model).is_dir() else "r"),
    )  # fmt: skip
    write_job(output, spec, rows)
    found = [{"label": "PER", "start": 0, "end": 4, "score": 0.9, "text": "Anna"}]
    table = pa.table({
        "id": range(rows), "tokens": [["Anna", "is"]] * rows, "tags": [["B-PER", "O"]] * rows,
        "entities": [found if i < right else [] for i in range(rows)],
        "n_tokens": pa.array([4] * rows, pa.int32()), "truncated": [False] * rows,
        "status": pa.array(["ok"] * rows).dictionary_encode(),
        "error_type": pa.array([None] * rows, pa.string()).dictionary_encode(),
        "text_hash": pa.array([i.to_bytes(16, "little") for i in range(rows)], pa.binary(16)),
    })  # fmt: skip
    pq.write_table(table, output / output_layout.part(0))


@pytest.mark.parametrize(("right", "code"), [(36, ExitCode.OK), (20, ExitCode.GATE)])
def test_a_model_of_entities_is_judged_by_its_f1(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str], right: int,
    code: ExitCode,
) -> None:  # fmt: skip
    registry = open_model_registry(settings)
    registry.register("reviews", ModelRef(uri="/old", revision="r"), task="token-classification")
    registry.promote("reviews", "champion", 1)
    pq.write_table(
        pa.table({"id": [1], "tokens": [["Anna", "is"]], "tags": [["B-PER", "O"]]}),
        tmp_path / "labelled.parquet",
    )
    asked: list[list[str]] = []

    def run(words: Sequence[str]) -> int:
        asked.append([*words])
        output = Path(words[words.index("--output") + 1])
        if words[0] == "train":
            save_model(output / "model", "bert", "TokenClassification", num_labels=2)
        else:
            hits = right if output.name == "candidate" else 25
            write_entities(output, words[words.index("--model") + 1], hits)
        return int(ExitCode.OK)

    done = retrain(session_with(settings, as_json=True), policy_file(tmp_path, ENTITIES), run)
    verdict = json.loads(capsys.readouterr().out)["verdict"]
    assert (done, verdict["accuracy"]) == (code, None)
    assert verdict["f1"] == pytest.approx(2 * right / (right + 40))
    assert verdict["delta"] == pytest.approx(2 * right / (right + 40) - 50 / 65)
    assert champion(registry).version == (2 if code == ExitCode.OK else 1)
    task = ["--task", "token-classification"]
    assert all(task[1] == words[words.index(task[0]) + 1] for words in asked)
    assert asked[0][asked[0].index("--tokens-column") + 1] == "tokens"
    assert asked[1][asked[1].index("--columns") + 1] == "tags,tokens"
