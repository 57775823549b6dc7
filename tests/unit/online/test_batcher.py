"""Requests collect into batches under a budget; a full queue refuses; an error goes to its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.tasks.contract import Encodings
from tests.conftest import wait_until
from workers.online.batcher import Batcher, QueueFull
from workers.online.joining import joined


class Device:
    """Computes when it is let, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def compute(self, items: Sequence[str]) -> Sequence[str]:
        self.batches.append(list(items))
        self.entered.release()
        self.go.acquire()
        if "bad" in items:
            raise ValueError("a bad batch")
        return [item.upper() for item in items]


def test_a_batch_closes_at_the_budget_and_the_next_collects_meanwhile() -> None:
    device = Device()
    batcher = Batcher(device.compute, lambda: 10, 100)
    batcher.start()
    first = batcher.submit("a", 4)
    device.entered.acquire()  # alone: it was not kept waiting
    later = [batcher.submit(name, 4) for name in "bcdef"]
    device.go.release(9)
    assert [f.result(5) for f in (first, *later)] == list("ABCDEF")
    assert device.batches == [["a"], ["b", "c"], ["d", "e"], ["f"]]
    batcher.close()
    assert not batcher.is_alive


def test_a_request_above_the_budget_is_a_batch_of_its_own() -> None:
    device = Device()
    batcher = Batcher(device.compute, lambda: 10, 15)
    batcher.start()
    device.go.release(5)
    assert batcher.submit("huge", 1_000).result(5) == "HUGE"
    batcher.close()


def test_a_full_queue_refuses_at_once() -> None:
    device = Device()
    batcher = Batcher(device.compute, lambda: 10, 20)
    batcher.start()
    batcher.submit("a", 5)
    device.entered.acquire()
    batcher.submit("b", 15)
    with pytest.raises(QueueFull):
        batcher.submit("c", 6)
    assert batcher.waiting_tokens == 15
    device.go.release(5)
    batcher.close()
    with pytest.raises(QueueFull):
        batcher.submit("d", 1)


def test_an_error_goes_to_the_requests_of_its_batch_and_the_next_is_computed() -> None:
    device = Device()
    batcher = Batcher(device.compute, lambda: 10, 100)
    batcher.start()
    device.go.release(9)
    with pytest.raises(ValueError, match="a bad batch"):
        batcher.submit("bad", 1).result(5)
    assert batcher.submit("good", 1).result(5) == "GOOD"
    batcher.close()


def test_many_threads_get_their_own_answers() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: [i * 2 for i in items], lambda: 50, 10**6)
    batcher.start()
    found: dict[int, Future[int]] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: batcher.submit(n, n % 7)}))
        for n in range(200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: f.result(5) for n, f in found.items()} == {n: n * 2 for n in range(200)}
    wait_until(lambda: batcher.waiting_tokens == 0)
    batcher.close()


@given(
    st.lists(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=3), min_size=1)
)
def test_joined_encodings_hold_each_row_once(requests: list[list[list[int]]]) -> None:
    def encoded(rows: list[list[int]]) -> Encodings:
        ids = np.array([i for row in rows for i in row], dtype=np.int32)
        offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int64)
        return Encodings(ids, offsets, np.zeros(len(rows), bool), ids, [str(row) for row in rows])

    found = joined([encoded(rows) for rows in requests])
    flat = [row for rows in requests for row in rows]
    assert found.type_ids is not None
    assert found.extra == [str(row) for row in flat]
    for i, row in enumerate(flat):
        for ids in (found.ids, found.type_ids):
            assert ids[found.offsets[i] : found.offsets[i + 1]].tolist() == row
