"""Hand-offs between threads: in order, bounded, and no error goes unheard."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from workers.pipeline.run import BackgroundWriter, Prefetcher


def threads(name: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == name]


def test_items_come_in_their_order() -> None:
    assert list(Prefetcher(range(100), depth=2, name="t-order")) == list(range(100))
    assert threads("t-order") == []


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("after one")

    seen: list[int] = []
    with pytest.raises(ValueError, match="after one"):
        seen.extend(Prefetcher(items(), depth=2, name="t-error"))
    assert seen == [1]
    assert threads("t-error") == []


def test_no_more_than_the_depth_is_made_ahead() -> None:
    made = []
    third = threading.Event()

    def items() -> Iterator[int]:
        for n in range(100):
            made.append(n)
            if n == 3:
                third.set()
            yield n

    ahead = Prefetcher(items(), depth=2, name="t-depth")
    next(iter(ahead))
    assert third.wait(5)
    assert len(made) <= 5  # one taken, two waiting, one current, one started
    ahead.close()
    assert threads("t-depth") == []


def test_close_ends_a_thread_without_a_consumer_and_twice_is_safe() -> None:
    ahead = Prefetcher(iter(int, 1), depth=1, name="t-close")
    ahead.close()
    ahead.close()
    assert threads("t-close") == []


def test_what_is_put_is_consumed_in_order_before_the_block_ends() -> None:
    seen: list[int] = []
    with BackgroundWriter(seen.append, depth=2, name="t-behind") as put:
        for n in range(50):
            put(n)
    assert seen == list(range(50))


def test_an_error_of_the_consumer_reaches_the_producer() -> None:
    def consume(item: int) -> None:
        raise ValueError(f"at {item}")

    def produce() -> None:
        with BackgroundWriter(consume, depth=1, name="t-heard") as put:
            for n in range(1_000):
                put(n)

    with pytest.raises(ValueError, match="at 0"):
        produce()
    assert threads("t-heard") == []


def test_an_error_at_the_last_item_is_raised_on_leaving() -> None:
    def consume(item: int) -> None:
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"), BackgroundWriter(consume, 2, "t-late") as put:
        put(1)


def test_when_the_block_fails_what_waits_is_thrown_away() -> None:
    go = threading.Event()
    seen: list[int] = []

    def consume(item: int) -> None:
        go.wait(5)
        seen.append(item)

    def produce() -> None:
        with BackgroundWriter(consume, depth=5, name="t-away") as put:
            for n in range(4):
                put(n)
            threading.Timer(0.05, go.set).start()
            raise KeyError("stop")

    with pytest.raises(KeyError):
        produce()
    assert len(seen) <= 1
    assert threads("t-away") == []
