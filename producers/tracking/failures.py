"""What the failed attempts of a job say about its hosts and about the job. Pure.

An error that one host has and another has not is attributed to the host. An error that every host
has before the first row is read (a model that cannot be loaded, a missing package) is attributed to
the job. Crashes are neither: they are searched for in the rows (`headrace.coordination.attempts`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from headrace.coordination.attempts import DEATHS, RETRY
from headrace.coordination.excluded_hosts import host_of
from headrace.coordination.leases import HELD
from schemas.records.manifest import Attempt

FEW = 3
"""Chosen: one failure may be chance, two the same chunk's; a host that fails three is at fault."""


@dataclass(frozen=True, slots=True)
class HostFailure:
    """A host that fails where others do not."""

    host: str
    cause: str
    message: str


@dataclass(frozen=True, slots=True)
class SharedFailure:
    """An error that every chunk of the job would have."""

    cause: str
    message: str


def is_of_host(attempt: Attempt) -> bool:
    """Whether the host may be at fault: an error, or a read that never returned; not a crash."""
    if attempt.cause == RETRY:
        return False
    if attempt.cause in DEATHS:
        return attempt.cause == "timeout" and not attempt.rows and not attempt.encoding
    return True


def untried(attempts: Sequence[Attempt], hosts: AbstractSet[str]) -> AbstractSet[str]:
    """Those of the hosts on which the chunk has not failed since it was last allowed to retry."""
    failed: set[str] = set()
    for attempt in attempts:
        failed = set() if attempt.cause == RETRY else failed
        if is_of_host(attempt):
            failed.add(host_of(attempt.worker))
    return hosts - failed


@dataclass(slots=True)
class JobFailures:
    """The failures of one job, chunk by chunk; each attempt is looked at once."""

    chunks: int
    """Number of chunks of the job."""
    _looked_at: dict[int, int] = field(default_factory=dict)
    """Attempts of each chunk that were added."""
    _blame: dict[str, dict[int, Attempt]] = field(default_factory=dict)
    """By host: the chunks that failed there and nowhere else, with the last attempt."""
    _everywhere: set[int] = field(default_factory=set)
    """Chunks that failed on several hosts, so that the hosts are not at fault."""
    _before_reading: dict[str, dict[int, Attempt]] = field(default_factory=dict)
    """By cause: chunks that failed before the first row was read."""

    def add(self, chunk: int, attempts: Sequence[Attempt]) -> None:
        """Take the attempts of a chunk into account; those known already are passed over."""
        new = attempts[self._looked_at.get(chunk, 0) :]
        self._looked_at[chunk] = len(attempts)
        for attempt in filter(is_of_host, new):
            self._blame_host(chunk, attempt)
            if attempt.stage == HELD:
                self._before_reading.setdefault(attempt.cause, {})[chunk] = attempt

    def _blame_host(self, chunk: int, attempt: Attempt) -> None:
        host = host_of(attempt.worker)
        others = [h for h, chunks in self._blame.items() if h != host and chunk in chunks]
        if others or chunk in self._everywhere:
            self._everywhere.add(chunk)
            for other in others:
                del self._blame[other][chunk]
            return
        self._blame.setdefault(host, {})[chunk] = attempt

    def at_fault(self, hosts: Collection[str]) -> list[HostFailure]:
        """Hosts that failed several chunks, where another of these live hosts has not."""
        found = {h: list(c.values()) for h, c in self._blame.items() if len(c) >= FEW}
        if not set(hosts) - found.keys():
            return []
        last = {h: attempts[-1] for h, attempts in found.items() if h in hosts}
        return [HostFailure(h, a.cause, a.message) for h, a in sorted(last.items())]

    def forget(self, host: str) -> None:
        """Reset the count of this host, since it has been excluded."""
        self._blame.pop(host, None)

    def shared(self, hosts: AbstractSet[str]) -> SharedFailure | None:
        """The error that ends the job: no chunk can begin, on any of these live hosts.

        It is for a job that has no part yet.
        """
        for cause, failed in self._before_reading.items():
            seen = {host_of(a.worker) for a in failed.values()}
            if len(failed) >= min(FEW, self.chunks) and not hosts - seen:
                return SharedFailure(cause, list(failed.values())[-1].message)
        return None
