"""The workers of one host: one process for each slot, pinned before it starts, restarted when it dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.errors import ExitCode
from schemas.settings import Settings
from schemas.telemetry.logs import get_logger
from workers.engine.device import count_gpus, list_devices, worker_environment

log = get_logger(__name__)

# Chosen: a child that dies this soon after its start, this often in a row, will not live.
SHORT_LIFE_S = 10.0
SHORT_LIVES = 5
LEAVE_S = 10.0  # chosen: time to flush exporters and leave, on top of the grace


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one worker: a device of its own, or a share of the cores."""

    name: str
    device: str
    threads: int


@dataclass(slots=True)
class Child:
    slot: Slot
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    short_lives: int = 0
    not_before_s: float = 0.0
    given_up: bool = False


def plan_slots(settings: Settings, cores: int) -> list[Slot]:
    """One slot a device; on the CPU as many as asked for, sharing the cores between them.

    Two CPU workers of one thread do more than one of two (measured, issue 4: 1.05–1.23).
    """
    devices = list_devices(settings.device)
    if devices == ["cpu"]:
        count = settings.workers or max(1, cores)
        devices = ["cpu"] * count
    elif settings.workers:
        devices = devices[: settings.workers]
    threads = settings.threads or max(1, cores // len(devices))
    host = f"{socket.gethostname()}-{os.getpid()}"
    return [Slot(f"{host}-{i}", device, threads) for i, device in enumerate(devices)]


def backoff_s(short_lives: int) -> float:
    """How long a slot stays empty after its child died soon after its start: 0, 1, 2, 4 … 30 s."""
    return 0.0 if short_lives == 0 else min(30.0, 2.0 ** (short_lives - 1))


@dataclass(slots=True)
class Fleet:
    """Starts, watches, restarts and stops worker processes. `run` blocks until told to stop."""

    slots: Sequence[Slot]
    environment: Mapping[str, str]
    grace_s: float
    stopping: threading.Event = field(default_factory=threading.Event)
    _children: list[Child] = field(default_factory=list)
    _hurry: bool = False

    def run(self) -> int:
        """Exit code: 0 after a drain, `CRASH_LOOP` when no slot could be kept alive."""
        self._children = [Child(slot) for slot in self.slots]
        while not self.stopping.is_set():
            for child in self._children:
                self._tend(child)
            if all(child.given_up for child in self._children):
                log.error("worker.stopped", reason="every worker dies at its start", exit_code=int(ExitCode.CRASH_LOOP))
                return ExitCode.CRASH_LOOP
            self.stopping.wait(0.1)
        return self._drain()

    def stop(self) -> None:
        """Ask for a drain; a second call makes it quick."""
        self._hurry = self.stopping.is_set()
        self.stopping.set()

    def _tend(self, child: Child) -> None:
        if child.given_up or time.monotonic() < child.not_before_s:
            return
        if child.process is None:
            self._start(child)
            return
        code = child.process.poll()
        if code is None:
            return
        lived = time.monotonic() - child.started_s
        child.short_lives = child.short_lives + 1 if lived < SHORT_LIFE_S else 0
        log.warning("worker.lost", worker=child.slot.name, exit_code=code, seconds=round(lived, 1))
        child.process = None
        child.not_before_s = time.monotonic() + backoff_s(child.short_lives)
        if child.short_lives >= SHORT_LIVES:
            child.given_up = True
            log.error("worker.stopped", worker=child.slot.name, reason="died at once, again and again", exit_code=code)

    def _start(self, child: Child) -> None:
        slot = child.slot
        pinned = worker_environment(slot.device, slot.threads)
        own = {
            "HEADRACE_WORKER_NAME": slot.name,
            "HEADRACE_DEVICE": slot.device,
            "HEADRACE_THREADS": str(slot.threads),
        }
        child.process = subprocess.Popen(
            [sys.executable, "-m", "workers.serve"],
            env={**self.environment, **pinned, **own},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at a terminal is the fleet's to translate
        )
        child.started_s = time.monotonic()

    def _drain(self) -> int:
        """SIGTERM to all at once; who outlasts the grace time is killed, and loses nothing by it."""
        started = [c.process for c in self._children if c.process is not None]
        # the children measure the grace themselves; ten seconds for their exporters and exits
        living = self._wait_for(started, self.grace_s + LEAVE_S, until_hurry=True)
        living = self._wait_for(living, LEAVE_S, until_hurry=False)
        for process in living:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return ExitCode.OK

    def _wait_for(
        self, processes: Sequence[subprocess.Popen[bytes]], limit_s: float, *, until_hurry: bool
    ) -> list[subprocess.Popen[bytes]]:
        """SIGTERM to each, and those that live still when the time is over."""
        living = [p for p in processes if p.poll() is None]
        for process in living:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + limit_s
        while living and time.monotonic() < deadline and not (until_hurry and self._hurry):
            time.sleep(0.05)
            living = [p for p in living if p.poll() is None]
        return living


def cores_available() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(slots: Sequence[Slot]) -> str:
    devices = sorted({s.device for s in slots})
    gpus = count_gpus() if any(d.startswith("cuda") for d in devices) else 0
    return f"{len(slots)} worker(s) on {', '.join(devices)}" + (f" ({gpus} GPUs here)" if gpus else "")
