"""A worker's child leaves when its parent has read what it wrote; a signal wakes the parent's loop."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from workers.consumer.celery_consumer import bell_of_signals
from workers.consumer.celery_pool import wait_until_read

LEAVE = """
import os
from types import SimpleNamespace
from workers.consumer.celery_pool import Worker

out, into = os.pipe()
worker = object.__new__(Worker)
worker.outq = SimpleNamespace(_writer=SimpleNamespace(fileno=lambda: into))
worker.on_exit = lambda pid, code: print("told", pid == os.getpid(), int(code), flush=True)
worker._do_exit(os.getpid(), None)
print("still here")
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


class Clock:
    """Time passes only while the code waits; `at_s` says what happens when."""

    def __init__(self, at_s: float = float("inf"), does: object = None) -> None:
        self.now_s, self.at_s, self.does = 0.0, at_s, does

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        if self.now_s >= self.at_s and callable(self.does):
            self.does()
            self.at_s = float("inf")


def test_an_empty_pipe_is_not_waited_for(pipe: tuple[int, int]) -> None:
    clock = Clock()
    wait_until_read(pipe[1], 1.0, lambda: clock.now_s, clock.wait)
    assert clock.now_s == 0


def test_the_last_word_is_waited_for_until_it_is_read(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"done")
    clock = Clock(0.3, lambda: os.read(pipe[0], 100))
    wait_until_read(pipe[1], 1.0, lambda: clock.now_s, clock.wait)
    assert clock.now_s == pytest.approx(0.3)


def test_a_parent_that_never_reads_is_not_waited_for_longer_than_before(
    pipe: tuple[int, int],
) -> None:
    os.write(pipe[1], b"done")
    clock = Clock()
    wait_until_read(pipe[1], 1.0, lambda: clock.now_s, clock.wait)
    assert clock.now_s == pytest.approx(1.0, abs=0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere billiard's own way is kept")
def test_a_child_says_that_it_ends_and_is_gone() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "told True 0\n"), done.stderr


def test_a_signal_can_be_read() -> None:
    earlier = signal.signal(signal.SIGUSR1, lambda *_: None)
    bell = bell_of_signals()
    try:
        assert select.select([bell], [], [], 0) == ([], [], [])
        os.kill(os.getpid(), signal.SIGUSR1)
        assert select.select([bell], [], [], 10) == ([bell], [], [])
        assert os.read(bell, 100) == bytes([signal.SIGUSR1])
    finally:
        os.close(signal.set_wakeup_fd(-1))
        os.close(bell)
        signal.signal(signal.SIGUSR1, earlier)
