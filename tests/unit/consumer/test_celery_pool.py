"""A worker's child leaves when its parent has read what it wrote; a signal wakes the parent's loop."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from workers.consumer.celery_consumer import bell_of_signals
from workers.consumer.celery_pool import held_as_accepted, wait_until_read, was_handed_over

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


class Job:
    """What billiard keeps of one message."""

    def __init__(self, *, is_accepted: bool, is_written: bool, is_alive: bool = True) -> None:
        self._accepted = is_accepted
        self._write_to = SimpleNamespace(_is_alive=lambda: is_alive) if is_written else None


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (Job(is_accepted=False, is_written=True), True),
        (Job(is_accepted=True, is_written=True), False),
        (Job(is_accepted=False, is_written=False), False),
        (Job(is_accepted=False, is_written=True, is_alive=False), False),
    ],
)
def test_a_message_is_handed_over_from_its_writing_to_its_acceptance(
    job: Job, expected: bool
) -> None:
    assert was_handed_over(job) is expected


def test_a_message_that_is_still_written_is_not_handed_over() -> None:
    def writing() -> Iterator[None]:
        yield

    job, writer = Job(is_accepted=False, is_written=True), writing()
    job._writer = weakref.ref(writer)  # type: ignore[attr-defined]
    assert not was_handed_over(job)
    del writer
    assert was_handed_over(job)


def test_what_is_held_as_accepted_can_be_accepted_later() -> None:
    job = Job(is_accepted=False, is_written=True)
    with held_as_accepted([job]):
        assert job._accepted
    assert not job._accepted
