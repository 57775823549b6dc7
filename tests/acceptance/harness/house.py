"""A gateway with its fleet, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from openai import OpenAI

from headrace.queue.embedded_redis import EmbeddedRedis
from tests.conftest import wait_until
from tests.unit.generation.peaked import save_peaked
from tests.unit.tiny_models import TinyModels

BIN = Path(sys.executable).parent


@dataclass
class House:
    """Real processes, and what they are started with."""

    folder: Path
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]], env=self.environment, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]], env=self.environment, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def serve(self, port: int) -> OpenAI:
        """A gateway at the port, and a client of a key that is new."""
        name = f"gateway-{port}-{len(self.processes)}"
        key = self.run("headrace", "keys", "create", "--name", name)
        self.start(name, "headrace", "serve", "--listen", f"127.0.0.1:{port}")
        return OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=5)

    def start_worker(self) -> None:
        self.start("worker", "headrace-worker", "start", "--workers", "1")

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(30)

    def end(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def gateway_environment(folder: Path, broker_url: str, **more: str) -> dict[str, str]:
    """What a gateway and its fleet are started with: all that they keep is in the folder.

    `more`: settings by their names without `HEADRACE_`.
    """
    names = {
        "BROKER_URL": broker_url, "GATEWAY_STORE": str(folder / "store"),
        "REGISTRY": str(folder / "registry"), **more,
    }  # fmt: skip
    home = {"XDG_STATE_HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    return {**os.environ, **{f"HEADRACE_{k}": v for k, v in names.items()}, **home}


@contextmanager
def running_house(folder: Path) -> Iterator[House]:
    """A Redis, a controller and a worker; gateways are started by the test. The models `tiny` and
    `writer`, which answers chats."""
    model = TinyModels(folder / "models")("bert", "")
    writer = save_peaked(folder / "models" / "writer", "llama")
    (writer / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with EmbeddedRedis(folder / "redis") as server:
        environment = gateway_environment(
            folder, server.url, GATEWAY_MODELS=f"tiny={model},writer={writer}", GRACE_S="2"
        )
        found = House(folder, environment)
        found.start("controller", "headrace", "controller")
        found.start_worker()
        yield found
        found.end()


def answering(client: OpenAI) -> OpenAI:
    """The client, once its gateway answers."""

    def asks() -> bool:
        try:
            client.with_options(max_retries=0).files.list()
        except Exception:
            return False
        return True

    wait_until(asks, 120, "the gateway")
    return client
