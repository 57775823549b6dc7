"""Tests whether a store lets exactly one of several creators of a name win.

A trial finds a store that never does, and most stores that fail in a race; it is no proof. Some
stores answer a second writer correctly and two simultaneous ones wrongly, so both are tried.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from headrace.storage.store import Store
from schemas.errors import OutputNotWritable

RACERS = 8
ROUNDS = 3
"""Chosen: 24 small requests; a server that checks before it locks failed 8 of 8 in each round."""


def probe_store(store: Store) -> None:
    """Check that one creator of a name wins, in sequence and in parallel; leaves nothing behind.

    Raises:
        OutputNotWritable: no rights, or several creators of one name won.
        StorageError: the store failed.
    """
    _probe_in_turn(store)
    for _ in range(1 if store.is_local else ROUNDS):
        _probe_race(store)


def race(acts: Sequence[Callable[[], bool]]) -> list[bool]:
    """The results of calls that start together, each in its own thread; raises an error of any."""
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], bool]) -> bool:
        start.wait()
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def _probe_in_turn(store: Store) -> None:
    name = probe_name()
    try:
        first, second = store.create(name, b"first"), store.create(name, b"second")
        content = store.read(name)
    finally:
        store.delete(name)
    if (first, second, content) != (True, False, b"first"):
        raise _refusal(store, f"created {first}, again {second}")


def _probe_race(store: Store) -> None:
    name = probe_name()
    contents = [b"%d" % number for number in range(RACERS)]
    try:
        won = race([lambda data=data: store.create(name, data) for data in contents])  # type: ignore[misc]
        content = store.read(name)
    finally:
        store.delete(name)
    winners = [data for data, is_winner in zip(contents, won, strict=True) if is_winner]
    if winners != [content]:
        raise _refusal(store, f"{len(winners)} of {RACERS} that created it at once won")


def probe_name() -> str:
    """A name that no job uses."""
    return f"_headrace/probe-{uuid.uuid4().hex}"


def _refusal(store: Store, why: str) -> OutputNotWritable:
    return OutputNotWritable(
        f"{store.uri} cannot create only-if-absent ({why}); headrace needs a store that can: "
        "S3 with If-None-Match, or a disk with hard links"
    )
