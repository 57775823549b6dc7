"""The note in Redis that a worker waits for a store: the worker writes it, the follower reads it."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.coordination.redis_values import as_number, as_record
from schemas.errors import DiskFull, StorageError

TROUBLE_S = 90.0
"""Chosen: longer than the longest wait between two attempts on a chunk, so that it does not flicker."""


@dataclass(frozen=True, slots=True)
class StoreTrouble:
    """A store that is away, refuses or is full, as the last worker found it."""

    cause: str
    """The error's class, as in logs."""
    why: str

    @property
    def error(self) -> StorageError:
        """The same as an error, with its own exit code."""
        return DiskFull(self.why) if self.cause == "disk_full" else StorageError(self.why)


def parse_trouble(raw: bytes | str | None, now_at: float) -> StoreTrouble | None:
    """What a worker waits for, from the field `trouble`; None: nothing, or not lately.

    `now_at` is by Redis's clock, as the field.
    """
    found = as_record(raw)
    at = as_number(str(found.get("at_s")))
    if not found.get("waits") or at is None or now_at - at > TROUBLE_S:
        return None
    return StoreTrouble(str(found.get("cause", "")), str(found.get("why", "")))
