"""Limits the tokens of a key in batches that have not ended to its quota.

Each change is a numbered object with all reservations after it. Of two writers of one number
exactly one wins, and the other reads again: so no sum is ever made from a state that is not the last.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.storage.store import Store
from schemas.errors import StorageError

_TRIES = 1_000
"""Chosen: a change gives up after this many conflicts with others of the same key."""
_KEPT = 16
_OLD_S = 3600.0
"""Older numbers are deleted after an hour: no writer is that slow between reading and writing."""


class OverQuota(Exception):
    """The reservation does not fit."""

    def __init__(self, wanted: int, held: int, quota: int) -> None:
        super().__init__(
            f"this batch of about {wanted:,} tokens does not fit: {held:,} of {quota:,} tokens are "
            "enqueued; wait until a batch ends, or cancel one"
        )


@dataclass(slots=True)
class Quota:
    """Reservations of all keys; thread-safe, and safe for several processes."""

    store: Store
    now_s: Callable[[], float] = time.time
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Threads of this process wait here instead of competing for a number."""

    def reserve(self, owner: str, batch: str, tokens: int, quota: int | None) -> None:
        """Reserve tokens for a batch; a second call for the same batch changes nothing.

        Raises:
            OverQuota: they do not fit. StorageError: the store failed.
        """

        def add(held: dict[str, int]) -> dict[str, int] | None:
            if batch in held:
                return None
            total = sum(held.values())
            if quota is not None and total + tokens > quota:
                raise OverQuota(tokens, total, quota)
            return {**held, batch: tokens}

        self._change(owner, add)

    def release(self, owner: str, batch: str) -> None:
        """Release what a batch has reserved, if anything. Raises StorageError."""

        def drop(held: dict[str, int]) -> dict[str, int] | None:
            if batch not in held:
                return None
            return {name: tokens for name, tokens in held.items() if name != batch}

        self._change(owner, drop)

    def held(self, owner: str) -> int:
        """The tokens that are reserved now. Raises StorageError."""
        return sum(self._last(owner)[1].values())

    def _change(
        self, owner: str, change: Callable[[dict[str, int]], dict[str, int] | None]
    ) -> None:
        with self._lock:
            for _ in range(_TRIES):
                number, held = self._last(owner)
                changed = change(held)
                if changed is None:
                    return
                record = {"at_s": self.now_s(), "held": changed}
                if self.store.create(_name(owner, number + 1), json.dumps(record).encode()):
                    return
        raise StorageError(f"{_TRIES} other changes of the quota of {owner} came in between")

    def _last(self, owner: str) -> tuple[int, dict[str, int]]:
        """The last number and what is reserved since; deletes old numbers."""
        infos = list(self.store.list(f"quota/{owner}/"))
        for info in infos[:-_KEPT]:
            if self.now_s() - info.modified_s > _OLD_S:
                self.store.delete(info.name)
        if not infos:
            return 0, {}
        last = infos[-1].name
        data = self.store.read(last)
        if data is None:
            raise StorageError(f"{last} went away while it was read")
        return int(last.rpartition("/")[2].partition(".")[0]), dict(json.loads(data)["held"])


def _name(owner: str, number: int) -> str:
    return f"quota/{owner}/{number:012d}.json"
