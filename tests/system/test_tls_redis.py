"""The broker behind TLS: Debian's redis-server, with a password and certificates on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from kombu import Connection

from schemas.broker import celery_url, connect, ping_or_raise, server_warnings
from schemas.errors import BrokerError
from tests.system.conftest import Authority, TlsRedis


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
