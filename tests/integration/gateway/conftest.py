"""A gateway in this process, with a real Redis; its jobs are scored here by the real pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from headrace.output.job_record import read_job
from headrace.settings import load_settings
from headrace.storage.local import LocalStore
from headrace.tasks.contract import LoadRequest, Task
from producers.gateway.access.keys import create_key
from producers.gateway.app import create_app
from producers.gateway.state import Gateway, open_gateway
from tests.conftest import wait_until
from tests.unit.small_job import finish, score
from tests.unit.tiny_models import TinyModels
from workers.tasks.feature_extraction import FeatureExtraction
from workers.tasks.generation import TextGeneration
from workers.tasks.text_classification import TextClassification

BASE = "http://127.0.0.1:8300"


KINDS = {
    "feature-extraction": FeatureExtraction, "text-classification": TextClassification,
    "text-generation": TextGeneration,
}  # fmt: skip


@dataclass
class House:
    """A gateway with its root folder, its keys and clients, and a fleet of one."""

    folder: Path
    model: str
    gateway: Gateway
    clients: dict[str, TestClient] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)

    def client(self, name: str = "team", **key: Any) -> TestClient:
        """The client of a key, made now if there is none."""
        if name not in self.clients:
            secret, _ = create_key(
                self.gateway.root, name, key.pop("scopes", ["submit", "read"]), **key
            )
            headers = {"Authorization": f"Bearer {secret}"}
            first = next(iter(self.clients.values()))
            self.clients[name] = TestClient(
                first.app, BASE, headers=headers, raise_server_exceptions=False
            )
        return self.clients[name]

    def upload(self, client: TestClient, lines: Sequence[Any] | bytes) -> str:
        data = lines if isinstance(lines, bytes) else b"\n".join(map(_dumped, lines))
        answer = client.post(
            "/v1/files", files={"file": ("in.jsonl", data)}, data={"purpose": "batch"}
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def create(self, client: TestClient, lines: Sequence[Any] | bytes, **more: Any) -> Any:
        body = {
            "input_file_id": self.upload(client, lines), "endpoint": "/v1/embeddings",
            "completion_window": "24h", **more,
        }  # fmt: skip
        return client.post("/v1/batches", json=body)

    def batch(self, client: TestClient, lines: Sequence[Any] | bytes, **more: Any) -> str:
        answer = self.create(client, lines, **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def until(self, client: TestClient, batch: str, *states: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = client.get(f"/v1/batches/{batch}").json()
            return found if found["status"] in states else None

        found: dict[str, Any] = wait_until(look, 30, f"{batch} to be {states}")
        return found

    def lines(self, client: TestClient, file: str | None) -> list[dict[str, Any]]:
        if file is None:
            return []
        text = client.get(f"/v1/files/{file}/content").text
        return [json.loads(line) for line in text.splitlines()]

    def job_store(self, batch: str) -> LocalStore:
        return LocalStore(self.folder / "gateway" / "batches" / batch / "job")

    def work(self, batch: str, *, skip: Sequence[int] = (), ends: bool = True) -> None:
        """What controller and worker do with the batch's job."""
        store = self.job_store(batch)
        job = wait_until(lambda: read_job(store), 20, "the job")
        if job.spec.task not in self.tasks:
            task: Any = KINDS[job.spec.task]()
            model = job.spec.model.uri
            engine = job.spec.engine
            task.load(LoadRequest(model, "cpu", "float32", None, job.spec.params, engine=engine))
            self.tasks[job.spec.task] = task
        score(store, job, skip=skip, task=self.tasks[job.spec.task])
        if ends:
            finish(store, job)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return TinyModels(tmp_path_factory.mktemp("models"))("bert", "SequenceClassification")


MakeHouse = Callable[..., House]


@pytest.fixture
def make_house(
    tmp_path: Path, redis_url: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeHouse]:
    for name in ("STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    opened: list[TestClient] = []

    def make(*, needs_keys: bool | None = True, **settings: Any) -> House:
        flags = {
            "broker_url": redis_url, "gateway_store": str(tmp_path / "gateway"),
            "registry": str(tmp_path / "registry"), "gateway_models": f"tiny={model}", **settings,
        }  # fmt: skip
        gateway = open_gateway(load_settings(**flags), needs_keys=needs_keys)
        client = TestClient(create_app(gateway), BASE, raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        return House(tmp_path, model, gateway, {"": client})

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def gate(make_house: MakeHouse) -> House:
    """A gateway with keys."""
    return make_house()


def embed(custom_id: str, text: Any = "a good film", **body: Any) -> dict[str, Any]:
    """A line for embeddings."""
    return {
        "custom_id": custom_id, "method": "POST", "url": "/v1/embeddings",
        "body": {"model": "tiny", "input": text, **body},
    }  # fmt: skip


def classify(custom_id: str, text: Any = "a good film") -> dict[str, Any]:
    """A line for classifications."""
    return embed(custom_id, text) | {"url": "/v1/classifications"}


def _dumped(line: Any) -> bytes:
    return line if isinstance(line, bytes) else json.dumps(line).encode()
