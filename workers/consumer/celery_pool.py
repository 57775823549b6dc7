"""Celery's pool, with three changes: how a child leaves, what SIGTERM does in it, and what a stop keeps.

The child exits once its parent has read its last message. SIGTERM never ends it between the
acceptance of a message and its work. A message that was handed to the child is waited for although
the parent has not read yet that the child accepted it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from celery.concurrency import asynpool, prefork

from schemas.errors import ExitCode
from workers.consumer.child_stop import CHILD_STOP

LAST_WORD_S = 1.0
"""How long billiard has a child sleep before it leaves, so that its parent reads what it wrote."""
_POLL_S = 0.01


class Worker(asynpool.Worker):  # type: ignore[misc]  # Celery has no types
    wait_for_job: Callable[[], Any]
    """Waits until the pipe is empty instead, for as long at most."""

    def on_loop_start(self, pid: int) -> None:
        CHILD_STOP.install()  # billiard has just put its own handlers there
        super().on_loop_start(pid)

    def _make_child_methods(self, *given: Any) -> None:
        super()._make_child_methods(*given)
        self.wait_for_job = CHILD_STOP.receiving(self.wait_for_job)

    def _do_exit(self, pid: int, exitcode: int | None, exc: Any = None) -> None:
        if exitcode or exc is not None or sys.platform != "linux":
            super()._do_exit(pid, exitcode, exc)
        if self.on_exit is not None:
            self.on_exit(pid, ExitCode.OK)
        wait_until_read(self.outq._writer.fileno())
        os._exit(ExitCode.OK)


class AsynPool(asynpool.AsynPool):  # type: ignore[misc]
    Worker = Worker

    def flush(self) -> None:
        """Forget what was not handed to a child yet, at a lost connection and before the end.

        Celery 5.7 also forgets what was handed over and whose acceptance is not read yet: the child
        computes it, and the parent neither waits for it nor reads its result.
        """
        with held_as_accepted([job for job in self._cache.values() if was_handed_over(job)]):
            super().flush()


class TaskPool(prefork.TaskPool):  # type: ignore[misc]
    Pool = AsynPool
    on_stopping: Callable[[], object] = staticmethod(lambda: None)
    """Called before the parent waits for a child that still has a message."""

    def on_stop(self) -> None:
        if self._pool is not None and self._pool._cache:
            self.on_stopping()
        super().on_stop()


def was_handed_over(job: Any) -> bool:
    """Whether all of a message is in its child's pipe, and the child has not been seen to accept it."""
    if job._accepted or job._write_to is None or not job._write_to._is_alive():
        return False
    return asynpool._get_job_writer(job) is None  # what writes it has ended


@contextlib.contextmanager
def held_as_accepted(jobs: Sequence[Any]) -> Iterator[None]:
    """Show the jobs as accepted inside the block."""
    for job in jobs:
        job._accepted = True
    try:
        yield
    finally:
        for job in jobs:
            job._accepted = False


def unread_bytes(pipe: int) -> int:
    """Unread bytes in a pipe, queried at its writing end (Linux)."""
    found: int = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]
    return found


def wait_until_read(
    pipe: int,
    limit_s: float = LAST_WORD_S,
    now_s: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Return once the pipe is empty, or the limit has passed."""
    deadline_s = now_s() + limit_s
    while unread_bytes(pipe) and now_s() < deadline_s:
        wait(_POLL_S)
