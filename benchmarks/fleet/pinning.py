"""Keep a job's workers to some cores and the rest of it to others: what a real deployment has.

On a machine with fewer cores than processes, a worker would otherwise be timed together with the
command, the controller and Redis, which stand on another host (or core) where headrace is used.
Linux only; without a pin nothing is done.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """Cores of the workers and of everything else; empty: wherever the system likes."""

    workers: tuple[int, ...] = ()
    rest: tuple[int, ...] = ()

    def command(self) -> list[str]:
        """What comes before a command line, so that all it starts stays with the rest."""
        return ["taskset", "-c", ",".join(map(str, self.rest))] if self.rest else []


@contextmanager
def keeping(pid: int, marker: str, pin: Pin) -> Iterator[None]:
    """While this is open, descendants of `pid` whose command line or title has `marker` are moved."""
    stopping = threading.Event()
    thread = threading.Thread(target=_keep, args=(pid, marker, pin, stopping), daemon=True)
    if pin.workers:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        if pin.workers:
            thread.join()


def descendants(pid: int, marker: str) -> list[tuple[int, float]]:
    """Processes below `pid` whose command line or title has `marker`, and when they were born."""
    import psutil

    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    found = []
    for child in below:
        try:
            if any(marker in word for word in child.cmdline()):
                found.append((child.pid, child.create_time()))
        except psutil.Error:  # it ended, or was not collected yet
            continue
    return found


def _keep(pid: int, marker: str, pin: Pin, stopping: threading.Event) -> None:
    moved: set[int] = set()
    while not stopping.wait(0.2):
        for child, _ in descendants(pid, marker):
            if child not in moved:
                move(child, pin.workers)
                moved.add(child)


def move(pid: int, cores: tuple[int, ...]) -> None:
    """All threads of a process; those it starts later inherit it."""
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            os.sched_setaffinity(int(task), set(cores))
        except ProcessLookupError:
            continue
