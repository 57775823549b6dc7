"""A request to a synchronous worker has a span, below its caller's; errors say which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from headrace.settings import load_settings
from headrace.tracing.trace_file import SpanRow
from schemas.names import telemetry as names
from tests.unit.tiny_models import TinyModels
from workers.online.app import create_app
from workers.online.door import Door, open_served
from workers.online.metrics import OnlineMetrics

TRACE, CALLER = "a" * 32, "b" * 16


class Collected:
    """Keeps what is sent."""

    resource: Mapping[str, str] = {"service.name": "headrace-worker"}

    def __init__(self) -> None:
        self.rows: list[SpanRow] = []

    def emit(self, rows: Sequence[SpanRow]) -> None:
        self.rows.extend(rows)

    def record(self, metric: str, value: float, **labels: str) -> None: ...


class Served:
    def __init__(self, model: str) -> None:
        settings = load_settings(task="text-classification", model=model, device="cpu")
        self.door = Door(open_served(settings, None))
        self.spans = Collected()
        app = create_app(self.door, OnlineMetrics(), self.spans)
        self.client = TestClient(app, raise_server_exceptions=False)

    def ask(self, given: Any, **headers: str) -> list[SpanRow]:
        """The spans of one request."""
        self.spans.rows.clear()
        self.client.post("/v1/classify", json={"input": given}, headers=headers)
        return list(self.spans.rows)


@pytest.fixture(scope="module")
def served(tiny: TinyModels) -> Iterator[Served]:
    found = Served(tiny("bert", "SequenceClassification"))
    yield found
    found.door.close()


def test_a_request_is_a_span_with_its_stages_below(served: Served) -> None:
    root, *stages = served.ask(["a good film", "a bad one"])
    assert (root.name, root.kind, root.parent_span_id) == ("POST /v1/classify", "SERVER", None)
    assert [s.name for s in stages] == ["tokenize", "forward"]
    assert {s.parent_span_id for s in stages} == {root.span_id}
    assert len({s.trace_id for s in (root, *stages)}) == 1
    assert root.attributes[names.HTTP_STATUS] == 200
    assert (root.attributes["headrace.rows"], root.attributes["headrace.truncated_rows"]) == (2, 0)
    assert root.attributes[names.TASK] == "text-classification"
    end_ns = root.start_time_unix_nano + root.duration_nano
    for stage in stages:
        assert root.start_time_unix_nano <= stage.start_time_unix_nano <= end_ns
        assert 0 < stage.duration_nano <= root.duration_nano
    assert set(root.attributes) <= set(names.ATTRIBUTES)


def test_a_callers_trace_is_continued(served: Served) -> None:
    root, *_ = served.ask("a film", traceparent=f"00-{TRACE}-{CALLER}-01")
    assert (root.trace_id, root.parent_span_id) == (TRACE, CALLER)


def test_what_the_caller_does_not_sample_is_not_sent(served: Served) -> None:
    assert served.ask("a film", traceparent=f"00-{TRACE}-{CALLER}-00") == []


def test_a_traceparent_without_meaning_is_ignored(served: Served) -> None:
    root, *_ = served.ask("a film", traceparent="00-nonsense-00")
    assert root.parent_span_id is None
    assert len(root.trace_id) == 32


def test_an_error_says_which(served: Served) -> None:
    (root,) = served.ask([])
    assert root.attributes[names.HTTP_STATUS] == 400
    assert root.attributes[names.ERROR_TYPE] == "invalid_value"
    assert root.status_code == "UNSET"  # the caller's fault


def test_a_fault_of_the_worker_fails_the_span(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(texts: Sequence[str]) -> None:
        raise ZeroDivisionError("not for the trace")

    monkeypatch.setattr(type(served.door.now.model), "prepare", lambda self, texts: fails(texts))
    root, *_ = served.ask("a film")
    assert (root.status_code, root.attributes[names.HTTP_STATUS]) == ("ERROR", 500)
    assert "not for the trace" not in str(root)
