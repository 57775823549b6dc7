"""Many small objects: a plan, a controller and a worker that share requests among them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.formats.opener import InputOpener
from headrace.settings import Settings
from headrace.storage.open import open_store
from headrace.telemetry.provider import Telemetry
from producers.inspection.explain import explain
from producers.submission.create import create_job
from producers.verification.verify import verify
from schemas.errors import InputChanged
from schemas.names import output_layout
from tests.conftest import S3Server, wait_until
from tests.fake_jobs import FakeJob
from tests.integration.controller_house import House
from tests.unit.small_job import NOW_S, fake_settings, prepare_small, write_input
from workers.execution.presence import Identity
from workers.execution.runtime import Runtime

FILES, ROWS = 60, 3


@pytest.fixture
def corpus(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> str:
    client = s3_server.client()
    for n in range(FILES):
        texts = [f"file {n} row {row}" for row in range(ROWS)]
        path = write_input(tmp_path / f"f{n:03d}.parquet", texts)
        client.put_object(Bucket=s3_bucket, Key=f"in/{path.name}", Body=path.read_bytes())
    return f"s3://{s3_bucket}/in"


@pytest.fixture
def settings(fault_proxy: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HEADRACE_S3_ENDPOINT_URL", fault_proxy.endpoint)
    return fake_settings(broker_url=redis_url, id_column="id")


def planned(corpus: str, house: House, settings: Settings, tmp_path: Path) -> FakeJob:
    prepared = prepare_small([corpus], f"{corpus.removesuffix('/in')}/out", settings)
    store = open_store(prepared.output, settings)
    job, _ = create_job(store, prepared, now_s=NOW_S)
    house.runtime = Runtime(settings, Identity("w1", "cpu", 1), house.client, Telemetry(),
                            house.sender)  # fmt: skip
    return FakeJob(job, store, [], tmp_path)


def test_sixty_files_take_at_most_three_requests_each_and_one_part(
    corpus: str, house: House, settings: Settings, fault_proxy: Any, tmp_path: Path
) -> None:
    job = planned(corpus, house, settings, tmp_path)
    house.follow(job)
    wait_until(house.until_ended(job))
    calls = Counter((seen.method, seen.path.partition("?")[0]) for seen in fault_proxy.seen)
    of_files = {call: count for call, count in calls.items() if "/in/" in call[1]}
    assert {method for method, _ in of_files} == {"GET"}
    assert len(of_files) == FILES
    # one for the plan and one for the worker; the others are of the job and of its one chunk
    assert sum(of_files.values()) <= 2 * FILES, of_files
    assert calls.total() - sum(of_files.values()) <= 100
    assert [info.name for info in job.store.list(output_layout.DATA)] == [output_layout.part(0)]
    assert verify(job.store, settings, now_s=NOW_S).problems == []
    row = explain(job.store, "f041-2")["rows"][0]
    assert (row["input_file"], row["input_row"]) == (f"{corpus}/f041.parquet", 2)


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_small_file_that_changed_in_the_night_is_named_and_parks_its_chunk_alone(
    house: House, redis_url: str, tmp_path: Path, change: str
) -> None:
    for n in range(FILES):
        write_input(tmp_path / f"in/f{n:03d}.parquet", [f"file {n} row {i}" for i in range(ROWS)])
    settings = fake_settings(broker_url=redis_url, chunk_rows=30)
    job = planned(str(tmp_path / "in"), house, settings, tmp_path)
    path = tmp_path / "in/f041.parquet"
    path.unlink()
    if change == "another":
        write_input(path, ["another"])
    house.follow(job)
    wait_until(house.until_ended(job))
    manifest = job.manifest()
    assert manifest is not None
    (parked,) = manifest.parked
    assert (parked.chunk, parked.cause) == (4, "input_changed")
    assert f"{path} is not the file that was planned" in parked.message
    assert manifest.totals.ok == FILES * ROWS - 30


def test_an_object_that_changed_after_planning_is_named_by_the_worker(
    corpus: str, settings: Settings, s3_server: S3Server, s3_bucket: str
) -> None:
    prepared = prepare_small([corpus], f"s3://{s3_bucket}/out", settings)
    files = [piece.file for chunk in prepared.plan.chunks() for piece in chunk.pieces]
    client = s3_server.client()
    client.delete_object(Bucket=s3_bucket, Key="in/f001.parquet")
    client.put_object(Bucket=s3_bucket, Key="in/f002.parquet", Body=b"PAR1 another PAR1")
    opener = InputOpener(partial(open_store, settings=settings))
    assert opener.unchanged(files[0]).rows == ROWS
    for file in files[1:3]:
        with pytest.raises(InputChanged, match=f"{file.uri} is not the file that was planned") as e:
            opener.unchanged(file)
        assert e.value.__cause__ is not None
        assert e.value.__cause__.__cause__ is not e.value.__cause__  # a worker followed it for ever
