"""Two hosts on one machine: a network of its own behind a cable, and a mount that can hang.

Needs Linux, root, and Debian's iproute2, iptables and bindfs: `make test-hosts`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from headrace.queue.embedded_redis import EmbeddedRedis, find_redis_server
from tests.acceptance.harness.fleet import Fleet
from tests.conftest import free_port, wait_until

HERE, THERE = "10.213.77.1", "10.213.77.2"
START_S = 20.0
BINDFS = ("bindfs", "-f", "-o", "allow_other")


@pytest.fixture(scope="session", autouse=True)
def needed() -> None:
    """These tests are run by hand: what is missing is an error."""
    assert os.geteuid() == 0, "root is needed: for network namespaces and mounts"
    missing = [name for name in ("ip", "iptables", "bindfs") if shutil.which(name) is None]
    assert not missing, f"missing: {missing}; on Debian: apt-get install iproute2 iptables bindfs"


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@dataclass(frozen=True)
class Cable:
    """A network namespace, and the pair of interfaces that leads to it."""

    name: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What starts a command on that host."""
        return ("ip", "netns", "exec", self.name)

    def drop(self, *, coming: float = 0.0, going: float = 0.0) -> None:
        """Drop a share of the packets that come to that host, and of those that leave it."""
        run(*self.inside, "iptables", "-F")
        for chain, share in (("INPUT", coming), ("OUTPUT", going)):
            rule = ("iptables", "-A", chain, "-p", "tcp", "-m", "statistic", "--mode", "random")
            if share:
                run(*self.inside, *rule, "--probability", str(share), "-j", "DROP")

    def cut(self) -> None:
        """Nothing passes in either direction, and neither side is told."""
        self.drop(coming=1.0, going=1.0)

    def mend(self) -> None:
        self.drop()


@pytest.fixture
def cable() -> Iterator[Cable]:
    unique = secrets.token_hex(4)
    name, near, far = f"headrace-{unique}", f"hr-{unique}a", f"hr-{unique}b"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        run("ip", "address", "add", f"{HERE}/30", "dev", near)
        run("ip", "link", "set", near, "up")
        for words in (
            ("address", "add", f"{THERE}/30", "dev", far), ("link", "set", far, "up"),
            ("link", "set", "lo", "up"),
        ):  # fmt: skip
            run("ip", "-n", name, *words)
        yield Cable(name)
    finally:
        subprocess.run(["ip", "link", "delete", near])  # the kernel keeps it a while
        run("ip", "netns", "delete", name)


class ListeningRedis:
    """A Redis on this end of the cable, found by its address as a fleet's is."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        folder.mkdir(exist_ok=True)
        self.url = f"redis://{HERE}:{port}/0"
        self._process = subprocess.Popen(
            [
                str(find_redis_server()), "--bind", HERE, "--port", str(port), "--save", "",
                "--protected-mode", "no", "--dir", str(folder),
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with redis.Redis.from_url(self.url) as client:
            wait_until(lambda: _answers(client), START_S, "Redis")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


MakeFleet = Callable[..., Fleet]


@pytest.fixture
def fleet(tmp_path: Path, cable: Cable) -> Iterator[Fleet]:
    """A controller here, on a Redis that both ends of the cable reach."""
    with EmbeddedRedis(tmp_path / "unused") as unused:
        found = Fleet(tmp_path, unused, {"lease_s": "4"}, ListeningRedis(tmp_path / "redis"))
        yield found
        found.close()


@dataclass
class Mount:
    """A folder seen through a file system whose process can be stopped: then nothing returns."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def inside(self) -> tuple[str, ...]:
        """What starts a command that sees the mount in place of the folder."""
        bind = f'mount --bind "{self.at}" "{self.folder}" && exec "$0" "$@"'
        return ("unshare", "--mount", "sh", "-c", bind)

    @property
    def at(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-mounted")

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def answer(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[Path], Mount]]:
    made: list[Mount] = []

    def make(folder: Path) -> Mount:
        at = folder.with_name(f"{folder.name}-mounted")
        folder.mkdir(parents=True, exist_ok=True)
        at.mkdir()
        process = subprocess.Popen([*BINDFS, str(folder), str(at)])
        made.append(Mount(folder, process))
        wait_until(at.is_mount, START_S, "the mount")
        return made[-1]

    yield make
    for it in made:
        it.process.kill()  # what hangs there gets an error now
        it.process.wait()
        subprocess.run(["umount", "--lazy", str(it.at)], check=True)
