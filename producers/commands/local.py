"""Everything on this machine: an embedded Redis and workers of our own, for one command's life."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from producers.worker_door import worker_door
from schemas.embedded_redis import EmbeddedRedis, die_with
from schemas.errors import ExitCode, HeadraceError
from schemas.settings import Settings, environment_of, process_environment, state_folder

# The fleet itself waits for its workers' grace and ten seconds; it is given a little more.
_EXTRA_S = 15.0


@dataclass(slots=True)
class LocalFleet:
    """The process `headrace-worker start`, and where it writes its log."""

    process: subprocess.Popen[bytes]
    log: Path
    grace_s: float

    def check(self) -> None:
        """Raises HeadraceError when the workers are gone, with their last words."""
        code = self.process.poll()
        if code is None:
            return
        raise HeadraceError(
            f"the workers ended with exit code {code}"
            f"{' (they die at their start)' if code == ExitCode.CRASH_LOOP else ''}; their last words, "
            f"from {self.log}:\n{self.last_words()}"
        )

    def last_words(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> None:
        """Drain: SIGTERM, and SIGKILL for what outlasts its grace."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(self.grace_s + _EXTRA_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def local_broker(settings: Settings) -> Iterator[str]:
    """The URL of the broker that was named, or of an embedded Redis for the block's life."""
    if settings.broker_url is not None:
        yield settings.broker_url.get_secret_value()
        return
    with EmbeddedRedis() as server:
        yield server.url


@contextlib.contextmanager
def local_fleet(settings: Settings, broker_url: str, name: str) -> Iterator[LocalFleet]:
    """Workers on this machine for the block's life; drained at its end.

    Raises:
        MissingExtra: the workers' side is not installed here.
    """
    door = worker_door()
    log = state_folder() / "logs" / f"workers-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = process_environment(
        **{**environment_of(settings), "HEADRACE_BROKER_URL": broker_url}
    )
    environment.setdefault("HEADRACE_LOG_LEVEL", settings.log_level)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [door, "start"], env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            start_new_session=True,  # Ctrl-C is ours; we tell the workers ourselves
            preexec_fn=die_with(os.getpid()),  # killed with -9, we leave nobody behind
        )  # fmt: skip
    fleet = LocalFleet(process, log, settings.grace_s)
    try:
        yield fleet
    finally:
        fleet.stop()
