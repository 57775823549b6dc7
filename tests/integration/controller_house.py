"""A controller and a worker on one Redis, for the tests of the controller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis

from headrace.queue.celery_config import make_sender
from headrace.queue.kombu_layout import message_in
from headrace.queue.redis_connection import celery_url, connect
from headrace.queue.redis_queue import RedisQueue
from headrace.settings import load_settings
from headrace.telemetry.provider import Telemetry
from headrace.tracing.trace_file import SpanRow
from producers.control.controller import Controller
from schemas.names import redis_keys
from schemas.records.message import ScoreChunk
from tests.fake_jobs import FakeJob
from workers.execution.handler import handle
from workers.execution.presence import Identity
from workers.execution.runtime import Runtime

QUEUE = redis_keys.QUEUE_PREFIX + "default"


class Kept(Telemetry):
    """Spans as they were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[SpanRow] = []

    def emit(self, rows: Sequence[SpanRow]) -> None:
        self.spans.extend(rows)


class House:
    """A controller and a worker on one Redis."""

    def __init__(self, url: str) -> None:
        self.client = connect(url, name="test")
        self.sender = make_sender(celery_url(url))
        self.controller = self.another_controller()
        identity = Identity("w1", "cpu", 1)
        settings = load_settings(broker_url=url)
        self.runtime = Runtime(settings, identity, self.client, Telemetry(), self.sender)

    def another_controller(self) -> Controller:
        return Controller(self.client, self.sender)

    def follow(self, job: FakeJob) -> None:
        self.controller.add(job.job, job.store)
        self.controller.tick()

    def receive(self) -> ScoreChunk | None:
        """The next message, as a worker takes it."""
        raw: Any = self.client.rpop(QUEUE)
        return None if raw is None else message_in(raw)

    def tick(self) -> bool:
        """False, so that `tick() or condition` reads as it runs."""
        self.controller.tick()
        return False

    def work(self, messages: int = 10_000) -> int:
        """Process the messages in the queue; returns their number."""
        for done in range(messages):
            message = self.receive()
            if message is None:
                return done
            handle(message.model_dump(mode="json"), self.runtime)
        return messages

    def until_ended(self, job: FakeJob) -> Callable[[], bool]:
        def step() -> bool:
            self.controller.tick()
            self.work()
            return job.job.key in self.controller.ended

        return step

    def queued(self, job: FakeJob) -> set[int]:
        return {
            c
            for key, c in RedisQueue(self.client, None).read("default").chunks
            if key == job.job.key
        }

    def close(self) -> None:
        self.controller.close()
        self.sender.close()
        self.client.close()


def keys_of(client: redis.Redis, job: FakeJob) -> list[str]:
    """Everything in Redis that names the job."""
    found = [text_of(k) for k in client.keys("*")]
    return [k for k in found if job.job.key in k or job.id in k]


def text_of(key: bytes | str) -> str:
    return key.decode() if isinstance(key, bytes) else key
