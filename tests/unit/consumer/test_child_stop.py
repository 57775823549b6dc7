"""SIGTERM in the process that computes: a drain during a message, the end between two."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from workers.consumer.child_stop import ChildStop


class Received:
    """Counts what SIGTERM did."""

    def __init__(self) -> None:
        self.ends = self.drains = 0

    def end(self, *_: object) -> None:
        self.ends += 1

    def drain(self) -> None:
        self.drains += 1


@pytest.fixture
def received() -> Iterator[Received]:
    found = Received()
    earlier = signal.signal(signal.SIGTERM, found.end)
    yield found
    signal.signal(signal.SIGTERM, earlier)


@pytest.fixture
def stop(received: Received) -> ChildStop:
    made = ChildStop()
    made.install()
    return made


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_between_two_messages_it_does_what_stood_there(stop: ChildStop, received: Received) -> None:
    stop.drains_by(received.drain)
    sigterm()
    assert (received.ends, received.drains) == (1, 0)


def test_during_a_message_it_asks_for_a_drain(stop: ChildStop, received: Received) -> None:
    stop.drains_by(received.drain)
    assert stop.receiving(lambda: "a message")() == "a message"
    sigterm()
    sigterm()
    assert (received.ends, received.drains) == (0, 2)


def test_a_drain_asked_before_there_was_something_to_ask_is_kept(
    stop: ChildStop, received: Received
) -> None:
    stop.receiving(lambda: "a message")()
    sigterm()
    assert (received.ends, received.drains) == (0, 0)
    stop.drains_by(received.drain)
    assert (received.ends, received.drains) == (0, 1)


def test_it_ends_a_process_that_waits_for_its_next_message(
    stop: ChildStop, received: Received
) -> None:
    messages = iter(["a message", None])

    def receive() -> str | None:
        found = next(messages)
        if found is None:
            sigterm()
        return found

    receiving = stop.receiving(receive)
    receiving()
    assert receiving() is None
    assert received.ends == 1
