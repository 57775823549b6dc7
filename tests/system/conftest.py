"""Programs of the system's packages; `make test-system` installs them."""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

START_LIMIT_S = 20.0


def program(name: str) -> str:
    """The path of a program; where it is missing the test is skipped, and fails in CI."""
    path = shutil.which(name)
    return path if path else missing(f"{name}: make test-system installs it, as root on Debian")


def missing(what: str) -> NoReturn:
    """Say what this machine lacks: an error in CI, else the test is left out."""
    say = f"missing here: {what}"
    if os.environ.get("CI"):
        pytest.fail(say)
    pytest.skip(say)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of this test's own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.own = self._write(self._name, self._key, authority=True)

    def sign(self, name: str) -> Signed:
        """A certificate for 127.0.0.1 that this authority vouches for."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return self._write(subject, ec.generate_private_key(ec.SECP256R1()), authority=False)

    def _write(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> Signed:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder(self._name, subject, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        stem = self._folder / secrets.token_hex(8)
        files = Signed(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files


@dataclass(frozen=True)
class TlsRedis:
    """A Redis that speaks TLS only, wants a password, and certificates of its clients."""

    port: int
    password: str
    authority: Authority
    client: Signed

    def url(self, *, password: str = "", authority: Path | None = None, client: bool = True) -> str:
        query = f"ssl_ca_certs={authority or self.authority.own.certificate}"
        if client:
            query += f"&ssl_certfile={self.client.certificate}&ssl_keyfile={self.client.key}"
        return f"rediss://:{password or self.password}@127.0.0.1:{self.port}/0?{query}"


@pytest.fixture(scope="session")
def tls_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    """Debian's redis-server; the one in the `embedded` extra is built without TLS."""
    path, folder = program("redis-server"), tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "headrace tests")
    server = TlsRedis(_free_port(), secrets.token_hex(8), authority, authority.sign("client"))
    own = authority.sign("server")
    settings = {
        "port": 0,
        "tls-port": server.port,
        "bind": "127.0.0.1",
        "tls-cert-file": own.certificate,
        "tls-key-file": own.key,
        "tls-ca-cert-file": authority.own.certificate,
        "tls-auth-clients": "yes",
        "requirepass": server.password,
        "appendonly": "yes",
        "dir": folder,
    }
    # on the standard input: a password among the arguments would show in the list of processes
    config = "".join(f"{name} {value}\n" for name, value in settings.items())
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([path, "-"], stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        assert process.stdin is not None
        process.stdin.write(config.encode())
        process.stdin.close()
        _wait_for(server, process, folder / "log")
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(server: TlsRedis, process: subprocess.Popen[bytes], log: Path) -> None:
    from tests.conftest import wait_until

    def answers() -> bool:
        with redis.Redis.from_url(server.url()) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    wait_until(lambda: process.poll() is not None or answers(), START_LIMIT_S, "redis-server")
    assert process.poll() is None, f"redis-server ended: {log.read_text()[-2000:]}"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
