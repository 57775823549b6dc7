"""Imports ahead of the first message: waited for, timed, and silent where they fail."""

from __future__ import annotations

import threading

from tests.conftest import wait_until
from workers.models.preload import Preload


def test_loading_a_model_waits_for_the_imports() -> None:
    go, seen = threading.Event(), []

    def load(name: str) -> None:
        assert go.wait(10)
        seen.append(name)

    preload = Preload(("first", "second"), load)
    preload.begin()
    preload.begin()
    assert seen == []
    go.set()
    preload.wait()
    assert seen == ["first", "second"]


class Clock:
    """A clock that moves only for imports of five seconds."""

    now_s = 0.0

    def load(self, name: str) -> None:
        self.now_s += 5.0


def test_the_time_of_the_imports_is_reported_once() -> None:
    clock = Clock()
    preload = Preload(("first",), clock.load, lambda: clock.now_s)
    preload.begin()
    wait_until(lambda: clock.now_s == 5.0)
    assert preload.wait() == 5.0
    assert preload.wait() == 0.0


def test_what_the_imports_took_while_their_caller_counted_is_not_counted_twice() -> None:
    clock = Clock()
    preload = Preload(("first",), clock.load, lambda: clock.now_s)
    preload.begin()
    wait_until(lambda: clock.now_s == 5.0)
    clock.now_s = 60.0  # the caller fetched a model
    assert preload.wait(since_s=2.0) == 2.0


def test_imports_that_were_not_begun_ahead_took_nothing_ahead() -> None:
    clock = Clock()
    assert Preload(("first",), clock.load, lambda: clock.now_s).wait() == 0.0
    assert clock.now_s == 5.0


def test_a_module_that_fails_stops_neither_the_worker_nor_the_next_module() -> None:
    seen = []

    def load(name: str) -> None:
        seen.append(name)
        raise OSError(f"lib{name}.so: cannot open shared object file")

    Preload(("first", "second"), load).wait()
    assert seen == ["first", "second"]


def test_a_device_is_made_ready_after_the_imports_and_may_fail_as_they_may() -> None:
    seen = []

    def ready() -> None:
        seen.append("ready")
        raise RuntimeError("no GPU")

    Preload(("first",), seen.append, then=ready).wait()
    assert seen == ["first", "ready"]
