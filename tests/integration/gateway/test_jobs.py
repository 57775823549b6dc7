"""`/v1/jobs`: what the commands do, over HTTP, for own jobs alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.output.job_record import require_job
from headrace.storage.local import LocalStore
from schemas.names import output_layout
from tests.integration.gateway.conftest import House
from tests.integration.gateway.test_who_may import problem
from tests.unit.small_job import finish, score, write_input


@pytest.fixture
def submitted(gate: House, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """The id of a job, and its submission."""
    corpus = write_input(tmp_path / "in.parquet", ["a", None, *["b"] * 30])
    body = {
        "input": str(corpus), "output": str(tmp_path / "out"), "task": "fake", "id_column": "id",
        "chunk_rows": 8, "priority": 3,
    }  # fmt: skip
    answer = gate.client("a").post("/v1/jobs", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["new"]
    return str(answer.json()["id"]), body


def test_the_same_submission_is_the_same_job(
    gate: House, submitted: tuple[str, dict[str, Any]]
) -> None:
    id, body = submitted
    again = gate.client("a").post("/v1/jobs", json=body).json()
    assert (again["id"], again["new"]) == (id, False)
    other = gate.client("a").post("/v1/jobs", json=body | {"limit": 3})
    assert problem(other, 409)["code"] == "output_conflict"


def test_a_job_is_listed_looked_at_stopped_and_continued(
    gate: House, submitted: tuple[str, dict[str, Any]]
) -> None:
    id, _ = submitted
    client = gate.client("a")
    assert [job["id"] for job in client.get("/v1/jobs").json()["data"]] == [id]
    assert client.get("/v1/jobs?state=finished").json()["total"] == 0
    assert client.get(f"/v1/jobs/{id}").json()["rows"] == 32
    for action, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        answer = client.post(f"/v1/jobs/{id}/{action}")
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    assert client.post(f"/v1/jobs/{id}/retry").json()["retried_chunks"] == 0


def test_a_finished_job_gives_parts_events_and_reasons(
    gate: House, submitted: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    id, _ = submitted
    client, store = gate.client("a"), LocalStore(tmp_path / "out")
    score(store, require_job(store))
    finish(store, require_job(store))
    with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        event, data, *_ = stream.iter_lines()
    assert event == "event: job"
    assert json.loads(data.removeprefix("data: "))["state"] == "finished"
    found = client.get(f"/v1/jobs/{id}/explain", params={"row": "in-1"}).json()
    assert found["rows"][0]["error_type"] == "null_text"
    parts = client.get(f"/v1/jobs/{id}/parts").json()["data"]
    assert len(parts) == 4
    data = client.get(f"/v1/jobs/{id}/parts/{parts[0]['id']}").content
    assert data == store.read(output_layout.part(0))
    problem(client.get(f"/v1/jobs/{id}/parts/part-00099.parquet"), 404)
    problem(client.get(f"/v1/jobs/{id}/parts/manifest.json"), 404)
    problem(client.get(f"/v1/jobs/{id}/report"), 404)
    store.replace(output_layout.REPORT, b"<html>")
    policy = client.get(f"/v1/jobs/{id}/report").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")


def test_another_key_sees_no_job_and_an_admin_every_one(
    gate: House, submitted: tuple[str, dict[str, Any]]
) -> None:
    id, _ = submitted
    other = gate.client("b")
    assert other.get("/v1/jobs").json()["data"] == []
    for method, path in (
        ("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume"),
        ("POST", "/retry"), ("GET", "/explain?row=1"), ("GET", "/parts"), ("GET", "/report"),
        ("GET", "/parts/part-00000.parquet"),
    ):  # fmt: skip
        problem(other.request(method, f"/v1/jobs/{id}{path}"), 404)
    admin = gate.client("admin", scopes=["read", "admin"])
    assert admin.get(f"/v1/jobs/{id}").json()["state"] == "running"
    assert len(admin.get("/v1/jobs").json()["data"]) == 1


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"input": "/no/such.parquet"}, 400, "input_not_found"),
        ({"task": "no-such"}, 400, "config_error"),
        ({"text_column": "none"}, 400, "column_error"),
        ({"trust_remote_code": True}, 400, "invalid_value"),
        ({"on_finish": "rm -rf /"}, 400, "invalid_value"),
        ({"registry": "/etc"}, 400, "invalid_value"),
        ({"priority": 1_000}, 400, "config_error"),
        ({"output": ""}, 400, "invalid_value"),
        ({"input": []}, 400, "invalid_value"),
        ({"output": "ftp://x/y"}, 400, "config_error"),
    ],
)
def test_a_submission_that_has_no_meaning_is_refused(
    gate: House, tmp_path: Path, change: dict[str, Any], status: int, code: str
) -> None:
    corpus = write_input(tmp_path / "in.parquet", ["a"])
    body = {"input": str(corpus), "output": str(tmp_path / "out"), "task": "fake", **change}
    assert problem(gate.client().post("/v1/jobs", json=body), status)["code"] == code
