"""A synchronous worker: the same answers as a job, and a reason for what it cannot answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from headrace.settings import load_settings
from headrace.tasks.contract import LoadRequest
from headrace.tasks.registry import load_task
from tests.unit.small_job import score, submit, write_input
from tests.unit.tiny_models import LABELS, TEXTS, TinyModels
from workers.online.app import MOST_TEXTS, create_app
from workers.online.door import Door, open_served
from workers.online.metrics import OnlineMetrics

KINDS = {
    "text-classification": ("SequenceClassification", "/v1/classify"),
    "feature-extraction": ("", "/v1/embeddings"),
    "token-classification": ("TokenClassification", "/v1/ner"),
}


class Served:
    def __init__(self, task: str, path: str) -> None:
        settings = load_settings(task=task, model=path, device="cpu", batch_tokens=300)
        door = Door(open_served(settings, None))
        self.batcher = door.now.batcher
        app = create_app(door, OnlineMetrics())
        self.client = TestClient(app, raise_server_exceptions=False)
        self.path, self.task = path, task

    def ask(self, given: Any, **more: Any) -> Any:
        return self.client.post(KINDS[self.task][1], json={"input": given, **more})


@pytest.fixture(scope="module", params=KINDS)
def served(request: pytest.FixtureRequest, tiny: TinyModels) -> Iterator[Served]:
    head = KINDS[request.param][0]
    labels = {"id2label": LABELS} if head == "TokenClassification" else {}
    found = Served(request.param, tiny("bert", head, **labels))
    yield found
    found.batcher.close()


@pytest.fixture(scope="module")
def classify(tiny: TinyModels) -> Iterator[Served]:
    found = Served("text-classification", tiny("bert", "SequenceClassification"))
    yield found
    found.batcher.close()


def nightly(task_name: str, model: str, folder: Path) -> list[dict[str, Any]]:
    """The rows of a job over the texts."""
    corpus = write_input(folder / "in.parquet", TEXTS)
    store, job = submit([corpus], folder / "out", task=task_name, model=model)
    task = load_task(task_name)
    task.load(LoadRequest(model, "cpu", "float32", None, job.spec.params))
    score(store, job, task=task)
    rows: list[dict[str, Any]] = pq.read_table(folder / "out" / "data").to_pylist()
    return rows


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float):
        return abs(a - b) <= 1e-5
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


def test_answers_are_those_of_a_job_whatever_batch_they_are_in(
    served: Served, tmp_path: Path
) -> None:
    rows = nightly(served.task, served.path, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(lambda text: served.ask(text).json()["data"][0], TEXTS))
    together = served.ask(TEXTS).json()["data"]
    assert [item["index"] for item in together] == list(range(len(TEXTS)))
    names = {"embedding": "embedding", "label": "predicted_label", "score": "score",
             "entities": "entities"}  # fmt: skip
    for row, *answers in zip(rows, alone, together, strict=True):
        for answer in answers:
            found = {k: v for k, v in answer.items() if k in names}
            assert found
            for ours, theirs in names.items():
                if ours in answer:
                    assert same(json.loads(json.dumps(row[theirs])), answer[ours]), row["id"]


def test_vectors_may_be_base64(tiny: TinyModels) -> None:
    served = Served("feature-extraction", tiny("bert", ""))
    plain = served.ask("text").json()["data"][0]["embedding"]
    packed = served.ask("text", encoding_format="base64").json()["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == pytest.approx(plain)
    served.batcher.close()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"[1]", 400, "invalid_json"),
        (b'{"input": "\xff"}', 400, "invalid_json"),
        (b"{}", 400, "invalid_value"),
        (b'{"input": []}', 400, "invalid_value"),
        (b'{"input": [1]}', 400, "invalid_value"),
        (b'{"input": "\\ud800"}', 400, "invalid_value"),
        (b'{"input": "x", "temperature": 1}', 400, "unknown_parameter"),
        (b'{"input": "x", "encoding_format": "int"}', 400, "invalid_value"),
        (b'{"input": "x", "model": "another"}', 404, "model_not_found"),
        (json.dumps({"input": ["x"] * (MOST_TEXTS + 1)}).encode(), 400, "invalid_value"),
        (b'{"input": "' + b"x" * 4_000_001 + b'"}', 413, "too_large"),
    ],
)
def test_what_cannot_be_answered_says_why(
    classify: Served, body: bytes, status: int, code: str
) -> None:
    answer = classify.client.post("/v1/classify", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_another_tasks_route_says_where_this_model_is(classify: Served) -> None:
    answer = classify.client.post("/v1/embeddings", json={"input": "x"})
    assert answer.status_code == 404
    assert "/v1/classify" in answer.json()["error"]["message"]


def test_a_full_queue_is_429_with_when_to_come_back(
    classify: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify.batcher, "_most", 0)
    monkeypatch.setattr(classify.batcher, "_tokens", 1)
    answer = classify.ask("x")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["error"]["type"] == "rate_limit_error"


def test_health_and_metrics_tell_what_is_served(classify: Served) -> None:
    classify.ask(["a", "b"])
    assert classify.client.get("/readyz").json()["task"] == "text-classification"
    page = classify.client.get("/metrics").text
    assert 'headrace_online_requests_total{status="200"}' in page
    assert "headrace_online_texts_total" in page
