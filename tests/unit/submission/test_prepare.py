"""The same submission twice is one job; another job to the same output is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.output.job_record import check_plan, read_job
from headrace.output.plan_file import PlanTable, write_plan
from headrace.storage.local import LocalStore
from headrace.tasks.catalog import task_names
from producers.capacity.device_hint import DeviceHint
from producers.submission.conflict import differences
from producers.submission.create import create_job
from producers.submission.prepare import masked_command
from producers.submission.spec import resolve_dtype, task_params
from schemas.errors import ConfigError, OutputConflict
from schemas.names import output_layout
from schemas.records.chunk import Chunk
from schemas.records.job import (
    Job,
    job_id,
)
from tests.unit.small_job import (
    CPU,
    NOW_S,
    fake_settings,
    finish,
    prepare_small,
    score,
    submit,
    write_input,
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for day in (1, 2):
        write_input(tmp_path / f"in/day={day}/a.parquet", [f"row {i}" for i in range(700)])
    return tmp_path / "in"


def create(corpus: Path, out: Path, **flags: Any) -> tuple[Job, bool]:
    prepared = prepare_small([corpus], out, fake_settings(**flags))
    return create_job(LocalStore(out), prepared, now_s=NOW_S)


def names(out: Path) -> set[str]:
    return {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}


def test_a_job_is_a_plan_and_a_record_and_nothing_else(corpus: Path, tmp_path: Path) -> None:
    job, made = create(corpus, tmp_path / "out", columns="day", id_column="id")
    assert made
    assert names(tmp_path / "out") == {output_layout.JOB, output_layout.PLAN}
    plan = PlanTable.load(LocalStore(tmp_path / "out"))
    assert (job.chunks, job.rows) == (len(plan), plan.total_rows) == (7, 1400)
    assert plan.inputs_digest() == job.spec.inputs_digest == job.inputs.digest
    assert (job.id_type, job.text_type) == ("string", "string")
    assert [(c.name, c.type) for c in job.carried] == [("day", "string")]
    assert read_job(LocalStore(tmp_path / "out")) == job


def test_the_same_submission_twice_is_one_job(corpus: Path, tmp_path: Path) -> None:
    job, made = create(corpus, tmp_path / "out")
    again, made_again = create(corpus, tmp_path / "out")
    assert (made, made_again) == (True, False)
    assert again == job


@pytest.mark.parametrize(
    "flags", [{"chunk_rows": 10}, {"priority": 7}, {"batch_tokens": 99}, {"error_threshold": 0.1}]
)
def test_what_does_not_change_the_answers_is_not_another_job(
    corpus: Path, tmp_path: Path, flags: Any
) -> None:
    job, _ = create(corpus, tmp_path / "out")
    assert create(corpus, tmp_path / "out", **flags) == (job, False)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"text_column": "id"}, "text_column: text → id"),
        ({"id_column": "id"}, "id_column: none → id"),
        ({"columns": "day"}, "columns: none → day"),
        ({"max_length": 77}, "max_length: none → 77"),
        ({"limit": 3}, "limit: none → 3"),
    ],
)
def test_what_changes_the_answers_is_another_job(
    corpus: Path, tmp_path: Path, flags: Any, told: str
) -> None:
    job, _ = create(corpus, tmp_path / "out")
    with pytest.raises(OutputConflict, match=job.id) as caught:
        create(corpus, tmp_path / "out", **flags)
    assert told in str(caught.value)
    assert read_job(LocalStore(tmp_path / "out")) == job


def test_an_input_that_changed_is_another_job(corpus: Path, tmp_path: Path) -> None:
    create(corpus, tmp_path / "out")
    write_input(corpus / "day=1/a.parquet", [f"other {i}" for i in range(700)])
    with pytest.raises(OutputConflict, match="files changed in"):
        create(corpus, tmp_path / "out")
    write_input(corpus / "day=3/a.parquet", ["more"])
    with pytest.raises(OutputConflict, match=r"2 files with 1,400 rows → 3 files with 1,401 rows"):
        create(corpus, tmp_path / "out")


def test_the_order_of_columns_is_the_order_in_the_output(corpus: Path, tmp_path: Path) -> None:
    job, _ = create(corpus, tmp_path / "out", columns="day,id", id_column="text")
    with pytest.raises(OutputConflict, match="columns: day, id → id, day"):
        create(corpus, tmp_path / "out", columns="id,day", id_column="text")
    assert [column.name for column in job.carried] == ["day", "id"]


# -- a submitter that died, and one that is at it right now


def test_a_plan_left_behind_is_adopted_whatever_its_chunks(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    create(corpus, out, chunk_rows=100)
    (out / output_layout.JOB).unlink()
    job, made = create(corpus, out, chunk_rows=500, max_length=9)
    assert made
    assert (job.chunks, job.spec.max_length) == (14, 9)
    check_plan(job, PlanTable.load(LocalStore(out)), "out")


@pytest.mark.parametrize(
    "flags", [{"limit": 100}, {"limit": 1000}], ids=["fewer-files", "fewer-rows"]
)
def test_a_plan_left_behind_for_other_rows_is_refused(
    corpus: Path, tmp_path: Path, flags: Any
) -> None:
    out = tmp_path / "out"
    create(corpus, out, **flags)
    (out / output_layout.JOB).unlink()
    with pytest.raises(OutputConflict, match=r"delete _headrace/plan\.chunks"):
        create(corpus, out)
    assert names(out) == {output_layout.PLAN}


def test_a_plan_left_behind_without_a_carried_partition_is_refused(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (corpus / "day=2/a.parquet").unlink()
    create(corpus / "day=1", out)
    (out / output_layout.JOB).unlink()
    with pytest.raises(OutputConflict, match="other input"):
        create(corpus, out, columns="day")


@pytest.mark.parametrize("name", ["data/part-00000.parquet", "data/x.csv", "_SUCCESS"])
def test_results_of_an_unknown_job_are_not_taken_for_ours(
    corpus: Path, tmp_path: Path, name: str
) -> None:
    LocalStore(tmp_path / "out").create(name, b"something")
    with pytest.raises(OutputConflict, match="choose an empty output"):
        create(corpus, tmp_path / "out")
    assert names(tmp_path / "out") == {name}


def test_a_finished_job_submitted_again_is_that_job(corpus: Path, tmp_path: Path) -> None:
    store, job = submit([corpus], tmp_path / "out")
    score(store, job)
    finish(store, job)
    assert create(corpus, tmp_path / "out") == (job, False)


def race(*submitters: Callable[[], Any]) -> list[Any]:
    """What each returned or raised, all begun at once."""
    start = threading.Barrier(len(submitters))
    results: list[Any] = [None] * len(submitters)

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = submitters[number]()
        except OutputConflict as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(submitters))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_many_submitters_of_one_job_at_once_end_in_one_job(corpus: Path, tmp_path: Path) -> None:
    for round_ in range(5):
        out = tmp_path / f"out{round_}"
        sizes = (50, 100, 150, 200, 350, 700)
        results = race(*(partial(create, corpus, out, chunk_rows=n) for n in sizes))
        jobs, made = zip(*results, strict=True)
        assert sum(made) == 1
        assert len({job.model_dump_json() for job in jobs}) == 1
        check_plan(jobs[0], PlanTable.load(LocalStore(out)), "out")


def test_of_two_jobs_at_once_to_one_output_one_is_refused(corpus: Path, tmp_path: Path) -> None:
    for round_ in range(5):
        out = tmp_path / f"out{round_}"
        results = race(
            partial(create, corpus, out),
            partial(create, corpus, out, max_length=5),
        )
        refused = [r for r in results if isinstance(r, OutputConflict)]
        assert len(refused) == 1
        won = read_job(LocalStore(out))
        assert won in [r[0] for r in results if not isinstance(r, OutputConflict)]


def test_a_record_that_was_changed_by_hand_is_refused(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    create(corpus, out)
    record = json.loads((out / output_layout.JOB).read_text())
    record["spec"]["text_column"] = "id"
    (out / output_layout.JOB).write_text(json.dumps(record))
    with pytest.raises(OutputConflict, match="changed by hand"):
        create(corpus, out)


def test_a_plan_of_other_input_beside_a_job_is_refused(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    create(corpus, out)
    chunks: list[Chunk] = list(
        prepare_small([corpus / "day=1"], out, fake_settings()).plan.chunks()
    )
    (out / output_layout.PLAN).unlink()
    write_plan(out / output_layout.PLAN, chunks)
    with pytest.raises(OutputConflict, match="does not belong to job"):
        create(corpus, out)


# -- what goes into the record


@pytest.mark.parametrize(
    ("dtype", "hint", "expected"),
    [
        ("auto", CPU, "float32"),
        ("auto", DeviceHint("cuda", bf16=True), "bfloat16"),
        ("auto", DeviceHint("cuda", bf16=False), "float32"),
        ("float16", CPU, "float16"),
        ("bfloat16", CPU, "bfloat16"),
        ("int8", CPU, "int8"),
    ],
)
def test_dtype_is_resolved_at_submit(dtype: str, hint: DeviceHint, expected: str) -> None:
    assert resolve_dtype(dtype, hint) == expected


@pytest.mark.parametrize(
    "hint", [DeviceHint("cuda", bf16=True), DeviceHint(serves_int8=False, name="the fleet's CPUs")]
)
def test_int8_is_refused_where_no_device_serves_it(hint: DeviceHint) -> None:
    with pytest.raises(ConfigError, match="VNNI"):
        resolve_dtype("int8", hint)


def test_only_the_tasks_own_settings_go_into_its_job() -> None:
    settings = fake_settings(task="token-classification", scores=True, pooling="cls")
    assert task_params(settings, {}) == {"aggregation": "simple"}
    assert task_params(fake_settings(), {"faults": True}) == {"faults": True}


def test_tasks_are_known_without_importing_them() -> None:
    assert {"fake", "text-classification"} <= set(task_names())


def test_a_kept_command_holds_no_secrets() -> None:
    line = masked_command(
        ["headrace", "run", "a b", "--broker", "redis://:pw@h/0", "--on-finish=https://x?t=1",
         "--broker-url=redis://u:p@h", "--output", "s3://key:secret@bucket/x", "--on-finish"]
    )  # fmt: skip
    for secret in ("pw", "t=1", "u:p", "secret"):
        assert secret not in line
    assert line.startswith("headrace run 'a b' --broker")


def test_differences_name_params_model_and_inputs(corpus: Path, tmp_path: Path) -> None:
    job, _ = create(corpus, tmp_path / "out")
    spec = job.spec.model_copy(
        update={
            "params": {"faults": True},
            "model": job.spec.model.model_copy(update={"revision": "b"}),
            "inputs_digest": "other",
        }
    )
    inputs = job.inputs.model_copy(update={"patterns": ("/other",)})
    told = differences(job, spec, inputs)
    assert told == [
        f"inputs: {corpus} → /other", "faults: none → True", "model.revision: none → b",
    ]  # fmt: skip
    assert job_id(spec) != job.id


def test_a_hook_is_never_part_of_a_job(corpus: Path, tmp_path: Path) -> None:
    hook = "https://hooks/?token=hush"
    job, _ = create(corpus, tmp_path / "out", on_finish=hook)
    assert "hush" not in job.model_dump_json()
