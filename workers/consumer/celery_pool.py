"""Celery's pool, changed so that the child exits once its parent has read its last message."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

from celery.concurrency import asynpool, prefork

from schemas.errors import ExitCode

LAST_WORD_S = 1.0
"""How long billiard has a child sleep before it leaves, so that its parent reads what it wrote."""
_POLL_S = 0.01


class Worker(asynpool.Worker):  # type: ignore[misc]  # Celery has no types
    """Waits until the pipe is empty instead, for as long at most."""

    def _do_exit(self, pid: int, exitcode: int | None, exc: Any = None) -> None:
        if exitcode or exc is not None or sys.platform != "linux":
            super()._do_exit(pid, exitcode, exc)
        if self.on_exit is not None:
            self.on_exit(pid, ExitCode.OK)
        wait_until_read(self.outq._writer.fileno())
        os._exit(ExitCode.OK)


class AsynPool(asynpool.AsynPool):  # type: ignore[misc]
    Worker = Worker


class TaskPool(prefork.TaskPool):  # type: ignore[misc]
    Pool = AsynPool


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
