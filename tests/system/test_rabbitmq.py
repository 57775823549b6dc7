"""Messages through quorum queues of Debian's RabbitMQ; leases, counters and the outbox in Redis."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from amqp.exceptions import PreconditionFailed
from kombu import Connection

from headrace.queue.celery_config import make_sender
from headrace.queue.embedded_redis import EmbeddedRedis
from headrace.queue.open import open_queue
from headrace.queue.queue import MessageQueue
from headrace.queue.rabbitmq_connection import check_rabbitmq
from headrace.queue.rabbitmq_queue import RabbitMQQueue
from schemas.errors import BrokerError
from tests.acceptance.harness.fleet import Fleet, lines, parts
from tests.conftest import free_port, wait_until
from tests.fake_jobs import make_job
from tests.queue_contract import *  # noqa: F403 - the contract, kept by a real RabbitMQ
from tests.system.conftest import program

SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The one on the path starts it as another user, in that user's folder."""


@dataclass
class RabbitMq:
    """A broker of this test's own, on this machine only."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        ours = {
            "HOME": str(self.folder),  # of Erlang's cookie
            "RABBITMQ_NODENAME": f"headrace-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "db"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        (self.folder / "plugins").write_text("[].")
        with (self.folder / "out").open("ab") as log:
            self.process = subprocess.Popen(
                [str(SCRIPT)], env={**os.environ, **ours}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers, 90, "RabbitMQ")

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"RabbitMQ ended: {(self.folder / 'out').read_text()[-2000:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        try:
            with Connection(self.url, connect_timeout=5) as connection:
                connection.connect()
            return True
        except Exception:  # it listens before it serves
            return False

    def kill(self) -> None:
        """All of it, at once: Erlang's own processes are of one group."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    program("rabbitmq-server")
    broker = RabbitMq(tmp_path_factory.mktemp("rabbit"))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
        shutil.rmtree(broker.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def fleet(
    rabbit: RabbitMq, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """One for all the tests: to start it takes longer than each of them."""
    queue = f"q{secrets.token_hex(4)}"
    settings = {"queue_url": rabbit.url, "queue": queue}
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), redis_server, settings)
    try:
        fleet.start(2)
        fleet.until_ready()
        yield fleet
    finally:
        fleet.close()


@pytest.fixture
def queue(rabbit: RabbitMq, redis_url: str, redis_client: redis.Redis) -> Iterator[MessageQueue]:
    """What the contract is asked of."""
    sender = make_sender(redis_url, rabbit.url)
    yield open_queue(redis_client, sender)
    sender.close()


def test_a_wrong_password_is_one_line_and_exit_code_20(
    rabbit: RabbitMq, redis_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    wrong = rabbit.url.replace("guest:guest", "guest:no-secret")
    with pytest.raises(BrokerError, match="refused the user or password"):
        check_rabbitmq(wrong)
    job = make_job(tmp_path, lines(4))
    found = subprocess.run(
        [str(Path(sys.executable).with_name("headrace")), "resume", job.job.output],
        env={**os.environ, "HEADRACE_QUEUE_URL": wrong, "HEADRACE_BROKER_URL": redis_url},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.returncode == 20
    assert "no-secret" not in found.stderr
    assert found.stderr.count("RabbitMQ at") == 1
    assert "Traceback" not in found.stderr


def test_every_row_once_through_a_quorum_queue_and_the_urgent_job_first(
    fleet: Fleet, rabbit: RabbitMq, tmp_path: Path
) -> None:
    queue = fleet.settings["queue"]
    slow = {"ms_per_row": 8}  # 5 s of work: the urgent job takes less, also beside other tests
    night = make_job(tmp_path / "night", lines(1_200), chunk_rows=15, params=slow, queue=queue)
    urgent = make_job(tmp_path / "urgent", lines(40), chunk_rows=10, queue=queue, priority=5)
    fleet.follow(night)
    fleet.until_parts(night, 2)
    fleet.follow(urgent)
    fleet.until_ended(urgent)
    assert night.manifest() is None, "the urgent job waited behind the other"
    fleet.until_ended(night)
    night.check()
    urgent.check()
    assert fleet.logged("message.dropped") > 0, "nothing was taken back"
    with Connection(rabbit.url) as connection, pytest.raises(PreconditionFailed):
        connection.default_channel.queue_declare(queue, durable=True, auto_delete=False)


def test_messages_that_rabbitmq_lost_are_sent_again(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = fleet.settings["queue"]
    assert isinstance(fleet.controller.queue, RabbitMQQueue)
    monkeypatch.setattr(fleet.controller.queue, "fresh_s", 1.0)
    job = make_job(
        tmp_path / "job", lines(600), chunk_rows=15, params={"ms_per_row": 4}, queue=queue
    )
    fleet.follow(job)
    fleet.until_parts(job, 2)
    with fleet.sender.connection_for_write() as connection:
        lost = connection.default_channel.queue_purge(queue)
    assert lost > 0
    fleet.until_ended(job)
    job.check()
    assert fleet.controller.queue.depth(queue) == 0


def test_a_rabbitmq_that_was_killed_is_waited_for(
    fleet: Fleet, rabbit: RabbitMq, tmp_path: Path
) -> None:
    queue = fleet.settings["queue"]
    job = make_job(
        tmp_path / "job", lines(600), chunk_rows=15, params={"ms_per_row": 4}, queue=queue
    )
    fleet.follow(job)
    fleet.until_parts(job, 2)
    rabbit.kill()
    assert fleet.controller.queue.depth(queue) is None
    rabbit.start()
    fleet.until_ended(job, 120)
    job.check()
    assert len(parts(job)) == job.job.chunks
