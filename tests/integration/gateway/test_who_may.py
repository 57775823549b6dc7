"""Who may do what: keys, scopes, own things, prefixes, quota, sizes; errors in OpenAI's shape."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway.conftest import House, MakeHouse, embed
from tests.unit.small_job import write_input

PATHS = [
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("GET", "/v1/batches"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/x"),
]


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer hr-" + "x" * 43, "Basic !", "Basic eDp5"]
)
def test_a_wrong_key_is_401(gate: House, method: str, path: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = gate.clients[""].request(method, path, headers=headers)
    error = problem(answer, 401)
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_may_be_the_password_of_basic(gate: House) -> None:
    key = gate.client().headers["Authorization"].removeprefix("Bearer ")
    basic = base64.b64encode(f"me:{key}".encode()).decode()
    answer = gate.clients[""].get("/v1/files", headers={"Authorization": f"Basic {basic}"})
    assert answer.status_code == 200


def test_a_missing_scope_is_403(gate: House) -> None:
    reader = gate.client("reader", scopes=["read"])
    writer = gate.client("writer", scopes=["submit"])
    assert problem(reader.post("/v1/files"), 403)["code"] == "missing_scope"
    assert problem(writer.get("/v1/files"), 403)["type"] == "permission_error"


def test_what_another_key_has_is_404_as_if_it_were_not_there(gate: House) -> None:
    a, b = gate.client("a"), gate.client("b")
    file, batch = gate.upload(a, [embed("x")]), gate.batch(a, [embed("x")])
    for path in (f"/v1/files/{file}", f"/v1/files/{file}/content", f"/v1/batches/{batch}"):
        theirs = problem(b.get(path), 404)["message"].replace(file, "ID").replace(batch, "ID")
        mine = problem(a.get(path.replace("09", "08")), 404)["message"]
        assert a.get(path).status_code == 200
        assert theirs.split("'")[0] == mine.split("'")[0]
    problem(b.delete(f"/v1/files/{file}"), 404)
    problem(b.post(f"/v1/batches/{batch}/cancel"), 404)
    stolen = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    problem(b.post("/v1/batches", json=stolen), 404)
    assert b.get("/v1/files").json()["data"] == b.get("/v1/batches").json()["data"] == []


@pytest.mark.parametrize(
    "id", ["../keys", "..%2f..%2fetc", "file-%00", "file-ä", "-", "a/b", "x" * 300]
)
def test_an_id_is_never_a_path(gate: House, id: str) -> None:
    client = gate.client()
    for kind in ("files", "batches", "jobs"):
        answer = client.get(f"/v1/{kind}/{id}")
        assert answer.status_code == 404, answer.text
        assert "error" in answer.json()


def test_over_quota_is_429_with_when_to_come_back(gate: House) -> None:
    client = gate.client("small", quota_tokens=100)
    lines = [embed("x", "word " * 50)]
    assert gate.create(client, lines).status_code == 200
    answer = gate.create(client, lines)
    error = problem(answer, 429)
    assert (error["type"], error["code"]) == ("rate_limit_error", "token_limit_exceeded")
    assert answer.headers["retry-after"] == "60"
    assert len(client.get("/v1/batches").json()["data"]) == 1


def test_a_hundred_creations_at_once_never_pass_the_quota(gate: House) -> None:
    client = gate.client("busy", quota_tokens=1_000)
    file = gate.upload(client, [embed("x", "word " * 50)])
    body = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    size = client.get(f"/v1/files/{file}").json()["bytes"] // 4
    with ThreadPoolExecutor(16) as pool:
        codes = [a.status_code for a in pool.map(
            lambda _: client.post("/v1/batches", json=body), range(100)
        )]  # fmt: skip
    assert set(codes) == {200, 429}
    assert codes.count(200) >= 1_000 // size, "none was refused while there was room"
    owner = client.get("/v1/batches").json()["data"]
    assert len(owner) == min(20, codes.count(200))


def test_a_file_that_is_too_large_is_413_and_leaves_nothing(make_house: MakeHouse) -> None:
    gate = make_house(gateway_file_bytes=1_000)
    client = gate.client()
    upload = {"files": {"file": ("a", b"x" * 1_001)}, "data": {"purpose": "batch"}}
    assert problem(client.post("/v1/files", **upload), 413)["code"] == "too_large"
    kept = [p for p in (gate.folder / "gateway").rglob("*") if p.is_file()]
    assert [p.parent.name for p in kept] == ["keys"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"completion_window": "never"}, "completion_window"),
        ({"completion_window": "169h"}, "completion_window"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"surprise": 1}, "surprise"),
        ({"input_file_id": None}, "input_file_id"),
    ],
)
def test_a_batch_that_has_no_meaning_is_400(
    gate: House, change: dict[str, Any], param: str
) -> None:
    client = gate.client()
    body = {
        "input_file_id": gate.upload(client, [embed("x")]), "endpoint": "/v1/embeddings",
        "completion_window": "24h", **change,
    }  # fmt: skip
    assert problem(client.post("/v1/batches", json=body), 400)["param"] == param


def test_an_upload_needs_a_purpose_and_a_file(gate: House) -> None:
    client = gate.client()
    file = {"file": ("a", b"x")}
    assert problem(client.post("/v1/files", files=file), 400)["param"] == "purpose"
    wrong = client.post("/v1/files", files=file, data={"purpose": "fine-tune"})
    assert problem(wrong, 400)["param"] == "purpose"
    assert problem(client.post("/v1/files", files={"x": b""}), 400)["param"] == "file"
    assert problem(client.post("/v1/files", json={}), 400)["code"] == "bad_form"


def test_without_keys_the_local_user_may_everything_and_others_nothing(
    make_house: MakeHouse,
) -> None:
    client = make_house(needs_keys=False).clients[""]
    assert client.get("/v1/files").status_code == 200
    elsewhere = client.get("/v1/files", headers={"Host": "evil.example"})
    assert problem(elsewhere, 403)["code"] == "host"
    foreign = client.post("/v1/jobs", headers={"Origin": "https://evil.example"})
    assert problem(foreign, 403)["code"] == "other_site"


def test_a_job_reads_and_writes_below_its_keys_prefixes_alone(gate: House, tmp_path: Path) -> None:
    inside = write_input(tmp_path / "mine" / "in.parquet", ["a"])
    outside = write_input(tmp_path / "theirs" / "in.parquet", ["a"])
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "theirs")
    client = gate.client("fenced", prefixes=[str(tmp_path / "mine")])

    def submit(**body: Any) -> Any:
        return client.post("/v1/jobs", json={"task": "fake", **body})

    out = str(tmp_path / "mine" / "out")
    for wrong in (
        {"input": str(outside), "output": out},
        {"input": str(inside), "output": str(tmp_path / "theirs" / "out")},
        {"input": str(tmp_path / "mine" / "link" / "in.parquet"), "output": out},
        {"input": str(tmp_path / "mine" / ".." / "theirs" / "in.parquet"), "output": out},
        {"input": str(inside), "output": out, "reuse": str(tmp_path / "theirs")},
        {"input": str(inside), "output": out, "task": "feature-extraction",
         "model": str(tmp_path / "theirs" / "model")},
    ):  # fmt: skip
        assert problem(submit(**wrong), 403)["code"] == "uri_not_allowed", wrong
    assert not (tmp_path / "theirs" / "out").exists()
    assert submit(input=str(inside), output=out).status_code == 200
