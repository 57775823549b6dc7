"""A parent that ends with a message unfinished: its child died, and the chunks are given back."""

from __future__ import annotations

from typing import Any

import pytest
from celery import signals
from celery.worker import state

from workers.consumer import app


class Request:
    """What Celery keeps of an accepted message."""

    args = ({"job": "j"},)


def test_chunks_of_a_message_that_never_ended_are_released(monkeypatch: pytest.MonkeyPatch) -> None:
    recovered: list[Any] = []
    monkeypatch.setattr(app, "_recover", lambda of, body: recovered.append((of, body)))
    request, sender = Request(), type("Sender", (), {"app": "the app"})()
    state.active_requests.add(request)
    try:
        signals.worker_shutdown.send(sender=sender)
    finally:
        state.active_requests.discard(request)
    assert recovered == [("the app", {"job": "j"})]


def test_nothing_is_released_after_a_drain_that_ended_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_recover", lambda *_: pytest.fail("nothing was lost"))
    signals.worker_shutdown.send(sender=None)
