"""A host that follows the controller: its answers, what it keeps without an answer, its health."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redis

from headrace.coordination.live_workers import WorkInHand
from headrace.process.http_server import (
    Reply,
    serve_http,
    split_address,
)
from schemas.errors import ConfigError
from tests.conftest import wait_until
from workers.fleet.health import serve_health, status_of
from workers.fleet.placement import QueueDemand
from workers.fleet.scaling_client import START_S, ScalingClient
from workers.fleet.slots import Slot
from workers.fleet.supervisor import Supervisor
from workers.fleet.worker_status import WorkerStatus, WorkerStatusPoller


def tell(**answer: Any) -> Reply:
    """An answer of `/scale`, as far as a fleet reads it."""
    return Reply({"share": 0, "backlog_chunks": 9, "work_s": 90.0, "load_s": 7.0, **answer})


class Controller:
    """Answers `/scale` as it is told to, and remembers the questions."""

    def __init__(self) -> None:
        self.reply = tell(share=3)
        self.asked: list[Mapping[str, str]] = []

    def scale(self, query: Mapping[str, str]) -> Reply:
        self.asked.append(query)
        return self.reply


@pytest.fixture
def controller() -> Controller:
    return Controller()


@pytest.fixture
def answers(controller: Controller) -> Iterator[ScalingClient]:
    with serve_http("127.0.0.1:0", {"/scale": controller.scale}) as port:
        yield ScalingClient(f"http://127.0.0.1:{port}/", ["gpu", "cpu"], 8, 1, lambda queue: 2)


def test_the_host_gets_its_share(answers: ScalingClient, controller: Controller) -> None:
    assert shares(answers) == {"gpu": 1, "cpu": 0}
    answers.ask()
    assert shares(answers) == {"gpu": 3, "cpu": 3}
    asked = controller.asked[0]
    assert (asked["queue"], asked["slots"], asked["running"]) == ("gpu", "8", "2")
    assert controller.asked[1]["queue"] == "cpu"
    assert answers.asks[1] == QueueDemand("cpu", 3, 9, 90.0, START_S + 7.0)


def test_an_unmeasured_load_is_the_start_up_time(
    answers: ScalingClient, controller: Controller
) -> None:
    controller.reply = tell(load_s=None)
    answers.ask()
    assert answers.asks[0].change_s == START_S + 60


def shares(answers: ScalingClient) -> dict[str, int]:
    return {ask.queue: ask.share for ask in answers.asks}


@pytest.mark.parametrize(("share", "workers"), [(0, 1), (99, 8)])
def test_a_share_stays_between_min_and_slots(
    answers: ScalingClient, controller: Controller, share: int, workers: int
) -> None:
    controller.reply = tell(share=share)
    answers.ask()
    assert shares(answers)["gpu"] == workers


def test_a_slot_that_was_taken_out_is_not_offered(
    answers: ScalingClient, controller: Controller
) -> None:
    controller.reply = tell(share=8)
    answers.given_up = lambda: 3
    answers.ask()
    assert controller.asked[0]["slots"] == "5"
    assert shares(answers)["gpu"] == 5


@pytest.mark.parametrize(
    "reply",
    [Reply({"error": "Redis is away"}, 503), Reply({}), Reply("<html>"), tell(share=None)],
    ids=["503", "no share", "not JSON", "no number"],
)
def test_no_answer_changes_nothing(
    answers: ScalingClient, controller: Controller, reply: Reply
) -> None:
    answers.ask()
    controller.reply = reply
    answers.ask()
    assert shares(answers) == {"gpu": 3, "cpu": 3}


def test_a_controller_that_is_gone_changes_nothing() -> None:
    answers = ScalingClient("http://127.0.0.1:1", ["q"], 8, 2, lambda queue: 0)
    answers.ask()
    assert shares(answers) == {"q": 2}


@pytest.mark.parametrize("url", ["host:8080", "ftp://host", "http://", ""])
def test_a_url_without_meaning_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        ScalingClient(url, ["q"], 1, 0, lambda queue: 0)


# -- health


@pytest.fixture
def fleet() -> Iterator[Supervisor]:
    """Two slots whose workers sleep, of which as many are wanted as `wanted[0]` says."""
    fleet = Supervisor(
        [Slot("a", "cpu", 1), Slot("b", "cpu", 1)],
        dict(os.environ),
        0.0,
        lambda: [QueueDemand("default", 1)],
        command=lambda slot: ["sleep", "60"],
    )
    thread = threading.Thread(target=fleet.run)
    thread.start()
    yield fleet
    fleet.stop()
    fleet.stop()
    thread.join(30)


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_fleet_is_ready_once_a_worker_serves(fleet: Supervisor) -> None:
    watch = WorkerStatusPoller(None, fleet.running, redis_answers=True)
    wait_until(lambda: fleet.running() == ["a"], 10)
    with serve_health("127.0.0.1:0", fleet, watch) as port:
        assert port is not None
        assert get(port, "/livez") == 200
        assert get(port, "/readyz") == 503
        watch.doing = {"a": WorkerStatus(time.time(), WorkInHand("j", {4: "t"}), "", time.time())}
        assert get(port, "/readyz") == 200
        watch.redis_answers = False
        assert get(port, "/readyz") == 503
        first, second = status_of(fleet, watch, time.time())["workers"]
    assert (first["state"], first["hand"]["chunks"]) == ("running", {"4": "t"})
    assert (second["state"], second["serves"]) == ("off", False)


def test_a_watch_keeps_what_it_saw_while_redis_is_away() -> None:
    client = redis.Redis.from_url("redis://127.0.0.1:1/0")
    seen = {"a": WorkerStatus(1.0, WorkInHand("x", {1: "t"}), "", 1.0)}
    watch = WorkerStatusPoller(client, lambda: ["a"], doing=seen, redis_answers=True)
    watch.look()
    assert not watch.redis_answers
    assert watch.doing == seen
    client.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), (":8080", ("0.0.0.0", 8080)), ("[::1]:9", ("::1", 9))],
)
def test_an_address_is_read(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text) == expected


@pytest.mark.parametrize("text", ["8080", "host:", "host:http", "host:70000", ""])
def test_an_address_without_meaning_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        split_address(text)
