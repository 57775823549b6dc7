"""Everything on this machine: an embedded Redis and workers of our own, for one command's life."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from headrace.queue.embedded_redis import EmbeddedRedis, die_with
from headrace.settings import Settings, environment_of, process_environment, state_folder
from headrace.tasks.catalog import task_spec
from producers.local.worker_command import find_worker_executable
from schemas.errors import ExitCode, WorkersEnded

# The fleet itself waits for its workers' grace and ten seconds; it is given a little more.
_EXTRA_S = 15.0


@dataclass(slots=True)
class LocalFleet:
    """The process `headrace-worker start`, and where it writes its log."""

    process: subprocess.Popen[bytes]
    log: Path
    grace_s: float

    def check(self) -> None:
        """Raises WorkersEnded when the workers are gone, with their last words."""
        code = self.process.poll()
        if code is None:
            return
        raise WorkersEnded(
            f"the workers ended with exit code {code}"
            f"{' (they die at their start)' if code == ExitCode.CRASH_LOOP else ''}; their last words, "
            f"from {self.log}:\n{self.last_words()}",
            code,
        )

    def last_words(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def name_log(self, job: str) -> None:
        """Call the log by the job's id, now that there is one."""
        named = self.log.with_name(f"workers-{job}.log")
        self.log.replace(named)  # who writes to it goes on
        self.log = named

    def stop(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Drain: SIGTERM, and SIGKILL for what outlasts its grace; a drain is mostly waiting."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            meanwhile()
            try:
                self.process.wait(self.grace_s + _EXTRA_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class LocalStack:
    """Redis and workers on this machine for the life of a block; started once, when asked.

    Leaving the block ends what runs, workers at once: `draining` lets them end in order first.
    Entering it twice is safe; the inner end counts.
    """

    def __init__(self) -> None:
        self._redis: EmbeddedRedis | None = None
        self._fleet: LocalFleet | None = None
        self.url = ""
        """The state in the named broker, else in our own Redis; empty before the start."""

    @property
    def fleet(self) -> LocalFleet:
        assert self._fleet is not None, "not started"
        return self._fleet

    def start(self, settings: Settings, task: str | None = None) -> None:
        """Start both; what runs already is left as it is. `task` is the job's, else the settings'.

        Raises:
            MissingExtra: there is no Redis, or the workers' side is not installed here.
        """
        if self._fleet is not None:
            return
        if settings.broker_url is not None:
            self.url = settings.broker_url.get_secret_value()
        else:
            self._redis = EmbeddedRedis().start()
            self.url = self._redis.url
        self._fleet = start_workers(settings, self.url, task or settings.task)

    @contextlib.contextmanager
    def draining(self, meanwhile: Callable[[], None]) -> Iterator[LocalFleet]:
        """The workers for a block; at its end they finish or give back what they have, and end.

        `meanwhile` is called while they do, unless the block ended with an error.
        """
        try:
            yield self.fleet
        except BaseException:
            self.fleet.stop()
            raise
        self.fleet.stop(meanwhile)

    def __enter__(self) -> LocalStack:
        return self

    def __exit__(self, *error: object) -> None:
        if self._fleet is not None and self._fleet.process.poll() is None:
            self._fleet.kill()
        self._fleet = None
        if self._redis is not None:
            self._redis.stop()
        self._redis = None


def start_workers(settings: Settings, broker_url: str, task: str) -> LocalFleet:
    """`headrace-worker start` with these settings; its log is named after this process at first.

        The workers import torch while the job is planned, if its task needs it by default.

    Raises:
        MissingExtra: the workers' side is not installed here.
    """
    executable = find_worker_executable()
    log = state_folder() / "logs" / f"workers-of-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    preload = task_spec(task).needs_model if settings.preload is None else settings.preload
    theirs = settings.model_copy(update={"broker_url": SecretStr(broker_url), "preload": preload})
    environment = process_environment(**environment_of(theirs))
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [executable, "start"], env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            start_new_session=True,  # Ctrl-C is ours; we tell the workers ourselves
            preexec_fn=die_with(os.getpid()),  # no worker is left if this process is killed with SIGKILL
        )  # fmt: skip
    return LocalFleet(process, log, settings.grace_s)
