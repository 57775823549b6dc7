"""A job that headrace answers otherwise by now is another job, and is never continued."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from headrace.output.job_record import read_job
from headrace.storage.open import open_store
from headrace.storage.store import Store
from headrace.tasks.answers import AskedModel, changes_of, version_of
from headrace.tasks.contract import Encodings, LoadRequest
from producers.submission.conflict import differences
from producers.submission.reuse import reusable
from producers.submission.unchanged import verify_answers_unchanged, verify_inputs_unchanged
from producers.verification.verify import verify
from schemas.errors import ConfigError, ExitCode, ModelChanged
from schemas.names import output_layout
from schemas.records.job import Job, job_id
from tests.unit.models.model_folder import write_model
from tests.unit.small_job import NOW_S, fake_settings, finish, score, submit, write_input
from tests.unit.tiny_models import TinyModels
from workers.execution.model_loader import ModelLoader
from workers.execution.presence import Identity
from workers.models.load import read_json
from workers.tasks.feature_extraction import FeatureExtraction

PARAMS: dict[str, Any] = {"pooling": "auto", "normalize": None}


def version(folder: Path, task: str = "text-classification", max_length: int | None = None) -> int:
    read = partial(read_json, folder)
    asked = AskedModel(task, {}, max_length, read("config.json"), read, str(folder))
    return version_of(changes_of(asked))


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, 1),
        ({"model_type": "gpt2", "max_position_embeddings": None, "n_positions": 1024}, 1),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, 2),
        ({"model_type": "bloom", "max_position_embeddings": None, "seq_length": 2048}, 2),
        ({"model_type": "t5", "max_position_embeddings": None, "n_positions": 512}, 1),
        ({"model_type": "reformer"}, 2),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 2),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, 1),
    ],
)
def test_only_models_that_are_answered_otherwise_have_another_version(
    tmp_path: Path, config: dict[str, Any], wanted: int
) -> None:
    assert version(write_model(tmp_path / "m", **config)) == wanted


def test_a_limit_that_the_job_names_is_the_one_it_was(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", max_position_embeddings=None, seq_length=2048)
    assert (version(folder), version(folder, max_length=64)) == (2, 1)


def test_all_vectors_are_written_otherwise(tmp_path: Path) -> None:
    assert version(write_model(tmp_path / "m"), "feature-extraction") == 2


def headrace(*args: str) -> subprocess.CompletedProcess[str]:
    """The command, as a user runs it."""
    code = "from producers.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=120
    )


# -- a job of an earlier headrace in its output

TEXTS = [f"the weather is fine {i}" for i in range(40)]


def older(store: Store, job: Job) -> Job:
    """The job as an earlier headrace wrote it down."""
    spec = job.spec.model_copy(update={"answers_version": 1})
    found = job.model_copy(update={"spec": spec, "id": job_id(spec)})
    store.replace(output_layout.JOB, found.model_dump_json(indent=1).encode())
    return found


class FixedSize(FeatureExtraction):
    """Writes vectors as they once were."""

    def columns(self) -> list[pa.Field]:
        return [pa.field("embedding", pa.list_(pa.float32(), 32))]

    def decode(self, batch: Encodings, output: Any) -> pa.RecordBatch:
        vectors = pa.array(self.numbers(batch, output).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(vectors, 32)
        return pa.record_batch([column], schema=pa.schema(self.columns()))


@pytest.fixture
def begun(tmp_path: Path, tiny: TinyModels) -> tuple[Store, Job]:
    """Half a job of an earlier headrace: one part of two, its vectors in lists of a fixed size."""
    corpus = write_input(tmp_path / "in.parquet", TEXTS, group_rows=20)
    flags = {"task": "feature-extraction", "model": tiny("bert", ""), "chunk_rows": 20}
    store, job = submit([corpus], tmp_path / "out", **flags)
    assert job.spec.answers_version == 2
    job = older(store, job)
    task = FixedSize()
    task.load(LoadRequest(job.spec.model.uri, "cpu", "float32", None, job.spec.params))
    score(store, job, skip=(1,), task=task)
    return store, job


def test_a_begun_job_is_not_continued_and_the_message_says_why(begun: tuple[Store, Job]) -> None:
    store, job = begun
    model = verify_inputs_unchanged(job, store, fake_settings())
    with pytest.raises(ModelChanged, match=r"earlier headrace \(0\.1.*vectors are list<float32>"):
        verify_answers_unchanged(job, model)
    for words in (("resume",), ("retry", "--parked")):
        ended = headrace(*words, store.uri)
        assert ended.returncode == ExitCode.MODEL_CHANGED
        assert "two kinds of rows" in ended.stderr


def test_the_same_submission_is_another_job(begun: tuple[Store, Job]) -> None:
    _, job = begun
    now = job.spec.model_copy(update={"answers_version": 2})
    assert job_id(now) != job.id
    assert differences(job, now, job.inputs) == [
        "headrace: an earlier version, whose answers are others"
    ]


def test_a_worker_of_today_does_not_take_it(begun: tuple[Store, Job]) -> None:
    _, job = begun
    loader = ModelLoader(
        fake_settings(), Identity("here-0", "cpu", 1), partial(open_store, settings=fake_settings())
    )
    with pytest.raises(ModelChanged, match="two kinds of rows"):
        loader.load(job)


def test_vectors_of_both_kinds_are_verified_and_read_and_not_reused(
    begun: tuple[Store, Job], tmp_path: Path
) -> None:
    store, job = begun
    task = FeatureExtraction()
    task.load(LoadRequest(job.spec.model.uri, "cpu", "float32", None, job.spec.params))
    score(store, job, skip=(0,), task=task)  # as a headrace between the two resumed it
    finish(store, job)
    assert verify(store, fake_settings(), now_s=NOW_S).verdict == "verified"
    parts = [ds.dataset(f"{store.uri}/{output_layout.part(n)}") for n in (0, 1)]
    assert [str(part.schema.field("embedding").type)[:4] for part in parts] == ["fixe", "list"]
    found = ds.dataset(f"{store.uri}/data", schema=parts[1].schema).to_table()["embedding"]
    assert [len(v) for v in found.to_pylist()] == [32] * 40
    now = job.spec.model_copy(update={"answers_version": 2})
    with pytest.raises(ConfigError, match="other version of its answers"):
        reusable(store.uri, now, partial(open_store, settings=fake_settings()))


def test_a_finished_job_of_an_earlier_headrace_is_still_shown(begun: tuple[Store, Job]) -> None:
    store, job = begun
    task = FixedSize()
    task.load(LoadRequest(job.spec.model.uri, "cpu", "float32", None, job.spec.params))
    score(store, job, skip=(0,), task=task)
    finish(store, job)
    ended = headrace("resume", store.uri, "--json")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert json.loads(ended.stdout)["ok"] == 40
    assert read_job(store) == job
