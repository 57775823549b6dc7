"""A batch from its file to its answers, with everything that may go wrong in between."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.coordination.announced_jobs import announced_jobs
from headrace.output.job_record import read_job, require_job
from headrace.storage.local import LocalStore
from producers.gateway.access.keys import list_keys
from producers.gateway.batches.advance import advance
from producers.gateway.batches.keeper import UNMADE_S, Keeper
from producers.gateway.batches.places import open_mark
from producers.gateway.records import BatchRecord
from producers.records.manifest import build_manifest, parts_of, receipt_of_part
from schemas.errors import BrokerError, StorageError
from schemas.names import output_layout
from tests.conftest import wait_until
from tests.integration.gateway.conftest import House, MakeHouse, classify, embed


def test_answers_are_those_of_the_lines_in_their_order(gate: House) -> None:
    client = gate.client()
    lines = [embed("b", "one"), embed("a", ["two", "", "three"]), embed("c", "one")]
    batch = gate.batch(client, lines, metadata={"run": "7"})
    gate.work(batch)
    found = gate.until(client, batch, "completed")
    assert found["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert (found["metadata"], found["model"], found["errors"]) == ({"run": "7"}, "tiny", None)
    assert found["error_file_id"] is None
    answers = gate.lines(client, found["output_file_id"])
    assert [line["custom_id"] for line in answers] == ["b", "a", "c"]
    bodies = [line["response"]["body"] for line in answers]
    assert [[d["index"] for d in body["data"]] for body in bodies] == [[0], [0, 1, 2], [0]]
    assert bodies[0]["data"][0]["embedding"] == bodies[2]["data"][0]["embedding"]
    assert len(bodies[0]["data"][0]["embedding"]) == 32
    assert bodies[1]["usage"]["prompt_tokens"] == 3 + 2 + 3
    assert all(line["error"] is None for line in answers)
    assert gate.gateway.quota.held(gate_owner(gate)) == 0


def gate_owner(gate: House) -> str:
    """The id of the first key."""
    return next(record.id for _, record in list_keys(gate.gateway.root))


def test_vectors_may_be_base64_as_the_client_of_openai_reads_them(gate: House) -> None:
    client = gate.client()
    plain = gate.batch(client, [embed("a")])
    packed = gate.batch(client, [embed("a", encoding_format="base64")])
    for batch in (plain, packed):
        gate.work(batch)
    vectors = []
    for batch in (plain, packed):
        found = gate.until(client, batch, "completed")
        (line,) = gate.lines(client, found["output_file_id"])
        vectors.append(line["response"]["body"]["data"][0]["embedding"])
    assert np.frombuffer(base64.b64decode(vectors[1]), "<f4").tolist() == vectors[0]


def test_classifications_have_label_and_score(gate: House) -> None:
    client = gate.client()
    batch = gate.batch(client, [classify("a", ["good", "bad"])], endpoint="/v1/classifications")
    gate.work(batch)
    found = gate.until(client, batch, "completed")
    (line,) = gate.lines(client, found["output_file_id"])
    data = line["response"]["body"]["data"]
    assert [(d["object"], d["index"]) for d in data] == [
        ("classification", 0),
        ("classification", 1),
    ]
    assert {d["label"] for d in data} <= {"LABEL_0", "LABEL_1"}
    assert all(0 <= d["score"] <= 1 for d in data)


def test_lines_with_errors_fail_the_batch_before_anything_is_computed(gate: House) -> None:
    client = gate.client()
    batch = gate.batch(client, [embed("a"), b"{", *[embed("a")] * 150])
    found = gate.until(client, batch, "failed")
    errors = found["errors"]["data"]
    assert (errors[0]["line"], errors[1]["line"], errors[1]["code"]) == (
        2,
        3,
        "duplicate_custom_id",
    )
    assert len(errors) == 101
    assert errors[-1]["message"] == "and 51 more lines with errors"
    assert gate.job_store(batch).list("_headrace/job.json").__next__ is not None
    assert gate.job_store(batch).head(output_layout.JOB) is None


def test_a_model_that_is_not_there_fails_the_batch(gate: House) -> None:
    client = gate.client()
    batch = gate.batch(client, [embed("a", model="no-such")])
    found = gate.until(client, batch, "failed")
    assert found["errors"]["data"][0]["code"] == "model_registry_error"
    assert "no alias champion" in found["errors"]["data"][0]["message"]


def test_a_cancelled_batch_gives_what_was_finished(gate: House) -> None:
    client = gate.client()
    lines = [embed(f"r{i}", "word " * 200) for i in range(600)]
    gate.gateway.settings = gate.gateway.settings.model_copy(update={"chunk_rows": 256})
    batch = gate.batch(client, lines)
    gate.work(batch, skip=range(1, 1000), ends=False)
    assert client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelling"
    store = gate.job_store(batch)
    wait_until(lambda: store.head(output_layout.CANCELLED), 20, "the flag of the job")
    _end_as_cancelled(store)
    found = gate.until(client, batch, "cancelled")
    done = gate.lines(client, found["output_file_id"])
    left = gate.lines(client, found["error_file_id"])
    assert [line["custom_id"] for line in done + left] == [f"r{i}" for i in range(600)]
    assert 0 < len(done) < 600
    assert {line["error"]["code"] for line in left} == {"batch_cancelled"}
    counts = found["request_counts"]
    assert (counts["completed"], counts["failed"]) == (len(done), len(left))
    assert client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelled"


def test_a_batch_cancelled_before_its_job_is_submitted_has_each_line_as_an_error(
    gate: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StorageError("the store is away")

    monkeypatch.setattr("producers.gateway.batches.advance._submit", away)
    client = gate.client()
    batch = gate.batch(client, [embed("a"), embed("b")])
    checked = gate.folder / "gateway" / "batches" / batch / "checked.json"
    wait_until(checked.exists, 20, "the lines to be checked")
    client.post(f"/v1/batches/{batch}/cancel")
    found = gate.until(client, batch, "cancelled")
    left = gate.lines(client, found["error_file_id"])
    assert [line["custom_id"] for line in left] == ["a", "b"]
    assert {line["error"]["code"] for line in left} == {"batch_cancelled"}
    counts = found["request_counts"]
    assert (counts["total"], counts["completed"], counts["failed"]) == (2, 0, 2)


def test_a_job_that_was_stored_and_not_announced_is_announced_later(
    gate: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise BrokerError("Redis is away")

    monkeypatch.setattr("producers.gateway.batches.advance.announce", away)
    client = gate.client()
    batch = gate.batch(client, [embed("a")])
    job = wait_until(lambda: read_job(gate.job_store(batch)), 20, "the job to be stored")
    broker = gate.gateway.broker()
    wait_until(lambda: job.key in announced_jobs(broker.client), 20, "the controllers to see it")


def _end_as_cancelled(store: LocalStore) -> None:
    """The manifest that the controller writes when a job was cancelled."""
    job = require_job(store)
    receipts = [receipt_of_part(store, job, chunk) for chunk in parts_of(store)]
    manifest = build_manifest(
        job, receipts, [], finished_s=time.time(), versions={}, stopped=("cancelled", "by request")
    )
    store.replace(output_layout.MANIFEST, manifest.model_dump_json().encode())


def test_a_batch_that_is_not_done_in_its_window_expires(gate: House) -> None:
    client = gate.client()
    batch = gate.batch(client, [embed("a")], completion_window="1m")
    gate.until(client, batch, "in_progress")
    place = gate.folder / "gateway" / "batches" / batch / "batch.json"
    record = BatchRecord.model_validate_json(place.read_bytes())
    place.write_text(record.model_copy(update={"expires_s": 1.0}).model_dump_json())
    store = gate.job_store(batch)
    wait_until(lambda: store.head(output_layout.CANCELLED), 20, "the flag of the job")
    _end_as_cancelled(store)
    found = gate.until(client, batch, "expired")
    (line,) = gate.lines(client, found["error_file_id"])
    assert line["error"]["code"] == "batch_expired"


def test_a_gateway_that_dies_loses_nothing(make_house: MakeHouse) -> None:
    """What one has begun another ends: at each step, as often as it is called."""
    first = make_house()
    client = first.client()
    batch = first.batch(client, [embed("a"), embed("b")])
    second = make_house()
    record = second.gateway.root.read(BatchRecord, f"batches/{batch}/batch.json")
    assert record is not None
    first.work(batch, ends=True)
    assert wait_until(lambda: advance(second.gateway, record), 20, "the end")
    assert advance(first.gateway, record), "a step that was done is done"
    found = first.until(client, batch, "completed")
    assert len(first.lines(client, found["output_file_id"])) == 2
    assert [f["id"] for f in client.get("/v1/files?purpose=batch_output").json()["data"]] == [
        found["output_file_id"]
    ]


def test_what_a_gateway_began_and_did_not_make_is_given_back(gate: House) -> None:
    gateway = gate.gateway
    gateway.root.store.create(open_mark("batch_dead"), b"someone")
    gateway.quota.reserve("someone", "batch_dead", 5, None)
    keeper = Keeper(gateway)
    assert not keeper._step("batch_dead"), "it may be made this moment"
    place = Path(gateway.root.store.uri) / open_mark("batch_dead")
    os.utime(place, (time.time() - UNMADE_S - 1,) * 2)
    assert keeper._step("batch_dead")
    assert gateway.quota.held("someone") == 0
    assert gateway.root.store.head(open_mark("batch_dead")) is None


def test_a_redis_that_is_away_is_waited_for(gate: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client = gate.client()

    def away(self: Any) -> Any:
        raise BrokerError("away")

    with monkeypatch.context() as patch:
        patch.setattr(type(gate.gateway), "broker", away)
        batch = gate.batch(client, [embed("a")])
        gate.until(client, batch, "validating")
        wait_until(
            lambda: gate.gateway.root.store.head(f"batches/{batch}/checked.json"), 20, "the check"
        )
    gate.work(batch)
    gate.until(client, batch, "completed")


def test_lists_have_the_newest_first_in_pages(gate: House) -> None:
    client = gate.client()
    files = [gate.upload(client, [embed("a")]) for _ in range(3)]
    first = client.get("/v1/files?limit=2").json()
    assert [f["id"] for f in first["data"]] == files[:0:-1]
    assert first["has_more"]
    rest = client.get(f"/v1/files?limit=2&after={first['last_id']}").json()
    assert ([f["id"] for f in rest["data"]], rest["has_more"]) == (files[:1], False)


def test_a_file_that_was_deleted_before_its_check_fails_the_batch(
    gate: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = gate.client()
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "look", lambda self: None)
        batch = gate.batch(client, [embed("a")])
        file = client.get(f"/v1/batches/{batch}").json()["input_file_id"]
        assert client.delete(f"/v1/files/{file}").json()["deleted"]
    found = gate.until(client, batch, "failed")
    assert found["errors"]["data"][0]["code"] == "file_not_found"
