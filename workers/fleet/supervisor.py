"""The workers of one host: one process for each slot in use, pinned, restarted when it dies.

The caller passes how many workers each queue wants (`wanted`). `workers.fleet.placement` decides
which slot serves which queue. A worker that moves to another queue stops and is started again in
the same slot.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headrace.process.logs import get_logger
from headrace.process.signals import set_from_handler
from schemas.errors import ExitCode
from workers.fleet.placement import (
    QueueDemand,
    SlotState,
    assign_slots,
)
from workers.fleet.slots import Slot

if TYPE_CHECKING:
    from workers.fleet.worker_status import WorkerStatus

log = get_logger(__name__)

# Chosen: a child that dies this soon after its start, this often in a row, will not recover.
SHORT_LIFE_S = 10.0
SHORT_LIVES = 5
# Chosen: a worker that exits unasked has an unusable device; importing torch and finding that out
# may have taken this long.
LEFT_LIFE_S = 120.0
LEAVE_S = 10.0  # chosen: time to flush exporters and exit, after the grace time
TICK_S = 0.1


@dataclass(slots=True)
class WorkerProcess:
    """A slot and the process in it, if there is one."""

    slot: Slot
    queue: str | None = None
    """The queue to serve here; None: no worker is wanted."""
    process: subprocess.Popen[bytes] | None = None
    started_monotonic: float = 0.0
    started_at: float = 0.0
    """The same in seconds since the epoch, as in the workers' records."""
    short_lives: int = 0
    not_before_monotonic: float = 0.0
    leave_by_monotonic: float | None = None
    """When a process that was asked to stop is killed; None: it may stay."""
    moves: int = 0
    """How often a worker left this slot's queue for another."""
    exit_code: int | None = None
    """Exit code of the last process that ended unasked; negative: killed by that signal."""
    given_up: bool = False

    @property
    def reason(self) -> str | None:
        """Why the slot was taken out of use; empty if it is in use."""
        if not self.given_up:
            return None
        limit_s = short_life_s(self.exit_code)
        why = f"died {self.short_lives} times in a row within {limit_s:.0f} s of its start"
        return f"{why}, at last {_how(self.exit_code)}"

    @property
    def state(self) -> str:
        """`running`, `leaving`, `moving` (to another queue), `waiting` (to be started), `off`
        or `given_up`."""
        if self.given_up:
            return "given_up"
        if self.process is None:
            return "off" if self.queue is None else "waiting"
        if self.leave_by_monotonic is None:
            return "running"
        return "leaving" if self.queue is None else "moving"


def is_short(lived_s: float, exit_code: int) -> bool:
    """Whether a process that ended unasked ran too short a time to be useful."""
    return lived_s < short_life_s(exit_code)


def short_life_s(exit_code: int | None) -> float:
    """Seconds that a process that ended this way must have run to count as useful."""
    return LEFT_LIFE_S if exit_code == ExitCode.OK else SHORT_LIFE_S


def backoff_s(short_lives: int) -> float:
    """Seconds that a slot stays empty after its child died early: 0, 1, 2, 4 … 30."""
    return 0.0 if short_lives == 0 else min(30.0, 2.0 ** (short_lives - 1))


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"


def serve_command(slot: Slot) -> list[str]:
    """What runs in a slot."""
    parent = f"--parent={os.getpid()}"
    return [sys.executable, "-m", "workers.consumer", parent, *map(str, slot.cores)]


@dataclass(slots=True)
class Supervisor:
    """Starts, watches, restarts and stops worker processes. `run` blocks until `stop`."""

    slots: Sequence[Slot]
    environment: Mapping[str, str]
    grace_s: float
    wanted: Callable[[], Sequence[QueueDemand]] | None = None
    """Called ten times per second: how many workers of each queue; None: one per slot."""
    queue: str = "default"
    """The queue of all slots if `wanted` is None."""
    doing: Callable[[str], WorkerStatus | None] = lambda name: None
    """The last status of the worker of this name; None: no status yet."""
    on_end: Callable[[str], None] = lambda name: None
    """Called with the name of each worker that has ended, for any reason."""
    command: Callable[[Slot], Sequence[str]] = serve_command
    stopping: threading.Event = field(default_factory=threading.Event)
    beat_monotonic: float = field(default_factory=time.monotonic)
    """When the loop last ran."""
    children: list[WorkerProcess] = field(default_factory=list)
    _followed: dict[str, int] = field(default_factory=dict)
    _unserved_monotonic: dict[str, float] = field(default_factory=dict)
    _is_asked: bool = False
    _hurry: bool = False

    def run(self) -> int:
        """Exit code: 0 after a drain, `CRASH_LOOP` when no slot could be kept alive."""
        if not self.children:
            self.begin()
        while not self.stopping.is_set():
            self.beat_monotonic = time.monotonic()
            self._adjust()
            for child in self.children:
                self._tend(child)
            if all(child.given_up for child in self.children):
                code = ExitCode.CRASH_LOOP
                log.error("worker.stopped", reason="every worker dies at its start", exit_code=code)
                return code
            self.stopping.wait(TICK_S)
        return self._drain()

    def begin(self) -> None:
        """Start what is wanted now; `run` continues from there."""
        self.children = [WorkerProcess(slot) for slot in self.slots]
        self._adjust()
        for child in self.children:
            self._tend(child)

    def kill(self) -> None:
        """Kill the remaining workers at once; no work is lost by it."""
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()

    def stop(self) -> None:
        """Request a drain, also from a signal's handler; a second call makes it immediate."""
        self._hurry = self._is_asked
        if not self._is_asked:
            self._is_asked = True
            set_from_handler(self.stopping)

    def running(self, queue: str | None = None) -> list[str]:
        """Names of the workers that should stay (in this queue). Thread-safe."""
        found = [c for c in list(self.children) if c.state == "running"]
        return [c.slot.name for c in found if queue in (None, c.queue)]

    def given_up(self) -> int:
        """How many slots are out of use. Thread-safe."""
        return sum(c.given_up for c in list(self.children))

    # -- how many

    def _adjust(self) -> None:
        """Assign the slots to the wanted queues."""
        asks = [self._timed(a) for a in self._asks()]
        able = {c.slot.name: c for c in self.children if not c.given_up}
        self._tell(asks)
        for name, queue in assign_slots([self._seen(c) for c in able.values()], asks).items():
            self._assign(able[name], queue)

    def _asks(self) -> Sequence[QueueDemand]:
        return [QueueDemand(self.queue, len(self.slots))] if self.wanted is None else self.wanted()

    def _timed(self, ask: QueueDemand) -> QueueDemand:
        """The demand, with how long it has had work and no worker here."""
        is_served = any(c.queue == ask.queue for c in self.children)
        if is_served or not ask.useful_workers:
            self._unserved_monotonic.pop(ask.queue, None)
            return ask
        since = self._unserved_monotonic.setdefault(ask.queue, time.monotonic())
        return replace(ask, unserved_s=time.monotonic() - since)

    def _seen(self, child: WorkerProcess) -> SlotState:
        doing = self.doing(child.slot.name)
        state = SlotState(
            child.slot.name,
            child.queue,
            child.process is None,
            started_monotonic=child.started_monotonic,
        )
        if doing is None or child.state != "running" or doing.seen_at < child.started_at:
            return state  # the status is of an earlier process in this slot
        idle_s = time.time() - max(doing.progress_at, child.started_at)
        return replace(
            state, is_busy=bool(doing.work.job), idle_s=0.0 if doing.work.job else idle_s
        )

    def _tell(self, asks: Sequence[QueueDemand]) -> None:
        for ask in asks if self.wanted is not None else ():
            if ask.share != self._followed.get(ask.queue, -1):
                count = sum(c.queue == ask.queue for c in self.children)
                log.info("scaling.changed", queue=ask.queue, workers=ask.share, count=count)
                self._followed[ask.queue] = ask.share

    def _assign(self, child: WorkerProcess, queue: str | None) -> None:
        """Let a slot serve another queue, or none; its worker finishes or releases its chunk."""
        if child.queue == queue:
            return
        before, child.queue = child.queue, queue
        if child.process is None or child.leave_by_monotonic is not None:
            return
        if queue is not None:
            child.moves += 1
            name = child.slot.name
            log.info("scaling.moved", worker=name, queue=queue, reason=f"from {before}")
        child.leave_by_monotonic = time.monotonic() + self.grace_s + LEAVE_S
        child.process.send_signal(signal.SIGTERM)

    # -- one child

    def _tend(self, child: WorkerProcess) -> None:
        if child.process is None:
            if child.queue is not None and time.monotonic() >= child.not_before_monotonic:
                self._start(child, child.queue)
            return
        code = child.process.poll()
        if code is not None:
            self._ended(child, code)
        elif child.leave_by_monotonic is not None and time.monotonic() > child.leave_by_monotonic:
            os.killpg(child.process.pid, signal.SIGKILL)

    def _ended(self, child: WorkerProcess, code: int) -> None:
        lived = time.monotonic() - child.started_monotonic
        child.process = None
        self.on_end(child.slot.name)
        if child.leave_by_monotonic is not None:
            child.leave_by_monotonic, child.short_lives = None, 0
            log.info("worker.stopped", worker=child.slot.name, exit_code=code)
            return
        child.exit_code = code
        child.short_lives = child.short_lives + 1 if is_short(lived, code) else 0
        log.warning("worker.lost", worker=child.slot.name, exit_code=code, seconds=round(lived, 1))
        child.not_before_monotonic = time.monotonic() + backoff_s(child.short_lives)
        if child.short_lives >= SHORT_LIVES:
            child.given_up, child.queue = True, None
            name, why = child.slot.name, child.reason
            log.error("worker.stopped", worker=name, reason=why, exit_code=code)

    def _start(self, child: WorkerProcess, queue: str) -> None:
        slot = child.slot
        child.process = subprocess.Popen(
            self.command(slot),
            env={**self.environment, **slot.environment(), "HEADRACE_QUEUE": queue},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C at a terminal reaches the fleet only
        )
        child.started_monotonic, child.started_at = time.monotonic(), time.time()

    # -- the end

    def _drain(self) -> int:
        """Send SIGTERM to all; workers that outlast the grace time are killed and lose no work by it."""
        started = [c.process for c in self.children if c.process is not None]
        # the children measure the grace time themselves; ten seconds more for exporters and exit
        living = self._wait_for(started, self.grace_s + LEAVE_S, until_hurry=True)
        living = self._wait_for(living, LEAVE_S, until_hurry=False)
        for process in living:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return ExitCode.OK

    def _wait_for(
        self, processes: Sequence[subprocess.Popen[bytes]], limit_s: float, *, until_hurry: bool
    ) -> list[subprocess.Popen[bytes]]:
        """Send SIGTERM to each; returns those that still run when the time is over."""
        living = [p for p in processes if p.poll() is None]
        for process in living:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + limit_s
        while living and time.monotonic() < deadline and not (until_hurry and self._hurry):
            time.sleep(0.05)
            living = [p for p in living if p.poll() is None]
        return living
