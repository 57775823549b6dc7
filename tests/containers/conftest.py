"""The images, built once for all tests here, and a fleet from the compose file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.containers.engine import Engine, from_environment, said

ROOT = Path(__file__).parents[2]
IMAGES = ("producer", "worker-cpu", "headrace")
FLEET = ("redis", "store", "controller", "worker-cpu")
ROWS = 2_000
UP_S = 900  # the first time two images are pulled


def tag(name: str) -> str:
    """The image's name, as the compose file has it."""
    return f"headrace-{name}:0.1.0" if name != "headrace" else "headrace:0.1.0"


@pytest.fixture(scope="session")
def engine() -> Engine:
    return from_environment()


Built = Callable[[str], str]


@pytest.fixture(scope="session")
def built(engine: Engine) -> Built:
    """The tag of an image, built from this checkout when it is first asked for."""

    @cache
    def build(name: str) -> str:
        engine.build(tag(name), ROOT / "deploy" / "docker" / f"{name}.Dockerfile", ROOT)
        return tag(name)

    return build


@dataclass(frozen=True)
class Composed:
    """The compose file's fleet under a name of its own."""

    engine: Engine
    project: str
    folder: Path

    def compose(self, *words: str, limit_s: float = 300) -> str:
        return said((*self.engine.compose, "-p", self.project, *words), limit_s, folder=self.folder)

    def submit(self, *words: str) -> str:
        """What a command of the image of producers prints, inside the fleet's network."""
        return self.compose("--profile", "job", "run", "--rm", "-T", "submit", *words)

    def container(self, service: str) -> str:
        """The id of the one container of a service."""
        label = f"label=com.docker.compose.service={service}"
        mine = f"label=com.docker.compose.project={self.project}"
        (found,) = self.engine.call("ps", "-aq", "--filter", label, "--filter", mine).split()
        return found

    def logs(self, service: str) -> str:
        return self.engine.call("logs", self.container(service))


def write_corpus(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    texts = [f"row {i} of a corpus in a container" for i in range(ROWS)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=100)
    path.chmod(0o644)


def write_compose_file(folder: Path) -> None:
    """The project's own, with any free port in place of its own ones: other services may run."""
    file = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    del file["name"]
    for service in file["services"].values():
        ports = service.get("ports", ())
        service.update({"ports": [f"127.0.0.1::{port.rsplit(':', 1)[1]}" for port in ports]})
    (folder / "docker-compose.yml").write_text(yaml.safe_dump(file, sort_keys=False))
    example = (ROOT / "deploy" / "compose.env.example").read_text().splitlines()
    lines = [f"{line}{secrets.token_hex(16)}" if line.endswith("=") else line for line in example]
    (folder / ".env").write_text("\n".join(lines) + "\n")


@pytest.fixture
def composed(engine: Engine, built: Built, tmp_path: Path) -> Iterator[Composed]:
    """Broker, store, controller and a fleet that starts at zero workers."""
    for name in ("producer", "worker-cpu"):
        built(name)
    tmp_path.chmod(0o755)
    write_corpus(tmp_path / "corpus" / "reviews.parquet")
    write_compose_file(tmp_path)
    fleet = Composed(engine, f"headrace-test-{os.getpid()}", tmp_path)
    try:
        fleet.compose("up", "-d", "--no-build", *FLEET, limit_s=UP_S)
        yield fleet
    finally:
        fleet.compose("down", "--volumes")
