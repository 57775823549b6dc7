"""A Redis found through Sentinel: its primary dies, and its replica takes over."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace.queue.celery_config import make_sender
from headrace.queue.embedded_redis import find_redis_server
from headrace.queue.redis_connection import connect, ping_or_raise
from schemas.errors import BrokerError
from schemas.records.message import SCORE_CHUNK
from tests.conftest import free_port, wait_until
from workers.consumer.celery_transport import checked

LIMIT_S = 30.0
PASSWORD = "of the servers"


@dataclass
class Watched:
    """A primary, a replica and one sentinel that watches them as `night`."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        away = free_port()  # a sentinel that is not there: the other is asked
        sentinels = f"127.0.0.1:{away},127.0.0.1:{self.ports['sentinel']}"
        return f"redis+sentinel://:of%20the%20servers@{sentinels}/night/2"

    def start(self, name: str, *words: str) -> None:
        self.ports[name] = free_port()
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [find_redis_server(), *words, "--port", str(self.ports[name])], stdout=log
            )
        client = redis.Redis(port=self.ports[name], retry=Retry(NoBackoff(), 0))
        wait_until(lambda: _answers(client), LIMIT_S, name)
        client.close()

    def start_server(self, name: str, *words: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        self.start(
            name, "--dir", str(folder), "--save", "", "--requirepass", PASSWORD,
            "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0", *words,
        )  # fmt: skip

    def sentinel(self) -> Any:
        return redis.Redis(port=self.ports["sentinel"], decode_responses=True)

    def primary_and_replica(self) -> tuple[str, str]:
        """The servers' names, as the sentinel has them now."""
        with self.sentinel() as asked:
            _, port = asked.sentinel_get_master_addr_by_name("night")
        is_first = port == self.ports["primary"]
        return ("primary", "replica") if is_first else ("replica", "primary")


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.RedisError:
        return False


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    servers = Watched(tmp_path)
    try:
        servers.start_server("primary")
        at = str(servers.ports["primary"])
        servers.start_server("replica", "--replicaof", "127.0.0.1", at)
        with redis.Redis(port=servers.ports["primary"], password=PASSWORD) as client:
            # a sentinel asks the primary for its replicas when it begins, then each ten seconds
            wait_until(lambda: client.info()["connected_slaves"] == 1, LIMIT_S, "the replica")
        rules = tmp_path / "sentinel.conf"
        rules.write_text(
            f"sentinel monitor night 127.0.0.1 {at} 1\n"
            f'sentinel auth-pass night "{PASSWORD}"\n'
            "sentinel down-after-milliseconds night 2000\n"
            "sentinel failover-timeout night 5000\n"
        )
        servers.start("sentinel", str(rules), "--sentinel")
        with servers.sentinel() as client:
            wait_until(lambda: bool(client.sentinel_slaves("night")), LIMIT_S, "the replica's name")
        yield servers
    finally:
        for process in servers.processes.values():
            process.kill()
            process.wait()


def test_client_and_queue_follow_the_primary(watched: Watched) -> None:
    client = connect(watched.url, name="test")
    ping_or_raise(client, watched.url)
    client.set("headrace:before", b"1")
    assert client.connection_pool.connection_kwargs["db"] == 2
    sender = make_sender(watched.url)
    assert received(sender, "one") == "one"

    primary, other = watched.primary_and_replica()
    with redis.Redis(port=watched.ports[other], db=2, password=PASSWORD) as replica:
        wait_until(lambda: replica.get("headrace:before") == b"1", LIMIT_S, "the replica's copy")
    watched.processes[primary].kill()

    def accepts_a_write() -> bool:
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            return bool(client.set("headrace:after", b"2"))
        return False

    wait_until(accepts_a_write, LIMIT_S, "the new primary")
    assert client.get("headrace:before") == b"1"
    assert watched.primary_and_replica() == (other, primary)
    sender.close()
    sender = make_sender(watched.url)
    assert received(sender, "two") == "two"
    sender.close()
    client.close()


def received(sender: Any, word: str) -> str:
    """What our worker's transport takes from the queue after that word was sent."""
    with sender.connection_for_write() as connection:
        connection.transport_cls = checked(connection.get_transport_cls())
        sender.send_task(SCORE_CHUNK, args=[word], queue="words")
        queue = connection.SimpleQueue("words")
        message = queue.get(timeout=LIMIT_S)
        message.ack()
        queue.close()
        return str(message.payload[0][0])


def test_a_name_that_no_sentinel_knows_is_said_without_the_password(watched: Watched) -> None:
    url = watched.url.replace("/night/", "/day/")
    client = connect(url, name="test")
    with pytest.raises(BrokerError, match="are hosts and name right") as refused:
        ping_or_raise(client, url)
    client.close()
    assert "servers" not in str(refused.value)
