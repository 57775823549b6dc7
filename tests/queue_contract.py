"""What every broker keeps: tests of `MessageQueue`, for a module that has a fixture `queue`.

`from tests.queue_contract import *` there. Messages are received as Celery receives them, by kombu.
"""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from headrace.queue.queue import MessageQueue
from schemas.records.message import ScoreChunk, parse_message

__all__ = [
    "name",
    "test_a_job_is_purged_and_another_stays",
    "test_a_message_is_received_once_and_in_order",
    "test_a_message_withdrawn_is_not_executed",
    "test_an_empty_queue_is_empty",
    "test_only_what_was_not_taken_is_withdrawn",
    "test_queues_do_not_mix",
    "test_to_renew_the_expiry_changes_no_message",
    "test_what_waits_is_counted_and_known_by_chunk",
]

A, A_MORE, B = (
    ScoreChunk(job=job * 16, output="s3://b/o", chunks=chunks)
    for job, chunks in (("a", (1, 2)), ("a", (3,)), ("b", (1,)))
)


@pytest.fixture
def name() -> str:
    """A queue of this test's own."""
    return f"q{secrets.token_hex(4)}"


def receive(queue: Any, name: str) -> ScoreChunk | None:
    """The next message that a worker would execute; None when there is none."""
    with queue.app.connection_for_read() as connection:
        bound = queue.app.amqp.queues[name](connection.default_channel)
        bound.declare()
        while (found := bound.get(no_ack=True)) is not None:
            if queue.is_wanted(name, found.headers["id"]):
                return parse_message(found.payload[0][0])
    return None


def send(queue: MessageQueue, name: str, *messages: ScoreChunk) -> None:
    for message in messages:
        queue.send(message, name)


def test_an_empty_queue_is_empty(queue: MessageQueue, name: str) -> None:
    assert queue.read(name).messages == 0
    assert queue.read(name).chunks == frozenset()
    assert queue.depth(name) == 0
    assert queue.withdraw(name, {A.key}) == []
    assert queue.purge(name, A.key) == 0
    assert receive(queue, name) is None


def test_what_waits_is_counted_and_known_by_chunk(queue: MessageQueue, name: str) -> None:
    send(queue, name, A, A_MORE, B)
    view = queue.read(name)
    assert view.messages == 3
    assert view.chunks == {(A.key, 1), (A.key, 2), (A.key, 3), (B.key, 1)}
    assert queue.depth(name) == 3


def test_a_message_is_received_once_and_in_order(queue: MessageQueue, name: str) -> None:
    send(queue, name, A, A_MORE)
    assert receive(queue, name) == A
    assert queue.read(name).messages == 1
    assert receive(queue, name) == A_MORE
    assert receive(queue, name) is None
    assert queue.read(name).messages == 0


def test_a_message_withdrawn_is_not_executed(queue: MessageQueue, name: str) -> None:
    send(queue, name, A, B, A_MORE)
    assert sorted(m.chunks for m in queue.withdraw(name, {A.key})) == [(1, 2), (3,)]
    assert queue.read(name).chunks == {(B.key, 1)}
    assert receive(queue, name) == B
    assert receive(queue, name) is None


def test_only_what_was_not_taken_is_withdrawn(queue: MessageQueue, name: str) -> None:
    send(queue, name, A, A_MORE)
    assert receive(queue, name) == A
    assert queue.withdraw(name, {A.key, B.key}) == [A_MORE]
    assert queue.withdraw(name, {A.key, B.key}) == []


def test_a_job_is_purged_and_another_stays(queue: MessageQueue, name: str) -> None:
    send(queue, name, A, B, A_MORE)
    assert queue.purge(name, A.key) == 2
    assert queue.purge(name, A.key) == 0
    assert receive(queue, name) == B


def test_queues_do_not_mix(queue: MessageQueue, name: str) -> None:
    send(queue, name, A)
    other = f"{name}-other"
    assert queue.read(other).messages == 0
    assert queue.purge(other, A.key) == 0
    assert receive(queue, name) == A


def test_to_renew_the_expiry_changes_no_message(queue: MessageQueue, name: str) -> None:
    queue.keep_alive(name)
    send(queue, name, A)
    queue.keep_alive(name)
    assert receive(queue, name) == A
