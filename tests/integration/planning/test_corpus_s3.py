"""A corpus, a model, an output and a recount on a real S3 socket."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pytest

from headrace.formats.opener import etag_of
from headrace.output.job_record import check_plan
from headrace.output.plan_file import PlanTable
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.tasks.model_digest import folder_digest
from producers.records.job_registry import open_registry
from producers.submission.create import create_job
from producers.submission.prepare import PreparedJob
from producers.verification.verify import verify
from schemas.errors import InputNotFound, InputUnreadable, OutputConflict
from tests.conftest import S3Server
from tests.unit.models.test_reference import write_model
from tests.unit.small_job import NOW_S, fake_settings, finish, prepare_small, score, write_input


class Bucket:
    """A bucket of the server, and settings that lead to it."""

    def __init__(self, server: S3Server, name: str) -> None:
        self.name = name
        self.uri = f"s3://{name}"
        self.client = server.client()
        self.endpoint = server.endpoint

    def settings(self, **flags: Any) -> Settings:
        return fake_settings(s3_endpoint_url=self.endpoint, **flags)

    def put(self, key: str, path: Path) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())

    def prepare(self, pattern: str, output: str = "out", **flags: Any) -> PreparedJob:
        return prepare_small(
            [f"{self.uri}/{pattern}"], f"{self.uri}/{output}", self.settings(**flags)
        )


@pytest.fixture
def bucket(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    """Six files in three partitions, a hidden one, and one beside them."""
    monkeypatch.setenv("HEADRACE_S3_ENDPOINT_URL", s3_server.endpoint)
    made = Bucket(s3_server, s3_bucket)
    for day in range(3):
        for n in range(2):
            texts = [f"day {day} file {n} row {i}" if i % 7 else None for i in range(120)]
            path = write_input(tmp_path / f"{day}-{n}.parquet", texts, group_rows=50)
            made.put(f"in/day={day}/f{n}.parquet", path)
    made.put("in/_temporary/x.parquet", path)
    made.put("in-other/x.parquet", path)
    return made


def test_a_prefix_a_glob_and_an_object_are_found(bucket: Bucket) -> None:
    whole = bucket.prepare("in", columns="day")
    assert (whole.inputs.files, whole.inputs.rows) == (6, 720)
    first = next(whole.plan.chunks()).pieces[0].file
    assert first.uri == f"{bucket.uri}/in/day=0/f0.parquet"
    assert first.partitions == (("day", "0"),)
    assert bucket.prepare("in/day=[01]/*.parquet").inputs.files == 4
    assert bucket.prepare("in/day=1").inputs.files == 2
    assert bucket.prepare("in/**/f1.parquet", columns="day").inputs.files == 3
    assert bucket.prepare("in-other/x.parquet").inputs.files == 1


def test_an_etag_is_the_buckets_and_the_same_for_a_worker(bucket: Bucket) -> None:
    file = next(bucket.prepare("in").plan.chunks()).pieces[0].file
    store = open_store(f"{bucket.uri}/in/day=0", bucket.settings())
    assert etag_of(store, "f0.parquet", "parquet") == (file.size, file.etag)
    assert etag_of(store, "gone.parquet", "parquet") is None


@pytest.mark.parametrize("pattern", ["nothing", "in/*.json", "in/day=0/f0"])
def test_what_matches_nothing_is_not_found(bucket: Bucket, pattern: str) -> None:
    with pytest.raises(InputNotFound):
        bucket.prepare(pattern)


def test_an_object_that_is_not_parquet_is_named(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="in/day=1/z.parquet", Body=b"not parquet" * 9)
    with pytest.raises(InputUnreadable, match=r"in/day=1/z\.parquet is not Parquet"):
        bucket.prepare("in")


def test_a_job_on_s3_is_created_scored_and_verified(bucket: Bucket) -> None:
    settings = bucket.settings(columns="day", id_column="id", chunk_rows=100)
    prepared = prepare_small([f"{bucket.uri}/in"], f"{bucket.uri}/out", settings)
    store = open_store(prepared.output, settings)
    job, made = create_job(store, prepared, now_s=NOW_S)
    assert made
    assert create_job(store, prepared, now_s=NOW_S) == (job, False)
    score(store, job)
    finish(store, job)
    result = verify(store, settings, now_s=NOW_S)
    assert result.problems == []
    assert (result.verdict, result.rows, result.errors) == ("verified", 720, 108)
    bucket.client.put_object(Bucket=bucket.name, Key="out/data/part-00099.parquet", Body=b"x")
    bucket.client.delete_object(Bucket=bucket.name, Key="out/data/part-00001.parquet")
    bucket.client.delete_object(Bucket=bucket.name, Key="in/day=2/f1.parquet")
    found = {problem.kind for problem in verify(store, settings, now_s=NOW_S).problems}
    assert {"foreign_part", "missing_part", "input_missing"} <= found


@pytest.mark.parametrize("packed", [False, True])
def test_json_lines_in_a_bucket_are_scored_and_verified(bucket: Bucket, packed: bool) -> None:
    lines = [json.dumps({"id": n, "text": f"row {n}", "tags": [n]}) for n in range(900)]
    lines[7] = "{no json"
    data = "\n".join(lines).encode()
    name = "lines/a.jsonl.gz" if packed else "lines/a.jsonl"
    bucket.client.put_object(
        Bucket=bucket.name, Key=name, Body=gzip.compress(data) if packed else data
    )
    settings = bucket.settings(columns="tags", id_column="id", chunk_rows=200)
    prepared = prepare_small([f"{bucket.uri}/lines"], f"{bucket.uri}/out", settings)
    store = open_store(prepared.output, settings)
    job, _ = create_job(store, prepared, now_s=NOW_S)
    score(store, job)
    finish(store, job)
    result = verify(store, settings, now_s=NOW_S)
    assert result.problems == []
    assert (result.verdict, result.rows, result.errors) == ("verified", 900, 1)


def test_a_table_in_a_bucket_is_its_present_snapshot(bucket: Bucket) -> None:
    options = {
        "AWS_ENDPOINT_URL": bucket.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
    }  # fmt: skip
    for count in (50, 30):
        deltalake.write_deltalake(
            f"{bucket.uri}/table", pa.table({"text": ["a"] * count}),
            mode="overwrite", storage_options=options,
        )  # fmt: skip
    assert bucket.prepare("table").inputs.rows == 30


def test_two_submitters_at_once_end_in_one_job(bucket: Bucket) -> None:
    start = threading.Barrier(4)
    results: list[Any] = []

    def submit(chunk_rows: int, max_length: int | None) -> None:
        settings = bucket.settings(chunk_rows=chunk_rows, max_length=max_length)
        prepared = prepare_small([f"{bucket.uri}/in"], f"{bucket.uri}/race", settings)
        start.wait()
        try:
            store = open_store(prepared.output, settings)
            results.append(create_job(store, prepared, now_s=NOW_S))
        except OutputConflict as error:
            results.append(error)

    wishes = [(50, None), (120, None), (70, 9), (90, 9)]
    threads = [threading.Thread(target=submit, args=wish) for wish in wishes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    jobs = [result for result in results if not isinstance(result, OutputConflict)]
    assert (len(results), len(jobs)) == (4, 2)
    assert sorted(made for _, made in jobs) == [False, True]
    assert jobs[0][0] == jobs[1][0]
    store = open_store(f"{bucket.uri}/race", bucket.settings())
    check_plan(jobs[0][0], PlanTable.load(store), store.uri)


def test_a_model_in_a_bucket_has_its_folders_digest(bucket: Bucket, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    for path in folder.iterdir():
        bucket.put(f"models/m/{path.name}", path)
    prepared = bucket.prepare("in", task="text-classification", model=f"{bucket.uri}/models/m")
    assert prepared.spec.model.revision == folder_digest(folder)
    assert prepared.spec.model.uri == f"{bucket.uri}/models/m"
    assert prepared.model.parameters == 1000


def test_a_registry_in_a_bucket_leads_to_its_jobs(bucket: Bucket) -> None:
    settings = bucket.settings(registry=f"{bucket.uri}/registry")
    prepared = bucket.prepare("in", "registered")
    job, _ = create_job(open_store(prepared.output, settings), prepared, now_s=NOW_S)
    registry = open_registry(settings)
    registry.add(job)
    registry.update(job.output, "finished")
    entry = open_registry(settings).find(job.id[:8])
    assert entry is not None
    assert (entry.output, entry.state) == (job.output, "finished")
