"""Freed memory goes back to the kernel: seldom, and only by a process that has grown."""

from __future__ import annotations

import platform

import numpy as np

from workers.devices.heap import (
    EVERY_S,
    GROWN_BYTES,
    Heap,
    resident_bytes,
    trim_of,
)


class Machine:
    """A clock, a process's memory, and a C library that gives half of it back."""

    def __init__(self) -> None:
        self.now_s, self.bytes, self.trims = 100.0, 1 << 30, 0

    def trim(self, pad: int) -> int:
        self.trims += 1
        self.bytes //= 2
        return 1


def heap_on(machine: Machine) -> Heap:
    return Heap(machine.trim, lambda: machine.bytes, lambda: machine.now_s)


def test_nothing_is_done_before_its_time_or_while_nothing_grows() -> None:
    machine = Machine()
    heap = heap_on(machine)
    machine.bytes += 10 * GROWN_BYTES
    assert not heap.settle()
    machine.now_s += EVERY_S
    machine.bytes = (1 << 30) + GROWN_BYTES - 1
    assert not heap.settle()
    assert machine.trims == 0


def test_what_has_grown_is_given_back_once_and_growth_counts_from_there() -> None:
    machine = Machine()
    heap = heap_on(machine)
    machine.now_s += EVERY_S
    machine.bytes += GROWN_BYTES
    assert heap.settle()
    assert not heap.settle()
    machine.now_s += EVERY_S
    assert not heap.settle()
    machine.bytes += GROWN_BYTES
    machine.now_s += EVERY_S
    assert heap.settle()
    assert machine.trims == 2


def test_a_c_library_without_it_is_let_be() -> None:
    assert trim_of("no such library") is None
    assert not Heap(None).settle()


def test_glibc_gives_back_the_holes_between_what_is_kept() -> None:
    trim = trim_of()
    if platform.libc_ver()[0] != "glibc":
        assert trim is None
        return
    assert trim is not None
    blocks = [np.ones(64 << 10, dtype=np.uint8) for _ in range(2_000)]  # 125 MB
    kept = blocks[::2]
    before = resident_bytes()
    del blocks
    trim(0)
    assert before - resident_bytes() > 30 << 20
    assert len(kept) == 1_000
