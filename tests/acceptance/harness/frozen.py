"""The processes that compute, held for a while: whatever is done to a job meanwhile is in time."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.conftest import wait_until


@contextlib.contextmanager
def frozen(command: subprocess.Popen[str]) -> Iterator[None]:
    """Hold all that compute for this command; they go on after the block."""
    found = psutil.Process(command.pid).children(recursive=True)
    computing = [p for p in found if "spawn_main" in " ".join(p.cmdline())]
    assert computing
    for process in computing:
        process.suspend()
    try:
        yield
    finally:
        for process in computing:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def interrupt(run: subprocess.Popen[str], home: Path) -> str:
    """Ctrl-C, heard before anything more is computed; what the command says on standard error.

    The run has one worker: where there are two, one may be too young to say that it drains.
    """
    logs = home / "state" / "headrace" / "logs"
    with frozen(run):
        run.send_signal(signal.SIGINT)
        wait_until(
            lambda: any("worker.draining" in p.read_text() for p in logs.glob("*")),
            60,
            "the worker to hear of it",
        )
    return run.communicate(timeout=60)[1]
