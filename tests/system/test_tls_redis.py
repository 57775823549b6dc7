"""The broker behind TLS: Debian's redis-server, with a password and certificates on both sides."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from kombu import Connection

from headrace.queue.celery_config import make_sender
from headrace.queue.redis_connection import (
    celery_url,
    connect,
    ping_or_raise,
    server_warnings,
)
from schemas.errors import BrokerError, ExitCode
from schemas.records.message import SCORE_CHUNK
from tests.conftest import free_port, wait_until
from tests.system.conftest import Authority, TlsRedis, program
from workers.consumer.celery_transport import checked


def ping(url: str) -> None:
    with connect(url, name="test") as client:
        ping_or_raise(client, url)


def test_a_client_with_password_and_certificate_reads_what_it_wrote(tls_redis: TlsRedis) -> None:
    ping(tls_redis.url())
    with connect(tls_redis.url(), name="test") as client:
        assert client.set("key", b"value", nx=True)
        assert client.getdel("key") == b"value"
        assert server_warnings(client) == []


def test_a_message_of_celery_goes_through_and_comes_back(tls_redis: TlsRedis) -> None:
    with (
        Connection(celery_url(tls_redis.url())) as connection,
        connection.SimpleQueue("tls-test") as queue,
    ):
        queue.put({"chunk": 42}, serializer="json")
        message = queue.get(timeout=10)
        assert message.payload == {"chunk": 42}
        message.ack()


def test_a_server_that_another_authority_signed_is_refused(
    tls_redis: TlsRedis, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "somebody else").own.certificate
    with pytest.raises(BrokerError, match="TLS handshake"):
        ping(tls_redis.url(authority=other))
    with (
        Connection(celery_url(tls_redis.url(authority=other))) as connection,
        pytest.raises(Exception, match="CERTIFICATE"),
    ):
        connection.connect()


def test_a_wrong_password_is_said_and_not_shown(tls_redis: TlsRedis) -> None:
    with pytest.raises(BrokerError, match="password") as refused:
        ping(tls_redis.url(password="wrong-secret"))
    assert "wrong-secret" not in str(refused.value)


def test_a_client_without_a_certificate_is_refused(tls_redis: TlsRedis) -> None:
    with pytest.raises(BrokerError):
        ping(tls_redis.url(client=False))


def test_a_client_without_tls_is_refused(tls_redis: TlsRedis) -> None:
    with pytest.raises(BrokerError):
        ping(f"redis://:{tls_redis.password}@127.0.0.1:{tls_redis.port}/0")


@pytest.fixture
def behind_sentinel(tls_redis: TlsRedis, tmp_path: Path) -> Iterator[str]:
    """The URL of the same server behind a sentinel, which speaks TLS only too."""
    port, own = free_port(), tls_redis.client
    rules = tmp_path / "sentinel.conf"
    rules.write_text(
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ndir {tmp_path}\ntls-replication yes\n"
        f"tls-cert-file {own.certificate}\ntls-key-file {own.key}\n"
        f"tls-ca-cert-file {tls_redis.authority.own.certificate}\n"
        f"sentinel monitor night 127.0.0.1 {tls_redis.port} 1\n"
        f"sentinel auth-pass night {tls_redis.password}\n"
    )
    head, _, query = tls_redis.url().partition("?")
    url = head.replace("rediss://", "rediss+sentinel://").replace(
        f":{tls_redis.port}/0", f":{port}/night/0"
    )
    with (tmp_path / "log").open("wb") as log:
        command = [program("redis-server"), str(rules), "--sentinel"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(f"{url}?{query}"), 20.0, "the sentinel")
        yield f"{url}?{query}"
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        ping(url)
    except BrokerError:
        return False
    return True


def test_client_and_queue_reach_a_primary_behind_a_sentinel_by_tls(behind_sentinel: str) -> None:
    ping(behind_sentinel)
    sender = make_sender(behind_sentinel)
    with sender.connection_for_write() as connection:
        connection.transport_cls = checked(connection.get_transport_cls())
        sender.send_task(SCORE_CHUNK, args=["one"], queue="words")
        queue = connection.SimpleQueue("words")
        message = queue.get(timeout=10)
        message.ack()
        queue.close()
    sender.close()
    assert message.payload[0][0] == "one"


def test_without_the_authority_neither_is_reached(behind_sentinel: str, tmp_path: Path) -> None:
    other = Authority(tmp_path, "somebody else").own.certificate
    head, _, query = behind_sentinel.partition("?")
    rest = query.split("&", 1)[1]
    with pytest.raises(BrokerError) as refused:
        ping(f"{head}?ssl_ca_certs={other}&{rest}")
    assert "sentinel" in str(refused.value)


# docs/operations/security.md has the same line, and a test holds both together
ACL = (
    "~headrace:* resetchannels -@all +@connection +@read +@write +@transaction +@scripting "
    "-@dangerous +client|setname +config|get +info +time"
)


@pytest.fixture
def acl_user(tls_redis: TlsRedis) -> Iterator[Any]:
    """A client of the administrator, while the user of the docs is there; and no other's keys."""
    with redis.Redis.from_url(tls_redis.url()) as admin:
        admin.flushall()
        admin.execute_command("ACL", "SETUSER", "headrace", "reset", "on", ">hush", *ACL.split())
        admin.execute_command("ACL", "LOG", "RESET")
        yield admin
        admin.execute_command("ACL", "DELUSER", "headrace")


def as_user(tls_redis: TlsRedis) -> str:
    return tls_redis.url().replace(f"://:{tls_redis.password}@", "://headrace:hush@")


def test_a_whole_job_runs_behind_tls_as_the_user_of_the_docs(
    tls_redis: TlsRedis, acl_user: Any, tmp_path: Path, repo_root: Path
) -> None:
    assert ACL in (repo_root / "docs" / "operations" / "security.md").read_text()
    corpus, output = tmp_path / "corpus.parquet", tmp_path / "out"
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(400)]}), corpus, row_group_size=50)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "OTEL_"))}
    ours = {
        "HEADRACE_BROKER_URL": as_user(tls_redis),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HEADRACE_FAULT": f"kill:forwarded:2:{tmp_path / 'killed'}",  # recovery needs rights too
        "HEADRACE_LEASE_S": "3",
    }

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).parent / "headrace"), *words],
            env=kept | ours, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    done = call(
        "run", str(corpus), "-o", str(output), "--task", "fake", "--chunk-rows", "50",
        "--workers", "1",
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    assert (tmp_path / "killed").exists()
    for words in (("status", str(output)), ("status", "--workers"), ("verify", str(output))):
        assert call(*words).returncode == ExitCode.OK
    assert log_of(acl_user) == []  # nothing was asked for that it may not
    assert [k for k in acl_user.keys("*") if not k.startswith(b"headrace:")] == []


def log_of(admin: Any) -> list[Any]:
    return [
        dict(zip(entry[::2], entry[1::2], strict=True)) if isinstance(entry, list) else entry
        for entry in admin.execute_command("ACL", "LOG")
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "SET", "appendonly", "no"), ("SHUTDOWN",),
        ("CLIENT", "LIST"), ("GET", "others"), ("SET", "others", "1"), ("PUBLISH", "channel", "1"),
        ("ACL", "LIST"), ("MONITOR",), ("DEBUG", "SLEEP", "0"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_user_of_the_docs_may_nothing_else(
    tls_redis: TlsRedis, acl_user: Any, words: tuple[str, ...]
) -> None:
    with redis.Redis.from_url(as_user(tls_redis)) as client, pytest.raises(redis.RedisError):
        client.execute_command(*words)
