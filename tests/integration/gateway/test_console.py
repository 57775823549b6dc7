"""The console: six pages that work without scripts, for own jobs, with everything escaped."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from headrace.models.registry import open_model_registry
from headrace.output.job_record import require_job
from headrace.storage.local import LocalStore
from producers.records.job_registry import Entry, Registry
from schemas.names import output_layout
from schemas.records.job import ModelRef
from schemas.records.run_key import job_key
from tests.integration.gateway.conftest import House, MakeHouse
from tests.unit.quality.test_compared_entities import A, B, scored
from tests.unit.small_job import finish, score, write_input

PAGES = ("jobs", "submit", "workers", "models", "comparisons")
EVIL = "<script>alert(1)</script>"


def token(client: TestClient) -> str:
    """The token of a form, as the browser has it after loading a page."""
    page = client.get("/console/submit").text
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


@pytest.fixture
def local(make_house: MakeHouse) -> House:
    """A gateway without keys: the user of the machine."""
    return make_house(needs_keys=False)


def submitted(house: House, client: TestClient, tmp_path: Path, name: str = "out") -> str:
    corpus = write_input(tmp_path / "in.parquet", ["a", None, *["b"] * 20])
    body = {"input": str(corpus), "output": str(tmp_path / name), "task": "fake", "id_column": "id"}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize("name", PAGES)
def test_each_page_is_strict_and_has_no_script(local: House, name: str) -> None:
    answer = local.clients[""].get(f"/console/{name}")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert "unsafe" not in policy
    assert not re.search(r"<script|\son\w+=|style=", answer.text)
    assert f'href="/console/{name}" aria-current="page"' in answer.text
    assert len(answer.content) < 100_000


def test_the_first_page_is_the_list_of_jobs(local: House) -> None:
    client = local.clients[""]
    assert client.get("/").url.path == "/console/jobs"
    assert client.get("/console/style.css").headers["content-type"].startswith("text/css")


def test_a_job_is_submitted_after_its_estimate_and_stopped_by_buttons(
    local: House, tmp_path: Path
) -> None:
    client = local.clients[""]
    corpus = write_input(tmp_path / "in.parquet", ["some text"] * 30)
    form = {
        "csrf": token(client), "input": str(corpus), "output": str(tmp_path / "out"),
        "task": "fake", "id_column": "id", "step": "estimate",
    }  # fmt: skip
    first = client.post("/console/submit", data=form)
    assert first.status_code == 200
    assert "30 in 1 file" in first.text
    assert 'value="submit"' in first.text
    assert not (tmp_path / "out").exists(), "an estimate writes nothing"
    page = client.post("/console/submit", data=form | {"step": "submit"})
    assert re.fullmatch(r"/console/jobs/[0-9a-f]{16}-[0-9a-f]{8}", page.url.path)
    for action, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        page = client.post(f"{page.url.path}/{action}", data={"csrf": form["csrf"]})
        assert f'<span class="badge">{state}</span>' in page.text


@pytest.mark.parametrize("given", ["", "x" * 32, "ä"])
def test_a_form_without_its_token_changes_nothing(local: House, tmp_path: Path, given: str) -> None:
    client = local.clients[""]
    id = submitted(local, client, tmp_path)
    token(client)
    for path in (f"/console/jobs/{id}/cancel", "/console/submit"):
        answer = client.post(path, data={"csrf": given})
        assert answer.status_code == 403
        assert "This did not work" in answer.text
    assert client.get(f"/v1/jobs/{id}").json()["state"] == "running"


def test_a_form_that_has_no_meaning_says_so_and_keeps_what_was_written(local: House) -> None:
    client = local.clients[""]
    form = {"csrf": token(client), "input": f"/no/{EVIL}", "output": "/out", "task": "fake"}
    answer = client.post("/console/submit", data=form)
    assert answer.status_code == 400
    assert EVIL not in answer.text
    assert html.escape(f"/no/{EVIL}") in answer.text
    empty = client.post("/console/submit", data={"csrf": form["csrf"]})
    assert "name an input and an output" in empty.text


def test_a_running_page_loads_again_and_an_ended_one_does_not(local: House, tmp_path: Path) -> None:
    client = local.clients[""]
    id = submitted(local, client, tmp_path)
    assert 'http-equiv="refresh" content="5"' in client.get(f"/console/jobs/{id}").text
    assert '<a href="?live=0">Stop loading it again</a>' in client.get(f"/console/jobs/{id}").text
    still = client.get(f"/console/jobs/{id}", params={"live": "0"}).text
    assert 'http-equiv="refresh"' not in still
    assert '<a href="?">Load it again every 5 seconds</a>' in still
    store = LocalStore(tmp_path / "out")
    score(store, require_job(store))
    finish(store, require_job(store))
    page = client.get(f"/console/jobs/{id}", params={"row": "in-1"}).text
    assert 'http-equiv="refresh"' not in page
    assert "null_text" in page
    assert "row in-1: error" in page


def test_what_comes_from_a_corpus_is_escaped(local: House, tmp_path: Path) -> None:
    client = local.clients[""]
    id = submitted(local, client, tmp_path, name=f"out{EVIL.replace('/', '')}")
    raw = "<script>alert(1)<script>"
    for page in (client.get("/console/jobs"), client.get(f"/console/jobs/{id}"),
                 client.get("/console/jobs", params={"text": EVIL}),
                 client.get(f"/console/jobs/{id}", params={"row": EVIL}),
                 client.get("/console/comparisons", params={"a": EVIL, "b": EVIL})):  # fmt: skip
        assert raw not in page.text
        assert EVIL not in page.text


def test_ten_thousand_jobs_are_listed_quickly_and_fifty_a_page(
    make_house: MakeHouse, tmp_path: Path
) -> None:
    registry = Registry(LocalStore(tmp_path / "registry"))
    folder = tmp_path / "registry" / "jobs"
    folder.mkdir(parents=True)
    for i in range(10_000):
        entry = Entry(id=f"{i:016x}", output=f"/out/{i}", submitted_s=i, task="fake", rows=i)
        (folder / f"{i:032x}.json").write_text(entry.model_dump_json())
    assert len(registry.list()) == 10_000
    client = make_house(needs_keys=False).clients[""]
    client.get("/console/jobs")  # reads each entry once
    started = time.perf_counter()
    page = client.get("/console/jobs")
    seconds = time.perf_counter() - started
    assert page.text.count("<tr>") == 51
    assert "1–50 of 10,000" in page.text
    assert len(page.content) < 100_000
    assert seconds < 3, "300 ms on two idle cores"
    last = client.get("/console/jobs?offset=9950&state=running").text
    assert "9,951–10,000 of 10,000" in last
    assert "Older" not in last


def test_a_key_is_the_password_and_sees_its_own_jobs_alone(gate: House, tmp_path: Path) -> None:
    a, b = gate.client("a"), gate.client("b")
    id = submitted(gate, a, tmp_path)
    anonymous = gate.clients[""].get("/console/jobs")
    assert anonymous.status_code == 401
    assert anonymous.headers["www-authenticate"].startswith("Basic realm=")
    assert id.partition("-")[0] in a.get("/console/jobs").text
    assert id.partition("-")[0] not in b.get("/console/jobs").text
    assert b.get(f"/console/jobs/{id}").status_code == 404


def test_an_alias_is_moved_by_an_admin_unless_another_moved_it(
    gate: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = open_model_registry(gate.gateway.settings)
    for digest in ("a", "b", "c"):
        ref = ModelRef(uri=f"/models/{digest}", revision=f"sha256:{digest * 64}")
        registry.register("reviews", ref, task="text-classification", by="test")
    registry.promote("reviews", "champion", 1, by="test")
    admin = gate.client("admin", scopes=["submit", "read", "admin"])
    form: dict[str, Any] = {
        "csrf": token(admin), "name": "reviews", "alias": "champion", "version": 2, "seen": 1,
    }  # fmt: skip
    assert "Point champion of reviews" in admin.get("/console/models").text
    assert admin.post("/console/models/promote", data=form).url.path == "/console/models"
    assert registry.aliases("reviews")["champion"].version == 2
    assert admin.post("/console/models/promote", data=form | {"version": 3}).status_code == 400
    reader = gate.client("reader")
    assert "Promote" not in reader.get("/console/models").text
    refused = reader.post("/console/models/promote", data=form | {"csrf": token(reader)})
    assert refused.status_code == 403


def test_parked_chunks_have_a_button(local: House, tmp_path: Path) -> None:
    client = local.clients[""]
    id = submitted(local, client, tmp_path)
    store = LocalStore(tmp_path / "out")
    store.create(output_layout.parked(0), b'{"chunk": 0, "cause": "crash", "message": "<b>"}')
    page = client.get(f"/console/jobs/{id}").text
    assert "Retry parked chunks" in page
    assert "<b>" not in page.replace("<li><b>", "")
    client.post(f"/console/jobs/{id}/retry", data={"csrf": token(client)})
    assert store.head(output_layout.parked(0)) is None


def test_entities_of_two_jobs_are_compared(local: House, tmp_path: Path) -> None:
    stores = scored(tmp_path / "a", A, 3), scored(tmp_path / "b", B, 1)
    found = [require_job(store) for store in stores]
    keys = [job_key(job.id, store.uri) for job, store in zip(found, stores, strict=True)]
    for job, store in zip(found, stores, strict=True):
        placed = job.model_copy(update={"output": store.uri})
        store.replace(output_layout.JOB, placed.model_dump_json().encode())
        local.gateway.registry.add(placed)
    page = local.clients[""].get("/console/comparisons", params=dict(zip("ab", keys, strict=True)))
    assert page.status_code == 200, page.text
    assert "texts whose entities changed" in page.text
    assert "<td>LOC</td><td>ORG</td>" in page.text
    assert "<td>PER</td><td>PER, another span</td>" in page.text
    assert "<td>r1</td><td>Paris</td>" in page.text
