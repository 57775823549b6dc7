"""The locks of the jobs that one controller reconciles: taken, renewed by a thread, released."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import redis

from headrace.redis_client import RedisClient
from schemas.names import redis_keys

LOCK_S = 10.0  # another controller takes over within this, plus a tick

# Compare and extend, compare and delete: only the holder's own lock.
_EXTEND = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_UNLOCK = (
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
)


@dataclass(slots=True)
class JobLocks:
    """Locks by job key, in the name of one controller. Methods raise redis-py's own errors.

    `take`, `holds`, `forget` and `close` are for one thread. A second thread, started with the
    first lock, renews them all.
    """

    client: RedisClient
    name: str
    _held: set[str] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None

    def take(self, job: str) -> bool:
        """Whether this controller holds the lock now; true if it already did."""
        key, life_ms = redis_keys.lock(job), int(LOCK_S * 1000)
        got = bool(self.client.set(key, self.name, nx=True, px=life_ms))
        got = got or self.client.get(key) == self.name.encode()
        if got:
            self._held.add(job)
            self._keep()
        return got

    def holds(self, job: str) -> bool:
        """Whether this controller still holds the lock; if Redis lost it, it is taken again."""
        holder = self.client.get(redis_keys.lock(job))
        if holder is None:
            return self.take(job)
        return bool(holder == self.name.encode())

    def forget(self, job: str) -> None:
        """Stop renewing this lock: another controller has it, or its job has ended."""
        self._held.discard(job)

    def give_back(self, job: str) -> None:
        """Let another controller take the job. Raises redis-py's own errors."""
        self._held.discard(job)
        self.client.eval(_UNLOCK, 1, redis_keys.lock(job), self.name)

    def close(self) -> None:
        """Release every lock; if Redis is unreachable they expire by themselves."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join()
        for job in sorted(self._held):
            try:
                self.client.eval(_UNLOCK, 1, redis_keys.lock(job), self.name)
            except redis.RedisError:
                break

    def _keep(self) -> None:
        if self._keeper is None:
            self._keeper = threading.Thread(
                target=self._extend_all, name="headrace-locks", daemon=True
            )
            self._keeper.start()

    def _extend_all(self) -> None:
        while not self._stopping.wait(LOCK_S / 4):
            for job in list(self._held):
                try:
                    life_ms = int(LOCK_S * 1000)
                    self.client.eval(_EXTEND, 1, redis_keys.lock(job), self.name, life_ms)
                except redis.RedisError:
                    break
