"""The workers of one host: one process for each slot in use, pinned, restarted when it dies.

How many slots are in use is somebody else's answer (`wanted`); which ones, is decided here: a slot
that has not started goes before an idle one, and that before one with a chunk in hand.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.errors import ExitCode
from schemas.telemetry.logs import get_logger
from workers.slots import Slot

log = get_logger(__name__)

# Chosen: a child that dies this soon after its start, this often in a row, will not live.
SHORT_LIFE_S = 10.0
SHORT_LIVES = 5
LEAVE_S = 10.0  # chosen: time to flush exporters and leave, on top of the grace
TICK_S = 0.1


@dataclass(slots=True)
class Child:
    """A slot and the process in it, while there is one."""

    slot: Slot
    is_on: bool = False
    """Whether a worker is wanted here."""
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    short_lives: int = 0
    not_before_s: float = 0.0
    leave_by_s: float = 0.0
    given_up: bool = False

    @property
    def state(self) -> str:
        """`running`, `leaving`, `waiting` (to be started), `off` or `given_up`."""
        if self.given_up:
            return "given_up"
        if self.process is not None:
            return "running" if self.is_on else "leaving"
        return "waiting" if self.is_on else "off"


def backoff_s(short_lives: int) -> float:
    """How long a slot stays empty after its child died soon after its start: 0, 1, 2, 4 … 30 s."""
    return 0.0 if short_lives == 0 else min(30.0, 2.0 ** (short_lives - 1))


def choose_leavers(
    children: Sequence[Child], count: int, is_busy: Callable[[str], bool]
) -> list[Child]:
    """Who goes first: not started, then idle, then busy; among equals the youngest."""

    def rank(child: Child) -> tuple[int, float]:
        started = child.process is not None
        return (started + (started and is_busy(child.slot.name)), -child.started_s)

    return sorted(children, key=rank)[: max(0, count)]


def serve_command(slot: Slot) -> list[str]:
    """What runs in a slot."""
    return [sys.executable, "-m", "workers.serve", *map(str, slot.cores)]


@dataclass(slots=True)
class Fleet:
    """Starts, watches, restarts and stops worker processes. `run` blocks until told to stop."""

    slots: Sequence[Slot]
    environment: Mapping[str, str]
    grace_s: float
    wanted: Callable[[], int] | None = None
    """Asked ten times a second: how many workers; None: one for each slot."""
    is_busy: Callable[[str], bool] = lambda name: False
    """Whether the worker of this name has a chunk in hand."""
    on_end: Callable[[str], None] = lambda name: None
    """Told the name of each worker that has ended, however."""
    command: Callable[[Slot], Sequence[str]] = serve_command
    stopping: threading.Event = field(default_factory=threading.Event)
    beat_s: float = field(default_factory=time.monotonic)
    """When the loop last turned."""
    children: list[Child] = field(default_factory=list)
    _followed: int = -1
    _hurry: bool = False

    def run(self) -> int:
        """Exit code: 0 after a drain, `CRASH_LOOP` when no slot could be kept alive."""
        self.children = [Child(slot) for slot in self.slots]
        while not self.stopping.is_set():
            self.beat_s = time.monotonic()
            self._adjust()
            for child in self.children:
                self._tend(child)
            if all(child.given_up for child in self.children):
                code = ExitCode.CRASH_LOOP
                log.error("worker.stopped", reason="every worker dies at its start", exit_code=code)
                return code
            self.stopping.wait(TICK_S)
        return self._drain()

    def stop(self) -> None:
        """Ask for a drain; a second call makes it quick."""
        self._hurry = self.stopping.is_set()
        self.stopping.set()

    def running(self) -> list[str]:
        """Names of the workers that are to stay. Safe to call from another thread."""
        return [c.slot.name for c in list(self.children) if c.state == "running"]

    # -- how many

    def _adjust(self) -> None:
        """Bring the number of slots in use to what is wanted."""
        count = len(self.slots) if self.wanted is None else self.wanted()
        count = max(0, min(count, len(self.slots)))
        able = [c for c in self.children if not c.given_up]
        on = [c for c in able if c.is_on]
        if count != self._followed and self.wanted is not None:
            log.info("scaling.changed", workers=count, count=len(on))
        self._followed = count
        # one that is leaving still holds its device: its slot is free when it is gone
        free = [c for c in able if not c.is_on and c.process is None]
        for child in free[: max(0, count - len(on))]:
            child.is_on = True
        for child in choose_leavers(on, len(on) - count, self.is_busy):
            self._let_go(child)

    def _let_go(self, child: Child) -> None:
        """Ask for a drain of this one: it finishes the chunk in hand or gives it back."""
        child.is_on = False
        if child.process is not None:
            child.leave_by_s = time.monotonic() + self.grace_s + LEAVE_S
            child.process.send_signal(signal.SIGTERM)

    # -- one child

    def _tend(self, child: Child) -> None:
        if child.process is None:
            if child.is_on and not child.given_up and time.monotonic() >= child.not_before_s:
                self._start(child)
            return
        code = child.process.poll()
        if code is not None:
            self._ended(child, code)
        elif not child.is_on and time.monotonic() > child.leave_by_s:
            os.killpg(child.process.pid, signal.SIGKILL)

    def _ended(self, child: Child, code: int) -> None:
        lived = time.monotonic() - child.started_s
        child.process = None
        self.on_end(child.slot.name)
        if not child.is_on:
            child.short_lives = 0
            log.info("worker.stopped", worker=child.slot.name, exit_code=code)
            return
        child.short_lives = child.short_lives + 1 if lived < SHORT_LIFE_S else 0
        log.warning("worker.lost", worker=child.slot.name, exit_code=code, seconds=round(lived, 1))
        child.not_before_s = time.monotonic() + backoff_s(child.short_lives)
        if child.short_lives >= SHORT_LIVES:
            child.given_up, child.is_on = True, False
            why = "died at once, again and again"
            log.error("worker.stopped", worker=child.slot.name, reason=why, exit_code=code)

    def _start(self, child: Child) -> None:
        slot = child.slot
        child.process = subprocess.Popen(
            self.command(slot),
            env={**self.environment, **slot.environment()},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C at a terminal is the fleet's to translate
        )
        child.started_s = time.monotonic()

    # -- the end

    def _drain(self) -> int:
        """SIGTERM to all at once; who outlasts the grace time is killed, and loses nothing by it."""
        started = [c.process for c in self.children if c.process is not None]
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
