"""A gateway whose store is a bucket: the same steps, and downloads by links of the store."""

from __future__ import annotations

import json
from typing import Any

import requests

from headrace.output.job_record import read_job
from headrace.storage.open import open_store
from headrace.tasks.contract import LoadRequest
from producers.gateway.batches.places import job_uri
from producers.gateway.records import BatchRecord
from tests.conftest import S3Server, wait_until
from tests.integration.gateway.conftest import MakeHouse, embed
from tests.unit.small_job import finish, score
from workers.tasks.feature_extraction import FeatureExtraction


def test_a_batch_in_a_bucket_is_answered_and_downloaded_by_a_link(
    make_house: MakeHouse, s3_server: S3Server, s3_bucket: str, monkeypatch: Any
) -> None:
    gate = make_house(gateway_store=f"s3://{s3_bucket}/gateway", s3_endpoint_url=s3_server.endpoint)
    monkeypatch.setenv("HEADRACE_S3_ENDPOINT_URL", s3_server.endpoint)
    client = gate.client(quota_tokens=10_000)
    batch = gate.batch(client, [embed("a", ["one", "two"]), embed("b")])
    gateway = gate.gateway
    record = gateway.root.read(BatchRecord, f"batches/{batch}/batch.json")
    assert record is not None
    store = open_store(job_uri(gateway, record), gateway.settings)
    job = wait_until(lambda: read_job(store), 30, "the job")
    task = FeatureExtraction()
    task.load(LoadRequest(gate.model, "cpu", "float32", None, job.spec.params))
    score(store, job, task=task)
    finish(store, job)
    found = gate.until(client, batch, "completed")
    answer = client.get(f"/v1/files/{found['output_file_id']}/content", follow_redirects=False)
    assert answer.status_code == 302
    lines = requests.get(answer.headers["location"], timeout=10).text.splitlines()
    assert [json.loads(line)["custom_id"] for line in lines] == ["a", "b"]
    assert gateway.quota.held(record.owner) == 0
